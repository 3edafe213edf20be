//! An OCI runtime: the command line of runc on top of this crate, for every engine that has an option `--runtime`.
//!
//! ```text
//! cargo build --release --example oci
//! podman --runtime "$PWD/target/release/examples/oci" --cgroup-manager=cgroupfs run --rm busybox echo hello
//! oci spec --bundle b && oci run --bundle b hello
//! ```
//!
//! Verbs, flags, exit codes and output are runc's, so that a program that drives runc can drive this one. Errors
//! contain the words that engines search for. The state and the pid file name the sandbox as the container's pid; it
//! ends with the status of the first process inside. `exec --detach` leaves a small process in place of the one in the
//! container, which ends with its status too.
//!
//! Another container may join namespaces through the paths of that pid. The sandbox is not in the container's pid
//! namespace, so for that path this program joins the pid namespace of the container.
//!
//! Without `linux.cgroupsPath` the container's cgroups are where runc puts them for root: at its id. For another user
//! there is only one to freeze, where the user may make it.
//!
//! A file `cofferdam-helper` in the directory of this program is the program of the processes beside the workload
//! (`cofferdam::helpers::Helper`). Without it they execute this program once more, which costs more processor time.
//!
//! One difference: `pause` fails for a container that is only created, because its program does not run yet.
//!
//! By default this program ignores the pod annotations of Kubernetes' engines, because their runc shims wait for a
//! process of each container. With `--pods` it follows them, and the containers of a pod share one sandbox. Only for
//! engines that pass on no annotations of images, as containerd and CRI-O: an image could ask to join a pod.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for engines and for the terminal")]

#[path = "arguments/mod.rs"]
mod arguments;
#[path = "beside/mod.rs"]
mod beside;
#[path = "oci/checkpoint.rs"]
mod checkpoint;
#[path = "oci/control.rs"]
mod control;
#[path = "oci/create.rs"]
mod create;
#[path = "oci/exec.rs"]
mod exec;
#[path = "oci/failure.rs"]
mod failure;
#[path = "oci/features.rs"]
mod features;
#[path = "oci/foreground.rs"]
mod foreground;
#[path = "oci/log.rs"]
mod log;
#[path = "oci/look.rs"]
mod look;
#[path = "oci/pidfd.rs"]
mod pidfd;
#[path = "terminal/relay.rs"]
mod relay;
#[path = "oci/root.rs"]
mod root;
#[path = "oci/spec.rs"]
mod spec;
#[path = "oci/stats.rs"]
mod stats;
#[path = "terminal/mod.rs"]
mod terminal;
#[path = "oci/update.rs"]
mod update;
#[path = "oci/words.rs"]
mod words;

use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
use clap::{Parser, Subcommand, ValueEnum};
use cofferdam::oci::OCI_VERSIONS;
use cofferdam::{AnyContainer, StateRoot};
use failure::{Done, Failure, OUR_FAULT};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

/// Creates and runs containers according to the OCI runtime specification.
#[derive(Parser)]
#[command(name = "oci", version = VERSION.as_str(), disable_version_flag = true, arg_required_else_help = true)]
// The last one counts, as with runc: podman gives --leave-running twice.
#[command(args_override_self = true)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    verb: Verb,
    /// Print the version
    #[arg(short, long, action = clap::ArgAction::Version)]
    version: (),
}

/// The output of `--version` in the format of runc, which docker parses and `podman info` shows.
static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("version {} (cofferdam)\nspec: {}", env!("CARGO_PKG_VERSION"), OCI_VERSIONS.1));

/// Options for every verb.
#[derive(clap::Args)]
struct Options {
    /// The directory with the records of containers
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Append errors to FILE as well as printing them
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The format of the log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Log decisions too
    #[arg(long)]
    debug: bool,
    /// Put the containers of a Kubernetes pod into one sandbox
    #[arg(long)]
    pods: bool,
    /// Follow crun's annotation run.oci.keep_original_groups, which podman sets for --group-add keep-groups; an image
    /// can have it, too
    #[arg(long)]
    crun_annotations: bool,
    /// Let systemd create cgroups; needs the feature systemd
    #[arg(long)]
    systemd_cgroup: bool,
    /// Accepted for runc's sake: the program detects by itself whether the caller may create cgroups
    #[arg(long, value_name = "true|false|auto", value_parser = ["true", "false", "auto"], default_value = "auto")]
    rootless: String,
    /// The program for checkpoint and restore, instead of the `criu` in PATH
    #[arg(long, value_name = "FILE")]
    criu: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Verb {
    /// Create a container from a bundle, without executing its program
    Create(create::Create),
    /// Execute the program of a created container
    Start {
        /// The container
        id: String,
    },
    /// Create and start a container, wait for its end, and delete it
    Run(create::Run),
    /// Print the state of a container
    State {
        /// The container
        id: String,
    },
    /// Send a signal to a container
    Kill(control::Kill),
    /// Delete a container
    Delete(control::Delete),
    /// Execute another process in a running container
    Exec(exec::Exec),
    /// List the processes of a container
    Ps(look::Ps),
    /// Print periodically what a container uses, and its events
    Events(stats::Events),
    /// Print once what a container uses
    Stats {
        /// The container
        id: String,
    },
    /// Freeze a container
    Pause {
        /// The container
        id: String,
    },
    /// Resume a frozen container
    Resume {
        /// The container
        id: String,
    },
    /// Change the limits of a container
    Update(update::Update),
    /// List the containers
    List(look::List),
    /// Write a default configuration
    Spec(spec::Spec),
    /// Print which features of the specification are supported
    Features,
    /// Write an image of a running container, and end it
    Checkpoint(checkpoint::Checkpoint),
    /// Create and start a container whose processes come from an image
    Restore(checkpoint::Restore),
}

fn main() -> ExitCode {
    let CommandLine { options, verb, .. } = match CommandLine::try_parse_from(words()) {
        Ok(command_line) => command_line,
        Err(error) if matches!(error.kind(), DisplayHelp | DisplayVersion) => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        // A call without arguments prints the usage and succeeds, like runc.
        Err(error)
            if error.kind() == DisplayHelpOnMissingArgumentOrSubcommand && std::env::args().len() < 2 =>
        {
            print!("{error}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            log::Log::to_stderr(LogFormat::Text).error(&one_line(&error));
            return ExitCode::from(OUR_FAULT);
        }
    };
    let log = match log::Log::open(&options) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(OUR_FAULT);
        }
    };
    log.follow_decisions(if options.debug { tracing::Level::DEBUG } else { tracing::Level::WARN });
    let installed = beside::install_helper().map_err(Failure::from);
    match installed.and_then(|()| verb.obey(&options)) {
        Ok(code) => code,
        Err(Failure { message, code }) => {
            log.error(&message);
            ExitCode::from(code)
        }
    }
}

/// The command line. containerd's shim gives `restore` an option with one hyphen, which runc's parser takes for two.
fn words() -> impl Iterator<Item = OsString> {
    let restores = std::env::args_os().any(|word| word == "restore");
    let two = move |word: OsString| {
        if restores && word == "-no-subreaper" { "--no-subreaper".into() } else { word }
    };
    std::env::args_os().map(two)
}

impl Verb {
    fn obey(self, options: &Options) -> Done {
        match self {
            // These verbs concern the program, not a container.
            Self::Spec(spec) => return spec.obey(),
            Self::Features => return features::print(),
            _ => {}
        }
        let root = options.open_root(&self)?;
        let find = |id: &str| find(&root, id);
        match self {
            Self::Create(create) => create.obey(&root, options),
            Self::Run(run) => run.obey(&root, options),
            Self::Start { id } => create::start(find(&id)?),
            Self::State { id } => look::state(&find(&id)?, &root),
            Self::Kill(kill) => kill.obey(&root),
            Self::Delete(delete) => delete.obey(&root),
            Self::Exec(exec) => exec.obey(&root),
            Self::Ps(ps) => ps.obey(&root),
            Self::Events(events) => events.obey(&root),
            Self::Stats { id } => stats::once(&find(&id)?),
            Self::Pause { id } => control::pause(find(&id)?),
            Self::Resume { id } => control::resume(find(&id)?),
            Self::Update(update) => update.obey(&root),
            Self::List(list) => list.obey(&root),
            Self::Checkpoint(checkpoint) => checkpoint.obey(&root, options),
            Self::Restore(restore) => restore.obey(&root, options),
            Self::Spec(_) | Self::Features => unreachable!("obeyed above"),
        }
    }
}

impl Verb {
    /// Whether it makes a container, which belongs to the user who asks for it.
    fn creates(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Run(_) | Self::Restore(_))
    }
}

/// The container with this id.
fn find(root: &StateRoot, id: &str) -> Result<AnyContainer, Failure> {
    let missing = || Failure::from(format!("container {id:?} does not exist"));
    match AnyContainer::load(root, id) {
        Err(error) if *error.kind() == cofferdam::ErrorKind::NotFound => Err(missing()),
        loaded => Ok(loaded?),
    }
}

/// The problem with the command line, without the usage.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let problem = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    problem.split_whitespace().collect::<Vec<_>>().join(" ")
}

//! Runs one program in a container, like `docker run` without an image, a daemon or root.
//!
//! ```text
//! cargo run --example run -- sh -c 'echo hello; id; ls /'
//! cargo run --example run -- --scratch --memory 64m --timeout 10s sh -c 'touch /usr/x && ls /usr'
//! cargo run --example run -- --rootfs ./alpine --bind ./src:/src:ro --cwd /src ls -l
//! cargo run --example run -- --bundle ./bundle
//! ```
//!
//! Options come before the program; everything after its name are its arguments. Without `--rootfs` or `--bundle` the
//! container sees the host's system directories, read-only. It gets the standard streams of this program.
//!
//! A file `cofferdam-helper` in the directory of this program is the program of the processes beside the workload
//! (`cofferdam::helpers::Helper`). Without it they execute this program once more, which costs more processor time.
//!
//! The exit code is that of the program, or 128 + n if signal n ended it; 127 if there is no such program, 126 if it
//! cannot be executed, and 125 if the container could not be created. An outcome that the code does not show is printed
//! on stderr.

#![expect(clippy::print_stderr, reason = "a program for the terminal")]

#[path = "arguments/mod.rs"]
mod arguments;
#[path = "beside/mod.rs"]
mod beside;

use arguments::{duration, size, user, variable};
use clap::Parser;
use cofferdam::{ContainerBuilder, Error, ErrorKind, Exit, Outcome, Rootfs, StateRoot};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Runs a program in a container.
#[derive(Parser)]
#[command(after_help = "SIZE is in bytes, or with k, m or g; DURATION is in seconds, or with ms, s, m or h.")]
struct Options {
    /// Show this directory as the root, instead of the host's system directories
    #[arg(long, value_name = "DIR", conflicts_with = "bundle")]
    rootfs: Option<PathBuf>,
    /// Run the container that DIR/config.json describes; the other options change it
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Put a writable layer in memory over the root, and discard it at the end
    #[arg(long, value_name = "SIZE", num_args = 0..=1, require_equals = true, value_parser = size)]
    scratch: Option<Option<u64>>,
    /// Let the program write to the root directory itself
    #[arg(long, conflicts_with = "scratch")]
    writable: bool,
    /// Mount the host's SRC at DST, read-only unless rw
    #[arg(long, value_name = "SRC:DST[:ro|rw]", value_parser = bind)]
    bind: Vec<Bind>,
    /// Mount an empty directory in memory (default size: 64m)
    #[arg(long, value_name = "DST[:SIZE]", value_parser = tmpfs)]
    tmpfs: Vec<Tmpfs>,
    /// The most memory the container may use
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// The most processes and threads the container may have
    #[arg(long, value_name = "N")]
    pids: Option<u64>,
    /// How many CPUs the container may keep busy
    #[arg(long, value_name = "F")]
    cpus: Option<f64>,
    /// Kill the program if it runs longer
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// Set an environment variable; the program gets none of the host's
    #[arg(long, value_name = "K=V", value_parser = variable)]
    env: Vec<(String, String)>,
    /// The directory to start in
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Run the program as this user in the container
    #[arg(long, value_name = "UID[:GID]", value_parser = user)]
    user: Option<(u32, Option<u32>)>,
    /// The host name inside
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Use an empty network, or the host's
    #[arg(long, value_enum, default_value_t = Network::None)]
    network: Network,
    /// The container's id
    #[arg(long, value_name = "ID")]
    name: Option<String>,
    /// The directory with the records of containers
    #[arg(long, value_name = "STATE_DIR")]
    root: Option<PathBuf>,
    /// Print on stderr how it ended, as JSON
    #[arg(long)]
    json: bool,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required_unless_present = "bundle")]
    program: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Network {
    None,
    Host,
}

#[derive(Clone)]
struct Bind {
    source: PathBuf,
    destination: PathBuf,
    writable: bool,
}

#[derive(Clone)]
struct Tmpfs {
    destination: PathBuf,
    size: u64,
}

/// The code with which docker reports its own failures.
const OUR_FAULT: u8 = 125;

fn main() -> ExitCode {
    // clap exits with 2 on a bad command line, which could also be the code of the program.
    let options = Options::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { OUR_FAULT.into() } else { 0 })
    });
    let json = options.json;
    match beside::install_helper().and_then(|()| container(options)).and_then(ContainerBuilder::run) {
        Ok(exit) => {
            if json {
                eprintln!("{}", to_json(&exit))
            } else {
                explain(exit.outcome)
            }
            ExitCode::from(u8::try_from(exit.outcome.shell_code()).unwrap_or(OUR_FAULT))
        }
        Err(error) => {
            eprintln!("run: {error}");
            ExitCode::from(match error.kind() {
                ErrorKind::ProgramNotFound => 127,
                ErrorKind::ProgramNotExecutable => 126,
                _ => OUR_FAULT,
            })
        }
    }
}

/// The container that the command line describes.
fn container(options: Options) -> Result<ContainerBuilder, Error> {
    let name = options.name.unwrap_or_else(|| format!("run-{}", std::process::id()));
    let mut container = match options.bundle {
        Some(bundle) => ContainerBuilder::from_bundle(bundle)?,
        None => ContainerBuilder::new(),
    };
    container = container.id(name).inherit_stdio();
    if !options.program.is_empty() {
        container = container.args(options.program);
    }
    if let Some(directory) = options.rootfs {
        container = container.rootfs(Rootfs::directory(directory));
    }
    if let Some(size) = options.scratch {
        container = container.scratch(size);
    }
    if options.writable {
        container = container.writable_rootfs();
    }
    for Bind { source, destination, writable } in options.bind {
        container = if writable {
            container.bind_rw(source, destination)
        } else {
            container.bind_ro(source, destination)
        };
    }
    for Tmpfs { destination, size } in options.tmpfs {
        container = container.tmpfs(destination, size);
    }
    if let Some(bytes) = options.memory {
        container = container.memory_limit(bytes);
    }
    if let Some(tasks) = options.pids {
        container = container.pids_limit(tasks);
    }
    if let Some(cpus) = options.cpus {
        container = container.cpu_limit(cpus);
    }
    if let Some(limit) = options.timeout {
        container = container.timeout(limit);
    }
    for (name, value) in options.env {
        container = container.env(name, value);
    }
    if let Some(directory) = options.cwd {
        container = container.cwd(directory);
    }
    if let Some((uid, gid)) = options.user {
        container = container.user(uid, gid.unwrap_or(0));
    }
    if let Some(name) = options.hostname {
        container = container.hostname(name);
    }
    if let Network::Host = options.network {
        container = container.host_network();
    }
    if let Some(directory) = options.root {
        container = container.state_root(StateRoot::open(directory)?);
    }
    Ok(container)
}

/// Prints on stderr what the exit code does not show.
fn explain(outcome: Outcome) {
    if !matches!(outcome, Outcome::Exited { .. }) {
        eprintln!("run: {outcome}");
    }
}

fn to_json(exit: &Exit) -> serde_json::Value {
    let since_epoch = |at: Option<SystemTime>| at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let outcome = match exit.outcome {
        Outcome::Exited { code } => json!({ "exited": code }),
        Outcome::Signalled { signal, core_dumped } => {
            json!({ "signalled": signal.to_string(), "core_dumped": core_dumped })
        }
        Outcome::OutOfMemory => json!("out_of_memory"),
        Outcome::TimedOut { after } => json!({ "timed_out_after_ms": ms(after) }),
        Outcome::Killed { signal } => json!({ "killed": signal.to_string() }),
        Outcome::CallerGone => json!("caller_gone"),
        Outcome::NeverStarted => json!("never_started"),
        Outcome::Lost => json!("lost"),
        other => json!(format!("{other:?}")),
    };
    json!({
        "outcome": outcome,
        "code": exit.outcome.shell_code(),
        "started_at_ms": since_epoch(exit.started_at).map(ms),
        "finished_at_ms": since_epoch(exit.finished_at).map(ms),
        "user_ms": ms(exit.user_time),
        "system_ms": ms(exit.system_time),
        "max_rss_bytes": exit.max_rss,
        "memory_peak_bytes": exit.memory_peak,
        "oom_kills": exit.oom_kills,
    })
}

fn bind(text: &str) -> Result<Bind, String> {
    let (source, rest) = text.split_once(':').ok_or("needs SRC:DST")?;
    let (destination, writable) = match rest.rsplit_once(':') {
        Some((destination, "rw")) => (destination, true),
        Some((destination, "ro")) => (destination, false),
        Some((_, mode)) => return Err(format!("{mode:?} is neither ro nor rw")),
        None => (rest, false),
    };
    // Relative to our working directory. Made absolute here, so that a bad path is a mistake of the command line.
    let source = std::path::absolute(source).map_err(|error| error.to_string())?;
    Ok(Bind { source, destination: destination.into(), writable })
}

fn tmpfs(text: &str) -> Result<Tmpfs, String> {
    let (destination, bytes) = match text.split_once(':') {
        Some((destination, bytes)) => (destination, size(bytes)?),
        None => (text, 64 << 20),
    };
    Ok(Tmpfs { destination: destination.into(), size: bytes })
}

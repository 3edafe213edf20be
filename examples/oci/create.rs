//! The verbs create, start and run.

use super::Options;
use super::failure::{Done, Failure, exit_code};
use super::foreground::{SignalForwarder, keep_newlines, keeps_newlines};
use super::pidfd::PidfdSocket;
use super::terminal::our_size;
use cofferdam::checkpoint::{Criu, Image, StreamKind};
use cofferdam::info::Listed;
use cofferdam::oci_spec::runtime::LinuxNamespaceType;
use cofferdam::{AnyContainer, Container, ContainerBuilder, Created, Creating, ErrorKind, StateRoot, Stdio};
use nix::unistd::geteuid;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

/// The options of create and run.
#[derive(Clone, clap::Args)]
pub(crate) struct CreationOptions {
    /// The directory with config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Send the terminal to this socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Write the container's pid to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Send a pidfd of the container's first process to this socket
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// Pass on this many descriptors, beginning with number 3
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Accepted and ignored: pivot_root is always used, because it isolates better
    #[arg(long)]
    no_pivot: bool,
    /// Accepted and ignored: the container always gets a new session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// The container's id
    id: String,
}

#[derive(clap::Args)]
pub(crate) struct Create {
    #[command(flatten)]
    options: CreationOptions,
}

#[derive(clap::Args)]
pub(crate) struct Run {
    #[command(flatten)]
    options: CreationOptions,
    /// Do not wait for the end of the container
    #[arg(short, long)]
    detach: bool,
    /// Do not delete the container after its end
    #[arg(long)]
    keep: bool,
    /// Accepted and ignored: this program is never a subreaper
    #[arg(long)]
    no_subreaper: bool,
}

const CGROUPS_PATH: &str = "linux.cgroupsPath";

/// The form of `linux.cgroupsPath`.
enum CgroupsPath {
    Default,
    Path(String),
    /// `slice:prefix:name`
    Scope(String),
}

impl CgroupsPath {
    fn of(builder: &ContainerBuilder) -> Self {
        let linux = builder.spec().linux().as_ref();
        let path = linux.and_then(|linux| linux.cgroups_path().as_ref());
        match path.map(|path| path.display().to_string()).unwrap_or_default() {
            path if path.is_empty() => Self::Default,
            path if !path.starts_with('/') && path.split(':').count() == 3 => Self::Scope(path),
            path => Self::Path(path),
        }
    }
}

/// The image whose processes take the place of the configuration's program, if there is one.
pub(crate) type Restored<'a> = Option<(&'a Image, &'a Criu)>;

/// Which program holds the other end of the container's terminal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Terminal {
    /// The container has no terminal.
    None,
    /// The one that listens at the console socket.
    Socket,
    /// This one.
    Ours,
}

impl CreationOptions {
    fn pidfd_socket(&self) -> Result<Option<PidfdSocket>, Failure> {
        self.pidfd_socket.as_deref().map(PidfdSocket::connect).transpose()
    }

    /// Plans the container.
    fn build(
        self,
        root: &StateRoot,
        options: &Options,
        detach: bool,
        restored: Restored<'_>,
    ) -> Result<(Container<Creating>, Terminal), Failure> {
        let (id, again) = (self.id.clone(), self.clone());
        let (builder, terminal) = self.builder(root, options, detach, restored)?;
        if !geteuid().is_root() || !matches!(CgroupsPath::of(&builder), CgroupsPath::Default) {
            return Ok((builder.build()?, terminal));
        }
        // Without cgroupsPath runc names the container's cgroups after its id, in every hierarchy: on v1 below its own, on v2
        // beside it. Where no cgroup can be made, the container has none all the same.
        match builder.cgroups_path(&id).build() {
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported { feature } if feature == CGROUPS_PATH) =>
            {
                let (builder, terminal) = again.builder(root, options, detach, restored)?;
                Ok((builder.build()?, terminal))
            }
            built => Ok((built?, terminal)),
        }
    }

    /// Describes the container.
    fn builder(
        self,
        root: &StateRoot,
        options: &Options,
        detach: bool,
        restored: Restored<'_>,
    ) -> Result<(ContainerBuilder, Terminal), Failure> {
        let default_scope = format!(":cofferdam:{}", self.id);
        let mut builder = ContainerBuilder::from_bundle(&self.bundle)?.id(self.id).state_root(root.clone());
        match (options.systemd_cgroup, CgroupsPath::of(&builder)) {
            (true, CgroupsPath::Default) => builder = builder.cgroups_path(default_scope),
            (true, CgroupsPath::Path(path)) => {
                let wanted = "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups";
                return Err(format!("{wanted}, got {path:?} instead").into());
            }
            (false, CgroupsPath::Scope(path)) => {
                return Err(
                    format!("cgroupsPath {path:?} is for systemd cgroups: use --systemd-cgroup").into()
                );
            }
            (true, CgroupsPath::Scope(_)) | (false, CgroupsPath::Default | CgroupsPath::Path(_)) => {}
        }
        if options.pods {
            builder = builder.follow_pod_annotations();
        }
        if options.crun_annotations && keeps_groups(&builder) {
            builder = builder.keep_caller_groups();
        }
        if let Some(path) = container_pid_namespace(root, &builder) {
            builder = builder.join_pid_namespace(path);
        }
        if let Some(path) = self.pid_file {
            builder = builder.pid_file(path);
        }
        let activated = activated_fds();
        if activated > 0 {
            builder = builder.env("LISTEN_FDS", activated.to_string()).env("LISTEN_PID", "1");
        }
        builder = builder.inherit_fds(self.preserve_fds.saturating_add(activated));
        let wanted =
            builder.spec().process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
        let terminal = match (wanted, detach, self.console_socket) {
            (true, true, None) => {
                return Err("cannot allocate tty if runc will detach without setting console socket".into());
            }
            (true, true, Some(socket)) => {
                builder = builder.console_socket(socket);
                Terminal::Socket
            }
            (_, _, Some(_)) => {
                return Err("cannot use console socket if runc will not detach or allocate tty".into());
            }
            (true, false, None) => {
                builder = builder.terminal();
                if let Some(size) = our_size() {
                    builder = builder.terminal_size(size);
                }
                Terminal::Ours
            }
            (false, _, None) => {
                builder = builder.inherit_stdio();
                Terminal::None
            }
        };
        if let Some((image, criu)) = restored {
            builder = keep_streams(builder, image).restore(image, criu)?;
        }
        Ok((builder, terminal))
    }
}

/// What was no pipe stays what it was: a restore replaces nothing else.
fn keep_streams(builder: ContainerBuilder, image: &Image) -> ContainerBuilder {
    let [stdin, stdout, stderr] = image.streams();
    let stays = |kind: &StreamKind| !matches!(kind, StreamKind::Pipe { .. });
    let builder = if stays(stdin) { builder.stdin(Stdio::null()) } else { builder };
    let builder = if stays(stdout) { builder.stdout(Stdio::null()) } else { builder };
    if stays(stderr) { builder.stderr(Stdio::null()) } else { builder }
}

/// The path of the container's pid namespace, if the configuration joins `/proc/SANDBOX/ns/pid`. An engine knows only the
/// sandbox's pid, but the container's pid namespace is a child of the sandbox's.
fn container_pid_namespace(root: &StateRoot, builder: &ContainerBuilder) -> Option<PathBuf> {
    let namespaces = builder.spec().linux().as_ref()?.namespaces().as_ref()?;
    let joined = namespaces.iter().find(|namespace| namespace.typ() == LinuxNamespaceType::Pid)?;
    let path = joined.path().as_ref()?.to_str()?;
    let sandbox: i32 = path.strip_prefix("/proc/")?.strip_suffix("/ns/pid")?.parse().ok()?;
    let containers = AnyContainer::list(root).ok()?;
    let init = containers.iter().find_map(|listed| match listed {
        Listed::Container(container) => {
            let alive = container.as_alive().ok()?;
            (alive.sandbox_pid() == sandbox).then(|| alive.init_pid())
        }
        _ => None,
    })?;
    Some(format!("/proc/{init}/ns/pid").into())
}

/// Whether the configuration has the annotation with which crun leaves the caller's groups to the workload.
fn keeps_groups(builder: &ContainerBuilder) -> bool {
    let annotations = builder.spec().annotations().as_ref();
    annotations.and_then(|all| all.get("run.oci.keep_original_groups")).is_some_and(|value| value == "1")
}

/// How many descriptors a service manager passed to this process (sd_listen_fds(3)).
fn activated_fds() -> u32 {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    match number("LISTEN_PID") {
        Some(pid) if pid == std::process::id() => number("LISTEN_FDS").unwrap_or(0),
        _ => 0,
    }
}

impl Create {
    pub(crate) fn obey(self, root: &StateRoot, options: &Options) -> Done {
        let pidfd = self.options.pidfd_socket()?;
        let (container, _) = self.options.build(root, options, true, None)?;
        let mut created = container.create()?;
        send_pidfd(pidfd.as_ref(), &created)?;
        // Later commands find the container by its id.
        created.detach()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Before the program is started: until then its pid is that of no other process.
fn send_pidfd(socket: Option<&PidfdSocket>, created: &Container<Created>) -> Result<(), Failure> {
    socket.map_or(Ok(()), |socket| socket.send_init(created.init_pid()))
}

pub(crate) fn start(container: AnyContainer) -> Done {
    match container {
        AnyContainer::Created(created) => {
            let _ = created.start()?;
            Ok(ExitCode::SUCCESS)
        }
        AnyContainer::Running(_) => Err("cannot start an already running container".into()),
        AnyContainer::Paused(_) => Err("cannot start a container in the paused state".into()),
        AnyContainer::Stopped(_) => Err("cannot start a container that has stopped".into()),
        AnyContainer::Creating(_) => Err("cannot start a container in the creating state".into()),
    }
}

impl Run {
    pub(crate) fn obey(self, root: &StateRoot, options: &Options) -> Done {
        self.obey_with(root, options, None)
    }

    /// Runs the configuration's program, or the processes of an image in its place.
    pub(crate) fn obey_with(self, root: &StateRoot, options: &Options, restored: Restored<'_>) -> Done {
        let (detach, keep) = (self.detach, self.keep);
        let pidfd = self.options.pidfd_socket()?;
        let (container, terminal) = self.options.build(root, options, detach, restored)?;
        if detach {
            let created = container.create()?;
            send_pidfd(pidfd.as_ref(), &created)?;
            created.start()?.detach()?;
            return Ok(ExitCode::SUCCESS);
        }
        // Block signals before anything starts, so that none is lost.
        let forwarder = SignalForwarder::new()?;
        let mut created: Container<Created> = container.create()?;
        send_pidfd(pidfd.as_ref(), &created)?;
        let pty = (terminal == Terminal::Ours).then(|| created.take_pty()).flatten();
        if let Some(pty) = pty.as_ref().filter(|_| keeps_newlines()) {
            keep_newlines(pty)?;
        }
        let mut running = created.start()?;
        if keep {
            running.detach()?;
        }
        forwarder.forward_until(running.as_fd(), pty, &|signal| running.signal(signal))?;
        let stopped = running.wait_stopped()?;
        let code = stopped.exit().outcome.shell_code();
        if !keep {
            stopped.delete()?;
        }
        Ok(exit_code(code))
    }
}

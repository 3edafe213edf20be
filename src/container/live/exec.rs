//! Further processes in a running container: what is to be executed, and the process that came of it.

use super::seccomp_agent;
use crate::cgroup;
use crate::container::handle::Handle;
use crate::container::{Container, Executed, Outcome, Phase, ProcessExit, Started};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::helper::ExtraFds;
use crate::helper::extra_fd_name;
use crate::helper::spawn::seal_plan;
use crate::host;
use crate::link::client::START_LIMIT;
use crate::link::{SandboxLink, client};
use crate::plan::{DeviceLimits, ExecOptions, ExecPlan};
use crate::process::Delivery;
use crate::process::channel::wait_readable_until;
use crate::process::console::{ConsoleTarget, Pty, WindowSize};
use crate::process::{Channel, Signal, Stdio, stdio};
use crate::spec::{self, IdMaps, Origin, ValidSpec};
use crate::state::Status;
use crate::wire::control::{ExecReply, Operation, ProcessEnd, ProcessEnded, WaitReply};
use oci_spec::runtime::Process as OciProcess;
use oci_spec::runtime::{BoxBuilder, Capabilities, LinuxCapabilitiesBuilder, PosixRlimit, User};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How much of each stream [`Container::exec_output`] keeps, unless told otherwise.
const DEFAULT_OUTPUT_LIMIT: usize = 16 << 20;

/// A further process: what to execute in a running container, and how.
///
/// What is not said is as it is for the container's own first process: environment, working directory, user,
/// capabilities, no_new_privs, resource limits. The seccomp filter is always the container's.
#[derive(Debug)]
#[must_use = "nothing is executed until `Container::exec`"]
pub struct Exec {
    /// The whole process, where it is given as one; else what is changed of the container's.
    whole: Option<OciProcess>,
    changes: Vec<Change>,
    user_name: Option<String>,
    stdio: [Stdio; 3],
    extra_fds: ExtraFds,
    timeout: Option<Duration>,
    output_limit: usize,
    /// Who gets the terminal, if it has one.
    console: ConsoleTarget,
    terminal_size: Option<WindowSize>,
    pub(in crate::container) attached: bool,
}

/// One difference to the container's own process.
#[derive(Debug)]
enum Change {
    Args(Vec<String>),
    Env(String),
    ClearEnv,
    Cwd(PathBuf),
    User(u32, u32),
    Groups(Vec<u32>),
    Umask(u32),
    Capabilities(Capabilities),
    NoNewPrivileges(bool),
    Rlimit(PosixRlimit),
}

impl Exec {
    /// The program and its arguments. A name without a slash is looked up in the `PATH` of the process's environment,
    /// inside the container.
    pub fn new<S: Into<String>>(args: impl IntoIterator<Item = S>) -> Self {
        let mut exec = Self::unchanged(None);
        exec.changes.push(Change::Args(args.into_iter().map(Into::into).collect()));
        exec
    }

    /// Exactly the process of an OCI configuration (OCI config.md, "Process"), as `runc exec --process` takes it:
    /// nothing of the container's own is added.
    pub fn from_oci(process: OciProcess) -> Self {
        Self::unchanged(Some(process))
    }

    fn unchanged(whole: Option<OciProcess>) -> Self {
        Self {
            whole,
            changes: Vec::new(),
            user_name: None,
            stdio: Default::default(),
            extra_fds: ExtraFds::default(),
            timeout: None,
            output_limit: DEFAULT_OUTPUT_LIMIT,
            console: ConsoleTarget::default(),
            terminal_size: None,
            attached: false,
        }
    }

    fn with(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// Sets one environment variable, besides the container's own.
    pub fn env(self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.with(Change::Env(format!("{}={}", name.as_ref(), value.as_ref())))
    }

    /// Starts from an empty environment instead of the container's.
    pub fn env_clear(self) -> Self {
        self.with(Change::ClearEnv)
    }

    /// The working directory, absolute. It has to exist.
    pub fn cwd(self, cwd: impl Into<PathBuf>) -> Self {
        self.with(Change::Cwd(cwd.into()))
    }

    /// Who the process is, as ids inside the container.
    pub fn user(self, uid: u32, gid: u32) -> Self {
        self.with(Change::User(uid, gid))
    }

    /// Who the process is, by name: the image's `/etc/passwd` and `/etc/group` decide ids and supplementary groups.
    pub fn user_name(mut self, name: impl Into<String>) -> Self {
        self.user_name = Some(name.into());
        self
    }

    /// Supplementary groups, as ids inside the container.
    pub fn groups(self, gids: impl IntoIterator<Item = u32>) -> Self {
        self.with(Change::Groups(gids.into_iter().collect()))
    }

    /// The file mode creation mask.
    pub fn umask(self, umask: u32) -> Self {
        self.with(Change::Umask(umask))
    }

    /// These capabilities in all five sets, instead of the container's.
    pub fn capabilities(self, capabilities: Capabilities) -> Self {
        self.with(Change::Capabilities(capabilities))
    }

    /// Whether set-user-ID programs and file capabilities are denied to raise its privileges.
    pub fn no_new_privileges(self, yes: bool) -> Self {
        self.with(Change::NoNewPrivileges(yes))
    }

    /// A resource limit of setrlimit(2), instead of the container's of the same type.
    pub fn rlimit(self, rlimit: PosixRlimit) -> Self {
        self.with(Change::Rlimit(rlimit))
    }

    /// Standard input; nothing by default.
    pub fn stdin(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[0] = stdio.into();
        self
    }

    /// Standard output; thrown away by default.
    pub fn stdout(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[1] = stdio.into();
        self
    }

    /// Standard error; thrown away by default.
    pub fn stderr(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[2] = stdio.into();
        self
    }

    /// All three standard streams are the caller's.
    pub fn inherit_stdio(mut self) -> Self {
        self.stdio = [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()];
        self
    }

    /// Gives the process a terminal of its own in place of the three standard streams. The caller's end is
    /// [`Process::take_pty`]'s.
    pub fn terminal(mut self) -> Self {
        self.console = ConsoleTarget::Caller;
        self
    }

    /// Gives the process a terminal of its own in place of the three standard streams, and sends the caller's end to
    /// whoever listens on the Unix stream socket `path`, as
    /// [`ContainerBuilder::console_socket`](crate::container::ContainerBuilder::console_socket) does.
    pub fn console_socket(mut self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.console = ConsoleTarget::Socket(std::path::absolute(&path).unwrap_or(path));
        self
    }

    /// The size the terminal starts with.
    pub fn terminal_size(mut self, size: WindowSize) -> Self {
        self.terminal_size = Some(size);
        self
    }

    /// A further descriptor, at this number in the new process: 3 or more.
    pub fn fd(mut self, number: i32, fd: impl Into<OwnedFd>) -> Self {
        self.extra_fds.give(number, fd.into());
        self
    }

    /// The caller's own descriptors 3, 4, ... at the same numbers in the new process, this many. What is not open is
    /// an error.
    pub fn inherit_fds(mut self, count: u32) -> Self {
        self.extra_fds.inherit(count);
        self
    }

    /// For [`Container::exec_output`]: kills the process if it runs longer than this.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// For [`Container::exec_output`]: kills the process if it writes more than this many bytes to either stream. 16
    /// MiB by default.
    pub fn output_limit(mut self, bytes: usize) -> Self {
        self.output_limit = bytes;
        self
    }

    fn has_terminal(&self) -> bool {
        !matches!(self.console, ConsoleTarget::Unset)
    }

    /// Somebody takes the terminal that is `asked` for, and nothing else was given in its place.
    fn check_terminal(&self, asked: bool) -> Result<()> {
        let refuse = |problem| Err(Error::spec("exec", "process.terminal", problem));
        match (self.has_terminal(), self.stdio.iter().all(Stdio::is_null)) {
            (false, _) if asked => refuse(
                "nothing takes the terminal: ask for `terminal()` or a `console_socket(path)`, or set it to false",
            ),
            (true, false) => {
                refuse("the standard streams are the terminal's, and something else was given for them")
            }
            _ => Ok(()),
        }
    }

    /// The validated process, against the container's configuration.
    fn plan(&self, core: &Handle) -> Result<(ExecPlan, IdMaps)> {
        let spec = core.record.spec.parse()?;
        let container = spec.process().clone().unwrap_or_default();
        let mut process = self.whole.clone().unwrap_or(container);
        let asked = self.whole.as_ref().and_then(|whole| whole.terminal()).unwrap_or(false);
        self.check_terminal(asked)?;
        process.set_terminal(Some(self.has_terminal()));
        // The container's own terminal has a size of its own.
        if self.whole.is_none() {
            process.set_console_size(None);
        }
        if let Some(WindowSize { rows, columns }) = self.terminal_size {
            let size = BoxBuilder::default().height(rows).width(columns).build();
            process.set_console_size(Some(size.expect("two sides are all there is")));
        }
        self.changes.iter().for_each(|change| change.apply(&mut process));
        let bundle = Some(core.record.bundle.as_path());
        let valid = ValidSpec::new(&spec, bundle, Origin::ConfigJson)?;
        let process = spec::Process::for_exec(&process, &valid.id_maps)?;
        check_devices(core, &process, &valid)?;
        let lsms = host::security_modules(process.asks_for_labels());
        let options = ExecOptions { user_name: self.user_name.clone(), attached: self.attached };
        let plan = ExecPlan::new(&process, &valid, lsms, options)?;
        Ok((plan, valid.id_maps))
    }
}

/// What the container's own processes could not do, and its device rules were therefore not enforced for, no later one
/// may do either.
fn check_devices(core: &Handle, process: &spec::Process, spec: &ValidSpec) -> Result<()> {
    if DeviceLimits::of_exec(process, spec, host::in_user_namespace()).is_none()
        || cgroup::enforces_devices(&core.record.cgroups)
    {
        return Ok(());
    }
    let why = "with CAP_MKNOD it could make any device, and nothing enforces the container's device rules";
    Err(Error::unsupported("process.capabilities", why)
        .hint("leave CAP_MKNOD out, as the container's own process does"))
}

impl Change {
    fn apply(&self, process: &mut OciProcess) {
        let user = |process: &mut OciProcess, change: &dyn Fn(&mut User)| {
            let mut user = process.user().clone();
            change(&mut user);
            process.set_user(user);
        };
        match self {
            Self::Args(args) => {
                process.set_args(Some(args.clone()));
            }
            Self::Env(entry) => {
                let mut env = process.env().clone().unwrap_or_default();
                env.push(entry.clone());
                process.set_env(Some(env));
            }
            Self::ClearEnv => {
                process.set_env(None);
            }
            Self::Cwd(cwd) => {
                process.set_cwd(cwd.clone());
            }
            Self::User(uid, gid) => user(process, &|user| {
                user.set_uid(*uid).set_gid(*gid).set_additional_gids(None);
            }),
            Self::Groups(gids) => user(process, &|user| {
                user.set_additional_gids(Some(gids.clone()));
            }),
            Self::Umask(umask) => user(process, &|user| {
                user.set_umask(Some(*umask));
            }),
            Self::Capabilities(set) => {
                let sets = LinuxCapabilitiesBuilder::default()
                    .bounding(set.clone())
                    .effective(set.clone())
                    .inheritable(set.clone())
                    .permitted(set.clone())
                    .ambient(set.clone())
                    .build()
                    .expect("five sets are all there is");
                process.set_capabilities(Some(sets));
            }
            Self::NoNewPrivileges(yes) => {
                process.set_no_new_privileges(Some(*yes));
            }
            Self::Rlimit(rlimit) => {
                let mut rlimits = process.rlimits().clone().unwrap_or_default();
                rlimits.retain(|other| other.typ() != rlimit.typ());
                rlimits.push(*rlimit);
                process.set_rlimits(Some(rlimits));
            }
        }
    }
}

impl<P: Phase> Container<P> {
    /// Executes a further process in the container: in its namespaces and cgroups, behind its seccomp filter.
    ///
    /// Returns when the program was executed. Its parent, seen from inside, is pid 0; it ends with the container.
    ///
    /// # Errors
    /// [`ErrorKind::ProgramNotFound`], [`ErrorKind::ProgramNotExecutable`], [`ErrorKind::InvalidSpec`] naming the
    /// field (an unknown user, a working directory that is missing), [`ErrorKind::Os`] with the errno of the call that
    /// failed, [`ErrorKind::Ended`] if the container has ended.
    pub fn exec(&self, exec: Exec) -> Result<Process>
    where
        P: Started,
    {
        Process::start(&self.core, self.phase.live(), exec)
    }

    /// Executes a process, collects what it writes, and waits for its end.
    ///
    /// Standard input is empty unless it was set. Descendants that keep the streams open do not keep this from
    /// returning.
    ///
    /// # Errors
    /// As [`exec`](Self::exec), or a pipe that cannot be read. A process that ran into its time or output limit is no
    /// error: see [`ProcessOutput`].
    pub fn exec_output(&self, mut exec: Exec) -> Result<ProcessOutput>
    where
        P: Started,
    {
        exec.stdio[1] = Stdio::piped();
        exec.stdio[2] = Stdio::piped();
        let (timeout, limit) = (exec.timeout, exec.output_limit);
        let began = Instant::now();
        let process = self.exec(exec)?;
        process.output(timeout.map(|timeout| (timeout, began)), limit)
    }

    /// Waits for the end of a process that was executed in the container, by its pid inside, from any process that
    /// loaded the container. The first wait gets the status; the entry is then gone.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a pid that is no such process's, or was waited for already;
    /// [`ErrorKind::Ended`] if the container ended first.
    pub fn wait_pid(&self, pid: i32) -> Result<ProcessExit>
    where
        P: Executed,
    {
        let channel = self.phase.live().connect(Operation::WaitProcess { pid }, &[])?;
        match channel.receive::<WaitReply>(None).map_err(Error::from_sandbox)?.message {
            WaitReply::Ended(end) => Ok(ProcessExit::new(end, None)),
            WaitReply::Failed(failure) => Err(failure.into()),
        }
    }
}

/// A process executed in a running container.
///
/// Dropping it changes nothing, unless it is [`attached`](Exec::attached): the process goes on, its end can be waited
/// for by [`Container::wait_pid`], and it ends with the container. As a descriptor ([`AsFd`]) it is readable when the process has ended.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    pid_inside: i32,
    pub(in crate::container) pidfd: OwnedFd,
    pub(in crate::container) channel: Channel,
    streams: [Option<File>; 3],
    pty: Option<Pty>,
    pub(in crate::container) end: OnceLock<ProcessEnd>,
    /// Held while the end is received; the last signal sent.
    receiving: Arc<Mutex<Option<Signal>>>,
}

impl Process {
    fn start(core: &Handle, live: &SandboxLink, exec: Exec) -> Result<Self> {
        let (plan, maps) = exec.plan(core)?;
        let extra_fds = exec.extra_fds.open()?;
        let plan = seal_plan(&plan.resolve(extra_fds.numbers.clone()))?;
        // Whoever is to have the terminal is there before there is one.
        let taker = exec.has_terminal().then(|| exec.console.find("exec")).transpose()?;
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let [stdin, stdout, stderr] = &exec.stdio;
        let streams = stdio::Streams::open([stdin, stdout, stderr], crate::plan::root_ids(&maps, own))?;
        let names: Vec<_> = extra_fds.numbers.iter().map(|number| extra_fd_name(*number)).collect();
        let mut fds = vec![("plan", plan.as_fd())];
        fds.extend(["stdin", "stdout", "stderr"].into_iter().zip(streams.workload.iter().map(AsFd::as_fd)));
        fds.extend(names.iter().map(String::as_str).zip(extra_fds.fds()));
        let channel = live.connect(Operation::Exec, &fds)?;
        drop(fds);
        let stdio::Streams { workload, caller } = streams;
        drop(workload);
        let deadline = Some(Instant::now() + START_LIMIT);
        let mut fds = loop {
            let Delivery { message, mut fds } =
                channel.receive::<ExecReply>(deadline).map_err(Error::from_sandbox)?;
            match message {
                ExecReply::Listener => {
                    let pid = client::pid_of(fds.take("pidfd")?.as_fd())?;
                    seccomp_agent::hand_over(&core.record, Status::Running, pid, fds)?;
                }
                ExecReply::Started => break fds,
                ExecReply::Failed(failure) => return Err(failure.into()),
            }
        };
        let pidfd = fds.take("pidfd")?;
        let taken = match taker {
            Some(taker) => fds.take_only("terminal").and_then(|master| taker.take(master)),
            None => fds.finish().map(|()| None),
        };
        let pty = taken.inspect_err(|_| {
            // It runs, but its terminal would never reach anybody.
            let _ = Signal::KILL.send(pidfd.as_fd());
        })?;
        // If it has ended already, only its end is of interest.
        let (pid, pid_inside) = client::pids_of(pidfd.as_fd()).unwrap_or_default();
        Ok(Self {
            pid,
            pid_inside,
            pidfd,
            channel,
            streams: caller,
            pty,
            end: OnceLock::new(),
            receiving: Arc::default(),
        })
    }

    /// Its pid on the host; 0 if it had ended before it could be asked.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its pid as the container counts; 0 if it had ended before it could be asked.
    #[must_use]
    pub fn pid_inside(&self) -> i32 {
        self.pid_inside
    }

    /// Waits for its end. Can be called again.
    ///
    /// # Errors
    /// [`ErrorKind::Ended`] if the sandbox was killed before it could report how the process ended.
    pub fn wait(&self) -> Result<ProcessExit> {
        self.wait_until(None).map(|exit| exit.expect("a wait without a deadline ends with an end"))
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn try_wait(&self) -> Result<Option<ProcessExit>> {
        self.wait_until(Some(Instant::now()))
    }

    /// Waits for its end, at most for `limit`.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, limit: Duration) -> Result<Option<ProcessExit>> {
        self.wait_until(Instant::now().checked_add(limit))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Result<Option<ProcessExit>> {
        if self.end.get().is_none() {
            if !wait_readable_until(self.channel.as_fd(), deadline)? {
                return Ok(None);
            }
            let _turn = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
            // Another thread may have been faster.
            if self.end.get().is_none() {
                let ProcessEnded(end) = self.channel.receive_now().map_err(Error::from_sandbox)?.message;
                self.end.set(end).unwrap_or_default();
            }
        }
        let sent = *self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(self.end.get().map(|end| ProcessExit::new(*end, sent)))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// [`ErrorKind::Ended`] if it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        send(&self.pidfd, &self.receiving, signal)
    }

    /// What sends it signals without this value.
    pub(in crate::container) fn sender(&self) -> Result<impl Fn(Signal) -> Result<()> + Send + use<>> {
        let pidfd = self.pidfd.try_clone().os(|| "fcntl(F_DUPFD_CLOEXEC, pidfd)")?;
        let last = Arc::clone(&self.receiving);
        Ok(move |signal| send(&pidfd, &last, signal))
    }

    /// Kills it and waits for its end. Descendants go on; they end with the container.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn kill(&self) -> Result<ProcessExit> {
        match self.signal(Signal::KILL) {
            Err(error) if *error.kind() != ErrorKind::Ended => Err(error),
            _ => self.wait(),
        }
    }

    /// The writing end of its standard input, if it is a pipe and was not taken yet.
    pub fn take_stdin(&mut self) -> Option<File> {
        self.streams[0].take()
    }

    /// The reading end of its standard output, if it is a pipe and was not taken yet.
    pub fn take_stdout(&mut self) -> Option<File> {
        self.streams[1].take()
    }

    /// The reading end of its standard error, if it is a pipe and was not taken yet.
    pub fn take_stderr(&mut self) -> Option<File> {
        self.streams[2].take()
    }

    /// Its terminal, if one was asked for and was not taken yet. Dropping it, or the process with it, hangs up.
    pub fn take_pty(&mut self) -> Option<Pty> {
        self.pty.take()
    }

    fn output(mut self, timeout: Option<(Duration, Instant)>, limit: usize) -> Result<ProcessOutput> {
        drop(self.take_stdin());
        let mut pipes = [self.take_stdout(), self.take_stderr()];
        let mut read = [Vec::new(), Vec::new()];
        let deadline = timeout.and_then(|(timeout, began)| began.checked_add(timeout));
        let (mut ended, mut truncated, mut timed_out) = (false, false, false);
        loop {
            // Once the process has ended only what is there already is read.
            let until = if ended { Some(Instant::now()) } else { deadline };
            let ready = self.wait_for_any(&pipes, ended, until)?;
            if ready == [false; 3] {
                if ended {
                    break;
                }
                timed_out = true;
                self.kill()?;
                ended = true;
                continue;
            }
            for ((pipe, bytes), _) in pipes.iter_mut().zip(&mut read).zip(ready).filter(|(_, ready)| *ready) {
                let Some(file) = pipe else { continue };
                let mut chunk = [0; 16 << 10];
                let room = chunk.len().min((limit - bytes.len()).saturating_add(1));
                match file.read(&mut chunk[..room]).os(|| "read(output)")? {
                    0 => *pipe = None,
                    count => bytes.extend_from_slice(&chunk[..count]),
                }
                if bytes.len() > limit {
                    bytes.truncate(limit);
                    truncated = true;
                }
            }
            if truncated {
                self.kill()?;
                break;
            }
            ended = ended || ready[2];
        }
        let mut exit = self.wait()?;
        if let (true, Some((after, _))) = (timed_out, timeout) {
            exit.outcome = Outcome::TimedOut { after };
        }
        let [stdout, stderr] = read;
        Ok(ProcessOutput { exit, stdout, stderr, truncated })
    }

    /// Which of stdout, stderr and the process's end is there, waiting until `until`.
    fn wait_for_any(
        &self,
        pipes: &[Option<File>; 2],
        ended: bool,
        until: Option<Instant>,
    ) -> Result<[bool; 3]> {
        let sources = pipes.iter().map(|pipe| pipe.as_ref().map(AsFd::as_fd));
        let sources: Vec<_> = sources.chain([(!ended).then(|| self.channel.as_fd())]).collect();
        let mut fds: Vec<_> =
            sources.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.map(|left| left.try_into()).transpose().unwrap_or(None);
        match poll(&mut fds, left.as_ref()) {
            Err(rustix::io::Errno::INTR) => return self.wait_for_any(pipes, ended, until),
            result => result.os(|| "poll(output)")?,
        };
        let mut revents = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut ready = [false; 3];
        for (ready, source) in ready.iter_mut().zip(&sources) {
            *ready = source.is_some() && revents.next().unwrap_or(false);
        }
        Ok(ready)
    }
}

fn send(pidfd: &OwnedFd, last: &Mutex<Option<Signal>>, signal: Signal) -> Result<()> {
    signal.send(pidfd.as_fd())?;
    *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(signal);
    Ok(())
}

impl AsFd for Process {
    /// Readable when the process has ended, for poll(2) and every event loop built on it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// What [`Container::exec_output`] collects.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProcessOutput {
    /// The end of the process; [`Outcome::TimedOut`] if it ran into its time limit.
    pub exit: ProcessExit,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    /// Whether it was killed because it wrote more than the limit to one of them. Neither is longer than the limit.
    pub truncated: bool,
}

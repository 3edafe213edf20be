//! [`Process`]: a process that [`Exec`] started in a container.

use super::exec::Exec;
use crate::cgroup::NewLeaf;
use crate::container::handle::{Handle, descriptors_of};
use crate::container::oci;
use crate::container::{Alive, Container, Enterable, Outcome, Phase, ProcessExit};
use crate::error::{ErrorKind, OsContext, Result};
use crate::helper::entry::reexec;
use crate::helper::exec_proxy;
use crate::helper::extra_fd_name;
use crate::helper::spawn::seal_plan;
use crate::link::client::START_LIMIT;
use crate::link::{SandboxAddress, SandboxLink, client};
use crate::process::Delivery;
use crate::process::channel::wait_readable_until;
use crate::process::console::{ConsoleSocket, Pty};
use crate::process::donation::Received;
use crate::process::stdio::CallerPipes;
use crate::process::{Channel, Collected, Lines, Signal, Stdio, collect, stdio};
use crate::wire::control::{ExecReply, KillTree, Operation, ProcessEnd, ProcessEnded, WaitReply};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::fs::File;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// A process executed in a container, in the shape of [`std::process::Child`].
///
/// Dropping the value changes nothing, unless the process is [`attached`](Exec::attached): it goes on until the
/// container ends, and [`Container::wait_pid`] can wait for it. As a descriptor ([`AsFd`]), the value is readable when
/// the process has ended.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    pid_inside: i32,
    pidfd: OwnedFd,
    channel: Channel,
    container: SandboxAddress,
    pipes: CallerPipes,
    pty: Option<Pty>,
    end: OnceLock<ProcessEnd>,
    /// Held while the end is received; the last signal sent.
    receiving: Arc<Mutex<Option<Signal>>>,
    /// For [`wait_with_output`](Self::wait_with_output).
    output_limit: u64,
}

/// An executed process that the sandbox has been asked for.
pub(in crate::container) struct Pending {
    channel: Channel,
    pipes: CallerPipes,
    /// The receiver of its terminal.
    taker: Option<ConsoleSocket>,
    deadline: Instant,
    output_limit: u64,
    /// Its cgroup, which goes with this value unless the process was started.
    leaf: Option<NewLeaf>,
}

impl Pending {
    /// Asks the sandbox. Does not wait for it.
    pub(in crate::container) fn ask(core: &Handle, live: &SandboxLink, exec: Exec) -> Result<Self> {
        let (plan, pipe_owner) = exec.plan(core)?;
        let extra_fds = exec.extra_fds.open()?;
        // Connect to the receiver of the terminal before there is one.
        let taker = exec.has_terminal().then(|| exec.console.find("exec")).transpose()?;
        let [stdin, stdout, stderr] = &exec.stdio;
        let streams = stdio::OpenedStdio::open([stdin, stdout, stderr], pipe_owner)?;
        let cgroups = exec.open_cgroups(core)?;
        let leaf = exec.make_leaf(core, live)?;
        let descriptors = descriptors_of(&streams.workload, &extra_fds);
        let plan = seal_plan(&plan.resolve(descriptors, leaf.as_ref().map(NewLeaf::number)))?;
        let names: Vec<_> = extra_fds.numbers.iter().map(|number| extra_fd_name(*number)).collect();
        let mut fds = vec![("plan", plan.as_fd())];
        let given = ["stdin", "stdout", "stderr"].into_iter().zip(&streams.workload);
        fds.extend(given.filter_map(|(name, stream)| Some((name, stream.given()?))));
        fds.extend(names.iter().map(String::as_str).zip(extra_fds.fds()));
        fds.extend(leaf.iter().flat_map(NewLeaf::fds).chain(cgroups.fds()));
        let channel = live.connect(Operation::Exec, &fds)?;
        drop(fds);
        let stdio::OpenedStdio { workload, caller: pipes } = streams;
        drop(workload);
        let deadline = Instant::now() + START_LIMIT;
        let leaf = leaf.map(NewLeaf::handed_over);
        Ok(Self { channel, pipes, taker, deadline, output_limit: exec.output_limit, leaf })
    }

    /// When the sandbox has to have answered.
    #[cfg(feature = "tokio")]
    pub(in crate::container) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes one answer of the sandbox, within the deadline: the process, or `self` again if more is to come.
    pub(in crate::container) fn hear(self, core: &Handle, live: &SandboxLink) -> Result<Heard> {
        let answer = self.channel.receive::<ExecReply>(Some(self.deadline));
        let Delivery { message, mut fds } = answer.map_err(|error| live.explain("exec", error))?;
        match message {
            ExecReply::Listener => {
                let pid = client::pid_of(fds.take("pidfd")?.as_fd())?;
                oci::hand_over_listener(&core.record, core.record.status(), pid, fds)?;
                Ok(Heard::More(self))
            }
            ExecReply::Started => self.started(fds, live).map(Heard::Started),
            ExecReply::Failed(failure) => Err(live.explain("exec", failure.into())),
        }
    }

    fn started(self, mut fds: Received, live: &SandboxLink) -> Result<Process> {
        self.leaf.into_iter().for_each(NewLeaf::keep);
        let pidfd = fds.take("pidfd")?;
        let taken = match self.taker {
            Some(taker) => fds.take_only("terminal").and_then(|master| taker.take(master)),
            None => fds.finish().map(|()| None),
        };
        let pty = taken.inspect_err(|_| {
            // The process runs, and no program would read its terminal: kill it.
            let _ = Signal::KILL.send(pidfd.as_fd());
        })?;
        // A process that has ended already has no pids, and its caller needs only the end.
        let (pid, pid_inside) = client::pids_of(pidfd.as_fd()).unwrap_or_default();
        Ok(Process {
            pid,
            pid_inside,
            pidfd,
            channel: self.channel,
            container: live.address().clone(),
            pipes: self.pipes,
            pty,
            end: OnceLock::new(),
            receiving: Arc::default(),
            output_limit: self.output_limit,
        })
    }
}

impl AsFd for Pending {
    /// Readable when the sandbox has answered.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// What the sandbox has said about a process.
pub(in crate::container) enum Heard {
    More(Pending),
    Started(Process),
}

impl Process {
    pub(super) fn start(core: &Handle, live: &SandboxLink, exec: Exec) -> Result<Self> {
        let mut pending = Pending::ask(core, live, exec)?;
        loop {
            match pending.hear(core, live)? {
                Heard::More(again) => pending = again,
                Heard::Started(process) => {
                    tracing::debug!(pid = process.pid, inside = process.pid_inside, "executed");
                    return Ok(process);
                }
            }
        }
    }

    /// Its pid on the host, in the caller's pid namespace; 0 if it had ended before this crate could read it.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.pid
    }

    /// A pidfd of the process (pidfd_open(2)), which never names another one, for programs that pass it on or signal the
    /// process with it.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Its pid in the container's pid namespace, for [`Container::signal_process`] and [`Container::wait_pid`]; 0 if
    /// it had ended before this crate could read it.
    #[must_use]
    pub fn pid_inside(&self) -> i32 {
        self.pid_inside
    }

    /// Waits for its end. Can be called again. Closes its standard input first, if that is a pipe and was not taken, as
    /// [`std::process::Child::wait`] does; the waits with a limit leave it open.
    ///
    /// # Errors
    /// [`ErrorKind::Ended`] if the sandbox was killed before it could report how the process ended.
    pub fn wait(&self) -> Result<ProcessExit> {
        self.pipes.close_stdin();
        self.wait_until(None).map(|exit| exit.expect("a wait without a deadline ends with an end"))
    }

    #[cfg(feature = "tokio")]
    pub(in crate::container) fn close_stdin(&self) {
        self.pipes.close_stdin();
    }

    #[cfg(feature = "tokio")]
    pub(in crate::container) fn output_limit(&self) -> u64 {
        self.output_limit
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
                let received = self.channel.receive_now();
                // Only the sandbox has the other end, and it ends before its processes do only if it is killed.
                let ProcessEnded(end) = received.map_err(|error| self.container.gone(error))?.message;
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

    /// Kills it, if it has not ended; then [`wait`](Self::wait) for its end. What it started goes on, and ends with the
    /// container: see [`kill_tree`](Self::kill_tree).
    ///
    /// # Errors
    /// The errno of pidfd_send_signal(2).
    pub fn kill(&self) -> Result<()> {
        match self.signal(Signal::KILL) {
            Err(error) if *error.kind() == ErrorKind::Ended => Ok(()),
            sent => sent,
        }
    }

    /// Kills it and everything that it started, if it has not ended; then [`wait`](Self::wait) for its end.
    ///
    /// That is each process whose parent, or parent's parent and so on, it is, and each process of its session and of
    /// the sessions of those: also a background job whose shell has ended. The sandbox stops all of them before it
    /// kills the first, so that none gets away meanwhile. A daemon (daemon(3)), which has left its session and lost its
    /// parent before, goes on until the container ends; so does what a process left behind that has ended by itself.
    /// From a process with a cgroup of its own, as with [`Exec::memory_limit`], no daemon gets away.
    ///
    /// # Errors
    /// The errno of sendmsg(2).
    pub fn kill_tree(&self) -> Result<()> {
        let mut last = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
        match self.channel.send(&KillTree {}, &[]) {
            Ok(()) => *last = Some(Signal::KILL),
            // The sandbox closed the connection when it had sent the end, which is received by `wait`.
            Err(error) if *error.kind() == ErrorKind::HelperDied => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Sends signals as [`signal`](Self::signal) does, without borrowing this value.
    pub(super) fn signal_sender(&self) -> Result<impl Fn(Signal) -> Result<()> + Send + use<>> {
        let pidfd = self.pidfd.try_clone().os(|| "fcntl(F_DUPFD_CLOEXEC, pidfd)")?;
        let last = Arc::clone(&self.receiving);
        Ok(move |signal| send(&pidfd, &last, signal))
    }

    /// Replaces this value by a small process on the host, a child of the calling program, and returns its pid. That
    /// proxy forwards the signals it gets, and ends when the process in the container has ended, with the same exit
    /// code or by the same signal. If this program ends first, the kernel gives it the parent that other orphans of
    /// this program get, such as a subreaper (prctl(2), `PR_SET_CHILD_SUBREAPER`).
    ///
    /// Engines expect this of `runc exec --detach`. The proxy holds none of the process's streams. An
    /// [`attached`](Exec::attached) process is killed when its proxy is, so that even SIGKILL reaches it.
    ///
    /// # Errors
    /// The system call that failed; [`ErrorKind::Unsupported`] where this program cannot be executed again.
    pub fn into_exec_proxy(self) -> Result<i32> {
        let Some(end) = self.end.get() else {
            return Ok(exec_proxy::start(reexec()?, self.pidfd.as_fd(), &self.channel)?.pid());
        };
        // This value has received the end already: send it once more, to the proxy.
        let (ours, theirs) = Channel::pair()?;
        ours.send(&ProcessEnded(*end), &[])?;
        Ok(exec_proxy::start(reexec()?, self.pidfd.as_fd(), &theirs)?.pid())
    }

    /// The writing end of its standard input, if it is a pipe and was not taken yet.
    pub fn take_stdin(&mut self) -> Option<File> {
        self.pipes.take_stdin()
    }

    /// The reading end of its standard output, if it is a pipe and was not taken yet.
    pub fn take_stdout(&mut self) -> Option<File> {
        self.pipes.take_stdout()
    }

    /// The reading end of its standard error, if it is a pipe and was not taken yet.
    pub fn take_stderr(&mut self) -> Option<File> {
        self.pipes.take_stderr()
    }

    /// Takes both reading ends, and reads them line by line. A stream that is no pipe, or was taken before, has no lines.
    pub fn take_lines(&mut self) -> Lines {
        Lines::new(self.take_stdout(), self.take_stderr())
    }

    /// The caller's end of its terminal, if [`Exec::terminal`] was called and the end was not taken yet. Dropping it,
    /// or this value with it, hangs up.
    pub fn take_pty(&mut self) -> Option<Pty> {
        self.pty.take()
    }

    /// Closes its standard input, collects what it writes to pipes, and waits for its end. This returns when
    /// the process has ended, even if descendants keep its streams open.
    ///
    /// A process that runs longer than [`Exec::timeout`] is killed, and so is one that writes more than
    /// [`Exec::output_limit`], with everything that it started. That is no error: see [`ProcessOutput`].
    ///
    /// # Errors
    /// As [`wait`](Self::wait), or the errno of reading a pipe.
    pub fn wait_with_output(mut self) -> Result<ProcessOutput> {
        let limit = self.output_limit;
        drop(self.take_stdin());
        let pipes = [self.take_stdout(), self.take_stderr()];
        // The pidfd, because the message about the end may have been received before.
        let Collected { stdout, stderr, too_much } = collect(&pipes, limit, self.pidfd.as_fd())?;
        if too_much {
            self.kill_tree()?;
        }
        let mut exit = self.wait()?;
        if too_much {
            exit.outcome = Outcome::TooMuchOutput { limit };
        }
        Ok(ProcessOutput { exit, stdout, stderr })
    }
}

fn send(pidfd: &OwnedFd, last: &Mutex<Option<Signal>>, signal: Signal) -> Result<()> {
    // Locked first: a thread that waits may see the process end of this signal before it is noted.
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    signal.send(pidfd.as_fd())?;
    *last = Some(signal);
    Ok(())
}

impl AsFd for Process {
    /// Readable when the process has ended, for poll(2) and every event loop built on it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl AsRawFd for Process {
    /// The number of [`as_fd`](AsFd::as_fd), for event loops that take numbers. It stays this value's.
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl<P: Phase + ?Sized> Container<P> {
    /// Executes a further process in the container: in its namespaces and cgroups, behind its seccomp filter.
    ///
    /// Returns when execve(2) has succeeded. Seen from inside, the process's parent is pid 0; it ends with the
    /// container. In a container that was not started it runs beside init, which waits to become the workload, and has
    /// no influence on the container's outcome.
    ///
    /// # Errors
    /// [`ErrorKind::ProgramNotFound`], [`ErrorKind::ProgramNotExecutable`], [`ErrorKind::InvalidSpec`] naming the
    /// field (an unknown user, a working directory that is missing), [`ErrorKind::Os`] with the errno of the call that
    /// failed, [`ErrorKind::TimedOut`] if [`Exec::timeout`] passed before, [`ErrorKind::Ended`] if the container has
    /// ended.
    pub fn exec(&self, exec: Exec) -> Result<Process>
    where
        P: Enterable,
    {
        Process::start(&self.core, self.phase.live(), exec)
    }

    /// Executes a process, collects what it writes, and waits for its end.
    ///
    /// Standard input is empty unless it was set. This returns when the process has ended, even if descendants keep its
    /// streams open.
    ///
    /// # Errors
    /// As [`exec`](Self::exec), or the errno of reading a pipe. A process that exceeds its time or output limit is no
    /// error: see [`ProcessOutput`].
    pub fn exec_output(&self, mut exec: Exec) -> Result<ProcessOutput>
    where
        P: Enterable,
    {
        exec.stdio[1] = Stdio::piped();
        exec.stdio[2] = Stdio::piped();
        self.exec(exec)?.wait_with_output()
    }

    /// Waits for the end of a process that was executed in the container, by its pid inside. Any process that loaded
    /// the container can do so. The sandbox forgets the process after the first wait.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if no executed process has this pid, or if it was waited for already;
    /// [`ErrorKind::Ended`] if the container ended first.
    pub fn wait_pid(&self, pid: i32) -> Result<ProcessExit>
    where
        P: Alive,
    {
        let live = self.phase.live();
        let channel = live.connect(Operation::WaitProcess { pid }, &[])?;
        match channel.receive::<WaitReply>(None).map_err(|error| live.explain("wait", error))?.message {
            WaitReply::Ended(end) => Ok(ProcessExit::new(end, None)),
            WaitReply::Failed(failure) => Err(live.explain("wait", failure.into())),
        }
    }
}

/// What [`Container::exec_output`] and [`Process::wait_with_output`] collect.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProcessOutput {
    /// The end of the process; [`Outcome::TimedOut`] if it exceeded its time limit, [`Outcome::TooMuchOutput`] if it
    /// wrote more than [`Exec::output_limit`] to one of its streams.
    pub exit: ProcessExit,
    /// What it wrote to standard output, up to the limit.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, up to the limit.
    pub stderr: Vec<u8>,
}

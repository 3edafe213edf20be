//! The reaper: PID 1 of a container's pid namespace. It collects orphans, so that the workload need not be PID 1.
//!
//! ```text
//!   sandbox                                reaper               init
//!      |  new pid namespace for children
//!      |-- clone(VM, VFORK) --------------->|  execve
//!      |-- clone --------------------------------------------------->|
//!      |  own pid namespace for children
//!      |<--------------------------------------------- Ready --------|
//!      |-- BecomeReaper ------------------->|  enter init's namespaces, give up everything
//!      |<- end of file, or what failed -----|
//! ```
//!
//! The sandbox is the parent of both, so it signals the workload and collects its status and usage as it does without a
//! reaper. A privileged process in the container may read the memory of PID 1 (ptrace(2)). So the reaper keeps nothing
//! of the sandbox: it executes a program of one page, with no descriptor, no environment and no capability, in the
//! workload's namespaces and root.
//!
//! The program only waits. It ignores SIGCHLD, so the kernel collects its children, and from inside its pid namespace
//! the kernel delivers it no signal. When the sandbox kills the reaper, the kernel kills every other process there.
//!
//! What was executed in a user namespace may be traced by a process that is privileged there. If there can be one before
//! init is ready, because another container has the user namespace too, the reaper enters the namespaces first and
//! executes the program last. For that it is a copy of the sandbox, which takes the kernel longer to make, and a process
//! between forks it and init ([`fork_two_inside`](sys::fork_two_inside())).

use super::init::file_systems::new_fs;
use super::members;
use super::namespaces;
use crate::error::{Actor, Error, ErrorKind, OsContext, RemoteFailure, Result};
use crate::plan::{CloneFlags, NamespacePlan};
use crate::process::Channel;
use crate::process::channel::{wait_readable, wait_readable_until};
use crate::process::donation::NamedFd;
use crate::process::memory::{executable_memfd, seal};
use crate::spec::{MountAttrs, NamespaceKind};
use crate::sys::{self, Entering, InitProgram, MountAttr};
use crate::wire::init::{BecomeReaper, ReaperFailed};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long the reaper may take from [`BecomeReaper`] to the end of its connection: a few system calls.
const LIMIT: Duration = Duration::from_secs(10);

/// PID 1 of the container, as its parent holds it.
pub(super) struct Reaper {
    pid: Pid,
    pub(super) pidfd: OwnedFd,
    /// The connection to it, until its program runs and has given everything up.
    channel: Option<Channel>,
    /// The container's network namespace, until [`enter`](Self::enter) sends it.
    network: Option<OwnedFd>,
    program: InitProgram,
    executes_first: bool,
    /// Whether it is PID 1 of a pid namespace above the container's, which has a PID 1 of its own.
    above: bool,
}

/// What the fork of a reaper needs.
pub(super) struct ReaperSetup {
    ours: Channel,
    theirs: Channel,
    program: InitProgram,
    file: OwnedFd,
    /// Whether it executes the program before it enters the workload's namespaces.
    executes_first: bool,
    /// What went wrong, from a reaper that ran on this memory.
    failed: Cell<Option<Error>>,
}

impl ReaperSetup {
    /// A reaper that executes its program when init is ready.
    pub(super) fn new() -> Result<Self> {
        Self::executing(InitProgram::settled(), false)
    }

    fn executing(program: InitProgram, executes_first: bool) -> Result<Self> {
        let file = in_memfd(&program.file).or_else(|_| in_file_system(&program.file))?;
        let (ours, theirs) = Channel::pair()?;
        Ok(Self { ours, theirs, program, file, executes_first, failed: Cell::new(None) })
    }

    /// The reaper, in the sandbox: the fork returned `pid`.
    pub(super) fn forked(self, pid: Pid) -> Result<Reaper> {
        let Self { ours, theirs, program, file, executes_first, .. } = self;
        // The reaper has its own copies. This makes room for its pidfd, and for init's.
        drop((theirs, file));
        let pidfd = members::hold_child(pid, "reaper")?;
        Ok(Reaper { pid, pidfd, channel: Some(ours), network: None, program, executes_first, above: false })
    }

    /// Runs in the new process, and returns only if that cannot execute the program.
    pub(super) fn run(&self) {
        let prepared = self.prepare().and_then(|()| if self.executes_first { Ok(()) } else { self.settle() });
        let error = match prepared.and_then(|()| self.become_stdin()) {
            Ok(()) => {
                let errno = sys::execute_file(self.file.as_fd(), c"init");
                Error::new(ErrorKind::Os(errno.raw_os_error()), "execveat(init)", errno.to_string())
            }
            Err(error) => error,
        };
        if self.executes_first {
            self.failed.set(Some(error));
        } else {
            let _ = self.theirs.send(&ReaperFailed(RemoteFailure::pack(Actor::Init, &error)), &[]);
        }
    }

    fn prepare(&self) -> Result<()> {
        sys::close_all_but(&[self.theirs.as_fd(), self.file.as_fd()]).os(|| "close_range()")?;
        rustix::thread::set_name(c"init").os(|| "prctl(PR_SET_NAME)")?;
        // Where the sandbox has no pid namespace of its own, the kernel does not end its children with it.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .os(|| "prctl(PR_SET_PDEATHSIG)")?;
        rustix::process::setsid().os(|| "setsid()")?;
        sys::unblock_signals();
        sys::ignore_signals();
        Ok(())
    }

    /// Enters the namespaces of init when it is ready, and gives up everything: what [`InitProgram::entering`] does in
    /// the program.
    fn settle(&self) -> Result<()> {
        let mut handles = self.theirs.receive::<BecomeReaper>(None)?.fds;
        if let Some(network) = handles.take_optional("network") {
            namespaces::join_network(network)?;
        }
        let (cgroup, mount) = (handles.take_optional("cgroup"), handles.take_optional("mount"));
        let root = handles.take_optional("root");
        let mount = mount.as_ref().zip(root.as_ref());
        let mount = mount.map(|(mount, root)| [mount.as_fd(), root.as_fd()]);
        namespaces::follow(cgroup.as_ref().map(AsFd::as_fd), mount)?;
        handles.finish()?;
        shed()
    }

    /// The program starts with one descriptor, the connection, and closes it to tell the sandbox that all is done.
    fn become_stdin(&self) -> Result<()> {
        become_stdin(&self.theirs)
    }
}

fn become_stdin(sandbox: &Channel) -> Result<()> {
    rustix::stdio::dup2_stdin(sandbox).os(|| "dup2(stdin)")?;
    sys::close_stdout_and_stderr().os(|| "close_range(1, 2)")
}

/// Gives up every capability.
fn shed() -> Result<()> {
    rustix::thread::set_no_new_privs(true).os(|| "prctl(PR_SET_NO_NEW_PRIVS)")?;
    rustix::thread::clear_ambient_capability_set().os(|| "prctl(PR_CAP_AMBIENT_CLEAR_ALL)")?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    // After no_new_privs, because execve(2) would otherwise give uid 0 its capabilities back.
    rustix::thread::set_capabilities(None, sets).os(|| "capset(0)")
}

/// In an init that is PID 1 of a pid namespace above the container's: becomes a reaper there, with `sandbox` as the
/// connection that is closed then.
pub(super) fn stay(sandbox: &Channel) -> ! {
    let execute = || -> Result<()> {
        let program = InitProgram::settled();
        let file = in_memfd(&program.file).or_else(|_| in_file_system(&program.file))?;
        sys::close_all_but(&[sandbox.as_fd(), file.as_fd()]).os(|| "close_range()")?;
        sys::ignore_signals();
        shed()?;
        become_stdin(sandbox)?;
        let errno = sys::execute_file(file.as_fd(), c"init");
        Err(errno).os(|| "execveat(init)")
    };
    if let Err(error) = execute() {
        let _ = sandbox.send(&ReaperFailed(RemoteFailure::pack(Actor::Init, &error)), &[]);
    }
    sys::exit_now(1)
}

/// The namespaces that a reaper enters when init is ready, in the order in which [`Reaper::enter`] sends them.
fn entered_later(namespaces: &NamespacePlan) -> Vec<Entering> {
    let later = namespaces.of_reaper();
    let all = [
        (namespaces.network, Entering::Network),
        (later.contains(CloneFlags::NEWCGROUP), Entering::Cgroup),
        (later.contains(CloneFlags::NEWNS), Entering::Mount),
    ];
    all.into_iter().filter_map(|(is_entered, namespace)| is_entered.then_some(namespace)).collect()
}

fn in_memfd(program: &[u8]) -> Result<OwnedFd> {
    let file = executable_memfd("init")?;
    rustix::io::write(&file, program).os(|| "write(memfd)")?;
    rustix::fs::fchmod(&file, PROGRAM_MODE).os(|| "fchmod(memfd)")?;
    seal(file.as_fd())?;
    Ok(file)
}

/// The program in a detached tmpfs, for hosts that let no memfd be executed (`vm.memfd_noexec`).
fn in_file_system(program: &[u8]) -> Result<OwnedFd> {
    let mount = new_fs("tmpfs", &["mode=0555".to_owned()], MountAttrs::NOSUID | MountAttrs::NODEV)?;
    let open = |flags| {
        rustix::fs::openat(&mount, "init", flags | OFlags::CLOEXEC, PROGRAM_MODE).os(|| "openat(\"init\")")
    };
    rustix::io::write(open(OFlags::WRONLY | OFlags::CREATE)?, program).os(|| "write(\"init\")")?;
    let read_only = MountAttr::change(libc::MOUNT_ATTR_RDONLY, 0);
    sys::mount_setattr(mount.as_fd(), &read_only, false).os(|| "mount_setattr(MOUNT_ATTR_RDONLY)")?;
    open(OFlags::PATH)
}

const PROGRAM_MODE: Mode = Mode::from_raw_mode(0o555);

/// Whether the reaper of a container that has its sandbox to itself can execute its program before init is ready. Not
/// without a pid namespace of the sandbox's own: in another one, which may belong to another user namespace, the kernel
/// need not let it start children again.
pub(super) fn can_execute_first(namespaces: &NamespacePlan) -> bool {
    let mut joined = namespaces.join.iter().chain(&namespaces.join_first);
    namespaces.with_sandbox.contains(CloneFlags::NEWPID)
        && !joined.any(|(kind, _)| *kind == NamespaceKind::User)
}

impl Reaper {
    /// Makes a reaper that has executed its program, in the pid namespace of this process's children.
    pub(super) fn spawn(namespaces: &NamespacePlan) -> Result<Self> {
        let setup = ReaperSetup::executing(InitProgram::entering(&entered_later(namespaces)), true)?;
        let (pid, pidfd) = sys::spawn_sharing(|| setup.run()).os(|| "clone3(reaper)")?;
        if let Some(error) = setup.failed.take() {
            let _ = sys::wait4(pid);
            return Err(error);
        }
        let ReaperSetup { ours, program, executes_first, .. } = setup;
        Ok(Self { pid, pidfd, channel: Some(ours), network: None, program, executes_first, above: false })
    }

    /// An init that [stays](stay()) in a pid namespace above the container's. `channel` is the connection to it.
    pub(super) fn above(pid: Pid, pidfd: OwnedFd, channel: Channel) -> Self {
        let program = InitProgram::settled();
        Self {
            pid,
            pidfd,
            channel: Some(channel),
            network: None,
            program,
            executes_first: false,
            above: true,
        }
    }

    /// Whether it is PID 1 of the container's pid namespace.
    pub(super) fn is_inside(&self) -> bool {
        !self.above
    }

    /// Keeps the container's network namespace, which the sandbox has made, for [`enter`](Self::enter).
    pub(super) fn keep_network(&mut self, network: OwnedFd) {
        self.network = Some(network);
    }

    /// Once init is ready: has the reaper enter `namespaces`, those of init's that it is not in, and give up everything.
    pub(super) fn enter(&mut self, namespaces: &[NamedFd<'_>]) -> Result<()> {
        let Some(channel) = &self.channel else { return Ok(()) };
        let network = self.network.take();
        let network = network.iter().map(|network| ("network", network.as_fd()));
        let namespaces: Vec<_> = network.chain(namespaces.iter().copied()).collect();
        channel.send(&BecomeReaper {}, &namespaces)
    }

    /// Waits until it is in them, has given up everything, and runs its program. By the time of start it usually does.
    pub(super) fn await_program(&mut self) -> Result<()> {
        let Some(channel) = &self.channel else { return Ok(()) };
        wait_readable(channel.as_fd(), Instant::now() + LIMIT)?;
        if self.executes_first {
            let mut written = [0; 16];
            let length = rustix::io::read(channel, &mut written).unwrap_or_default();
            if let Some((call, errno)) = self.program.failure(&written[..length]) {
                return Err(rustix::io::Errno::from_raw_os_error(errno)).os(|| call);
            }
        } else if let Ok(failure) = channel.receive_now::<ReaperFailed>() {
            return Err(failure.message.0.into());
        }
        self.channel = None;
        match self.has_ended() {
            true => Err(Error::new(ErrorKind::HelperDied, "init", "PID 1 ended before the start")),
            false => Ok(()),
        }
    }

    /// Kills the reaper; the kernel then kills every other process of its pid namespace.
    pub(super) fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for the end of the reaper and collects it. It ends as the last process of its pid namespace.
    pub(super) fn collect(&self) {
        let _ = sys::wait4(self.pid);
    }

    /// Whether the reaper is exiting, by the container's `proc`.
    pub(super) fn is_ending(proc: BorrowedFd<'_>) -> bool {
        members::find(proc, REAPER_PID).ok().flatten().is_none_or(|reaper| reaper.is_exiting())
    }

    fn has_ended(&self) -> bool {
        wait_readable_until(self.pidfd.as_fd(), Some(Instant::now())).unwrap_or(false)
    }
}

/// Its pid in the container.
pub(super) const REAPER_PID: i32 = 1;

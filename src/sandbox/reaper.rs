//! The reaper: PID 1 of a container's pid namespace. It collects orphans, so that the workload need not be PID 1.
//!
//! ```text
//!   sandbox                 intermediate process               reaper               init
//!      |-- clone(VM, VFORK) -->|  new namespaces
//!      |                       |-- clone(PARENT) ------------->|
//!      |                       |-- clone(PARENT) ---------------------------------->|
//!      |<------------------------------------------------------------- Ready -------|
//!      |------ BecomeReaper ---------------------------------->|  enter init's namespaces, give up everything, execve
//!      |<----- end of file: its program runs; or ReaperFailed -|
//! ```
//!
//! The sandbox is the parent of both, so it signals the workload and collects its status and usage as it does without a
//! reaper. A privileged process in the container may read the memory of PID 1 (ptrace(2)). So the reaper keeps nothing
//! of the sandbox: it executes a program of one page, with no descriptor, no environment and no capability, in the
//! workload's namespaces and root.
//!
//! The program only waits. It ignores SIGCHLD, so the kernel collects its children, and from inside its pid namespace
//! the kernel delivers it no signal. When the sandbox kills the reaper, the kernel kills every other process there.

use super::init::file_systems::new_fs;
use super::members;
use super::namespaces;
use crate::error::{Actor, Error, ErrorKind, OsContext, RemoteFailure, Result};
use crate::process::Channel;
use crate::process::channel::wait_readable_until;
use crate::process::donation::NamedFd;
use crate::process::memory::{executable_memfd, seal};
use crate::spec::MountAttrs;
use crate::sys::{self, MountAttr};
use crate::wire::init::{BecomeReaper, ReaperFailed};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::time::{Duration, Instant};

/// How long the reaper may take from [`BecomeReaper`] to the end of its connection: a few system calls.
const LIMIT: Duration = Duration::from_secs(10);

/// PID 1 of the container, as its parent holds it.
pub(super) struct Reaper {
    pid: Pid,
    pub(super) pidfd: OwnedFd,
    /// The connection to it, until its program runs.
    channel: Option<Channel>,
    /// The container's network namespace, until [`execute_program`](Self::execute_program) sends it.
    network: Option<OwnedFd>,
}

/// What the fork of a reaper needs.
pub(super) struct ReaperSetup {
    ours: Channel,
    theirs: Channel,
    program: OwnedFd,
}

impl ReaperSetup {
    pub(super) fn new() -> Result<Self> {
        let bytes = sys::init_program();
        let program = in_memfd(&bytes).or_else(|_| in_file_system(&bytes))?;
        let (ours, theirs) = Channel::pair()?;
        Ok(Self { ours, theirs, program })
    }

    /// The reaper, in the sandbox: the fork returned `pid`.
    pub(super) fn forked(self, pid: Pid) -> Result<Reaper> {
        let Self { ours, theirs, program } = self;
        // The reaper has its own copies. This makes room for its pidfd, and for init's.
        drop((theirs, program));
        Ok(Reaper { pid, pidfd: members::hold_child(pid, "reaper")?, channel: Some(ours), network: None })
    }

    /// Runs in the new process, and never returns to the sandbox's code.
    pub(super) fn run(&self) -> ! {
        let error = match self.prepare() {
            Ok(()) => {
                let errno = sys::execute_file(self.program.as_fd(), c"init");
                Error::new(ErrorKind::Os(errno.raw_os_error()), "execveat(init)", errno.to_string())
            }
            Err(error) => error,
        };
        let _ = self.theirs.send(&ReaperFailed(RemoteFailure::pack(Actor::Init, &error)), &[]);
        sys::exit_now(1)
    }

    fn prepare(&self) -> Result<()> {
        sys::close_all_but(&[self.theirs.as_fd(), self.program.as_fd()]).os(|| "close_range()")?;
        rustix::thread::set_name(c"init").os(|| "prctl(PR_SET_NAME)")?;
        // Where the sandbox has no pid namespace of its own, the kernel does not end its children with it.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .os(|| "prctl(PR_SET_PDEATHSIG)")?;
        rustix::process::setsid().os(|| "setsid()")?;
        sys::unblock_signals();
        sys::ignore_signals();

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

        rustix::thread::set_no_new_privs(true).os(|| "prctl(PR_SET_NO_NEW_PRIVS)")?;
        rustix::thread::clear_ambient_capability_set().os(|| "prctl(PR_CAP_AMBIENT_CLEAR_ALL)")?;
        let none = CapabilitySet::empty();
        let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
        // After no_new_privs, because execve(2) would otherwise give uid 0 its capabilities back.
        rustix::thread::set_capabilities(None, sets).os(|| "capset(0)")?;
        // The program starts with one descriptor, the connection, and closes it to tell the sandbox that it runs.
        rustix::stdio::dup2_stdin(&self.theirs).os(|| "dup2(stdin)")?;
        sys::close_stdout_and_stderr().os(|| "close_range(1, 2)")
    }
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

impl Reaper {
    /// Keeps the container's network namespace, which the sandbox has made, for [`execute_program`](Self::execute_program).
    pub(super) fn keep_network(&mut self, network: OwnedFd) {
        self.network = Some(network);
    }

    /// Once init is ready: has the reaper enter `namespaces`, those of init's that it is not in, and execute its program.
    pub(super) fn execute_program(&mut self, namespaces: &[NamedFd<'_>]) -> Result<()> {
        let Some(channel) = &self.channel else { return Ok(()) };
        let network = self.network.take();
        let network = network.iter().map(|network| ("network", network.as_fd()));
        let namespaces: Vec<_> = network.chain(namespaces.iter().copied()).collect();
        channel.send(&BecomeReaper {}, &namespaces)
    }

    /// Waits until the program runs. By the time of start it usually does.
    pub(super) fn await_program(&mut self) -> Result<()> {
        let Some(channel) = &self.channel else { return Ok(()) };
        match channel.receive::<ReaperFailed>(Some(Instant::now() + LIMIT)) {
            Ok(failure) => return Err(failure.message.0.into()),
            Err(error) if *error.kind() == ErrorKind::TimedOut => return Err(error),
            Err(_) => self.channel = None,
        }
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

//! The zygote: one helper that was executed beforehand and becomes the others by fork, for callers who make many
//! containers.
//!
//! ```text
//!   caller --fork: helper, descriptors--> zygote --clone3(CLONE_PARENT)--> gofer or sandbox, a child of the caller
//!          <---- forked: pid, pidfd ------
//! ```
//!
//! [`mod@serve`] is the zygote's own side. [`caller_snapshot`] is what a forked helper inherits from the zygote and would
//! otherwise have from the caller: compared before each container. [`Spawner`] is what the rest of the crate starts
//! gofers and sandboxes with, whether there is a zygote or not.

mod caller_snapshot;
mod serve;

pub(crate) use serve::serve;

use super::spawn::{Start, spawn};
use super::{Child, Donations};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::process::Channel;
use crate::process::donation::NamedFd;
use crate::wire::boot::{BIRTH_CGROUP, ForkReply, ForkRequest, ZygoteReport};
use crate::wire::frame::MAX_FDS;
use caller_snapshot::CallerSnapshot;
use rustix::fd::AsFd;
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use rustix::thread::CapabilitySet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// `argv[0]` of a zygote, as `ps` shows it.
pub(crate) const ZYGOTE: &str = "cofferdam-zygote";
/// How long a zygote may take to answer: a fork of a small process, on a host however busy.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A process that stands ready to become the helpers of containers, so that none of them has to be executed first.
///
/// The term is Android's and Chrome's: a process that has started up once, from which others are forked. Without one,
/// the gofer and the sandbox of every container are this program executed again, and most of what a short container
/// costs is the dynamic linker. With one they are forked from a process that has that behind it. For programs that make
/// containers all the time: judges, build services, agents. One is enough for all threads.
///
/// ```no_run
/// use cofferdam::{ContainerBuilder, Zygote};
///
/// # fn main() -> cofferdam::Result<()> {
/// let zygote = Zygote::spawn()?;
/// for number in 0..1000 {
///     ContainerBuilder::new(format!("job-{number}")).zygote(&zygote).args(["true"]).run()?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// This is a handle; its clones are handles on the same process. When the last one and the last builder or container
/// to be created with it are dropped, the process is ended and collected. It also ends with this program, however that
/// ends. Containers that exist do not depend on it.
///
/// # What it costs
///
/// One more process, which waits, with about a megabyte of its own. Gofers and sandboxes need less memory in return,
/// because they share with it what they have not changed. They also share the layout of their memory (ASLR is drawn
/// at execve(2)): [`manual::promises`](crate::manual::promises) says what that means.
///
/// # What is as it was when it was made
///
/// A forked helper inherits from the zygote. What decides about privilege, and what a container could notice, is
/// compared for each container, and a difference is [`ErrorKind::OutdatedZygote`]: ids, groups, capabilities,
/// no_new_privs, seccomp filters, security label, namespaces, root directory, resource limits. So make it after all of
/// these are as they are to be. The umask is the caller's at the time, and the working directory is nobody's concern:
/// every path of a plan is absolute.
///
/// What is left is as it was for the thread that made the zygote: its cgroup, OOM score, scheduling, processor affinity,
/// and Landlock rules, which nobody can look up. Whoever takes over this program has what the zygote may do, as with any
/// descriptor or child that it kept.
///
/// # Errors
///
/// A zygote that was killed is [`ErrorKind::HelperDied`] for the next container created with it, and for all after
/// that; nothing is left of them. So is one whose answer could not be received, as where this program has no number for
/// another descriptor: that error is the first's, and the zygote is ended. Make another.
#[derive(Clone, Debug)]
pub struct Zygote(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    process: Child,
    /// `None` when it did not answer as it should: what it says later would be taken for the answer to something else.
    line: Mutex<Option<ZygoteConnection>>,
    caller_snapshot: CallerSnapshot,
}

/// Where it is asked.
#[derive(Debug)]
struct ZygoteConnection {
    channel: Channel,
    /// Memory in which the kernel itself writes the pid of what is forked, so that it is known also if the zygote is
    /// killed before it can say so.
    newest: File,
    /// The last one that it did say.
    known: i32,
}

impl Zygote {
    /// Executes the zygote, and waits until it is ready: some milliseconds.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if this crate is not part of the main executable, or if the caller's children are
    /// born in another pid namespace than its own, where nothing can be forked that is the caller's child; else the
    /// system call that failed.
    pub fn spawn() -> Result<Self> {
        let caller_snapshot = CallerSnapshot::of_this_thread()?;
        let (channel, theirs) = Channel::pair()?;
        let newest = rustix::fs::memfd_create("cofferdam-newest", MemfdFlags::CLOEXEC)
            .os(|| "memfd_create(newest)")?;
        rustix::fs::ftruncate(&newest, size_of::<i32>() as u64).os(|| "ftruncate(newest)")?;
        let mut donations = Donations::default();
        donations.give("requests", &theirs);
        donations.give("newest", &newest);
        let process = spawn(&Start { name: ZYGOTE, namespaces: 0, cgroup: None }, &donations)?;
        let pid = process.pid();
        let line = ZygoteConnection { channel, newest: newest.into(), known: 0 };
        let zygote = Self(Arc::new(Inner { process, line: Mutex::new(None), caller_snapshot }));
        drop(theirs);
        let deadline = Some(Instant::now() + ANSWER_LIMIT);
        match line.channel.receive::<ZygoteReport>(deadline).map_err(|error| error.during(ZYGOTE))?.message {
            ZygoteReport::Ready { pid: own } if own == pid => {}
            ZygoteReport::Failed(failure) => return Err(failure.into()),
            ZygoteReport::Ready { .. } => {
                let problem = "the caller's children are born in another pid namespace";
                return Err(Error::unsupported("zygote", problem));
            }
        }
        *zygote.0.line.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
        Ok(zygote)
    }

    /// The pid of the process, as `ps` shows it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.0.process.pid()
    }

    /// One request and its answer; other threads wait for their turn.
    fn fork(&self, request: &ForkRequest, fds: &[NamedFd<'_>]) -> Result<Child> {
        let mut guard = self.0.line.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = guard.as_mut() else { return Err(gone("it did not survive an earlier request")) };
        let error = match line.channel.send(request, fds).map(|()| line.answer()) {
            Ok(Ok(forked)) => return forked.os(|| format!("spawn {}: clone3", request.helper)),
            Ok(Err(error)) => error,
            Err(error) if *error.kind() == ErrorKind::HelperDied => error,
            // Nothing was said, and it is as it was.
            Err(error) => return Err(error.during(ZYGOTE)),
        };
        self.0.process.destroy();
        guard.take().expect("it was there above").collect_the_unknown();
        match error.kind() {
            ErrorKind::HelperDied => Err(gone("it was killed")),
            _ => Err(error.during(ZYGOTE)),
        }
    }
}

fn gone(problem: &str) -> Error {
    Error::new(ErrorKind::HelperDied, ZYGOTE, problem).hint("make another: Zygote::spawn")
}

impl ZygoteConnection {
    /// The child, or why the zygote could not make it.
    fn answer(&mut self) -> Result<Result<Child, Errno>> {
        let delivery = self.channel.receive::<ForkReply>(Some(Instant::now() + ANSWER_LIMIT))?;
        match delivery.message {
            ForkReply::Forked { pid } => {
                let pidfd = delivery.fds.take_only("pidfd")?;
                let pid = Some(pid).filter(|pid| *pid > 0).and_then(Pid::from_raw);
                let pid = pid.ok_or_else(|| {
                    Error::new(ErrorKind::PeerMisbehaved, "fork", "the answer has no valid pid")
                })?;
                self.known = pid.as_raw_nonzero().get();
                Ok(Ok(Child::new(pid, pidfd)))
            }
            ForkReply::Refused { errno } => Ok(Err(Errno::from_raw_os_error(errno))),
        }
    }

    /// Ends and collects what the zygote, which is gone, forked and did not tell of.
    fn collect_the_unknown(self) {
        let Self { channel, newest, known } = self;
        let mut pid = [0; size_of::<i32>()];
        let read = newest.read_exact_at(&mut pid, 0);
        // What could not be received may have found no number: now there are two.
        drop((channel, newest));
        let Some(pid) = Pid::from_raw(i32::from_ne_bytes(pid)).filter(|_| read.is_ok()) else { return };
        if pid.as_raw_nonzero().get() == known {
            return;
        }
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        // Where somebody collects every child, the number may be another's by now, who is no child of ours.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if waitid(WaitId::PidFd(pidfd.as_fd()), look).is_ok() {
            Child::new(pid, pidfd).destroy();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.process.destroy();
    }
}

/// How the gofer and the sandbox of one container are started.
#[derive(Debug)]
pub(crate) enum Spawner {
    /// Each executes this program.
    Exec,
    /// They are forked from the zygote, to work under this umask.
    Zygote { zygote: Zygote, umask: u32 },
}

impl Spawner {
    /// Fails if a helper of `zygote` would not be what one of this thread's would be.
    pub(crate) fn of(zygote: Option<&Zygote>) -> Result<Self> {
        let Some(zygote) = zygote else { return Ok(Self::Exec) };
        let now = CallerSnapshot::of_this_thread()?;
        now.check(&zygote.0.caller_snapshot)?;
        Ok(Self::Zygote { zygote: zygote.clone(), umask: now.umask() })
    }

    pub(crate) fn spawn(&self, start: &Start<'_>, donations: &Donations<'_>) -> Result<Child> {
        let Self::Zygote { zygote, umask } = self else { return spawn(start, donations) };
        let mut fds = donations.named();
        fds.extend(start.cgroup.map(|cgroup| (BIRTH_CGROUP, cgroup)));
        if fds.len() > MAX_FDS || !can_be_looked_into(start.namespaces)? {
            return spawn(start, donations);
        }
        let request =
            ForkRequest { helper: start.name.to_owned(), namespaces: start.namespaces, umask: *umask };
        zygote.fork(&request, &fds)
    }
}

/// Whether the caller could look into a forked helper with these new namespaces. Memory belongs to the user namespace
/// that it was executed in: a sandbox that was forked into a new one remains the host's, and who may look into it is
/// decided there (ptrace(2), "Ptrace access mode checking"). One that was executed inside is its creator's.
fn can_be_looked_into(namespaces: u32) -> Result<bool> {
    if namespaces & libc::CLONE_NEWUSER.cast_unsigned() == 0 {
        return Ok(true);
    }
    let effective = rustix::thread::capabilities(None).os(|| "capget()")?.effective;
    Ok(effective.contains(CapabilitySet::SYS_PTRACE))
}

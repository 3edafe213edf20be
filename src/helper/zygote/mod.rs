//! The zygote: one helper that is executed beforehand and forks the others, for callers that make many containers.
//!
//! ```text
//!   caller --fork: helper, descriptors--> zygote --clone3(CLONE_PARENT)--> gofer or sandbox, a child of the caller
//!          <---- forked: pid, pidfd ------
//! ```
//!
//! [`mod@serve`] is the zygote's own side. [`caller_snapshot`] holds what a forked helper inherits from the zygote, and
//! an executed one from the caller; the two are compared before each container. The rest of the crate starts gofers and
//! sandboxes with [`Spawner`], whether there is a zygote or not.

mod caller_snapshot;
mod serve;

pub(crate) use serve::{ZYGOTE, serve};

use super::entry::reexec;
use super::spawn::{Reexec, Start, spawn};
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

/// How long a zygote may take to answer. It forks a small process, but the host may be very busy.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A process that forks the helpers of containers, so that none of them has to be executed.
///
/// The term is Android's and Chrome's: a process that starts up once, and from which others are forked. Without a
/// zygote, this program is executed again for the gofer and the sandbox of every container, and most of the time that a
/// short container takes goes into the dynamic linker. A fork of a zygote saves that. It is for programs that make
/// containers all the time: judges, build services, agents. One zygote is enough for all threads.
///
/// ```no_run
/// use cofferdam::{ContainerBuilder, Zygote};
///
/// # fn main() -> cofferdam::Result<()> {
/// let zygote = Zygote::spawn()?;
/// for number in 0..1000 {
///     ContainerBuilder::new().zygote(&zygote).args(["true"]).run()?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// This is a handle; its clones are handles on the same process. The process is killed and collected when the last
/// handle is dropped, and the last builder or container that will be created with it. It also ends with this program,
/// however that ends. Containers that exist do not depend on it.
///
/// # What it costs
///
/// One more process, which waits, with about a megabyte of memory of its own. In return gofers and sandboxes need less
/// memory, because they share with it what they do not change. They also share the layout of their memory, because the
/// kernel chooses it at execve(2) (ASLR): [`manual::promises`](crate::manual::promises) says what that means.
///
/// # What is as it was when it was made
///
/// A forked helper inherits from the zygote. For each container, the crate compares everything that decides about
/// privilege or that a container could notice, and a difference is [`ErrorKind::OutdatedZygote`]: ids, groups,
/// capabilities, no_new_privs, seccomp filters, security label, namespaces, root directory, resource limits. So make
/// the zygote after the program has set all of these. A helper has the umask of the thread that creates the container.
/// The working directory does not matter, because every path of a plan is absolute.
///
/// Everything else is as it was for the thread that made the zygote: its cgroup, OOM score, scheduling, processor
/// affinity, and Landlock rules, which a process cannot look up. An attacker who takes over this program can do what
/// the zygote may do, as with any descriptor or child process that the program keeps.
///
/// # Errors
///
/// If the zygote was killed, every further container created with it fails with [`ErrorKind::HelperDied`] and leaves
/// nothing behind. If this program cannot receive an answer of the zygote, for example because it has too many files
/// open, that container fails with that error, the zygote is killed, and later containers fail with
/// [`ErrorKind::HelperDied`]. Make another zygote.
#[derive(Clone, Debug)]
pub struct Zygote(Arc<ZygoteProcess>);

#[derive(Debug)]
struct ZygoteProcess {
    process: Child,
    /// `None` after an answer that was wrong or did not come: a late answer would be taken for that to another request.
    connection: Mutex<Option<ZygoteConnection>>,
    caller_snapshot: CallerSnapshot,
}

/// The connection to the zygote.
#[derive(Debug)]
struct ZygoteConnection {
    channel: Channel,
    /// Memory into which the kernel writes the pid of each fork, so that the caller knows it even if the zygote is
    /// killed before it answers.
    newest: File,
    /// The pid in the last answer.
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
        let process = spawn(reexec()?, &Start::of(ZYGOTE), &donations)?;
        let pid = process.pid();
        let connection = ZygoteConnection { channel, newest: newest.into(), known: 0 };
        let zygote = Self(Arc::new(ZygoteProcess { process, connection: Mutex::new(None), caller_snapshot }));
        drop(theirs);
        let deadline = Some(Instant::now() + ANSWER_LIMIT);
        match connection
            .channel
            .receive::<ZygoteReport>(deadline)
            .map_err(|error| error.during(ZYGOTE))?
            .message
        {
            ZygoteReport::Ready { pid: own } if own == pid => {}
            ZygoteReport::Failed(failure) => return Err(failure.into()),
            ZygoteReport::Ready { .. } => {
                let problem = "the caller's children are born in another pid namespace";
                return Err(Error::unsupported("zygote", problem));
            }
        }
        *zygote.0.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        Ok(zygote)
    }

    /// The pid of the process, as `ps` shows it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.0.process.pid()
    }

    /// Sends one request and receives its answer. Meanwhile other threads wait.
    fn fork(&self, request: &ForkRequest, fds: &[NamedFd<'_>]) -> Result<Child> {
        let mut guard = self.0.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(connection) = guard.as_mut() else {
            return Err(gone("it did not survive an earlier request"));
        };
        let error = match connection.channel.send(request, fds).map(|()| connection.answer()) {
            Ok(Ok(forked)) => return forked.os(|| format!("spawn {}: clone3", request.helper)),
            Ok(Err(error)) => error,
            Err(error) if *error.kind() == ErrorKind::HelperDied => error,
            // Nothing was sent, so the connection is still good.
            Err(error) => return Err(error.during(ZYGOTE)),
        };
        self.0.process.destroy();
        guard.take().expect("it was there above").collect_unreported();
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
    /// The child, or the errno with which the zygote failed to make it.
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

    /// Kills and collects a fork that the zygote, which is gone, made and did not report.
    fn collect_unreported(self) {
        let Self { channel, newest, known } = self;
        let mut pid = [0; size_of::<i32>()];
        let read = newest.read_exact_at(&mut pid, 0);
        // Perhaps the answer could not be received for want of a descriptor. Closing these two makes room for a pidfd.
        drop((channel, newest));
        let Some(pid) = Pid::from_raw(i32::from_ne_bytes(pid)).filter(|_| read.is_ok()) else { return };
        if pid.as_raw_nonzero().get() == known {
            return;
        }
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        // If the program collects every child itself, the number may now be that of another process, which is not a
        // child.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if waitid(WaitId::PidFd(pidfd.as_fd()), look).is_ok() {
            Child::new(pid, pidfd).destroy();
        }
    }
}

impl Drop for ZygoteProcess {
    fn drop(&mut self) {
        self.process.destroy();
    }
}

/// How the gofer and the sandbox of one container are started.
#[derive(Debug)]
pub(crate) struct Spawner {
    reexec: Reexec,
    /// The zygote that forks them, and the umask they get. Without one, each executes this program.
    zygote: Option<(Zygote, u32)>,
}

impl Spawner {
    /// Fails if a helper that `zygote` forks would differ from one that this thread executes.
    pub(crate) fn of(zygote: Option<&Zygote>) -> Result<Self> {
        let reexec = reexec()?;
        let Some(zygote) = zygote else { return Ok(Self { reexec, zygote: None }) };
        let now = CallerSnapshot::of_this_thread()?;
        now.check(&zygote.0.caller_snapshot)?;
        Ok(Self { reexec, zygote: Some((zygote.clone(), now.umask())) })
    }

    pub(crate) fn spawn(&self, start: &Start<'_>, donations: &Donations<'_>) -> Result<Child> {
        let Some((zygote, umask)) = &self.zygote else { return spawn(self.reexec, start, donations) };
        let mut fds = donations.named();
        fds.extend(start.cgroup.map(|cgroup| (BIRTH_CGROUP, cgroup)));
        if fds.len() > MAX_FDS || !start.joins.is_empty() || !caller_may_inspect(start.namespaces)? {
            return spawn(self.reexec, start, donations);
        }
        let request =
            ForkRequest { helper: start.name.to_owned(), namespaces: start.namespaces, umask: *umask };
        zygote.fork(&request, &fds)
    }
}

/// Whether the caller may inspect (ptrace) a forked helper with these new namespaces. The kernel checks that in the
/// user namespace in which the process was executed (ptrace(2), "Ptrace access mode checking"). For a sandbox that was
/// forked into a new user namespace that is the host's; for one that was executed inside it is the new one, where its
/// creator has every capability.
fn caller_may_inspect(namespaces: u32) -> Result<bool> {
    if namespaces & libc::CLONE_NEWUSER.cast_unsigned() == 0 {
        return Ok(true);
    }
    let effective = rustix::thread::capabilities(None).os(|| "capget()")?.effective;
    Ok(effective.contains(CapabilitySet::SYS_PTRACE))
}

//! Restores processes in place of init, which has assembled the root and left: its pid is one of theirs.
//!
//! ```text
//!   sandbox                                   CRIU, in the container
//!      |-- fork: own pid, cgroups, namespaces --->|  execve out of mounts that are attached nowhere
//!      |-- RESTORE ------------------------------>|
//!      |                                          |  the first process: a child of the sandbox
//!      |<-------------------------------- Notice -|  each is answered, until all are complete
//!      |  compare every thread with the plan ([`posture`])
//!      |  (created: all stand still, in a tracing stop)
//!      |-- go on -------------------------------->|  at the start
//!      |<------------------------------ Restored -|
//! ```
//!
//! CRIU parses an image that may be hostile. So it runs with the container's authority and no more: in the container's
//! namespaces, cgroups and root, as root of its user namespace, with a bounding set of what CRIU uses, and with no
//! descriptor but those of the restore. What it says is not believed: the sandbox looks at the processes itself, through
//! the container's own proc. Without a user namespace, root of the container is root of the host: restore only images that
//! you trust there.

mod anteroom;
mod become_criu;
mod posture;

use super::init::STREAMS;
use super::init::tree::enter;
use super::members;
use super::members::Member;
use super::namespaces::InitNamespaces;
use crate::criu::restore as rpc;
use crate::criu::restore::{Notice, Said};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::helper::Received;
use crate::plan::{InitPlan, RestorePlan};
use crate::process::Channel;
use crate::process::channel::wait_readable_until;
use crate::spec::{Capabilities, RootfsPropagation};
use crate::sys::{self, Inside};
use crate::wire::init::Found;
pub(super) use anteroom::Anteroom;
pub(super) use become_criu::Place;
use become_criu::{Fds, Mounts, become_criu};
pub(super) use posture::Posture;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, waitid};
use rustix::thread::CapabilitySet;
use std::time::{Duration, Instant};

/// How long CRIU may take until every process is complete, and from the start until they run. Reading the memory takes as
/// long as the disk.
const LIMIT: Duration = Duration::from_secs(100);
/// How long a process may take to look another up.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(10);
/// How long until the next look at PID 1, and at the files.
const LOOK: Duration = Duration::from_millis(200);
/// How long CRIU may take to end after the end of its connection.
const END_LIMIT: Duration = Duration::from_secs(1);
/// How much a pipe holds, in bytes, by default.
const LOG: usize = 64 << 10;
/// How much of what CRIU writes to its standard error goes into an error: the last bytes.
const MAX_STDERR: usize = 2 << 10;

/// What CRIU uses. Of root's capabilities in the container, it has no other but those of the plan.
const NEEDED: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::IPC_LOCK)
    .union(CapabilitySet::IPC_OWNER)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::SYS_NICE)
    .union(CapabilitySet::LEASE)
    .union(CapabilitySet::AUDIT_CONTROL)
    .union(CapabilitySet::CHECKPOINT_RESTORE);

/// What the sandbox keeps for a restore until init is ready.
pub(super) struct Restoration {
    plan: RestorePlan,
    /// The streams in place of the pipes that the processes had. The others are the container's null device.
    streams: [Option<OwnedFd>; 3],
    capabilities: Capabilities,
    no_new_privileges: bool,
    posture: Posture,
    propagation: RootfsPropagation,
}

impl Restoration {
    /// Takes the streams, which init does not get.
    pub(super) fn take(plan: &InitPlan, donated: &mut Received) -> Option<Self> {
        let restore = plan.restore.clone()?;
        Some(Self {
            plan: restore,
            streams: STREAMS.map(|name| donated.take_optional(name)),
            capabilities: plan.process.capabilities,
            no_new_privileges: plan.process.no_new_privileges,
            posture: Posture::new(plan),
            propagation: plan.rootfs_propagation,
        })
    }

    /// The pid of the first process, in the container.
    pub(super) fn init_pid(&self) -> i32 {
        self.plan.tree.init_pid
    }

    /// Whether that is PID 1, so that CRIU makes the pid namespace and is outside of it.
    fn makes_pids(&self) -> bool {
        self.init_pid() == 1
    }
}

/// CRIU, from its fork until the processes run. Dropping it kills it and collects it.
pub(super) struct Restorer {
    pidfd: OwnedFd,
    pub(super) connection: OwnedFd,
    stderr: OwnedFd,
    init_pid: i32,
    /// Its own pid in the container; `None` if it is outside.
    own_pid: Option<i32>,
    /// PID 1, if CRIU has made that.
    first: Option<First>,
    /// The container's root, until it is entered; `None` if init does that.
    room: Option<(OwnedFd, RootfsPropagation)>,
    posture: Posture,
    /// What it reads, until every process is complete.
    files: Option<Files>,
    /// Until when it has to be done with what it does now.
    deadline: Option<Instant>,
}

/// PID 1 of a pid namespace that CRIU has made, and that it traces from outside.
struct First {
    pidfd: OwnedFd,
    member: Member,
    next_look: Instant,
}

/// CRIU's files in the image, as they were when it was opened.
struct Files {
    images: OwnedFd,
    lengths: Vec<(String, u64)>,
    next_look: Instant,
}

impl Files {
    /// Fails, with its name, if a file has another length by now or is no file any more. CRIU would read beyond the end of
    /// memory that was cut for as long as it may take, and wait for the writer of a FIFO.
    fn look(&mut self) -> Result<()> {
        self.next_look = Instant::now() + LOOK;
        for (name, length) in &self.lengths {
            let problem = match rustix::fs::statat(&self.images, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(errno) => errno.to_string(),
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
                    "it is no regular file".to_owned()
                }
                Ok(stat) if u64::try_from(stat.st_size) == Ok(*length) => continue,
                Ok(stat) => format!("it has {} bytes, and had {length}", stat.st_size),
            };
            let problem = format!("criu/{name} was changed during the restore: {problem}");
            return Err(Error::new(ErrorKind::Stale, "image", problem));
        }
        Ok(())
    }
}

/// How a restore went on.
pub(super) enum Progress {
    /// CRIU was answered, and goes on.
    Continues,
    /// It has made PID 1, which has this pid beside CRIU, and waits.
    First(i32),
    /// PID 1 has made its namespaces. CRIU waits for the root.
    Namespaces,
    /// Every process is complete, and stands still.
    Complete,
    /// They run.
    Released,
}

impl Restorer {
    /// Forks CRIU and sends it the request. `handles` are init's; `root` is the container's, if it is left in the anteroom.
    pub(super) fn fork(
        restoration: Restoration,
        handles: &mut Received,
        place: &Place<'_>,
        root: Option<OwnedFd>,
    ) -> Result<Self> {
        let makes_pids = restoration.makes_pids();
        let Restoration { plan, mut streams, capabilities, no_new_privileges, mut posture, propagation } =
            restoration;
        let mounts = Mounts::take(&plan, handles)?;
        posture.expect_namespaces(handles, place.namespaces)?;
        let (connection, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .os(|| "socketpair(AF_UNIX, SOCK_SEQPACKET)")?;
        // What does not fit is lost: CRIU never waits for a reader, and can fill no memory with it.
        let (stderr, log) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).os(|| "pipe2()")?;

        // CRIU closes what it has given to a process, so no two of them share a descriptor.
        for (stream, _) in &plan.tree.pipes {
            if let Some(missing @ None) = streams.get_mut(*stream) {
                let null = place.null.try_clone_to_owned().os(|| "fcntl(F_DUPFD_CLOEXEC, null)")?;
                *missing = Some(null);
            }
        }
        let mut keep = vec![theirs.as_fd(), log.as_fd(), place.null];
        keep.extend(mounts.fds());
        keep.extend(streams.iter().flatten().map(AsFd::as_fd));
        keep.extend(place.cgroups.fds(None));
        keep.extend(place.cgroup_namespace);
        let how = Inside {
            beside: Some(place.namespaces.pids()),
            joins: 0,
            namespaces: 0,
            cgroup: place.cgroups.directory(None),
            streams: theirs.as_fd(),
            keep: &keep,
        };
        let bounding = NEEDED.bits() | capabilities.bounding.bits();
        let enter = |born| {
            let fds = Fds { mounts: &mounts, streams: &streams, connection: &theirs, log: &log };
            let error = become_criu(place, &fds, born, bounding, no_new_privileges);
            let _ = rustix::io::write(&log, error.to_string().as_bytes());
        };
        let forked =
            place.score.lend(place.oom_score_adj, || sys::fork_inside(&how, enter).os(|| "clone3(criu)"))?;
        let inherited = plan.tree.pipes.iter().map(|(stream, key)| {
            let fd = streams.get(*stream).and_then(Option::as_ref).map_or(place.null, AsFd::as_fd);
            (key.clone(), fd.as_raw_fd())
        });
        let request = rpc::request(mounts.images.as_raw_fd(), inherited);
        let next_look = Instant::now() + LOOK;
        let files = Files { images: mounts.images, lengths: plan.tree.files, next_look };
        let pidfd = members::hold_child(forked, "criu")?;
        let restorer = Self {
            pidfd,
            connection,
            stderr,
            init_pid: plan.tree.init_pid,
            own_pid: (!makes_pids).then_some(plan.tree.criu_pid),
            first: None,
            room: root.map(|root| (root, propagation)),
            posture,
            files: Some(files),
            deadline: Some(Instant::now() + LIMIT),
        };
        restorer.send(&request)?;
        Ok(restorer)
    }

    /// CRIU is readable: hears what it says, and answers it, unless it waits for the start.
    pub(super) fn hear(&mut self) -> Result<Progress> {
        let mut bytes = vec![0; rpc::MAX_MESSAGE];
        let length =
            match recv(&self.connection, bytes.as_mut_slice(), RecvFlags::TRUNC | RecvFlags::DONTWAIT) {
                Err(Errno::INTR | Errno::AGAIN) => return Ok(Progress::Continues),
                // It ended without having read everything.
                Err(Errno::CONNRESET) => 0,
                received => received.os(|| "recv(criu)")?.1,
            };
        if length == 0 {
            return Err(self.ended());
        }
        let bytes = bytes.get(..length).ok_or_else(|| failure("its message is too long"))?;
        match rpc::read(bytes)? {
            Said::Notice(Notice::Begins) => {
                if let Some((root, propagation)) = self.room.take() {
                    // With this process, CRIU leaves the anteroom.
                    enter(root.as_fd(), propagation)?;
                }
                self.go_on().map(|()| Progress::Continues)
            }
            Said::Notice(_) if self.room.is_some() => Err(misbehaved("it did not wait for the root")),
            Said::Notice(Notice::Complete) => Ok(Progress::Complete),
            Said::Notice(Notice::First(pid)) if self.own_pid.is_none() => Ok(Progress::First(pid)),
            Said::Notice(Notice::Namespaces) if self.own_pid.is_none() => Ok(Progress::Namespaces),
            Said::Notice(_) => self.go_on().map(|()| Progress::Continues),
            Said::Restored => Ok(Progress::Released),
            Said::Failed(why) => {
                let said = self.said();
                let why = why.filter(|_| said.is_empty()).unwrap_or(said);
                Err(failure(if why.is_empty() { "it failed" } else { why.trim() }))
            }
        }
    }

    /// Compares every thread with the plan, through the container's own `proc`.
    pub(super) fn check(&self, proc: BorrowedFd<'_>) -> Result<()> {
        self.posture.check(proc, self.init_pid, self.own_pid)
    }

    /// Has CRIU let the processes go.
    pub(super) fn release(&mut self) -> Result<()> {
        self.deadline = Some(Instant::now() + LIMIT);
        self.go_on()
    }

    /// Lets CRIU go on from where it waits.
    pub(super) fn go_on(&self) -> Result<()> {
        self.send(&rpc::answer())
    }

    /// When to [look](Self::look) next.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let first = self.first.as_ref().map(|first| first.next_look);
        let files = self.files.as_ref().map(|files| files.next_look);
        [first, files, self.deadline].into_iter().flatten().min()
    }

    /// Fails if it is too late for what CRIU does now, if a file of the image is not what it was, or if PID 1 has been
    /// killed. Nothing else tells of that: it is no child of CRIU, which waits for it; and it ends only after its children,
    /// which wait for CRIU to collect them.
    pub(super) fn look(&mut self) -> Result<()> {
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            let problem = format!("it was not done after {LIMIT:?}");
            return Err(Error::new(ErrorKind::TimedOut, "criu restore", problem));
        }
        if let Some(files) = self.files.as_mut().filter(|files| files.next_look <= Instant::now()) {
            files.look()?;
        }
        let Some(first) = &mut self.first else { return Ok(()) };
        first.next_look = Instant::now() + LOOK;
        match first.member.is_exiting() {
            true => Err(failure("the first process was killed")),
            false => Ok(()),
        }
    }

    /// A pidfd of CRIU.
    pub(super) fn pidfd(&self) -> Result<OwnedFd> {
        self.pidfd.try_clone().os(|| "fcntl(F_DUPFD_CLOEXEC, pidfd)")
    }

    /// CRIU's own pid in the container, if it is there.
    pub(super) fn pid_inside(&self) -> Option<i32> {
        self.own_pid
    }

    /// Kills PID 1, if CRIU has made that: without CRIU, it would run.
    pub(super) fn kill_first(&self) {
        if let Some(first) = &self.first {
            let _ = rustix::process::pidfd_send_signal(&first.pidfd, Signal::KILL);
        }
    }

    /// Every process is complete: CRIU has no limit while it holds them, and has read all that it reads.
    pub(super) fn hold(&mut self) {
        self.files = None;
        self.deadline = None;
    }

    /// Waits for its end, and collects it. Its pid namespace is ending.
    pub(super) fn collect(self) {
        let _ = sys::wait_pidfd(self.pidfd.as_fd());
    }

    /// It has ended too early.
    pub(super) fn ended(&self) -> Error {
        let end = wait_readable_until(self.pidfd.as_fd(), Some(Instant::now() + END_LIMIT));
        let status = match end {
            Ok(true) => {
                waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            }
            _ => Ok(None),
        };
        let how = match status.ok().flatten() {
            Some(status) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("it exited with code {code}"),
                (_, Some(signal)) => format!("it was killed by signal {signal}"),
                _ => "it ended".to_owned(),
            },
            None => "it closed its connection".to_owned(),
        };
        let said = self.said();
        failure(&if said.is_empty() { how } else { format!("{how}: {said}") })
    }

    fn send(&self, message: &[u8]) -> Result<()> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match send(&self.connection, message, flags) {
            Err(Errno::PIPE | Errno::CONNRESET) => Err(self.ended()),
            sent => sent.os(|| "send(criu)").map(drop),
        }
    }

    /// The end of what it wrote to its standard error, on one line.
    fn said(&self) -> String {
        let mut bytes = vec![0; LOG];
        let length = rustix::io::read(&self.stderr, &mut bytes).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[length.saturating_sub(MAX_STDERR)..length]).into_owned();
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !is_noise(line));
        lines.collect::<Vec<_>>().join("; ")
    }
}

pub(super) fn misbehaved(problem: &'static str) -> Error {
    Error::new(ErrorKind::PeerMisbehaved, "criu restore", problem)
}

fn failure(problem: &str) -> Error {
    Error::unsupported("criu restore", problem)
}

/// What CRIU says of every restore: in the anteroom is nothing that it looks for, and a caller may not raise its limit of
/// open files.
fn is_noise(line: &str) -> bool {
    ["RLIMIT_NOFILE for self", "failed to open /dev/null, using log fd", "execvp(\"sh\""]
        .iter()
        .any(|words| line.contains(words))
}

impl Drop for Restorer {
    fn drop(&mut self) {
        // Without effect on one that was collected.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = sys::wait_pidfd(self.pidfd.as_fd());
    }
}

/// A pidfd of the process with this pid in the container, which only a process there can open. That may be the sandbox's
/// child all the same: its number in the sandbox's own pid namespace is not known.
pub(super) fn find_restored(namespaces: &InitNamespaces, pid: i32) -> Result<OwnedFd> {
    let (ours, theirs) = Channel::pair()?;
    let how = Inside {
        beside: Some(namespaces.pids()),
        joins: 0,
        namespaces: 0,
        cgroup: None,
        streams: theirs.as_fd(),
        keep: &[theirs.as_fd()],
    };
    let look = |_| {
        if let Some(pidfd) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) {
            let _ = theirs.send(&Found {}, &[("pidfd", pidfd.as_fd())]);
        }
    };
    let looker = sys::fork_inside(&how, look).os(|| "clone3(look up)")?;
    drop(theirs);
    let found = ours.receive::<Found>(Some(Instant::now() + LOOK_UP_LIMIT));
    members::end_child(looker);
    found.and_then(|found| found.fds.take_only("pidfd")).map_err(|error| error.during("criu restore"))
}

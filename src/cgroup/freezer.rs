//! Freezes a container, lists and kills its processes, through donated descriptors: the sandbox, which does this, has
//! no path to a cgroup.
//!
//! What lives here: single steps that do not wait. What may not: waiting, which the sandbox's event loop does.
//!
//! ```text
//!   freeze() --> frozen()? no --> wait RECHECK --> frozen()? ... yes
//!                                                                       deadline: thaw()
//! ```

use super::dir::{CgroupDir, CgroupVersion, read_text, v1, v2};
use crate::error::{OsContext, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::collections::BTreeSet;
use std::time::Duration;

/// Donation name of the file that freezes: `cgroup.freeze` (v2) or `freezer.state` (v1).
const FREEZE: &str = "cgroup-freeze";
/// Donation name of `cgroup.events`, on v2 only: its presence tells the versions apart.
const EVENTS: &str = "cgroup-freeze-events";
/// Donation name of the directory of the container's own processes.
const DIR: &str = "cgroup-freeze-dir";
/// Donation name of `cgroup.kill`, where the kernel has it.
const KILL: &str = "cgroup-freeze-kill";

/// How long to wait at most before asking [`frozen`](Freezer::frozen) again. v1 raises no event when the last task has
/// stopped, and v2 may raise it 10 ms late (`CGROUP_FILE_NOTIFY_MIN_INTV` in kernel/cgroup/cgroup.c), while the tasks
/// themselves need about a fifth of a millisecond.
pub(crate) const RECHECK: Duration = Duration::from_micros(100);

/// The freezer of one container.
#[derive(Debug)]
pub(crate) struct Freezer {
    state: OwnedFd,
    /// Only on v2.
    events: Option<OwnedFd>,
    /// The directory, and not the open list: on v1 one open file gives the same list again for up to a second
    /// (`CGROUP_PIDLIST_DESTROY_DELAY` in kernel/cgroup/cgroup-v1.c).
    dir: OwnedFd,
    kill: Option<OwnedFd>,
}

/// Opens what a [`Freezer`] is made of, by donation name.
pub(super) fn open(dir: &CgroupDir) -> Result<Vec<(String, OwnedFd)>> {
    let mut fds = vec![(DIR.into(), dir.duplicate()?)];
    match dir.version() {
        CgroupVersion::V1 => fds.push((FREEZE.into(), dir.open_read_write(v1::FREEZER)?)),
        CgroupVersion::V2 => {
            fds.push((FREEZE.into(), dir.open_write("cgroup.freeze")?));
            fds.push((EVENTS.into(), dir.open_read(v2::EVENTS)?));
            // KERNEL(5.14): cgroup.kill
            fds.extend(dir.open_write("cgroup.kill").ok().map(|kill| (KILL.into(), kill)));
        }
    }
    Ok(fds)
}

impl Freezer {
    /// Takes the fds by their donation names from `take`; `None` if the container has no place to freeze.
    pub(crate) fn take(mut take: impl FnMut(&str) -> Option<OwnedFd>) -> Option<Self> {
        Some(Self { state: take(FREEZE)?, dir: take(DIR)?, events: take(EVENTS), kill: take(KILL) })
    }

    /// Tells the kernel to stop the container's processes. They have stopped when [`frozen`](Self::frozen) returns
    /// `true`.
    ///
    /// # Errors
    /// The errno of write(2); `ENODEV` once the cgroup is removed.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.set(if self.events.is_some() { "1" } else { "FROZEN" })
    }

    /// Lets them run again, at once. Also undoes a freezing that is not complete yet.
    ///
    /// # Errors
    /// As [`freeze`](Self::freeze).
    pub(crate) fn thaw(&self) -> Result<()> {
        self.set(if self.events.is_some() { "0" } else { "THAWED" })
    }

    fn set(&self, value: &str) -> Result<()> {
        let step = || format!("write({}, {value:?})", self.file());
        match rustix::io::pwrite(&self.state, value.as_bytes(), 0).os(step)? {
            written if written == value.len() => Ok(()),
            _ => Err(Errno::IO).os(step),
        }
    }

    fn file(&self) -> &'static str {
        if self.events.is_some() { "cgroup.freeze" } else { v1::FREEZER }
    }

    /// Whether every process has stopped. On v1 the kernel checks this only when the file is read.
    ///
    /// # Errors
    /// The errno of read(2).
    pub(crate) fn frozen(&self) -> Result<bool> {
        match &self.events {
            Some(events) => {
                let text = read_text(events.as_fd()).os(|| "read(cgroup.events)")?;
                Ok(text.lines().any(|line| line == "frozen 1"))
            }
            // "FREEZING" until the last task has stopped.
            None => Ok(read_text(self.state.as_fd()).os(|| "read(freezer.state)")?.trim() == "FROZEN"),
        }
    }

    /// The container's own processes, as pids of the caller's pid namespace: also those whose parents have ended, and in
    /// a pid namespace that others share. A process of another pid namespace that was moved in has no pid here and is left out.
    ///
    /// # Errors
    /// The errno of openat2(2) or read(2).
    pub(crate) fn members(&self) -> Result<BTreeSet<i32>> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let procs = rustix::fs::openat2(&self.dir, "cgroup.procs", flags, Mode::empty(), resolve);
        match procs.and_then(|procs| read_text(procs.as_fd())) {
            Ok(text) => {
                Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect())
            }
            // The cgroup was removed while we held it, so no process is in it.
            Err(Errno::NOENT | Errno::NODEV) => Ok(BTreeSet::new()),
            Err(errno) => Err(errno).os(|| "read(cgroup.procs)"),
        }
    }

    /// Sends SIGKILL to every process of the container, frozen or not, and lets them run so that they act on it. Does
    /// not wait for their end.
    ///
    /// # Errors
    /// The system call that failed.
    pub(crate) fn kill(&self) -> Result<()> {
        match self.kill_all() {
            // The cgroup was removed while we held it, so no process is in it.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            killed => killed,
        }
    }

    fn kill_all(&self) -> Result<()> {
        if let Some(kill) = &self.kill {
            // No fork escapes it, and on v2 frozen processes die, too.
            return rustix::io::write(kill, b"1").map(drop).os(|| "write(cgroup.kill, \"1\")");
        }
        // Frozen processes cannot fork while we kill them one by one. `kill_each` finds the children of those that were
        // not frozen yet, because it lists again.
        let frozen = self.freeze();
        let killed = self.kill_each();
        frozen.and(killed).and(self.thaw())
    }

    fn kill_each(&self) -> Result<()> {
        let mut killed = BTreeSet::new();
        loop {
            let members = self.members()?;
            let new: Vec<i32> = members.difference(&killed).copied().collect();
            if new.is_empty() {
                return Ok(());
            }
            for pid in new {
                self.kill_one(pid)?;
                killed.insert(pid);
            }
        }
    }

    /// A pid can be reused until a pidfd holds it: if it is still listed after the pidfd was opened, it is that process.
    fn kill_one(&self, pid: i32) -> Result<()> {
        let Some(number) = Pid::from_raw(pid) else { return Ok(()) };
        let pidfd = match rustix::process::pidfd_open(number, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(()),
            opened => opened.os(|| format!("pidfd_open({pid})"))?,
        };
        if !self.members()?.contains(&pid) {
            return Ok(());
        }
        match rustix::process::pidfd_send_signal(&pidfd, Signal::KILL) {
            Err(Errno::SRCH) => Ok(()),
            sent => sent.os(|| format!("pidfd_send_signal({pid}, SIGKILL)")),
        }
    }
}

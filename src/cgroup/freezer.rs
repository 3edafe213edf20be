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
use super::members::Members;
use crate::error::{OsContext, Result};
use crate::plan::cgroup::CONTAINER;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
    members: Members,
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

/// Which of the cgroups of a container, or of those of its own processes below them, is frozen by itself and not with one
/// above it.
pub(crate) fn frozen_dir(cgroups: &[PathBuf]) -> Option<PathBuf> {
    let frozen = |dir: &PathBuf| {
        let says = |file: &str, word: &str| {
            std::fs::read_to_string(dir.join(file)).is_ok_and(|text| text.trim_end() == word)
        };
        says("cgroup.freeze", "1") || says("freezer.self_freezing", "1")
    };
    cgroups.iter().flat_map(|dir| [dir.clone(), dir.join(CONTAINER)]).find(frozen)
}

impl Freezer {
    /// The freezer of this cgroup.
    ///
    /// # Errors
    /// The errno of opening its files.
    pub(crate) fn of(dir: &Path) -> Result<Self> {
        let mut fds = open(&CgroupDir::open(dir)?)?;
        let mut take = |name: &str| {
            let at = fds.iter().position(|(known, _)| known == name)?;
            Some(fds.swap_remove(at).1)
        };
        Ok(Self {
            state: take(FREEZE).expect("opened above"),
            members: Members(take(DIR).expect("opened above")),
            events: take(EVENTS),
            kill: take(KILL),
        })
    }

    /// Takes the fds by their donation names from `take`; `None` if the container has no place to freeze.
    pub(crate) fn take(mut take: impl FnMut(&str) -> Option<OwnedFd>) -> Option<Self> {
        let (state, members) = (take(FREEZE)?, Members(take(DIR)?));
        Some(Self { state, members, events: take(EVENTS), kill: take(KILL) })
    }

    /// Tells the kernel to stop the container's processes. They have stopped when [`frozen`](Self::frozen) returns
    /// `true`.
    ///
    /// # Errors
    /// The errno of write(2); `ENODEV` once the cgroup is removed.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.set(if self.events.is_some() { "1" } else { "FROZEN" })
    }

    /// As [`freeze`](Self::freeze), and waits until they have stopped, at most for `limit`. Returns whether they have.
    ///
    /// # Errors
    /// As [`freeze`](Self::freeze).
    pub(crate) fn freeze_within(&self, limit: Duration) -> Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            // Again each time: cgroup v1 misses a process that was born at the wrong moment.
            self.freeze()?;
            match self.frozen()? {
                true => return Ok(true),
                false if Instant::now() < deadline => rustix::thread::sched_yield(),
                false => return Ok(false),
            }
        }
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

    /// The container's own processes, for tests.
    #[cfg(test)]
    pub(crate) fn members(&self) -> Result<std::collections::BTreeSet<i32>> {
        self.members.list()
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
        // Frozen processes cannot fork while we kill them one by one. [`Members::kill_each`] finds the children of those
        // that were not frozen yet, because it lists again.
        let frozen = self.freeze();
        let killed = self.members.kill_each();
        frozen.and(killed).and(self.thaw())
    }
}

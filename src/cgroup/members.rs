//! The processes of a cgroup, listed and killed through a descriptor of its directory.

use super::dir::{cgroup_directory_at, children_of, open_in, read_text};
use crate::error::{OsContext, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::collections::BTreeSet;

/// How often [`Members::kill_each`] lists at most. It lists again only if processes were started meanwhile, which a
/// frozen cgroup rules out.
const LOOKS: usize = 1024;

/// A directory, and not its open list: on v1 one open file gives the same list again for up to a second
/// (`CGROUP_PIDLIST_DESTROY_DELAY` in kernel/cgroup/cgroup-v1.c).
#[derive(Debug)]
pub(super) struct Members(pub(super) OwnedFd);

impl Members {
    /// The processes in the cgroup and in those directly below it, as pids of the caller's pid namespace: also those
    /// whose parents have ended. A process of another pid namespace that was moved in has no pid here and is left out.
    ///
    /// # Errors
    /// The errno of openat2(2) or read(2).
    pub(super) fn list(&self) -> Result<BTreeSet<i32>> {
        let mut pids = listed(self.0.as_fd())?;
        for name in children_of(self.0.as_fd()).os(|| "getdents64(cgroup)")? {
            // One that is gone has no process.
            if let Ok(child) = cgroup_directory_at(self.0.as_fd(), &name) {
                pids.extend(listed(child.as_fd())?);
            }
        }
        Ok(pids)
    }

    /// Sends SIGKILL to each process, until no new one appears.
    ///
    /// # Errors
    /// The system call that failed.
    pub(super) fn kill_each(&self) -> Result<()> {
        let mut killed = BTreeSet::new();
        for _ in 0..LOOKS {
            let members = self.list()?;
            let new: Vec<i32> = members.difference(&killed).copied().collect();
            if new.is_empty() {
                break;
            }
            for pid in new {
                if let Some(pidfd) = self.hold(pid)? {
                    match rustix::process::pidfd_send_signal(&pidfd, Signal::KILL) {
                        Ok(()) | Err(Errno::SRCH) => {}
                        Err(errno) => return Err(errno).os(|| format!("pidfd_send_signal({pid}, SIGKILL)")),
                    }
                }
                killed.insert(pid);
            }
        }
        Ok(())
    }

    /// A pidfd of one of the processes; `None` if there is none.
    ///
    /// # Errors
    /// The system call that failed.
    pub(super) fn one(&self) -> Result<Option<OwnedFd>> {
        for pid in self.list()? {
            if let Some(pidfd) = self.hold(pid)? {
                return Ok(Some(pidfd));
            }
        }
        Ok(None)
    }

    /// A pid can be reused until a pidfd holds it: if it is still listed after the pidfd was opened, it is that process.
    fn hold(&self, pid: i32) -> Result<Option<OwnedFd>> {
        let Some(number) = Pid::from_raw(pid) else { return Ok(None) };
        let pidfd = match rustix::process::pidfd_open(number, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(None),
            opened => opened.os(|| format!("pidfd_open({pid})"))?,
        };
        Ok(self.list()?.contains(&pid).then_some(pidfd))
    }
}

/// The processes in the cgroup itself.
pub(super) fn listed(dir: BorrowedFd<'_>) -> Result<BTreeSet<i32>> {
    let procs = open_in(dir, "cgroup.procs".as_ref(), OFlags::RDONLY | OFlags::CLOEXEC);
    match procs.and_then(|procs| read_text(procs.as_fd())) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect()),
        // The cgroup was removed while we held it, so no process is in it.
        Err(Errno::NOENT | Errno::NODEV) => Ok(BTreeSet::new()),
        Err(errno) => Err(errno).os(|| "read(cgroup.procs)"),
    }
}

//! Child processes of this program, by pidfd: how they are killed and collected. This crate never waits for any child
//! but its own.

use crate::process::channel::wait_readable_until;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A child process, by pidfd. Dropping it neither kills nor collects the process.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Child {
    pub(crate) fn new(pid: Pid, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(crate) fn into_pidfd(self) -> OwnedFd {
        self.pidfd
    }

    /// Kills and collects it: for a step that fails after it started the process.
    pub(crate) fn destroy(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        reap(self.pidfd());
    }
}

/// Children of detached containers. No value of the caller's waits for them.
static LEFT_BEHIND: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// Waits for the child behind `pidfd` and collects it. A caller that reaps all its children, or ignores SIGCHLD, may
/// have been faster: that is no error, because the exit record says how the container ended.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) {
    let wait = || rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED);
    while matches!(wait(), Err(rustix::io::Errno::INTR)) {}
}

/// Leaves `children` to [`collect_ended`].
pub(crate) fn collect_later(children: Vec<OwnedFd>) {
    LEFT_BEHIND.lock().unwrap_or_else(PoisonError::into_inner).extend(children);
}

/// Collects the children left behind that have ended, so that the caller keeps no zombies.
pub(crate) fn collect_ended() {
    // If another thread holds the lock, it collects them.
    let Ok(mut left) = LEFT_BEHIND.try_lock() else { return };
    left.retain(|child| {
        let ended = has_ended(child.as_fd());
        if ended {
            reap(child.as_fd());
        }
        !ended
    });
}

/// Whether the process behind `pidfd` has ended.
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    wait_readable_until(pidfd, Some(Instant::now())).unwrap_or(false)
}

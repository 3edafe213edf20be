//! Collecting children that have ended, by pidfd: this crate never waits for any child but its own.

use super::channel::wait_readable_until;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::{WaitId, WaitIdOptions};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

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

//! [`Flock`]: a lock of flock(2), which ends with this value or with this process.
//!
//! A lock belongs to an open file, which other descriptors and other processes may share. So two holders in one process
//! need two open files, and a child that is forked without an exec keeps its parent's lock, unless the parent unlocks.

use rustix::fs::FlockOperation;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A held flock(2).
#[derive(Debug)]
pub(super) struct Flock {
    file: OwnedFd,
}

impl Flock {
    /// Locks `file`, waiting or not as `operation` says.
    pub(super) fn take(file: OwnedFd, operation: FlockOperation) -> rustix::io::Result<Self> {
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, operation))?;
        Ok(Self { file })
    }

    /// The locked file.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Flock {
    fn drop(&mut self) {
        // Closing is not enough: a child that the caller's program has forked meanwhile shares the lock. Unlocking
        // fails only on a bad descriptor, and this value owns the descriptor.
        let _ = rustix::fs::flock(self.file.as_fd(), FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn a_lock_excludes_other_open_files_until_it_is_dropped() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || OwnedFd::from(std::fs::File::open(file.path()).unwrap());
        let lock = |file| Flock::take(file, FlockOperation::NonBlockingLockExclusive);
        let held = lock(open()).unwrap();
        let copy = held.file().try_clone_to_owned().unwrap();
        assert_eq!(lock(open()).unwrap_err(), Errno::WOULDBLOCK);
        drop(held);
        // Though the copy, like that of a forked child, still has the same open file.
        drop(lock(open()).unwrap());
        drop(copy);
    }
}

//! The cgroups that a container's own processes join, as opened by the caller: this side has no path to them, and in a
//! user namespace no right to open one.

use crate::cgroup::{CONTAINER_DIR, CONTAINER_JOIN, SANDBOX_JOIN};
use crate::error::{OsContext, Result};
use crate::helper::Received;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// Where the processes of one container belong.
pub(in crate::sandbox) struct Membership {
    /// The v2 directory, to be born in.
    directory: Option<OwnedFd>,
    /// `tasks` of the v1 directories.
    v1: Vec<OwnedFd>,
    /// `cgroup.procs` of the v2 directory, where being born in it is refused: a move that the whole machine waits for.
    v2: Vec<OwnedFd>,
}

impl Membership {
    pub(in crate::sandbox) fn take(donated: &mut Received) -> Self {
        Self {
            directory: donated.take_optional(CONTAINER_DIR),
            v1: donated.take_all(&format!("{CONTAINER_JOIN}-v1")),
            v2: donated.take_all(&format!("{CONTAINER_JOIN}-v2")),
        }
    }

    /// For a further container of a pod: the sandbox itself is not in its cgroups, so its processes join all of them.
    pub(in crate::sandbox) fn take_all(donated: &mut Received) -> Self {
        let mut membership = Self::take(donated);
        membership.v1.extend(donated.take_all(SANDBOX_JOIN));
        membership
    }

    /// The directory for clone3(2) with `CLONE_INTO_CGROUP`.
    pub(in crate::sandbox) fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.directory.as_ref().map(AsFd::as_fd)
    }

    /// What a new process must have open to [`join`](Self::join).
    pub(in crate::sandbox) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.v1.iter().chain(&self.v2).map(AsFd::as_fd)
    }

    /// Moves this single-threaded process to where it was not `born`.
    pub(in crate::sandbox) fn join(&self, born: bool) -> Result<()> {
        let left_out = if born { &[] } else { self.v2.as_slice() };
        for file in self.v1.iter().chain(left_out) {
            rustix::io::write(file, b"0").os(|| "write(tasks, \"0\")")?;
        }
        Ok(())
    }
}

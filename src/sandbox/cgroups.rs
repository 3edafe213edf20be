//! The cgroups that the sandbox and a container's own processes join, as opened by the caller: the sandbox has no path to
//! them, and in a user namespace no right to open one.

use crate::cgroup::{CONTAINER_DIR, CONTAINER_JOIN, SANDBOX_JOIN};
use crate::error::{OsContext, Result};
use crate::helper::Received;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// Moves this process into the container's cgroups, with the one kind of write for which the kernel does not stop the
/// whole machine: a single-threaded process that moves itself through `tasks`. From here on the limits hold, long before
/// the workload runs.
pub(super) fn join_as_sandbox(donated: &mut Received) -> Result<()> {
    donated.take_all(SANDBOX_JOIN).iter().try_for_each(join)
}

fn join(tasks: &OwnedFd) -> Result<()> {
    rustix::io::write(tasks, b"0").os(|| "write(tasks, \"0\")").map(drop)
}

/// The cgroups of one container's own processes.
pub(super) struct ContainerCgroups {
    /// The v2 directory, to be born in.
    directory: Option<OwnedFd>,
    /// `tasks` of the v1 directories.
    v1: Vec<OwnedFd>,
    /// `cgroup.procs` of the v2 directory, for processes that may not be born in it. The whole machine waits for this
    /// kind of move.
    v2: Vec<OwnedFd>,
}

impl ContainerCgroups {
    pub(super) fn take(donated: &mut Received) -> Self {
        Self {
            directory: donated.take_optional(CONTAINER_DIR),
            v1: donated.take_all(&format!("{CONTAINER_JOIN}-v1")),
            v2: donated.take_all(&format!("{CONTAINER_JOIN}-v2")),
        }
    }

    /// For another container of a pod. The sandbox is not in that container's cgroups, so its processes join all of them.
    pub(super) fn take_in_pod(donated: &mut Received) -> Self {
        let mut cgroups = Self::take(donated);
        cgroups.v1.extend(donated.take_all(SANDBOX_JOIN));
        cgroups
    }

    /// The directory for clone3(2) with `CLONE_INTO_CGROUP`.
    pub(super) fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.directory.as_ref().map(AsFd::as_fd)
    }

    /// The descriptors that a new process needs to [`join`](Self::join).
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.v1.iter().chain(&self.v2).map(AsFd::as_fd)
    }

    /// Moves this single-threaded process into the cgroups that it was not `born` in.
    pub(super) fn join(&self, born: bool) -> Result<()> {
        let not_born_in = if born { &[] } else { self.v2.as_slice() };
        self.v1.iter().chain(not_born_in).try_for_each(join)
    }
}

//! The cgroups that the sandbox and a container's own processes join, as opened by the caller: the sandbox has no path to
//! them, and in a user namespace no right to open one.

use crate::cgroup::{CONTAINER_DIR, CONTAINER_JOIN, SANDBOX_BACK, SANDBOX_JOIN, SANDBOX_SHOWN};
use crate::cgroup::{ExecJoin, Split};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::helper::Received;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::cell::Cell;

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
    /// The v2 directory, in which clone3(2) makes new processes.
    directory: Option<OwnedFd>,
    /// `tasks` of the v1 directories.
    v1: Vec<OwnedFd>,
    /// `cgroup.procs` of the v2 directory, for processes that clone3(2) may not make there. The kernel stops the whole
    /// machine for this kind of move.
    v2: Vec<OwnedFd>,
    /// The v2 directory that the processes were in before the [split](Self::split).
    split_from: Option<OwnedFd>,
    /// The cgroups in which the sandbox is from create until a program runs, because an engine looks for it there.
    shown: Vec<OwnedFd>,
    /// The cgroups to which the sandbox returns from there.
    back: Vec<OwnedFd>,
    is_shown: Cell<bool>,
}

impl ContainerCgroups {
    pub(super) fn take(donated: &mut Received) -> Self {
        Self {
            directory: donated.take_optional(CONTAINER_DIR),
            v1: donated.take_all(&format!("{CONTAINER_JOIN}-v1")),
            v2: donated.take_all(&format!("{CONTAINER_JOIN}-v2")),
            split_from: None,
            shown: donated.take_all(SANDBOX_SHOWN),
            back: donated.take_all(SANDBOX_BACK),
            is_shown: Cell::new(false),
        }
    }

    /// For another container of a pod. The sandbox is not in that container's cgroups, so its processes join all of them.
    pub(super) fn take_in_pod(donated: &mut Received) -> Self {
        // Join the outer directories first: if one has a directory for the container's own processes below it, the
        // later join moves the process there.
        let outer = donated.take_all(SANDBOX_JOIN);
        let inner = Self::take(donated);
        let v1 = outer.into_iter().chain(inner.v1).collect();
        Self { v1, shown: Vec::new(), back: Vec::new(), ..inner }
    }

    /// Moves the sandbox to where an engine looks for the container. Errors are ignored: the container works all the
    /// same, and only the engine sees less.
    pub(super) fn show_sandbox(&self) {
        self.is_shown.set(!self.shown.is_empty());
        let _ = self.shown.iter().try_for_each(join);
    }

    /// Moves the sandbox back out of the workload's cgroups.
    pub(super) fn hide_sandbox(&self) -> Result<()> {
        if !self.is_shown.get() {
            return Ok(());
        }
        self.back.iter().try_for_each(join)?;
        self.is_shown.set(false);
        Ok(())
    }

    /// Has further processes join where `split` says.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] without a v2 directory.
    pub(super) fn split(&mut self, split: &Split) -> Result<()> {
        let dup = |fd: &OwnedFd| fd.try_clone().os(|| "fcntl(F_DUPFD_CLOEXEC, cgroup)");
        let (dir, join) = (dup(&split.dir)?, dup(&split.join)?);
        let Some(directory) = &mut self.directory else {
            return Err(Error::new(ErrorKind::InvalidInput, "exec", "the container has no cgroup of v2"));
        };
        if self.split_from.is_none() {
            self.split_from = Some(std::mem::replace(directory, dir));
            self.v2 = vec![join];
        }
        Ok(())
    }

    /// Moves the processes that were there before [`split`](Self::split).
    ///
    /// # Errors
    /// As [`Split::carry_out`].
    pub(super) fn move_to(&self, split: &Split) -> Result<()> {
        self.split_from.as_ref().map_or(Ok(()), |from| split.carry_out(from.as_fd()))
    }

    /// The directory for clone3(2) with `CLONE_INTO_CGROUP`, for a process that goes on to `below`, if it does.
    pub(super) fn directory<'a>(&'a self, below: Option<&'a ExecJoin>) -> Option<BorrowedFd<'a>> {
        below.and_then(ExecJoin::directory).or(self.directory.as_ref().map(AsFd::as_fd))
    }

    /// The descriptors that a new process needs to [`join`](Self::join).
    pub(super) fn fds<'a>(&'a self, below: Option<&'a ExecJoin>) -> impl Iterator<Item = BorrowedFd<'a>> {
        let below = below.into_iter().flat_map(|below| below.v1().iter().chain(below.v2()));
        self.v1.iter().chain(&self.v2).chain(below).map(AsFd::as_fd)
    }

    /// Moves this single-threaded process into the cgroups, and then to those `below`. `born` says that clone3(2) made it
    /// in the v2 [`directory`](Self::directory).
    pub(super) fn join(&self, born: bool, below: Option<&ExecJoin>) -> Result<()> {
        self.v1.iter().chain(below.into_iter().flat_map(ExecJoin::v1)).try_for_each(join)?;
        match below.and_then(ExecJoin::v2) {
            Some(_) if born && below.is_some_and(|below| below.directory().is_some()) => Ok(()),
            Some(below) => join(below),
            None if born => Ok(()),
            None => self.v2.iter().try_for_each(join),
        }
    }
}

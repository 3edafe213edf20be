//! A live container as seen by what works in it: another process, or a change of its mounts.

use super::cgroups::ContainerCgroups;
use super::members;
use super::namespaces::InitNamespaces;
use super::reaper::Reaper;
use crate::error::{Error, ErrorKind};
use crate::id::ContainerId;
use crate::seccomp::Filter;
use rustix::fd::BorrowedFd;

/// What the configuration says about every process of the container.
#[derive(Clone, Debug)]
pub(super) struct ExecConfig {
    pub(super) filter: Option<Filter>,
    /// Namespaces that init has and the sandbox has not: `CLONE_NEW*`.
    pub(super) namespaces: u32,
    pub(super) oom_score_adj: Option<i32>,
    /// Whether a process without groups of its own keeps the sandbox's.
    pub(super) keep_groups: bool,
}

/// A container between the end of its creation and its own end.
#[derive(Clone, Copy)]
pub(super) struct ExecTarget<'a> {
    pub(super) id: &'a ContainerId,
    /// A pidfd of init.
    pub(super) init: BorrowedFd<'a>,
    /// Init's pid in its own pid namespace.
    pub(super) init_pid: i32,
    /// The container's own proc.
    pub(super) proc: BorrowedFd<'a>,
    pub(super) root: BorrowedFd<'a>,
    /// Its null device, which init opened: the container may have changed its `/dev` since.
    pub(super) null: BorrowedFd<'a>,
    pub(super) namespaces: &'a InitNamespaces,
    pub(super) cgroups: &'a ContainerCgroups,
    pub(super) exec_config: &'a ExecConfig,
    /// What was mounted after create, by the kernel's numbers of mounts.
    pub(super) hot_mounts: &'a [u64],
    /// Whether PID 1 is a reaper, and not init.
    pub(super) reaper: bool,
    /// Whether the sandbox has killed init.
    pub(super) killed: bool,
}

impl ExecTarget<'_> {
    /// Whether init or the reaper is exiting, and only waits in the kernel for the rest of its pid namespace to end.
    pub(super) fn is_ending(&self) -> bool {
        let init = || members::find(self.proc, self.init_pid).ok().flatten();
        let first = || self.reaper && Reaper::is_ending(self.proc);
        self.killed || init().is_none_or(|init| init.is_exiting()) || first()
    }

    /// `step` came too late.
    pub(super) fn has_ended(&self, step: &'static str) -> Error {
        has_ended(self.id, step)
    }
}

/// `step` came after the end of the container.
pub(super) fn has_ended(id: &ContainerId, step: &'static str) -> Error {
    Error::new(ErrorKind::Ended, step, format!("container {:?} has ended", id.as_str()))
}

//! What a container uses, read by the caller from the cgroups on its record: no word with the sandbox is needed.

use crate::cgroup;
use crate::container::{Alive, AnyContainer, Container, Phase};
use crate::error::Result;

pub use crate::cgroup::stats::{
    CpuStats, HugetlbStats, IoStats, MemoryStats, PidsStats, Pressure, RdmaStats, Stall, Stalls, Stats,
};

impl<P: Phase> Container<P> {
    /// What the container uses now and has used so far, from its own cgroups.
    ///
    /// What the kernel does not count for this container is `None`. Cgroups that are gone, because somebody deleted the
    /// container, count nothing.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn stats(&self) -> Result<Stats>
    where
        P: Alive,
    {
        cgroup::stats::read(&self.core.record.cgroups)
    }
}

impl AnyContainer {
    /// As [`Container::stats`].
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) before create and after the end.
    pub fn stats(&self) -> Result<Stats> {
        match self {
            Self::Created(container) => container.stats(),
            Self::Running(container) => container.stats(),
            Self::Paused(container) => container.stats(),
            Self::Creating(_) | Self::Stopped(_) => Err(self.wrong_state("stats")),
        }
    }
}

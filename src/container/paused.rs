//! [`Paused`]: the program was executed, and all processes are frozen.

use super::failed::Failed;
use super::typestate::{Alive, Container, Pausable, Paused, Phase, Resumable, Running};
use crate::error::Result;
use crate::state::Status;
use crate::wire::control::Operation;

impl<P: Phase> Container<P> {
    /// Freezes every process of the container: when this call returns, none makes progress. The container's timeout
    /// continues to run.
    ///
    /// The freezer of the container's cgroup does it (cgroups(7)), and nothing inside can notice. A container without
    /// a cgroup, because the caller may not make one or chose
    /// [`without_cgroup`](super::ContainerBuilder::without_cgroup), gets SIGSTOP for each process instead. That is
    /// weaker: the kernel tells a parent inside that its child stopped, sleeping system calls may return early, and a
    /// privileged process on the host can send SIGCONT.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) if a process cannot be stopped. All of them then run again.
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) if another process changed the container first.
    pub fn pause(self) -> Result<Container<Paused>, Failed<Running>>
    where
        P: Pausable,
    {
        let mut running = self.map(P::into_running);
        match running.move_to(Status::Paused, Operation::Pause, Operation::Resume) {
            Ok(()) => Ok(running.map(|Running { live, streams }| Paused { live, streams })),
            Err(error) => Err(running.recover(error)),
        }
    }

    /// Thaws the processes of a paused container.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) if another process changed the container first.
    pub fn resume(self) -> Result<Container<Running>, Failed<Paused>>
    where
        P: Resumable,
    {
        let mut paused = self.map(P::into_paused);
        match paused.move_to(Status::Running, Operation::Resume, Operation::Pause) {
            Ok(()) => Ok(paused.map(|Paused { live, streams }| Running { live, streams })),
            Err(error) => Err(paused.recover(error)),
        }
    }
}

impl<P: Alive> Container<P> {
    /// Asks the sandbox for `operation`, and records `status`. If the record cannot be saved, asks for `undo`.
    pub(super) fn move_to(&mut self, status: Status, operation: Operation, undo: Operation) -> Result<()> {
        let mut lock = self.core.lock_unchanged()?;
        self.phase.live().ask(operation)?;
        let before = self.core.record.clone();
        let saved = self.core.record.advance(status).and_then(|()| lock.save(&mut self.core.record));
        if saved.is_err() {
            self.core.record = before;
            self.phase.live().ask(undo)?;
        }
        saved
    }
}

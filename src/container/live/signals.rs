//! Signals to the processes of a container.

use crate::container::{Alive, Container, Phase, Started};
use crate::error::Result;
use crate::link::{KILL_LIMIT, SandboxLink, kill_all};
use crate::process::Signal;
use crate::wire::control::{Operation, SignalTarget};
use std::time::Instant;

impl<P: Phase + ?Sized> Container<P> {
    /// Sends `signal` to init, the workload's first process.
    ///
    /// A PID 1 without a handler for a signal does not get it from the kernel; here it gets what the signal does by
    /// default, so that SIGTERM ends a program that never heard of it.
    ///
    /// # Errors
    /// [`ErrorKind::Ended`](crate::ErrorKind::Ended) if the container has ended.
    pub fn signal(&self, signal: Signal) -> Result<()>
    where
        P: Alive,
    {
        send(self.phase.live(), signal, SignalTarget::Init)
    }

    /// Sends `signal` to every process of the container: init, what was executed later, and their descendants.
    ///
    /// With SIGKILL it returns when all of them are gone.
    ///
    /// # Errors
    /// [`ErrorKind::Ended`](crate::ErrorKind::Ended) if the container has ended, [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) if killed processes stay.
    pub fn signal_all(&self, signal: Signal) -> Result<()>
    where
        P: Alive,
    {
        send_to_all(self.phase.live(), signal)
    }

    /// Sends `signal` to the process that the container calls `pid`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the container has no such process; of a process of another container in the same
    /// pid namespace the error says just that.
    pub fn signal_process(&self, pid: i32, signal: Signal) -> Result<()>
    where
        P: Started,
    {
        send(self.phase.live(), signal, SignalTarget::Process(pid))
    }

    /// Sends `signal` to the processes of the container in the process group `pgid`, as the container counts.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if none of its processes is in that group.
    pub fn signal_process_group(&self, pgid: i32, signal: Signal) -> Result<()>
    where
        P: Started,
    {
        send(self.phase.live(), signal, SignalTarget::Group(pgid))
    }

    /// Sends `signal` to the foreground process group of the terminal of the process `pid`: what a key pressed there
    /// would do.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the process has no terminal, [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such process.
    pub fn signal_foreground(&self, pid: i32, signal: Signal) -> Result<()>
    where
        P: Started,
    {
        send(self.phase.live(), signal, SignalTarget::Foreground(pid))
    }
}

fn send(live: &SandboxLink, signal: Signal, to: SignalTarget) -> Result<()> {
    live.ask(Operation::Signal { number: signal.number(), to }).map(drop)
}

fn send_to_all(live: &SandboxLink, signal: Signal) -> Result<()> {
    if signal == Signal::KILL {
        return kill_all(Instant::now() + KILL_LIMIT, live.ended(), |operation| live.ask(operation));
    }
    send(live, signal, SignalTarget::All)
}

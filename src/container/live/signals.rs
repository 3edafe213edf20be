//! Signals to the processes of a container.

use crate::container::{Alive, Container, Enterable, Phase};
use crate::error::Result;
use crate::link::{KILL_LIMIT, SandboxLink, kill_all};
use crate::process::Signal;
use crate::wire::control::{Operation, SignalTarget};
use std::time::Instant;

impl<P: Phase + ?Sized> Container<P> {
    /// Sends `signal` to init, the workload's first process.
    ///
    /// If init is PID 1 of its pid namespace, because the container has no [reaper](crate::ContainerBuilder::init), the
    /// kernel discards a signal for which init has no handler. This crate then applies the signal's default action, so that
    /// SIGTERM ends a program that does not handle it.
    ///
    /// # Errors
    /// [`ErrorKind::Ended`](crate::ErrorKind::Ended) if the container has ended.
    pub fn signal(&self, signal: Signal) -> Result<()>
    where
        P: Alive,
    {
        send(self.phase.live(), signal, SignalTarget::Init)
    }

    /// Sends `signal` to every process of the container: init, processes of [`exec`](Container::exec), and their
    /// descendants.
    ///
    /// With SIGKILL it returns when all of them are gone.
    ///
    /// # Errors
    /// [`ErrorKind::Ended`](crate::ErrorKind::Ended) if the container has ended,
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) if killed processes stay.
    pub fn signal_all(&self, signal: Signal) -> Result<()>
    where
        P: Alive,
    {
        send_to_all(self.phase.live(), signal)
    }

    /// Sends `signal` to the process `pid`, as the container's pid namespace counts.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the container has no such process. If another container
    /// in the same pid namespace has it, the error says so.
    pub fn signal_process(&self, pid: i32, signal: Signal) -> Result<()>
    where
        P: Enterable,
    {
        send(self.phase.live(), signal, SignalTarget::Process(pid))
    }

    /// Sends `signal` to the container's processes in the process group `pgid`, as the container's pid namespace
    /// counts.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if none of its processes is in that group.
    pub fn signal_process_group(&self, pgid: i32, signal: Signal) -> Result<()>
    where
        P: Enterable,
    {
        send(self.phase.live(), signal, SignalTarget::Group(pgid))
    }

    /// Sends `signal` to the foreground process group of the terminal of the process `pid`, as a key pressed there
    /// would.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the process has no terminal,
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such process.
    pub fn signal_foreground(&self, pid: i32, signal: Signal) -> Result<()>
    where
        P: Enterable,
    {
        send(self.phase.live(), signal, SignalTarget::Foreground(pid))
    }
}

fn send(live: &SandboxLink, signal: Signal, to: SignalTarget) -> Result<()> {
    // The sandbox of a pod goes on, and would look for the receivers, or find processes that outlived their init.
    live.check_alive("signal")?;
    live.ask(Operation::Signal { number: signal.number(), to }).map(drop)
}

fn send_to_all(live: &SandboxLink, signal: Signal) -> Result<()> {
    if signal == Signal::KILL {
        return kill_all(Instant::now() + KILL_LIMIT, live.ended(), live.sandbox_pid(), |operation| {
            live.ask(operation)
        });
    }
    send(live, signal, SignalTarget::All)
}

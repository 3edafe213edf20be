//! Signals to the processes of a container.

use crate::container::handle::{Handle, SandboxLink};
use crate::container::{Alive, AnyContainer, Container, Phase, Started};
use crate::error::{Error, ErrorKind, Result};
use crate::process::Signal;
use crate::process::channel::wait_readable_until;
use crate::wire::message::{Operation, Reply, SignalTarget};
use rustix::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// How long killed processes may take to go. Only one that the kernel cannot interrupt comes near.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How long until it is asked again whether they are gone: the kernel has no event for the last process of a set.
const RECHECK: Duration = Duration::from_millis(1);

impl<P: Phase> Container<P> {
    /// Sends `signal` to init, the workload's first process.
    ///
    /// A PID 1 without a handler for a signal does not get it from the kernel; here it gets what the signal does by
    /// default, so that SIGTERM ends a program that never heard of it.
    ///
    /// # Errors
    /// [`ErrorKind::Ended`] if the container has ended.
    pub fn signal(&self, signal: Signal) -> Result<()>
    where
        P: Alive,
    {
        send(&self.core, self.phase.live(), signal, SignalTarget::Init)
    }

    /// Sends `signal` to every process of the container: init, what was executed later, and their descendants.
    ///
    /// With SIGKILL it returns when all of them are gone.
    ///
    /// # Errors
    /// [`ErrorKind::Ended`] if the container has ended, [`ErrorKind::TimedOut`] if killed processes stay.
    pub fn signal_all(&self, signal: Signal) -> Result<()>
    where
        P: Alive,
    {
        send_to_all(&self.core, self.phase.live(), signal)
    }

    /// Sends `signal` to the process that the container calls `pid`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the container has no such process; of a process of another container in the same
    /// pid namespace the error says just that.
    pub fn signal_process(&self, pid: i32, signal: Signal) -> Result<()>
    where
        P: Started,
    {
        send(&self.core, self.phase.live(), signal, SignalTarget::Process(pid))
    }

    /// Sends `signal` to the processes of the container in the process group `pgid`, as the container counts.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if none of its processes is in that group.
    pub fn signal_process_group(&self, pgid: i32, signal: Signal) -> Result<()>
    where
        P: Started,
    {
        send(&self.core, self.phase.live(), signal, SignalTarget::Group(pgid))
    }

    /// Sends `signal` to the foreground process group of the terminal of the process `pid`: what a key pressed there
    /// would do.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the process has no terminal, [`ErrorKind::NotFound`] if there is no such process.
    pub fn signal_foreground(&self, pid: i32, signal: Signal) -> Result<()>
    where
        P: Started,
    {
        send(&self.core, self.phase.live(), signal, SignalTarget::Foreground(pid))
    }
}

impl AnyContainer {
    /// Sends `signal` to init.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] if there is none.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match self {
            Self::Created(container) => container.signal(signal),
            Self::Running(container) => container.signal(signal),
            Self::Paused(container) => container.signal(signal),
            Self::Creating(_) | Self::Stopped(_) => Err(self.wrong_state("signal")),
        }
    }

    /// Sends `signal` to every process of the container, see [`Container::signal_all`].
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] if there is none.
    pub fn signal_all(&self, signal: Signal) -> Result<()> {
        match self {
            Self::Created(container) => container.signal_all(signal),
            Self::Running(container) => container.signal_all(signal),
            Self::Paused(container) => container.signal_all(signal),
            Self::Creating(_) | Self::Stopped(_) => Err(self.wrong_state("signal")),
        }
    }
}

fn send(core: &Handle, live: &SandboxLink, signal: Signal, to: SignalTarget) -> Result<()> {
    live.ask(core, Operation::Signal { number: signal.number(), to }).map(drop)
}

fn send_to_all(core: &Handle, live: &SandboxLink, signal: Signal) -> Result<()> {
    if signal == Signal::KILL {
        return kill_all(Instant::now() + KILL_LIMIT, live.ended(), |operation| live.ask(core, operation));
    }
    let operation = Operation::Signal { number: signal.number(), to: SignalTarget::All };
    live.ask(core, operation).map(drop)
}

/// Kills every process of a container, and again until none is left. `ended` is readable when the container has ended.
pub(in crate::container) fn kill_all(
    deadline: Instant,
    ended: BorrowedFd<'_>,
    ask: impl Fn(Operation) -> Result<Reply>,
) -> Result<()> {
    loop {
        match ask(Operation::Signal { number: libc::SIGKILL, to: SignalTarget::All }) {
            Ok(Reply::Left { processes: 1.. }) => {}
            // It ends with its processes, perhaps before it could say so.
            Err(error) if *error.kind() == ErrorKind::Ended => return Ok(()),
            answered => return answered.map(drop),
        }
        let now = Instant::now();
        if now >= deadline {
            let error = Error::new(ErrorKind::TimedOut, "signal", "killed processes are still there");
            return Err(error.hint("is one in state D?"));
        }
        // The end of the container comes first; else it is time to look again.
        wait_readable_until(ended, Some(now + RECHECK))?;
    }
}

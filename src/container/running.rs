//! [`Running`]: the program was executed. Waiting for the end, and ending it.

use super::failed::Failed;
use super::outcome::Exit;
use super::typestate::{Alive, Container, Executed, Phase, Running, Stopped};
use crate::error::{ErrorKind, Result};
use crate::helper::{has_ended, reap};
use crate::link::{KILL_LIMIT, stuck};
use crate::process::Signal;
use crate::state::Status;
use crate::wire::control::Operation;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

impl<P: Phase + ?Sized> Container<P> {
    /// Waits until the container has ended, without its lock. Any number of threads and processes can wait, again and
    /// again.
    ///
    /// A standard input that is [piped](crate::Stdio::piped) and was not taken is closed first, as
    /// [`std::process::Child::wait`] does: a workload that reads it to the end would never end. A container that was
    /// not started does not end by itself.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn wait(&self) -> Result<Exit>
    where
        P: Alive,
    {
        self.phase.streams().pipes.close_stdin();
        self.phase.live().wait_until(None)?;
        self.core.exit()
    }

    /// Whether the container has ended, and how. Closes no standard input.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn try_wait(&self) -> Result<Option<Exit>>
    where
        P: Alive,
    {
        if has_ended(self.phase.live().ended()) { self.core.exit().map(Some) } else { Ok(None) }
    }

    /// Waits until the container has ended, at most for `limit`; `None` if it has not. Closes no standard input, because
    /// the caller may want to write to it yet.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn wait_timeout(&self, limit: Duration) -> Result<Option<Exit>>
    where
        P: Alive,
    {
        let deadline = Instant::now().checked_add(limit);
        if self.phase.live().wait_until(deadline)? { self.core.exit().map(Some) } else { Ok(None) }
    }

    /// A descriptor that becomes readable when the container has ended, for poll(2) and every event loop built on it: a
    /// pidfd, or in a pod a connection to the sandbox.
    #[must_use]
    pub fn end_fd(&self) -> BorrowedFd<'_>
    where
        P: Alive,
    {
        self.phase.live().ended()
    }
}

impl<P: Phase> Container<P> {
    /// Waits until the container has ended. Closes a standard input that was not taken, as [`wait`](Self::wait).
    ///
    /// A paused container does not end by itself.
    ///
    /// # Errors
    /// The system call that failed; the container comes back.
    pub fn wait_stopped(self) -> Result<Container<Stopped>, Failed<P>>
    where
        P: Executed,
    {
        match self.wait() {
            Ok(exit) => Ok(self.into_stopped(exit)),
            Err(error) => Err(self.recover(error)),
        }
    }

    /// Sends SIGTERM to the workload, and kills it if it has not ended after `grace`. Resumes a paused container for
    /// that. The outcome of a workload that ended by itself before stays what it was.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if a killed process has not ended after ten seconds, because the kernel cannot
    /// interrupt it.
    pub fn stop(mut self, grace: Duration) -> Result<Container<Stopped>, Failed<P>>
    where
        P: Executed,
    {
        // Send the signal before resuming, so that it is pending when the processes go on.
        let mut asked = self.signal(Signal::TERM);
        if self.status() == Status::Paused {
            let resumed = self.move_to(Status::Running, Operation::Resume, Operation::Pause);
            asked = asked.and(resumed);
        }
        match asked {
            Ok(()) => {}
            Err(error) if *error.kind() == ErrorKind::Ended => {}
            Err(error) => return Err(self.recover(error)),
        }
        match self.wait_timeout(grace) {
            Ok(Some(exit)) => Ok(self.into_stopped(exit)),
            Ok(None) => kill(self),
            Err(error) => Err(self.recover(error)),
        }
    }
}

impl AsFd for Container<Running> {
    /// As [`Container::end_fd`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end_fd()
    }
}

impl AsRawFd for Container<Running> {
    /// The number of [`as_fd`](AsFd::as_fd), for event loops that take numbers. It stays this value's.
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// Kills through the sandbox, whose exit record then has the reason, or by pidfd if the sandbox does not answer.
pub(super) fn kill<P: Alive>(container: Container<P>) -> Result<Container<Stopped>, Failed<P>> {
    let live = container.phase.live();
    let asked = live.ask(Operation::Kill);
    let deadline = Some(Instant::now() + KILL_LIMIT);
    let gone = match asked {
        Ok(_) => live.wait_until(deadline),
        Err(_) => {
            let _ = rustix::process::pidfd_send_signal(live.pidfd(), rustix::process::Signal::KILL);
            crate::cgroup::thaw(&container.core.record.cgroups);
            live.wait_until(deadline)
        }
    };
    let exit = gone.and_then(|gone| match gone {
        true => container.core.exit(),
        false => Err(stuck("kill", "the container's processes are still there", live.sandbox_pid())),
    });
    match exit {
        Ok(exit) => Ok(container.into_stopped(exit)),
        Err(error) => Err(container.recover(error)),
    }
}

impl<P: Phase> Container<P> {
    pub(super) fn into_stopped(self, exit: Exit) -> Container<Stopped>
    where
        P: Alive,
    {
        let Self { core, phase } = self;
        let (live, streams) = phase.into_parts();
        // Collect the sandbox if it is our child, so that it is no zombie for as long as this value lives.
        reap(live.pidfd());
        Container { core, phase: Stopped { exit, streams } }
    }
}

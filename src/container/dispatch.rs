//! What can be done with an [`AnyContainer`]: as with a container of the phase it is in, and an error in every other.
//!
//! No rule lives here, only which phases have which operation, and the compiler holds that against the bounds of the
//! methods themselves. Operations with a file of their own (signals, statistics, the process table) have it there.

use super::handle::Streams;
use super::{AnyContainer, Exec, Exit, FailedAny, Files, Pod, Process, ProcessExit, ProcessOutput};
use crate::error::Result;
use crate::process::Signal;
use crate::process::console::Pty;
use rustix::fd::BorrowedFd;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// What a container in one of these phases answers, else that `operation` is none of its phase.
macro_rules! ask {
    ($any:expr, $operation:literal, $($phase:ident)|+, $container:ident => $answer:expr) => {
        match $any {
            $(AnyContainer::$phase($container) => $answer,)+
            other => Err(other.wrong_state($operation)),
        }
    };
}

/// As [`ask`], for what consumes the container.
macro_rules! transition {
    ($any:expr, $operation:literal, $($phase:ident)|+, $container:ident => $next:expr) => {
        match $any {
            $(AnyContainer::$phase($container) => match $next {
                Ok(next) => Ok(next.into()),
                Err(failed) => Err(failed.into()),
            },)+
            other => Err(FailedAny::new(other.wrong_state($operation), Some(other))),
        }
    };
}

impl AnyContainer {
    /// As [`Container::create`](super::Container::create): from creating to created.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) if it was created already.
    pub fn create(self) -> Result<Self, FailedAny> {
        transition!(self, "create", Creating, container => container.create())
    }

    /// As [`Container::start`](super::Container::start): from created to running.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) unless it is created.
    pub fn start(self) -> Result<Self, FailedAny> {
        transition!(self, "start", Created, container => container.start())
    }

    /// As [`Container::stop`](super::Container::stop): asks it to end, and kills it when the grace is over.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) unless it runs.
    pub fn stop(self, grace: Duration) -> Result<Self, FailedAny> {
        transition!(self, "stop", Running | Paused, container => container.stop(grace))
    }

    /// As [`Container::pause`](super::Container::pause): from running to paused.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) unless it runs; its state is unchanged.
    pub fn pause(self) -> Result<Self, FailedAny> {
        transition!(self, "pause", Running, container => container.pause())
    }

    /// As [`Container::resume`](super::Container::resume): from paused to running.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) unless it is paused; its state is unchanged.
    pub fn resume(self) -> Result<Self, FailedAny> {
        transition!(self, "resume", Paused, container => container.resume())
    }

    /// As [`Container::kill`](super::Container::kill): ends it and waits until it has.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) before create and after the end.
    pub fn kill(self) -> Result<Self, FailedAny> {
        transition!(self, "kill", Created | Running | Paused, container => container.kill())
    }

    /// As [`Container::wait_stopped`](super::Container::wait_stopped): from running to stopped.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) unless it runs.
    pub fn wait_stopped(self) -> Result<Self, FailedAny> {
        transition!(self, "wait until stopped", Running | Paused, container => container.wait_stopped())
    }

    /// As [`Container::detach`](super::Container::detach): lets it outlive this program and this value.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) before create and after the end.
    pub fn detach(self) -> Result<Self, FailedAny> {
        transition!(self, "detach", Created | Running | Paused, container => container.detach())
    }

    /// Waits until the container has ended; repeatable, from any process, also long after it did.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) for a container that was never completely created.
    pub fn wait(&self) -> Result<Exit> {
        match self {
            Self::Stopped(container) => Ok(container.exit().clone()),
            _ => ask!(self, "wait", Created | Running | Paused, container => container.wait()),
        }
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn try_wait(&self) -> Result<Option<Exit>> {
        match self {
            Self::Stopped(container) => Ok(Some(container.exit().clone())),
            _ => ask!(self, "wait", Created | Running | Paused, container => container.try_wait()),
        }
    }

    /// Waits until it has ended, at most for `limit`; `None` if it has not.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, limit: Duration) -> Result<Option<Exit>> {
        match self {
            Self::Stopped(container) => Ok(Some(container.exit().clone())),
            _ => ask!(self, "wait", Created | Running | Paused, container => container.wait_timeout(limit)),
        }
    }

    /// A descriptor that becomes readable when the container has ended, for poll(2) and every event loop built on it.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) before create and after the end.
    pub fn end_fd(&self) -> Result<BorrowedFd<'_>> {
        ask!(self, "wait", Created | Running | Paused, container => Ok(container.phase.live.ended()))
    }

    /// How it ended.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) if it had not when it was loaded: see
    /// [`wait`](Self::wait).
    pub fn exit(&self) -> Result<&Exit> {
        ask!(self, "exit", Stopped, container => Ok(container.exit()))
    }

    /// As [`Container::exec`](super::Container::exec).
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) unless it runs.
    pub fn exec(&self, exec: Exec) -> Result<Process> {
        ask!(self, "exec", Running, container => container.exec(exec))
    }

    /// As [`Container::exec_output`](super::Container::exec_output).
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) unless it runs.
    pub fn exec_output(&self, exec: Exec) -> Result<ProcessOutput> {
        ask!(self, "exec", Running, container => container.exec_output(exec))
    }

    /// As [`Container::wait_pid`](super::Container::wait_pid).
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) unless it is running or paused.
    pub fn wait_pid(&self, pid: i32) -> Result<ProcessExit> {
        ask!(self, "wait for a process", Running | Paused, container => container.wait_pid(pid))
    }

    /// As [`Container::signal_process`](super::Container::signal_process).
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) unless it runs.
    pub fn signal_process(&self, pid: i32, signal: Signal) -> Result<()> {
        ask!(self, "signal a process", Running, container => container.signal_process(pid, signal))
    }

    /// As [`Container::signal_process_group`](super::Container::signal_process_group).
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) unless it runs.
    pub fn signal_process_group(&self, pgid: i32, signal: Signal) -> Result<()> {
        ask!(self, "signal a process group", Running, container => container.signal_process_group(pgid, signal))
    }

    /// As [`Container::signal_foreground`](super::Container::signal_foreground).
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) unless it runs.
    pub fn signal_foreground(&self, pid: i32, signal: Signal) -> Result<()> {
        ask!(self, "signal the foreground", Running, container => container.signal_foreground(pid, signal))
    }

    /// Access to the container's files, as [`Container::files`](super::Container::files).
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) if there is no container yet, or none any more.
    pub fn files(&self) -> Result<Files> {
        ask!(self, "files", Created | Running | Paused, container => container.files())
    }

    /// The pod it is in: its own, or the one it joined.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) before create and after the end.
    pub fn pod(&self) -> Result<Pod> {
        ask!(self, "pod", Created | Running | Paused, container => Ok(container.pod()))
    }

    /// The pid of the sandbox on the host; see [`Container::sandbox_pid`](super::Container::sandbox_pid).
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) before create and after the end.
    pub fn sandbox_pid(&self) -> Result<i32> {
        ask!(self, "sandbox pid", Created | Running | Paused, container => Ok(container.sandbox_pid()))
    }

    /// The pid of the workload on the host; see [`Container::init_pid`](super::Container::init_pid).
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) before create and after the end.
    pub fn init_pid(&self) -> Result<i32> {
        ask!(self, "init pid", Created | Running | Paused, container => Ok(container.init_pid()))
    }

    /// The directory of the bundle it was made from; of its rootfs, if it was made without one.
    #[must_use]
    pub fn bundle(&self) -> &Path {
        &self.record().bundle
    }

    /// The writing end of the workload's standard input, if this value made the container with a pipe there, and it was
    /// not taken yet.
    pub fn take_stdin(&mut self) -> Option<File> {
        self.streams_mut()?.pipes[0].take()
    }

    /// The reading end of the workload's standard output, likewise.
    pub fn take_stdout(&mut self) -> Option<File> {
        self.streams_mut()?.pipes[1].take()
    }

    /// The reading end of the workload's standard error, likewise.
    pub fn take_stderr(&mut self) -> Option<File> {
        self.streams_mut()?.pipes[2].take()
    }

    /// The workload's terminal, if this value made the container with one, and it was not taken yet.
    pub fn take_pty(&mut self) -> Option<Pty> {
        self.streams_mut()?.pty.take()
    }

    fn streams_mut(&mut self) -> Option<&mut Streams> {
        match self {
            Self::Creating(_) => None,
            Self::Created(container) => Some(&mut container.phase.streams),
            Self::Running(container) => Some(&mut container.phase.streams),
            Self::Paused(container) => Some(&mut container.phase.streams),
            Self::Stopped(container) => Some(&mut container.phase.streams),
        }
    }
}

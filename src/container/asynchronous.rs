//! Run, wait and exec as futures for a tokio runtime.
//!
//! A future waits for descriptors, so it blocks no thread. Making and deleting a container takes milliseconds of system
//! calls: a future does that in [`tokio::task::spawn_blocking`].
//!
//! Dropping a future destroys the container that it made and kills the process that it executed. A wait changes nothing,
//! whether it is dropped or not.

use super::live::process::{Heard, Pending};
use super::outcome::{Exit, Output};
use super::typestate::{Alive, Container, Enterable, Running};
use super::{ContainerBuilder, Exec, Outcome, Phase, Process, ProcessExit, ProcessOutput};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::helper::has_ended;
use crate::process::{Collected, Collector, Stdio};
use rustix::event::epoll;
use rustix::fd::{AsFd, BorrowedFd};
use std::fs::File;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};

impl ContainerBuilder {
    /// As [`spawn`](Self::spawn), for a tokio runtime.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    ///
    /// # Panics
    /// Outside of a runtime with I/O and time enabled, as every future of this crate.
    pub async fn spawn_async(self) -> Result<Container<Running>> {
        blocking(move || self.spawn()).await
    }

    /// As [`run`](Self::run), for a tokio runtime.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_async(self) -> Result<Exit> {
        let running = self.without_pipes().spawn_async().await?;
        let exit = running.wait_async().await?;
        delete(running).await?;
        Ok(exit)
    }

    /// As [`output`](Self::output), for a tokio runtime.
    ///
    /// # Errors
    /// As [`output`](Self::output).
    pub async fn output_async(self) -> Result<Output> {
        let limit = self.output_limit;
        let mut running = self.with_piped_output().spawn_async().await?;
        let pipes = [running.take_stdout(), running.take_stderr()];
        let Collected { stdout, stderr, too_much } = collect(&pipes, limit, running.end_fd()).await?;
        let exit = match too_much {
            true => {
                let stopped = blocking(move || Ok(running.kill()?)).await?;
                let mut exit = stopped.exit().clone();
                exit.outcome = Outcome::TooMuchOutput { limit };
                blocking(move || stopped.delete().map_err(Into::into)).await?;
                exit
            }
            false => {
                let exit = running.wait_async().await?;
                delete(running).await?;
                exit
            }
        };
        Ok(Output { exit, stdout, stderr })
    }
}

impl<P: Phase + ?Sized> Container<P> {
    /// As [`wait`](Self::wait), for a tokio runtime.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub async fn wait_async(&self) -> Result<Exit>
    where
        P: Alive,
    {
        self.phase.streams().pipes.close_stdin();
        loop {
            if let Some(exit) = self.try_wait()? {
                return Ok(exit);
            }
            readable(&[self.end_fd()]).await?;
        }
    }

    /// As [`exec`](Self::exec), for a tokio runtime. The process is [`attached`](Exec::attached): it is killed when its
    /// value, or this future before it is ready, is dropped.
    ///
    /// # Errors
    /// As [`exec`](Self::exec).
    pub async fn exec_async(&self, exec: Exec) -> Result<Process>
    where
        P: Enterable,
    {
        let live = self.phase.live();
        let mut pending = Pending::ask(&self.core, live, exec.attached())?;
        loop {
            let deadline = Instant::from_std(pending.deadline());
            // The result does not matter: if the deadline has passed, `hear` returns the error.
            let _ = timeout_at(deadline, readable(&[pending.as_fd()])).await;
            match pending.hear(&self.core, live)? {
                Heard::More(again) => pending = again,
                Heard::Started(process) => return Ok(process),
            }
        }
    }

    /// As [`exec_output`](Self::exec_output), for a tokio runtime. The process is [`attached`](Exec::attached).
    ///
    /// # Errors
    /// As [`exec_output`](Self::exec_output).
    pub async fn exec_output_async(&self, mut exec: Exec) -> Result<ProcessOutput>
    where
        P: Enterable,
    {
        exec.stdio[1] = Stdio::piped();
        exec.stdio[2] = Stdio::piped();
        self.exec_async(exec).await?.wait_with_output_async().await
    }
}

impl Process {
    /// As [`wait`](Self::wait), for a tokio runtime.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub async fn wait_async(&self) -> Result<ProcessExit> {
        self.close_stdin();
        loop {
            if let Some(exit) = self.try_wait()? {
                return Ok(exit);
            }
            readable(&[self.as_fd()]).await?;
        }
    }

    /// As [`wait_with_output`](Self::wait_with_output), for a tokio runtime.
    ///
    /// # Errors
    /// As [`wait_with_output`](Self::wait_with_output).
    pub async fn wait_with_output_async(mut self) -> Result<ProcessOutput> {
        drop(self.take_stdin());
        let limit = self.output_limit();
        let pipes = [self.take_stdout(), self.take_stderr()];
        let Collected { stdout, stderr, too_much } = collect(&pipes, limit, self.pidfd()).await?;
        if too_much {
            self.kill_tree()?;
        }
        let mut exit = self.wait_async().await?;
        if too_much {
            exit.outcome = Outcome::TooMuchOutput { limit };
        }
        Ok(ProcessOutput { exit, stdout, stderr })
    }
}

/// As `process::collect`, but without blocking the thread.
async fn collect(pipes: &[Option<File>; 2], limit: u64, end: BorrowedFd<'_>) -> Result<Collected> {
    let mut collector = Collector::new(pipes, limit)?;
    while collector.wants_more() {
        readable(&collector.sources(end)).await?;
        let ended = has_ended(end);
        collector.read(ended)?;
    }
    Ok(collector.finish())
}

/// Deletes a container that has ended.
async fn delete(ended: Container<Running>) -> Result<()> {
    blocking(move || Ok(ended.wait_stopped()?.delete()?)).await
}

/// Runs a `call` that makes or deletes a container on a thread that may block. If the future is dropped, the call goes
/// on, and its result is dropped: an attached container ends with its value.
pub(super) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => {
                Err(Error::new(ErrorKind::InvalidInput, "spawn_blocking", "the runtime is shutting down"))
            }
        },
    }
}

/// Waits until one of `fds` is readable. Several calls may wait for the same descriptor.
async fn readable(fds: &[BorrowedFd<'_>]) -> Result<()> {
    // Each call has an epoll of its own, because the runtime's takes a descriptor only once.
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).os(|| "epoll_create1()")?;
    for fd in fds {
        epoll::add(&epoll, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
            .os(|| "epoll_ctl(ADD)")?;
    }
    #[allow(
        deprecated,
        reason = "the safe way of every tokio 1; an `OwnedFd` stays open as long as it is registered"
    )]
    let epoll = AsyncFd::with_interest(epoll, Interest::READABLE).os(|| "epoll_ctl(ADD, epoll)")?;
    let ready = epoll.readable().await.os(|| "epoll_wait()")?;
    drop(ready);
    Ok(())
}

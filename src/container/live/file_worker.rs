//! [`FileWorker`]: the caller's connection to the process that works on a container's files.

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::helper::{Child, collect_later, reap};
use crate::link::{Ending, KILL_LIMIT, SandboxLink};
use crate::process::channel::wait_readable_until;
use crate::process::donation::NamedFd;
use crate::process::{Channel, Delivery};
use crate::wire::control::Operation;
use crate::wire::files::{FileReply, FileRequest, WorkerReport};
use rustix::fd::{AsFd, OwnedFd};
use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the worker may take for one answer. It removes a tree of millions of files in less time; a file system that
/// hangs never answers.
const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(120);

/// The file worker of a container. It ends when this value is dropped.
#[derive(Debug)]
pub(super) struct FileWorker {
    state: Mutex<WorkerState>,
    serves: Served,
    /// How long one answer may take.
    pub(super) time_limit: Duration,
}

/// What the worker serves, and whose child it is.
#[derive(Debug)]
enum Served {
    /// A live container, as a child of its sandbox.
    Live(Ending),
    /// What was kept of a container that has ended, as a child of this program.
    Kept(Child),
}

#[derive(Debug)]
enum WorkerState {
    Connected(Channel),
    /// An answer did not come in time. It may come yet, and would be taken for the answer to the next request.
    Broken,
    /// The container has ended.
    Ended,
}

impl FileWorker {
    /// Has the sandbox fork a worker, and waits until it can work.
    pub(super) fn start(live: &SandboxLink) -> Result<Self> {
        let state = Mutex::new(WorkerState::Connected(live.connect(Operation::Files, &[])?));
        let worker = Self { state, serves: Served::Live(live.ending()?), time_limit: DEFAULT_TIME_LIMIT };
        worker.exchange(|worker| worker.ready()).map_err(|error| live.explain("files", error))?;
        Ok(worker)
    }

    fn ended(&self) -> Error {
        match &self.serves {
            Served::Live(container) => container.error("files"),
            Served::Kept(_) => Error::new(ErrorKind::HelperDied, "files", "the worker has ended"),
        }
    }

    /// The worker `child`, which serves the other end of `connection`. Waits until it can work.
    pub(super) fn of(connection: Channel, child: Child) -> Result<Self> {
        let state = Mutex::new(WorkerState::Connected(connection));
        let worker = Self { state, serves: Served::Kept(child), time_limit: DEFAULT_TIME_LIMIT };
        worker.exchange(|worker| worker.ready())?;
        Ok(worker)
    }

    /// Has one conversation with the worker, after those of other threads. One that breaks off ends the connection.
    pub(super) fn exchange<T>(&self, talk: impl FnOnce(&Conversation<'_>) -> Result<T>) -> Result<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match &*state {
            WorkerState::Connected(channel) => channel,
            WorkerState::Ended => return Err(self.ended()),
            WorkerState::Broken => {
                let problem = "an earlier answer did not come, and the connection was given up";
                return Err(Error::new(ErrorKind::HelperDied, "files", problem).hint("call `files` again"));
            }
        };
        let result = talk(&Conversation { channel, time_limit: self.time_limit });
        match (result.as_ref().map_err(Error::kind), &self.serves) {
            (Err(ErrorKind::HelperDied), Served::Live(container)) if container.is_near()? => {
                *state = WorkerState::Ended;
                return Err(self.ended());
            }
            (Err(ErrorKind::TimedOut | ErrorKind::HelperDied | ErrorKind::PeerMisbehaved), _) => {
                *state = WorkerState::Broken;
            }
            _ => {}
        }
        result
    }
}

impl Drop for FileWorker {
    fn drop(&mut self) {
        let Served::Kept(child) = &self.serves else { return };
        let _ = rustix::process::pidfd_send_signal(child.pidfd(), rustix::process::Signal::KILL);
        match wait_readable_until(child.pidfd(), Instant::now().checked_add(KILL_LIMIT)) {
            Ok(true) => reap(child.pidfd()),
            // It hangs in the file system of a bind. The next call that makes a container collects it.
            _ => collect_later(child.pidfd().try_clone_to_owned().into_iter().collect()),
        }
    }
}

/// One request to the worker and its answers. No other thread talks to the worker meanwhile.
pub(super) struct Conversation<'a> {
    channel: &'a Channel,
    time_limit: Duration,
}

impl Conversation<'_> {
    pub(super) fn send(&self, request: &FileRequest, fds: &[NamedFd<'_>]) -> Result<()> {
        self.channel.send(request, fds)
    }

    fn ready(&self) -> Result<()> {
        let deadline = Instant::now().checked_add(self.time_limit);
        match self.channel.receive::<WorkerReport>(deadline)?.message {
            WorkerReport::Ready => Ok(()),
            WorkerReport::Failed(failure) => Err(failure.into()),
        }
    }

    pub(super) fn receive(&self) -> Result<Delivery<FileReply>> {
        let deadline = Instant::now().checked_add(self.time_limit);
        let delivery = self.channel.receive::<FileReply>(deadline)?;
        match delivery.message {
            FileReply::Failed(failure) => Err(failure.into()),
            _ => Ok(delivery),
        }
    }

    /// Receives the answer that the request was carried out.
    pub(super) fn done(&self) -> Result<()> {
        match self.receive()?.message {
            FileReply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Writes to `writer` what the worker writes to `pipe`, until the worker closes it, and at most `limit` bytes.
    pub(super) fn pour(&self, pipe: OwnedFd, limit: u64, writer: &mut impl Write) -> Result<()> {
        let mut left = limit;
        let mut pipe = File::from(pipe);
        let mut buffer = vec![0; 64 << 10];
        loop {
            // If the limit is too long for a point in time, wait for ever.
            wait_readable_until(pipe.as_fd(), Instant::now().checked_add(self.time_limit))?
                .then_some(())
                .ok_or_else(|| Error::new(ErrorKind::TimedOut, "export", "the deadline passed"))?;
            match pipe.read(&mut buffer).os(|| "read(archive)")? {
                0 => return Ok(()),
                size => {
                    left = left.checked_sub(size as u64).ok_or_else(|| {
                        let problem = format!("the archive is larger than the limit of {limit} bytes");
                        Error::new(ErrorKind::TooLarge { limit }, "export", problem)
                    })?;
                    writer.write_all(&buffer[..size]).os(|| "write(layer)")?;
                }
            }
        }
    }
}

/// The worker sent an answer that does not belong to the request.
pub(super) fn unexpected(reply: &FileReply) -> Error {
    let name = format!("{reply:?}");
    let name = name.split([' ', '(', '{']).next().unwrap_or_default();
    Error::new(ErrorKind::PeerMisbehaved, "files", format!("{name} is no answer to this request"))
}

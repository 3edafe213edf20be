//! The control client: requests to a sandbox over its control socket, and their replies.

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::process::donation::Received;
use crate::process::{Channel, Delivery};
use crate::sys::{self, StatusText};
use crate::wire::control::{Operation, Reply, Request};
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::listen;
use std::borrow::Borrow;
use std::time::{Duration, Instant};

/// How long a sandbox may take to reply. It does nothing slow: only a frozen or swapped-out sandbox takes that long.
pub(crate) const REPLY_LIMIT: Duration = Duration::from_secs(30);
/// How long a start may take: `execve` reads the program, perhaps from a network file system.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(300);
/// How many clients may wait for the sandbox to accept them.
const BACKLOG: i32 = 64;

/// A request that the sandbox has not answered yet.
#[must_use = "the next request on the same connection would get this one's reply"]
pub(crate) struct PendingReply<C> {
    channel: C,
    /// `None` if the configuration sets no limit.
    deadline: Option<Instant>,
    answered: bool,
}

/// Sends `request` over `channel`.
pub(crate) fn begin<C: Borrow<Channel>>(channel: C, request: &Request) -> Result<PendingReply<C>> {
    let limit = if matches!(request.operation, Operation::Start) { START_LIMIT } else { REPLY_LIMIT };
    channel.borrow().send(request, &[]).map_err(Error::gone_means_ended)?;
    Ok(PendingReply { channel, deadline: Some(Instant::now() + limit), answered: false })
}

impl<C: Borrow<Channel>> PendingReply<C> {
    /// Extends the time limit by `more`, or removes it if that is `None`.
    pub(crate) fn allow(self, more: Option<Duration>) -> Self {
        let deadline = self.deadline.zip(more).and_then(|(deadline, more)| deadline.checked_add(more));
        Self { deadline, ..self }
    }

    /// The connection, free for another request, if this one was answered.
    pub(crate) fn into_free_channel(self) -> Option<C> {
        self.answered.then_some(self.channel)
    }

    /// Waits for the reply.
    pub(crate) fn reply(&mut self) -> Result<Reply> {
        self.delivery().map(|delivery| delivery.message)
    }

    /// Waits for the reply to a start. If the seccomp filter has a listener, passes each listener, the program's and those
    /// of hooks before it, to `take` with the connection on which its process waits.
    pub(crate) fn started(&mut self, mut take: impl FnMut(Received) -> Result<()>) -> Result<Reply> {
        let mut taken = Ok(());
        loop {
            let next = self.receive()?;
            // Go on to the reply in any case, or the next request on this connection would get it.
            match next.message {
                Reply::Listener => taken = taken.and(take(next.fds)),
                Reply::Failed(failure) => {
                    self.answered = true;
                    return taken.and(Err(failure.into()));
                }
                reply => {
                    self.answered = true;
                    return taken.map(|()| reply);
                }
            }
        }
    }

    /// Waits for the reply and the descriptors that come with it.
    pub(crate) fn delivery(&mut self) -> Result<Delivery<Reply>> {
        let delivery = self.receive()?;
        self.answered = true;
        match delivery.message {
            Reply::Failed(failure) => Err(failure.into()),
            _ => Ok(delivery),
        }
    }

    fn receive(&self) -> Result<Delivery<Reply>> {
        self.channel.borrow().receive(self.deadline).map_err(Error::gone_means_ended)
    }
}

/// Connects to the control socket `name` in the directory `run_dir`.
pub(crate) fn connect_in(run_dir: BorrowedFd<'_>, name: &str) -> Result<Channel> {
    match sys::connect_in(run_dir, name.as_ref()) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => {
            Err(Error::new(ErrorKind::Ended, "connect(control socket)", "the sandbox is gone"))
        }
        socket => Ok(socket.os(|| "connect(control socket)")?.into()),
    }
}

/// The listening end, for the sandbox, bound as `name` in `run_dir`.
pub(crate) fn listen_in(run_dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let socket = sys::bind_in(run_dir, name.as_ref()).os(|| format!("bind({name:?})"))?;
    listen(&socket, BACKLOG).os(|| "listen(control socket)")?;
    Ok(socket)
}

/// Reads the host pid of a process out of its pidfd: the `Pid:` line of fdinfo is in the reader's own pid namespace
/// (pidfd_open(2)).
pub(crate) fn pid_of(pidfd: BorrowedFd<'_>) -> Result<i32> {
    pids_of(pidfd).map(|(pid, _)| pid)
}

/// As [`pid_of`], and the pid of the process in its own pid namespace: the last number of the `NSpid:` line.
pub(crate) fn pids_of(pidfd: BorrowedFd<'_>) -> Result<(i32, i32)> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let file = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .os(|| format!("open({path:?})"))?;
    let text = std::io::read_to_string(std::fs::File::from(file)).os(|| format!("read({path:?})"))?;
    let status = StatusText(&text);
    match status.line("Pid").and_then(|pid| pid.parse().ok()) {
        Some(pid) if pid > 0 => Ok((pid, status.pids().next_back().unwrap_or(pid))),
        _ => Err(Error::new(ErrorKind::Ended, "read pidfd", "the process has ended")),
    }
}

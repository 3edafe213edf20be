//! [`SandboxLink`]: the processes of a live container, and the way to its sandbox.

use super::address::{Ending, SandboxAddress};
use super::client::{self, PendingReply};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::process::channel::wait_readable_until;
use crate::process::donation::{NamedFd, Received};
use crate::process::{Channel, Delivery};
use crate::state::CONTROL_SOCKET;
use crate::wire::control::{CONNECTION, Operation, Reply};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::borrow::Borrow;
use std::time::{Duration, Instant};

/// The processes of a container that was seen alive, and the way to its sandbox.
#[derive(Debug)]
pub struct SandboxLink {
    address: SandboxAddress,
    /// The process whose end is the container's: the sandbox, or in a pod its init.
    pidfd: OwnedFd,
    /// In a pod, a connection that closes once the sandbox has written the exit record.
    watch: Option<OwnedFd>,
    sandbox_pid: i32,
    init_pid: i32,
    /// The connection made at create. Without one, every request makes its own.
    creator: Option<Channel>,
}

/// A connection to a sandbox: the creator's, which is borrowed, or one made for a single request.
pub(crate) enum Connection<'a> {
    Creator(&'a Channel),
    Own(Channel),
}

impl Borrow<Channel> for Connection<'_> {
    fn borrow(&self) -> &Channel {
        match self {
            Self::Creator(channel) => channel,
            Self::Own(channel) => channel,
        }
    }
}

impl SandboxLink {
    /// The link to a container with a sandbox of its own: `pidfd` is the sandbox's.
    pub(crate) fn new(address: SandboxAddress, pidfd: OwnedFd, sandbox_pid: i32, init_pid: i32) -> Self {
        Self { address, pidfd, watch: None, sandbox_pid, init_pid, creator: None }
    }

    /// The link to a further container of a pod: `pidfd` is its init's, and `watch` closes at its end.
    pub(crate) fn in_pod(self, watch: OwnedFd) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// Uses the connection made at create for every request.
    pub(crate) fn over(self, creator: Option<Channel>) -> Self {
        Self { creator, ..self }
    }

    pub(crate) fn address(&self) -> &SandboxAddress {
        &self.address
    }

    /// Becomes readable when the container has ended and its exit record is written.
    pub(crate) fn ended(&self) -> BorrowedFd<'_> {
        self.watch.as_ref().unwrap_or(&self.pidfd).as_fd()
    }

    /// The process whose end is the container's.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The sandbox's pid on the host.
    pub(crate) fn sandbox_pid(&self) -> i32 {
        self.sandbox_pid
    }

    /// Init's pid on the host.
    pub(crate) fn init_pid(&self) -> i32 {
        self.init_pid
    }

    /// Asks the sandbox for `operation` and waits for the reply.
    pub(crate) fn ask(&self, operation: Operation) -> Result<Reply> {
        self.begin(operation)?.reply()
    }

    /// Asks the sandbox for `operation`. The caller waits for the reply when it wants to.
    pub(crate) fn begin(&self, operation: Operation) -> Result<LinkReply<'_>> {
        let step = operation.name();
        let begun = self.connection().and_then(|to| client::begin(to, &self.address.request(operation)));
        let pending = begun.map_err(|error| self.explain(step, error))?;
        Ok(LinkReply { link: self, step, pending })
    }

    /// Asks the sandbox for an `operation` that it answers on a connection of its own, and returns our end of that
    /// connection. The sandbox gets the other end and `fds`.
    pub(crate) fn connect(&self, operation: Operation, fds: &[NamedFd<'_>]) -> Result<Channel> {
        let (ours, theirs) = Channel::pair()?;
        let fds: Vec<_> = [(CONNECTION, theirs.as_fd())].into_iter().chain(fds.iter().copied()).collect();
        let step = operation.name();
        let send = || {
            let connection = self.connection()?;
            let channel: &Channel = connection.borrow();
            channel.send(&self.address.request(operation), &fds)
        };
        send().map_err(|error| self.explain(step, error))?;
        Ok(ours)
    }

    /// Explains the `error` of a request to the sandbox for `step`: if the container has ended, the error returned says how.
    pub(crate) fn explain(&self, step: &'static str, error: Error) -> Error {
        let error = self.address.explain(self.ended(), step, error);
        match error.kind() {
            // It lives, and closed the connection: perhaps it never had it.
            ErrorKind::HelperDied => {
                error.hint("the sandbox may have as many descriptors open as RLIMIT_NOFILE allows")
            }
            _ => error,
        }
    }

    /// Fails if the container has ended, for a `step` that needs a live one.
    pub(crate) fn check_alive(&self, step: &'static str) -> Result<()> {
        match self.wait_until(Some(Instant::now()))? {
            true => Err(self.address.has_ended(step)),
            false => Ok(()),
        }
    }

    /// The end of the container, for a value that may outlive this one.
    pub(crate) fn ending(&self) -> Result<Ending> {
        let ended = self.ended().try_clone_to_owned().os(|| "fcntl(F_DUPFD_CLOEXEC, pidfd)")?;
        Ok(Ending { address: self.address.clone(), ended })
    }

    /// Waits until the container has ended, or until `deadline` if there is one. Returns whether it has ended.
    pub(crate) fn wait_until(&self, deadline: Option<Instant>) -> Result<bool> {
        wait_readable_until(self.ended(), deadline)
    }

    fn connection(&self) -> Result<Connection<'_>> {
        Ok(match &self.creator {
            Some(channel) => Connection::Creator(channel),
            None => {
                let run_dir = self.address.run_dir().map_err(|error| match error.kind() {
                    // The container had a sandbox when this value was made.
                    ErrorKind::NotFound => Error::new(ErrorKind::Ended, "connect(control socket)", "deleted"),
                    _ => error,
                })?;
                Connection::Own(client::connect_in(run_dir.as_fd(), CONTROL_SOCKET)?)
            }
        })
    }
}

/// A request that the sandbox has not answered yet. If the container ends first, the error says how.
#[must_use = "the next request on the same connection would get this one's reply"]
pub(crate) struct LinkReply<'a> {
    link: &'a SandboxLink,
    step: &'static str,
    pending: PendingReply<Connection<'a>>,
}

impl LinkReply<'_> {
    /// As [`PendingReply::allow`].
    pub(crate) fn allow(self, more: Option<Duration>) -> Self {
        Self { pending: self.pending.allow(more), ..self }
    }

    /// As [`PendingReply::reply`].
    pub(crate) fn reply(self) -> Result<Reply> {
        self.pending.reply().map_err(|error| self.link.explain(self.step, error))
    }

    /// As [`PendingReply::started`].
    pub(crate) fn started(self, take: impl FnMut(Received) -> Result<()>) -> Result<Reply> {
        self.pending.started(take).map_err(|error| self.link.explain(self.step, error))
    }

    /// As [`PendingReply::delivery`].
    pub(crate) fn delivery(self) -> Result<Delivery<Reply>> {
        self.pending.delivery().map_err(|error| self.link.explain(self.step, error))
    }
}

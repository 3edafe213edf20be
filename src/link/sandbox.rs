//! [`SandboxLink`]: the processes of a live container, and the way to its sandbox.

use super::client::{self, PendingReply};
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::process::Channel;
use crate::process::channel::wait_readable_until;
use crate::process::donation::NamedFd;
use crate::state::{CONTROL_SOCKET, Record, RunDir, StateRoot};
use crate::wire::control::{CONNECTION, Operation, Reply, Request};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::borrow::Borrow;
use std::time::Instant;

/// Which container, and where the control socket of its sandbox is.
#[derive(Clone, Debug)]
pub(crate) struct SandboxAddress {
    root: StateRoot,
    container: ContainerId,
    /// In a pod, the id of the root container.
    sandbox: ContainerId,
}

impl SandboxAddress {
    /// The address of the container that `record` describes.
    pub(crate) fn of(root: &StateRoot, record: &Record) -> Self {
        Self { root: root.clone(), container: record.id.clone(), sandbox: record.sandbox_id.clone() }
    }

    /// The run directory of the sandbox, where the control socket is.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the container was deleted.
    pub(crate) fn run_dir(&self) -> Result<RunDir> {
        self.root.run_dir_of_sandbox(&self.sandbox)
    }

    /// `operation` as a request about this container.
    pub(crate) fn request(&self, operation: Operation) -> Request {
        Request { container: Some(self.container.clone()), operation }
    }
}

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
    pub(crate) fn begin(&self, operation: Operation) -> Result<PendingReply<Connection<'_>>> {
        client::begin(self.connection()?, &self.address.request(operation))
    }

    /// Asks the sandbox for an `operation` that it answers on a connection of its own, and returns our end of that
    /// connection. The sandbox gets the other end and `fds`.
    pub(crate) fn connect(&self, operation: Operation, fds: &[NamedFd<'_>]) -> Result<Channel> {
        let (ours, theirs) = Channel::pair()?;
        let fds: Vec<_> = [(CONNECTION, theirs.as_fd())].into_iter().chain(fds.iter().copied()).collect();
        let connection = self.connection()?;
        let channel: &Channel = connection.borrow();
        channel.send(&self.address.request(operation), &fds).map_err(Error::gone_means_ended)?;
        Ok(ours)
    }

    /// Waits until the container has ended, or until `deadline` if there is one. Returns whether it has ended.
    pub(crate) fn wait_until(&self, deadline: Option<Instant>) -> Result<bool> {
        wait_readable_until(self.ended(), deadline)
    }

    fn connection(&self) -> Result<Connection<'_>> {
        Ok(match &self.creator {
            Some(channel) => Connection::Creator(channel),
            None => Connection::Own(client::connect_in(self.address.run_dir()?.as_fd(), CONTROL_SOCKET)?),
        })
    }
}

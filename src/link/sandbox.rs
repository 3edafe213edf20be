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
use std::sync::{Mutex, MutexGuard, PoisonError};
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
    /// The connection made at create, while no request uses it. Other requests make connections of their own: two on one
    /// connection could get each other's replies.
    creator: Mutex<Option<Channel>>,
}

impl SandboxLink {
    /// The link to a container with a sandbox of its own: `pidfd` is the sandbox's.
    pub(crate) fn new(address: SandboxAddress, pidfd: OwnedFd, sandbox_pid: i32, init_pid: i32) -> Self {
        Self { address, pidfd, watch: None, sandbox_pid, init_pid, creator: Mutex::default() }
    }

    /// The link to a further container of a pod: `pidfd` is its init's, and `watch` closes at its end.
    pub(crate) fn in_pod(self, watch: OwnedFd) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// Uses the connection made at create for requests.
    pub(crate) fn over(self, creator: Option<Channel>) -> Self {
        Self { creator: Mutex::new(creator), ..self }
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
        let creator = self.creators().take();
        let over_creators = creator.is_some();
        let connection = creator.map_or_else(|| self.new_connection(), Ok);
        let begun = connection.and_then(|to| client::begin(to, &self.address.request(operation)));
        let pending = begun.map_err(|error| self.explain(step, error))?;
        Ok(LinkReply { link: self, step, pending, over_creators })
    }

    /// Asks the sandbox for an `operation` that it answers on a connection of its own, and returns our end of that
    /// connection. The sandbox gets the other end and `fds`.
    pub(crate) fn connect(&self, operation: Operation, fds: &[NamedFd<'_>]) -> Result<Channel> {
        let (ours, theirs) = Channel::pair()?;
        let fds: Vec<_> = [(CONNECTION, theirs.as_fd())].into_iter().chain(fds.iter().copied()).collect();
        let step = operation.name();
        let request = self.address.request(operation);
        // There is no reply on the connection of the request, so that it can be the creator's.
        let send = || match &*self.creators() {
            Some(creator) => creator.send(&request, &fds),
            None => self.new_connection()?.send(&request, &fds),
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

    /// The place of the creator's connection.
    fn creators(&self) -> MutexGuard<'_, Option<Channel>> {
        // It holds a whole connection or none, also after a thread panicked.
        self.creator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_connection(&self) -> Result<Channel> {
        let run_dir = self.address.run_dir().map_err(|error| match error.kind() {
            // The container had a sandbox when this value was made.
            ErrorKind::NotFound => Error::new(ErrorKind::Ended, "connect(control socket)", "deleted"),
            _ => error,
        })?;
        client::connect_in(run_dir.as_fd(), CONTROL_SOCKET)
    }
}

/// A request that the sandbox has not answered yet. If the container ends first, the error says how.
#[must_use = "dropping it closes the connection without the reply"]
pub(crate) struct LinkReply<'a> {
    link: &'a SandboxLink,
    step: &'static str,
    pending: PendingReply<Channel>,
    /// Whether the request went over the creator's connection, which goes back once it is answered.
    over_creators: bool,
}

impl LinkReply<'_> {
    /// As [`PendingReply::allow`].
    pub(crate) fn allow(self, more: Option<Duration>) -> Self {
        Self { pending: self.pending.allow(more), ..self }
    }

    /// As [`PendingReply::reply`].
    pub(crate) fn reply(self) -> Result<Reply> {
        self.answer(PendingReply::reply)
    }

    /// As [`PendingReply::started`].
    pub(crate) fn started(self, take: impl FnMut(Received) -> Result<()>) -> Result<Reply> {
        self.answer(|pending| pending.started(take))
    }

    /// As [`PendingReply::delivery`].
    pub(crate) fn delivery(self) -> Result<Delivery<Reply>> {
        self.answer(PendingReply::delivery)
    }

    fn answer<T>(mut self, wait: impl FnOnce(&mut PendingReply<Channel>) -> Result<T>) -> Result<T> {
        let answer = wait(&mut self.pending);
        if self.over_creators {
            *self.link.creators() = self.pending.into_free_channel();
        }
        answer.map_err(|error| self.link.explain(self.step, error))
    }
}

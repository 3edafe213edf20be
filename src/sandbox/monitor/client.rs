//! The connections of the sandbox's clients, and what the sandbox sends on them.

use crate::error::{Actor, Error, ErrorKind, RemoteFailure};
use crate::process::Channel;
use crate::process::donation::{NamedFd, Received};
use crate::wire::control::Reply;
use crate::wire::init::LISTENER_FDS;
use rustix::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a connected client may be silent.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// Names a container, a process or a client. A key is never used again while the sandbox lives, so an event of one that is
/// gone by then reaches no other.
pub(super) type Key = u64;

/// One connection.
pub(super) struct Client {
    pub(super) channel: Channel,
    pub(super) role: ClientRole,
    /// When a silent client is dropped. The creator's own connection and those that only wait have no limit.
    pub(super) deadline: Option<Instant>,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientRole {
    /// Requests and replies.
    Control,
    /// Closed by the end of this container.
    Watch(Key),
    /// Receives the events of this container.
    Events(Key),
    /// Makes an image of this container.
    Checkpoint(Key),
    /// Takes a template of this container, whose process is held meanwhile.
    Template(Key),
}

impl Client {
    /// The creator's own connection.
    pub(super) fn creator(channel: Channel) -> Self {
        Self { channel, role: ClientRole::Control, deadline: None }
    }

    /// A connection that came in over the control socket.
    pub(super) fn accepted(channel: Channel) -> Self {
        Self { channel, role: ClientRole::Control, deadline: Some(Instant::now() + IDLE_LIMIT) }
    }

    pub(super) fn watching(channel: Channel, container: Key) -> Self {
        Self { channel, role: ClientRole::Watch(container), deadline: None }
    }

    pub(super) fn listening(channel: Channel, container: Key) -> Self {
        Self { channel, role: ClientRole::Events(container), deadline: None }
    }

    pub(super) fn making_image(channel: Channel, container: Key) -> Self {
        Self { channel, role: ClientRole::Checkpoint(container), deadline: None }
    }

    pub(super) fn taking_template(channel: Channel, container: Key) -> Self {
        Self { channel, role: ClientRole::Template(container), deadline: None }
    }

    /// It sent something: its time starts again.
    pub(super) fn touch(&mut self) {
        self.deadline = self.deadline.map(|_| Instant::now() + IDLE_LIMIT);
    }

    /// Answers. `None` if the client is gone.
    pub(super) fn reply(self, reply: &Reply) -> Option<Self> {
        self.channel.send_now(reply, &[]).ok().map(|()| self)
    }
}

/// An error of the sandbox on its way to another process.
pub(super) fn packed(error: &Error) -> RemoteFailure {
    RemoteFailure::pack(Actor::Sandbox, error)
}

pub(super) fn failed(error: &Error) -> Reply {
    Reply::Failed(packed(error))
}

/// A creation came too late for its pod.
pub(super) fn root_has_ended() -> Error {
    Error::new(ErrorKind::Ended, "create", "the sandbox's root container has ended")
}

/// The listener of a filter that notifies, and the connection over which its process waits, on their way from the process
/// to the client that started it. Closing them ends the process.
pub(super) struct Listener([OwnedFd; 2]);

impl Listener {
    /// `None` for a wrong set of descriptors, which this closes.
    pub(super) fn of(mut fds: Received) -> Option<Self> {
        let [listener, waiting] = LISTENER_FDS.map(|name| fds.take(name));
        fds.finish().ok()?;
        Some(Self([listener.ok()?, waiting.ok()?]))
    }

    /// Those among other descriptors, if they are there.
    pub(super) fn among(fds: &mut Received) -> Option<Self> {
        let [listener, waiting] = LISTENER_FDS.map(|name| fds.take_optional(name));
        Some(Self([listener?, waiting?]))
    }

    /// The descriptors as the client gets them.
    pub(super) fn named(&self) -> Vec<NamedFd<'_>> {
        LISTENER_FDS.into_iter().zip(self.0.iter().map(AsFd::as_fd)).collect()
    }
}

//! The connections of the sandbox's clients.

use super::Key;
use crate::process::Channel;
use crate::wire::control::Reply;
use std::time::{Duration, Instant};

/// How long a connected client may say nothing.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// One connection.
pub(in crate::sandbox) struct Client {
    pub(super) channel: Channel,
    pub(super) role: Role,
    /// When it is dropped if it says nothing. Neither the creator's own connection nor one that waits has one.
    pub(super) deadline: Option<Instant>,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Requests and replies.
    Control,
    /// Closed by the end of this container.
    Watch(Key),
    /// Told what happens to this container.
    SandboxEvent(Key),
}

impl Client {
    /// The creator's own.
    pub(super) fn creator(channel: Channel) -> Self {
        Self { channel, role: Role::Control, deadline: None }
    }

    /// One that came in over the control socket.
    pub(super) fn accepted(channel: Channel) -> Self {
        Self { channel, role: Role::Control, deadline: Some(Instant::now() + IDLE_LIMIT) }
    }

    pub(super) fn watching(channel: Channel, container: Key) -> Self {
        Self { channel, role: Role::Watch(container), deadline: None }
    }

    pub(super) fn listening(channel: Channel, container: Key) -> Self {
        Self { channel, role: Role::SandboxEvent(container), deadline: None }
    }

    /// It spoke: the time starts again.
    pub(super) fn touch(&mut self) {
        self.deadline = self.deadline.map(|_| Instant::now() + IDLE_LIMIT);
    }

    /// Answers. `None` if the client is gone.
    pub(super) fn reply(self, reply: &Reply) -> Option<Self> {
        self.channel.send_now(reply, &[]).ok().map(|()| self)
    }
}

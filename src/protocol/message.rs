//! The vocabulary.

use super::frame::Message;
use crate::error::RemoteFailure;
use serde::{Deserialize, Serialize};

/// What a client asks of the sandbox over the control socket: one request, one reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Execute the program of the created container. The reply comes after `execve` succeeded or failed.
    Start,
    /// Send a signal to init. An init that has no handler for it gets what the signal does by default.
    Signal { number: i32 },
    /// Kill every process of the container. The reply comes before they are gone: wait on the sandbox for that.
    Kill,
    /// Stop watching the lifeline: the container outlives its creator.
    Detach,
    /// Where the container stands.
    Query,
}

impl Message for Request {
    const KIND: u16 = 1;
}

/// What the sandbox answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Reply {
    /// Done.
    Done,
    /// Answer to [`Request::Query`].
    State { phase: InitPhase },
    /// Not done, and why.
    Failed(RemoteFailure),
}

impl Message for Reply {
    const KIND: u16 = 2;
}

/// Where init stands, as its parent knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InitPhase {
    /// The root is being assembled.
    Preparing,
    /// Ready to execute the program.
    Created,
    /// The program was executed.
    Running,
    /// The program has ended.
    Ended,
}

/// The caller's word to a helper: your user namespace is mapped, go. A gofer that is to work inside the sandbox's user
/// namespace, or to map ids through it, gets its descriptor along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {}

impl Message for Order {
    const KIND: u16 = 3;
}

/// A helper's word to the caller. The sandbox's `Ready` carries a pidfd of init.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    Ready,
    Failed(RemoteFailure),
}

impl Message for Report {
    const KIND: u16 = 4;
}

/// A batch of detached mounts from the gofer; the frame carries one descriptor for each item that is not absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Handed {
    pub(crate) items: Vec<HandedItem>,
    /// Whether this is the last batch.
    pub(crate) last: bool,
}

impl Message for Handed {
    const KIND: u16 = 5;
}

/// One item of the plan's list for the gofer, in the list's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HandedItem {
    /// A mount whose root is a directory.
    Directory,
    /// A mount whose root is anything else.
    File,
    /// The source does not exist, and the plan allowed for that.
    Absent,
}

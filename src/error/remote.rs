//! [`RemoteFailure`]: an error on its way from a helper to the caller.

use super::{Error, ErrorKind, Inner};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A failure in a process of this crate, as it crosses to the caller: data, never a string to parse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemoteFailure {
    /// Which process failed.
    pub(crate) actor: Actor,
    /// The step, strace-like where it was a system call.
    pub(crate) step: String,
    /// The cause in words.
    pub(crate) message: String,
    /// What a person can do.
    pub(crate) hint: Option<String>,
    /// What the caller can do.
    pub(crate) kind: ErrorKind,
}

/// The process a [`RemoteFailure`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Actor {
    Gofer,
    Sandbox,
    Init,
    Hooks,
    Files,
    Zygote,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gofer => "gofer",
            Self::Sandbox => "sandbox",
            Self::Init => "init",
            Self::Hooks => "hooks",
            Self::Files => "file worker",
            Self::Zygote => "zygote",
        })
    }
}

impl RemoteFailure {
    /// Packs `error` for the trip. Its source stays behind: what it said is in the message.
    pub(crate) fn pack(actor: Actor, error: &Error) -> Self {
        let Inner { kind, step, message, hint, source: _ } = &*error.0;
        Self {
            actor,
            step: step.to_string(),
            message: message.clone(),
            hint: hint.clone(),
            kind: kind.clone(),
        }
    }
}

impl From<RemoteFailure> for Error {
    fn from(RemoteFailure { actor, step, message, hint, kind }: RemoteFailure) -> Self {
        let step = match kind {
            // These kinds are about what the process did, so the text names it. The others are about the request, whichever
            // process has found them.
            ErrorKind::Os(_) | ErrorKind::PeerMisbehaved | ErrorKind::TimedOut => format!("{actor}: {step}"),
            _ => step,
        };
        Self(Box::new(Inner { kind, step: step.into(), message, hint, source: None }))
    }
}

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

/// The most bytes of a text that travels. An image or a configuration decides how long some texts are, and a frame that is
/// too large for its channel is not sent at all. JSON makes six bytes of one at most, so that all five texts fit into a
/// frame of 64 KiB.
const MAX_TEXT: usize = 2 << 10;

/// What stands in place of what was cut out.
const CUT: &str = " [...] ";

impl RemoteFailure {
    /// Packs `error` for the trip. Its source stays behind: what it said is in the message. Cuts a text that is too long
    /// in the middle, because its start names the step, and its end the errno.
    pub(crate) fn pack(actor: Actor, error: &Error) -> Self {
        let Inner { kind, step, message, hint, source: _ } = &*error.0;
        let mut kind = kind.clone();
        match &mut kind {
            ErrorKind::InvalidSpec { path: text }
            | ErrorKind::HookFailed { path: text }
            | ErrorKind::Unsupported { feature: text }
            | ErrorKind::OutdatedZygote { difference: text } => *text = cut(text),
            _ => {}
        }
        Self { actor, step: cut(step), message: cut(message), hint: hint.as_deref().map(cut), kind }
    }
}

fn cut(text: &str) -> String {
    if text.len() <= MAX_TEXT {
        return text.to_owned();
    }
    let half = (MAX_TEXT - CUT.len()) / 2;
    let boundary = |at: &usize| text.is_char_boundary(*at);
    let start = (0..=half).rev().find(boundary).unwrap_or(0);
    let end = (text.len() - half..).find(boundary).unwrap_or(text.len());
    format!("{}{CUT}{}", &text[..start], &text[end..])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_failure_of_every_kind_fits_into_a_frame_with_its_start_and_its_end() {
        // One byte becomes six in JSON; and others are cut between the bytes of a character.
        for long in ["\u{1}".repeat(1 << 20), "\u{20ac}".repeat(1 << 20), "x".repeat(MAX_TEXT + 1)] {
            for kind in [
                ErrorKind::Os(22),
                ErrorKind::InvalidSpec { path: long.clone() },
                ErrorKind::HookFailed { path: long.clone() },
                ErrorKind::Unsupported { feature: long.clone() },
                ErrorKind::OutdatedZygote { difference: long.clone() },
            ] {
                let text = format!("setgroups({long}): EINVAL");
                let error = Error::new(kind, text.clone(), text).hint(long.clone());
                let failure = RemoteFailure::pack(Actor::Init, &error);
                assert!(serde_json::to_vec(&failure).unwrap().len() < 60 << 10);
                let arrived = Error::from(failure).to_string();
                assert!(arrived.contains("setgroups(") && arrived.contains(CUT), "{arrived}");
                assert!(arrived.contains("): EINVAL"), "{arrived}");
            }
        }
    }

    #[test]
    fn a_failure_of_ordinary_length_arrives_whole() {
        let message = "x".repeat(MAX_TEXT);
        let error = Error::new(ErrorKind::Ended, "step", message.clone());
        assert_eq!(RemoteFailure::pack(Actor::Init, &error).message, message);
    }
}

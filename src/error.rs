//! The crate's one error type.
//!
//! An [`Error`] says which step failed, on which object, why, and (where a person can act) what to do about it; its
//! [`ErrorKind`] answers the question a *program* asks: what can the caller do now? Errors that cross a process
//! boundary travel as data, and come out here with their step, object and errno intact.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// The result of every fallible operation of this crate that does not consume a container.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in terms of what a caller can do about it.
///
/// Marked `#[non_exhaustive]`: new kinds appear as the kernel grows new ways to refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A container id outside `[A-Za-z0-9_+.-]{1,255}`, or one that starts with `-` or `.`.
    InvalidId,
    /// The configuration is wrong at this field, named by its path (`process.args[0]`, `mounts[3].destination`).
    InvalidSpec {
        /// Path of the offending field, in the notation of `config.json`.
        path: String,
    },
    /// No such container.
    NotFound,
    /// The id is taken.
    AlreadyExists,
    /// The container is in another phase than the operation needs, because somebody else moved it.
    WrongState {
        /// The status the kernel and the record agree on now.
        actual: crate::state::Status,
    },
    /// The record was written by another boot, another version, or is damaged.
    Stale,
    /// The host (kernel, privileges, cgroup layout) cannot do what was asked. Nothing was silently dropped.
    Unsupported {
        /// The feature asked for, by its field or its kernel name.
        feature: String,
    },
    /// The program to run does not exist inside the container (a shell's 127).
    ProgramNotFound,
    /// The program to run exists but cannot be executed (a shell's 126).
    ProgramNotExecutable,
    /// A hook of the configuration failed: it could not be executed, ended badly, or ran longer than its timeout.
    HookFailed {
        /// Path of the hook, in the notation of `config.json`: `hooks.createRuntime[1]`.
        path: String,
    },
    /// A process on the other end of one of our sockets broke the protocol.
    PeerMisbehaved,
    /// A gofer or sandbox process died before it answered.
    HelperDied,
    /// A zygote was made when the caller was something else than it is now, so what it forks would be that, too.
    OutdatedZygote {
        /// What of the caller changed: `uids`, `effective capabilities`, `namespace`.
        difference: String,
    },
    /// A deadline passed.
    TimedOut,
    /// Teardown finished but some objects are still there; the record is kept so that it can be tried again.
    Incomplete,
    /// Something in a container is larger than the limit the caller gave.
    TooLarge {
        /// That limit.
        limit: u64,
    },
    /// Where only a regular file will do, there is a directory, a FIFO, a device or a socket.
    NotARegularFile,
    /// A system call failed with this errno.
    Os(i32),
    /// The caller used the API in a way its types could not rule out.
    InvalidInput,
}

/// An error of this crate: kind, step, message and hint.
///
/// `Display` prints one line, lower case, without a full stop: `STEP: CAUSE (HINT)`.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    step: Cow<'static, str>,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` raised by `step`, explained by `message`.
    pub(crate) fn new(
        kind: ErrorKind,
        step: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        let (step, message) = (step.into(), message.into());
        Self(Box::new(Inner { kind, step, message, hint: None, source: None }))
    }

    /// `origin: FIELD: problem`, the form every configuration error takes. `origin` is `config.json` or `builder`.
    pub(crate) fn spec(origin: &str, path: impl Into<String>, problem: impl fmt::Display) -> Self {
        let path = path.into();
        let message = if path.is_empty() { problem.to_string() } else { format!("{path}: {problem}") };
        Self::new(ErrorKind::InvalidSpec { path }, origin.to_owned(), message)
    }

    /// The host lacks `feature`; `why` names the host fact.
    pub(crate) fn unsupported(feature: impl Into<String>, why: impl fmt::Display) -> Self {
        let feature = feature.into();
        let step = feature.clone();
        Self::new(ErrorKind::Unsupported { feature }, step, why.to_string())
    }

    /// Adds what a person can do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub(crate) fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Names the step that was under way when `self` happened, keeping its kind.
    #[must_use]
    pub(crate) fn during(mut self, step: impl Into<Cow<'static, str>>) -> Self {
        let step = step.into();
        let inner = std::mem::replace(&mut self.0.step, step);
        self.0.message = format!("{inner}: {}", self.0.message);
        self
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The step that failed: a system call with its arguments, a configuration origin, or an operation.
    #[must_use]
    pub fn step(&self) -> &str {
        &self.0.step
    }

    /// The errno behind the error, where a system call caused it.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        match self.0.kind {
            ErrorKind::Os(errno) => Some(errno),
            ErrorKind::ProgramNotFound => Some(libc::ENOENT),
            ErrorKind::ProgramNotExecutable => Some(libc::EACCES),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.step, self.0.message)?;
        match &self.0.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Adds the failed call, strace-like, to an errno: `open_tree("/srv"): ENOENT: No such file or directory`.
pub(crate) trait OsContext<T> {
    /// `step` prints like strace; it is only evaluated on failure.
    fn os<S: Into<Cow<'static, str>>>(self, step: impl FnOnce() -> S) -> Result<T>;
}

impl<T> OsContext<T> for std::result::Result<T, rustix::io::Errno> {
    fn os<S: Into<Cow<'static, str>>>(self, step: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| os_error(errno.raw_os_error(), step().into()))
    }
}

impl<T> OsContext<T> for std::result::Result<T, nix::errno::Errno> {
    fn os<S: Into<Cow<'static, str>>>(self, step: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| os_error(errno as i32, step().into()))
    }
}

impl<T> OsContext<T> for std::io::Result<T> {
    fn os<S: Into<Cow<'static, str>>>(self, step: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| match error.raw_os_error() {
            Some(errno) => os_error(errno, step().into()),
            None => Error::new(ErrorKind::Os(libc::EIO), step().into(), error.to_string()),
        })
    }
}

fn os_error(errno: i32, step: Cow<'static, str>) -> Error {
    let errno_name = nix::errno::Errno::from_raw(errno);
    Error::new(ErrorKind::Os(errno), step, format!("{errno_name:?}: {}", errno_name.desc()))
}

/// A failure inside the gofer, the sandbox or init, as it crosses the process boundary: data, never a string to parse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemoteFailure {
    /// Which process failed.
    pub(crate) actor: Actor,
    /// The step, strace-like where it was a system call.
    pub(crate) step: String,
    /// The errno, 0 where there is none.
    pub(crate) errno: i32,
    /// The cause in words.
    pub(crate) message: String,
    /// What a person can do.
    pub(crate) hint: Option<String>,
    /// How the caller should classify it.
    pub(crate) class: FailureClass,
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

/// The part of [`ErrorKind`] that can cross a process boundary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FailureClass {
    Os,
    ProgramNotFound,
    ProgramNotExecutable,
    InvalidSpec { path: String },
    Unsupported { feature: String },
    HookFailed { path: String },
    Protocol,
    TimedOut,
    NotFound,
    AlreadyExists,
    InvalidInput,
    Ended,
    TooLarge { limit: u64 },
    NotARegularFile,
    Internal,
}

impl RemoteFailure {
    /// Packs `error` for the trip.
    pub(crate) fn pack(actor: Actor, error: &Error) -> Self {
        let class = match error.kind() {
            ErrorKind::ProgramNotFound => FailureClass::ProgramNotFound,
            ErrorKind::ProgramNotExecutable => FailureClass::ProgramNotExecutable,
            ErrorKind::InvalidSpec { path } => FailureClass::InvalidSpec { path: path.clone() },
            ErrorKind::Unsupported { feature } => FailureClass::Unsupported { feature: feature.clone() },
            ErrorKind::HookFailed { path } => FailureClass::HookFailed { path: path.clone() },
            ErrorKind::PeerMisbehaved => FailureClass::Protocol,
            ErrorKind::TimedOut => FailureClass::TimedOut,
            ErrorKind::TooLarge { limit } => FailureClass::TooLarge { limit: *limit },
            ErrorKind::NotARegularFile => FailureClass::NotARegularFile,
            ErrorKind::Os(_) => FailureClass::Os,
            ErrorKind::NotFound => FailureClass::NotFound,
            ErrorKind::AlreadyExists => FailureClass::AlreadyExists,
            ErrorKind::InvalidInput => FailureClass::InvalidInput,
            ErrorKind::HelperDied => FailureClass::Ended,
            _ => FailureClass::Internal,
        };
        Self {
            actor,
            step: error.0.step.to_string(),
            errno: error.raw_os_error().unwrap_or(0),
            message: error.0.message.clone(),
            hint: error.0.hint.clone(),
            class,
        }
    }
}

impl From<RemoteFailure> for Error {
    fn from(failure: RemoteFailure) -> Self {
        let (kind, step) = match failure.class {
            // Errors about the program and the configuration read the same wherever they were found.
            FailureClass::ProgramNotFound => (ErrorKind::ProgramNotFound, failure.step),
            FailureClass::ProgramNotExecutable => (ErrorKind::ProgramNotExecutable, failure.step),
            FailureClass::InvalidSpec { path } => (ErrorKind::InvalidSpec { path }, failure.step),
            FailureClass::Unsupported { feature } => (ErrorKind::Unsupported { feature }, failure.step),
            // What the sandbox says about what it was asked is about the request, not about the sandbox.
            FailureClass::NotFound => (ErrorKind::NotFound, failure.step),
            FailureClass::AlreadyExists => (ErrorKind::AlreadyExists, failure.step),
            FailureClass::InvalidInput => (ErrorKind::InvalidInput, failure.step),
            FailureClass::Ended => (ErrorKind::HelperDied, failure.step),
            FailureClass::HookFailed { path } => (ErrorKind::HookFailed { path }, failure.step),
            FailureClass::TooLarge { limit } => (ErrorKind::TooLarge { limit }, failure.step),
            FailureClass::NotARegularFile => (ErrorKind::NotARegularFile, failure.step),
            FailureClass::Protocol => {
                (ErrorKind::PeerMisbehaved, format!("{}: {}", failure.actor, failure.step))
            }
            FailureClass::TimedOut => (ErrorKind::TimedOut, format!("{}: {}", failure.actor, failure.step)),
            FailureClass::Os | FailureClass::Internal => {
                (ErrorKind::Os(failure.errno), format!("{}: {}", failure.actor, failure.step))
            }
        };
        let error = Self::new(kind, step, failure.message);
        match failure.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_os_error_prints_like_strace() {
        let error = Err::<(), _>(rustix::io::Errno::PERM).os(|| "mount(\"proc\", \"/proc\")").unwrap_err();
        assert_eq!(error.to_string(), "mount(\"proc\", \"/proc\"): EPERM: Operation not permitted");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn a_failure_keeps_its_step_and_errno_across_a_process() {
        let error = Err::<(), _>(rustix::io::Errno::NOENT).os(|| "open_tree(\"/nope\")").unwrap_err();
        let wire = serde_json::to_string(&RemoteFailure::pack(Actor::Gofer, &error)).unwrap();
        let back = Error::from(serde_json::from_str::<RemoteFailure>(&wire).unwrap());
        assert_eq!(back.kind(), &ErrorKind::Os(libc::ENOENT));
        assert_eq!(back.to_string(), "gofer: open_tree(\"/nope\"): ENOENT: No such file or directory");
    }

    #[test]
    fn a_spec_error_names_its_field() {
        let error = Error::spec("config.json", "process.cwd", "is relative").hint("use an absolute path");
        assert_eq!(error.to_string(), "config.json: process.cwd: is relative (use an absolute path)");
        assert_eq!(error.kind(), &ErrorKind::InvalidSpec { path: "process.cwd".into() });
    }
}

//! The crate's one error type.
//!
//! An [`Error`] says which step failed, on which object, why, and (where a person can act) what to do about it; its
//! [`ErrorKind`] tells a *program* what the caller can do. Errors that cross a process boundary travel as data:
//! [`RemoteFailure`] carries step, message, hint and kind, and every kind survives the trip.

mod remote;

use crate::state::Status;
pub(crate) use remote::{Actor, RemoteFailure};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::io;

/// The result of every fallible operation of this crate that does not consume a container.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in terms of what a caller can do about it.
///
/// Marked `#[non_exhaustive]`: new kinds appear as the kernel grows new ways to refuse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A container id outside `[A-Za-z0-9_+.-]{1,255}`, or one that starts with `-` or `.`.
    InvalidId,
    /// The configuration is wrong at this field, named by its path (`process.args[0]`, `mounts[3].destination`).
    InvalidSpec {
        /// Path of the offending field, in the notation of `config.json`.
        path: String,
    },
    /// No such container, process or mount.
    NotFound,
    /// The id is taken.
    AlreadyExists,
    /// The container lives, in another phase than the operation needs: another process moved it, or an
    /// [`AnyContainer`](crate::AnyContainer) is not in the phase that was asked for. Load it again.
    WrongState {
        /// The phase it is in; never [`Status::Stopped`], which is [`ErrorKind::Ended`].
        actual: Status,
    },
    /// The container, or the process in it that the operation is about, has ended. [`wait`](crate::Container::wait)
    /// says how; nothing else can be done but to delete the container.
    Ended,
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
    /// A process of this crate (gofer, sandbox, init, file worker, zygote), or CRIU, died while it was working on the
    /// request, and the container did not end with it, or did not exist yet. Try again.
    HelperDied,
    /// The caller's credentials or namespaces have changed since it made its [`Zygote`](crate::Zygote), and what the
    /// zygote forks would still have the old ones. Make another.
    OutdatedZygote {
        /// What of the caller changed: `uids`, `effective capabilities`, `namespace`.
        difference: String,
    },
    /// A deadline passed.
    TimedOut,
    /// Teardown finished but some objects are still there. The record is kept: delete again.
    Incomplete,
    /// Something in a container is larger than the limit the caller gave.
    TooLarge {
        /// That limit.
        limit: u64,
    },
    /// The operation needs a regular file and found a directory, a FIFO, a device or a socket.
    NotARegularFile,
    /// A system call failed with this errno.
    Os(i32),
    /// The caller used the API in a way its types could not rule out.
    InvalidInput,
}

/// An error of this crate: kind, step, message and hint.
///
/// `Display` prints one line, lower case, without a full stop: `STEP: CAUSE (HINT)`. `Debug` prints the same: it is what
/// people see of `fn main() -> cofferdam::Result<()>`, and of `unwrap`. It converts into a [`std::io::Error`] of the
/// nearest kind that has this error inside.
#[derive(thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Inner>);

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{step}: {message}{}", Hint(hint))]
struct Inner {
    kind: ErrorKind,
    step: Cow<'static, str>,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// ` (HINT)`, or nothing.
struct Hint<'a>(&'a Option<String>);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
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

    /// A container in phase `actual` was asked for `step`, which that phase does not have.
    pub(crate) fn wrong_state(
        actual: Status,
        step: impl Into<Cow<'static, str>>,
        problem: impl Into<String>,
    ) -> Self {
        let kind =
            if actual == Status::Stopped { ErrorKind::Ended } else { ErrorKind::WrongState { actual } };
        Self::new(kind, step, problem)
    }

    /// `self`, from a conversation with a sandbox: a sandbox that is gone means that its container has ended.
    #[must_use]
    pub(crate) fn gone_means_ended(mut self) -> Self {
        if self.0.kind == ErrorKind::HelperDied {
            self.0.kind = ErrorKind::Ended;
        }
        self
    }

    /// Whether the step or the message has `field` as a whole.
    pub(crate) fn names_field(&self, field: &str) -> bool {
        [&*self.0.step, &self.0.message].into_iter().any(|text| place_of(text, field).is_some())
    }

    /// Writes `name` in place of `field`, once. The kind keeps the field's path.
    #[must_use]
    pub(crate) fn rename_field(mut self, field: &str, name: &str) -> Self {
        if let Some(at) = place_of(&self.0.step, field) {
            self.0.step.to_mut().replace_range(at..at + field.len(), name);
        } else if let Some(at) = place_of(&self.0.message, field) {
            self.0.message.replace_range(at..at + field.len(), name);
        }
        self
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

    /// The same error for a copy of what was refused. Its source stays with the first: what it said is in the message.
    #[must_use]
    pub(crate) fn again(&self) -> Self {
        let Inner { kind, step, message, hint, source: _ } = &*self.0;
        let (kind, step, message, hint) = (kind.clone(), step.clone(), message.clone(), hint.clone());
        Self(Box::new(Inner { kind, step, message, hint, source: None }))
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

    /// What went wrong, without the step and the hint.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// What a person can do about it.
    pub(crate) fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
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

/// Where `text` has `field` between characters that belong to no field.
fn place_of(text: &str, field: &str) -> Option<usize> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(field).map(|(at, _)| at).find(|at| {
        let (before, after) = (&text[..*at], &text[at + field.len()..]);
        !before.ends_with(|c| part(c) || c == '.' || c == '/') && !after.starts_with(part)
    })
}

impl From<Error> for io::Error {
    /// The nearest [`io::ErrorKind`], with the error itself as [`get_ref`](io::Error::get_ref).
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::InvalidId | ErrorKind::InvalidSpec { .. } | ErrorKind::InvalidInput => {
                io::ErrorKind::InvalidInput
            }
            ErrorKind::NotARegularFile => io::ErrorKind::InvalidInput,
            ErrorKind::NotFound | ErrorKind::ProgramNotFound => io::ErrorKind::NotFound,
            ErrorKind::ProgramNotExecutable => io::ErrorKind::PermissionDenied,
            ErrorKind::AlreadyExists => io::ErrorKind::AlreadyExists,
            ErrorKind::WrongState { .. } => io::ErrorKind::ResourceBusy,
            ErrorKind::Ended | ErrorKind::HelperDied => io::ErrorKind::BrokenPipe,
            ErrorKind::Stale | ErrorKind::PeerMisbehaved => io::ErrorKind::InvalidData,
            ErrorKind::Unsupported { .. } => io::ErrorKind::Unsupported,
            ErrorKind::TimedOut => io::ErrorKind::TimedOut,
            ErrorKind::TooLarge { .. } => io::ErrorKind::FileTooLarge,
            ErrorKind::Os(errno) => Self::from_raw_os_error(*errno).kind(),
            ErrorKind::HookFailed { .. } | ErrorKind::OutdatedZygote { .. } | ErrorKind::Incomplete => {
                io::ErrorKind::Other
            }
        };
        Self::new(kind, error)
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

impl<T> OsContext<T> for io::Result<T> {
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

    #[test]
    fn what_main_prints_of_an_error_is_for_people() {
        let error = Error::spec("config.json", "process.cwd", "is relative").hint("use an absolute path");
        let line = "config.json: process.cwd: is relative (use an absolute path)";
        assert_eq!((format!("{error:?}"), format!("{error:#?}")), (line.to_owned(), line.to_owned()));
        let error = io::Error::from(error);
        assert_eq!(format!("{error:?}"), format!("Custom {{ kind: InvalidInput, error: {line} }}"));
    }

    #[test]
    fn a_field_is_renamed_where_it_stands_alone() {
        let error = |step: &'static str, message: &str| Error::new(ErrorKind::Stale, step, message);
        let renamed = |error: Error| error.rename_field("mounts[1]", "bind_ro(\"/x\")").to_string();
        assert_eq!(renamed(error("builder", "mounts[1].source: no")), "builder: bind_ro(\"/x\").source: no");
        assert_eq!(renamed(error("mounts[1]", "in mounts[1]")), "bind_ro(\"/x\"): in mounts[1]");
        for other in ["mounts[12]: no", "a.mounts[1]: no", "/mounts[1]: no"] {
            assert_eq!(renamed(error("builder", other)), format!("builder: {other}"));
            assert!(!error("builder", other).names_field("mounts[1]"));
        }
    }

    /// One of each. A kind that is missing here does not compile: the match says which.
    fn every_kind() -> Vec<ErrorKind> {
        use ErrorKind as K;
        let text = || "x".to_owned();
        let all = vec![
            K::InvalidId,
            K::InvalidSpec { path: text() },
            K::NotFound,
            K::AlreadyExists,
            K::WrongState { actual: Status::Paused },
            K::Ended,
            K::Stale,
            K::Unsupported { feature: text() },
            K::ProgramNotFound,
            K::ProgramNotExecutable,
            K::HookFailed { path: text() },
            K::PeerMisbehaved,
            K::HelperDied,
            K::OutdatedZygote { difference: text() },
            K::TimedOut,
            K::Incomplete,
            K::TooLarge { limit: 5 },
            K::NotARegularFile,
            K::Os(libc::ENOSPC),
            K::InvalidInput,
        ];
        let number = |kind: &K| match kind {
            K::InvalidId => 0,
            K::InvalidSpec { .. } => 1,
            K::NotFound => 2,
            K::AlreadyExists => 3,
            K::WrongState { .. } => 4,
            K::Ended => 5,
            K::Stale => 6,
            K::Unsupported { .. } => 7,
            K::ProgramNotFound => 8,
            K::ProgramNotExecutable => 9,
            K::HookFailed { .. } => 10,
            K::PeerMisbehaved => 11,
            K::HelperDied => 12,
            K::OutdatedZygote { .. } => 13,
            K::TimedOut => 14,
            K::Incomplete => 15,
            K::TooLarge { .. } => 16,
            K::NotARegularFile => 17,
            K::Os(_) => 18,
            K::InvalidInput => 19,
        };
        assert!(all.iter().map(number).eq(0..20));
        all
    }

    #[test]
    fn every_kind_survives_the_trip_between_processes() {
        for kind in every_kind() {
            let error = Error::new(kind.clone(), "step", "cause").hint("hint");
            let wire = serde_json::to_string(&RemoteFailure::pack(Actor::Sandbox, &error)).unwrap();
            let back = Error::from(serde_json::from_str::<RemoteFailure>(&wire).unwrap());
            assert_eq!(back.kind(), &kind);
            assert!(back.to_string().ends_with("step: cause (hint)"), "{back}");
        }
    }

    #[test]
    fn every_kind_becomes_an_io_error_that_keeps_the_error_and_its_source() {
        for kind in every_kind() {
            let source = Error::new(ErrorKind::Stale, "before", "it failed");
            let error = Error::new(kind.clone(), "step", "cause").because(source);
            let error = io::Error::from(error);
            assert_eq!(error.to_string(), "step: cause");
            let ours = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).expect("ours");
            assert_eq!(ours.kind(), &kind);
            let source = std::error::Error::source(&error).expect("its source");
            assert_eq!(source.to_string(), "before: it failed");
        }
        let of = |kind| io::Error::from(Error::new(kind, "step", "cause")).kind();
        assert_eq!(of(ErrorKind::Os(libc::EACCES)), io::ErrorKind::PermissionDenied);
        assert_eq!(of(ErrorKind::Ended), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn there_is_one_kind_for_what_has_ended() {
        let of = |actual| Error::wrong_state(actual, "step", "cause").kind().clone();
        assert_eq!(of(Status::Stopped), ErrorKind::Ended);
        assert_eq!(of(Status::Paused), ErrorKind::WrongState { actual: Status::Paused });
        let of = |kind| Error::new(kind, "step", "cause").gone_means_ended().kind().clone();
        assert_eq!(of(ErrorKind::HelperDied), ErrorKind::Ended);
        assert_eq!(of(ErrorKind::TimedOut), ErrorKind::TimedOut);
    }
}

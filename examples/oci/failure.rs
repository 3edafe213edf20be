//! The result of a verb: an exit code, or an error with an exit code.

use cofferdam::typestate::Phase;
use cofferdam::{Error, ErrorKind, Failed};
use std::process::ExitCode;

/// The code with which runc reports its own failures.
pub(crate) const OUR_FAULT: u8 = 1;
/// The same for `exec`.
pub(crate) const EXEC_FAULT: u8 = 255;

pub(crate) type Done = Result<ExitCode, Failure>;

/// Why a verb failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) code: u8,
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self { message, code: OUR_FAULT }
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl From<Error> for Failure {
    /// Engines search for words of runc's. Most error texts of the crate contain them; this adds the one that is missing.
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::AlreadyExists => format!("container with given ID already exists: {error}").into(),
            _ => error.to_string().into(),
        }
    }
}

impl<P: Phase> From<Failed<P>> for Failure {
    fn from(failed: Failed<P>) -> Self {
        Error::from(failed).into()
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        error.to_string().into()
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(errno: rustix::io::Errno) -> Self {
        std::io::Error::from(errno).into()
    }
}

impl From<nix::errno::Errno> for Failure {
    fn from(errno: nix::errno::Errno) -> Self {
        std::io::Error::from(errno).into()
    }
}

/// The exit code of this program for the `code` of a program that has ended.
pub(crate) fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(OUR_FAULT))
}

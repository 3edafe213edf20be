//! How a system call made through `libc` reports that it failed.

use rustix::io::Errno;

/// Turns the result of a call into its error: below zero it failed, and errno says why.
pub(super) fn check(result: impl Into<i64>) -> Result<(), Errno> {
    if result.into() < 0 { Err(last_errno()) } else { Ok(()) }
}

/// The errno of the last failed call of this thread.
pub(super) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

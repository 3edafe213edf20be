//! The user log, for the person who runs the workload: a line when it starts and one when it ends.
//!
//! ```text
//!   2026-01-31T12:00:00.123Z web started
//!   2026-01-31T12:00:05.004Z web exited with code 3
//! ```
//!
//! A line is the time (RFC 3339, UTC, milliseconds), the container's id, and what happened, separated by blanks. A new
//! container appends to the file. Nothing that the workload writes is in it. The caller made sure that the descriptor does
//! not block; the sandbox drops a line that does not fit or has no reader, because it has more important work.

use crate::state::{ExitRecord, Outcome};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use std::time::{Duration, UNIX_EPOCH};

/// Where the lines go, and the container that they are about.
pub(super) struct UserLogWriter {
    to: OwnedFd,
    container: String,
}

impl UserLogWriter {
    pub(super) fn new(to: OwnedFd, container: impl ToString) -> Self {
        Self { to, container: container.to_string() }
    }

    /// The program was executed.
    pub(super) fn started(&self, at_ms: u64) {
        self.line(at_ms, "started");
    }

    /// The container has ended.
    pub(super) fn ended(&self, record: &ExitRecord) {
        self.line(record.finished_at_ms, &Outcome::of(record).to_string());
    }

    fn line(&self, at_ms: u64, what: &str) {
        let at = UNIX_EPOCH + Duration::from_millis(at_ms);
        let line = format!("{} {} {what}\n", humantime::format_rfc3339_millis(at), self.container);
        // As a socket first: the caller opens only other files in non-blocking mode.
        let sent = match send(&self.to, line.as_bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::NOTSOCK) => rustix::io::write(&self.to, line.as_bytes()),
            sent => sent,
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "a line of the user log was dropped");
        }
    }
}

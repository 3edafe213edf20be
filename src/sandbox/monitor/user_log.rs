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
use nix::sys::signal::{SigSet, Signal as Named};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

/// Where the lines go, and the container that they are about.
pub(super) struct UserLogWriter {
    to: OwnedFd,
    container: String,
}

impl UserLogWriter {
    pub(super) fn new(to: OwnedFd, container: impl ToString) -> Self {
        // The sandbox must not end because a reader is gone or a file has grown too large.
        let quiet: SigSet = [Named::SIGPIPE, Named::SIGXFSZ].into_iter().collect();
        let _ = quiet.thread_block();
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
        let line = format!("{} {} {what}\n", rfc3339(at_ms), self.container);
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

/// Milliseconds since the epoch as RFC 3339 in UTC.
fn rfc3339(ms: u64) -> String {
    let (seconds, ms) = (ms / 1000, ms % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// The date of a day counted from 1970-01-01, by counting from 0000-03-01 in eras of 400 years, so that the day that
/// leap years add comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_BEFORE_1970: u64 = 719_468;
    const ERA: u64 = 146_097;
    let days = days + DAYS_BEFORE_1970;
    let (era, day_of_era) = (days / ERA, days % ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_868_799_001, "2000-02-29T23:59:59.001Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
    }
}

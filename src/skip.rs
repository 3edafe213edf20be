//! For unit tests: reporting that a test is skipped.

use std::io::Write;

/// Prints `skipped: REASON` to the real standard error, because the harness captures what a test prints, and in one
/// write, so that its own lines do not get in between. The test script counts these lines.
pub(crate) fn note_skip(reason: &str) {
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = std::io::stderr().write_all(format!("skipped: {reason} [{name}]\n").as_bytes());
}

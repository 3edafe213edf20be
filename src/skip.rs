//! For unit tests: saying that one is skipped.

use std::io::Write;

/// Prints `skipped: REASON` past the harness's capturing of output, in one write, so that its own lines do not come
/// between. Such lines are counted.
pub(crate) fn note_skip(reason: &str) {
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = std::io::stderr().write_all(format!("skipped: {reason} [{name}]\n").as_bytes());
}

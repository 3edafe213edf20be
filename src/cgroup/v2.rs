//! What differs on v2: how a process joins, where the memory counters are, how what is left inside is ended.

use super::dir::{CgroupDir, read_text};
use super::teardown::{kill_listed, poll_until};
use crate::error::{OsContext, Result};
use rustix::event::{PollFd, PollFlags};
use std::os::fd::AsFd;
use std::time::Instant;

/// The file a process writes `0` to, where it could not be created inside by `CLONE_INTO_CGROUP`.
pub(super) const JOIN: &str = "cgroup.procs";

/// OOM kills of this cgroup and those below it.
pub(super) const OOM: &str = "memory.events";

/// The most memory used, in bytes; since Linux 5.19.
pub(super) const PEAK: &str = "memory.peak";

/// Whether anybody is inside, and whether they are frozen.
pub(super) const EVENTS: &str = "cgroup.events";

/// Ends every process of this cgroup and of those below it.
pub(super) fn empty(dir: &CgroupDir, deadline: Instant) -> Result<()> {
    // KERNEL(5.14): cgroup.kill, which no fork escapes. Before, and in a threaded cgroup: one by one.
    if dir.write("cgroup.kill", "1").is_err() {
        return kill_listed(dir, deadline);
    }
    await_empty(dir, deadline)
}

/// Waits until nobody is in this cgroup and in those below it.
pub(super) fn await_empty(dir: &CgroupDir, deadline: Instant) -> Result<()> {
    let events = dir.open_read(EVENTS)?;
    let step = || format!("read({:?})", dir.path().join(EVENTS));
    // The kernel raises POLLPRI when the text changes after it was last read, so the order cannot miss a change.
    while read_text(events.as_fd()).os(step)?.lines().any(|line| line == "populated 1") {
        poll_until(&mut [PollFd::new(&events, PollFlags::PRI)], deadline)?;
    }
    Ok(())
}

//! What differs on v1: how a process joins, where the memory counters are, how what is left inside is ended.

use super::dir::CgroupDir;
use super::teardown::kill_listed;
use crate::error::Result;
use std::time::Instant;

/// The file a single-threaded process writes `0` to. `cgroup.procs` would do the same after an RCU grace period, which
/// `tasks` does without, since no other thread can be created meanwhile.
pub(super) const JOIN: &str = "tasks";

/// OOM kills of the memory controller.
pub(super) const OOM: &str = "memory.oom_control";

/// The most memory used, in bytes.
pub(super) const PEAK: &str = "memory.max_usage_in_bytes";

/// Ends every process of this cgroup, not of those below it.
pub(super) fn empty(dir: &CgroupDir, deadline: Instant) -> Result<()> {
    // Only one of these files exists, in the hierarchy of its controller, and without either the killing still works:
    // it has to win against forks by speed then.
    let _ = dir.write("pids.max", "0");
    // On v1 alone, a frozen task does not act on SIGKILL until it is thawed.
    let _ = dir.write("freezer.state", "THAWED");
    kill_listed(dir, deadline)
}

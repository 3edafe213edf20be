//! Whether the kernel killed for memory: the counters of a cgroup, read through donated fds.
//!
//! What lives here: the parser and one small read. What may not: opening anything; the sandbox that reads has no path.

use super::dir::read_text;
use crate::error::{Error, ErrorKind, OsContext, Result};
use serde::{Deserialize, Serialize};
use std::os::fd::BorrowedFd;

/// What the memory controller counted for a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OomEvidence {
    /// Processes the OOM killer took, since the cgroup was made.
    pub(crate) oom_kills: u64,
    /// The most memory used at once, in bytes; `None` where the kernel does not say (v2 before Linux 5.19).
    pub(crate) peak: Option<u64>,
}

impl OomEvidence {
    /// Reads the counters through the fds that [`Cgroup::evidence_fds`](super::Cgroup::evidence_fds) opened: `oom` is
    /// `memory.oom_control` (v1) or `memory.events` (v2), `peak` is `memory.max_usage_in_bytes` or `memory.peak`. They
    /// still answer when every process of the cgroup is gone.
    ///
    /// # Errors
    /// An errno (`ENODEV` once the cgroup is removed), or text without the counter.
    pub(crate) fn read(oom: BorrowedFd<'_>, peak: Option<BorrowedFd<'_>>) -> Result<Self> {
        let oom = read_text(oom).os(|| "read(oom counters)")?;
        let peak = peak.map(read_text).transpose().os(|| "read(memory peak)")?;
        Self::parse(&oom, peak.as_deref())
            .ok_or_else(|| Error::new(ErrorKind::Os(libc::EIO), "read(oom counters)", "no oom_kill line"))
    }

    /// Parses the two files. Both versions say `oom_kill N` on a line of its own.
    fn parse(oom: &str, peak: Option<&str>) -> Option<Self> {
        let oom_kills = oom.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()?;
        Some(Self { oom_kills, peak: peak.and_then(|text| text.trim().parse().ok()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_name_their_counter_oom_kill() {
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(
            OomEvidence::parse(v1, Some("1048576\n")),
            Some(OomEvidence { oom_kills: 3, peak: Some(1 << 20) })
        );
        let v2 = "low 0\nhigh 0\nmax 12\noom 4\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(OomEvidence::parse(v2, None), Some(OomEvidence { oom_kills: 2, peak: None }));
    }

    #[test]
    fn a_file_without_the_counter_is_not_a_zero() {
        assert_eq!(OomEvidence::parse("oom_kill_disable 0\nunder_oom 0\n", None), None);
        assert_eq!(OomEvidence::parse("oom_kill many\n", None), None);
    }
}

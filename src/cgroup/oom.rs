//! OOM kills: a descriptor to poll for them ([`OomWatch`]), and the counters to read after the end ([`OomEvidence`]).
//!
//! The caller opens and registers the descriptors. The sandbox, which has no path to a cgroup, reads through them.

use super::dir::{CgroupDir, CgroupVersion, keyed, read_text, v1, v2};
use crate::error::{Error, ErrorKind, OsContext, Result};
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use serde::{Deserialize, Serialize};

/// Donation name of an eventfd that counts the times the memory limit was hit (v1).
const EVENT_V1: &str = "cgroup-oom-event-v1";
/// Donation name of a separately opened `memory.events`: a reader of the same open file would take the event away (v2).
const EVENT_V2: &str = "cgroup-oom-event-v2";

/// Notices when the OOM killer acts in a container.
#[derive(Debug)]
pub(crate) struct OomWatch {
    event: OwnedFd,
    version: CgroupVersion,
    /// Kills reported so far (v2).
    seen: u64,
}

/// Opens, or on v1 registers, the descriptor of an [`OomWatch`]. `None` without a memory controller.
pub(super) fn open(dir: &CgroupDir) -> Option<(String, OwnedFd)> {
    match dir.version() {
        CgroupVersion::V2 => dir.open_read(v2::OOM).ok().map(|events| (EVENT_V2.into(), events)),
        CgroupVersion::V1 => {
            let control = dir.open_read(v1::OOM).ok()?;
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
            // "write string like \"<event_fd> <fd of memory.oom_control>\" to cgroup.event_control"
            // - kernel: admin-guide/cgroup-v1/memory
            let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
            match dir.write("cgroup.event_control", &line) {
                Ok(()) => Some((EVENT_V1.into(), event)),
                Err(error) => {
                    tracing::debug!(%error, "OOM kills will be reported only when the container ends");
                    None
                }
            }
        }
    }
}

impl OomWatch {
    /// Takes the fd by its donation name from `take`; `None` for a container without a memory cgroup.
    pub(crate) fn take(mut take: impl FnMut(&str) -> Option<OwnedFd>) -> Option<Self> {
        if let Some(event) = take(EVENT_V1) {
            return Some(Self { event, version: CgroupVersion::V1, seen: 0 });
        }
        let mut watch = Self { event: take(EVENT_V2)?, version: CgroupVersion::V2, seen: 0 };
        // Only changes after a read raise events. A cgroup that was used before may have counted already.
        watch.seen = watch.count().unwrap_or(0);
        Some(watch)
    }

    /// The events to poll for.
    pub(crate) fn interest(&self) -> PollFlags {
        match self.version {
            CgroupVersion::V1 => PollFlags::IN,
            CgroupVersion::V2 => PollFlags::PRI,
        }
    }

    /// Whether the kernel has killed, or is about to, since the last call. Resets the descriptor.
    pub(crate) fn happened(&mut self) -> bool {
        match self.version {
            CgroupVersion::V1 => matches!(rustix::io::read(&self.event, &mut [0_u8; 8]), Ok(8)),
            CgroupVersion::V2 => {
                let count = self.count().unwrap_or(self.seen);
                std::mem::replace(&mut self.seen, count) < count
            }
        }
    }

    fn count(&self) -> Option<u64> {
        let text = read_text(self.event.as_fd()).ok()?;
        keyed(&text, "oom_kill")
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// What the memory controller counted for a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OomEvidence {
    /// Processes that the OOM killer has killed since the cgroup was made.
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

    /// Parses the two files. Both versions have a line `oom_kill N`.
    fn parse(oom: &str, peak: Option<&str>) -> Option<Self> {
        let oom_kills = keyed(oom, "oom_kill")?;
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

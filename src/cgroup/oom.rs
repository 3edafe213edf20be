//! Hearing of an OOM kill when it happens: one fd to poll, whatever the version.
//!
//! What lives here: its registration by the caller, and its reading by the sandbox. How many were killed is the
//! [evidence](super::OomEvidence)'s answer.

use super::dir::{CgroupDir, Version, read_text};
use super::{v1, v2};
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Donation name of an eventfd that counts the times the memory limit was hit (v1).
const EVENT_V1: &str = "cgroup-oom-event-v1";
/// Donation name of a `memory.events` of its own, so that nobody else's reading takes the event away (v2).
const EVENT_V2: &str = "cgroup-oom-event-v2";

/// Tells when the kernel kills in a container for memory.
#[derive(Debug)]
pub(crate) struct OomWatch {
    event: OwnedFd,
    version: Version,
    /// Kills that were told of already (v2).
    seen: u64,
}

/// Opens, or on v1 registers, what an [`OomWatch`] is made of. `None` where there is no memory controller.
pub(super) fn open(dir: &CgroupDir) -> Option<(String, OwnedFd)> {
    match dir.version() {
        Version::V2 => dir.open_read(v2::OOM).ok().map(|events| (EVENT_V2.into(), events)),
        Version::V1 => {
            let control = dir.open_read(v1::OOM).ok()?;
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
            // "write string like \"<event_fd> <fd of memory.oom_control>\" to cgroup.event_control"
            // - kernel: admin-guide/cgroup-v1/memory
            let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
            match dir.write("cgroup.event_control", &line) {
                Ok(()) => Some((EVENT_V1.into(), event)),
                Err(error) => {
                    tracing::debug!(%error, "OOM kills are told of at the end only");
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
            return Some(Self { event, version: Version::V1, seen: 0 });
        }
        let mut watch = Self { event: take(EVENT_V2)?, version: Version::V2, seen: 0 };
        // Reading is what makes later changes events. A place that was used before may have counted already.
        watch.seen = watch.count().unwrap_or(0);
        Some(watch)
    }

    /// What to poll for.
    pub(crate) fn interest(&self) -> PollFlags {
        match self.version {
            Version::V1 => PollFlags::IN,
            Version::V2 => PollFlags::PRI,
        }
    }

    /// Whether the kernel has killed, or is about to, since this was asked last. Makes the fd quiet again.
    pub(crate) fn happened(&mut self) -> bool {
        match self.version {
            Version::V1 => matches!(rustix::io::read(&self.event, &mut [0_u8; 8]), Ok(8)),
            Version::V2 => {
                let count = self.count().unwrap_or(self.seen);
                std::mem::replace(&mut self.seen, count) < count
            }
        }
    }

    fn count(&self) -> Option<u64> {
        let text = read_text(self.event.as_fd()).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

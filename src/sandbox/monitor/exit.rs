//! How the container ended, from kernel evidence: the wait status, the cgroup's counters, and what was asked before.

use super::user_log::UserLogWriter;
use crate::cgroup::{EVIDENCE_OOM, EVIDENCE_PEAK, OomEvidence};
use crate::error::Result;
use crate::helper::Received;
use crate::id::ContainerId;
use crate::state::{Cause, ExitRecord, WaitStatus};
use crate::sys::Usage;
use rustix::fd::{AsFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes down how the container ended, with the descriptors that the caller opened for that.
pub(super) struct ExitRecorder {
    record: OwnedFd,
    user_log: Option<UserLogWriter>,
    /// The memory controller's counters, where the container has one: kills, and the most memory used.
    memory: Option<(OwnedFd, Option<OwnedFd>)>,
}

impl ExitRecorder {
    pub(super) fn take(id: &ContainerId, donated: &mut Received) -> Result<Self> {
        let oom = donated.take_optional(EVIDENCE_OOM);
        Ok(Self {
            record: donated.take("exit")?,
            user_log: donated.take_optional("user-log").map(|to| UserLogWriter::new(to, id)),
            memory: oom.map(|oom| (oom, donated.take_optional(EVIDENCE_PEAK))),
        })
    }

    /// How many of the container's processes the OOM killer has killed; `None` without a memory cgroup.
    pub(super) fn oom_kills(&self) -> Option<u64> {
        let (oom, _) = self.memory.as_ref()?;
        Some(OomEvidence::read(oom.as_fd(), None).ok()?.oom_kills)
    }

    /// Init executed the program.
    pub(super) fn started(&self, at_ms: u64) {
        if let Some(log) = &self.user_log {
            log.started(at_ms);
        }
    }

    /// Init is gone. `leaf_kills` are those of executed processes' own cgroups. Returns whether the record could be written;
    /// if not, readers report that the sandbox was lost.
    pub(super) fn ended(
        &self,
        usage: Option<Usage>,
        started_at_ms: Option<u64>,
        ended_by: Option<(Cause, i32)>,
        leaf_kills: LeafKills,
    ) -> bool {
        let memory = self.memory.as_ref();
        let memory = memory
            .and_then(|(oom, peak)| OomEvidence::read(oom.as_fd(), peak.as_ref().map(AsFd::as_fd)).ok());
        let record = conclude(usage, &ExitEvidence { started_at_ms, ended_by, memory, leaf_kills }, now_ms());
        let written = rustix::io::pwrite(&self.record, &record.encode(), 0).is_ok();
        if let Some(log) = &self.user_log {
            log.ended(&record);
        }
        written
    }
}

/// What the sandbox knows when init is gone.
#[derive(Clone, Copy, Debug, Default)]
struct ExitEvidence {
    /// When the program was executed, in milliseconds since the epoch.
    started_at_ms: Option<u64>,
    /// The last thing that the sandbox did to end init, and the signal that init got.
    ended_by: Option<(Cause, i32)>,
    memory: Option<OomEvidence>,
    leaf_kills: LeafKills,
}

/// How many processes the OOM killer has killed in the own cgroups of executed processes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LeafKills {
    /// Those that the container's cgroup counts, too.
    pub(super) above: u64,
    /// Those that it does not count.
    pub(super) beside: u64,
}

/// The exit record. It names a cause only if the status confirms it: a workload that caught our SIGTERM and exited did so
/// by itself, and a SIGKILL that the sandbox did not send is the OOM killer's only if the kernel counted one.
fn conclude(usage: Option<Usage>, what: &ExitEvidence, now_ms: u64) -> ExitRecord {
    let status = match (what.started_at_ms, usage) {
        (None, _) => WaitStatus::NotStarted,
        (_, None) => WaitStatus::Unknown,
        (_, Some(Usage { signal: Some((signal, core_dumped)), .. })) => {
            WaitStatus::Signalled { signal, core_dumped }
        }
        (_, Some(Usage { code, .. })) => WaitStatus::Exited(code.unwrap_or_default()),
    };
    let oom_kills = what.memory.map_or(0, |memory| memory.oom_kills);
    let cause = match (usage.and_then(|usage| usage.signal), what.ended_by) {
        (Some((signal, _)), Some((cause, sent))) if signal == sent => cause,
        (Some((libc::SIGKILL, _)), _) if oom_kills > what.leaf_kills.above => Cause::OutOfMemory,
        _ => Cause::Itself,
    };
    let mut record = ExitRecord::new(status, cause, now_ms);
    record.started_at_ms = what.started_at_ms;
    if let Some(usage) = usage {
        (record.user_us, record.system_us, record.max_rss_kib) =
            (usage.user_us, usage.system_us, usage.max_rss_kib);
    }
    record.oom_kills = oom_kills + what.leaf_kills.beside;
    record.memory_peak = what.memory.and_then(|memory| memory.peak);
    record
}

/// The exit status of the sandbox process itself: init's, or 128 + n for a signal.
pub(super) fn code_of(usage: Option<Usage>) -> i32 {
    match usage {
        Some(Usage { signal: Some((signal, _)), .. }) => 128 + signal,
        Some(Usage { code, .. }) => code.unwrap_or_default(),
        None => 255,
    }
}

pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn killed_by(signal: i32) -> Option<Usage> {
        Some(Usage { code: None, signal: Some((signal, false)), user_us: 1, system_us: 2, max_rss_kib: 3 })
    }

    fn started() -> ExitEvidence {
        ExitEvidence { started_at_ms: Some(5), ..ExitEvidence::default() }
    }

    fn exited(code: i32) -> Option<Usage> {
        Some(Usage { code: Some(code), signal: None, user_us: 0, system_us: 0, max_rss_kib: 0 })
    }

    #[test]
    fn a_sigkill_is_the_oom_killers_only_if_the_kernel_counted_one() {
        let oom = ExitEvidence { memory: Some(OomEvidence { oom_kills: 1, peak: Some(9) }), ..started() };
        assert_eq!(conclude(killed_by(9), &oom, 7).cause, Cause::OutOfMemory);
        assert_eq!(conclude(killed_by(9), &oom, 7).memory_peak, Some(9));
        // The kernel killed an executed process in its own cgroup.
        let leaf_kills = LeafKills { above: 1, beside: 0 };
        assert_eq!(conclude(killed_by(9), &ExitEvidence { leaf_kills, ..oom }, 7).cause, Cause::Itself);
        assert_eq!(conclude(killed_by(9), &started(), 7).cause, Cause::Itself);
    }

    #[test]
    fn a_signal_asked_for_is_the_cause_only_if_the_workload_died_of_it() {
        let asked = ExitEvidence { ended_by: Some((Cause::Requested { signal: 15 }, 15)), ..started() };
        assert_eq!(conclude(killed_by(15), &asked, 7).cause, Cause::Requested { signal: 15 });
        assert_eq!(conclude(exited(0), &asked, 7).cause, Cause::Itself);
        assert_eq!(conclude(killed_by(11), &asked, 7).cause, Cause::Itself);
    }

    #[test]
    fn a_default_action_delivered_as_sigkill_keeps_the_signal_asked_for() {
        let asked = ExitEvidence { ended_by: Some((Cause::Requested { signal: 15 }, 9)), ..started() };
        assert_eq!(conclude(killed_by(9), &asked, 7).cause, Cause::Requested { signal: 15 });
    }

    #[test]
    fn a_workload_that_never_ran_has_no_status() {
        assert_eq!(conclude(killed_by(9), &ExitEvidence::default(), 7).status, WaitStatus::NotStarted);
        assert_eq!(code_of(killed_by(9)), 137);
        assert_eq!(code_of(exited(3)), 3);
    }
}

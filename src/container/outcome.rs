//! How a container ended, for programs that decide by it.

use crate::cgroup::stats::MemoryStats;
use crate::process::Signal;
use crate::state::ExitRecord;
pub use crate::state::Outcome;
use crate::wire::control::ProcessEnd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The end of a container: the outcome and what it took.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exit {
    /// How it ended.
    pub outcome: Outcome,
    /// When the program was executed; `None` if it never was, or nobody is left to tell.
    pub started_at: Option<SystemTime>,
    /// When it ended; `None` if nobody is left to tell.
    pub finished_at: Option<SystemTime>,
    /// CPU time in user mode, of init and the descendants it waited for.
    pub user_time: Duration,
    /// CPU time in kernel mode, likewise.
    pub system_time: Duration,
    /// The largest resident set of any one of them, bytes.
    pub max_rss: u64,
    /// The most memory the container used at once, bytes; `None` without a memory cgroup.
    pub memory_peak: Option<u64>,
    /// How many of its processes the kernel killed for memory.
    pub oom_kills: u64,
}

impl Exit {
    /// Nobody lived to write the record: all there is are the counters of the container's memory cgroup, if it has one.
    pub(super) fn unrecorded(memory: Option<MemoryStats>) -> Self {
        let oom_kills = memory.and_then(|memory| memory.oom_kills).unwrap_or(0);
        Self {
            outcome: if oom_kills == 0 { Outcome::Lost } else { Outcome::OutOfMemory },
            started_at: None,
            finished_at: None,
            user_time: Duration::ZERO,
            system_time: Duration::ZERO,
            max_rss: 0,
            memory_peak: memory.and_then(|memory| memory.peak),
            oom_kills,
        }
    }

    /// Reads the record the sandbox left.
    pub(super) fn recorded(record: &ExitRecord) -> Self {
        let at = |ms: u64| UNIX_EPOCH + Duration::from_millis(ms);
        Self {
            outcome: Outcome::of(record),
            started_at: record.started_at_ms.map(at),
            finished_at: Some(at(record.finished_at_ms)),
            user_time: Duration::from_micros(record.user_us),
            system_time: Duration::from_micros(record.system_us),
            max_rss: record.max_rss_kib * 1024,
            memory_peak: record.memory_peak,
            oom_kills: record.oom_kills,
        }
    }
}

/// What [`ContainerBuilder::output`](super::ContainerBuilder::output) collects.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Output {
    /// The end of the container.
    pub exit: Exit,
    /// What the program wrote to standard output.
    pub stdout: Vec<u8>,
    /// What the program wrote to standard error.
    pub stderr: Vec<u8>,
}

/// How an executed process ended, and what it took.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessExit {
    /// How it ended: [`Outcome::Exited`], [`Outcome::Signalled`], [`Outcome::Killed`] by a signal sent through its
    /// handle, or [`Outcome::TimedOut`].
    pub outcome: Outcome,
    /// CPU time in user mode, of the process and the descendants it waited for.
    pub user_time: Duration,
    /// CPU time in kernel mode, likewise.
    pub system_time: Duration,
    /// The largest resident set of any one of them, bytes.
    pub max_rss: u64,
}

impl ProcessExit {
    pub(super) fn new(end: ProcessEnd, sent: Option<Signal>) -> Self {
        let outcome = match end.signal {
            Some((number, core_dumped)) => {
                let signal = Signal::new(number).unwrap_or(Signal::KILL);
                if sent == Some(signal) {
                    Outcome::Killed { signal }
                } else {
                    Outcome::Signalled { signal, core_dumped }
                }
            }
            None => Outcome::Exited { code: end.code.unwrap_or_default() },
        };
        Self {
            outcome,
            user_time: Duration::from_micros(end.user_us),
            system_time: Duration::from_micros(end.system_us),
            max_rss: end.max_rss_kib * 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_record_the_memory_cgroup_tells_what_it_knows() {
        let counted = |oom_kills| MemoryStats { oom_kills, peak: Some(5), ..MemoryStats::default() };
        for (memory, outcome, peak) in [
            (None, Outcome::Lost, None),
            (Some(counted(None)), Outcome::Lost, Some(5)),
            (Some(counted(Some(0))), Outcome::Lost, Some(5)),
            (Some(counted(Some(2))), Outcome::OutOfMemory, Some(5)),
        ] {
            let exit = Exit::unrecorded(memory);
            assert_eq!((exit.outcome, exit.memory_peak), (outcome, peak), "{memory:?}");
        }
    }
}

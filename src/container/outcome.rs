//! How a container, or a process in it, ended, for programs that decide what to do next.

use crate::cgroup::stats::MemoryStats;
use crate::process::Signal;
use crate::state::ExitRecord;
pub use crate::state::Outcome;
use crate::wire::control::ProcessEnd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The end of a container: the outcome, and the resources that it used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exit {
    /// How it ended.
    pub outcome: Outcome,
    /// When the program was executed; `None` if it never was, or if the sandbox died before it wrote the exit record.
    pub started_at: Option<SystemTime>,
    /// When it ended; `None` if the sandbox died before it wrote the exit record.
    pub finished_at: Option<SystemTime>,
    /// CPU time in user mode, of init and the descendants it waited for.
    pub user_time: Duration,
    /// CPU time in kernel mode, likewise.
    pub system_time: Duration,
    /// The largest resident set of any one of them, bytes, from their `execve` on (getrusage(2), `ru_maxrss`).
    ///
    /// Not less than what the process of this crate that executes the program keeps until then: its heap and the
    /// relocated constants of your program, often half a megabyte. A few megabytes if the process may not reset the
    /// count (proc_pid_clear_refs(5)), as in a joined user namespace, or an exec where `/proc` is not mounted.
    pub max_rss: u64,
    /// The most memory that the container used at one time, bytes; `None` without a memory cgroup.
    pub memory_peak: Option<u64>,
    /// How many of its processes the kernel's OOM killer killed.
    pub oom_kills: u64,
}

impl Exit {
    /// Without a record, because the sandbox died before it wrote one: from the counters of the container's memory
    /// cgroup, if it has one.
    pub(super) fn unrecorded(memory: Option<MemoryStats>) -> Self {
        let oom_kills = memory.and_then(|memory| memory.oom_kills).unwrap_or(0);
        Self {
            outcome: Outcome::unrecorded(Some(oom_kills)),
            started_at: None,
            finished_at: None,
            user_time: Duration::ZERO,
            system_time: Duration::ZERO,
            max_rss: 0,
            memory_peak: memory.and_then(|memory| memory.peak),
            oom_kills,
        }
    }

    /// From the record that the sandbox wrote.
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
    /// The end of the container; [`Outcome::TooMuchOutput`] if the program wrote more than
    /// [`output_limit`](super::ContainerBuilder::output_limit) to one of its streams.
    pub exit: Exit,
    /// What the program wrote to standard output, up to the limit.
    pub stdout: Vec<u8>,
    /// What the program wrote to standard error, up to the limit.
    pub stderr: Vec<u8>,
}

/// How an executed process ended, and the resources that it used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessExit {
    /// How it ended: [`Outcome::Exited`], [`Outcome::Signalled`], [`Outcome::Killed`] by a signal that its
    /// [`Process`](crate::Process) sent, [`Outcome::OutOfMemory`], [`Outcome::TimedOut`], or
    /// [`Outcome::TooMuchOutput`] where that was collected.
    ///
    /// `OutOfMemory` is a SIGKILL that did not come from its [`Process`](crate::Process), when the container's memory
    /// cgroup has counted an OOM kill since the process was there, and the container goes on.
    pub outcome: Outcome,
    /// CPU time in user mode, of the process and the descendants it waited for.
    pub user_time: Duration,
    /// CPU time in kernel mode, likewise.
    pub system_time: Duration,
    /// The largest resident set of any one of them, bytes; see [`Exit::max_rss`]. 0 if a tracer (ptrace(2)) kept the
    /// sandbox from collecting it.
    pub max_rss: u64,
}

impl ProcessExit {
    pub(super) fn new(end: ProcessEnd, sent: Option<Signal>) -> Self {
        let outcome = match (end.timed_out, end.signal) {
            (Some(after), _) => Outcome::TimedOut { after },
            (None, Some((number, core_dumped))) => {
                let signal = Signal::new(number).unwrap_or(Signal::KILL);
                if sent == Some(signal) {
                    Outcome::Killed { signal }
                } else if end.out_of_memory {
                    Outcome::OutOfMemory
                } else {
                    Outcome::Signalled { signal, core_dumped }
                }
            }
            (None, None) => Outcome::Exited { code: end.code.unwrap_or_default() },
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

//! How a container ended, for programs that decide by it.

use crate::cgroup::stats::MemoryStats;
use crate::process::Signal;
use crate::state::{Cause, ExitRecord, WaitStatus};
use crate::wire::control::ProcessEnd;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How it ended, each case from kernel evidence: the wait status, the cgroup's own counters, and what this API did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The program exited by itself.
    Exited {
        /// Its exit code, 0 to 255.
        code: i32,
    },
    /// A signal that nobody sent through this API killed it.
    Signalled {
        /// The signal.
        signal: Signal,
        /// Whether it left a core dump.
        core_dumped: bool,
    },
    /// The kernel killed it because its memory limit was reached: its cgroup counted the kill. Also where the sandbox,
    /// which is under the same limit, was killed before it could say so.
    OutOfMemory,
    /// It ran longer than its timeout and was killed.
    TimedOut {
        /// The timeout.
        after: Duration,
    },
    /// A signal sent through this API ended it.
    Killed {
        /// The signal that was asked for.
        signal: Signal,
    },
    /// It was killed because the program it was attached to ended.
    CallerGone,
    /// It was killed because the root container of its pod ended.
    PodEnded,
    /// It was ended between create and start: the program never ran.
    NeverStarted,
    /// Its sandbox or its gofer was killed from outside, and it with them.
    Lost,
}

impl Outcome {
    /// Whether the program exited with code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Exited { code: 0 }
    }

    /// The exit code a shell would show: the program's own, or 128 + n for signal n.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Exited { code } => code,
            Self::Signalled { signal, .. } | Self::Killed { signal } => 128 + signal.number(),
            _ => 128 + libc::SIGKILL,
        }
    }
}

impl fmt::Display for Outcome {
    /// For people: `exited with code 3`, `killed by SIGTERM`, `timed out after 2s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "exited with code {code}"),
            Self::Signalled { signal, core_dumped: false } => write!(f, "died of {signal}"),
            Self::Signalled { signal, core_dumped: true } => write!(f, "died of {signal}, core dumped"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::TimedOut { after } => write!(f, "timed out after {after:?}"),
            Self::Killed { signal } => write!(f, "killed by {signal}"),
            Self::CallerGone => f.write_str("killed because its creator ended"),
            Self::PodEnded => f.write_str("ended with its pod"),
            Self::NeverStarted => f.write_str("ended before it was started"),
            Self::Lost => f.write_str("lost with its sandbox or gofer"),
        }
    }
}

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
            outcome: outcome(record),
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

fn outcome(record: &ExitRecord) -> Outcome {
    let signal = |number| Signal::new(number).unwrap_or(Signal::KILL);
    match (record.status, record.cause) {
        (WaitStatus::NotStarted, _) => Outcome::NeverStarted,
        (_, Cause::SandboxLost | Cause::GoferLost) => Outcome::Lost,
        (_, Cause::OutOfMemory) => Outcome::OutOfMemory,
        (_, Cause::TimedOut { after_ms }) => Outcome::TimedOut { after: Duration::from_millis(after_ms) },
        (_, Cause::LifelineCut) => Outcome::CallerGone,
        (_, Cause::PodEnded) => Outcome::PodEnded,
        (_, Cause::Requested { signal: number }) => Outcome::Killed { signal: signal(number) },
        (WaitStatus::Exited(code), Cause::Itself) => Outcome::Exited { code },
        (WaitStatus::Signalled { signal: number, core_dumped }, Cause::Itself) => {
            Outcome::Signalled { signal: signal(number), core_dumped }
        }
        (WaitStatus::Unknown, Cause::Itself) => Outcome::Lost,
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

    fn record(status: WaitStatus, cause: Cause) -> ExitRecord {
        ExitRecord::new(status, cause, 1)
    }

    #[test]
    fn every_cause_has_its_outcome() {
        let exited = WaitStatus::Exited(3);
        let killed = WaitStatus::Signalled { signal: 9, core_dumped: false };
        for (status, cause, expected) in [
            (exited, Cause::Itself, Outcome::Exited { code: 3 }),
            (killed, Cause::Itself, Outcome::Signalled { signal: Signal::KILL, core_dumped: false }),
            (killed, Cause::OutOfMemory, Outcome::OutOfMemory),
            (killed, Cause::TimedOut { after_ms: 5 }, Outcome::TimedOut { after: Duration::from_millis(5) }),
            (killed, Cause::Requested { signal: 15 }, Outcome::Killed { signal: Signal::TERM }),
            (killed, Cause::LifelineCut, Outcome::CallerGone),
            (killed, Cause::PodEnded, Outcome::PodEnded),
            (WaitStatus::NotStarted, Cause::Requested { signal: 9 }, Outcome::NeverStarted),
        ] {
            assert_eq!(Exit::recorded(&record(status, cause)).outcome, expected);
        }
    }

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

    #[test]
    fn the_shells_code_is_the_programs_or_128_and_the_signal() {
        assert_eq!(Outcome::Exited { code: 3 }.shell_code(), 3);
        assert_eq!(Outcome::Killed { signal: Signal::TERM }.shell_code(), 143);
        assert_eq!(Outcome::OutOfMemory.shell_code(), 137);
        assert!(Outcome::Exited { code: 0 }.success());
    }
}

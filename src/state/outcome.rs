//! [`Outcome`]: how a container or a process ended, and how that is worded.

use super::exit::{Cause, ExitRecord, WaitStatus};
use crate::process::Signal;
use std::fmt;
use std::time::Duration;

/// How it ended, each case from kernel evidence: the wait status, the cgroup's own counters, and what this API did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The program exited by itself.
    Exited {
        /// Its exit code, 0 to 255.
        code: i32,
    },
    /// A signal killed it that was not sent through this API.
    Signalled {
        /// The signal.
        signal: Signal,
        /// Whether it left a core dump.
        core_dumped: bool,
    },
    /// The kernel killed it because its memory limit was reached: its cgroup counted the kill. Also where the sandbox
    /// was killed before it could say so.
    OutOfMemory,
    /// It ran longer than its timeout and was killed.
    TimedOut {
        /// The timeout.
        after: Duration,
    },
    /// It wrote more to standard output or standard error than its caller collects, and was killed. What was collected
    /// is cut at the limit.
    TooMuchOutput {
        /// The limit, in bytes for each stream.
        limit: u64,
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
    /// It was written to an [image](crate::checkpoint::Image), as [`checkpoint`](crate::Container::checkpoint) asked, and
    /// goes on where that is restored.
    Checkpointed,
    /// It was ended between create and start: the program never ran.
    NeverStarted,
    /// Its sandbox, its gofer or its [init](crate::ContainerBuilder::init) was killed from outside, and it with them.
    Lost,
}

impl Outcome {
    /// What the exit record of a container means.
    pub(crate) fn of(record: &ExitRecord) -> Self {
        let signal = |number| Signal::new(number).unwrap_or(Signal::KILL);
        match (record.status, record.cause) {
            (WaitStatus::NotStarted, _) => Self::NeverStarted,
            (_, Cause::SandboxLost | Cause::GoferLost | Cause::ReaperLost) => Self::Lost,
            (_, Cause::OutOfMemory) => Self::OutOfMemory,
            (_, Cause::TimedOut { after_ms }) => Self::TimedOut { after: Duration::from_millis(after_ms) },
            (_, Cause::LifelineCut) => Self::CallerGone,
            (_, Cause::PodEnded) => Self::PodEnded,
            (_, Cause::Checkpointed) => Self::Checkpointed,
            (_, Cause::Requested { signal: number }) => Self::Killed { signal: signal(number) },
            (WaitStatus::Exited(code), Cause::Itself) => Self::Exited { code },
            (WaitStatus::Signalled { signal: number, core_dumped }, Cause::Itself) => {
                Self::Signalled { signal: signal(number), core_dumped }
            }
            (WaitStatus::Unknown, Cause::Itself) => Self::Lost,
        }
    }

    /// Of a container without an exit record, because its sandbox died first: the count of its memory cgroup, if it has
    /// one, may tell why.
    pub(crate) fn unrecorded(oom_kills: Option<u64>) -> Self {
        if oom_kills.unwrap_or(0) == 0 { Self::Lost } else { Self::OutOfMemory }
    }

    /// As a sentence: `it exited with code 3`, `it was killed by SIGTERM`.
    pub(crate) fn sentence(self) -> String {
        match self {
            Self::Exited { .. } | Self::Signalled { .. } | Self::TimedOut { .. } | Self::NeverStarted => {
                format!("it {self}")
            }
            Self::OutOfMemory => "it ran out of memory".to_owned(),
            Self::TooMuchOutput { .. }
            | Self::Killed { .. }
            | Self::CallerGone
            | Self::PodEnded
            | Self::Checkpointed
            | Self::Lost => format!("it was {self}"),
        }
    }

    /// Whether the program exited with code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Exited { code: 0 }
    }

    /// The exit code a shell would show: the program's own, or 128 + n for signal n. 137, as for SIGKILL, for every other
    /// end.
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
    /// For people, and the words of the user log: `exited with code 3`, `killed by SIGTERM`, `timed out after 2s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "exited with code {code}"),
            Self::Signalled { signal, core_dumped } => {
                write!(f, "died of {signal}")?;
                if signal.number() == libc::SIGSYS {
                    f.write_str(": a system call that its seccomp filter forbids")?;
                }
                if *core_dumped { f.write_str(", core dumped") } else { Ok(()) }
            }
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::TimedOut { after } => write!(f, "timed out after {after:?}"),
            Self::TooMuchOutput { limit } => write!(f, "killed because it wrote more than {limit} bytes"),
            Self::Killed { signal } => write!(f, "killed by {signal}"),
            Self::CallerGone => f.write_str("killed because its creator ended"),
            Self::PodEnded => f.write_str("killed because its pod ended"),
            Self::Checkpointed => f.write_str("checkpointed"),
            Self::NeverStarted => f.write_str("ended before it was started"),
            Self::Lost => f.write_str("lost with its sandbox or gofer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (killed, Cause::Checkpointed, Outcome::Checkpointed),
            (WaitStatus::NotStarted, Cause::Requested { signal: 9 }, Outcome::NeverStarted),
        ] {
            assert_eq!(Outcome::of(&ExitRecord::new(status, cause, 1)), expected);
        }
    }

    #[test]
    fn every_end_has_its_words() {
        let killed = |signal| WaitStatus::Signalled { signal, core_dumped: false };
        for (status, cause, words) in [
            (WaitStatus::Exited(3), Cause::Itself, "it exited with code 3"),
            (killed(31), Cause::Itself, "it died of SIGSYS: a system call that its seccomp filter forbids"),
            (killed(11), Cause::Itself, "it died of SIGSEGV"),
            (killed(9), Cause::TimedOut { after_ms: 1500 }, "it timed out after 1.5s"),
            (killed(9), Cause::Requested { signal: 15 }, "it was killed by SIGTERM"),
            (WaitStatus::NotStarted, Cause::Requested { signal: 9 }, "it ended before it was started"),
        ] {
            let outcome = Outcome::of(&ExitRecord::new(status, cause, 0));
            assert_eq!(outcome.sentence(), words);
            assert!(words.ends_with(&outcome.to_string()));
        }
        assert_eq!(Outcome::OutOfMemory.to_string(), "out of memory");
        assert_eq!(Outcome::OutOfMemory.sentence(), "it ran out of memory");
    }

    #[test]
    fn the_shells_code_is_the_programs_or_128_and_the_signal() {
        assert_eq!(Outcome::Exited { code: 3 }.shell_code(), 3);
        assert_eq!(Outcome::Killed { signal: Signal::TERM }.shell_code(), 143);
        assert_eq!(Outcome::OutOfMemory.shell_code(), 137);
        assert!(Outcome::Exited { code: 0 }.success());
    }
}

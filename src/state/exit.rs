//! How a container ended: the exit record, and the last request that may have ended the container.
//!
//! Pure types and their text form. The sandbox writes the record through a descriptor that the caller donated, before
//! it reports the end to any process. Every other process only reads it.

use serde::{Deserialize, Serialize};

/// The longest exit record, in bytes. Its ten numbers and their names need a tenth of that.
pub const MAX_EXIT_RECORD_BYTES: usize = 4 << 10;

/// How a container's init ended and what it used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExitRecord {
    /// The wait status of init.
    pub status: WaitStatus,
    /// What ended it.
    pub cause: Cause,
    /// When the workload was started, in milliseconds since the epoch; `None` if it never was.
    pub started_at_ms: Option<u64>,
    /// When it ended, in milliseconds since the epoch.
    pub finished_at_ms: u64,
    /// CPU time in user mode, in microseconds: `ru_utime` of getrusage(2).
    pub user_us: u64,
    /// CPU time in the kernel, in microseconds: `ru_stime`.
    pub system_us: u64,
    /// The largest resident set, in KiB: `ru_maxrss`.
    pub max_rss_kib: u64,
    /// How many processes of the container the OOM killer killed.
    pub oom_kills: u64,
    /// The peak of the memory cgroup, in bytes; `None` without that controller.
    pub memory_peak: Option<u64>,
}

impl ExitRecord {
    /// A record of `status` and `cause` at `finished_at_ms`, with no resources used.
    #[must_use]
    pub fn new(status: WaitStatus, cause: Cause, finished_at_ms: u64) -> Self {
        Self {
            status,
            cause,
            started_at_ms: None,
            finished_at_ms,
            user_us: 0,
            system_us: 0,
            max_rss_kib: 0,
            oom_kills: 0,
            memory_peak: None,
        }
    }

    /// One line of JSON, to be written in one write(2).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("numbers, unit names and no maps always serialize");
        line.push(b'\n');
        line
    }

    /// Reads a record back; `None` if it was not written, or not completely, or is longer than
    /// [`MAX_EXIT_RECORD_BYTES`]. A complete record ends with a newline.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_EXIT_RECORD_BYTES {
            return None;
        }
        let record = serde_json::from_slice::<Self>(bytes.strip_suffix(b"\n")?).ok()?;
        let plausible = match record.status {
            WaitStatus::Exited(code) => (0..=255).contains(&code),
            WaitStatus::Signalled { signal, .. } => (1..=64).contains(&signal),
            WaitStatus::NotStarted | WaitStatus::Unknown => true,
        };
        plausible.then_some(record)
    }
}

/// The status of init from wait(2).
///
/// Closed on purpose: a process cannot end in any other way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitStatus {
    /// It exited with this code, 0 to 255.
    Exited(i32),
    /// A signal killed it.
    Signalled {
        /// The signal's number, 1 to 64.
        signal: i32,
        /// Whether it left a core dump.
        core_dumped: bool,
    },
    /// Init ended before `start`: the workload never ran.
    NotStarted,
    /// No process was left to wait for it.
    Unknown,
}

/// What ended a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// The workload ended by itself.
    Itself,
    /// A signal that was sent through this API ended it.
    Requested {
        /// The signal asked for; the one that killed it may be SIGKILL in its place.
        signal: i32,
    },
    /// Its time limit passed.
    TimedOut {
        /// The limit, in milliseconds.
        after_ms: u64,
    },
    /// The kernel's OOM killer killed it.
    OutOfMemory,
    /// It was attached to its creator, and the creator ended.
    LifelineCut,
    /// Its gofer died.
    GoferLost,
    /// PID 1 of the container, which is none of its own processes, was killed.
    ReaperLost,
    /// The sandbox around it died.
    SandboxLost,
    /// The root container of its pod ended.
    PodEnded,
    /// It was written to an image, which it was to end with.
    Checkpointed,
}

/// A request through this API that may end a container. The record keeps it, so that the [`Cause`] of the end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndRequest {
    /// A signal by number.
    Signal(i32),
    /// Destroy the container.
    Killed,
    /// The end of its time limit.
    TimedOut {
        /// The limit, in milliseconds.
        after_ms: u64,
    },
}

impl From<EndRequest> for Cause {
    fn from(request: EndRequest) -> Self {
        match request {
            EndRequest::Signal(signal) => Self::Requested { signal },
            EndRequest::Killed => Self::Requested { signal: libc::SIGKILL },
            EndRequest::TimedOut { after_ms } => Self::TimedOut { after_ms },
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::state) fn any_exit_record() -> impl Strategy<Value = ExitRecord> {
        let status = prop_oneof![
            (0..=255).prop_map(WaitStatus::Exited),
            (1..=64, any::<bool>())
                .prop_map(|(signal, core_dumped)| WaitStatus::Signalled { signal, core_dumped }),
            Just(WaitStatus::NotStarted),
            Just(WaitStatus::Unknown),
        ];
        let cause = prop_oneof![
            Just(Cause::Itself),
            any::<i32>().prop_map(|signal| Cause::Requested { signal }),
            Just(Cause::PodEnded),
            Just(Cause::Checkpointed),
            any::<u64>().prop_map(|after_ms| Cause::TimedOut { after_ms }),
            Just(Cause::OutOfMemory),
            Just(Cause::LifelineCut),
            Just(Cause::GoferLost),
            Just(Cause::ReaperLost),
            Just(Cause::SandboxLost),
        ];
        (status, cause, any::<[u64; 5]>(), any::<[Option<u64>; 2]>()).prop_map(
            |(status, cause, used, maybe)| {
                let [finished_at_ms, user_us, system_us, max_rss_kib, oom_kills] = used;
                let [started_at_ms, memory_peak] = maybe;
                ExitRecord {
                    status,
                    cause,
                    started_at_ms,
                    finished_at_ms,
                    user_us,
                    system_us,
                    max_rss_kib,
                    oom_kills,
                    memory_peak,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn an_exit_record_survives_the_disk(record in any_exit_record()) {
            let line = record.encode();
            prop_assert!(line.len() < MAX_EXIT_RECORD_BYTES);
            prop_assert_eq!(ExitRecord::decode(&line), Some(record));
        }

        #[test]
        fn a_partial_exit_record_is_none(record in any_exit_record(), cut in any::<prop::sample::Index>()) {
            let line = record.encode();
            prop_assert_eq!(ExitRecord::decode(&line[..cut.index(line.len())]), None);
        }

        #[test]
        fn arbitrary_bytes_are_no_exit_record(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(ExitRecord::decode(&bytes), None);
        }
    }

    #[test]
    fn impossible_statuses_and_oversized_files_are_no_exit_record() {
        let mut record = ExitRecord::new(WaitStatus::Exited(256), Cause::Itself, 0);
        assert_eq!(ExitRecord::decode(&record.encode()), None);
        record.status = WaitStatus::Signalled { signal: 0, core_dumped: false };
        assert_eq!(ExitRecord::decode(&record.encode()), None);
        let mut padded = vec![b' '; MAX_EXIT_RECORD_BYTES];
        padded.extend(ExitRecord::new(WaitStatus::Exited(0), Cause::Itself, 0).encode());
        assert_eq!(ExitRecord::decode(&padded), None);
    }

    #[test]
    fn destruction_is_a_requested_kill() {
        assert_eq!(Cause::from(EndRequest::Killed), Cause::Requested { signal: libc::SIGKILL });
    }
}

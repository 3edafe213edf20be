//! [`Resource`]: the resources that setrlimit(2) limits.

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

/// A resource of setrlimit(2), with the unit of its limit. `u64::MAX` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// The virtual memory of a process, in bytes (`RLIMIT_AS`).
    AddressSpace,
    /// The size of a core dump, in bytes (`RLIMIT_CORE`).
    Core,
    /// The CPU time of a process, in seconds (`RLIMIT_CPU`).
    Cpu,
    /// The data segment and the heap of a process, in bytes (`RLIMIT_DATA`).
    Data,
    /// The size of a file that a process writes, in bytes (`RLIMIT_FSIZE`).
    FileSize,
    /// Without effect since Linux 2.4.25 (`RLIMIT_LOCKS`).
    Locks,
    /// Memory locked into RAM, in bytes (`RLIMIT_MEMLOCK`).
    LockedMemory,
    /// POSIX message queues of a user, in bytes (`RLIMIT_MSGQUEUE`).
    MessageQueues,
    /// The ceiling of the nice value, as 20 - nice (`RLIMIT_NICE`).
    Nice,
    /// One more than the highest number of a descriptor (`RLIMIT_NOFILE`).
    OpenFiles,
    /// Processes and threads of a user, in its user namespace (`RLIMIT_NPROC`).
    Processes,
    /// Without effect since Linux 2.4.30 (`RLIMIT_RSS`).
    ResidentSet,
    /// The ceiling of the real-time priority (`RLIMIT_RTPRIO`).
    RealTimePriority,
    /// CPU time of a real-time process without a blocking system call, in microseconds (`RLIMIT_RTTIME`).
    RealTimeCpu,
    /// Queued signals of a user (`RLIMIT_SIGPENDING`).
    PendingSignals,
    /// The stack of a process, in bytes (`RLIMIT_STACK`).
    Stack,
}

impl Resource {
    /// As a configuration has it.
    pub(crate) fn limit(self, soft: u64, hard: u64) -> PosixRlimit {
        let typ = PosixRlimitType::from(self);
        let limit = PosixRlimitBuilder::default().typ(typ).soft(soft).hard(hard).build();
        limit.expect("a type and two numbers are all there is")
    }
}

impl From<Resource> for PosixRlimitType {
    fn from(resource: Resource) -> Self {
        match resource {
            Resource::AddressSpace => Self::RlimitAs,
            Resource::Core => Self::RlimitCore,
            Resource::Cpu => Self::RlimitCpu,
            Resource::Data => Self::RlimitData,
            Resource::FileSize => Self::RlimitFsize,
            Resource::Locks => Self::RlimitLocks,
            Resource::LockedMemory => Self::RlimitMemlock,
            Resource::MessageQueues => Self::RlimitMsgqueue,
            Resource::Nice => Self::RlimitNice,
            Resource::OpenFiles => Self::RlimitNofile,
            Resource::Processes => Self::RlimitNproc,
            Resource::ResidentSet => Self::RlimitRss,
            Resource::RealTimePriority => Self::RlimitRtprio,
            Resource::RealTimeCpu => Self::RlimitRttime,
            Resource::PendingSignals => Self::RlimitSigpending,
            Resource::Stack => Self::RlimitStack,
        }
    }
}

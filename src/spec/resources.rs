//! `linux.resources`: limits, as numbers the cgroup drivers can write.

use serde::{Deserialize, Serialize};

/// `linux.resources`, validated. A field that is `None` was not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// `memory`.
    pub memory: MemoryLimits,
    /// `cpu`.
    pub cpu: CpuLimits,
    /// `pids.limit`: the most tasks; `None` where absent or not positive ("unlimited").
    pub pids_limit: Option<u64>,
}

/// `linux.resources.memory`. Bytes; -1 means unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryLimits {
    /// `limit`.
    pub limit: Option<i64>,
    /// `reservation`.
    pub reservation: Option<i64>,
    /// `swap`: memory plus swap together; not below `limit`.
    pub swap: Option<i64>,
}

/// `linux.resources.cpu`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuLimits {
    /// `shares`, 2 to 262144; 0 was read as absent.
    pub shares: Option<u64>,
    /// `quota` in microseconds per period; -1 means unlimited.
    pub quota: Option<i64>,
    /// `period` in microseconds, 1000 to 1000000.
    pub period: Option<u64>,
    /// `cpus`, a cpuset(7) list.
    pub cpus: Option<String>,
    /// `mems`, a cpuset(7) list.
    pub mems: Option<String>,
}

impl Resources {
    /// Whether nothing at all was asked for, so that no cgroup is needed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

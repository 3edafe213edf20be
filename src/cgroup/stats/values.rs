//! The values that users see.

use serde::Serialize;
use std::time::Duration;

/// What a container's own processes use, from their cgroups.
///
/// The sandbox is apart from them. It is counted with them only on v1 for CPU time and transfers, and on v2 for what the
/// container had no limit of when it was created, nor a [`cgroups_path`](crate::ContainerBuilder::cgroups_path).
///
/// A field is `None` where the container is in no cgroup with that controller: on cgroup v1 that is so for most fields
/// without a limit or a [`cgroups_path`](crate::ContainerBuilder::cgroups_path), while v2 always counts CPU time and
/// pressure.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// CPU time.
    pub cpu: Option<CpuStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Tasks.
    pub pids: Option<PidsStats>,
    /// Transfers, one entry for each block device that was used.
    pub io: Option<Vec<IoStats>>,
    /// Time lost while tasks waited for a resource (kernel: accounting/psi); v2 with pressure accounting on.
    pub pressure: Option<Pressure>,
    /// Huge pages, one entry for each size the kernel has.
    pub hugetlb: Option<Vec<HugetlbStats>>,
    /// RDMA devices, one entry for each that is in use or limited.
    pub rdma: Option<Vec<RdmaStats>>,
}

/// CPU time, since the container was created. On v1 two controllers count the times and the throttling (`cpuacct`,
/// `cpu`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CpuStats {
    /// Time used on all CPUs together.
    pub usage: Option<Duration>,
    /// Of that, in user mode; v1 counts it in hundredths of a second.
    pub user: Option<Duration>,
    /// Of that, in the kernel; likewise.
    pub system: Option<Duration>,
    /// Periods of the CPU limit that passed.
    pub periods: Option<u64>,
    /// How many of these reached the limit.
    pub throttled: Option<u64>,
    /// How long the limit kept tasks from running.
    pub throttled_time: Option<Duration>,
    /// Periods that used more than the limit, from unused time of earlier ones; since Linux 5.14.
    pub bursts: Option<u64>,
    /// The CPU time that they used above the limit, on all CPUs together.
    pub burst_time: Option<Duration>,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MemoryStats {
    /// In use, page cache included.
    pub usage: u64,
    /// The most there may be; `None` for no limit.
    pub limit: Option<u64>,
    /// The most there was at once; `None` where the kernel does not say (v2 before Linux 5.19).
    pub peak: Option<u64>,
    /// In swap; `None` without swap accounting.
    pub swap: Option<u64>,
    /// The most there may be in swap (v2), or in memory and swap together (v1); `None` for no limit.
    pub swap_limit: Option<u64>,
    /// Of the usage, memory of processes that is not backed by a file.
    pub anon: Option<u64>,
    /// Of the usage, page cache.
    pub file: Option<u64>,
    /// Processes that the OOM killer has killed.
    pub oom_kills: Option<u64>,
}

/// Tasks: processes and threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PidsStats {
    /// How many there are.
    pub current: u64,
    /// How many there may be; `None` for no limit.
    pub limit: Option<u64>,
    /// How often fork(2) or clone(2) failed because of the limit (`pids.events`).
    pub refused: Option<u64>,
    /// The most there were at once; `None` where the kernel does not say (before Linux 6.1).
    pub peak: Option<u64>,
}

/// Transfers to and from one block device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct IoStats {
    /// Major number of the device.
    pub major: u32,
    /// Minor number of the device.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Read operations.
    pub reads: u64,
    /// Write operations.
    pub writes: u64,
}

/// Pressure stall information.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Pressure {
    /// Waiting for a CPU.
    pub cpu: Option<Stalls>,
    /// Waiting for memory.
    pub memory: Option<Stalls>,
    /// Waiting for block devices.
    pub io: Option<Stalls>,
}

/// How long tasks waited for one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stalls {
    /// At least one task waited.
    pub some: Option<Stall>,
    /// All tasks waited at the same time.
    pub full: Option<Stall>,
}

/// The share of time that was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stall {
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
    /// Since the container was created.
    pub total: Duration,
}

/// Huge pages of one size, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HugetlbStats {
    /// The size as the kernel writes it: `2MB`.
    pub page_size: String,
    /// In use.
    pub usage: u64,
    /// The most there may be; `None` for no limit.
    pub limit: Option<u64>,
    /// The most there was at once, where the kernel says (v1).
    pub peak: Option<u64>,
    /// How often an allocation failed because of the limit.
    pub failures: Option<u64>,
}

/// The use of one RDMA device (kernel: admin-guide/cgroup-v1/rdma).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RdmaStats {
    /// The name of the device.
    pub device: String,
    /// Handles that are open.
    pub hca_handles: u64,
    /// How many there may be; `None` for no limit.
    pub hca_handles_limit: Option<u64>,
    /// Objects that exist.
    pub hca_objects: u64,
    /// How many there may be; `None` for no limit.
    pub hca_objects_limit: Option<u64>,
}

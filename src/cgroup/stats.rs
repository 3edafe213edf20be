//! What a container's cgroups count: the values, and their reading from recorded paths by whoever may read them.
//!
//! What lives here: [`Stats`] and which file says what. How each version writes it down is in `v1` and `v2`, which are
//! pure. What may not: guesses. What the kernel does not count for this container is `None`, never 0.

mod v1;
mod v2;

use super::dir::{CgroupDir, Version};
use crate::error::{Error, Result};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// What a container uses, from its own cgroups: its processes and its sandbox, which is under the same limits.
///
/// A field is `None` where the container is in no cgroup with that controller: without a limit or
/// [`cgroups_path`](crate::ContainerBuilder::cgroups_path) that is the rule on cgroup v1, while v2 always counts CPU time
/// and pressure.
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
    /// Time lost waiting for a resource (kernel: accounting/psi); v2 with pressure accounting on.
    pub pressure: Option<Pressure>,
    /// Huge pages, one entry for each size the kernel has.
    pub hugetlb: Option<Vec<HugetlbStats>>,
    /// RDMA devices, one entry for each that is in use or limited.
    pub rdma: Option<Vec<RdmaStats>>,
}

/// CPU time, since the container was created. On v1 the times and the throttling are two controllers' (`cpuacct`, `cpu`).
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
    /// Of these, in how many the limit was reached.
    pub throttled: Option<u64>,
    /// For how long tasks were kept from running by it.
    pub throttled_time: Option<Duration>,
    /// In how many periods more than the limit was used, from what earlier ones had left; since Linux 5.14.
    pub bursts: Option<u64>,
    /// For how long, on all CPUs together.
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
    /// Of the usage, memory of processes that no file is behind.
    pub anon: Option<u64>,
    /// Of the usage, page cache.
    pub file: Option<u64>,
    /// Processes the OOM killer took.
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

/// How much tasks waited for one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stalls {
    /// At least one task waited.
    pub some: Option<Stall>,
    /// All of them did at once.
    pub full: Option<Stall>,
}

/// A share of time that was lost.
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
    /// How often there was not to be more.
    pub failures: Option<u64>,
}

/// What is used of one RDMA device (kernel: admin-guide/cgroup-v1/rdma).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RdmaStats {
    /// The name of the device.
    pub device: String,
    /// Handles that are open.
    pub hca_handles: u64,
    /// How many there may be; `None` for no limit.
    pub hca_handles_limit: Option<u64>,
    /// Objects there are.
    pub hca_objects: u64,
    /// How many there may be; `None` for no limit.
    pub hca_objects_limit: Option<u64>,
}

/// Reads the counters of the cgroups at these recorded paths. One that is gone counts nothing any more.
///
/// # Errors
/// The system call that failed, other than for what is not there.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Stats> {
    let mut stats = Stats::default();
    for path in paths {
        let dir = match CgroupDir::open(path) {
            Err(error) if is_absent(&error) => continue,
            opened => opened?,
        };
        let files = Files(&dir);
        match dir.version() {
            Version::V1 => v1::add(&mut stats, &files)?,
            Version::V2 => v2::add(&mut stats, &files)?,
        }
        // The few that are written alike.
        if let Some(current) = files.number("pids.current")? {
            let limit = files.text("pids.max")?.as_deref().and_then(limit);
            let refused = files.text("pids.events")?.and_then(|events| keyed(&events, "max"));
            stats.pids = Some(PidsStats { current, limit, peak: files.number("pids.peak")?, refused });
        }
        if let Some(current) = files.text("rdma.current")? {
            stats.rdma = Some(rdma(&current, &files.text("rdma.max")?.unwrap_or_default()));
        }
    }
    Ok(stats)
}

/// Lines of `mlx4_0 hca_handle=2 hca_object=2000`.
fn rdma(current: &str, max: &str) -> Vec<RdmaStats> {
    let value = |line: &str, key: &str| {
        let fields = line.split_ascii_whitespace().filter_map(|field| field.split_once('='));
        fields.into_iter().find(|(name, _)| *name == key).and_then(|(_, value)| limit(value))
    };
    let devices = current.lines().filter_map(|line| Some((line.split_ascii_whitespace().next()?, line)));
    devices
        .map(|(device, current)| {
            let named = |line: &&str| line.split_ascii_whitespace().next() == Some(device);
            let max = max.lines().find(named).unwrap_or_default();
            RdmaStats {
                device: device.to_owned(),
                hca_handles: value(current, "hca_handle").unwrap_or(0),
                hca_handles_limit: value(max, "hca_handle"),
                hca_objects: value(current, "hca_object").unwrap_or(0),
                hca_objects_limit: value(max, "hca_object"),
            }
        })
        .collect()
}

/// The control files of one directory.
struct Files<'a>(&'a CgroupDir);

impl Files<'_> {
    /// The text of `file`; `None` where the kernel has none for this cgroup.
    fn text(&self, file: &str) -> Result<Option<String>> {
        match self.0.read(file) {
            Err(error) if is_absent(&error) => Ok(None),
            text => text.map(Some),
        }
    }

    /// The number in `file`.
    fn number(&self, file: &str) -> Result<Option<u64>> {
        Ok(self.text(file)?.and_then(|text| text.trim().parse().ok()))
    }

    /// The sizes of huge pages that have a file `hugetlb.SIZE.SUFFIX`, sorted.
    fn huge_page_sizes(&self, suffix: &str) -> Result<Vec<String>> {
        let files = self.0.files()?;
        let size = |file: &String| Some(file.strip_prefix("hugetlb.")?.strip_suffix(suffix)?.to_owned());
        // The reservations (`hugetlb.2MB.rsvd.current`) are no size of their own.
        let mut sizes: Vec<String> =
            files.iter().filter_map(size).filter(|size| !size.contains('.')).collect();
        sizes.sort();
        Ok(sizes)
    }
}

/// Not there: the file, the whole cgroup, or the accounting behind it (`EOPNOTSUPP` with `psi=0`).
fn is_absent(error: &Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP))
}

/// The value of `key` in lines of `key value`.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?.trim().parse().ok()
}

/// A limit: `max`, like whatever is no number, is none.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rdma_is_told_by_device() {
        let current = "mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=0 hca_object=0\n";
        let max = "mlx4_0 hca_handle=3 hca_object=max\nocrdma1 hca_handle=max hca_object=7\n";
        let stats = |device: &str, handles, handles_limit, objects, objects_limit| RdmaStats {
            device: device.into(),
            hca_handles: handles,
            hca_handles_limit: handles_limit,
            hca_objects: objects,
            hca_objects_limit: objects_limit,
        };
        assert_eq!(
            rdma(current, max),
            [stats("mlx4_0", 2, Some(3), 2000, None), stats("ocrdma1", 0, None, 0, Some(7))]
        );
        assert_eq!(rdma("", ""), []);
    }
}

//! What a container's cgroups count, read from the recorded paths.
//!
//! [`values`] has the types, [`v1`] and [`v2`] read the files of each version. A value that the kernel does not count
//! for this container is `None`, never 0.

mod v1;
mod v2;
mod values;

pub use values::{
    CpuStats, HugetlbStats, IoStats, MemoryStats, PidsStats, Pressure, RdmaStats, Stall, Stalls, Stats,
};

use super::dir::{CgroupDir, CgroupVersion, is_absent, keyed, limit};
use crate::error::Result;
use std::path::PathBuf;

/// Reads the counters of the cgroups at these recorded paths. Skips those that are gone.
///
/// # Errors
/// The system call that failed. A missing file or cgroup is not an error.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Stats> {
    let mut stats = Stats::default();
    for path in paths {
        let dir = match CgroupDir::open(path) {
            Err(error) if is_absent(&error) => continue,
            opened => opened?,
        };
        let container = match dir.container() {
            Err(error) if is_absent(&error) => None,
            opened => opened?,
        };
        let before = stats.cpu;
        // The leaf counts the sandbox, too. It counts for controllers that are enabled for the leaf only.
        if container.as_ref().is_none_or(|container| counts_more(&dir, container)) {
            add(&mut stats, &dir)?;
        }
        if let Some(container) = container {
            let of_leaf = std::mem::replace(&mut stats.cpu, before);
            add(&mut stats, &container)?;
            if let Some(of_leaf) = of_leaf {
                stats.cpu = Some(v2::completed(stats.cpu.unwrap_or_default(), of_leaf));
            }
        }
    }
    Ok(stats)
}

/// Whether `leaf` has a controller that the directory below it does not have (v2).
fn counts_more(leaf: &CgroupDir, container: &CgroupDir) -> bool {
    let controllers = |dir: &CgroupDir| dir.read("cgroup.controllers").unwrap_or_default();
    leaf.version() == CgroupVersion::V2 && controllers(leaf) != controllers(container)
}

/// Adds the counters of this directory, in place of those of the same controllers that are there.
fn add(stats: &mut Stats, dir: &CgroupDir) -> Result<()> {
    match dir.version() {
        CgroupVersion::V1 => v1::add(stats, dir)?,
        CgroupVersion::V2 => v2::add(stats, dir)?,
    }
    // These files have the same format in both versions.
    if let Some(current) = dir.number("pids.current")? {
        let limit = dir.statistic("pids.max")?.as_deref().and_then(limit);
        let refused = dir.statistic("pids.events")?.and_then(|events| keyed(&events, "max"));
        stats.pids = Some(PidsStats { current, limit, peak: dir.number("pids.peak")?, refused });
    }
    if let Some(current) = dir.statistic("rdma.current")? {
        stats.rdma = Some(rdma(&current, &dir.statistic("rdma.max")?.unwrap_or_default()));
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rdma_is_counted_by_device() {
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

//! The methods of [`ContainerBuilder`] about limits and the cgroups that hold them: `linux.resources` and
//! `linux.cgroupsPath`.

use super::default_spec::build;
use super::description::ContainerBuilder;
use crate::spec::DeviceNumber;
use oci_spec::runtime::{
    LinuxHugepageLimitBuilder, LinuxPidsBuilder, LinuxResources, LinuxThrottleDevice,
    LinuxThrottleDeviceBuilder,
};
use std::path::PathBuf;
use std::time::Duration;

/// Microseconds in the period that CPU limits are given for: the kernel's default.
const CPU_PERIOD: u64 = 100_000;

/// How much a block device may be used in a second; what is `None` is not limited by this. Closed on purpose: there are
/// no others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoLimit {
    /// Bytes read.
    pub read_bytes: Option<u64>,
    /// Bytes written.
    pub write_bytes: Option<u64>,
    /// Read operations.
    pub reads: Option<u64>,
    /// Write operations.
    pub writes: Option<u64>,
}

impl ContainerBuilder {
    /// The most memory the container may use, bytes; what it may swap out besides, a bundle's `memory.swap` says, which
    /// stays as it is and must not be below. Needs a memory cgroup.
    pub fn memory_limit(mut self, bytes: i64) -> Self {
        self.resources(|resources| {
            let mut memory = (*resources.memory()).unwrap_or_default();
            memory.set_limit(Some(bytes));
            resources.set_memory(Some(memory));
        });
        self
    }

    /// The most tasks (processes and threads) the container may have. Needs a pids cgroup.
    pub fn pids_limit(mut self, tasks: i64) -> Self {
        let pids = build(|| LinuxPidsBuilder::default().limit(tasks).build());
        self.resources(|resources| {
            resources.set_pids(Some(pids));
        });
        self
    }

    /// How many CPUs' worth of time the container may use; 0.5 is half of one. Needs a cpu cgroup.
    pub fn cpu_limit(mut self, cpus: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "out of range saturates, and validation refuses it"
        )]
        let quota = match (cpus * CPU_PERIOD as f64) as i64 {
            // What says "no limit" in a configuration was not meant by whoever asks for one: too little to be obeyed.
            -1 | 0 => 1,
            quota => quota,
        };
        self.resources(|resources| {
            let mut cpu = resources.cpu().clone().unwrap_or_default();
            cpu.set_quota(Some(quota)).set_period(Some(CPU_PERIOD));
            resources.set_cpu(Some(cpu));
        });
        self
    }

    /// How much of the time that earlier periods left unused the container may use in one, on top of its
    /// [limit](Self::cpu_limit) and at most as much again. Needs a cpu cgroup, and Linux 5.14.
    pub fn cpu_burst(mut self, burst: Duration) -> Self {
        let micros = u64::try_from(burst.as_micros()).unwrap_or(u64::MAX);
        self.resources(|resources| {
            let mut cpu = resources.cpu().clone().unwrap_or_default();
            cpu.set_burst(Some(micros));
            resources.set_cpu(Some(cpu));
        });
        self
    }

    /// How much a block device may be used in a second, by its number. What was said of the same device before is
    /// replaced as far as this says something. Needs a blkio (v1) or io (v2) cgroup.
    pub fn io_limit(mut self, device: DeviceNumber, limit: IoLimit) -> Self {
        self.resources(|resources| {
            let mut block = resources.block_io().clone().unwrap_or_default();
            let with = |throttles: &Option<Vec<LinuxThrottleDevice>>, rate: Option<u64>| {
                let mut throttles = throttles.clone().unwrap_or_default();
                if let Some(rate) = rate {
                    let number = (i64::from(device.major), i64::from(device.minor));
                    throttles.retain(|other| (other.major(), other.minor()) != number);
                    throttles.push(throttle(number, rate));
                }
                Some(throttles).filter(|throttles| !throttles.is_empty())
            };
            let read_bps = with(block.throttle_read_bps_device(), limit.read_bytes);
            let write_bps = with(block.throttle_write_bps_device(), limit.write_bytes);
            let read_iops = with(block.throttle_read_iops_device(), limit.reads);
            let write_iops = with(block.throttle_write_iops_device(), limit.writes);
            block.set_throttle_read_bps_device(read_bps).set_throttle_write_bps_device(write_bps);
            block.set_throttle_read_iops_device(read_iops).set_throttle_write_iops_device(write_iops);
            resources.set_block_io(Some(block));
        });
        self
    }

    /// The most memory in huge pages of one size, bytes; the size as the kernel writes it, `2MB`. Needs a hugetlb
    /// cgroup.
    pub fn hugepage_limit(mut self, page_size: impl Into<String>, bytes: u64) -> Self {
        let page_size = page_size.into();
        self.resources(|resources| {
            let mut limits = resources.hugepage_limits().clone().unwrap_or_default();
            limits.retain(|other| *other.page_size() != page_size);
            // More than the signed number holds is more than there can be.
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            limits.push(build(|| {
                LinuxHugepageLimitBuilder::default().page_size(page_size).limit(bytes).build()
            }));
            resources.set_hugepage_limits(Some(limits));
        });
        self
    }

    /// Writes `value` into this file of the container's cgroup v2, as it is and after all other limits:
    /// `linux.resources.unified`. Its controller is enabled.
    pub fn unified(mut self, file: impl Into<String>, value: impl Into<String>) -> Self {
        self.resources(|resources| {
            let mut unified = resources.unified().clone().unwrap_or_default();
            unified.insert(file.into(), value.into());
            resources.set_unified(Some(unified));
        });
        self
    }

    /// Where the container's cgroup is (`linux.cgroupsPath`): absolute, from the top of each hierarchy; relative, beside
    /// the caller's; or `slice:prefix:name`, a scope that systemd is asked for (root's: the host's; any other user's: the
    /// user's own), which takes the feature `systemd` and cgroup v2.
    pub fn cgroups_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.linux().set_cgroups_path(Some(path.into()));
        self
    }

    /// Makes no cgroup unless a limit or a path asks for one. By default every container gets one of its own where the
    /// caller may make it, with its processes and nothing else in it, so that the kernel can freeze them all at once. It
    /// costs a tenth of a millisecond. Without it, pausing stops the container's processes one after the other by a
    /// signal (SIGSTOP), which a parent inside can see and which a process that is just being made may escape for a
    /// moment.
    pub fn without_cgroup(mut self) -> Self {
        self.extras.without_cgroup = true;
        self
    }

    /// Does without the limits whose controller this host lacks or this caller may not use, instead of refusing them:
    /// for a user without a delegated cgroup, who would rather run without than not at all. All limits of such a
    /// controller are left out together; [`Container::unapplied_limits`] has their fields, and a `tracing` warning the
    /// reason. A value that makes no sense stays an error, and so does a control file that the kernel lacks or refuses
    /// when the container is made. A bundle does not carry it.
    pub fn best_effort_limits(mut self) -> Self {
        self.extras.best_effort_limits = true;
        self
    }

    fn resources(&mut self, change: impl FnOnce(&mut LinuxResources)) {
        let linux = self.linux();
        let mut resources = linux.resources().clone().unwrap_or_default();
        change(&mut resources);
        linux.set_resources(Some(resources));
    }
}

fn throttle((major, minor): (i64, i64), rate: u64) -> LinuxThrottleDevice {
    build(|| LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(rate).build())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test writes a bundle of its own")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_limit_changes_nothing_else_that_a_bundle_says() {
        let limits = json!({
            "memory": {"limit": 1 << 20, "swap": 64 << 20, "reservation": 1 << 19, "swappiness": 7,
                       "disableOOMKiller": true},
            "pids": {"limit": 10},
            "cpu": {"quota": 1000, "period": 2000, "burst": 300, "shares": 512, "cpus": "0"},
            "blockIO": {"weight": 500, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1},
                                                                 {"major": 8, "minor": 16, "rate": 2}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}, {"pageSize": "1GB", "limit": 2}],
            "unified": {"memory.high": "1", "memory.low": "2"},
        });
        let bundle = tempfile::tempdir().unwrap();
        let config = json!({
            "ociVersion": "1.2.0",
            "root": {"path": "/x"},
            "process": {"args": ["x"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
            "linux": {"namespaces": [{"type": "mount"}], "resources": limits},
        });
        std::fs::write(bundle.path().join("config.json"), config.to_string()).unwrap();
        let builder = ContainerBuilder::from_bundle("limits", bundle.path()).unwrap();
        let disk = DeviceNumber { major: 8, minor: 0 };
        let builder = builder
            .memory_limit(32 << 20)
            .pids_limit(20)
            .cpu_limit(0.5)
            .cpu_burst(Duration::from_micros(400))
            .io_limit(disk, IoLimit { read_bytes: Some(9), ..IoLimit::default() })
            .hugepage_limit("2MB", 8)
            .unified("memory.high", "7");

        let linux = builder.spec().linux().as_ref().unwrap();
        let seen = serde_json::to_value(linux.resources().as_ref().unwrap()).unwrap();
        let mut wanted = limits;
        wanted["memory"]["limit"] = json!(32 << 20);
        wanted["pids"]["limit"] = json!(20);
        (wanted["cpu"]["quota"], wanted["cpu"]["period"]) = (json!(50_000), json!(100_000));
        wanted["cpu"]["burst"] = json!(400);
        wanted["blockIO"]["throttleReadBpsDevice"] =
            json!([{"major": 8, "minor": 16, "rate": 2}, {"major": 8, "minor": 0, "rate": 9}]);
        wanted["hugepageLimits"] = json!([{"pageSize": "1GB", "limit": 2}, {"pageSize": "2MB", "limit": 8}]);
        wanted["unified"]["memory.high"] = json!("7");
        for (name, limit) in wanted.as_object().unwrap() {
            assert_eq!(&seen[name], limit, "{name}");
        }
    }
}

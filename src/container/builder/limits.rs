//! The methods of [`ContainerBuilder`] about limits and the cgroups that hold them: `linux.resources` and
//! `linux.cgroupsPath`.

use super::default_spec::build;
use super::description::{ContainerBuilder, NO_LIMIT};
use crate::spec::DeviceNumber;
use oci_spec::runtime::{
    LinuxHugepageLimitBuilder, LinuxPidsBuilder, LinuxResources, LinuxThrottleDevice,
    LinuxThrottleDeviceBuilder,
};
use std::path::Path;
use std::time::Duration;

/// Microseconds in the period that CPU limits are given for: the kernel's default.
const CPU_PERIOD: u64 = 100_000;

/// The range of a limit in CPUs: the kernel's shortest quota is 1 ms, and no host has a million CPUs.
const MIN_CPUS: f64 = 0.01;
const MAX_CPUS: f64 = 1e6;

/// The most a container may use a block device, per second. `None` sets no limit.
///
/// Closed on purpose, so that callers can write it as a literal: the kernel has these four limits.
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
    /// The most memory the container's own processes may use, in bytes, with the files in its tmpfs mounts and the page
    /// cache of what they read. If they need more, the kernel kills one of them, but not the sandbox, which is outside of
    /// the limit. 0 is refused. Needs a memory cgroup. A bundle's `memory.swap` limits memory and swap together, stays as it
    /// is, and must not be below `bytes`.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.refuse_zero("memory_limit", Some(bytes));
        let bytes = signed(bytes);
        self.resources(|resources| {
            let mut memory = (*resources.memory()).unwrap_or_default();
            memory.set_limit(Some(bytes));
            resources.set_memory(Some(memory));
        });
        self
    }

    /// The most tasks (processes and threads) the container may have: with 1, its program runs and can make no other.
    /// Helpers are not counted. 0 is refused. At the limit fork(2) fails inside with `EAGAIN`.
    ///
    /// [`exec`](crate::Container::exec) works at the limit too, as with other runtimes: the kernel limits forks, and the
    /// executed process is forked outside and moves in. There it counts, so that it cannot fork. Needs a pids cgroup.
    pub fn pids_limit(mut self, tasks: u64) -> Self {
        self.refuse_zero("pids_limit", Some(tasks));
        let pids = build(|| LinuxPidsBuilder::default().limit(signed(tasks)).build());
        self.resources(|resources| {
            resources.set_pids(Some(pids));
        });
        self
    }

    /// The most CPU time the container may use, in CPUs: 0.5 is half the time of one, and 0.01 is the least that the
    /// kernel can give. Needs a cpu cgroup.
    pub fn cpu_limit(mut self, cpus: f64) -> Self {
        match cpu_quota(cpus) {
            Ok((quota, period)) => self.resources(|resources| {
                let mut cpu = resources.cpu().clone().unwrap_or_default();
                cpu.set_quota(Some(quota)).set_period(Some(period));
                resources.set_cpu(Some(cpu));
            }),
            Err(problem) => self.refuse("cpu_limit", problem, NO_LIMIT),
        }
        self
    }

    /// The most CPU time that the container may save up in periods in which it stays below its
    /// [limit](Self::cpu_limit), and use later on top of it. At most as much as the limit allows in one period, which
    /// is 100 ms. Needs a cpu cgroup, and Linux 5.14.
    pub fn cpu_burst(mut self, burst: Duration) -> Self {
        let micros = u64::try_from(burst.as_micros()).unwrap_or(u64::MAX);
        self.resources(|resources| {
            let mut cpu = resources.cpu().clone().unwrap_or_default();
            cpu.set_burst(Some(micros));
            resources.set_cpu(Some(cpu));
        });
        self
    }

    /// Limits the use of the block device `device`. A limit that is `None` leaves an earlier one for the same device
    /// as it is; one that is 0 is refused. Needs a blkio (v1) or io (v2) cgroup.
    pub fn io_limit(mut self, device: DeviceNumber, limit: IoLimit) -> Self {
        for rate in [limit.read_bytes, limit.write_bytes, limit.reads, limit.writes] {
            self.refuse_zero("io_limit", rate);
        }
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

    /// The most memory in huge pages of one size, in bytes; 0 allows none. The kernel's name of the size is like `2MB`.
    /// Needs a hugetlb cgroup.
    pub fn hugepage_limit(mut self, page_size: impl Into<String>, bytes: u64) -> Self {
        let page_size = page_size.into();
        self.resources(|resources| {
            let mut limits = resources.hugepage_limits().clone().unwrap_or_default();
            limits.retain(|other| *other.page_size() != page_size);
            limits.push(build(|| {
                LinuxHugepageLimitBuilder::default().page_size(page_size).limit(signed(bytes)).build()
            }));
            resources.set_hugepage_limits(Some(limits));
        });
        self
    }

    /// Writes `value` to the file `file` of the container's cgroup v2, unchanged and after all other limits
    /// (`linux.resources.unified`), and enables the controller that the file belongs to.
    pub fn unified(mut self, file: impl Into<String>, value: impl Into<String>) -> Self {
        self.resources(|resources| {
            let mut unified = resources.unified().clone().unwrap_or_default();
            unified.insert(file.into(), value.into());
            resources.set_unified(Some(unified));
        });
        self
    }

    /// The path of the container's cgroup (`linux.cgroupsPath`). An absolute path starts at the root of each
    /// hierarchy, a relative one in the caller's cgroup. `slice:prefix:name` asks systemd for a scope (root asks the
    /// host's service manager, another user the user's own), which needs the feature `systemd` and cgroup v2.
    pub fn cgroups_path(mut self, path: impl AsRef<Path>) -> Self {
        let path = self.path("cgroups_path", path.as_ref());
        self.linux().set_cgroups_path(Some(path));
        self
    }

    /// Makes no cgroup unless a limit or a path needs one. By default every container gets a cgroup for its processes
    /// alone, where the caller may make one, so that the kernel can freeze them all at once; it costs a tenth of a
    /// millisecond. Without it, pausing sends SIGSTOP to one process after the other. A parent inside can see that,
    /// and a process that is being forked may go on for a moment.
    pub fn without_cgroup(mut self) -> Self {
        self.extras.without_cgroup = true;
        self
    }

    /// Makes cgroups without limits, so that [`stats`](crate::Container::stats), the peak of memory in
    /// [`Exit`](crate::Exit) and OOM kills are there: by default a container without limits has only a cgroup to freeze,
    /// in which cgroup v1 counts nothing, and v2 what the cgroup above it has enabled.
    ///
    /// Where the caller may not make such a cgroup, this changes nothing. On v1 it costs about a tenth of a millisecond
    /// for each controller; on v2 it enables the controllers of memory, pids, cpu and io for the children of the
    /// cgroup that the container goes below, as a limit does. A bundle of [`to_bundle`](Self::to_bundle) does not have it.
    pub fn accounting(mut self) -> Self {
        self.extras.accounting = true;
        self
    }

    /// Leaves out the limits whose controller this host lacks or this caller may not use, instead of refusing them. It
    /// is for users without a delegated cgroup, who prefer a container without limits to none. All limits of such a
    /// controller are left out together; [`Info::unapplied_limits`](crate::info::Info::unapplied_limits) lists their
    /// fields, and a `tracing` warning gives the reason. A value that makes no sense is still an error, and so is a
    /// control file that the kernel lacks or refuses when the container is made. [`to_bundle`](Self::to_bundle) does
    /// not write this choice.
    ///
    /// A container without a memory limit can use all of the host's memory. What holds for every user is
    /// [`timeout`](Self::timeout), [`cpu_time`](Self::cpu_time) and [`rlimit`](Self::rlimit), for example of
    /// [`AddressSpace`](crate::builder::Resource::AddressSpace) and [`Processes`](crate::builder::Resource::Processes).
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

/// A limit in CPUs as the kernel takes it: the quota in a period, both in microseconds. An error says what is wrong.
pub(in crate::container) fn cpu_quota(cpus: f64) -> Result<(i64, u64), String> {
    if !(MIN_CPUS..=MAX_CPUS).contains(&cpus) {
        return Err(format!("{cpus} is not between {MIN_CPUS} and {MAX_CPUS}"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked above")]
    let quota = (cpus * CPU_PERIOD as f64) as i64;
    Ok((quota, CPU_PERIOD))
}

/// As a configuration has it. More than the signed number holds is more than any host has.
pub(in crate::container) fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
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
        let builder = ContainerBuilder::from_bundle(bundle.path()).unwrap().id("limits");
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

//! `linux.resources`: limits, as numbers the cgroup drivers can write.

use super::device_rules::{DeviceRule, device_rules};
use super::field::{Field, shorten};
use crate::error::Result;
use oci_spec::runtime;
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
    /// `devices`: which device numbers may be used, in the order given; later rules win.
    pub devices: Vec<DeviceRule>,
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
    /// Whether no limit was asked for, so that no cgroup is needed.
    ///
    /// Device rules do not count: they name no amount of anything, and which of them need a cgroup is up to the plan.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { memory, cpu, pids_limit, devices: _ } = self;
        *memory == MemoryLimits::default() && *cpu == CpuLimits::default() && pids_limit.is_none()
    }

    /// Checks `linux.resources`.
    pub(super) fn new(linux: &Field<'_>, resources: Option<&runtime::LinuxResources>) -> Result<Self> {
        let Some(resources) = resources else {
            return Ok(Self::default());
        };
        let field = linux.key("resources");
        refuse_unsupported(&field, resources)?;
        Ok(Self {
            memory: MemoryLimits::new(&field.key("memory"), resources.memory().as_ref())?,
            cpu: CpuLimits::new(&field.key("cpu"), resources.cpu().as_ref())?,
            pids_limit: pids_limit(&field.key("pids"), resources.pids().as_ref())?,
            devices: device_rules(&field.key("devices"), resources.devices().as_deref().unwrap_or_default())?,
        })
    }
}

/// Refuses what is asked for and not implemented. A zero is not asked for: engines fill in every field they know.
fn refuse_unsupported(field: &Field<'_>, resources: &runtime::LinuxResources) -> Result<()> {
    let full = |length: Option<usize>| length.is_some_and(|length| length > 0);
    if let Some(block) = resources.block_io() {
        let field = field.key("blockIO");
        field.key("weight").refuse_if(block.weight().is_some_and(|weight| weight != 0))?;
        field.key("leafWeight").refuse_if(block.leaf_weight().is_some_and(|weight| weight != 0))?;
        field.key("weightDevice").refuse_if(full(block.weight_device().as_ref().map(Vec::len)))?;
        for (name, throttles) in [
            ("throttleReadBpsDevice", block.throttle_read_bps_device()),
            ("throttleWriteBpsDevice", block.throttle_write_bps_device()),
            ("throttleReadIOPSDevice", block.throttle_read_iops_device()),
            ("throttleWriteIOPSDevice", block.throttle_write_iops_device()),
        ] {
            field.key(name).refuse_if(full(throttles.as_ref().map(Vec::len)))?;
        }
    }
    if let Some(network) = resources.network() {
        let field = field.key("network");
        field.key("classID").refuse_if(network.class_id().is_some_and(|class| class != 0))?;
        field.key("priorities").refuse_if(full(network.priorities().as_ref().map(Vec::len)))?;
    }
    field.key("hugepageLimits").refuse_if(full(resources.hugepage_limits().as_ref().map(Vec::len)))?;
    field.key("rdma").refuse_if(full(resources.rdma().as_ref().map(|rdma| rdma.len())))?;
    field.key("unified").refuse_if(full(resources.unified().as_ref().map(|unified| unified.len())))
}

/// One page: no process can start in less, and the kernel rounds down to pages.
const MIN_MEMORY: i64 = 4096;

impl MemoryLimits {
    fn new(field: &Field<'_>, memory: Option<&runtime::LinuxMemory>) -> Result<Self> {
        // `kernel` and `kernelTCP` are "NOT RECOMMENDED" (OCI config-linux.md) and `useHierarchy` has been always on since
        // Linux 5.11: ignored. A new cgroup uses no memory, so `checkBeforeUpdate` has nothing to find.
        let Some(memory) = memory else {
            return Ok(Self::default());
        };
        field.key("swappiness").refuse_if(memory.swappiness().is_some())?;
        field.key("disableOOMKiller").refuse_if(memory.disable_oom_killer() == Some(true))?;
        let amount = |name: &str, bytes: Option<i64>| match bytes {
            None | Some(0) => Ok(None),
            Some(bytes @ (-1 | MIN_MEMORY..)) => Ok(Some(bytes)),
            Some(bytes) if bytes < 0 => Err(field.key(name).error(format_args!("{bytes} is below -1"))),
            Some(bytes) => {
                let error = field.key(name).error(format_args!("{bytes} is below {MIN_MEMORY}"));
                Err(error.hint("the unit is bytes"))
            }
        };
        let limit = amount("limit", memory.limit())?;
        let swap = amount("swap", memory.swap())?;
        match (limit, swap) {
            (None, Some(1..)) => {
                return Err(field.key("swap").error("needs a memory limit").hint("set memory.limit, too"));
            }
            (Some(limit), Some(swap @ 1..)) if limit == -1 || swap < limit => {
                let error = field.key("swap").error(format_args!("{swap} is below limit, {limit}"));
                return Err(error.hint("swap counts memory and swap together"));
            }
            _ => {}
        }
        Ok(Self { limit, reservation: amount("reservation", memory.reservation())?, swap })
    }
}

/// The most microseconds per period the kernel can count (`MAX_BW` in kernel/sched/sched.h).
const MAX_CPU_QUOTA: i64 = (1 << 44) - 1;

impl CpuLimits {
    fn new(field: &Field<'_>, cpu: Option<&runtime::LinuxCpu>) -> Result<Self> {
        let Some(cpu) = cpu else {
            return Ok(Self::default());
        };
        field.key("idle").refuse_if(cpu.idle().is_some_and(|idle| idle != 0))?;
        field.key("burst").refuse_if(cpu.burst().is_some_and(|burst| burst != 0))?;
        field.key("realtimeRuntime").refuse_if(cpu.realtime_runtime().is_some_and(|runtime| runtime != 0))?;
        field.key("realtimePeriod").refuse_if(cpu.realtime_period().is_some_and(|period| period != 0))?;
        let within = |name: &str, value: Option<u64>, min: u64, max: u64| match value {
            None | Some(0) => Ok(None),
            Some(value) if (min..=max).contains(&value) => Ok(Some(value)),
            Some(value) => Err(field.key(name).error(format_args!("{value} is not between {min} and {max}"))),
        };
        let quota = match cpu.quota() {
            None | Some(0) => None,
            Some(quota @ (-1 | 1000..=MAX_CPU_QUOTA)) => Some(quota),
            Some(quota @ 1000..) => {
                return Err(field.key("quota").error(format_args!("{quota} is above {MAX_CPU_QUOTA}")));
            }
            Some(quota) => {
                let error = field.key("quota").error(format_args!("{quota} is below 1000"));
                return Err(error.hint("the unit is microseconds per period; -1 is unlimited"));
            }
        };
        Ok(Self {
            // The ranges are the kernel's: MIN_SHARES and MAX_SHARES, max_cfs_quota_period and min_cfs_quota_period.
            shares: within("shares", cpu.shares(), 2, 262_144)?,
            quota,
            period: within("period", cpu.period(), 1000, 1_000_000)?,
            cpus: cpuset(&field.key("cpus"), cpu.cpus().as_deref())?,
            mems: cpuset(&field.key("mems"), cpu.mems().as_deref())?,
        })
    }
}

/// The list format of cpuset(7): `0-3,7`. An empty list is absent.
fn cpuset(field: &Field<'_>, list: Option<&str>) -> Result<Option<String>> {
    let Some(list) = list.filter(|list| !list.is_empty()) else {
        return Ok(None);
    };
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u32>().ok(),
        false => None,
    };
    let good = |range: &str| match range.split_once('-') {
        None => number(range).is_some(),
        Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
    };
    if list.split(',').all(good) {
        return Ok(Some(list.to_owned()));
    }
    Err(field.error(format_args!("{:?} is not a list", shorten(list))).hint("write it as in 0-3,7"))
}

/// The most tasks a 64-bit kernel can have, and the highest limit it takes (`PID_MAX_LIMIT`).
const MAX_PIDS: u64 = 1 << 22;

fn pids_limit(field: &Field<'_>, pids: Option<&runtime::LinuxPids>) -> Result<Option<u64>> {
    match pids.map(runtime::LinuxPids::limit) {
        None | Some(-1 | 0) => Ok(None),
        Some(limit) => match u64::try_from(limit) {
            Ok(limit) if limit <= MAX_PIDS => Ok(Some(limit)),
            Ok(limit) => {
                let error = field.key("limit").error(format_args!("{limit} is above {MAX_PIDS}"));
                Err(error.hint("-1 is unlimited"))
            }
            Err(_) => {
                let error = field.key("limit").error(format_args!("{limit} is below -1"));
                Err(error.hint("-1 is unlimited"))
            }
        },
    }
}

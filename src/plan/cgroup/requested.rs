//! Which controllers the limits of a configuration need, by field, whatever version of the interface the host has.
//! Pure.

use crate::error::{Error, Result};
use crate::spec::{BlockIo, CpuLimits, MemoryLimits, Resources, UnifiedValue};
use std::borrow::Cow;

/// The field that names a container's cgroup.
pub(crate) const CGROUPS_PATH: &str = "linux.cgroupsPath";

/// Fields that cgroup v2 has no file for.
pub(super) const SWAPPINESS: &str = "linux.resources.memory.swappiness";
pub(super) const DISABLE_OOM_KILLER: &str = "linux.resources.memory.disableOOMKiller";
pub(super) const REALTIME_RUNTIME: &str = "linux.resources.cpu.realtimeRuntime";
pub(super) const REALTIME_PERIOD: &str = "linux.resources.cpu.realtimePeriod";
pub(super) const LEAF_WEIGHT: &str = "linux.resources.blockIO.leafWeight";
pub(super) const CLASS_ID: &str = "linux.resources.network.classID";
pub(super) const PRIORITIES: &str = "linux.resources.network.priorities";

/// A controller that limits need, with the first field that needs it.
pub(super) struct RequestedLimits {
    /// As v2 calls it.
    pub(super) controller: Cow<'static, str>,
    pub(super) field: Cow<'static, str>,
}

impl RequestedLimits {
    pub(super) fn unavailable(&self, why: &str) -> Error {
        let message = format!("the {} controller is not available: {why}", self.controller);
        Error::unsupported(self.field.clone(), message)
    }
}

/// A field that only the other version of the interface has a file for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtherVersion(pub(super) Cow<'static, str>);

/// A version of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

impl OtherVersion {
    /// The error on a host that has the controller in `version` only.
    pub(crate) fn on(&self, version: Version) -> Error {
        let why = match version {
            Version::V1 => "cgroup v1 has no file for it, and no cgroup v2 hierarchy here has its controller",
            Version::V2 => "cgroup v2 has no file for it, and no cgroup v1 hierarchy here has its controller",
        };
        Error::unsupported(self.0.clone(), why)
    }
}

/// The controller and the name of every field of `resources` that is set. A memory value of 0 counts as absent, as in
/// every OCI runtime.
pub(super) fn fields(resources: &Resources) -> impl Iterator<Item = (&'static str, &'static str)> {
    let Resources { memory, cpu, block_io, network, .. } = resources;
    let nonzero = |value: Option<i64>| value.is_some_and(|value| value != 0);
    let fields = [
        ("memory", "linux.resources.memory.limit", nonzero(memory.limit)),
        ("memory", "linux.resources.memory.reservation", nonzero(memory.reservation)),
        ("memory", "linux.resources.memory.swap", nonzero(memory.swap)),
        ("memory", SWAPPINESS, memory.swappiness.is_some()),
        ("memory", DISABLE_OOM_KILLER, memory.disable_oom_killer),
        ("cpu", "linux.resources.cpu.shares", cpu.shares.is_some()),
        ("cpu", "linux.resources.cpu.quota", cpu.quota.is_some()),
        ("cpu", "linux.resources.cpu.period", cpu.period.is_some()),
        ("cpu", "linux.resources.cpu.burst", cpu.burst.is_some()),
        ("cpu", REALTIME_RUNTIME, cpu.realtime_runtime.is_some()),
        ("cpu", REALTIME_PERIOD, cpu.realtime_period.is_some()),
        ("cpu", "linux.resources.cpu.idle", cpu.idle),
        ("cpuset", "linux.resources.cpu.cpus", cpu.cpus.is_some()),
        ("cpuset", "linux.resources.cpu.mems", cpu.mems.is_some()),
        ("pids", "linux.resources.pids.limit", resources.pids_limit.is_some()),
        ("io", "linux.resources.blockIO.weight", block_io.weight.is_some()),
        ("io", LEAF_WEIGHT, block_io.leaf_weight.is_some()),
        ("io", "linux.resources.blockIO.weightDevice", !block_io.weight_devices.is_empty()),
        ("io", "linux.resources.blockIO.throttleReadBpsDevice", !block_io.read_bps.is_empty()),
        ("io", "linux.resources.blockIO.throttleWriteBpsDevice", !block_io.write_bps.is_empty()),
        ("io", "linux.resources.blockIO.throttleReadIOPSDevice", !block_io.read_iops.is_empty()),
        ("io", "linux.resources.blockIO.throttleWriteIOPSDevice", !block_io.write_iops.is_empty()),
        ("hugetlb", "linux.resources.hugepageLimits", !resources.hugepages.is_empty()),
        ("net_cls", CLASS_ID, network.class_id.is_some()),
        ("net_prio", PRIORITIES, !network.priorities.is_empty()),
        ("rdma", "linux.resources.rdma", !resources.rdma.is_empty()),
    ];
    fields.into_iter().filter(|(_, _, present)| *present).map(|(controller, field, _)| (controller, field))
}

/// The controllers that the fields of `resources` need. `unified` is not among them: see [`requested_unified`].
pub(super) fn requested(resources: &Resources) -> Vec<RequestedLimits> {
    let mut requested: Vec<RequestedLimits> = Vec::new();
    for (controller, field) in fields(resources) {
        if requested.last().is_none_or(|last| last.controller != controller) {
            requested.push(RequestedLimits { controller: controller.into(), field: field.into() });
        }
    }
    requested
}

/// The controllers that `linux.resources.unified` needs, which only a v2 hierarchy can give.
pub(super) fn requested_unified(resources: &Resources) -> Vec<RequestedLimits> {
    let requested = resources.unified.iter().map(|unified| RequestedLimits {
        controller: unified.controller().to_owned().into(),
        field: unified_field(unified).into(),
    });
    requested.collect()
}

/// Removes from `resources` the limits of the controller that `field` needs, and returns their fields. Returns none, and
/// removes nothing, if `field` is not a limit.
pub(crate) fn drop_limits_beside(resources: &mut Resources, field: &str) -> Vec<String> {
    let fields_of = |resources: &Resources| fields(resources).collect::<Vec<_>>();
    let before = fields_of(resources);
    let Some((controller, _)) = before.iter().find(|(_, known)| *known == field) else {
        return Vec::new();
    };
    match *controller {
        "memory" => resources.memory = MemoryLimits::default(),
        "cpu" => {
            let (cpus, mems) = (resources.cpu.cpus.take(), resources.cpu.mems.take());
            resources.cpu = CpuLimits { cpus, mems, ..CpuLimits::default() };
        }
        "cpuset" => (resources.cpu.cpus, resources.cpu.mems) = (None, None),
        "pids" => resources.pids_limit = None,
        "io" => resources.block_io = BlockIo::default(),
        "hugetlb" => resources.hugepages.clear(),
        "net_cls" => resources.network.class_id = None,
        "net_prio" => resources.network.priorities.clear(),
        "rdma" => resources.rdma.clear(),
        _ => {}
    }
    let left = fields_of(resources);
    before.iter().filter(|field| !left.contains(field)).map(|(_, field)| (*field).to_owned()).collect()
}

/// Refuses a swap limit without a memory limit: OCI counts memory and swap together, so the sum alone bounds neither.
pub(super) fn check_swap(resources: &Resources) -> Result<()> {
    match (resources.memory.swap, resources.memory.limit) {
        (Some(1..), None | Some(..=0)) => {
            Err(Error::spec("config.json", "linux.resources.memory.swap", "is set without a memory limit")
                .hint("set linux.resources.memory.limit too"))
        }
        _ => Ok(()),
    }
}

/// What messages call an entry of `linux.resources.unified`.
pub(super) fn unified_field(unified: &UnifiedValue) -> String {
    format!("linux.resources.unified[{:?}]", unified.file)
}

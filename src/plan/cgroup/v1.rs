//! How cgroup v1 spells a limit (kernel: admin-guide/cgroup-v1). Pure.

use super::model::{PlannedWrite, Value};
use super::v2;
use crate::spec::{InterfacePriority, Resources, Throttle};

/// What v1 calls the controller that v2 calls `controller`.
pub(super) fn name(controller: &str) -> &str {
    if controller == "io" { "blkio" } else { controller }
}

/// The writes that `resources` asks of `controller`, in the order the kernel needs.
pub(super) fn writes(controller: &str, resources: &Resources) -> Vec<PlannedWrite> {
    match controller {
        "memory" => memory(resources),
        "cpu" => cpu(resources),
        "cpuset" => cpuset(resources),
        "pids" => {
            resources.pids_limit.map(|limit| text("pids.max", limit, "pids.limit")).into_iter().collect()
        }
        "blkio" => block_io(resources),
        "hugetlb" => hugetlb(resources),
        "net_cls" => {
            let class = resources.network.class_id;
            class.map(|class| text("net_cls.classid", class, "network.classID")).into_iter().collect()
        }
        "net_prio" => {
            let line = |priority: &InterfacePriority| format!("{} {}", priority.interface, priority.priority);
            let lines = resources.network.priorities.iter().map(line);
            lines.map(|line| text("net_prio.ifpriomap", line, "network.priorities")).collect()
        }
        "rdma" => v2::rdma(resources),
        _ => Vec::new(),
    }
}

/// The writes for a cpuset above the leaf: the kernel puts a process into a cpuset only after both files have a value,
/// and gives a cpuset only values of its parent.
pub(super) fn inherited_cpuset() -> Vec<PlannedWrite> {
    cpuset(&Resources::default())
}

fn memory(resources: &Resources) -> Vec<PlannedWrite> {
    let memory = &resources.memory;
    let mut writes = Vec::new();
    // memory.limit before memory+swap: the kernel keeps the sum at or above the limit, and the sum starts unlimited.
    if let Some(limit) = memory.limit.filter(|limit| *limit != 0) {
        writes.push(text("memory.limit_in_bytes", limit, "memory.limit"));
    }
    if let Some(swap) = memory.swap.filter(|swap| *swap != 0) {
        // Without swap accounting the kernel has no such file, and a container gets no swap limit. That matters only if
        // the configuration allows some swap and not all.
        let moot = swap < 0 || Some(swap) == memory.limit;
        let value = swap.to_string();
        let value = if moot { Value::TextIfPresent(value) } else { Value::Text(value) };
        writes.push(write("memory.memsw.limit_in_bytes", value, "memory.swap"));
    }
    if let Some(reservation) = memory.reservation.filter(|reservation| *reservation != 0) {
        writes.push(text("memory.soft_limit_in_bytes", reservation, "memory.reservation"));
    }
    if let Some(swappiness) = memory.swappiness {
        writes.push(text("memory.swappiness", swappiness, "memory.swappiness"));
    }
    if memory.disable_oom_killer {
        writes.push(text("memory.oom_control", 1, "memory.disableOOMKiller"));
    }
    writes
}

fn cpu(resources: &Resources) -> Vec<PlannedWrite> {
    let cpu = &resources.cpu;
    let mut writes = Vec::new();
    if let Some(shares) = cpu.shares {
        writes.push(text("cpu.shares", shares, "cpu.shares"));
    }
    // Period before quota: the kernel checks their ratio against the parent's, and without a quota any period passes.
    if let Some(period) = cpu.period {
        writes.push(text("cpu.cfs_period_us", period, "cpu.period"));
    }
    if let Some(quota) = cpu.quota {
        writes.push(text("cpu.cfs_quota_us", quota, "cpu.quota"));
    }
    // After the quota, which bounds it.
    if let Some(burst) = cpu.burst {
        writes.push(text("cpu.cfs_burst_us", burst, "cpu.burst"));
    }
    // Period before runtime, which the kernel keeps within it, and which starts at 0.
    if let Some(period) = cpu.realtime_period {
        writes.push(text("cpu.rt_period_us", period, "cpu.realtimePeriod"));
    }
    if let Some(runtime) = cpu.realtime_runtime {
        writes.push(text("cpu.rt_runtime_us", runtime, "cpu.realtimeRuntime"));
    }
    // Last: a group that is idle takes no shares.
    if cpu.idle {
        writes.push(text("cpu.idle", 1, "cpu.idle"));
    }
    writes
}

fn cpuset(resources: &Resources) -> Vec<PlannedWrite> {
    let value = |list: &Option<String>| list.clone().map_or(Value::FromParent, Value::Text);
    vec![
        write("cpuset.cpus", value(&resources.cpu.cpus), "cpu.cpus"),
        write("cpuset.mems", value(&resources.cpu.mems), "cpu.mems"),
    ]
}

fn block_io(resources: &Resources) -> Vec<PlannedWrite> {
    let block = &resources.block_io;
    let mut writes = Vec::new();
    if let Some(weight) = block.weight {
        writes.push(by_either("blkio.weight", "blkio.bfq.weight", weight, "blockIO.weight"));
    }
    if let Some(weight) = block.leaf_weight {
        writes.push(text("blkio.leaf_weight", weight, "blockIO.leafWeight"));
    }
    for device in &block.weight_devices {
        let line = |weight: u16| format!("{} {weight}", device.device);
        if let Some(weight) = device.weight {
            let files = ("blkio.weight_device", "blkio.bfq.weight_device");
            writes.push(by_either(files.0, files.1, line(weight), "blockIO.weightDevice"));
        }
        if let Some(weight) = device.leaf_weight {
            writes.push(text("blkio.leaf_weight_device", line(weight), "blockIO.weightDevice"));
        }
    }
    let throttle = |file: &'static str, throttles: &[Throttle], field: &'static str| {
        // A rate of 0 means no limit, in this file as in the configuration.
        let lines = throttles.iter().map(|throttle| format!("{} {}", throttle.device, throttle.rate));
        lines.map(|line| text(file, line, field)).collect::<Vec<_>>()
    };
    writes.extend(throttle(
        "blkio.throttle.read_bps_device",
        &block.read_bps,
        "blockIO.throttleReadBpsDevice",
    ));
    writes.extend(throttle(
        "blkio.throttle.write_bps_device",
        &block.write_bps,
        "blockIO.throttleWriteBpsDevice",
    ));
    writes.extend(throttle(
        "blkio.throttle.read_iops_device",
        &block.read_iops,
        "blockIO.throttleReadIOPSDevice",
    ));
    writes.extend(throttle(
        "blkio.throttle.write_iops_device",
        &block.write_iops,
        "blockIO.throttleWriteIOPSDevice",
    ));
    writes
}

/// "limit of hugepagesize hugetlb reservations (if supported) or usage" - OCI config-linux.md. Kernels before 5.7 have
/// no limit on reservations.
fn hugetlb(resources: &Resources) -> Vec<PlannedWrite> {
    let limits = resources.hugepages.iter().flat_map(|limit| {
        let (size, limit) = (&limit.page_size, limit.limit.to_string());
        [
            write(&format!("hugetlb.{size}.limit_in_bytes"), Value::Text(limit.clone()), "hugepageLimits"),
            write(
                &format!("hugetlb.{size}.rsvd.limit_in_bytes"),
                Value::TextIfPresent(limit),
                "hugepageLimits",
            ),
        ]
    });
    limits.collect()
}

/// A weight of CFQ, or where the kernel has BFQ in its place, of that.
fn by_either(cfq: &str, bfq: &str, value: impl ToString, field: &str) -> PlannedWrite {
    let text = value.to_string();
    write(cfq, Value::Either { text: text.clone(), otherwise: (bfq.into(), text) }, field)
}

fn text(file: &str, value: impl ToString, field: &str) -> PlannedWrite {
    write(file, Value::Text(value.to_string()), field)
}

fn write(file: &str, value: Value, field: &str) -> PlannedWrite {
    PlannedWrite { file: file.into(), value, field: format!("linux.resources.{field}") }
}

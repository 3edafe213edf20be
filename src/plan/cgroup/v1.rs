//! How cgroup v1 spells a limit (kernel: admin-guide/cgroup-v1). Pure.

use super::{PlannedWrite, Value};
use crate::spec::Resources;

/// The writes that `resources` asks of `controller`, in the order the kernel needs.
pub(super) fn writes(controller: &str, resources: &Resources) -> Vec<PlannedWrite> {
    match controller {
        "memory" => memory(resources),
        "cpu" => cpu(resources),
        "cpuset" => cpuset(resources),
        "pids" => {
            resources.pids_limit.map(|limit| text("pids.max", limit, "pids.limit")).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// A cpuset takes no process before both of its files have a value, and every cpuset above needs one first.
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
        // Without swap accounting the file is absent. Then memory+swap cannot be limited, which matters only when more
        // than the memory limit itself was asked for.
        let moot = swap < 0 || Some(swap) == memory.limit;
        let value = swap.to_string();
        let value = if moot { Value::TextIfPresent(value) } else { Value::Text(value) };
        writes.push(write("memory.memsw.limit_in_bytes", value, "memory.swap"));
    }
    if let Some(reservation) = memory.reservation.filter(|reservation| *reservation != 0) {
        writes.push(text("memory.soft_limit_in_bytes", reservation, "memory.reservation"));
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
    writes
}

fn cpuset(resources: &Resources) -> Vec<PlannedWrite> {
    let value = |list: &Option<String>| list.clone().map_or(Value::FromParent, Value::Text);
    vec![
        write("cpuset.cpus", value(&resources.cpu.cpus), "cpu.cpus"),
        write("cpuset.mems", value(&resources.cpu.mems), "cpu.mems"),
    ]
}

fn text(file: &str, value: impl ToString, field: &str) -> PlannedWrite {
    write(file, Value::Text(value.to_string()), field)
}

fn write(file: &str, value: Value, field: &str) -> PlannedWrite {
    PlannedWrite { file: file.into(), value, field: format!("linux.resources.{field}") }
}

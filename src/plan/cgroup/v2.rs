//! How cgroup v2 spells a limit (kernel: admin-guide/cgroup-v2). Pure.

use super::model::{PlannedWrite, Value};
use super::requested::{
    CLASS_ID, DISABLE_OOM_KILLER, LEAF_WEIGHT, PRIORITIES, REALTIME_PERIOD, REALTIME_RUNTIME, SWAPPINESS,
    unified_field,
};
use crate::spec::{Resources, Throttle, UnifiedValue};

/// The writes that `resources` asks of `controller`.
pub(super) fn writes(controller: &str, resources: &Resources) -> Vec<PlannedWrite> {
    match controller {
        "memory" => memory(resources),
        "cpu" => cpu(resources),
        "cpuset" => cpuset(resources),
        "pids" => {
            resources.pids_limit.map(|limit| text("pids.max", limit, "pids.limit")).into_iter().collect()
        }
        "io" => io(resources),
        "hugetlb" => hugetlb(resources),
        "rdma" => rdma(resources),
        _ => Vec::new(),
    }
}

/// The first field of `controller` that only v1 has a file for. crun refuses these fields, too; other runtimes ignore
/// some of them silently.
pub(super) fn only_v1(controller: &str, resources: &Resources) -> Option<&'static str> {
    let Resources { memory, cpu, block_io, .. } = resources;
    let mut weights = block_io.weight_devices.iter();
    match controller {
        "memory" if memory.swappiness.is_some() => Some(SWAPPINESS),
        "memory" if memory.disable_oom_killer => Some(DISABLE_OOM_KILLER),
        "cpu" if cpu.realtime_runtime.is_some() => Some(REALTIME_RUNTIME),
        "cpu" if cpu.realtime_period.is_some() => Some(REALTIME_PERIOD),
        "io" if block_io.leaf_weight.is_some() => Some(LEAF_WEIGHT),
        "io" if weights.any(|device| device.leaf_weight.is_some()) => {
            Some("linux.resources.blockIO.weightDevice")
        }
        "net_cls" => Some(CLASS_ID),
        "net_prio" => Some(PRIORITIES),
        _ => None,
    }
}

/// The write of one entry of `linux.resources.unified`.
pub(super) fn unified(unified: &UnifiedValue) -> PlannedWrite {
    let value = Value::Text(unified.value.clone());
    PlannedWrite { file: unified.file.clone(), value, field: unified_field(unified) }
}

fn memory(resources: &Resources) -> Vec<PlannedWrite> {
    let memory = &resources.memory;
    let mut writes = Vec::new();
    if let Some(limit) = memory.limit.filter(|limit| *limit != 0) {
        writes.push(text("memory.max", or_max(limit), "memory.limit"));
    }
    if let Some(swap) = memory.swap.filter(|swap| *swap != 0) {
        // The configuration counts memory and swap together, v2 counts swap alone. Without swap accounting the kernel
        // has no such file, which matters only if the configuration limits swap and allows some.
        let alone = if swap < 0 { -1 } else { swap.saturating_sub(memory.limit.unwrap_or(0)).max(0) };
        let value = or_max(alone);
        let value = if alone <= 0 { Value::TextIfPresent(value) } else { Value::Text(value) };
        writes.push(write("memory.swap.max", value, "memory.swap"));
    }
    if let Some(reservation) = memory.reservation.filter(|reservation| *reservation != 0) {
        writes.push(text("memory.low", or_max(reservation), "memory.reservation"));
    }
    writes
}

fn cpu(resources: &Resources) -> Vec<PlannedWrite> {
    let cpu = &resources.cpu;
    let mut writes = Vec::new();
    if let Some(shares) = cpu.shares {
        writes.push(text("cpu.weight", weight_from_shares(shares), "cpu.shares"));
    }
    if cpu.quota.is_some() || cpu.period.is_some() {
        let quota = or_max(cpu.quota.unwrap_or(-1));
        let field = if cpu.quota.is_some() { "cpu.quota" } else { "cpu.period" };
        writes.push(text("cpu.max", format!("{quota} {}", cpu.period.unwrap_or(DEFAULT_PERIOD_US)), field));
    }
    // After the quota, which bounds it.
    if let Some(burst) = cpu.burst {
        writes.push(text("cpu.max.burst", burst, "cpu.burst"));
    }
    // Last: a group that is idle takes no weight.
    if cpu.idle {
        writes.push(text("cpu.idle", 1, "cpu.idle"));
    }
    writes
}

/// The kernel's own default for `cpu.max` and `cpu.cfs_period_us`, in microseconds.
pub(super) const DEFAULT_PERIOD_US: u64 = 100_000;

fn cpuset(resources: &Resources) -> Vec<PlannedWrite> {
    let cpus = resources.cpu.cpus.as_ref().map(|cpus| text("cpuset.cpus", cpus, "cpu.cpus"));
    let mems = resources.cpu.mems.as_ref().map(|mems| text("cpuset.mems", mems, "cpu.mems"));
    cpus.into_iter().chain(mems).collect()
}

fn io(resources: &Resources) -> Vec<PlannedWrite> {
    let block = &resources.block_io;
    let mut writes = Vec::new();
    // BFQ takes the weights of the configuration. A kernel with the cost model instead takes them converted.
    let weight = |device: Option<String>, weight: u16, field: &str| {
        let line = |weight: u64| match &device {
            Some(device) => format!("{device} {weight}"),
            None => weight.to_string(),
        };
        let otherwise = ("io.weight".into(), line(io_weight(weight)));
        write("io.bfq.weight", Value::Either { text: line(weight.into()), otherwise }, field)
    };
    writes.extend(block.weight.map(|all| weight(None, all, "blockIO.weight")));
    for device in &block.weight_devices {
        let number = Some(device.device.to_string());
        writes.extend(device.weight.map(|one| weight(number, one, "blockIO.weightDevice")));
    }
    let throttle = |key: &'static str, throttles: &[Throttle], field: &'static str| {
        let rate = |rate: u64| if rate == 0 { "max".into() } else { rate.to_string() };
        let lines =
            throttles.iter().map(|throttle| format!("{} {key}={}", throttle.device, rate(throttle.rate)));
        lines.map(|line| text("io.max", line, field)).collect::<Vec<_>>()
    };
    writes.extend(throttle("rbps", &block.read_bps, "blockIO.throttleReadBpsDevice"));
    writes.extend(throttle("wbps", &block.write_bps, "blockIO.throttleWriteBpsDevice"));
    writes.extend(throttle("riops", &block.read_iops, "blockIO.throttleReadIOPSDevice"));
    writes.extend(throttle("wiops", &block.write_iops, "blockIO.throttleWriteIOPSDevice"));
    writes
}

/// Converts v1's weight (10 to 1000) to that of `io.weight` (1 to 10000), linearly, as other runtimes do.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10) * 9999) / 990
}

/// As on v1: limits on reservations, too, if the kernel has them.
fn hugetlb(resources: &Resources) -> Vec<PlannedWrite> {
    let limits = resources.hugepages.iter().flat_map(|limit| {
        let (size, limit) = (&limit.page_size, limit.limit.to_string());
        [
            write(&format!("hugetlb.{size}.max"), Value::Text(limit.clone()), "hugepageLimits"),
            write(&format!("hugetlb.{size}.rsvd.max"), Value::TextIfPresent(limit), "hugepageLimits"),
        ]
    });
    limits.collect()
}

/// Both versions have the same file, with one line for each device.
pub(super) fn rdma(resources: &Resources) -> Vec<PlannedWrite> {
    let lines = resources.rdma.iter().map(|limit| {
        let handles = limit.hca_handles.map(|most| format!(" hca_handle={most}")).unwrap_or_default();
        let objects = limit.hca_objects.map(|most| format!(" hca_object={most}")).unwrap_or_default();
        PlannedWrite {
            file: "rdma.max".into(),
            value: Value::Text(format!("{}{handles}{objects}", limit.device)),
            field: "linux.resources.rdma".into(),
        }
    });
    lines.collect()
}

/// Converts v1 shares (2 to 262144, default 1024) to a v2 weight (1 to 10000, default 100) as crun 1.23 and runc 1.3.2
/// do: `ceil(10^((l² + 125·l) / 612 - 7/34))` with `l = log2(shares)`, the quadratic in the exponent that takes both
/// ends and the default to each other. (The older linear mapping gave the default a weight of 39.)
pub(super) fn weight_from_shares(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

fn or_max(value: i64) -> String {
    if value < 0 { "max".into() } else { value.to_string() }
}

fn text(file: &str, value: impl ToString, field: &str) -> PlannedWrite {
    write(file, Value::Text(value.to_string()), field)
}

fn write(file: &str, value: Value, field: &str) -> PlannedWrite {
    PlannedWrite { file: file.into(), value, field: format!("linux.resources.{field}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_keep_their_ends_and_their_default_as_a_weight() {
        for (shares, weight) in [
            (2, 1),
            (3, 2),
            (512, 59),
            (1024, 100),
            (2000, 170),
            (2048, 174),
            (65_536, 3_023),
            (262_144, 10_000),
        ] {
            assert_eq!(weight_from_shares(shares), weight, "{shares} shares");
        }
    }
}

//! The writes that change the limits of a container that exists. Pure: the process that makes a write finds the
//! directory for it.
//!
//! The planner makes all writes as for a new container, and keeps those that differ from the old limits or serve a
//! field that the caller gave again. So a value made of two fields (`memory.swap.max`, `cpu.max`) follows when either
//! changes.

use super::model::{PlannedWrite, Value};
use super::requested::{OtherVersion, RequestedLimits, check_swap, fields, requested, requested_unified};
use super::{v1, v2};
use crate::error::{Error, Result};
use crate::spec::Resources;
use std::borrow::Cow;

/// The writes of one controller, for either version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ControllerUpdate {
    /// The controller as v2 calls it.
    pub(crate) controller: Cow<'static, str>,
    /// The first field that asks for it, for messages.
    pub(crate) field: Cow<'static, str>,
    /// If the controller is in a v1 hierarchy.
    pub(crate) v1: Spelling,
    /// The same for v2.
    pub(crate) v2: Spelling,
}

impl ControllerUpdate {
    /// What v1 calls the controller.
    pub(crate) fn v1_controller(&self) -> &str {
        v1::name(&self.controller)
    }
}

/// A change as one version of the interface spells it: writes in the order that the kernel needs, or the field that the
/// version has no file for.
pub(crate) type Spelling = std::result::Result<Vec<PlannedWrite>, OtherVersion>;

/// Limits to remove without replacing them. A [`Resources`] cannot express that: there they look as if never set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lifted {
    /// `pids.limit`.
    pub(crate) pids: bool,
    /// `cpu.burst`.
    pub(crate) cpu_burst: bool,
    /// `cpu.idle`.
    pub(crate) cpu_idle: bool,
}

/// Plans the change from the limits `old` to `new`. The caller gave those in `named`, and removes those in `lifted`.
///
/// # Errors
/// A swap limit without a memory limit.
pub(crate) fn update(
    old: &Resources,
    new: &Resources,
    named: &Resources,
    lifted: Lifted,
) -> Result<Vec<ControllerUpdate>> {
    check_swap(new)?;
    let named_fields: Vec<&str> = fields(named).map(|(_, field)| field).collect();
    let mut controllers: Vec<RequestedLimits> = requested(named);
    for (lifts, controller, field) in [
        (lifted.cpu_burst, "cpu", CPU_BURST),
        (lifted.cpu_idle, "cpu", CPU_IDLE),
        (lifted.pids, "pids", PIDS_LIMIT),
    ] {
        if lifts && controllers.iter().all(|asked| asked.controller != controller) {
            controllers.push(RequestedLimits { controller: controller.into(), field: field.into() });
        }
    }
    let mut updates = Vec::new();
    for RequestedLimits { controller, field } in controllers {
        let changed = |old: Vec<PlannedWrite>, new: Vec<PlannedWrite>| {
            new.into_iter()
                .filter(|write| write.value != Value::FromParent)
                .filter(|write| {
                    let same =
                        |before: &PlannedWrite| before.file == write.file && before.value == write.value;
                    named_fields.iter().any(|named| write.serves(named)) || !old.iter().any(same)
                })
                .collect::<Vec<_>>()
        };
        let v1_name = v1::name(&controller);
        let mut v1 = changed(v1::writes(v1_name, old), v1::writes(v1_name, new));
        let mut v2 = changed(v2::writes(&controller, old), v2::writes(&controller, new));
        match controller.as_ref() {
            // The kernel keeps memory+swap at or above memory: write the sum first if the limit rises, and the limit
            // first if it falls, which is the order for a new container.
            "memory" if raises(old.memory.limit, new.memory.limit) => to_the_front(&mut v1, MEMSW),
            "cpu" => {
                // A quota is checked as a share of its period, against the cgroup above. With the old quota, a shorter
                // period might be too large a share.
                if new.cpu.period.unwrap_or(CPU_PERIOD) < old.cpu.period.unwrap_or(CPU_PERIOD) {
                    to_the_front(&mut v1, "cpu.cfs_quota_us");
                }
                lift_cpu(&mut v1, lifted, "cpu.cfs_burst_us");
                lift_cpu(&mut v2, lifted, "cpu.max.burst");
                // In the same way a burst stays within its quota, and a realtime runtime within its period.
                if new.cpu.burst < old.cpu.burst {
                    to_the_front(&mut v1, "cpu.cfs_burst_us");
                    to_the_front(&mut v2, "cpu.max.burst");
                }
                if new.cpu.realtime_period < old.cpu.realtime_period {
                    to_the_front(&mut v1, "cpu.rt_runtime_us");
                }
            }
            "pids" if lifted.pids => (v1, v2) = (vec![no_pids_limit()], vec![no_pids_limit()]),
            _ => {}
        }
        let v2 = match v2::only_v1(&controller, named) {
            Some(field) => Err(OtherVersion(field.into())),
            None => Ok(v2),
        };
        updates.push(ControllerUpdate { controller, field, v1: Ok(v1), v2 });
    }
    let unified = requested_unified(named).into_iter().zip(&named.unified);
    updates.extend(unified.map(|(RequestedLimits { controller, field }, unified)| ControllerUpdate {
        controller,
        v1: Err(OtherVersion(field.clone())),
        field,
        v2: Ok(vec![v2::unified(unified)]),
    }));
    Ok(updates)
}

/// Plans the limits of one executed process, as for a new container. Each controller and its writes are named after the
/// caller's method that `name` gives for it.
///
/// # Errors
/// As [`update`].
pub(crate) fn for_exec(
    limits: &Resources,
    name: impl Fn(&str) -> &'static str,
) -> Result<Vec<ControllerUpdate>> {
    let mut updates = update(&Resources::default(), limits, limits, Lifted::default())?;
    for ControllerUpdate { controller, field, v1, v2 } in &mut updates {
        let name = name(controller);
        *field = name.into();
        for write in [v1, v2].into_iter().flatten().flatten() {
            write.field = name.to_owned();
        }
    }
    Ok(updates)
}

const PIDS_LIMIT: &str = "linux.resources.pids.limit";
const CPU_BURST: &str = "linux.resources.cpu.burst";
const CPU_IDLE: &str = "linux.resources.cpu.idle";
/// The period of a new cgroup, in microseconds (`default_cfs_period` in kernel/sched/fair.c).
const CPU_PERIOD: u64 = 100_000;
const MEMSW: &str = "memory.memsw.limit_in_bytes";

fn no_pids_limit() -> PlannedWrite {
    PlannedWrite { file: "pids.max".into(), value: Value::Text("max".into()), field: PIDS_LIMIT.into() }
}

/// Puts the writes that remove limits before the others: the kernel refuses shares while a group is idle.
fn lift_cpu(writes: &mut Vec<PlannedWrite>, lifted: Lifted, burst_file: &str) {
    for (lifts, file, field) in
        [(lifted.cpu_burst, burst_file, CPU_BURST), (lifted.cpu_idle, "cpu.idle", CPU_IDLE)]
    {
        if lifts {
            let (file, value, field) = (file.into(), Value::Text("0".into()), field.into());
            writes.insert(0, PlannedWrite { file, value, field });
        }
    }
}

/// Moves the writes into `file` before the others.
fn to_the_front(writes: &mut [PlannedWrite], file: &str) {
    writes.sort_by_key(|write| write.file != file);
}

/// The text that restores a control file which held `before` when `written` was written into it.
pub(crate) fn undo(file: &str, written: &str, before: &str) -> String {
    let before = before.trim_end();
    let first_word = |line: &str| line.split_ascii_whitespace().next().unwrap_or_default().to_owned();
    if file == "memory.oom_control" {
        // This file takes one word, and shows several lines.
        let state = before.lines().find_map(|line| line.strip_prefix("oom_kill_disable "));
        return state.unwrap_or("0").to_owned();
    }
    if !(file.ends_with("_device") || KEYED.contains(&file)) {
        // To write an empty list, write a newline: the kernel ignores a write(2) of no bytes.
        return if before.is_empty() { "\n".into() } else { before.into() };
    }
    // A weight without a device is the default for all devices.
    let key = match written.split_once(' ') {
        Some(_) => first_word(written),
        None => "default".into(),
    };
    if let Some(line) = before.lines().find(|line| first_word(line) == key) {
        return line.to_owned();
    }
    match written.split_once(' ') {
        // The device had no line, so it had no limit.
        Some((device, limits)) if limits.contains('=') => {
            let limits = limits.split_ascii_whitespace().filter_map(|limit| limit.split_once('='));
            let lifted: Vec<String> = limits.map(|(name, _)| format!("{name}=max")).collect();
            format!("{device} {}", lifted.join(" "))
        }
        Some((device, _)) if file.starts_with("blkio.throttle") => format!("{device} 0"),
        Some((device, _)) => format!("{device} default"),
        None => before.lines().next().unwrap_or_default().to_owned(),
    }
}

/// Files with a line for each device, which take one line per write. Those named `*_device` work in the same way.
const KEYED: [&str; 7] =
    ["io.max", "io.weight", "io.bfq.weight", "io.latency", "rdma.max", "misc.max", "net_prio.ifpriomap"];

/// Whether the limit rises. -1 and an absent limit are the highest.
fn raises(old: Option<i64>, new: Option<i64>) -> bool {
    let height = |limit: Option<i64>| limit.and_then(|limit| u64::try_from(limit).ok()).unwrap_or(u64::MAX);
    height(new) > height(old)
}

impl PlannedWrite {
    /// Whether the value of this write depends on `field`.
    fn serves(&self, field: &str) -> bool {
        self.field == field
            || (self.file == "cpu.max" && (field.ends_with("cpu.quota") || field.ends_with("cpu.period")))
    }
}

/// The error for a limit whose controller the container did not join when it was created.
pub(crate) fn not_joined(update: &ControllerUpdate) -> Error {
    let controller = &update.controller;
    let why = format!("the container is in no cgroup with the {controller} controller");
    Error::unsupported(update.field.clone(), why)
        .hint("a container is in those its limits or its linux.cgroupsPath asked for when it was created")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{CpuLimits, MemoryLimits, UnifiedValue};

    fn memory(limit: Option<i64>, swap: Option<i64>) -> Resources {
        Resources { memory: MemoryLimits { limit, swap, ..MemoryLimits::default() }, ..Resources::default() }
    }

    fn shown(writes: &Spelling) -> Vec<String> {
        let value = |value: &Value| match value {
            Value::Text(text) => text.clone(),
            Value::TextIfPresent(text) => format!("{text} if present"),
            other => format!("{other:?}"),
        };
        writes
            .as_ref()
            .unwrap()
            .iter()
            .map(|write| format!("{} = {}", write.file, value(&write.value)))
            .collect()
    }

    #[test]
    fn only_what_was_named_or_depends_on_it_is_written() {
        let old = Resources { pids_limit: Some(9), ..memory(Some(1 << 20), Some(3 << 20)) };
        let new = Resources { pids_limit: Some(9), ..memory(Some(2 << 20), Some(3 << 20)) };
        let plan = update(&old, &new, &memory(Some(2 << 20), None), Lifted::default()).unwrap();
        assert_eq!(plan.len(), 1);
        assert_eq!(
            (plan[0].controller.as_ref(), plan[0].field.as_ref()),
            ("memory", "linux.resources.memory.limit")
        );
        assert_eq!(shown(&plan[0].v1), ["memory.limit_in_bytes = 2097152"]);
        assert_eq!(shown(&plan[0].v2), ["memory.max = 2097152", "memory.swap.max = 1048576"]);
    }

    #[test]
    fn on_v1_memory_and_swap_together_rises_first_and_falls_last() {
        let small = memory(Some(1 << 20), Some(2 << 20));
        let large = memory(Some(4 << 20), Some(8 << 20));
        let up = update(&small, &large, &large, Lifted::default()).unwrap();
        assert_eq!(
            shown(&up[0].v1),
            ["memory.memsw.limit_in_bytes = 8388608", "memory.limit_in_bytes = 4194304"]
        );
        let down = update(&large, &small, &small, Lifted::default()).unwrap();
        assert_eq!(
            shown(&down[0].v1),
            ["memory.limit_in_bytes = 1048576", "memory.memsw.limit_in_bytes = 2097152"]
        );
        let none = memory(Some(-1), Some(-1));
        let lifted = update(&small, &none, &none, Lifted::default()).unwrap();
        assert_eq!(lifted[0].v1.as_ref().unwrap()[0].file, MEMSW);
    }

    #[test]
    fn a_quota_keeps_the_period_it_was_given_with() {
        let cpu = |quota, period| Resources {
            cpu: CpuLimits { quota, period, ..CpuLimits::default() },
            ..Resources::default()
        };
        let old = cpu(Some(50_000), Some(200_000));
        let plan =
            update(&old, &cpu(Some(70_000), Some(200_000)), &cpu(Some(70_000), None), Lifted::default())
                .unwrap();
        assert_eq!(shown(&plan[0].v1), ["cpu.cfs_quota_us = 70000"]);
        assert_eq!(shown(&plan[0].v2), ["cpu.max = 70000 200000"]);
    }

    #[test]
    fn a_quota_falls_before_its_period_and_rises_after_it() {
        let cpu = |quota, period| Resources {
            cpu: CpuLimits { quota: Some(quota), period, ..CpuLimits::default() },
            ..Resources::default()
        };
        let order = |old: &Resources, new: &Resources| {
            shown(&update(old, new, new, Lifted::default()).unwrap()[0].v1)
        };
        let (long, short) = (cpu(50_000, None), cpu(20_000, Some(40_000)));
        assert_eq!(order(&long, &short), ["cpu.cfs_quota_us = 20000", "cpu.cfs_period_us = 40000"]);
        let longer = cpu(80_000, Some(160_000));
        assert_eq!(order(&short, &longer), ["cpu.cfs_period_us = 160000", "cpu.cfs_quota_us = 80000"]);
    }

    #[test]
    fn what_is_named_again_is_written_again() {
        let pids = Resources { pids_limit: Some(9), ..Resources::default() };
        let plan = update(&pids, &pids, &pids, Lifted::default()).unwrap();
        assert_eq!(shown(&plan[0].v1), ["pids.max = 9"]);
    }

    #[test]
    fn a_pids_limit_is_lifted_by_name() {
        let old = Resources { pids_limit: Some(9), ..Resources::default() };
        let plan = update(
            &old,
            &Resources::default(),
            &Resources::default(),
            Lifted { pids: true, ..Lifted::default() },
        )
        .unwrap();
        assert_eq!(
            (shown(&plan[0].v1), shown(&plan[0].v2)),
            (vec!["pids.max = max".into()], vec!["pids.max = max".into()])
        );
    }

    #[test]
    fn a_burst_falls_before_its_quota_and_rises_after_it() {
        let cpu = |quota, burst| Resources {
            cpu: CpuLimits { quota: Some(quota), burst, ..CpuLimits::default() },
            ..Resources::default()
        };
        let (small, large) = (cpu(10_000, Some(5_000)), cpu(90_000, Some(80_000)));
        let up = update(&small, &large, &large, Lifted::default()).unwrap();
        assert_eq!(shown(&up[0].v2), ["cpu.max = 90000 100000", "cpu.max.burst = 80000"]);
        let down = update(&large, &small, &small, Lifted::default()).unwrap();
        assert_eq!(shown(&down[0].v1), ["cpu.cfs_burst_us = 5000", "cpu.cfs_quota_us = 10000"]);
        let none = cpu(10_000, None);
        let lifted = Lifted { cpu_burst: true, ..Lifted::default() };
        let lifted = update(&large, &none, &cpu(10_000, None), lifted).unwrap();
        assert_eq!(shown(&lifted[0].v2), ["cpu.max.burst = 0", "cpu.max = 10000 100000"]);
    }

    #[test]
    fn being_idle_ends_before_shares_are_given() {
        let idle =
            Resources { cpu: CpuLimits { idle: true, ..CpuLimits::default() }, ..Resources::default() };
        let shares = Resources {
            cpu: CpuLimits { shares: Some(512), ..CpuLimits::default() },
            ..Resources::default()
        };
        let lifted = Lifted { cpu_idle: true, ..Lifted::default() };
        let plan = update(&idle, &shares, &shares, lifted).unwrap();
        assert_eq!(shown(&plan[0].v1), ["cpu.idle = 0", "cpu.shares = 512"]);
        let alone = update(&idle, &Resources::default(), &Resources::default(), lifted).unwrap();
        assert_eq!(alone[0].field, "linux.resources.cpu.idle");
        assert_eq!(shown(&alone[0].v2), ["cpu.idle = 0"]);
    }

    #[test]
    fn what_one_version_has_no_file_for_is_known_before_anything_is_written() {
        let swappy = Resources {
            memory: MemoryLimits { swappiness: Some(10), ..MemoryLimits::default() },
            ..Resources::default()
        };
        let plan = update(&Resources::default(), &swappy, &swappy, Lifted::default()).unwrap();
        assert_eq!(shown(&plan[0].v1), ["memory.swappiness = 10"]);
        let error = plan[0].v2.as_ref().unwrap_err().on(super::super::Version::V2);
        assert!(error.to_string().starts_with("linux.resources.memory.swappiness: cgroup v2 has no file"));
        let value = UnifiedValue { file: "memory.high".into(), value: "9".into() };
        let high = Resources { unified: vec![value], ..Resources::default() };
        let plan = update(&Resources::default(), &high, &high, Lifted::default()).unwrap();
        assert_eq!(
            (plan[0].controller.as_ref(), shown(&plan[0].v2)),
            ("memory", vec!["memory.high = 9".into()])
        );
        assert!(plan[0].v1.is_err());
    }

    #[test]
    fn what_is_undone_is_one_line_where_a_file_has_one_for_each_device() {
        let io = "8:0 rbps=max wbps=5 riops=max wiops=max\n8:16 rbps=7 wbps=max riops=max wiops=max\n";
        for (file, written, before, undone) in [
            ("pids.max", "9", "max\n", "max"),
            ("cpuset.cpus", "0", "\n", "\n"),
            ("cpu.max", "50000 100000", "max 100000\n", "max 100000"),
            ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", "0"),
            ("io.max", "8:16 rbps=1", io, "8:16 rbps=7 wbps=max riops=max wiops=max"),
            ("io.max", "8:32 rbps=1 wiops=2", io, "8:32 rbps=max wiops=max"),
            ("io.max", "8:0 rbps=1", "", "8:0 rbps=max"),
            ("io.weight", "500", "default 100\n8:0 50\n", "default 100"),
            ("io.weight", "8:16 500", "default 100\n8:0 50\n", "8:16 default"),
            ("io.bfq.weight", "500", "100\n", "100"),
            ("blkio.throttle.read_bps_device", "8:0 9", "", "8:0 0"),
            ("blkio.throttle.read_bps_device", "8:0 9", "8:16 1\n8:0 4\n", "8:0 4"),
            ("net_prio.ifpriomap", "eth0 5", "lo 0\neth0 2\n", "eth0 2"),
            (
                "rdma.max",
                "mlx hca_handle=1",
                "mlx hca_handle=max hca_object=3\n",
                "mlx hca_handle=max hca_object=3",
            ),
        ] {
            assert_eq!(undo(file, written, before), undone, "{file}: {written}");
        }
    }

    #[test]
    fn a_cpuset_keeps_what_was_not_named() {
        let cpus = Resources {
            cpu: CpuLimits { cpus: Some("0".into()), ..CpuLimits::default() },
            ..Resources::default()
        };
        let plan = update(&Resources::default(), &cpus, &cpus, Lifted::default()).unwrap();
        assert_eq!(
            (shown(&plan[0].v1), shown(&plan[0].v2)),
            (vec!["cpuset.cpus = 0".into()], vec!["cpuset.cpus = 0".into()])
        );
    }
}

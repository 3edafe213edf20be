//! What is written to change the limits of a container that exists. Pure: which of its directories a write belongs to is
//! found where it is done.
//!
//! The limits as a whole are planned as for a new container, and of these writes those are kept that differ from what was
//! set before or serve a field that was named again. So a value that is made from two fields (`memory.swap.max`,
//! `cpu.max`) follows when either changes.

use super::{Asked, PlannedWrite, Value, asked, check_swap, fields, v1, v2};
use crate::error::{Error, Result};
use crate::spec::Resources;

/// The writes of one controller, for either version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ControllerUpdate {
    /// The controller.
    pub(crate) controller: &'static str,
    /// The first field that asks for it, for messages.
    pub(crate) field: &'static str,
    /// In the order the kernel needs, if the controller is in a v1 hierarchy.
    pub(crate) v1: Vec<PlannedWrite>,
    /// The same for v2.
    pub(crate) v2: Vec<PlannedWrite>,
}

/// Plans the change from the limits `old` to `new`, of which `named` are those that the caller gave. `unlimited_pids`
/// lifts `pids.limit`, which a [`Resources`] cannot tell from one that was never set.
///
/// # Errors
/// A swap limit without a memory limit.
pub(crate) fn update(
    old: &Resources,
    new: &Resources,
    named: &Resources,
    unlimited_pids: bool,
) -> Result<Vec<ControllerUpdate>> {
    check_swap(new)?;
    let named_fields: Vec<&str> = fields(named).map(|(_, field)| field).collect();
    let mut updates = Vec::new();
    let mut controllers: Vec<Asked> = asked(named);
    if unlimited_pids {
        controllers.push(Asked { controller: "pids", field: PIDS_LIMIT });
    }
    for Asked { controller, field } in controllers {
        let changed = |old: Vec<PlannedWrite>, new: Vec<PlannedWrite>| {
            new.into_iter()
                .filter(|write| write.value != Value::FromParent)
                .filter(|write| {
                    let named = named_fields.iter().any(|named| write.serves(named));
                    let before = old.iter().find(|before| before.file == write.file);
                    named || before.is_none_or(|before| before.value != write.value)
                })
                .collect::<Vec<_>>()
        };
        let mut v1 = changed(v1::writes(controller, old), v1::writes(controller, new));
        let mut v2 = changed(v2::writes(controller, old), v2::writes(controller, new));
        if controller == "memory" && raises(old.memory.limit, new.memory.limit) {
            // The kernel keeps memory+swap at or above memory, so a limit that rises follows the sum, and one that falls
            // goes first, as for a new container.
            v1.sort_by_key(|write| write.file != MEMSW);
        }
        if controller == "pids" && unlimited_pids {
            (v1, v2) = (vec![no_pids_limit()], vec![no_pids_limit()]);
        }
        updates.push(ControllerUpdate { controller, field, v1, v2 });
    }
    Ok(updates)
}

const PIDS_LIMIT: &str = "linux.resources.pids.limit";
const MEMSW: &str = "memory.memsw.limit_in_bytes";

fn no_pids_limit() -> PlannedWrite {
    PlannedWrite { file: "pids.max".into(), value: Value::Text("max".into()), field: PIDS_LIMIT.into() }
}

/// Whether the limit gets higher. -1 and no limit are the highest.
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

/// Refuses what would need a controller that the container was not created with.
pub(crate) fn not_joined(update: &ControllerUpdate) -> Error {
    let controller = update.controller;
    let why = format!("the container is in no cgroup with the {controller} controller");
    Error::unsupported(update.field, why)
        .hint("a container is in those its limits or its linux.cgroupsPath asked for when it was created")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{CpuLimits, MemoryLimits};

    fn memory(limit: Option<i64>, swap: Option<i64>) -> Resources {
        Resources { memory: MemoryLimits { limit, swap, reservation: None }, ..Resources::default() }
    }

    fn shown(writes: &[PlannedWrite]) -> Vec<String> {
        let value = |value: &Value| match value {
            Value::Text(text) => text.clone(),
            Value::TextIfPresent(text) => format!("{text} if present"),
            other => format!("{other:?}"),
        };
        writes.iter().map(|write| format!("{} = {}", write.file, value(&write.value))).collect()
    }

    #[test]
    fn only_what_was_named_or_depends_on_it_is_written() {
        let old = Resources { pids_limit: Some(9), ..memory(Some(1 << 20), Some(3 << 20)) };
        let new = Resources { pids_limit: Some(9), ..memory(Some(2 << 20), Some(3 << 20)) };
        let plan = update(&old, &new, &memory(Some(2 << 20), None), false).unwrap();
        assert_eq!(plan.len(), 1);
        assert_eq!((plan[0].controller, plan[0].field), ("memory", "linux.resources.memory.limit"));
        assert_eq!(shown(&plan[0].v1), ["memory.limit_in_bytes = 2097152"]);
        assert_eq!(shown(&plan[0].v2), ["memory.max = 2097152", "memory.swap.max = 1048576"]);
    }

    #[test]
    fn on_v1_memory_and_swap_together_rises_first_and_falls_last() {
        let small = memory(Some(1 << 20), Some(2 << 20));
        let large = memory(Some(4 << 20), Some(8 << 20));
        let up = update(&small, &large, &large, false).unwrap();
        assert_eq!(
            shown(&up[0].v1),
            ["memory.memsw.limit_in_bytes = 8388608", "memory.limit_in_bytes = 4194304"]
        );
        let down = update(&large, &small, &small, false).unwrap();
        assert_eq!(
            shown(&down[0].v1),
            ["memory.limit_in_bytes = 1048576", "memory.memsw.limit_in_bytes = 2097152"]
        );
        let none = memory(Some(-1), Some(-1));
        let lifted = update(&small, &none, &none, false).unwrap();
        assert_eq!(lifted[0].v1[0].file, MEMSW);
    }

    #[test]
    fn a_quota_keeps_the_period_it_was_given_with() {
        let cpu = |quota, period| Resources {
            cpu: CpuLimits { quota, period, ..CpuLimits::default() },
            ..Resources::default()
        };
        let old = cpu(Some(50_000), Some(200_000));
        let plan = update(&old, &cpu(Some(70_000), Some(200_000)), &cpu(Some(70_000), None), false).unwrap();
        assert_eq!(shown(&plan[0].v1), ["cpu.cfs_quota_us = 70000"]);
        assert_eq!(shown(&plan[0].v2), ["cpu.max = 70000 200000"]);
    }

    #[test]
    fn what_is_named_again_is_written_again() {
        let pids = Resources { pids_limit: Some(9), ..Resources::default() };
        let plan = update(&pids, &pids, &pids, false).unwrap();
        assert_eq!(shown(&plan[0].v1), ["pids.max = 9"]);
    }

    #[test]
    fn a_pids_limit_is_lifted_by_name() {
        let old = Resources { pids_limit: Some(9), ..Resources::default() };
        let plan = update(&old, &Resources::default(), &Resources::default(), true).unwrap();
        assert_eq!(
            (shown(&plan[0].v1), shown(&plan[0].v2)),
            (vec!["pids.max = max".into()], vec!["pids.max = max".into()])
        );
    }

    #[test]
    fn a_cpuset_keeps_what_was_not_named() {
        let cpus = Resources {
            cpu: CpuLimits { cpus: Some("0".into()), ..CpuLimits::default() },
            ..Resources::default()
        };
        let plan = update(&Resources::default(), &cpus, &cpus, false).unwrap();
        assert_eq!(
            (shown(&plan[0].v1), shown(&plan[0].v2)),
            (vec!["cpuset.cpus = 0".into()], vec!["cpuset.cpus = 0".into()])
        );
    }
}

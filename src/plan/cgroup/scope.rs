//! A container in a scope of systemd: `slice:prefix:name` on a host with a service manager. Pure.
//!
//! systemd makes the scope's cgroup, and gets its limits as properties of the unit: a reload resets the files that
//! systemd has no property for. It delegates the scope, so this crate makes and writes everything below (systemd.io,
//! "Control Group APIs and Delegation"). The plan also writes all limits into the files, because a property is less
//! exact (`CPUQuota` counts whole percents), and not every file has a property.

use super::branches::v2_branch_at;
use super::model::{Branch, HELPER_MEMORY, HELPER_TASKS, Property, PropertyValue, Role, ScopePlan};
use super::place::CgroupLocation;
use super::requested::{CGROUPS_PATH, check_swap, requested};
use super::update::Lifted;
use super::v2;
use crate::error::{Error, Result};
use crate::host::cgroups::CgroupLayout;
use crate::host::facts::{Manager, ScopeUnit, ServiceManager};
use crate::spec::{Resources, SystemdScope};
use std::path::PathBuf;

/// systemd's value for "no limit".
const INFINITY: u64 = u64::MAX;

/// Plans the scope, and the directories below the cgroup that systemd makes for it.
///
/// # Errors
/// [`Unsupported`](crate::error::ErrorKind::Unsupported) naming `linux.cgroupsPath` and what is missing, or the field
/// of a limit whose controller is not available.
pub(super) fn plan(
    resources: &Resources,
    scope: &SystemdScope,
    layout: &CgroupLayout,
    manager: &ServiceManager,
) -> Result<(ScopePlan, Branch)> {
    let refuse = |why: &str| Error::unsupported(CGROUPS_PATH, why);
    let (manager, control_group) = match manager {
        ServiceManager::Running { manager, control_group } => (*manager, control_group),
        ServiceManager::NotBuilt => {
            let why = "the slice:prefix:name form needs the feature \"systemd\", which this program is built without";
            return Err(refuse(why).hint("give a path, such as /docker/ID"));
        }
        ServiceManager::Unreachable { why } => {
            let why = format!("the slice:prefix:name form needs systemd, which was not reached: {why}");
            return Err(refuse(&why).hint("give a path, such as /docker/ID"));
        }
        ServiceManager::NotAsked => return Err(refuse("systemd was not looked for")),
    };
    check_swap(resources)?;
    let unified = match &layout.unified {
        Some(unified) if layout.v1.is_empty() => unified,
        _ => {
            let why =
                "systemd's scopes are used on cgroup v2 alone, and this host has v1 hierarchies or none";
            return Err(refuse(why).hint("give a path, such as /docker/ID"));
        }
    };
    let default_slice = match manager {
        Manager::System => "system.slice",
        Manager::User => "user.slice",
    };
    let slice = scope.slice.as_deref().unwrap_or(default_slice);
    let place = CgroupLocation::named(&control_group.join(below_root(slice)).join(&scope.unit))?;
    let top =
        unified.points.last().ok_or_else(|| refuse("the cgroups of this process were not looked at"))?;
    let requested = requested(resources);
    let has = |name: &str| top.controllers.iter().any(|own| own == name);
    if let Some(missing) = requested.iter().find(|requested| !has(&requested.controller)) {
        return Err(missing.unavailable("cgroup v2 without it in cgroup.controllers"));
    }
    let mut branch = v2_branch_at(top, resources, &requested, &place);
    // systemd owns the directories above the scope, and enables there the controllers that the properties and the
    // delegation need.
    let leaf = branch.dirs.iter().position(|dir| dir.role == Role::Outer).unwrap_or_default();
    branch.dirs.drain(..leaf - 1);
    branch.dirs[0].role = Role::Base;
    branch.dirs[0].writes.clear();
    branch.dirs[1].role = Role::SystemdScope;
    let unit = ScopeUnit::new(&scope.unit, manager);
    Ok((ScopePlan { unit, slice: slice.to_owned(), properties: properties_of_scope(resources) }, branch))
}

/// Where a slice is below the manager's own cgroup: `a-b.slice` is in `a.slice` (systemd.slice(5)).
fn below_root(slice: &str) -> PathBuf {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    match stem {
        "-" => PathBuf::new(),
        _ => ends.map(|end| format!("{}.slice", &stem[..end])).collect(),
    }
}

/// The properties of the scope: the limits, with room for the sandbox, which is in the scope, too.
fn properties_of_scope(resources: &Resources) -> Vec<Property> {
    let mut properties = properties(resources);
    for Property { name, value } in &mut properties {
        let more = match name.as_str() {
            "MemoryMax" => HELPER_MEMORY,
            "TasksMax" => HELPER_TASKS,
            _ => continue,
        };
        if let PropertyValue::Number(limit) = value {
            // No limit stays no limit.
            *limit = limit.saturating_add(more);
        }
    }
    properties
}

/// The limits that systemd has a property for, in its units.
fn properties(resources: &Resources) -> Vec<Property> {
    let mut properties = Vec::new();
    let mut number = |name: &str, value: Option<u64>| {
        let value = value.map(PropertyValue::Number);
        properties.extend(value.map(|value| Property { name: name.into(), value }));
    };
    let (memory, cpu) = (&resources.memory, &resources.cpu);
    let limit = |value: i64| u64::try_from(value).unwrap_or(INFINITY);
    let nonzero = |value: Option<i64>| value.filter(|value| *value != 0);
    number("MemoryMax", nonzero(memory.limit).map(limit));
    let swap = nonzero(memory.swap).map(|swap| match swap {
        ..0 => INFINITY,
        both => limit(both).saturating_sub(memory.limit.map_or(0, limit)),
    });
    number("MemorySwapMax", swap);
    number("MemoryLow", nonzero(memory.reservation).map(limit));
    number("CPUWeight", cpu.shares.map(v2::weight_from_shares));
    number("CPUQuotaPeriodUSec", cpu.period);
    number("CPUQuotaPerSecUSec", cpu.quota.map(|quota| per_second(quota, cpu.period)));
    number("TasksMax", resources.pids_limit);
    for (name, list) in [("AllowedCPUs", &cpu.cpus), ("AllowedMemoryNodes", &cpu.mems)] {
        let value = list.as_deref().map(|list| PropertyValue::Mask(mask(list)));
        properties.extend(value.map(|value| Property { name: name.into(), value }));
    }
    properties
}

/// A change of a scope's limits, and how to undo it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScopeUpdate {
    /// The properties that change.
    pub(crate) change: Vec<Property>,
    /// The same properties with their values before the change.
    pub(crate) back: Vec<Property>,
}

/// Plans the change from the limits `old` to `new`, besides the `lifted`.
pub(crate) fn update_scope(old: &Resources, new: &Resources, lifted: Lifted) -> ScopeUpdate {
    let old = properties_of_scope(old);
    let mut change = properties_of_scope(new);
    if lifted.pids {
        change.push(Property { name: "TasksMax".into(), value: PropertyValue::Number(INFINITY) });
    }
    change.retain(|property| !old.contains(property));
    let before = |property: &Property| {
        let before = old.iter().find(|old| old.name == property.name);
        before.cloned().unwrap_or_else(|| property.unset())
    };
    ScopeUpdate { back: change.iter().map(before).collect(), change }
}

impl Property {
    /// This property with the value that it has while nothing sets it.
    fn unset(&self) -> Self {
        let value = match &self.value {
            PropertyValue::Number(_) if self.name == "MemoryLow" => PropertyValue::Number(0),
            PropertyValue::Number(_) => PropertyValue::Number(INFINITY),
            PropertyValue::Mask(_) => PropertyValue::Mask(Vec::new()),
        };
        Self { name: self.name.clone(), value }
    }
}

/// Microseconds of CPU time in a second, rounded up to a whole percent, which is all that systemd stores.
fn per_second(quota: i64, period: Option<u64>) -> u64 {
    const PERCENT: u128 = 10_000;
    match u128::try_from(quota) {
        Ok(quota @ 1..) => {
            let period = u128::from(period.unwrap_or(v2::DEFAULT_PERIOD_US).max(1));
            let exact = quota * 1_000_000 / period;
            u64::try_from(exact.div_ceil(PERCENT) * PERCENT).unwrap_or(INFINITY)
        }
        _ => INFINITY,
    }
}

/// A valid cpuset(7) list as a mask.
fn mask(list: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>()) else {
            continue;
        };
        for number in first..=last.min(MAX_CPUS) {
            if bytes.len() <= number / 8 {
                bytes.resize(number / 8 + 1, 0);
            }
            bytes[number / 8] |= 1_u8 << (number % 8);
        }
    }
    bytes
}

/// More than any kernel is built for (`NR_CPUS` is at most 8192).
const MAX_CPUS: usize = 65_535;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::cgroups::{CgroupType, DelegationPoint, UnifiedHierarchy};
    use crate::spec::{CpuLimits, MemoryLimits};
    use std::path::Path;

    fn host() -> CgroupLayout {
        let top = DelegationPoint {
            dir: "/cg".into(),
            kind: CgroupType::Root,
            controllers: ["cpu", "cpuset", "memory", "pids"].map(str::to_owned).into(),
            enabled: vec!["pids".into()],
            populated: true,
            // systemd writes for us.
            may_make: false,
            may_move: false,
            may_enable: false,
        };
        let own = "/user.slice/session-1.scope".into();
        let unified =
            UnifiedHierarchy { mountpoint: "/cg".into(), own, bound_by_namespaces: false, points: vec![top] };
        CgroupLayout { v1: Vec::new(), unified: Some(unified) }
    }

    fn system() -> ServiceManager {
        ServiceManager::Running { manager: Manager::System, control_group: "/".into() }
    }

    fn scope(slice: Option<&str>) -> SystemdScope {
        SystemdScope { slice: slice.map(Into::into), unit: "libpod-5f.scope".into() }
    }

    fn shown(properties: &[Property]) -> Vec<String> {
        let value = |value: &PropertyValue| match value {
            PropertyValue::Number(INFINITY) => "infinity".into(),
            PropertyValue::Number(number) => number.to_string(),
            PropertyValue::Mask(mask) => format!("{mask:?}"),
        };
        properties.iter().map(|property| format!("{} = {}", property.name, value(&property.value))).collect()
    }

    #[test]
    fn a_slice_is_in_the_slices_its_dashes_name() {
        for (slice, path) in [
            ("machine.slice", "machine.slice"),
            ("a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice"),
            ("-.slice", ""),
        ] {
            assert_eq!(below_root(slice), Path::new(path), "{slice}");
        }
    }

    #[test]
    fn the_scope_is_systemds_and_what_is_below_it_ours() {
        let resources = Resources { pids_limit: Some(9), ..Resources::default() };
        let (plan, branch) = plan(&resources, &scope(Some("a-b.slice")), &host(), &system()).unwrap();
        let dirs: Vec<_> = branch.dirs.iter().map(|dir| (dir.role, dir.path.to_str().unwrap())).collect();
        assert_eq!(
            dirs,
            [
                (Role::Base, "/cg/a.slice/a-b.slice"),
                (Role::SystemdScope, "/cg/a.slice/a-b.slice/libpod-5f.scope"),
                (Role::Sandbox, "/cg/a.slice/a-b.slice/libpod-5f.scope/sandbox"),
                (Role::Container, "/cg/a.slice/a-b.slice/libpod-5f.scope/container"),
            ]
        );
        assert!(branch.dirs[0].writes.is_empty(), "nothing of systemd's is written");
        assert_eq!([1, 3].map(|dir: usize| branch.dirs[dir].writes.len()), [2, 1]);
        assert_eq!(
            (plan.slice.as_str(), shown(&plan.properties)),
            ("a-b.slice", vec!["TasksMax = 137".into()])
        );
    }

    #[test]
    fn without_a_slice_it_is_the_managers_usual_one() {
        let user = ServiceManager::Running {
            manager: Manager::User,
            control_group: "/user.slice/user-7.slice/user@7.service".into(),
        };
        for (manager, expected) in
            [(system(), "/cg/system.slice"), (user, "/cg/user.slice/user-7.slice/user@7.service/user.slice")]
        {
            let (_, branch) = plan(&Resources::default(), &scope(None), &host(), &manager).unwrap();
            assert_eq!(branch.dirs[0].path, Path::new(expected));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut hybrid = host();
        hybrid.v1 = vec![crate::host::cgroups::V1Hierarchy {
            controllers: vec!["memory".into()],
            mountpoint: "/cg/memory".into(),
            own: "/".into(),
            writable: true,
        }];
        let unreachable = ServiceManager::Unreachable { why: "no bus".into() };
        for (manager, layout, missing) in [
            (&ServiceManager::NotBuilt, host(), "the feature \"systemd\""),
            (&unreachable, host(), "no bus"),
            (&system(), hybrid, "cgroup v2 alone"),
            (&system(), CgroupLayout::default(), "cgroup v2 alone"),
        ] {
            let error = plan(&Resources::default(), &scope(None), &layout, manager).unwrap_err().to_string();
            assert!(error.starts_with("linux.cgroupsPath: ") && error.contains(missing), "{error}");
        }
    }

    #[test]
    fn every_limit_has_its_property() {
        let resources = Resources {
            memory: MemoryLimits {
                limit: Some(1 << 20),
                reservation: Some(1 << 19),
                swap: Some(3 << 20),
                ..MemoryLimits::default()
            },
            cpu: CpuLimits {
                shares: Some(1024),
                quota: Some(12_345),
                period: Some(50_000),
                cpus: Some("0-1,9".into()),
                mems: Some("0".into()),
                ..CpuLimits::default()
            },
            pids_limit: Some(64),
            ..Resources::default()
        };
        assert_eq!(
            shown(&properties(&resources)),
            [
                "MemoryMax = 1048576",
                "MemorySwapMax = 2097152",
                "MemoryLow = 524288",
                "CPUWeight = 100",
                "CPUQuotaPeriodUSec = 50000",
                "CPUQuotaPerSecUSec = 250000",
                "TasksMax = 64",
                "AllowedCPUs = [3, 2]",
                "AllowedMemoryNodes = [1]",
            ]
        );
    }

    #[test]
    fn what_changes_is_known_with_the_way_back() {
        let with = |limit, pids_limit| Resources {
            memory: MemoryLimits { limit, ..MemoryLimits::default() },
            pids_limit,
            ..Resources::default()
        };
        let update = update_scope(&with(None, Some(9)), &with(Some(1 << 20), Some(9)), Lifted::default());
        assert_eq!(
            (shown(&update.change), shown(&update.back)),
            (vec!["MemoryMax = 34603008".into()], vec!["MemoryMax = infinity".into()])
        );
        let update =
            update_scope(&with(None, Some(9)), &with(None, None), Lifted { pids: true, ..Lifted::default() });
        assert_eq!(
            (shown(&update.change), shown(&update.back)),
            (vec!["TasksMax = infinity".into()], vec!["TasksMax = 137".into()])
        );
    }

    #[test]
    fn minus_one_is_no_limit() {
        let resources = Resources {
            memory: MemoryLimits { limit: Some(-1), swap: Some(-1), ..MemoryLimits::default() },
            cpu: CpuLimits { quota: Some(-1), ..CpuLimits::default() },
            ..Resources::default()
        };
        assert_eq!(
            shown(&properties(&resources)),
            ["MemoryMax = infinity", "MemorySwapMax = infinity", "CPUQuotaPerSecUSec = infinity"]
        );
    }
}

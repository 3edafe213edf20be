//! The directories of one hierarchy, with the writes that set the limits in them. Pure.

use super::model::{Branch, Hierarchy, PlannedDir, PlannedWrite, Role, SANDBOX, Value, with_container};
use super::place::{self, CgroupLocation, Unusable};
use super::requested::{CGROUPS_PATH, RequestedLimits};
use super::{v1, v2};
use crate::error::{Error, Result};
use crate::host::cgroups::{CgroupLayout, DelegationPoint, UnifiedHierarchy, V1Hierarchy};
use crate::spec::Resources;
use std::borrow::Cow;

/// If the configuration names a place, the container joins these controllers besides those with limits: a caller who
/// names the cgroup reads its statistics, freezes it, and gives it limits later.
const OBSERVED: [&str; 8] = ["memory", "pids", "cpu", "cpuacct", "freezer", "cpuset", "io", "blkio"];

/// In the v1 hierarchies with one of these controllers the container's own processes have a directory apart from the
/// sandbox's: they are frozen, and may use up their memory and their number of tasks, without the sandbox.
const APART: [&str; 3] = ["freezer", "memory", "pids"];

/// The v1 hierarchies with one of these controllers the sandbox does not join: in the container's directory it would get
/// no processor before all that the workload starts has had its turn, and none after the workload has used up a quota.
const LEFT: [&str; 2] = ["cpu", "cpuset"];

/// What messages call a cgroup that no field asked for.
const FREEZER: &str = "freezer cgroup";

/// The branches in the v1 hierarchies that the `requested` limits are in, and those that only give statistics.
pub(super) fn v1_branches(
    resources: &Resources,
    requested: &[RequestedLimits],
    place: &CgroupLocation,
    layout: &CgroupLayout,
) -> Result<Vec<Branch>> {
    let mut branches = Vec::new();
    // pids first: teardown keeps this order, and closing the pids cgroup to new tasks is what stops a fork bomb.
    let mut hierarchies: Vec<&V1Hierarchy> = layout.v1.iter().collect();
    hierarchies.sort_by_key(|hierarchy| !hierarchy.controllers.iter().any(|own| own == "pids"));
    for hierarchy in hierarchies {
        let has = |name: &str| hierarchy.has(name);
        let limits: Vec<&RequestedLimits> =
            requested.iter().filter(|requested| has(v1::name(&requested.controller))).collect();
        if limits.is_empty() && !(place.explicit && OBSERVED.into_iter().any(has)) {
            continue;
        }
        let field = limits.first().map_or(CGROUPS_PATH.into(), |requested| requested.field.clone());
        let base = place.base(hierarchy);
        if !hierarchy.writable {
            return Err(closed(field, &place::may_not_write(&base)));
        }
        branches.push(v1_branch(hierarchy, resources, field.into_owned(), place));
    }
    Ok(branches)
}

/// The branch in one v1 hierarchy, with those of the limits that its controllers have.
pub(super) fn v1_branch(
    hierarchy: &V1Hierarchy,
    resources: &Resources,
    field: String,
    place: &CgroupLocation,
) -> Branch {
    let has = |name: &str| hierarchy.has(name);
    let apart = APART.into_iter().any(has);
    // Engines, which name the place, read the processor time of the cgroup that the sandbox is in.
    let read_by_engines = place.explicit && has("cpuacct");
    let left = !apart && !read_by_engines && LEFT.into_iter().any(has);
    let mut dirs = place.dirs(place.base(hierarchy), if left { Role::Container } else { Role::Sandbox });
    for dir in dirs.iter_mut().filter(|dir| has("cpuset") && dir.role == Role::Ancestor) {
        dir.writes = v1::inherited_cpuset();
    }
    if let Some(leaf) = dirs.last_mut() {
        let controllers = hierarchy.controllers.iter().map(String::as_str);
        leaf.writes = controllers.flat_map(|controller| v1::writes(controller, resources)).collect();
    }
    if apart {
        dirs = with_container(dirs);
        if has("cpuset") {
            let leaf = dirs.iter_mut().find(|dir| dir.role == Role::Sandbox);
            leaf.expect("it is above the container's").writes.splice(0..0, v1::inherited_cpuset());
        }
    }
    let hierarchy = Hierarchy::V1(hierarchy.controllers.clone());
    Branch { hierarchy, field, dirs, optional: false, named: place.explicit }
}

/// The branch in the unified hierarchy, below the cgroup that [`CgroupLocation::point`] chooses.
pub(super) fn v2_branch(
    resources: &Resources,
    requested: &[RequestedLimits],
    place: &CgroupLocation,
    unified: &UnifiedHierarchy,
) -> Result<Branch> {
    let required = required(requested);
    match place.point(unified, &required) {
        Ok(point) => Ok(v2_branch_at(point, resources, requested, place)),
        Err(Unusable::Closed { why }) => Err(closed(v2_field(requested), &why)),
        Err(Unusable::Without { controller, why }) => Err(unavailable(requested, &controller, &why)),
    }
}

/// The error for the first field that needs a controller that is not there.
fn unavailable(requested: &[RequestedLimits], controller: &str, why: &str) -> Error {
    let requested = requested.iter().find(|requested| requested.controller == controller);
    requested.expect("only a requested controller is missing").unavailable(why).hint(
        "enable it in cgroup.subtree_control of the cgroups above, which hold no processes then, or choose another \
         linux.cgroupsPath",
    )
}

/// The controllers of these, each once.
fn required(requested: &[RequestedLimits]) -> Vec<String> {
    let mut required: Vec<String> = Vec::new();
    for controller in requested.iter().map(|requested| requested.controller.as_ref()) {
        if !required.iter().any(|known| known == controller) {
            required.push(controller.to_owned());
        }
    }
    required
}

fn v2_field(requested: &[RequestedLimits]) -> Cow<'static, str> {
    requested.first().map_or(CGROUPS_PATH.into(), |requested| requested.field.clone())
}

/// The branch that starts at `point`.
pub(super) fn v2_branch_at(
    point: &DelegationPoint,
    resources: &Resources,
    requested: &[RequestedLimits],
    place: &CgroupLocation,
) -> Branch {
    let (field, required) = (v2_field(requested).into_owned(), required(requested));
    // For a path from the top, enable what the top has. Elsewhere do not enable a controller for statistics alone: it
    // would be enabled for the other children of the delegation point, too.
    let available = if place.absolute { &point.controllers } else { &point.enabled };
    let has = |name: &str| available.iter().any(|own| own == name);
    let unrequested = |name: &&str| has(name) && !required.iter().any(|requested| requested == name);
    let observed: Vec<String> = match place.explicit {
        true => OBSERVED.into_iter().filter(unrequested).map(str::to_owned).collect(),
        false => Vec::new(),
    };
    let mut dirs = place.dirs(point.dir.clone(), Role::Outer);
    if let Some(leaf) = dirs.last_mut() {
        leaf.writes = required.iter().flat_map(|controller| v2::writes(controller, resources)).collect();
        // After the others, so that a file which the configuration names keeps the value given for it.
        leaf.writes.extend(resources.unified.iter().map(v2::unified));
    }
    dirs = with_container(dirs);
    let missing = required.iter().any(|name| !point.enabled.contains(name));
    for dir in &mut dirs {
        let enables = match dir.role {
            Role::Base => place.absolute || missing,
            role => matches!(role, Role::Ancestor | Role::Outer),
        };
        if enables && !(required.is_empty() && observed.is_empty()) {
            let value = Value::Enable { required: required.clone(), observed: observed.clone() };
            let (file, field) = ("cgroup.subtree_control".into(), field.clone());
            dir.writes.push(PlannedWrite { file, value, field });
        }
    }
    if let Some(outer) = dirs.iter().position(|dir| dir.role == Role::Outer) {
        let path = dirs[outer].path.join(SANDBOX);
        dirs.insert(outer + 1, PlannedDir { path, role: Role::Sandbox, writes: Vec::new() });
    }
    Branch { hierarchy: Hierarchy::V2, field, dirs, optional: false, named: place.explicit }
}

/// The branch with a cgroup to freeze the container in, for limits that bring none. `None` if the caller may not make
/// one.
pub(super) fn freezer_branch(
    resources: &Resources,
    place: &CgroupLocation,
    layout: &CgroupLayout,
) -> Option<Branch> {
    let field = FREEZER.to_owned();
    if let Some(hierarchy) = layout.v1("freezer") {
        if !hierarchy.writable {
            return None;
        }
        // One level is enough: without limits the sandbox does not join this hierarchy, so it is not frozen.
        let dirs = place.dirs(place.base(hierarchy), Role::Container);
        let hierarchy = Hierarchy::V1(hierarchy.controllers.clone());
        return Some(Branch { hierarchy, field, dirs, optional: true, named: place.explicit });
    }
    let branch = v2_branch(resources, &[], place, layout.unified.as_ref()?).ok()?;
    Some(Branch { field, optional: true, ..branch })
}

/// The error if the caller may not make a cgroup.
fn closed(field: Cow<'static, str>, why: &str) -> Error {
    Error::unsupported(field, format!("no cgroup can be made: {why}"))
        .hint("leave out limits, as best_effort_limits does, and linux.cgroupsPath, or have a cgroup delegated to this user")
}

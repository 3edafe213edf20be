//! Which cgroups a container needs, and what is written into them: `linux.cgroupsPath` and `linux.resources` against
//! the host's layout. Pure: facts about the host come in as a [`CgroupLayout`].
//!
//! [`model`] has the plan as a value. [`requested`](mod@requested) finds the controllers that the limits need, [`place`]
//! chooses the parent cgroup and the names of directories, and [`branches`] makes the directories of each hierarchy from
//! that, with the writes that [`v1`] and [`v2`] spell. [`devices`] adds the device rules, [`scope`] plans a scope of
//! systemd, [`unlimited`] adds cgroups without limits, and [`update`](mod@update) changes the limits of a container that
//! exists.

mod branches;
mod devices;
mod model;
mod place;
mod requested;
mod scope;
mod unlimited;
mod update;
mod v1;
mod v2;

#[cfg(feature = "systemd")]
pub(crate) use model::PropertyValue;
pub(crate) use model::{
    Branch, CONTAINER, CONTAINER_INIT, CgroupPlan, Hierarchy, PlannedDir, PlannedWrite, Property, Role,
    SANDBOX, ScopePlan, Value, exec_leaf_name, with_headroom,
};
pub(crate) use requested::{CGROUPS_PATH, OtherVersion, Version, drop_limits_beside};
pub(crate) use scope::{ScopeUpdate, update_scope};
pub(crate) use update::{ControllerUpdate, Lifted, Spelling, for_exec, not_joined, undo, update};

use crate::error::{Error, Result};
use crate::host::cgroups::{CgroupLayout, UnifiedHierarchy, V1Hierarchy};
use crate::host::facts::ServiceManager;
use crate::id::QualifiedId;
use crate::spec::{Resources, SystemdScope};
use branches::{freezer_branch, v1_branches, v2_branch};
use place::{CgroupLocation, default_name};
use requested::{check_swap, requested, requested_unified};
use std::path::{Path, PathBuf};

/// Plans the cgroups of container `id`.
///
/// Without `cgroups_path` the container uses only the hierarchies that have a limit. Its directory is named
/// `cofferdam-ID-ROOT`, below the caller's own cgroup (v1) or below the one that [`CgroupLocation::point`] chooses (v2). With
/// `cgroups_path` the container also joins the hierarchies that give statistics. An absolute path starts at the
/// hierarchy's mount point, and a relative one where the default name would be ("the runtime MAY interpret the path
/// relative to a runtime-determined location" - OCI config-linux.md).
///
/// With `freeze`, every container has a directory with its own processes and no others, so that it can be paused. If the
/// limits bring none, the plan adds one directory in the v1 freezer hierarchy, which costs the least to join (`tasks`
/// needs no grace period), or without such a hierarchy a branch in the unified one. A caller who may make neither gets a
/// container that cannot be paused.
///
/// # Errors
/// [`Unsupported`](crate::error::ErrorKind::Unsupported) with the first field that cannot be obeyed, because no hierarchy
/// has its controller or the caller may not write there. [`InvalidSpec`](crate::error::ErrorKind::InvalidSpec) for a
/// `cgroupsPath` that is not a plain path, and a swap limit without a memory limit.
pub(crate) fn plan(
    resources: &Resources,
    cgroups_path: Option<&Path>,
    id: QualifiedId<'_>,
    layout: &CgroupLayout,
    freeze: bool,
) -> Result<CgroupPlan> {
    let place = CgroupLocation::new(cgroups_path, id)?;
    let mut branches = limits(resources, cgroups_path, &place, layout)?;
    if freeze && !branches.iter().any(Branch::freezes) {
        branches.extend(freezer_branch(resources, &place, layout));
    }
    Ok(CgroupPlan { branches, delegate_uid: None, scope: None })
}

/// Plans the cgroups of a container in a scope of systemd: one directory below the one that systemd makes.
///
/// # Errors
/// [`Unsupported`](crate::error::ErrorKind::Unsupported) with `linux.cgroupsPath` if the host runs no systemd, if this
/// process did not reach it, or if the host has any cgroup v1 hierarchy; else as [`plan`].
pub(crate) fn plan_scope(
    resources: &Resources,
    scope: &SystemdScope,
    layout: &CgroupLayout,
    manager: &ServiceManager,
) -> Result<CgroupPlan> {
    let (scope, branch) = scope::plan(resources, scope, layout, manager)?;
    Ok(CgroupPlan { branches: vec![branch], delegate_uid: None, scope: Some(scope) })
}

/// The branches that a limit or `cgroups_path` needs.
fn limits(
    resources: &Resources,
    cgroups_path: Option<&Path>,
    place: &CgroupLocation,
    layout: &CgroupLayout,
) -> Result<Vec<Branch>> {
    let (requested, unified) = (requested(resources), requested_unified(resources));
    let mut fields = requested.iter().chain(&unified).map(|requested| requested.field.clone());
    let Some(first_field) = fields.next().or(cgroups_path.map(|_| CGROUPS_PATH.into())) else {
        return Ok(Vec::new());
    };
    check_swap(resources)?;
    if layout.v1.is_empty() && layout.unified.is_none() {
        return Err(Error::unsupported(first_field, "no cgroup hierarchy is mounted"));
    }
    let (on_v1, mut on_v2): (Vec<_>, Vec<_>) =
        requested.into_iter().partition(|limits| layout.v1(v1::name(&limits.controller)).is_some());
    if let Some(only_v1) = on_v2.iter().find_map(|requested| v2::only_v1(&requested.controller, resources)) {
        return Err(OtherVersion(only_v1.into()).on(Version::V2));
    }
    if let (Some(requested), None) = (unified.first(), &layout.unified) {
        return Err(OtherVersion(requested.field.clone()).on(Version::V1));
    }
    on_v2.extend(unified);
    let unified_alone = layout.v1.is_empty();

    let mut branches = v1_branches(resources, &on_v1, place, layout)?;
    if let (Some(unified), true) = (&layout.unified, unified_alone || !on_v2.is_empty()) {
        branches.push(v2_branch(resources, &on_v2, place, unified)?);
    } else if let Some(missing) = on_v2.first() {
        return Err(missing.unavailable("no cgroup hierarchy has it"));
    }
    Ok(branches)
}

/// All directories in which a container of this id may have its cgroups if its configuration names none, the innermost
/// first. A runtime for engines names them after the id alone.
pub(crate) fn default_places(id: QualifiedId<'_>, layout: &CgroupLayout) -> Vec<PathBuf> {
    let v1 = layout.v1.iter().map(V1Hierarchy::own_dir);
    let bases = v1.chain(layout.unified.iter().flat_map(UnifiedHierarchy::point_dirs));
    let names = [default_name(id), id.id.as_str().to_owned()];
    bases
        .flat_map(|base| names.clone().map(|name| base.join(name)))
        .flat_map(|leaf| [leaf.join(CONTAINER), leaf.join(SANDBOX), leaf])
        .collect()
}

#[cfg(test)]
mod tests;

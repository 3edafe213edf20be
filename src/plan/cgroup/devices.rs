//! Where a container's device rules are enforced: in the `devices` hierarchy of v1, else in the unified one. Pure.

use super::{Branch, CgroupPlan, Hierarchy, Place, PlannedWrite, Role};
use crate::cgroup::{CgroupLayout, V1Hierarchy};
use crate::error::Result;
use crate::id::ContainerId;
use crate::plan::devices::{DeviceLimits, FIELD};
use std::path::Path;

impl CgroupPlan {
    /// Adds what enforces `limits`: to the branch of that hierarchy where there is one already, else in one of its own.
    /// Rules the container cannot break anyway are left out where the host enforces none, or may be at last.
    ///
    /// # Errors
    /// [`Unsupported`](crate::error::ErrorKind::Unsupported) for rules that have to be enforced and cannot be.
    pub(crate) fn limit_devices(
        &mut self,
        limits: &DeviceLimits,
        cgroups_path: Option<&Path>,
        id: &ContainerId,
        layout: &CgroupLayout,
        writable: bool,
    ) -> Result<()> {
        if !writable {
            return limits.do_without("the caller may not make a cgroup to refuse it");
        }
        let place = Place::new(cgroups_path, id)?;
        match layout.v1("devices") {
            Some(hierarchy) => self.limit_in_v1(hierarchy, &place, limits),
            None => limits.do_without("no cgroup hierarchy that could refuse it is mounted"),
        }
    }

    fn limit_in_v1(&mut self, hierarchy: &V1Hierarchy, place: &Place, limits: &DeviceLimits) -> Result<()> {
        let own = Hierarchy::V1(hierarchy.controllers.clone());
        let writes = limits.v1_writes()?;
        let at = self.branches.iter().position(|branch| branch.hierarchy == own).unwrap_or_else(|| {
            let dirs = place.dirs(place.base(hierarchy));
            self.branches.push(Branch { hierarchy: own, field: FIELD.into(), dirs, optional: true });
            self.branches.len() - 1
        });
        self.branches[at].add_writes(writes, limits.required);
        Ok(())
    }
}

impl Branch {
    /// Writes more into the leaf.
    fn add_writes(&mut self, writes: impl IntoIterator<Item = PlannedWrite>, required: bool) {
        self.optional &= !required;
        let leaf = self
            .dirs
            .iter_mut()
            .find(|dir| matches!(dir.role, Role::Sandbox | Role::Scope | Role::Container));
        leaf.expect("a branch leads to a leaf").writes.extend(writes);
    }
}

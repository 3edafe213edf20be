//! Which cgroup enforces a container's device rules: the one in the `devices` hierarchy of v1, else the one in the
//! unified hierarchy. Pure.

use super::branches::v2_branch_at;
use super::model::{Branch, CgroupPlan, Hierarchy, PlannedWrite, Role, Value};
use super::place::CgroupLocation;
use crate::error::Result;
use crate::host::cgroups::{CgroupLayout, UnifiedHierarchy, V1Hierarchy};
use crate::id::QualifiedId;
use crate::plan::devices::{DeviceLimits, FIELD};
use crate::spec::Resources;
use std::path::Path;

impl CgroupPlan {
    /// Adds the writes that enforce `limits`, to the plan's branch in that hierarchy or to a new one. If the container
    /// cannot break the rules anyway, a host that cannot enforce them is no error, neither here nor when the writes are
    /// made.
    ///
    /// # Errors
    /// [`Unsupported`](crate::error::ErrorKind::Unsupported) for rules that must be enforced on a host that cannot.
    pub(crate) fn with_device_limits(
        mut self,
        limits: &DeviceLimits,
        cgroups_path: Option<&Path>,
        id: QualifiedId<'_>,
        layout: &CgroupLayout,
    ) -> Result<Self> {
        let place = CgroupLocation::new(cgroups_path, id)?;
        match (layout.v1("devices"), &layout.unified) {
            (Some(hierarchy), _) => self.limit_in_v1(hierarchy, &place, limits),
            (None, Some(unified)) => self.limit_in_v2(unified, &place, limits),
            (None, None) => limits.do_without("no cgroup hierarchy that could refuse it is mounted"),
        }?;
        Ok(self)
    }

    fn limit_in_v1(
        &mut self,
        hierarchy: &V1Hierarchy,
        place: &CgroupLocation,
        limits: &DeviceLimits,
    ) -> Result<()> {
        let own = Hierarchy::V1(hierarchy.controllers.clone());
        if self.branch(&own).is_none() {
            if !hierarchy.writable {
                return limits.do_without(CLOSED);
            }
            let (dirs, field) = (place.dirs(place.base(hierarchy), Role::Sandbox), FIELD.into());
            let hierarchy = own.clone();
            self.branches.push(Branch { hierarchy, field, dirs, optional: true, named: place.explicit });
        }
        let writes = limits.v1_writes()?;
        self.branch(&own).expect("there is one now").write_more(writes, limits.required);
        Ok(())
    }

    fn limit_in_v2(
        &mut self,
        unified: &UnifiedHierarchy,
        place: &CgroupLocation,
        limits: &DeviceLimits,
    ) -> Result<()> {
        if self.branch(&Hierarchy::V2).is_none() {
            // The program needs no controller.
            let Ok(point) = place.point(unified, &[]) else { return limits.do_without(CLOSED) };
            let branch = v2_branch_at(point, &Resources::default(), &[], place);
            self.branches.push(Branch { field: FIELD.into(), optional: true, ..branch });
        }
        let value = Value::Program { program: limits.v2_program()?, required: limits.required };
        let write = PlannedWrite { file: "BPF_CGROUP_DEVICE".into(), value, field: FIELD.into() };
        self.branch(&Hierarchy::V2).expect("there is one now").write_more([write], limits.required);
        Ok(())
    }

    fn branch(&mut self, hierarchy: &Hierarchy) -> Option<&mut Branch> {
        self.branches.iter_mut().find(|branch| branch.hierarchy == *hierarchy)
    }
}

/// Why no cgroup enforces the rules.
const CLOSED: &str = "the caller may not make a cgroup to refuse it";

impl Branch {
    /// Adds writes to the leaf. A `required` one makes the branch required.
    fn write_more(&mut self, writes: impl IntoIterator<Item = PlannedWrite>, required: bool) {
        self.optional &= !required;
        self.leaf_mut().expect("a branch leads to a leaf").writes.extend(writes);
    }
}

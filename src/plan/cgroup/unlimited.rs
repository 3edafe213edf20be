//! Cgroups without limits: they count what a container uses, or let its programs find its limits. Pure.

use super::branches::{v1_branch, v2_branch_at};
use super::model::{Branch, CgroupPlan, Hierarchy, Value};
use super::place::{CgroupLocation, Unusable};
use super::requested::RequestedLimits;
use crate::error::Result;
use crate::host::cgroups::{CgroupLayout, UnifiedHierarchy};
use crate::id::QualifiedId;
use crate::spec::Resources;
use std::path::Path;

/// What messages call the cgroups that the builder's method of this name asks for.
const ACCOUNTING: &str = "accounting";

/// What messages call the cgroups that exist only so that programs find their limits.
const VIEW: &str = "view of the container's cgroups";

/// The v1 controllers that a JVM must find before it looks for limits of any (OpenJDK, `CgroupSubsystemFactory`).
const VIEWED_V1: [&str; 4] = ["memory", "cpu", "cpuacct", "cpuset"];

/// The v1 controllers that count something.
const COUNTING_V1: [&str; 5] = ["memory", "pids", "cpu", "cpuacct", "blkio"];

/// The v2 controllers that count something.
const COUNTING_V2: [&str; 4] = ["memory", "pids", "cpu", "io"];

impl CgroupPlan {
    /// Adds cgroups without limits for the controllers that count, where the caller may make them. A scope needs none:
    /// systemd has everything counted for it.
    ///
    /// # Errors
    /// [`InvalidSpec`](crate::error::ErrorKind::InvalidSpec) for a `cgroupsPath` that is not a plain path.
    pub(crate) fn with_accounting(
        mut self,
        cgroups_path: Option<&Path>,
        id: QualifiedId<'_>,
        layout: &CgroupLayout,
    ) -> Result<Self> {
        if self.scope.is_some() {
            return Ok(self);
        }
        let place = CgroupLocation::new(cgroups_path, id)?;
        self.add_v1(&COUNTING_V1, ACCOUNTING, &place, layout);
        if let (Some(unified), true) = (&layout.unified, layout.v1.is_empty()) {
            self.count_in_v2(unified, &place);
        }
        Ok(self)
    }

    /// Adds the v1 cgroups without which a JVM does not look for limits of memory and processors, if there is a limit to
    /// be found.
    ///
    /// # Errors
    /// As [`with_accounting`](Self::with_accounting).
    pub(crate) fn with_view(
        mut self,
        cgroups_path: Option<&Path>,
        id: QualifiedId<'_>,
        layout: &CgroupLayout,
    ) -> Result<Self> {
        let limits = |branch: &Branch| match &branch.hierarchy {
            Hierarchy::V1(_) => !branch.optional && VIEWED_V1.iter().any(|name| branch.hierarchy.has(name)),
            Hierarchy::V2 => false,
        };
        if self.branches.iter().any(limits) {
            self.add_v1(&VIEWED_V1, VIEW, &CgroupLocation::new(cgroups_path, id)?, layout);
        }
        Ok(self)
    }

    /// Adds a branch without limits in each v1 hierarchy that has one of the `controllers` and no branch yet, for `field`,
    /// where the caller may make one.
    fn add_v1(&mut self, controllers: &[&str], field: &str, place: &CgroupLocation, layout: &CgroupLayout) {
        for hierarchy in layout.v1.iter().filter(|hierarchy| hierarchy.writable) {
            let own = Hierarchy::V1(hierarchy.controllers.clone());
            let wanted = controllers.iter().any(|controller| hierarchy.has(controller));
            if wanted && !self.branches.iter().any(|branch| branch.hierarchy == own) {
                let branch = v1_branch(hierarchy, &Resources::default(), field.to_owned(), place);
                self.branches.push(Branch { optional: true, ..branch });
            }
        }
        // pids first, as for limits: teardown keeps this order, and closing the pids cgroup stops a fork bomb.
        self.branches.sort_by_key(
            |branch| !matches!(&branch.hierarchy, Hierarchy::V1(own) if own.iter().any(|name| name == "pids")),
        );
    }

    /// Replaces the branch of the unified hierarchy by one whose controllers count, unless a limit has placed it already.
    fn count_in_v2(&mut self, unified: &UnifiedHierarchy, place: &CgroupLocation) {
        if self.branches.iter().any(|branch| branch.hierarchy == Hierarchy::V2 && !branch.optional) {
            return;
        }
        let somewhere = |name: &String| place.point(unified, std::slice::from_ref(name)).is_ok();
        let mut wanted: Vec<String> = COUNTING_V2.map(str::to_owned).into_iter().filter(somewhere).collect();
        let point = loop {
            match place.point(unified, &wanted) {
                Ok(point) => break point,
                Err(Unusable::Without { controller, .. }) => wanted.retain(|other| *other != controller),
                Err(Unusable::Closed { .. }) => return,
            }
        };
        let counting = wanted.iter().map(|controller| RequestedLimits {
            controller: controller.clone().into(),
            field: ACCOUNTING.into(),
        });
        let counting: Vec<_> = counting.collect();
        let mut branch = v2_branch_at(point, &Resources::default(), &counting, place);
        for write in branch.dirs.iter_mut().flat_map(|dir| &mut dir.writes) {
            if let Value::Enable { required, observed } = &mut write.value {
                observed.append(required);
            }
        }
        self.branches.retain(|branch| branch.hierarchy != Hierarchy::V2);
        self.branches.push(Branch { field: ACCOUNTING.into(), optional: true, ..branch });
    }
}

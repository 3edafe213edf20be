//! Control groups: where a container's limits sit, and the one place that creates and removes their directories.
//!
//! What lives here: the host's cgroup layout as a value ([`CgroupLayout`]), the effects of a
//! [`CgroupPlan`](crate::plan::cgroup::CgroupPlan) ([`Cgroup`]), what the sandbox needs to read afterwards
//! ([`OomEvidence`]) and the removal of recorded cgroups ([`destroy`]). What may not: any choice of path, controller or
//! value, which is the plan's; and any move of the caller, which stays in the cgroups it was found in.
//!
//! ```text
//!   v2                                          v1, in each joined hierarchy      v1 freezer
//!   <base>/<name>            sandbox, limits    <base>/<name>  everything         <base>/<name>            sandbox
//!   <base>/<name>/container  its processes                                        <base>/<name>/container  its processes
//! ```
//!
//! On v2 no controller is enabled in `<name>`, so the rule against processes in inner cgroups does not bite, and the
//! kernel's counters of `<name>` cover both. Freezing or killing `container` never stops the sandbox.

mod dir;
mod evidence;
mod group;
mod layout;
mod teardown;
mod v1;
mod v2;

pub(crate) use evidence::OomEvidence;
pub(crate) use group::{CONTAINER_DIR, CONTAINER_JOIN, Cgroup, EVIDENCE_OOM, EVIDENCE_PEAK, SANDBOX_JOIN};
pub(crate) use layout::{CgroupLayout, UnifiedHierarchy, V1Hierarchy};
pub(crate) use teardown::{destroy, prune};

#[cfg(test)]
mod tests;

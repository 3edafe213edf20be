//! Control groups: where a container's limits sit, and the one place that creates and removes their directories.
//!
//! What lives here: the effects of a [`CgroupPlan`](crate::plan::cgroup::CgroupPlan) ([`Cgroup`]), what the sandbox needs to read afterwards
//! ([`OomEvidence`]) and the removal of recorded cgroups ([`destroy`], [`Remover`]). What may not: any choice of path, controller or
//! value, which is the plan's; and any move of the caller, which stays in the cgroups it was found in.
//!
//! ```text
//!   v2                                          v1, in each hierarchy with limits   v1 freezer
//!   <base>/<name>            sandbox, limits    <base>/<name>  everything           <base>/<name>  its processes
//!   <base>/<name>/container  its processes
//! ```
//!
//! On v2 no controller is enabled in `<name>`, so the rule against processes in inner cgroups does not bite, and the
//! kernel's counters of `<name>` cover both. On v1 the sandbox has no business in the freezer's hierarchy, unless the
//! configuration names a place: then it is in `<name>`, and its processes in `<name>/container`, as on v2. Freezing or
//! killing the container never stops the sandbox.
//!
//! Where nothing is limited, the freezer's is the only directory there is. It is v1's where the host has one, also
//! beside a mounted v2: joining it is one write to `tasks` (20 us), while a move through v2's `cgroup.procs`, which a
//! container with a user namespace needs, may wait for an RCU grace period (10 to 20 ms).

mod devices;
mod dir;
mod freezer;
mod group;
mod kill;
mod oom;
mod remover;
pub(crate) mod stats;
pub(crate) mod systemd;
mod teardown;
pub(crate) mod update;

pub(crate) use devices::enforces as enforces_devices;
pub(crate) use freezer::{Freezer, RECHECK};
pub(crate) use group::{CONTAINER_DIR, CONTAINER_JOIN, Cgroup, EVIDENCE_OOM, EVIDENCE_PEAK, SANDBOX_JOIN};
pub(crate) use oom::{OomEvidence, OomWatch};
pub(crate) use remover::Remover;
pub(crate) use teardown::{destroy, prune, remove_when_empty, thaw};

#[cfg(test)]
use teardown::destroy_within;
#[cfg(test)]
mod tests;

//! Control groups: makes, limits, reads, freezes and removes those of a container. No other module makes or removes
//! one.
//!
//! What lives here: the effects of a [`CgroupPlan`](crate::plan::cgroup::CgroupPlan) ([`Cgroup`]), what the sandbox
//! needs to read afterwards ([`OomEvidence`]) and the removal of recorded cgroups ([`destroy`], [`Remover`]). What may
//! not: choosing a path, a controller or a value, which the plan does; or moving the caller out of its own cgroups.
//!
//! ```text
//!   v2                                          v1, in each hierarchy with limits   v1 freezer
//!   <base>/<name>            sandbox, limits    <base>/<name>  everything           <base>/<name>  its processes
//!   <base>/<name>/container  its processes
//! ```
//!
//! On v2 no controller is enabled in `<name>`, so the rule against processes in inner cgroups does not apply, and the
//! kernel's counters of `<name>` cover both. On v1 the sandbox has no cgroup in the freezer's hierarchy, unless the
//! configuration names a path: then it is in `<name>`, and the container's processes are in `<name>/container`, as on
//! v2. Freezing or killing the container never stops the sandbox.
//!
//! A container without limits has only the freezer's directory. It is in v1's hierarchy where the host has one, also
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

//! Control groups: makes, limits, reads, freezes and removes those of a container. No other module makes or removes
//! one.
//!
//! What lives here: the effects of a [`CgroupPlan`](crate::plan::cgroup::CgroupPlan) ([`Cgroup`]), what the sandbox
//! needs to read afterwards ([`OomEvidence`]) and the removal of recorded cgroups ([`destroy`], [`Remover`]). What may
//! not: choosing a path, a controller or a value, which the plan does; or moving the caller out of its own cgroups.
//!
//! ```text
//!   v2                                   v1: memory, pids                       v1: others     v1 freezer
//!   <base>/<name>            room        <base>/<name>            sandbox, room <base>/<name>  <base>/<name>
//!   <base>/<name>/sandbox    sandbox                                            all, limits    its processes
//!   <base>/<name>/container  its         <base>/<name>/container  its
//!                 processes, limits                    processes, limits
//! ```
//!
//! The limits are those of the container's own processes (`container`). The helpers are outside of them, so that a
//! workload at its limit neither takes tasks from the sandbox nor has it killed. What is above both, `<name>`, has the
//! limits of memory and tasks plus room for the helpers, so that the container as a whole is bounded, too.
//!
//! On v1 the sandbox has no cgroup in the freezer's hierarchy, unless the configuration names a path: then it is in
//! `<name>`, and the container's processes are in `<name>/container`, as for memory. Freezing or killing the container
//! never stops the sandbox.
//!
//! Where the configuration names a path, the sandbox is in the cgroup above `<name>` in v1's hierarchy of tasks, so that
//! engines do not count it: see [`Cgroup::join_fds`].
//!
//! An executed process with limits of its own has a leaf below its container's directory: see [`leaf`]. It can also join
//! cgroups that exist there: see [`join`].
//!
//! A container without limits has only the freezer's directory. It is in v1's hierarchy where the host has one, also
//! beside a mounted v2: joining it is one write to `tasks` (20 us), while a move through v2's `cgroup.procs`, which a
//! container with a user namespace needs, may wait for an RCU grace period (10 to 20 ms).

mod devices;
mod dir;
mod freezer;
mod group;
mod join;
mod kill;
mod leaf;
mod members;
mod oom;
mod remover;
mod snapshot;
pub(crate) mod stats;
pub(crate) mod systemd;
mod teardown;
pub(crate) mod update;

pub(crate) use devices::enforces as enforces_devices;
pub(crate) use freezer::{Freezer, RECHECK, frozen_dir};
pub(crate) use group::{
    CONTAINER_DIR, CONTAINER_JOIN, Cgroup, EVIDENCE_OOM, EVIDENCE_PEAK, SANDBOX_BACK, SANDBOX_JOIN,
    SANDBOX_SHOWN,
};
pub(crate) use join::{ExecJoin, SubCgroups};
pub(crate) use leaf::{ExecLeaf, NewLeaf, Split};
pub(crate) use oom::{OomEvidence, OomWatch};
pub(crate) use remover::Remover;
pub(crate) use snapshot::{Snapshot, watched_files};
pub(crate) use teardown::{destroy, prune, remove_when_empty, thaw, thaw_nested};

#[cfg(test)]
use teardown::destroy_within;
#[cfg(test)]
mod tests;

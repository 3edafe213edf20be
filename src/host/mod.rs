//! What this machine is, and what this caller may do on it.
//!
//! [`facts`], [`cgroups`], [`id_region`] and [`mod@machine`] are pure values: plans are made from them, and tests write
//! them down. [`mod@probe`] looks at what is there, and [`obstacle`] tries what the kernel may refuse, and says why it
//! does.

pub(crate) mod cgroups;
pub(crate) mod facts;
pub(crate) mod id_region;
pub(crate) mod machine;
mod obstacle;
mod probe;

pub(crate) use obstacle::{DEFAULT_NAMESPACES, Obstacle, namespaces_obstacle};
pub(crate) use probe::{Caller, Needs, cgroup_layout, in_user_namespace, machine, probe, security_modules};
#[cfg(test)]
pub(crate) use probe::{cgroups_for, count};

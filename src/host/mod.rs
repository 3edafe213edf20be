//! What this machine is, and what this caller may do on it.
//!
//! [`facts`] and [`cgroups`] are pure values: plans are made from them, and tests write them down. [`mod@probe`] is the
//! only file that looks.

pub(crate) mod cgroups;
pub(crate) mod facts;
mod probe;

pub(crate) use probe::{Caller, Needs, cgroup_layout, in_user_namespace, probe, security_modules};
#[cfg(test)]
pub(crate) use probe::{cgroups_for, count};

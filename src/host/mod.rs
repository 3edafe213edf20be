//! What this machine is, and what this caller may do on it.
//!
//! [`facts`], [`cgroups`] and [`delegation`] are plain values, which plans are made from; [`mod@probe`] is what looks.

mod cgroups;
mod delegation;
mod facts;
mod probe;

#[cfg(test)]
pub(crate) use cgroups::below;
pub(crate) use cgroups::{CgroupLayout, UnifiedHierarchy, V1Hierarchy};
#[cfg(any(test, fuzzing))]
pub(crate) use delegation::CgroupType;
pub(crate) use delegation::DelegationPoint;
pub(crate) use facts::{Host, IdRange, SecurityModules, ServiceManager, SystemDir};
pub use facts::{Manager, ScopeUnit};
pub(crate) use probe::{Needs, in_user_namespace, probe, security_modules};

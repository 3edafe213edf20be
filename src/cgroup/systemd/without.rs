//! The requests in a program that is built without a D-Bus client.

use crate::error::{Error, Result};
use crate::host::facts::{ScopeUnit, ServiceManager};
use crate::plan::cgroup::{Property, ScopePlan};

pub(crate) fn find() -> ServiceManager {
    ServiceManager::NotBuilt
}

pub(crate) fn start(_: &ScopePlan, _: i32) -> Result<()> {
    Err(not_built())
}

/// Of a container that a program with the client made.
pub(crate) fn set_properties(_: &ScopeUnit, _: &[Property]) -> Result<()> {
    Err(not_built())
}

/// Of a container that a program with the client made. The unit goes by itself when its cgroup is empty.
pub(crate) fn remove(unit: &ScopeUnit) -> Result<()> {
    tracing::debug!(unit = unit.name, "left to systemd, which sees that nothing is in it");
    Ok(())
}

fn not_built() -> Error {
    Error::unsupported("linux.cgroupsPath", "this program is built without the feature \"systemd\"")
}

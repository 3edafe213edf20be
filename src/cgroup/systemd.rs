//! Scopes of systemd: starts them around a sandbox, changes and stops them, over D-Bus.
//!
//! What lives here: the four requests, and their answers in a program that is built without the feature `systemd`. What
//! may not: choosing a unit, a slice or a property, which the [plan](crate::plan::cgroup::ScopePlan) does.
//!
//! ```text
//!   caller                         systemd                              sandbox
//!     |-- clone ------------------------------------------------------> waits, in the caller's cgroup
//!     |-- StartTransientUnit(PIDs) -> makes SLICE/UNIT.scope, moves it -> is in the scope
//!     |<- JobRemoved(done) ----------|
//!     |-- writes limits, makes UNIT.scope/container
//!     |-- Begin, with the descriptors of both -------------------------> makes namespaces, forks init into container
//! ```
//!
//! systemd starts a scope only with a process in it. The sandbox is the only process of ours that exists then and can
//! wait, so it is made first and gets the descriptors of its cgroups later. The caller is never in the scope.
//!
//! The client is zbus, because it is maintained, needs no C library, and runs on any executor. Its own executor would
//! leave threads in the caller that never end. So each conversation has a tokio runtime on a thread of its own (the
//! caller's thread may be inside a runtime already), and both end before the call returns. What stays is a pair of
//! close-on-exec sockets that tokio makes once in a process for its signal handling, which we do not use. (rustbus
//! blocks and needs neither, but depends on crates of 2022.)

#[cfg(feature = "systemd")]
mod bus;
#[cfg(feature = "systemd")]
mod manager;

#[cfg(feature = "systemd")]
pub(crate) use manager::{find, remove, set_properties, start};
#[cfg(not(feature = "systemd"))]
pub(crate) use without::{find, remove, set_properties, start};

#[cfg(not(feature = "systemd"))]
mod without {
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

    /// The container was made by a program with the client.
    pub(crate) fn set_properties(_: &ScopeUnit, _: &[Property]) -> Result<()> {
        Err(not_built())
    }

    /// The container was made by a program with the client. systemd removes the unit when its cgroup is empty.
    pub(crate) fn remove(unit: &ScopeUnit) -> Result<()> {
        tracing::debug!(unit = unit.name, "left to systemd, which removes a scope when its cgroup is empty");
        Ok(())
    }

    fn not_built() -> Error {
        Error::unsupported("linux.cgroupsPath", "this program is built without the feature \"systemd\"")
    }
}

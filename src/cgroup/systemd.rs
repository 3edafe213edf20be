//! Scopes of systemd's: started around a sandbox, changed and stopped, over D-Bus.
//!
//! What lives here: the four requests, and their answers in a program that is built without the feature `systemd`. What
//! may not: any choice of unit, slice or property, which is the [plan's](crate::plan::cgroup::ScopePlan).
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
//! A scope has a process from its first moment, and the sandbox is the only one of ours that is there and can wait, so
//! it is made first and gets the descriptors of its cgroups later. The caller is never in the scope.
//!
//! The crate is zbus: it is the one that is maintained, has no C library below it, and runs on an executor of one's
//! choice. Its own would leave threads in the caller that never end; so each conversation has a tokio runtime of one
//! thread, on a thread of its own, since the caller's may be inside a runtime already, and when the call returns both
//! are gone. What stays is a pair of close-on-exec sockets that tokio makes once in a process, for signals it is not
//! asked about. (rustbus, which blocks and needs neither, stands on crates of 2022.)

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

    /// Of a container that a program with the client made.
    pub(crate) fn set_properties(_: &ScopeUnit, _: &[Property]) -> Result<()> {
        Err(not_built())
    }

    /// Of a container that a program with the client made. The unit goes by itself when its cgroup is empty.
    pub(crate) fn remove(unit: &ScopeUnit) -> Result<()> {
        tracing::debug!(unit = unit.name, "left to systemd, which removes a scope when its cgroup is empty");
        Ok(())
    }

    fn not_built() -> Error {
        Error::unsupported("linux.cgroupsPath", "this program is built without the feature \"systemd\"")
    }
}

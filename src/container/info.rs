//! [`Info`]: a copy of a container's record, for programs that show containers.

use super::typestate::{AnyContainer, Container, Phase};
use crate::error::Error;
use crate::id::ContainerId;
use crate::process::ProcessIdentity;
use crate::state::{Record, Status};
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A copy of a container's record, as the container value last saved or loaded it. Changing it has no effect.
///
/// A record is a hint, and the kernel knows the truth. Processes are recorded with their start time, because another
/// process may have the pid by now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Info {
    /// The container.
    pub id: ContainerId,
    /// The container whose sandbox it runs in: itself, or the root container of its pod.
    pub pod: ContainerId,
    /// The status that was last recorded.
    pub status: Status,
    /// When the id was claimed, to a millisecond.
    pub created_at: SystemTime,
    /// How often the record was saved, which happens at least with each change of the phase.
    pub generation: u64,
    /// The directory of the bundle it was made from; without a bundle, the directory of its rootfs.
    pub bundle: PathBuf,
    /// The sandbox, once the container's environment is complete.
    pub sandbox: Option<ProcessIdentity>,
    /// The gofer, once it was made.
    pub gofer: Option<ProcessIdentity>,
    /// The workload's first process, once it was made.
    pub init: Option<ProcessIdentity>,
    /// Its cgroup directories, absolute: one on cgroup v2, one for each controller in use on v1. Its own processes are
    /// in the directory `container` of each that has one, which has their limits. The sandbox is beside that directory
    /// (v2) or above it (v1), and the limits of memory and tasks above it leave room for the sandbox.
    pub cgroups: Vec<PathBuf>,
    /// The systemd unit that its cgroup belongs to: `prefix-name.scope`.
    pub scope: Option<String>,
    /// The configured limits that are not in force, by their fields in the configuration
    /// (`linux.resources.memory.limit`). Empty unless
    /// [`best_effort_limits`](crate::ContainerBuilder::best_effort_limits) allowed it.
    pub unapplied_limits: Vec<String>,
    /// The sandbox's control socket, absolute.
    pub control_socket: PathBuf,
    /// The PID file, absolute, if the builder set one.
    pub pid_file: Option<PathBuf>,
    /// Whether the container ends with the program that created it.
    pub attached: bool,
}

impl From<&Record> for Info {
    fn from(record: &Record) -> Self {
        Self {
            id: record.id.clone(),
            pod: record.sandbox_id.clone(),
            status: record.status(),
            created_at: UNIX_EPOCH + Duration::from_millis(record.created_at),
            generation: record.generation(),
            bundle: record.bundle.clone(),
            sandbox: record.sandbox,
            gofer: record.gofer,
            init: record.init,
            cgroups: record.cgroups.clone(),
            scope: record.scope.as_ref().map(|scope| scope.name.clone()),
            unapplied_limits: record.unapplied_limits.clone(),
            control_socket: record.control_socket.clone(),
            pid_file: record.pid_file.clone(),
            attached: record.attached,
        }
    }
}

impl<P: Phase + ?Sized> Container<P> {
    /// A copy of the container's record, as this value last saved or loaded it.
    #[must_use]
    pub fn info(&self) -> Info {
        Info::from(self.record())
    }

    /// The configuration it was made with, as the text of a `config.json`: as it was read, with the limits that
    /// [`update`](Container::update) set since. It may hold secrets among the variables of `process.env`.
    #[must_use]
    pub fn config(&self) -> &str {
        self.record().spec.text()
    }
}

/// One entry of [`AnyContainer::list`]. Closed on purpose: a record can be read, or it cannot.
#[derive(Debug)]
pub enum Listed {
    /// A container.
    Container(Box<AnyContainer>),
    /// A record that cannot be read. Its neighbours are not affected.
    Damaged {
        /// The id, or the part of it that the file's name has.
        id: String,
        /// What is wrong with it.
        error: Error,
    },
}

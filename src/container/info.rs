//! [`Info`]: what is recorded of a container, for those who look at one.

use super::typestate::{AnyContainer, Container, Phase};
use crate::error::Error;
use crate::id::ContainerId;
use crate::process::ProcessIdentity;
use crate::state::{Record, Status};
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is recorded of a container, as the value that was asked last saved or loaded it: a copy, which changes nothing.
///
/// A record is a hint and the kernel is the truth. Processes are named with their start time, because a pid alone may
/// be another process by now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Info {
    /// The container.
    pub id: ContainerId,
    /// The container whose sandbox it runs in: itself, or the root container of its pod.
    pub pod: ContainerId,
    /// The status last written down.
    pub status: Status,
    /// When the id was claimed, to a millisecond.
    pub created_at: SystemTime,
    /// How often the record was saved: it grows whenever a program moves the container.
    pub generation: u64,
    /// The directory of the bundle it was made from; of its rootfs, if it was made without one.
    pub bundle: PathBuf,
    /// The sandbox, once the container's environment is complete.
    pub sandbox: Option<ProcessIdentity>,
    /// The gofer, once it was made.
    pub gofer: Option<ProcessIdentity>,
    /// The workload's first process, once it was made.
    pub init: Option<ProcessIdentity>,
    /// Its cgroup directories, absolute: one on cgroup v2, one for each controller in use on v1.
    pub cgroups: Vec<PathBuf>,
    /// The unit of systemd's that its cgroup belongs to: `prefix-name.scope`.
    pub scope: Option<String>,
    /// The limits that were asked for and are not in force, by their fields in the configuration
    /// (`linux.resources.memory.limit`). Empty unless
    /// [`best_effort_limits`](crate::ContainerBuilder::best_effort_limits) allowed it.
    pub unapplied_limits: Vec<String>,
    /// The sandbox's control socket, absolute.
    pub control_socket: PathBuf,
    /// The PID file, absolute, if one was asked for.
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
    /// What is recorded of the container, as this value last saved or loaded it.
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
        /// The id, as far as the file's name tells.
        id: String,
        /// What is wrong with it.
        error: Error,
    },
}

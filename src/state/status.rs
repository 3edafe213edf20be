//! The phases of a container, and the table of transitions between them. Imports nothing, because errors name a phase.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The phase of a container. `Display` gives the words of the OCI runtime specification (runtime.md, "State").
///
/// ```text
/// creating --> created --> running <--> paused
///     |           |           |            |
///     +-----------+-----------+------------+--> stopped
/// ```
///
/// Closed on purpose: these are the specification's four and `paused`, and another would be a new typestate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// "The container is being created."
    Creating,
    /// "The runtime has finished the create operation", the workload's program has not been started.
    Created,
    /// "The container process has executed the user-specified program but has not exited."
    Running,
    /// Running, but frozen.
    Paused,
    /// "The container process has exited."
    Stopped,
}

impl Status {
    /// The transition table: whether a container in this status may enter `next`.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Creating => matches!(next, Self::Created | Self::Stopped),
            Self::Created => matches!(next, Self::Running | Self::Stopped),
            Self::Running => matches!(next, Self::Paused | Self::Stopped),
            Self::Paused => matches!(next, Self::Running | Self::Stopped),
            Self::Stopped => false,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

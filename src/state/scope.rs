//! The name of a scope unit, as a container's record keeps it: pure.

use serde::{Deserialize, Serialize};

/// A scope unit of systemd's, and which of its managers has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ScopeUnit {
    /// The unit, `prefix-name.scope`.
    pub name: String,
    /// The manager that has it.
    pub manager: Manager,
}

impl ScopeUnit {
    /// The unit `name` of `manager`.
    #[must_use]
    pub fn new(name: impl Into<String>, manager: Manager) -> Self {
        Self { name: name.into(), manager }
    }
}

/// One of systemd's managers. Closed on purpose: a container is the host's or a user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// The host's, on the system bus.
    System,
    /// The calling user's own, on the user's bus.
    User,
}

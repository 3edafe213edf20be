//! The property `cofferdam` of a `config.json`: settings for which the specification has none.
//!
//! A property of its own, and no annotations: engines pass annotations on that come from an image, and an image must not
//! change how its container runs. No engine passes other properties on.

use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;

/// The property's name. "Runtimes [...] MUST NOT generate an error if they encounter an unknown property" - OCI config.md
pub(crate) const SETTINGS: &str = "cofferdam";

/// What a bundle says about a container beyond the specification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Settings {
    /// A writable layer in memory over the root, with this many bytes; with 0, as many as the kernel allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scratch: Option<u64>,
    /// Show the rootfs with its ids mapped into the container's user namespace.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) idmapped_rootfs: bool,
    /// How long the workload may run, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<NonZeroU64>,
    /// Leave the caller's supplementary groups to the workload.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) keep_caller_groups: bool,
    /// Make no cgroup that neither a limit nor a path asks for.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) without_cgroup: bool,
    /// Make PID 1 a process that collects orphans.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) init: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

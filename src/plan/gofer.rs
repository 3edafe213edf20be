//! What the gofer does: turn host paths into detached mounts, in order, and remove the cgroups that a killed caller
//! leaves.

use crate::spec::{IdMaps, MountAttrs, RootfsPropagation};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The gofer's work: what it makes before it hands over, and what it may have to remove in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GoferPlan {
    /// Whether it must enter the sandbox's user namespace first: an unprivileged caller may mount nowhere else.
    pub(crate) join_user_namespace: bool,
    /// The mounts to make; init refers to them by position.
    pub(crate) items: Vec<GoferItem>,
    /// Size of the memory that backs writable layers, shared by all overlays of the container.
    pub(crate) scratch_size: Option<u64>,
    /// Owner of the writable layers, as host ids.
    pub(crate) scratch_owner: (u32, u32),
    /// The first word of errors about the configuration: `config.json` or `builder`.
    pub(crate) origin: String,
    /// `process.oomScoreAdj`: it is worth to its container what the container is.
    pub(crate) oom_score_adj: Option<i32>,
    /// Whether mount events of the host are to reach the container (slave), and the container's the host (shared).
    pub(crate) propagation: RootfsPropagation,
}

/// One detached mount to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GoferItem {
    pub(crate) source: GoferSource,
    /// With which ids its files are shown.
    pub(crate) ids: IdMapping,
    pub(crate) set: MountAttrs,
    pub(crate) clear: MountAttrs,
    pub(crate) set_recursive: MountAttrs,
    pub(crate) clear_recursive: MountAttrs,
    /// Whether a source that does not exist is skipped.
    pub(crate) optional: bool,
    /// Whether the source has to be a directory: the root.
    pub(crate) directory: bool,
    /// The configuration field this serves, for errors.
    pub(crate) field: String,
}

/// How the ids of files are shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum IdMapping {
    AsOnDisk,
    /// As the container's user namespace maps them.
    ThroughUserNamespace {
        recursive: bool,
    },
    /// As these maps say.
    Through {
        maps: IdMaps,
        recursive: bool,
    },
}

/// Where the mount comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum GoferSource {
    /// A bind of this host path.
    Bind { path: PathBuf, recursive: bool },
    /// This host path with a writable layer of its own on top.
    Overlay { lower: PathBuf },
    /// A new instance of this file system.
    New { file_system: String, source: Option<String>, options: Vec<String> },
}

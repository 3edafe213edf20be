//! The gofer's plan: it makes detached mounts of host paths, in order.

use super::owner::{OwnRange, OwnerMapping};
use crate::spec::{IdMaps, MountAttrs, RootfsPropagation};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The gofer's work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GoferPlan {
    /// Whether it enters the sandbox's user namespace first: without privileges it may mount only there.
    pub(crate) join_user_namespace: bool,
    /// The mounts to make. Init's plan refers to them by position.
    pub(crate) items: Vec<GoferItem>,
    /// Size of the memory that backs writable layers, shared by all overlays of the container.
    pub(crate) scratch_size: Option<u64>,
    /// Owner of the writable layers, as host ids.
    pub(crate) scratch_owner: (u32, u32),
    /// The first word of errors about the configuration: `config.json` or `builder`.
    pub(crate) origin: String,
    /// `process.oomScoreAdj`, so that the OOM killer treats the gofer like the workload.
    pub(crate) oom_score_adj: Option<i32>,
    /// Whether mount events of the host reach the container (slave), and those of the container the host (shared).
    pub(crate) propagation: RootfsPropagation,
}

/// One detached mount to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GoferItem {
    pub(crate) source: GoferSource,
    /// How the mount shows the ids of files.
    pub(crate) ids: IdMapping,
    pub(crate) set: MountAttrs,
    pub(crate) clear: MountAttrs,
    pub(crate) set_recursive: MountAttrs,
    pub(crate) clear_recursive: MountAttrs,
    /// Whether to skip a source that does not exist.
    pub(crate) optional: bool,
    /// Whether the source must be a directory, as that of the root must.
    pub(crate) directory: bool,
    /// The configuration field this serves, for errors.
    pub(crate) field: String,
}

/// How a mount shows the ids of files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum IdMapping {
    AsOnDisk,
    /// As the container's user namespace maps them.
    ThroughUserNamespace {
        recursive: bool,
    },
    /// Shows the ids on disk of containers as those of the container's own range, if the file system can map ids.
    OwnRange(OwnRange),
    /// Shows the owner of the source as the container's user, if the gofer finds that this takes a mapping.
    OwnerAsUser(OwnerMapping),
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
    /// A new device node.
    Node(NodeNumbers),
}

/// A device node: its type and permission bits as in `st_mode`, its number, and its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeNumbers {
    pub(crate) mode: u32,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

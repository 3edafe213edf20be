//! The parts of `linux` that are not namespaces or resources: id mappings, devices, propagation of the root.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One line of `uid_map` or `gid_map` (user_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// First id inside the container.
    pub container: u32,
    /// First id on the host.
    pub host: u32,
    /// How many ids; at least 1, neither end passes `u32::MAX`.
    pub size: u32,
}

/// `linux.uidMappings` and `linux.gidMappings`: without overlaps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// `uidMappings`.
    pub uids: Vec<IdMap>,
    /// `gidMappings`.
    pub gids: Vec<IdMap>,
}

/// One entry of `linux.devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// `path` inside the container: absolute.
    pub path: PathBuf,
    /// `type`.
    pub kind: DeviceKind,
    /// `major`; 0 for a FIFO.
    pub major: u32,
    /// `minor`; 0 for a FIFO.
    pub minor: u32,
    /// `fileMode`, permission bits only; 0o666 where absent.
    pub mode: u32,
    /// `uid` inside the container.
    pub uid: u32,
    /// `gid` inside the container.
    pub gid: u32,
}

/// `linux.devices[].type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// `c` or `u`.
    Char,
    /// `b`.
    Block,
    /// `p`.
    Fifo,
}

/// `linux.rootfsPropagation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RootfsPropagation {
    /// `private`, also where the field is absent.
    #[default]
    Private,
    /// `slave`.
    Slave,
    /// `shared`.
    Shared,
    /// `unbindable`.
    Unbindable,
}

//! `mounts`: destinations, types and the options of mount(8), split into what the kernel calls attributes,
//! propagation and file system parameters.

use bitflags::bitflags;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One entry of `mounts`, its options taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `destination`: absolute, without `..`.
    pub destination: PathBuf,
    /// What is mounted.
    pub kind: MountKind,
    /// Attributes to set on the mount (mount_setattr(2)).
    pub set: MountAttrs,
    /// Attributes to clear.
    pub clear: MountAttrs,
    /// Attributes to set on the whole tree (`rro`, `rnosuid`, ...).
    pub set_recursive: MountAttrs,
    /// Attributes to clear on the whole tree (`rrw`, `rsuid`, ...).
    pub clear_recursive: MountAttrs,
    /// Propagation, where an option names one.
    pub propagation: Option<Propagation>,
    /// `tmpcopyup`: a new tmpfs starts with a copy of what the image has at its destination.
    pub tmpcopyup: bool,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MountKind {
    /// A bind of a host path: option `bind` or `rbind`, whatever the type says.
    Bind {
        /// `source`: absolute, relative ones were joined to the bundle directory.
        source: PathBuf,
        /// `rbind`.
        recursive: bool,
    },
    /// A new instance of `proc`, of the container's pid namespace.
    Proc,
    /// A new instance of `sysfs`, of the container's network namespace.
    Sysfs,
    /// A new `tmpfs`; on `/dev` this is the device directory.
    Tmpfs {
        /// Parameters for the file system (`size=64k`, `mode=1777`).
        options: Vec<String>,
    },
    /// A new instance of `devpts`.
    Devpts {
        /// Parameters for the file system (`ptmxmode=0666`, `gid=5`).
        options: Vec<String>,
    },
    /// The message queues of the container's ipc namespace.
    Mqueue,
    /// The container's own cgroups (`cgroup` or `cgroup2`).
    Cgroup,
}

bitflags! {
    /// Mount attributes, with the values of `MOUNT_ATTR_*` (mount_setattr(2)).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(transparent)]
    pub struct MountAttrs: u64 {
        /// `ro`.
        const RDONLY = 0x1;
        /// `nosuid`.
        const NOSUID = 0x2;
        /// `nodev`.
        const NODEV = 0x4;
        /// `noexec`.
        const NOEXEC = 0x8;
        /// `noatime`.
        const NOATIME = 0x10;
        /// `strictatime`.
        const STRICTATIME = 0x20;
        /// `nodiratime`.
        const NODIRATIME = 0x80;
        /// `nosymfollow`.
        const NOSYMFOLLOW = 0x0020_0000;
    }
}

/// How mount events cross a mount (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the eight words of mount(8)")]
pub enum Propagation {
    Private,
    RPrivate,
    Slave,
    RSlave,
    Shared,
    RShared,
    Unbindable,
    RUnbindable,
}

//! `mounts`: destinations, types and the options of mount(8), split into what the kernel calls attributes,
//! propagation and file system parameters.

use super::Origin;
use super::field::{Field, shorten};
use super::mount_options::{self, Options};
use crate::error::Result;
use bitflags::bitflags;
use oci_spec::runtime;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

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

/// Checks `mounts`.
pub(super) fn mounts(
    document: &Field<'_>,
    mounts: &[runtime::Mount],
    bundle: Option<&Path>,
) -> Result<Vec<Mount>> {
    let field = document.key("mounts");
    mounts.iter().enumerate().map(|(index, mount)| Mount::new(&field.index(index), mount, bundle)).collect()
}

impl Mount {
    /// Checks a further mount for a container that exists, by the rules for `mounts`.
    ///
    /// # Errors
    /// As for an entry of `mounts`; paths begin with `mount`.
    pub fn further(mount: &runtime::Mount) -> Result<Self> {
        Self::new(&Field::document(Origin::HotMount).key("mount"), mount, None)
    }

    /// Checks the destination of a mount that has no options to check: that of a `kind` of things that `origin` names.
    ///
    /// # Errors
    /// One that is relative, contains `..`, or is the root itself.
    pub fn check_destination(origin: Origin, kind: &str, destination: &Path) -> Result<PathBuf> {
        Field::document(origin).key(kind).key("destination").below_root(destination)
    }

    fn new(field: &Field<'_>, mount: &runtime::Mount, bundle: Option<&Path>) -> Result<Self> {
        let mapped = |maps: &Option<Vec<_>>| maps.as_ref().is_some_and(|maps| !maps.is_empty());
        field.key("uidMappings").refuse_if(mapped(mount.uid_mappings()))?;
        field.key("gidMappings").refuse_if(mapped(mount.gid_mappings()))?;

        let destination = field.key("destination").inside(mount.destination())?;
        let words = field.key("options");
        let mut options = Options::new(&words, mount.options().as_deref().unwrap_or_default())?;
        let parameters = std::mem::take(&mut options.parameters);
        let kind = MountKind::new(field, mount, options.bind, parameters, bundle)?;
        if let Some(index) = options.tmpcopyup
            && !matches!(kind, MountKind::Tmpfs { .. })
        {
            return Err(words.index(index).error("only a tmpfs can start with a copy"));
        }
        Ok(Self {
            destination,
            kind,
            set: options.set,
            clear: options.clear,
            set_recursive: options.set_recursive,
            clear_recursive: options.clear_recursive,
            propagation: options.propagation,
            tmpcopyup: options.tmpcopyup.is_some(),
        })
    }
}

impl MountKind {
    fn new(
        field: &Field<'_>,
        mount: &runtime::Mount,
        bind: Option<bool>,
        parameters: Vec<(usize, String)>,
        bundle: Option<&Path>,
    ) -> Result<Self> {
        let words = field.key("options");
        let file_system = mount.typ().as_deref().unwrap_or_default();
        // "A mount is a bind mount if it has either `bind` or `rbind` in the options." - OCI config.md. The type does
        // not decide; "bind" as a type, without the option, can mean nothing else.
        if let Some(recursive) = bind.or_else(|| (file_system == "bind").then_some(false)) {
            mount_options::parameters(&words, parameters, &[])?;
            let Some(source) = mount.source() else {
                return Err(field.key("source").error("is missing"));
            };
            return Ok(Self::Bind { source: field.key("source").on_host(source, bundle)?, recursive });
        }
        let kind = match file_system {
            "tmpfs" => {
                let options = mount_options::parameters(&words, parameters, mount_options::TMPFS)?;
                return Ok(Self::Tmpfs { options });
            }
            "devpts" => {
                let options = mount_options::parameters(&words, parameters, mount_options::DEVPTS)?;
                return Ok(Self::Devpts { options });
            }
            "proc" => Self::Proc,
            "sysfs" => Self::Sysfs,
            "mqueue" => Self::Mqueue,
            "cgroup" | "cgroup2" => Self::Cgroup,
            "" | "none" => {
                let error = field.key("type").error("is missing");
                return Err(error.hint("name a file system, or add the option \"bind\""));
            }
            other => {
                let error =
                    field.key("type").error(format_args!("unknown file system type {:?}", shorten(other)));
                return Err(
                    error.hint("known are proc, sysfs, tmpfs, devpts, mqueue, cgroup, cgroup2 and bind")
                );
            }
        };
        mount_options::parameters(&words, parameters, &[])?;
        Ok(kind)
    }
}

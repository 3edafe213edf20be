//! `mounts`: destinations, types and the options of mount(8), split into the kernel's attributes, propagation and file
//! system parameters.

use super::field::{Field, Origin};
use super::linux::id_maps;
use super::mount_options::{self, MountAttrs, Options, Propagation};
use super::{IdMaps, NamespaceSource};
use crate::error::Result;
use oci_spec::runtime;
use std::path::{Path, PathBuf};

/// One entry of `mounts`, its options parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// `destination`: absolute, without `..`.
    pub(crate) destination: PathBuf,
    /// What is mounted.
    pub(crate) kind: MountKind,
    /// `source` of a new file system, where there is one: a block device, a remote directory, or only a name.
    pub(crate) source: Option<String>,
    /// Attributes to set on the mount (mount_setattr(2)).
    pub(crate) set: MountAttrs,
    /// Attributes to clear.
    pub(crate) clear: MountAttrs,
    /// Attributes to set on the whole tree (`rro`, `rnosuid`, ...).
    pub(crate) set_recursive: MountAttrs,
    /// Attributes to clear on the whole tree (`rrw`, `rsuid`, ...).
    pub(crate) clear_recursive: MountAttrs,
    /// Propagation, where an option names one.
    pub(crate) propagation: Option<Propagation>,
    /// `tmpcopyup`: a new tmpfs starts with a copy of what the image has at its destination.
    pub(crate) tmpcopyup: bool,
    /// `idmap` or `ridmap`, or mappings.
    pub(crate) id_mapping: Option<MountIdMapping>,
    /// Whether the owner of a bind's source is the container's user inside: `true` for every owner.
    pub(crate) map_owner: Option<bool>,
}

/// The ids with which a bind shows its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountIdMapping {
    /// `uidMappings` and `gidMappings`; those of the container's user namespace where there are none.
    pub(crate) maps: Option<IdMaps>,
    /// `ridmap`: the whole tree.
    pub(crate) recursive: bool,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum MountKind {
    /// A bind of a host path: option `bind` or `rbind`, whatever the type says.
    Bind {
        /// `source`: absolute, relative ones were joined to the bundle directory.
        source: PathBuf,
        /// `rbind`.
        recursive: bool,
    },
    /// A new instance of `proc`, of the container's pid namespace.
    Proc {
        /// Parameters for the file system (`hidepid=2`).
        options: Vec<String>,
    },
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
    /// The container's own cgroups: the unified hierarchy, or a directory with one entry for each v1 hierarchy.
    Cgroup,
    /// The container's own cgroup of the unified hierarchy (`cgroup2`).
    Cgroup2,
    /// A new instance of any other file system.
    Other {
        /// `type`, which the kernel has to know.
        file_system: String,
        /// Parameters for the file system.
        options: Vec<String>,
    },
}

/// Checks `mounts`.
pub(super) fn mounts(
    document: &Field<'_>,
    mounts: &[runtime::Mount],
    bundle: Option<&Path>,
    user: &NamespaceSource,
) -> Result<Vec<Mount>> {
    let field = document.key("mounts");
    let check = |(index, mount)| Mount::new(&field.index(index), mount, bundle, user);
    mounts.iter().enumerate().map(check).collect()
}

impl Mount {
    /// Checks a further mount for a container that exists, by the rules for `mounts`.
    ///
    /// # Errors
    /// As for an entry of `mounts`; paths begin with `mount`.
    pub(crate) fn further(mount: &runtime::Mount) -> Result<Self> {
        Self::new(&Field::document(Origin::HotMount).key("mount"), mount, None, &NamespaceSource::Inherit)
    }

    /// Checks the destination of a mount that has no options. Errors name the field `KIND.destination`.
    ///
    /// # Errors
    /// One that is relative, contains `..`, or is the root itself.
    pub(crate) fn check_destination(origin: Origin, kind: &str, destination: &Path) -> Result<PathBuf> {
        Field::document(origin).key(kind).key("destination").below_root(destination)
    }

    fn new(
        field: &Field<'_>,
        mount: &runtime::Mount,
        bundle: Option<&Path>,
        user: &NamespaceSource,
    ) -> Result<Self> {
        let destination = field.key("destination").inside(mount.destination())?;
        let words = field.key("options");
        let mut options = Options::new(&words, mount.options().as_deref().unwrap_or_default())?;
        let parameters = (std::mem::take(&mut options.superblock), std::mem::take(&mut options.parameters));
        let kind = MountKind::new(field, mount, options.bind, parameters, bundle)?;
        if let Some(index) = options.tmpcopyup
            && !matches!(kind, MountKind::Tmpfs { .. })
        {
            return Err(words.index(index).error("only a tmpfs can start with a copy"));
        }
        let is_bind = matches!(kind, MountKind::Bind { .. });
        let source = if is_bind { None } else { name(&field.key("source"), mount.source().as_deref())? };
        let id_mapping = MountIdMapping::new(field, mount, options.idmap, is_bind, user)?;
        let map_owner = match options.map_owner {
            Some((index, _)) if !is_bind || id_mapping.is_some() => {
                return Err(words.index(index).error("needs a bind without another mapping of ids"));
            }
            map_owner => map_owner.map(|(_, always)| always),
        };
        Ok(Self {
            destination,
            kind,
            source,
            set: options.set,
            clear: options.clear,
            set_recursive: options.set_recursive,
            clear_recursive: options.clear_recursive,
            propagation: options.propagation,
            tmpcopyup: options.tmpcopyup.is_some(),
            id_mapping,
            map_owner,
        })
    }
}

/// The longest string that fsconfig(2) takes.
const MAX_NAME: usize = 255;

/// How many bytes of options mount(2) takes: a page, with the NUL at the end.
const MAX_OPTIONS: usize = 4095;

/// Whether this option, `key=value` or a flag, is longer than fsconfig(2) takes.
pub(crate) fn exceeds_fsconfig(option: &str) -> bool {
    let (key, value) = option.split_once('=').unwrap_or((option, ""));
    key.len().max(value.len()) > MAX_NAME
}

/// Refuses options that are too long. `takes_page` says that mount(2) takes those which fsconfig(2) does not: all of them
/// together, separated by commas.
fn check_lengths(
    words: &Field<'_>,
    superblock: &[String],
    parameters: &[(usize, String)],
    takes_page: bool,
) -> Result<()> {
    let Some((index, long)) = parameters.iter().find(|(_, word)| exceeds_fsconfig(word)) else {
        return Ok(());
    };
    let (field, length) = (words.index(*index), long.len());
    if !takes_page {
        return Err(field.error(format_args!("is {length} bytes long, the limit is {MAX_NAME}")));
    }
    let all = || superblock.iter().chain(parameters.iter().map(|(_, word)| word));
    let total = all().map(|word| word.len() + 1).sum::<usize>() - 1;
    if total > MAX_OPTIONS {
        return Err(field.error(format_args!(
            "is {length} bytes long, and the limit for all options together is {MAX_OPTIONS}"
        )));
    }
    match parameters.iter().find(|(_, word)| word.contains(',')) {
        Some((index, _)) => Err(words
            .index(*index)
            .error(format_args!("contains a comma, and another option is longer than {MAX_NAME} bytes"))),
        None => Ok(()),
    }
}

/// The `source` of a new file system, unless it is empty.
fn name(field: &Field<'_>, source: Option<&Path>) -> Result<Option<String>> {
    let Some(source) = source.filter(|source| !source.as_os_str().is_empty()) else { return Ok(None) };
    let source = source.to_str().ok_or_else(|| field.error("is not UTF-8"))?;
    field.c_string(source)?;
    match source.len() {
        ..=MAX_NAME => Ok(Some(source.to_owned())),
        length => Err(field.error(format_args!("is {length} bytes long, the limit is {MAX_NAME}"))),
    }
}

impl MountIdMapping {
    /// "If the `uidMappings` or `gidMappings` are specified for the mount, the runtime MUST use those values for the
    /// mount's mapping. If they are not specified, the runtime MAY use the container's user namespace mapping,
    /// otherwise an error MUST be returned." - OCI config.md
    fn new(
        field: &Field<'_>,
        mount: &runtime::Mount,
        idmap: Option<(usize, bool)>,
        is_bind: bool,
        user: &NamespaceSource,
    ) -> Result<Option<Self>> {
        let maps = IdMaps {
            uids: id_maps(&field.key("uidMappings"), mount.uid_mappings().as_deref().unwrap_or_default())?,
            gids: id_maps(&field.key("gidMappings"), mount.gid_mappings().as_deref().unwrap_or_default())?,
        };
        let mapped = !maps.uids.is_empty() || !maps.gids.is_empty();
        let options = field.key("options");
        let place = idmap.map_or_else(|| field.key("uidMappings"), |(index, _)| options.index(index));
        if idmap.is_none() && !mapped {
            return Ok(None);
        }
        if !is_bind {
            return Err(place.error("only a bind can show files with other ids"));
        }
        for (name, map) in [("uidMappings", &maps.uids), ("gidMappings", &maps.gids)] {
            if mapped && map.is_empty() {
                return Err(field
                    .key(name)
                    .error("is empty, and the other is not")
                    .hint("map both, or neither"));
            }
        }
        if !mapped && *user == NamespaceSource::Inherit {
            let error = place.error("needs mappings, or a user namespace to take them from");
            return Err(error.hint("add uidMappings and gidMappings to the mount"));
        }
        let recursive = idmap.is_some_and(|(_, recursive)| recursive);
        Ok(Some(Self { maps: mapped.then_some(maps), recursive }))
    }
}

impl MountKind {
    fn new(
        field: &Field<'_>,
        mount: &runtime::Mount,
        bind: Option<bool>,
        (superblock, parameters): (Vec<String>, Vec<(usize, String)>),
        bundle: Option<&Path>,
    ) -> Result<Self> {
        let words = field.key("options");
        let file_system = mount.typ().as_deref().unwrap_or_default();
        // "A mount is a bind mount if it has either `bind` or `rbind` in the options." - OCI config.md. The type does
        // not decide, but "bind" as a type without the option can mean nothing else.
        if let Some(recursive) = bind.or_else(|| (file_system == "bind").then_some(false)) {
            mount_options::refuse_mistakes(&words, &parameters)?;
            let Some(source) = mount.source() else {
                return Err(field.key("source").error("is missing"));
            };
            return Ok(Self::Bind { source: field.key("source").on_host(source, bundle)?, recursive });
        }
        let is_other =
            !["tmpfs", "devpts", "proc", "sysfs", "mqueue", "cgroup", "cgroup2"].contains(&file_system);
        check_lengths(&words, &superblock, &parameters, is_other)?;
        let kind = match file_system {
            "tmpfs" => {
                let options = mount_options::parameters(&words, parameters, mount_options::TMPFS)?;
                return Ok(Self::Tmpfs { options });
            }
            "devpts" => {
                let options = mount_options::parameters(&words, parameters, mount_options::DEVPTS)?;
                return Ok(Self::Devpts { options });
            }
            "proc" => {
                let options = mount_options::parameters(&words, parameters, mount_options::PROC)?;
                return Ok(Self::Proc { options });
            }
            "sysfs" => Self::Sysfs,
            "mqueue" => Self::Mqueue,
            "cgroup" => Self::Cgroup,
            "cgroup2" => Self::Cgroup2,
            "" | "none" => {
                let error = field.key("type").error("is missing");
                return Err(error.hint("name a file system, or add the option \"bind\""));
            }
            other => {
                field.key("type").c_string(other)?;
                let parameters = parameters.into_iter().map(|(_, word)| word);
                let options = superblock.into_iter().chain(parameters).collect();
                return Ok(Self::Other { file_system: other.to_owned(), options });
            }
        };
        mount_options::parameters(&words, parameters, &[])?;
        Ok(kind)
    }
}

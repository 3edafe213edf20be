//! The parts of `linux` that have no file of their own: id mappings, devices, paths, propagation of the root.

use super::field::{Field, shorten};
use super::namespaces::time_offsets;
use super::net_devices::net_devices;
use super::sysctl::sysctl;
use super::{
    CgroupsPath, MemoryPolicy, NamespaceSource, Namespaces, NetDevice, Personality, Resources, TimeOffset,
    seccomp,
};
use crate::error::Result;
use oci_spec::runtime;
use oci_spec::runtime::{LinuxDeviceType, LinuxIdMapping};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// One line of `uid_map` or `gid_map` (user_namespaces(7)).
///
/// Closed on purpose: callers write it as a literal, and the kernel has these three numbers.
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
pub(crate) struct IdMaps {
    /// `uidMappings`.
    pub(crate) uids: Vec<IdMap>,
    /// `gidMappings`.
    pub(crate) gids: Vec<IdMap>,
}

/// One entry of `linux.devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    /// `path` inside the container: absolute.
    pub(crate) path: PathBuf,
    /// `type`.
    pub(crate) kind: DeviceKind,
    /// `major`; 0 for a FIFO.
    pub(crate) major: u32,
    /// `minor`; 0 for a FIFO.
    pub(crate) minor: u32,
    /// `fileMode`, permission bits only; 0o666 where absent.
    pub(crate) mode: u32,
    /// `uid` inside the container.
    pub(crate) uid: u32,
    /// `gid` inside the container.
    pub(crate) gid: u32,
}

/// `linux.devices[].type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DeviceKind {
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
pub(crate) enum RootfsPropagation {
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

/// `linux`, validated; all that [`super::ValidSpec`] takes from it. An absent section is the default.
#[derive(Default)]
pub(super) struct LinuxSection {
    pub(super) namespaces: Namespaces,
    pub(super) id_maps: IdMaps,
    pub(super) time_offsets: Vec<TimeOffset>,
    pub(super) devices: Vec<Device>,
    pub(super) net_devices: Vec<NetDevice>,
    pub(super) cgroups_path: Option<CgroupsPath>,
    pub(super) resources: Resources,
    pub(super) sysctl: BTreeMap<String, String>,
    pub(super) seccomp: Option<runtime::LinuxSeccomp>,
    pub(super) rootfs_propagation: RootfsPropagation,
    pub(super) mount_label: Option<String>,
    pub(super) personality: Option<Personality>,
    pub(super) memory_policy: Option<MemoryPolicy>,
    pub(super) masked_paths: Vec<PathBuf>,
    pub(super) readonly_paths: Vec<PathBuf>,
}

impl LinuxSection {
    /// Checks `linux`.
    pub(super) fn new(field: &Field<'_>, linux: &runtime::Linux) -> Result<Self> {
        // "MUST write the container process ID to the `tasks` file in a proper sub-directory in a mounted `resctrl`
        // pseudo-filesystem" - OCI config-linux.md. Unsupported, because it has never been tested on a machine with a
        // resctrl.
        if linux.intel_rdt().is_some() {
            let field = field.key("intelRdt");
            return Err(field.unsupported("is not supported: nothing here writes to a resctrl file system"));
        }
        let namespaces = Namespaces::new(field, linux.namespaces().as_deref().unwrap_or_default())?;
        if let Some(profile) = linux.seccomp() {
            seccomp::check(field, profile)?;
        }
        Ok(Self {
            id_maps: IdMaps::new(field, linux, &namespaces)?,
            time_offsets: time_offsets(field, linux.time_offsets().as_ref(), &namespaces)?,
            devices: devices(&field.key("devices"), linux.devices().as_deref().unwrap_or_default())?,
            net_devices: net_devices(field, linux.net_devices().as_ref(), &namespaces)?,
            cgroups_path: CgroupsPath::new(&field.key("cgroupsPath"), linux.cgroups_path().as_deref())?,
            resources: Resources::new(field, linux.resources().as_ref())?,
            sysctl: sysctl(field, linux.sysctl().as_ref(), &namespaces)?,
            seccomp: linux.seccomp().clone(),
            rootfs_propagation: rootfs_propagation(
                &field.key("rootfsPropagation"),
                linux.rootfs_propagation().as_deref(),
            )?,
            mount_label: label(&field.key("mountLabel"), linux.mount_label())?,
            personality: linux
                .personality()
                .as_ref()
                .map(|personality| Personality::new(&field.key("personality"), personality))
                .transpose()?,
            memory_policy: linux
                .memory_policy()
                .as_ref()
                .map(|policy| MemoryPolicy::new(&field.key("memoryPolicy"), policy))
                .transpose()?,
            masked_paths: container_paths(&field.key("maskedPaths"), linux.masked_paths().as_deref())?,
            readonly_paths: container_paths(&field.key("readonlyPaths"), linux.readonly_paths().as_deref())?,
            namespaces,
        })
    }
}

/// A label of a security module, whose meaning the kernel checks. An empty one counts as absent.
pub(super) fn label(field: &Field<'_>, label: &Option<String>) -> Result<Option<String>> {
    let label = label.as_deref().filter(|label| !label.is_empty());
    label.map(|label| field.c_string(label).map(|_| label.to_owned())).transpose()
}

/// The most lines of a `uid_map` (user_namespaces(7), since Linux 4.15).
const MAX_ID_MAPS: usize = 340;

impl IdMap {
    /// Whether `id` of the container is in this map.
    pub(super) fn holds(&self, id: u32) -> bool {
        id.checked_sub(self.container).is_some_and(|offset| offset < self.size)
    }
}

impl IdMaps {
    /// Checks `linux.uidMappings` and `linux.gidMappings`.
    ///
    /// A joined user namespace has its mappings already. Those in the document, a placeholder of the engine, are
    /// checked and dropped.
    fn new(field: &Field<'_>, linux: &runtime::Linux, namespaces: &Namespaces) -> Result<Self> {
        let read = |name: &str, maps: &Option<Vec<LinuxIdMapping>>| {
            let (field, maps) = (field.key(name), maps.as_deref().unwrap_or_default());
            let hint = "add {\"type\": \"user\"} to linux.namespaces";
            match namespaces.user {
                NamespaceSource::Inherit if !maps.is_empty() => {
                    return Err(field.error("needs a user namespace").hint(hint));
                }
                NamespaceSource::New if maps.is_empty() => {
                    return Err(field.error("is empty, and a new user namespace needs it"));
                }
                _ => {}
            }
            id_maps(&field, maps)
        };
        let maps = Self {
            uids: read("uidMappings", linux.uid_mappings())?,
            gids: read("gidMappings", linux.gid_mappings())?,
        };
        match namespaces.user {
            NamespaceSource::New => Ok(maps),
            NamespaceSource::Inherit | NamespaceSource::Path(_) => Ok(Self::default()),
        }
    }
}

/// Checks the mappings at `field`.
pub(super) fn id_maps(field: &Field<'_>, maps: &[LinuxIdMapping]) -> Result<Vec<IdMap>> {
    if maps.len() > MAX_ID_MAPS {
        return Err(field.error(format_args!("has {} entries, the limit is {MAX_ID_MAPS}", maps.len())));
    }
    let mut checked: Vec<IdMap> = Vec::with_capacity(maps.len());
    for (index, map) in maps.iter().enumerate() {
        let field = field.index(index);
        let map = IdMap { container: map.container_id(), host: map.host_id(), size: map.size() };
        if map.size == 0 {
            return Err(field.key("size").error("is 0"));
        }
        for (name, first) in [("containerID", map.container), ("hostID", map.host)] {
            if first.checked_add(map.size).is_none() {
                return Err(field.key("size").error(format_args!("{name} plus size is above {}", u32::MAX)));
            }
        }
        for (other, earlier) in checked.iter().enumerate() {
            for (name, a, b) in
                [("containerID", map.container, earlier.container), ("hostID", map.host, earlier.host)]
            {
                if a < b + earlier.size && b < a + map.size {
                    let problem = format!("overlaps the range of entry {other}");
                    return Err(field.key(name).error(problem));
                }
            }
        }
        checked.push(map);
    }
    Ok(checked)
}

/// The highest numbers of a device in the kernel (`MINORBITS` in linux/kdev_t.h).
const MAX_MAJOR: u32 = 0xfff;
const MAX_MINOR: u32 = 0xf_ffff;

/// Checks `linux.devices`.
fn devices(field: &Field<'_>, devices: &[runtime::LinuxDevice]) -> Result<Vec<Device>> {
    let mut paths = HashSet::new();
    let mut checked = Vec::with_capacity(devices.len());
    for (index, device) in devices.iter().enumerate() {
        let field = field.index(index);
        let device = Device::new(&field, device)?;
        if !paths.insert(device.path.clone()) {
            return Err(field.key("path").error(format_args!("{:?} appears twice", device.path)));
        }
        checked.push(device);
    }
    Ok(checked)
}

impl Device {
    fn new(field: &Field<'_>, device: &runtime::LinuxDevice) -> Result<Self> {
        let number = |name: &str, number: i64, max: u32| match u32::try_from(number) {
            Ok(number) if number <= max => Ok(number),
            _ => Err(field.key(name).error(format_args!("{number} is not between 0 and {max}"))),
        };
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Char,
            LinuxDeviceType::B => DeviceKind::Block,
            LinuxDeviceType::P => DeviceKind::Fifo,
            LinuxDeviceType::A => {
                let error = field.key("type").error("\"a\" names no single device");
                return Err(error.hint("use c, b, u or p"));
            }
        };
        let (major, minor) = match kind {
            DeviceKind::Fifo => (0, 0),
            DeviceKind::Char | DeviceKind::Block => {
                (number("major", device.major(), MAX_MAJOR)?, number("minor", device.minor(), MAX_MINOR)?)
            }
        };
        Ok(Self {
            path: field.key("path").below_root(device.path())?,
            kind,
            major,
            minor,
            // Engines copy st_mode of the host's node, with its type bits. The type is in `kind`.
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        })
    }
}

/// Checks `linux.maskedPaths` or `linux.readonlyPaths`.
fn container_paths(field: &Field<'_>, paths: Option<&[String]>) -> Result<Vec<PathBuf>> {
    let paths = paths.unwrap_or_default();
    paths.iter().enumerate().map(|(index, path)| field.index(index).below_root(Path::new(path))).collect()
}

/// Checks `linux.rootfsPropagation`. For the root mount the recursive words mean the same as the plain ones.
fn rootfs_propagation(field: &Field<'_>, word: Option<&str>) -> Result<RootfsPropagation> {
    match word.unwrap_or_default() {
        "" | "private" | "rprivate" => Ok(RootfsPropagation::Private),
        "slave" | "rslave" => Ok(RootfsPropagation::Slave),
        "shared" | "rshared" => Ok(RootfsPropagation::Shared),
        "unbindable" | "runbindable" => Ok(RootfsPropagation::Unbindable),
        word => {
            let error = field.error(format_args!("unknown propagation {:?}", shorten(word)));
            Err(error.hint("use private, slave, shared or unbindable"))
        }
    }
}

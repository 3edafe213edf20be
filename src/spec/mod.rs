//! The configuration after validation: every field parsed once, every rule of the OCI runtime specification that can
//! be decided without touching the host already decided.
//!
//! What lives here: [`ValidSpec`] and its parts, one file per section of the specification. What may not: anything that
//! looks at the host. The plan and the gofer find out whether a controller is available or a path exists.

mod attributes;
mod capabilities;
mod cgroups_path;
mod cri;
mod device_rules;
mod document;
mod field;
mod hooks;
mod json;
mod linux;
mod mount_options;
mod mounts;
mod namespaces;
mod net_devices;
mod process;
mod resources;
mod rlimit;
mod seccomp;
mod settings;
mod sysctl;
#[cfg(test)]
mod tests;
mod typed;

pub(crate) use attributes::{ExecCpuAffinity, IoPriority, MemoryPolicy, NumberSet, Personality, Scheduler};
pub(crate) use capabilities::{CapSet, Capabilities, parse_capability_set};
pub(crate) use cgroups_path::{CgroupsPath, SystemdScope};
pub(crate) use cri::PodRole;
pub(crate) use device_rules::{DeviceAccess, DeviceRule, DeviceRuleKind};
pub(crate) use document::{MAX_CONFIG_BYTES, parse, parse_process, parse_with_settings};
pub(crate) use field::Origin;
pub use hooks::HookKind;
pub(crate) use hooks::{Hook, Hooks};
#[cfg(test)]
pub(crate) use json::MAX_CONFIG_DEPTH;
pub use linux::IdMap;
pub(crate) use linux::{Device, DeviceKind, IdMaps, RootfsPropagation};
pub use mount_options::mount_options;
pub(crate) use mount_options::{MAP_OWNER, MAP_OWNER_BUT_ROOT, MountAttrs, Propagation};
pub(crate) use mounts::{Mount, MountKind, exceeds_fsconfig};
pub(crate) use namespaces::{NamespaceKind, NamespaceSource, Namespaces, TimeOffset};
pub(crate) use net_devices::NetDevice;
pub(crate) use process::{ConsoleSize, Rlimit, User, ValidProcess};
pub use resources::DeviceNumber;
pub(crate) use resources::{
    BlockIo, CpuLimits, InterfacePriority, MemoryLimits, Resources, Throttle, UnifiedValue,
};
#[cfg(test)]
pub(crate) use resources::{DeviceWeight, HugepageLimit, NetworkClass, RdmaLimit};
pub use rlimit::Resource;
pub(crate) use settings::{SETTINGS, Settings};

use crate::error::Result;
use field::Field;
use linux::LinuxSection;
use oci_spec::runtime;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// A configuration that passed every check that needs no host.
///
/// Built only by [`ValidSpec::new`], so holding one is the proof.
#[derive(Clone, Debug)]
pub(crate) struct ValidSpec {
    /// Where it comes from: the first word of every error about it.
    pub(crate) origin: Origin,
    /// `root.path`, absolute: a relative one was joined to the bundle directory.
    pub(crate) root_path: PathBuf,
    /// `root.readonly`.
    pub(crate) root_readonly: bool,
    /// `process`.
    pub(crate) process: ValidProcess,
    /// `hostname`; only with a uts namespace.
    pub(crate) hostname: Option<String>,
    /// `domainname`; only with a uts namespace.
    pub(crate) domainname: Option<String>,
    /// `mounts`, in the order given.
    pub(crate) mounts: Vec<Mount>,
    /// `linux.namespaces`.
    pub(crate) namespaces: Namespaces,
    /// `linux.timeOffsets`: only with a new time namespace.
    pub(crate) time_offsets: Vec<TimeOffset>,
    /// `linux.uidMappings` and `linux.gidMappings`; empty without a user namespace.
    pub(crate) id_maps: IdMaps,
    /// `linux.devices`.
    pub(crate) devices: Vec<Device>,
    /// `linux.netDevices`; only with a network namespace.
    pub(crate) net_devices: Vec<NetDevice>,
    /// `linux.cgroupsPath`.
    pub(crate) cgroups_path: Option<CgroupsPath>,
    /// `linux.resources`.
    pub(crate) resources: Resources,
    /// `linux.sysctl`: namespaced keys only, in dotted form.
    pub(crate) sysctl: BTreeMap<String, String>,
    /// `linux.seccomp`: its fields are valid. The compiler finds out whether it fits into one program.
    pub(crate) seccomp: Option<runtime::LinuxSeccomp>,
    /// `linux.rootfsPropagation`.
    pub(crate) rootfs_propagation: RootfsPropagation,
    /// `linux.mountLabel`; not empty.
    pub(crate) mount_label: Option<String>,
    /// `linux.personality`.
    pub(crate) personality: Option<Personality>,
    /// `linux.memoryPolicy`.
    pub(crate) memory_policy: Option<MemoryPolicy>,
    /// `linux.maskedPaths`: absolute.
    pub(crate) masked_paths: Vec<PathBuf>,
    /// `linux.readonlyPaths`: absolute.
    pub(crate) readonly_paths: Vec<PathBuf>,
    /// `hooks`.
    pub(crate) hooks: Hooks,
}

impl ValidSpec {
    /// Checks `spec`.
    ///
    /// `bundle` is the absolute directory that a relative `root.path` and relative bind sources are joined to; without
    /// one, as for a builder's configuration, a relative path is an error. `origin` is the first word of every error.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`](crate::error::ErrorKind::InvalidSpec) for a field that breaks a rule of the OCI
    /// runtime specification 1.x or of the kernel; [`ErrorKind::Unsupported`](crate::error::ErrorKind::Unsupported) for
    /// one that asks for something this crate does not do. Both name the field. No field is ignored silently.
    pub(crate) fn new(spec: &runtime::Spec, bundle: Option<&Path>, origin: Origin) -> Result<Self> {
        let document = Field::document(origin);
        // The version first: the meaning of every other field depends on it.
        version(&document.key("ociVersion"), spec.version())?;
        let root_path = root_path(&document.key("root"), spec.root().as_ref(), bundle)?;
        let linux = match spec.linux() {
            Some(linux) => LinuxSection::new(&document.key("linux"), linux)?,
            None => LinuxSection::default(),
        };
        let uts = linux.namespaces.uts.is_listed();
        check_annotations(&document.key("annotations"), spec.annotations().as_ref())?;
        Ok(Self {
            origin,
            root_path,
            root_readonly: spec.root().as_ref().and_then(runtime::Root::readonly).unwrap_or(false),
            process: ValidProcess::new(&document, spec.process().as_ref(), &linux.id_maps)?,
            hostname: uts_name(&document.key("hostname"), spec.hostname().as_deref(), uts)?,
            domainname: uts_name(&document.key("domainname"), spec.domainname().as_deref(), uts)?,
            mounts: mounts::mounts(
                &document,
                spec.mounts().as_deref().unwrap_or_default(),
                bundle,
                &linux.namespaces.user,
            )?,
            namespaces: linux.namespaces,
            time_offsets: linux.time_offsets,
            id_maps: linux.id_maps,
            devices: linux.devices,
            net_devices: linux.net_devices,
            cgroups_path: linux.cgroups_path,
            resources: linux.resources,
            sysctl: linux.sysctl,
            seccomp: linux.seccomp,
            rootfs_propagation: linux.rootfs_propagation,
            mount_label: linux.mount_label,
            personality: linux.personality,
            memory_policy: linux.memory_policy,
            masked_paths: linux.masked_paths,
            readonly_paths: linux.readonly_paths,
            hooks: Hooks::new(&document, spec.hooks().as_ref())?,
        })
    }
}

impl ValidSpec {
    /// Whether any property is a label of a security module.
    pub(crate) fn asks_for_labels(&self) -> bool {
        self.process.asks_for_labels() || self.mount_label.is_some()
    }
}

/// The oldest and the newest version of the specification whose properties this crate knows. It ignores properties that
/// a later 1.x adds, as the specification demands.
pub const OCI_VERSIONS: (&str, &str) = ("1.0.0", "1.3.0");

/// "MUST be in SemVer v2.0.0 format and specifies the version of the [...] Specification" - OCI config.md
fn version(field: &Field<'_>, version: &str) -> Result<()> {
    if version.is_empty() {
        return Err(field.error("is missing").hint("set it to a version such as \"1.0.2\""));
    }
    let Some(major) = major(version) else {
        let error = field.error(format_args!("{:?} is not a version", field::shorten(version)));
        return Err(error.hint("the form is MAJOR.MINOR.PATCH"));
    };
    if major != 1 {
        let error = field.error(format_args!("{:?} is not supported", field::shorten(version)));
        return Err(error.hint("supported is 1.0.0 up to, but not including, 2.0.0"));
    }
    Ok(())
}

/// The major number of a semantic version; suffixes such as `-rc5` and `-dev` do not matter.
fn major(version: &str) -> Option<u64> {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    let numbers: Vec<_> = core.split('.').map(number).collect();
    match numbers[..] {
        [Some(major), Some(_minor), Some(_patch)] => Some(major),
        _ => None,
    }
}

fn root_path(field: &Field<'_>, root: Option<&runtime::Root>, bundle: Option<&Path>) -> Result<PathBuf> {
    match root {
        None => Err(field.error("is missing")),
        Some(root) => field.key("path").on_host(root.path(), bundle),
    }
}

/// The longest host or domain name (`__NEW_UTS_LEN`, uname(2)).
const MAX_UTS_NAME: usize = 64;

fn uts_name(field: &Field<'_>, name: Option<&str>, uts: bool) -> Result<Option<String>> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    if !uts {
        let error = field.error("needs a uts namespace");
        return Err(error.hint("add {\"type\": \"uts\"} to linux.namespaces"));
    }
    field.c_string(name)?;
    if name.len() > MAX_UTS_NAME {
        return Err(field.error(format_args!("is {} bytes long, the limit is {MAX_UTS_NAME}", name.len())));
    }
    Ok(Some(name.to_owned()))
}

fn check_annotations(field: &Field<'_>, annotations: Option<&HashMap<String, String>>) -> Result<()> {
    // "Keys MUST NOT be an empty string." - OCI config.md
    match annotations.is_some_and(|annotations| annotations.contains_key("")) {
        true => Err(field.error("has an empty key")),
        false => Ok(()),
    }
}

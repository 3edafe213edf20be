//! The configuration after validation: every field parsed once, every rule of the OCI runtime specification that can
//! be decided without touching the host already decided.
//!
//! What lives here: [`ValidSpec`] and its parts, one file per section of the specification. What may not: anything
//! that looks at the host. Whether a path exists or a controller is available is the plan's and the gofer's question.

mod document;
mod hooks;
mod linux;
mod mounts;
mod namespaces;
mod process;
mod resources;

pub use document::{MAX_CONFIG_BYTES, MAX_CONFIG_DEPTH, Origin, parse};
pub use hooks::{Hook, Hooks};
pub use linux::{Device, DeviceKind, IdMap, IdMaps, RootfsPropagation};
pub use mounts::{Mount, MountAttrs, MountKind, Propagation};
pub use namespaces::{NamespaceKind, NamespaceSource, Namespaces};
pub use process::{CapSet, Capabilities, Process, Rlimit, User};
pub use resources::{CpuLimits, MemoryLimits, Resources};

use std::collections::BTreeMap;
use std::path::PathBuf;

/// A configuration that passed every check that needs no host.
///
/// Built only by [`ValidSpec::new`], so holding one is the proof.
#[derive(Clone, Debug)]
pub struct ValidSpec {
    /// `ociVersion`, at least 1.0.0 and below 2.0.0.
    pub oci_version: String,
    /// `root.path`, absolute: a relative one was joined to the bundle directory.
    pub root_path: PathBuf,
    /// `root.readonly`.
    pub root_readonly: bool,
    /// `process`.
    pub process: Process,
    /// `hostname`; only with a uts namespace.
    pub hostname: Option<String>,
    /// `domainname`; only with a uts namespace.
    pub domainname: Option<String>,
    /// `mounts`, in the order given.
    pub mounts: Vec<Mount>,
    /// `linux.namespaces`.
    pub namespaces: Namespaces,
    /// `linux.uidMappings` and `linux.gidMappings`; empty without a user namespace.
    pub id_maps: IdMaps,
    /// `linux.devices`.
    pub devices: Vec<Device>,
    /// `linux.cgroupsPath`.
    pub cgroups_path: Option<PathBuf>,
    /// `linux.resources`.
    pub resources: Resources,
    /// `linux.sysctl`: namespaced keys only, in dotted form.
    pub sysctl: BTreeMap<String, String>,
    /// `linux.seccomp`, as read; the compiler in [`crate::seccomp`] has already accepted it.
    pub seccomp: Option<oci_spec::runtime::LinuxSeccomp>,
    /// `linux.rootfsPropagation`.
    pub rootfs_propagation: RootfsPropagation,
    /// `linux.maskedPaths`: absolute.
    pub masked_paths: Vec<PathBuf>,
    /// `linux.readonlyPaths`: absolute.
    pub readonly_paths: Vec<PathBuf>,
    /// `hooks`.
    pub hooks: Hooks,
    /// `annotations`.
    pub annotations: BTreeMap<String, String>,
}

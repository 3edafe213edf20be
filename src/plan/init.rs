//! Init's plan: it assembles the root, drops every privilege that the configuration does not ask for, and executes the
//! program.

use super::extras::Extras;
use super::process::{Account, ProcessPlan};
use super::restore::RestorePlan;
use crate::error::Result;
use crate::seccomp::{self, Filter};
use crate::spec::{Hook, Hooks, IdMaps, MountAttrs, NumberSet, Propagation, RootfsPropagation, ValidSpec};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Init's work, in the order of the fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct InitPlan {
    pub(crate) root: RootPlan,
    pub(crate) rootfs_propagation: RootfsPropagation,
    pub(crate) tree: Vec<TreeStep>,
    /// Where the roots of the overlays are, relative to the container's root, in the order the gofer makes them.
    pub(crate) layers: Vec<PathBuf>,
    /// `root.readonly`: set after everything below it is in place, and hooks ran.
    pub(crate) root_readonly: bool,
    pub(crate) sysctl: Vec<(String, String)>,
    pub(crate) oom_score_adj: Option<i32>,
    /// The processors that it may use once it is in its cgroups, if they are not the caller's.
    pub(crate) processors: Option<NumberSet>,
    /// The filter of every process of the container.
    pub(crate) seccomp: Option<Filter>,
    pub(crate) process: ProcessPlan,
    /// Who the process is, in place of its user, if that has to be looked up inside; and the ids that it may have.
    pub(crate) account: Option<(Account, IdMaps)>,
    pub(crate) hooks: InitHooks,
    /// The processes that CRIU restores in place of the program. Init then leaves when the root is complete.
    pub(crate) restore: Option<RestorePlan>,
    /// What it executes in place of the first argument, if that is a clone's own.
    pub(crate) program: Option<String>,
    /// What it unpacks, in the order in which it gets the archives: for each the tmpfs that it belongs to; `None` for the
    /// overlays.
    pub(crate) archives: Vec<Option<PathBuf>>,
}

/// The hooks that init runs, and whether it waits for the caller to run its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct InitHooks {
    /// Whether there are hooks, of the caller's or init's own, between the last mount and the pivot.
    pub(crate) at_create: bool,
    /// The host's path of the root, if hooks of the runtime namespace look for it there.
    pub(crate) root_at: Option<PathBuf>,
    pub(crate) create_container: Vec<Hook>,
    pub(crate) start_container: Vec<Hook>,
}

impl InitHooks {
    fn new(hooks: &Hooks, root: Option<&Path>) -> Self {
        let of_host = [&hooks.prestart, &hooks.create_runtime].into_iter().any(|list| !list.is_empty());
        Self {
            at_create: of_host || !hooks.create_container.is_empty(),
            root_at: root.filter(|_| of_host).map(Path::to_owned),
            create_container: hooks.create_container.clone(),
            start_container: hooks.start_container.clone(),
        }
    }

    /// Whether init has anything to do with hooks.
    pub(crate) fn any(&self) -> bool {
        self.at_create || !self.start_container.is_empty()
    }
}

/// What init mounts as the root directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RootPlan {
    /// The gofer's mount at this position.
    MountBatch(usize),
    /// An empty tmpfs, which the steps of the tree fill.
    Empty,
}

/// One step below the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TreeStep {
    /// Where, relative to the container's root.
    pub(crate) at: PathBuf,
    pub(crate) source: StepSource,
    pub(crate) target: Target,
    pub(crate) set: MountAttrs,
    pub(crate) clear: MountAttrs,
    pub(crate) propagation: Option<Propagation>,
    /// What mount(8) shows as the source of a new file system; if absent, its type.
    pub(crate) name: Option<String>,
    /// The configuration field this serves, for errors.
    pub(crate) field: String,
}

/// What a step mounts or makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StepSource {
    /// The gofer's mount at this position.
    MountBatch(usize),
    /// The container's view of the volume at this position of the sandbox's plan.
    Volume(usize),
    Proc {
        options: Vec<String>,
    },
    Sysfs,
    Tmpfs {
        options: Vec<String>,
        copy_up: bool,
    },
    /// `/dev`: always a tmpfs that init makes, with the standard nodes and links (OCI config-linux.md, "Default
    /// Devices").
    Devices {
        options: Vec<String>,
        nodes: Vec<DeviceNode>,
    },
    Devpts {
        options: Vec<String>,
    },
    Mqueue,
    /// A directory, not a mount.
    Directory,
    /// A symbolic link, not a mount.
    Symlink(String),
    /// Hides a file behind `/dev/null` or a directory behind an empty one.
    Mask,
    /// Makes the path read-only.
    ReadOnly,
    /// A device node of `linux.devices`.
    Node(DeviceNode),
}

/// A device in `/dev`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceNode {
    /// Path relative to the container's root.
    pub(crate) path: PathBuf,
    /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO`, and the permission bits.
    pub(crate) mode: u32,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The gofer's mount of the host's node: mknod(2) needs the initial user namespace.
    pub(crate) handed: Option<usize>,
}

/// What to do when the mount point is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Target {
    /// Create it, with its parents, as a directory or a file, whichever the source is.
    Create,
    /// Skip the step.
    IfExists,
}

impl InitPlan {
    pub(super) fn new(
        spec: &ValidSpec,
        root: RootPlan,
        (tree, layers): (Vec<TreeStep>, Vec<PathBuf>),
        processors: Option<NumberSet>,
        extras: &Extras,
        restore: Option<RestorePlan>,
    ) -> Result<Self> {
        let process = &spec.process;
        let root_path = matches!(root, RootPlan::MountBatch(_)).then_some(spec.root_path.as_path());
        let filter = spec.seccomp.as_ref().map(seccomp::compile).transpose()?;
        Ok(Self {
            root,
            rootfs_propagation: spec.rootfs_propagation,
            tree,
            layers,
            root_readonly: spec.root_readonly,
            sysctl: spec.sysctl.clone().into_iter().collect(),
            oom_score_adj: process.oom_score_adj,
            processors,
            seccomp: filter,
            process: ProcessPlan::new(process, spec),
            account: extras.user.as_ref().map(|account| (account.clone(), spec.id_maps.clone())),
            hooks: InitHooks::new(&spec.hooks, root_path),
            restore,
            program: extras.template.as_ref().map(|template| template.program.clone()),
            archives: extras.archives().to_vec(),
        })
    }
}

//! From a valid configuration and facts about the host to an ordered plan. No effects.
//!
//! ```text
//!   ValidSpec + Extras + Host  --Plan::new-->  Plan { cgroup, gofer, sandbox { init } }
//! ```
//!
//! Each part lists what one process does, in order, and leaves that process no decision: the caller makes the cgroup
//! and the processes, the gofer makes detached mounts, the sandbox makes namespaces and init, and init assembles its
//! root and becomes the workload. The parts for other processes are serializable, because the caller sends them.

pub(crate) mod cgroup;
mod devices;
mod extras;
mod gofer;
mod init;
mod mounts;
mod owner;
mod process;
mod refuse;
mod restore;
mod sandbox;
mod sealed;

use crate::host::facts::Host;
pub(crate) use devices::{DeviceLimits, DeviceProgram};
pub(crate) use extras::{Extras, OfTemplate, PodVolume, Restored, RestoredTree, Scratch, relative_to_root};
pub(crate) use gofer::{GoferItem, GoferPlan, GoferSource, IdMapping, NodeNumbers};
pub(crate) use init::{DeviceNode, InitHooks, InitPlan, RootPlan, StepSource, Target, TreeStep};
pub(crate) use mounts::HotMountPlan;
pub(crate) use owner::{KEEP_IDS, Owner, OwnerMapping, Shown};
pub(crate) use process::{Account, ExecOptions, ExecPlan, JobPlan, ProcessPlan, TerminalPlan, host_ids_of};
pub(crate) use restore::{RestorePlan, writable_tmpfs};
pub(crate) use sandbox::{BecomeRoot, CloneFlags, NamespacePlan, SandboxPlan};
pub(crate) use sealed::{
    Descriptors, GoferFacts, SandboxFacts, SealedExec, SealedGofer, SealedJob, SealedSandbox,
};

use crate::error::{Error, ErrorKind, Result};
use crate::id::QualifiedId;
use crate::spec::{CgroupsPath, Hooks, IdMaps, NamespaceSource, NetDevice, Resources, ValidSpec};
use std::path::PathBuf;

/// All steps that make one container.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) cgroup: cgroup::CgroupPlan,
    /// The fields of the limits that the container runs without: the host cannot set them, and the builder asked for
    /// best effort only.
    pub(crate) unapplied_limits: Vec<String>,
    /// The caller writes them. Empty without a new user namespace.
    pub(crate) id_maps: IdMaps,
    pub(crate) gofer: GoferPlan,
    /// The caller moves them into the sandbox's network namespace.
    pub(crate) net_devices: Vec<NetDevice>,
    pub(crate) sandbox: SandboxPlan,
    /// Owner of the pipes that the caller makes for the workload's streams, as host ids.
    pub(crate) pipe_owner: (u32, u32),
    /// All hooks. Those that init runs are in its plan, too.
    pub(crate) hooks: Hooks,
}

impl Plan {
    /// Plans the container `id`.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) with the first field that this host or this caller cannot obey.
    /// [`InvalidSpec`](ErrorKind::InvalidSpec) for a value that only the planner checks, such as a volume's name.
    pub(crate) fn new(id: QualifiedId<'_>, spec: &ValidSpec, extras: &Extras, host: &Host) -> Result<Self> {
        refuse::refuse_unsupported(spec, extras)?;
        restore::refuse(spec, extras)?;
        restore::check_archives(spec, extras)?;
        if extras.keep_groups && extras.pod.is_some() {
            let why = "a further container of a pod has the groups of the pod's sandbox, which dropped the caller's";
            return Err(Error::unsupported("keep_caller_groups", why));
        }
        host.lsms.check_labels(&spec.process)?;
        host.lsms.check_mount_label(spec)?;
        let new_user = spec.namespaces.user == NamespaceSource::New;
        if !host.privileged && spec.namespaces.user == NamespaceSource::Inherit {
            return Err(Error::unsupported(
                "linux.namespaces",
                "no user namespace, and the caller is not privileged",
            )
            .hint("add a namespace of type \"user\" with mappings"));
        }
        if new_user {
            host.check_id_maps(&spec.id_maps)?;
        }
        let (cgroup, unapplied_limits) = match extras.best_effort_limits {
            true => plan_best_cgroup(id, spec, extras, host)?,
            false => (plan_cgroup(id, spec, &spec.resources, extras, host)?, Vec::new()),
        };
        let mut layout = mounts::TreeBuilder::new(spec, extras, host, &cgroup, spec.origin);
        layout.root();
        layout.mounts()?;
        layout.cgroup_view();
        layout.devices()?;
        layout.masks();
        let restore = layout.restore();
        let (gofer, (root, tree)) = layout.finish();
        let layers = layers(&gofer, &tree);
        let sandbox =
            sandbox::plan(id.id, spec, extras, host, (root, tree, layers, restore), &unapplied_limits)?;
        let id_maps = if new_user { spec.id_maps.clone() } else { IdMaps::default() };
        let (net_devices, hooks) = (spec.net_devices.clone(), spec.hooks.clone());
        let pipe_owner = host_ids_of(&spec.process.user, spec, (host.euid, host.egid));
        Ok(Self { cgroup, unapplied_limits, id_maps, gofer, net_devices, sandbox, pipe_owner, hooks })
    }
}

/// The cgroups with the limits that can be set, and the fields of the others.
///
/// Each refusal names one field, so plan again without the limits of its controller until the host refuses none.
fn plan_best_cgroup(
    id: QualifiedId<'_>,
    spec: &ValidSpec,
    extras: &Extras,
    host: &Host,
) -> Result<(cgroup::CgroupPlan, Vec<String>)> {
    let mut resources = spec.resources.clone();
    let mut unapplied = Vec::new();
    loop {
        let refusal = match plan_cgroup(id, spec, &resources, extras, host) {
            Err(error) => error,
            Ok(plan) => return Ok((plan, unapplied)),
        };
        let dropped = match refusal.kind() {
            ErrorKind::Unsupported { feature } => cgroup::drop_limits_beside(&mut resources, feature),
            _ => Vec::new(),
        };
        if dropped.is_empty() {
            return Err(refusal);
        }
        tracing::warn!(id = id.id.as_str(), fields = ?dropped, %refusal, "the container runs without these limits");
        unapplied.extend(dropped);
    }
}

/// The cgroups: below a path, or in a scope of systemd.
fn plan_cgroup(
    id: QualifiedId<'_>,
    spec: &ValidSpec,
    resources: &Resources,
    extras: &Extras,
    host: &Host,
) -> Result<cgroup::CgroupPlan> {
    let path = spec.cgroups_path.as_ref().and_then(CgroupsPath::path);
    if extras.pod.is_some() && spec.cgroups_path.as_ref().is_some_and(|path| path.scope().is_some()) {
        let why = "systemd makes a scope around a new sandbox, and a further container of a pod has no sandbox of its own";
        return Err(Error::unsupported("linux.cgroupsPath", why));
    }
    let layout = &host.cgroups;
    let plan = match &spec.cgroups_path {
        Some(CgroupsPath::SystemdScope(scope)) => {
            cgroup::plan_scope(resources, scope, layout, &host.service_manager)?
        }
        _ => cgroup::plan(resources, path, id, layout, !extras.without_cgroup)?,
    };
    // On v1 a JVM finds no limit of memory unless it sees the hierarchies of the processor, too.
    let plan = match extras.cgroup_view && spec.namespaces.cgroup == NamespaceSource::New {
        true => plan.with_view(path, id, layout)?,
        false => plan,
    };
    let plan = match extras.accounting {
        true => plan.with_accounting(path, id, layout)?,
        false => plan,
    };
    let plan = match DeviceLimits::of(spec, host.in_user_namespace) {
        Some(limits) => plan.with_device_limits(&limits, path, id, layout)?,
        None => plan,
    };
    let new_user = spec.namespaces.user == NamespaceSource::New;
    let root = || process::host_id(&spec.id_maps.uids, 0);
    Ok(cgroup::CgroupPlan { delegate_uid: (new_user && host.privileged).then(root).flatten(), ..plan })
}

/// The mount point in the container of each overlay that the gofer makes.
fn layers(gofer: &GoferPlan, tree: &[TreeStep]) -> Vec<PathBuf> {
    let overlays = gofer.items.iter().enumerate();
    let overlays = overlays.filter(|(_, item)| matches!(item.source, GoferSource::Overlay { .. }));
    let at = |index| {
        let step = tree.iter().find(|step| step.source == StepSource::MountBatch(index));
        step.map(|step| step.at.clone()).unwrap_or_default()
    };
    overlays.map(|(index, _)| at(index)).collect()
}

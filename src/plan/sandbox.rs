//! The sandbox's plan: namespaces, host name, timeout, and the plan of init.

use super::extras::{Extras, PodVolume};
use super::init::{InitPlan, RootPlan, TreeStep};
use super::process::host_id;
use super::process::processors;
use super::restore::RestorePlan;
use crate::error::Result;
use crate::host::cgroups::CgroupLayout;
use crate::host::facts::Host;
use crate::id::ContainerId;
use crate::spec::{CapSet, NamespaceKind, NamespaceSource, Namespaces, TimeOffset, ValidSpec};
use bitflags::bitflags;
use core::time::Duration;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The sandbox's work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SandboxPlan {
    pub(crate) id: ContainerId,
    pub(crate) namespaces: NamespacePlan,
    /// Whether PID 1 of the container's pid namespace, which is new, is a reaper, and the workload is not.
    pub(crate) reaper: bool,
    /// Whether it becomes uid and gid 0 of the user namespace.
    pub(crate) become_root: BecomeRoot,
    /// Whether it first makes a session keyring of its own: the container's ids on the host are others than the
    /// caller's, and their quota of keys may be used up.
    pub(crate) spare_keyring: bool,
    /// Whether sandbox and workload keep the caller's supplementary groups.
    pub(crate) keep_groups: bool,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    /// Whether it gives the caller its network namespace, so that the caller moves network devices there.
    pub(crate) hands_out_network: bool,
    pub(crate) time_offsets: Vec<TimeOffset>,
    /// Limits of the new user namespace, by their file in `/proc/sys/user` (namespaces(7)), which the sandbox sets where it
    /// may.
    pub(crate) namespace_limits: Vec<(String, u32)>,
    /// Whether every process of the workload gets a limit of open files, so that the sandbox may have a higher one.
    pub(crate) raises_open_files: bool,
    pub(crate) timeout: Option<Duration>,
    /// Whether the container only holds a pod: an engine's pause container.
    pub(crate) pause: bool,
    /// The sandbox makes those that the pod does not have yet.
    pub(crate) volumes: Vec<PodVolume>,
    pub(crate) init: InitPlan,
}

/// Whether the sandbox becomes uid and gid 0 of its user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BecomeRoot {
    /// It has the caller's user namespace, or a new one that does not map both ids.
    Never,
    /// The namespace is new and maps both ids.
    Always,
    /// The sandbox joins the namespace. It finds out what is mapped there when it tries.
    WhereMapped,
}

bitflags! {
    /// `CLONE_NEW*` (clone(2)).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(transparent)]
    pub(crate) struct CloneFlags: u32 {
        const NEWNS = 0x0002_0000;
        const NEWCGROUP = 0x0200_0000;
        const NEWUTS = 0x0400_0000;
        const NEWIPC = 0x0800_0000;
        const NEWUSER = 0x1000_0000;
        const NEWPID = 0x2000_0000;
        const NEWNET = 0x4000_0000;
        const NEWTIME = 0x80;
    }
}

impl CloneFlags {
    /// The flag of one kind.
    pub(crate) fn of(kind: NamespaceKind) -> Self {
        match kind {
            NamespaceKind::User => Self::NEWUSER,
            NamespaceKind::Mount => Self::NEWNS,
            NamespaceKind::Pid => Self::NEWPID,
            NamespaceKind::Network => Self::NEWNET,
            NamespaceKind::Ipc => Self::NEWIPC,
            NamespaceKind::Uts => Self::NEWUTS,
            NamespaceKind::Cgroup => Self::NEWCGROUP,
            NamespaceKind::Time => Self::NEWTIME,
        }
    }
}

/// Which process makes or joins each namespace.
///
/// The caller makes the sandbox's user and pid namespaces together with its process, because a process cannot move
/// itself into a pid namespace. The sandbox makes a time namespace, which only its children enter. The sandbox makes
/// the container's pid and cgroup namespaces together with init, so that init is PID 1 of the one and its cgroup is the
/// root of the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NamespacePlan {
    pub(crate) with_sandbox: CloneFlags,
    pub(crate) by_sandbox: CloneFlags,
    pub(crate) with_init: CloneFlags,
    /// Those of `with_init`, and the mount namespace, that the sandbox enters when init is ready: programs that know the
    /// container by its PID file look for its namespaces in /proc/PID/ns of the sandbox.
    pub(crate) followed: CloneFlags,
    /// Whether the container has a network namespace of its own. The kernel takes longest to make this one, so the
    /// sandbox makes it while init assembles the root, and init joins it later.
    pub(crate) network: bool,
    /// The namespaces that the sandbox joins before it is in its new user namespace, so that they need not belong to that
    /// one.
    pub(crate) join_first: Vec<(NamespaceKind, PathBuf)>,
    /// The namespaces to join by path after that, in this order. The user namespace comes first, because it decides which
    /// others the sandbox may join.
    pub(crate) join: Vec<(NamespaceKind, PathBuf)>,
    /// The mount namespace that the container has in the end. Until its root is complete, sandbox and init are in a new
    /// one.
    pub(crate) mount: NamespaceSource,
}

impl NamespacePlan {
    /// Those that a reaper enters when init is ready, because init made or entered them after the reaper was forked.
    pub(crate) fn of_reaper(&self) -> CloneFlags {
        let mount = if self.mount == NamespaceSource::New { CloneFlags::empty() } else { CloneFlags::NEWNS };
        self.with_init & CloneFlags::NEWCGROUP | mount
    }

    /// For a further container of a pod. It has its own mount namespace, and its own pid and cgroup namespaces if it
    /// asks for them. It shares the others with the pod.
    fn in_pod(namespaces: &Namespaces) -> Self {
        let own = |source: &NamespaceSource, flag: CloneFlags| {
            if *source == NamespaceSource::New { flag } else { CloneFlags::empty() }
        };
        let with_init = CloneFlags::NEWNS
            | own(&namespaces.pid, CloneFlags::NEWPID)
            | own(&namespaces.cgroup, CloneFlags::NEWCGROUP);
        let nothing = CloneFlags::empty();
        Self {
            with_sandbox: nothing,
            by_sandbox: nothing,
            with_init,
            followed: nothing,
            network: false,
            join_first: Vec::new(),
            join: Vec::new(),
            mount: NamespaceSource::New,
        }
    }

    pub(crate) fn new(namespaces: &Namespaces, cgroups: &CgroupLayout, privileged: bool) -> Self {
        let new = |source: &NamespaceSource, flag: CloneFlags| {
            if *source == NamespaceSource::New { flag } else { CloneFlags::empty() }
        };
        let mut with_sandbox = new(&namespaces.user, CloneFlags::NEWUSER);
        // If the container's pid namespace is new, the sandbox is PID 1 of another new one above it: killing the
        // sandbox then kills every process of the container.
        with_sandbox |= new(&namespaces.pid, CloneFlags::NEWPID);
        let by_sandbox = CloneFlags::NEWNS
            | new(&namespaces.ipc, CloneFlags::NEWIPC)
            | new(&namespaces.uts, CloneFlags::NEWUTS)
            | new(&namespaces.time, CloneFlags::NEWTIME);
        let with_init =
            new(&namespaces.pid, CloneFlags::NEWPID) | new(&namespaces.cgroup, CloneFlags::NEWCGROUP);
        let order = [
            (NamespaceKind::User, &namespaces.user),
            (NamespaceKind::Network, &namespaces.network),
            (NamespaceKind::Ipc, &namespaces.ipc),
            (NamespaceKind::Uts, &namespaces.uts),
            (NamespaceKind::Cgroup, &namespaces.cgroup),
            (NamespaceKind::Time, &namespaces.time),
            (NamespaceKind::Pid, &namespaces.pid),
        ];
        let by_path = order.into_iter().filter_map(|(kind, source)| match source {
            NamespaceSource::Path(path) => Some((kind, path.clone())),
            _ => None,
        });
        // A process that shares its memory with another cannot join a time namespace, and the sandbox shares it with the
        // caller until it executes. Only init joins a pid namespace.
        let first = privileged && namespaces.user == NamespaceSource::New;
        let (join_first, join) = by_path.partition(|(kind, _)| {
            first && !matches!(kind, NamespaceKind::User | NamespaceKind::Time | NamespaceKind::Pid)
        });
        let network = namespaces.network == NamespaceSource::New;
        // With nsdelegate, the sandbox could not clone3(2) a process into the container's cgroup from inside the
        // container's cgroup namespace: the move would start in the sandbox's own cgroup, which is outside of it.
        let border = cgroups.unified.as_ref().is_some_and(|unified| unified.bound_by_namespaces);
        let mut followed = if border { CloneFlags::empty() } else { with_init & CloneFlags::NEWCGROUP };
        let mount = namespaces.mount.clone();
        if mount != NamespaceSource::New {
            followed |= CloneFlags::NEWNS;
        }
        Self { with_sandbox, by_sandbox, with_init, followed, network, join_first, join, mount }
    }
}

/// What a container with the builder's limits may have of the objects that the kernel counts for its user, for its user
/// namespace, and for the caller together with all its containers. A host allows 128 inotify instances for each user.
const NAMESPACE_LIMITS: [(&str, u32); 3] =
    [("max_inotify_instances", 32), ("max_inotify_watches", 32_768), ("max_user_namespaces", 256)];

/// The further ones of a container that may make these objects: the builder's filter refuses their system calls to a process
/// without `CAP_SYS_ADMIN`. Each costs a run about 10 microseconds.
const FURTHER_LIMITS: [(&str, u32); 9] = [
    ("max_fanotify_groups", 32),
    ("max_fanotify_marks", 32_768),
    ("max_mnt_namespaces", 256),
    ("max_pid_namespaces", 256),
    ("max_net_namespaces", 256),
    ("max_ipc_namespaces", 256),
    ("max_uts_namespaces", 256),
    ("max_cgroup_namespaces", 256),
    ("max_time_namespaces", 256),
];

fn namespace_limits(spec: &ValidSpec) -> Vec<(String, u32)> {
    let may_make = spec.seccomp.is_none() || spec.process.capabilities.bounding.contains(CapSet::SYS_ADMIN);
    let further = FURTHER_LIMITS.into_iter().filter(|_| may_make);
    NAMESPACE_LIMITS.into_iter().chain(further).map(|(file, most)| (file.to_owned(), most)).collect()
}

pub(super) fn plan(
    id: &ContainerId,
    spec: &ValidSpec,
    extras: &Extras,
    host: &Host,
    (root, tree, layers, restore): (RootPlan, Vec<TreeStep>, Vec<PathBuf>, Option<RestorePlan>),
    unapplied_limits: &[String],
) -> Result<SandboxPlan> {
    let maps_root = |maps: &[crate::spec::IdMap]| maps.iter().any(|map| map.container == 0);
    Ok(SandboxPlan {
        id: id.clone(),
        namespaces: match extras.pod {
            Some(_) => NamespacePlan::in_pod(&spec.namespaces),
            None => NamespacePlan::new(&spec.namespaces, &host.cgroups, host.privileged),
        },
        reaper: extras.init && spec.namespaces.pid == NamespaceSource::New,
        become_root: match spec.namespaces.user {
            NamespaceSource::Inherit => BecomeRoot::Never,
            NamespaceSource::New if !maps_root(&spec.id_maps.uids) => BecomeRoot::Never,
            NamespaceSource::New if !maps_root(&spec.id_maps.gids) => BecomeRoot::Never,
            NamespaceSource::New => BecomeRoot::Always,
            NamespaceSource::Path(_) => BecomeRoot::WhereMapped,
        },
        spare_keyring: match spec.namespaces.user {
            NamespaceSource::Inherit => false,
            NamespaceSource::New => host_id(&spec.id_maps.uids, 0).is_some_and(|root| root != host.euid),
            NamespaceSource::Path(_) => host.privileged,
        },
        keep_groups: extras.keep_groups,
        hostname: spec.hostname.clone(),
        domainname: spec.domainname.clone(),
        hands_out_network: !spec.net_devices.is_empty(),
        time_offsets: spec.time_offsets.clone(),
        namespace_limits: match extras.default_limits && spec.namespaces.user == NamespaceSource::New {
            true => namespace_limits(spec),
            false => Vec::new(),
        },
        raises_open_files: extras.default_limits,
        timeout: extras.timeout,
        pause: extras.pause,
        volumes: extras.volumes.clone(),
        init: InitPlan::new(spec, root, (tree, layers), processors(spec, unapplied_limits), extras, restore)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::cgroups::UnifiedHierarchy;

    #[test]
    fn the_sandbox_follows_init_but_not_over_a_border_of_cgroups() {
        let new = NamespaceSource::New;
        let mut namespaces =
            Namespaces { mount: new.clone(), cgroup: new.clone(), pid: new, ..Namespaces::default() };
        let unified = |bound_by_namespaces| UnifiedHierarchy {
            mountpoint: "/cg".into(),
            own: "/".into(),
            bound_by_namespaces,
            points: Vec::new(),
        };
        let on = |bound| CgroupLayout { unified: Some(unified(bound)), ..CgroupLayout::default() };
        assert_eq!(NamespacePlan::new(&namespaces, &on(false), false).followed, CloneFlags::NEWCGROUP);
        assert_eq!(NamespacePlan::new(&namespaces, &on(true), false).followed, CloneFlags::empty());
        namespaces.mount = NamespaceSource::Inherit;
        assert_eq!(NamespacePlan::new(&namespaces, &on(true), false).followed, CloneFlags::NEWNS);
        namespaces.cgroup = NamespaceSource::Inherit;
        assert_eq!(NamespacePlan::new(&namespaces, &on(false), false).followed, CloneFlags::NEWNS);
    }

    #[test]
    fn what_a_new_user_namespace_need_not_own_is_joined_before_it() {
        use NamespaceKind::{Network, Time, User};
        let path = |name: &str| NamespaceSource::Path(name.into());
        let mut namespaces = Namespaces {
            user: NamespaceSource::New,
            network: path("net"),
            time: path("time"),
            ..Namespaces::default()
        };
        let kinds = |namespaces: &Namespaces, privileged| {
            let plan = NamespacePlan::new(namespaces, &CgroupLayout::default(), privileged);
            [plan.join_first, plan.join]
                .map(|list| list.into_iter().map(|(kind, _)| kind).collect::<Vec<_>>())
        };
        assert_eq!(kinds(&namespaces, true), [vec![Network], vec![Time]]);
        assert_eq!(kinds(&namespaces, false), [vec![], vec![Network, Time]]);
        namespaces.user = path("user");
        assert_eq!(kinds(&namespaces, true), [vec![], vec![User, Network, Time]]);
    }
}

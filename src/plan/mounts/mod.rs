//! The file system: the mounts that the gofer makes, and the steps of init, in order. Pure.
//!
//! Tests check the order: first the root; then the configuration's mounts as listed ("the runtime MUST mount entries in
//! the listed order", OCI config.md); the devices after `/dev`; masks and read-only paths last, because they cover
//! files of the mounts. Init makes the root, `/dev` and each tmpfs read-only after that, because all other steps create
//! mount points.

mod cgroups;
mod devices;

use super::cgroup::CgroupPlan;
use super::devices::DeviceLimits;
use super::extras::{Extras, VOLUME_FIELD, relative_to_root};
use super::gofer::{GoferItem, GoferPlan, GoferSource, IdMapping};
use super::init::{RootPlan, StepSource, Target, TreeStep};
use super::owner::{KEEP_IDS, NAME_BY_UID, OwnRange, OwnerMapping};
use super::process::{Account, host_id, host_ids_of};
use super::refuse::refuse_hot_mount;
use super::restore::{FIELD, RestorePlan};
use crate::error::{Error, Result};
use crate::host::facts::{Host, IdRange, RESOLV_CONF};
use crate::spec::{IdMap, IdMaps, Mount, MountAttrs, MountKind, NamespaceSource, Origin, ValidSpec};
use std::path::{Path, PathBuf};

/// With the host's rootfs and a scratch, each of these host directories gets a writable layer, because package managers
/// and build tools write to them.
const LAYERED_SYSTEM_DIRS: [&str; 3] = ["usr", "etc", "opt"];

/// Directories that programs expect besides those of [`Host::system_dirs`].
const EMPTY_DIRS: [&str; 7] = ["dev", "home", "proc", "root", "run", "sys", "tmp"];

/// Collects the gofer's mounts and init's steps.
pub(super) struct TreeBuilder<'a> {
    spec: &'a ValidSpec,
    extras: &'a Extras,
    host: &'a Host,
    cgroup: &'a CgroupPlan,
    /// Where the mounts are configured: the first word of errors about them.
    origin: Origin,
    items: Vec<GoferItem>,
    root: RootPlan,
    steps: Vec<TreeStep>,
}

impl<'a> TreeBuilder<'a> {
    pub(super) fn new(
        spec: &'a ValidSpec,
        extras: &'a Extras,
        host: &'a Host,
        cgroup: &'a CgroupPlan,
        origin: Origin,
    ) -> Self {
        Self {
            spec,
            extras,
            host,
            cgroup,
            origin,
            items: Vec::new(),
            root: RootPlan::Empty,
            steps: Vec::new(),
        }
    }

    pub(super) fn root(&mut self) {
        if self.extras.host_rootfs {
            return self.host_root();
        }
        let path = self.spec.root_path.clone();
        let source = match self.extras.scratch {
            Some(_) => GoferSource::Overlay { lower: path },
            None => GoferSource::Bind { path, recursive: true },
        };
        let ids = if self.extras.idmap_rootfs && self.in_user_namespace() && self.may_map_files() {
            let recursive = matches!(source, GoferSource::Bind { recursive: true, .. });
            IdMapping::ThroughUserNamespace { recursive }
        } else {
            self.as_on_disk()
        };
        // If the cgroup need not enforce the device rules, the image's own device nodes must not open.
        let denied =
            DeviceLimits::of(self.spec, self.host.in_user_namespace).is_some_and(|limits| !limits.required);
        let set_recursive = if denied { MountAttrs::NODEV } else { MountAttrs::empty() };
        let item = GoferItem { ids, set_recursive, directory: true, ..item(source, "root.path") };
        self.root = RootPlan::MountBatch(self.hand(item));
    }

    /// The host's own system directories on a root in memory.
    fn host_root(&mut self) {
        let protect = MountAttrs::NOSUID | MountAttrs::NODEV;
        for dir in &self.host.system_dirs {
            let at = PathBuf::from(&dir.name);
            if let Some(link) = &dir.link {
                self.steps.push(step(at, StepSource::Symlink(link.clone()), "root"));
                continue;
            }
            let path = Path::new("/").join(&at);
            let layered = self.extras.scratch.is_some() && LAYERED_SYSTEM_DIRS.contains(&dir.name.as_str());
            let item = if layered {
                GoferItem { set: protect, ..item(GoferSource::Overlay { lower: path }, "root") }
            } else {
                let source = GoferSource::Bind { path, recursive: true };
                GoferItem { set_recursive: protect | MountAttrs::RDONLY, ..item(source, "root") }
            };
            let handed = self.hand(item);
            self.steps.push(step(at, StepSource::MountBatch(handed), "root"));
        }
        if let Some(at) = &self.host.resolver {
            // That one file, at the end of the link in /etc, and nothing else of the directory that it is in. It may be gone
            // by now: services write it anew.
            let source = GoferSource::Bind { path: RESOLV_CONF.into(), recursive: false };
            let set = protect | MountAttrs::NOEXEC | MountAttrs::RDONLY;
            let handed = self.hand(GoferItem { set, optional: true, ..item(source, "root") });
            self.steps.push(step(relative_to_root(at), StepSource::MountBatch(handed), "root"));
        }
        for name in EMPTY_DIRS {
            self.steps.push(step(PathBuf::from(name), StepSource::Directory, "root"));
        }
    }

    pub(super) fn mounts(&mut self) -> Result<()> {
        let spec = self.spec;
        if !spec.mounts.iter().any(|mount| mount.destination == Path::new("/dev")) {
            // Never use the image's /dev: a device node there opens whatever device its numbers name.
            let nodes = self.default_nodes();
            let source = StepSource::Devices { options: vec!["mode=755".into(), "size=64k".into()], nodes };
            self.steps.push(TreeStep { set: MountAttrs::NOSUID, ..step("dev".into(), source, "mounts") });
        }
        for (index, mount) in spec.mounts.iter().enumerate() {
            self.mount(mount, &format!("mounts[{index}]"))?;
        }
        for (index, at) in self.extras.volume_destinations()?.iter().enumerate() {
            self.steps.push(step(relative_to_root(at), StepSource::Volume(index), VOLUME_FIELD));
        }
        Ok(())
    }

    pub(super) fn mount(&mut self, mount: &Mount, field: &str) -> Result<()> {
        let at = relative_to_root(&mount.destination);
        if at.as_os_str().is_empty() {
            return Err(Error::unsupported(format!("{field}.destination"), "mounting over the root itself"));
        }
        let source = match &mount.kind {
            MountKind::Bind { source, recursive } => {
                let source = GoferSource::Bind { path: source.clone(), recursive: *recursive };
                let handed = self.hand(GoferItem {
                    ids: self.id_mapping(mount, field)?,
                    set: mount.set,
                    clear: mount.clear,
                    set_recursive: mount.set_recursive,
                    clear_recursive: mount.clear_recursive,
                    ..item(source, &format!("{field}.source"))
                });
                self.steps.push(TreeStep {
                    propagation: mount.propagation,
                    ..step(at, StepSource::MountBatch(handed), field)
                });
                return Ok(());
            }
            MountKind::Proc { options } => StepSource::Proc { options: options.clone() },
            MountKind::Sysfs
                if self.in_user_namespace() && self.spec.namespaces.network != NamespaceSource::New =>
            {
                // The kernel mounts sysfs only in a user namespace that owns the network namespace. A bind of the
                // host's sysfs shows the same files.
                let source = GoferSource::Bind { path: "/sys".into(), recursive: true };
                let handed = self.hand(GoferItem {
                    set_recursive: mount.set | MountAttrs::RDONLY,
                    ..item(source, &format!("{field}.source"))
                });
                self.steps.push(step(at, StepSource::MountBatch(handed), field));
                return Ok(());
            }
            MountKind::Sysfs => StepSource::Sysfs,
            MountKind::Tmpfs { options } if at == Path::new("dev") => {
                StepSource::Devices { options: self.labelled(options), nodes: self.default_nodes() }
            }
            MountKind::Tmpfs { options } => {
                StepSource::Tmpfs { options: self.labelled(options), copy_up: mount.tmpcopyup }
            }
            MountKind::Devpts { options } => {
                StepSource::Devpts { options: self.labelled(&self.mapped_gid_only(options)) }
            }
            MountKind::Mqueue => StepSource::Mqueue,
            MountKind::Cgroup => return self.cgroup_mount(&at, mount, field),
            MountKind::Cgroup2 => return self.unified_cgroup(&at, mount, field),
            MountKind::Other { file_system, options } => {
                let source = GoferSource::New {
                    file_system: file_system.clone(),
                    source: mount.source.clone(),
                    options: self.labelled(options),
                };
                let handed = self.hand(GoferItem {
                    set: mount.set | mount.set_recursive,
                    clear: mount.clear | mount.clear_recursive,
                    ..item(source, &format!("{field}.type"))
                });
                self.steps.push(TreeStep {
                    propagation: mount.propagation,
                    ..step(at, StepSource::MountBatch(handed), field)
                });
                return Ok(());
            }
        };
        self.steps.push(TreeStep {
            set: mount.set | mount.set_recursive,
            clear: mount.clear | mount.clear_recursive,
            propagation: mount.propagation,
            name: mount.source.clone(),
            ..step(at, source, field)
        });
        Ok(())
    }

    /// How a bind shows the ids of its files.
    fn id_mapping(&self, mount: &Mount, field: &str) -> Result<IdMapping> {
        if let Some(always) = mount.map_owner {
            return self.owner_as_user(always, field);
        }
        let Some(mapping) = &mount.id_mapping else { return Ok(self.as_on_disk()) };
        if !self.may_map_files() {
            let why = "ids of files can be mapped by a privileged caller only";
            return Err(Error::unsupported(format!("{field}.options"), why));
        }
        let recursive = mapping.recursive;
        Ok(match &mapping.maps {
            Some(maps) => IdMapping::Through { maps: maps.clone(), recursive },
            None => IdMapping::ThroughUserNamespace { recursive },
        })
    }

    /// As the gofer sees ids: without privileges from inside the container's user namespace, else the host's.
    fn owner_as_user(&self, always: bool, field: &str) -> Result<IdMapping> {
        if let Some(Account::Name(_)) = self.extras.user {
            let why = "shows the owner as the container's user, and the ids of a user by name are known only inside";
            return Err(Error::unsupported(format!("{field}.options"), why).hint(NAME_BY_UID));
        }
        let user = &self.spec.process.user;
        let IdMaps { uids, gids } = &self.spec.id_maps;
        let ranges = |maps: &[IdMap], inside: bool| -> Vec<_> {
            maps.iter().map(|map| (if inside { map.container } else { map.host }, map.size)).collect()
        };
        // Every id but the last, which means "no id" (user_namespaces(7)).
        let all = vec![(0, u32::MAX)];
        let inside = !self.host.privileged;
        let range = self.own_range();
        let (user, uids, gids) = match self.spec.namespaces.user {
            NamespaceSource::New if range.is_some() => {
                let on_disk = IdRange::FOR_CONTAINERS;
                let ids = vec![(on_disk.start, on_disk.count)];
                ((on_disk.start + user.uid, on_disk.start + user.gid), ids.clone(), ids)
            }
            NamespaceSource::Inherit => ((user.uid, user.gid), all.clone(), all),
            NamespaceSource::New if inside => ((user.uid, user.gid), ranges(uids, true), ranges(gids, true)),
            NamespaceSource::New => {
                let own = (self.host.euid, self.host.egid);
                (host_ids_of(user, self.spec, own), ranges(uids, false), ranges(gids, false))
            }
            NamespaceSource::Path(_) if always => {
                let why = "the ids of a user namespace that is joined are not known";
                return Err(Error::unsupported(format!("{field}.options"), why).hint(KEEP_IDS));
            }
            NamespaceSource::Path(_) => return Ok(IdMapping::AsOnDisk),
        };
        let may_map = self.may_map_files();
        // With one id, an unprivileged caller's groups cannot be dropped (user_namespaces(7)).
        let groups_kept = self.extras.keep_groups || (inside && matches!(gids.as_slice(), [(_, 1)]));
        Ok(IdMapping::OwnerAsUser(OwnerMapping { user, uids, gids, always, groups_kept, may_map, range }))
    }

    /// The container's own range, if it has one.
    fn own_range(&self) -> Option<OwnRange> {
        let first = |maps: &[IdMap]| maps.first().map(|map| map.host);
        let IdMaps { uids, gids } = &self.spec.id_maps;
        let has_range = self.extras.own_range && self.may_map_files();
        let (uid, gid) = first(uids).zip(first(gids)).filter(|_| has_range)?;
        Some(OwnRange { uid, gid })
    }

    /// As on disk, where files of all containers have the same ids, whatever range each of them has.
    fn as_on_disk(&self) -> IdMapping {
        self.own_range().map_or(IdMapping::AsOnDisk, IdMapping::OwnRange)
    }

    /// `options` of a new file system, with `linux.mountLabel`.
    fn labelled(&self, options: &[String]) -> Vec<String> {
        let label = self.spec.mount_label.iter().map(|label| format!("context={label}"));
        options.iter().cloned().chain(label).collect()
    }

    pub(super) fn masks(&mut self) {
        let host_secrets = ["/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/sudoers"];
        let secrets =
            host_secrets.iter().filter(|_| self.extras.host_rootfs).map(|path| (Path::new(path), "root"));
        let asked = self.spec.masked_paths.iter().map(|path| (path.as_path(), "linux.maskedPaths"));
        for (path, field) in asked.chain(secrets) {
            let masked = step(relative_to_root(path), StepSource::Mask, field);
            self.steps.push(TreeStep { target: Target::IfExists, ..masked });
        }
        for path in &self.spec.readonly_paths {
            let readonly = step(relative_to_root(path), StepSource::ReadOnly, "linux.readonlyPaths");
            self.steps.push(TreeStep { target: Target::IfExists, set: MountAttrs::RDONLY, ..readonly });
        }
    }

    /// The mounts with which CRIU works. They are attached nowhere.
    pub(super) fn restore(&mut self) -> Option<RestorePlan> {
        let restored = self.extras.restore.clone()?;
        let read_only = MountAttrs::NOSUID | MountAttrs::NODEV | MountAttrs::RDONLY;
        let may_map = self.may_map_files();
        let in_user_namespace = self.in_user_namespace();
        // As the gofer sees ids.
        let (uid, gid) = match in_user_namespace && !self.host.privileged {
            true => (0, 0),
            false => root_ids(&self.spec.id_maps, (self.host.euid, self.host.egid)),
        };
        let mut hand = |path: PathBuf, directory, set, ids| {
            let source = GoferSource::Bind { path, recursive: false };
            self.hand(GoferItem { ids, set, directory, ..item(source, FIELD) })
        };
        // CRIU is the container's root, and the files belong to the caller, or to another user of the host.
        let (uids, gids) = (vec![(uid, 1)], vec![(gid, 1)]);
        let (always, groups_kept, range) = (true, false, None);
        let owner = OwnerMapping { user: (uid, gid), uids, gids, always, groups_kept, may_map, range };
        let images = match in_user_namespace {
            true => IdMapping::OwnerAsUser(owner),
            false => IdMapping::AsOnDisk,
        };
        Some(RestorePlan {
            images: hand(restored.images, true, read_only | MountAttrs::NOEXEC, images),
            program: hand(restored.program, false, read_only, IdMapping::AsOnDisk),
            loader: restored.loader.map(|path| hand(path, false, read_only, IdMapping::AsOnDisk)),
            libraries: (restored.libraries.into_iter())
                .map(|path| hand(path, true, read_only, IdMapping::AsOnDisk))
                .collect(),
            tree: restored.tree,
        })
    }

    pub(super) fn finish(self) -> (GoferPlan, (RootPlan, Vec<TreeStep>)) {
        let gofer = GoferPlan {
            join_user_namespace: self.in_user_namespace() && !self.host.privileged,
            items: self.items,
            scratch_size: self.extras.scratch.as_ref().and_then(|scratch| scratch.size),
            origin: self.origin.as_str().to_owned(),
            scratch_owner: root_ids(&self.spec.id_maps, (self.host.euid, self.host.egid)),
            oom_score_adj: self.spec.process.oom_score_adj,
            propagation: self.spec.rootfs_propagation,
        };
        (gofer, (self.root, self.steps))
    }

    fn hand(&mut self, item: GoferItem) -> usize {
        self.items.push(item);
        self.items.len() - 1
    }

    fn in_user_namespace(&self) -> bool {
        self.spec.namespaces.user != NamespaceSource::Inherit
    }

    /// Mapping the ids of files needs privileges over the file system (mount_setattr(2)), which belongs to the initial
    /// user namespace.
    fn may_map_files(&self) -> bool {
        self.host.privileged && !self.host.in_user_namespace
    }

    /// `options` without a `gid=` that the container does not map. Every default configuration has `gid=5` (the tty
    /// group), also for a container with a single id.
    fn mapped_gid_only(&self, options: &[String]) -> Vec<String> {
        let mapped = |option: &&String| match option.strip_prefix("gid=").and_then(|gid| gid.parse().ok()) {
            Some(gid) if self.in_user_namespace() => host_id(&self.spec.id_maps.gids, gid).is_some(),
            _ => true,
        };
        options.iter().filter(mapped).cloned().collect()
    }
}

/// A mount for a container that exists, planned as the mounts of its configuration are.
#[derive(Clone, Debug)]
pub(crate) struct HotMountPlan {
    /// For a gofer that only makes this mount. `None` if it needs no host path.
    pub(crate) gofer: Option<GoferPlan>,
    /// How a process in the container's mount namespace attaches it.
    pub(crate) step: TreeStep,
}

impl HotMountPlan {
    /// Plans `mount` for the container that was made from `spec`.
    pub(crate) fn new(mount: &Mount, spec: &ValidSpec, extras: &Extras, host: &Host) -> Result<Self> {
        if !matches!(mount.kind, MountKind::Bind { .. } | MountKind::Tmpfs { .. }) {
            let why = "only a bind and a tmpfs can be mounted into a container that exists";
            return Err(Error::unsupported("mount.type", why));
        }
        refuse_hot_mount(spec)?;
        if relative_to_root(&mount.destination) == Path::new("dev") {
            let why = "the device directory cannot be replaced";
            return Err(Error::unsupported("mount.destination", why));
        }
        let cgroup = CgroupPlan::default();
        let mut tree = TreeBuilder::new(spec, extras, host, &cgroup, Origin::HotMount);
        tree.mount(mount, "mount")?;
        let (gofer, (_, steps)) = tree.finish();
        let step = steps.into_iter().next().expect("a bind and a tmpfs are one step each");
        let gofer = matches!(step.source, StepSource::MountBatch(_)).then_some(gofer);
        Ok(Self { gofer, step })
    }
}

/// The uid and gid on the host of the container's root; the caller's `own` where it has no mapping.
fn root_ids(maps: &IdMaps, own: (u32, u32)) -> (u32, u32) {
    (host_id(&maps.uids, 0).unwrap_or(own.0), host_id(&maps.gids, 0).unwrap_or(own.1))
}

fn item(source: GoferSource, field: &str) -> GoferItem {
    GoferItem {
        source,
        ids: IdMapping::AsOnDisk,
        set: MountAttrs::empty(),
        clear: MountAttrs::empty(),
        set_recursive: MountAttrs::empty(),
        clear_recursive: MountAttrs::empty(),
        optional: false,
        directory: false,
        field: field.to_owned(),
    }
}

fn step(at: PathBuf, source: StepSource, field: &str) -> TreeStep {
    TreeStep {
        at,
        source,
        target: Target::Create,
        set: MountAttrs::empty(),
        clear: MountAttrs::empty(),
        propagation: None,
        name: None,
        field: field.to_owned(),
    }
}

#[cfg(test)]
mod tests;

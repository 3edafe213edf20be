//! The container's cgroups, as it sees them below `/sys/fs/cgroup`. Pure.

use super::{TreeBuilder, item, step};
use crate::error::{Error, Result};
use crate::host::cgroups::V1Hierarchy;
use crate::plan::extras::relative_to_root;
use crate::plan::gofer::{GoferItem, GoferSource};
use crate::plan::init::{StepSource, Target, TreeStep};
use crate::spec::{Mount, MountAttrs, MountKind, NamespaceSource};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Where programs look for their limits.
const VIEW: &str = "/sys/fs/cgroup";

/// What messages call the mounts there that no field of the configuration asks for.
const VIEW_FIELD: &str = "view of the container's cgroups";

/// A cgroup has no device and no program, so the mount allows neither.
const CGROUP_ATTRIBUTES: MountAttrs = MountAttrs::NOSUID.union(MountAttrs::NODEV).union(MountAttrs::NOEXEC);

impl TreeBuilder<'_> {
    /// Mounts the container's cgroups: on a host with cgroup v2 alone its cgroup there, else a directory with an entry
    /// for each v1 hierarchy. A hierarchy with several controllers also has a link named after each of them, as readers
    /// of /sys/fs/cgroup expect.
    pub(super) fn cgroup_mount(&mut self, at: &Path, mount: &Mount, field: &str) -> Result<()> {
        let host = self.host;
        if host.cgroups.v1.is_empty() {
            return self.unified_cgroup(at, mount, field);
        }
        let shown = |_: &V1Hierarchy| true;
        self.v1_directories(at, mount.set, field, shown, |tree, place, callers| {
            // Optional: the hierarchy may have been unmounted since the probe of the host.
            tree.cgroup_directory(place, callers, mount, (true, field));
        });
        Ok(())
    }

    /// A directory with an entry, made by `bind`, for each v1 hierarchy that is `shown`.
    fn v1_directories(
        &mut self,
        at: &Path,
        set: MountAttrs,
        field: &str,
        shown: impl Fn(&V1Hierarchy) -> bool,
        mut bind: impl FnMut(&mut Self, (PathBuf, &Path), PathBuf),
    ) {
        let host = self.host;
        let options = self.labelled(&["mode=755".into(), "size=64k".into()]);
        let source = StepSource::Tmpfs { options, copy_up: false };
        let directory = (set | CGROUP_ATTRIBUTES) - MountAttrs::RDONLY;
        self.steps.push(TreeStep { set: directory, ..step(at.to_owned(), source, field) });
        // A hierarchy has one entry, however many controllers.
        let mut names = BTreeSet::new();
        for hierarchy in host.cgroups.v1.iter().filter(|hierarchy| shown(hierarchy)) {
            let Some(name) = hierarchy.mountpoint.file_name() else { continue };
            names.insert(name.to_owned());
            bind(self, (at.join(name), hierarchy.mountpoint.as_path()), hierarchy.own_dir());
        }
        let several = |hierarchy: &&V1Hierarchy| hierarchy.controllers.len() > 1 && shown(hierarchy);
        for hierarchy in host.cgroups.v1.iter().filter(several) {
            let to = hierarchy.mountpoint.file_name().unwrap_or_default().to_string_lossy();
            let controllers = hierarchy.controllers.iter();
            for controller in controllers.filter(|name| !names.contains(OsStr::new(name.as_str()))) {
                let link = StepSource::Symlink(to.clone().into_owned());
                self.steps.push(step(at.join(controller), link, field));
            }
        }
        if set.contains(MountAttrs::RDONLY) {
            let read_only = step(at.to_owned(), StepSource::ReadOnly, field);
            self.steps.push(TreeStep { target: Target::IfExists, ..read_only });
        }
    }

    /// Shows a container with limits its own cgroups, read-only, and no others: programs such as the JVM look for their
    /// limits there. For a container that the builder describes, and that has the places to show them in.
    pub(in crate::plan) fn cgroup_view(&mut self) {
        let (spec, at) = (self.spec, Path::new(VIEW));
        let has_sys = spec
            .mounts
            .iter()
            .any(|mount| mount.destination == Path::new("/sys") && matches!(mount.kind, MountKind::Sysfs));
        let is_taken = spec.mounts.iter().any(|mount| mount.destination.starts_with(at));
        let own_namespace = spec.namespaces.cgroup == NamespaceSource::New;
        if !(self.extras.cgroup_view && own_namespace && has_sys && !is_taken && self.cgroup.has_limits()) {
            return;
        }
        let (host, cgroup, at) = (self.host, self.cgroup, relative_to_root(at));
        let bind = |tree: &mut Self, at: PathBuf, path: PathBuf| {
            let source = GoferSource::Bind { path, recursive: false };
            let set = CGROUP_ATTRIBUTES | MountAttrs::RDONLY;
            let handed = tree.hand(GoferItem { set, optional: true, ..item(source, VIEW_FIELD) });
            tree.steps.push(step(at, StepSource::MountBatch(handed), VIEW_FIELD));
        };
        if !host.cgroups.v1.is_empty() {
            let own = |mountpoint: &Path| cgroup.directory_in(mountpoint);
            let shown = |hierarchy: &V1Hierarchy| own(&hierarchy.mountpoint).is_some();
            self.v1_directories(&at, MountAttrs::RDONLY, VIEW_FIELD, shown, |tree, (at, mountpoint), _| {
                own(mountpoint).into_iter().for_each(|path| bind(tree, at.clone(), path));
            });
        } else if let Some(path) =
            host.cgroups.unified.as_ref().and_then(|unified| cgroup.directory_in(&unified.mountpoint))
        {
            bind(self, at, path);
        }
    }

    /// The container's cgroup of the unified hierarchy.
    pub(super) fn unified_cgroup(&mut self, at: &Path, mount: &Mount, field: &str) -> Result<()> {
        let Some(unified) = &self.host.cgroups.unified else {
            let why = "no such hierarchy is mounted on this host";
            return Err(Error::unsupported(format!("{field}.type"), why));
        };
        let (mountpoint, own) = (unified.mountpoint.clone(), unified.own_dir());
        self.cgroup_directory((at.to_owned(), &mountpoint), own, mount, (false, field));
        Ok(())
    }

    /// Binds the container's own directory in the hierarchy at a mount point. A container without one there gets the
    /// caller's directory, read-only.
    fn cgroup_directory(
        &mut self,
        (at, mountpoint): (PathBuf, &Path),
        callers: PathBuf,
        mount: &Mount,
        (optional, field): (bool, &str),
    ) {
        let (path, set) = match self.cgroup.directory_in(mountpoint) {
            Some(own) => (own, mount.set | CGROUP_ATTRIBUTES),
            None => (callers, mount.set | CGROUP_ATTRIBUTES | MountAttrs::RDONLY),
        };
        let source = GoferSource::Bind { path, recursive: false };
        let handed = self.hand(GoferItem { set, optional, ..item(source, field) });
        self.steps.push(step(at, StepSource::MountBatch(handed), field));
    }
}

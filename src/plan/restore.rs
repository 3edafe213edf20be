//! Restoring in place of executing: which mounts of the host CRIU works with, and what init and the sandbox do for it. Pure.

use super::extras::{Extras, RestoredTree};
use crate::error::{Error, Result};
use crate::spec::{IdMap, MountAttrs, MountKind, NamespaceSource, ValidSpec};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What init and the sandbox do in place of executing a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RestorePlan {
    /// The gofer's mounts at these positions.
    pub(crate) images: usize,
    pub(crate) program: usize,
    pub(crate) loader: Option<usize>,
    pub(crate) libraries: Vec<usize>,
    pub(crate) tree: RestoredTree,
}

impl RestorePlan {
    /// The positions of the gofer's mounts that no step of the tree uses.
    pub(crate) fn mounts(&self) -> impl Iterator<Item = usize> {
        [self.images, self.program].into_iter().chain(self.loader).chain(self.libraries.iter().copied())
    }
}

/// The name of the builder's method, for errors about what a restored container cannot have.
pub(super) const FIELD: &str = "ContainerBuilder::restore";

/// Checks what a container cannot have if it is restored.
///
/// # Errors
/// [`Unsupported`](crate::error::ErrorKind::Unsupported) with the field.
pub(super) fn refuse(spec: &ValidSpec, extras: &Extras) -> Result<()> {
    let Some(restored) = &extras.restore else { return Ok(()) };
    let new = |source: &NamespaceSource| *source == NamespaceSource::New;
    let maps_root = |maps: &[IdMap]| maps.iter().any(|map| map.container == 0);
    let process = &spec.process;
    let pid_1 = restored.tree.init_pid == 1;
    let refused: [(bool, &str, &str); 13] = [
        (extras.pod.is_some(), "pod", "a container of a pod cannot be restored"),
        (
            !new(&spec.namespaces.pid),
            "linux.namespaces",
            "a restored process needs its pid to be free: add a new pid namespace",
        ),
        (
            extras.init && pid_1,
            "init",
            "the first process of the image was PID 1: restore it with init(false)",
        ),
        (
            !extras.init && !pid_1,
            "init",
            "the first process of the image was not PID 1: restore it with init(true)",
        ),
        (
            pid_1 && !spec.hooks.create_container.is_empty(),
            "hooks.createContainer",
            "the host's files are out of reach when the root of a restored PID 1 is complete",
        ),
        (!new(&spec.namespaces.mount), "linux.namespaces", "CRIU works in a new mount namespace only"),
        (
            new(&spec.namespaces.user) && !(maps_root(&spec.id_maps.uids) && maps_root(&spec.id_maps.gids)),
            "linux.uidMappings",
            "CRIU works as the container's root, and no uid or gid 0 is mapped",
        ),
        (process.terminal, "process.terminal", "a restored container has no terminal"),
        (
            !spec.hooks.start_container.is_empty(),
            "hooks.startContainer",
            "a restored process is already started",
        ),
        (
            process.apparmor_profile.is_some(),
            "process.apparmorProfile",
            "the label of a restored process is that of its image",
        ),
        (
            process.selinux_label.is_some(),
            "process.selinuxLabel",
            "the label of a restored process is that of its image",
        ),
        (
            spec.seccomp.as_ref().is_some_and(|seccomp| seccomp.listener_path().is_some()),
            "linux.seccomp.listenerPath",
            "a restored filter has no listener",
        ),
        (
            !spec.time_offsets.is_empty(),
            "linux.timeOffsets",
            "the clocks of a restored container are the host's",
        ),
    ];
    match refused.into_iter().find(|(applies, ..)| *applies) {
        Some((_, field, why)) => Err(Error::unsupported(field, why)),
        None => Ok(()),
    }
}

/// Where the container has a file system in memory that it can write to, the outer before the inner.
pub(crate) fn writable_tmpfs(spec: &ValidSpec, extras: &Extras) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    if extras.host_rootfs && !spec.root_readonly {
        found.push("/".into());
    }
    if !spec.mounts.iter().any(|mount| mount.destination == Path::new("/dev")) {
        found.push("/dev".into());
    }
    for mount in &spec.mounts {
        // What is mounted later on the same place hides it.
        found.retain(|at| *at != mount.destination);
        let fixed = mount.set.union(mount.set_recursive).contains(MountAttrs::RDONLY);
        if matches!(mount.kind, MountKind::Tmpfs { .. }) && !fixed {
            found.push(mount.destination.clone());
        }
    }
    found
}

/// Refuses archives of a tmpfs that the configuration does not have: init would unpack them into whatever else is there,
/// such as a directory of the host.
///
/// # Errors
/// [`Unsupported`](crate::error::ErrorKind::Unsupported).
pub(super) fn check_archives(spec: &ValidSpec, extras: &Extras) -> Result<()> {
    let writable = writable_tmpfs(spec, extras);
    let missing = extras.archives().iter().flatten().find(|at| !writable.contains(at));
    let Some(at) = missing else { return Ok(()) };
    let problem =
        format!("there is no writable tmpfs at {}, to which some of its files belong", at.display());
    let field = if extras.restore.is_some() { FIELD } else { "Template::builder" };
    Err(Error::unsupported(field, problem).hint("mount one there"))
}

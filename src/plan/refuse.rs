//! Refuses what a configuration can ask for and no container can have, before anything is made: cofferdam ignores no
//! field silently. Pure.

use super::extras::{Extras, relative_to_root};
use crate::error::{Error, Result};
use crate::spec::{MountKind, NamespaceSource, Propagation, RootfsPropagation, ValidSpec};
use std::path::Path;

/// Checks the combinations of fields that no container can have.
///
/// # Errors
/// [`Unsupported`](crate::error::ErrorKind::Unsupported) with the field.
pub(super) fn refuse_unsupported(spec: &ValidSpec, extras: &Extras) -> Result<()> {
    // If several mounts have this destination, the last covers the others.
    let dev_pts =
        spec.mounts.iter().rfind(|mount| relative_to_root(&mount.destination) == Path::new("dev/pts"));
    let has_devpts = dev_pts.is_some_and(|mount| matches!(mount.kind, MountKind::Devpts { .. }));
    if spec.process.terminal && !has_devpts {
        return Err(Error::unsupported("process.terminal", "no devpts is mounted at /dev/pts")
            .hint("add {\"destination\": \"/dev/pts\", \"type\": \"devpts\"} to mounts"));
    }
    // The pod's sandbox forks the processes of its further containers, so they are born in the time namespace of the pod
    // (time_namespaces(7)).
    if extras.pod.is_some() && !spec.time_offsets.is_empty() {
        return Err(Error::unsupported("linux.timeOffsets", "the containers of a pod share their clocks"));
    }
    // The caller moved the pod's devices when it created the pod's first container.
    if extras.pod.is_some() && !spec.net_devices.is_empty() {
        return Err(Error::unsupported("linux.netDevices", "the containers of a pod share their network"));
    }
    existing_mount_namespace(spec, extras)
}

/// Checks what a container in a mount namespace that exists already (the caller's own, or one with a path) cannot have.
///
/// Its mounts are never attached in that namespace: init assembles the root in a new namespace, and takes it along as a
/// detached tree.
fn existing_mount_namespace(spec: &ValidSpec, extras: &Extras) -> Result<()> {
    let namespaces = &spec.namespaces;
    if namespaces.mount == NamespaceSource::New {
        return Ok(());
    }
    let refuse = |why| Err(unsupported("linux.namespaces", why));
    if extras.pod.is_some() {
        return refuse("each container of a pod has a mount namespace of its own");
    }
    match (&namespaces.user, &namespaces.mount) {
        (NamespaceSource::Inherit, _) | (NamespaceSource::Path(_), NamespaceSource::Path(_)) => {}
        // setns(2) into a mount namespace needs CAP_SYS_ADMIN in the user namespace that owns it.
        (_, NamespaceSource::Inherit) => {
            return refuse("the caller's mount namespace cannot be entered from another user namespace");
        }
        _ => return refuse("no existing mount namespace can be entered from a new user namespace"),
    }
    if namespaces.pid != NamespaceSource::New {
        return refuse(
            "in a mount namespace and a pid namespace that exist already, the container's processes cannot be told from the others",
        );
    }
    if spec.rootfs_propagation != RootfsPropagation::Private {
        return Err(unsupported("linux.rootfsPropagation", NO_EVENTS));
    }
    let propagates = |propagation| !matches!(propagation, Propagation::Private | Propagation::RPrivate);
    match spec.mounts.iter().position(|mount| mount.propagation.is_some_and(propagates)) {
        Some(index) => Err(unsupported(format!("mounts[{index}].options"), NO_EVENTS)),
        None => Ok(()),
    }
}

/// Checks whether a mount can be added to a container that exists.
///
/// # Errors
/// [`Unsupported`](crate::error::ErrorKind::Unsupported) if its root is in no mount namespace.
pub(super) fn refuse_hot_mount(spec: &ValidSpec) -> Result<()> {
    if spec.namespaces.mount == NamespaceSource::New {
        return Ok(());
    }
    Err(unsupported("mount", "nothing can be mounted where the container's root is in no mount namespace"))
}

const NO_EVENTS: &str = "the container's root is in no mount namespace: nothing propagates to or from it";

fn unsupported(field: impl Into<String>, why: &'static str) -> Error {
    Error::unsupported(field, why).hint("add {\"type\": \"mount\"} without a path to linux.namespaces")
}

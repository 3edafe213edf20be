//! Containers in a mount namespace that was there before them: the caller's own, or one with a path.
//!
//! What is mounted for such a container is never attached there: its root is put together in a namespace of its own and
//! then taken along as a tree that no namespace has. What that rules out is said here, before anything is made.

use super::Extras;
use crate::error::{Error, Result};
use crate::spec::{NamespaceSource, Propagation, RootfsPropagation, ValidSpec};

/// Refuses what cannot be had in such a namespace.
pub(super) fn check(spec: &ValidSpec, extras: &Extras) -> Result<()> {
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
        // Nobody with powers in a user namespace only enters what belongs to another (setns(2)).
        (_, NamespaceSource::Inherit) => {
            return refuse("the caller's mount namespace cannot be entered from another user namespace");
        }
        _ => return refuse("no existing mount namespace can be entered from a new user namespace"),
    }
    if namespaces.pid != NamespaceSource::New {
        return refuse(
            "in the mount and the pid namespace of others nothing tells the container's processes from theirs",
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

/// Refuses a further mount for such a container.
pub(super) fn check_hot_mount(spec: &ValidSpec) -> Result<()> {
    if spec.namespaces.mount == NamespaceSource::New {
        return Ok(());
    }
    Err(unsupported("mount", "nothing can be mounted where the container's root is in no mount namespace"))
}

const NO_EVENTS: &str = "the container's root is in no mount namespace: nothing propagates to or from it";

fn unsupported(field: impl Into<String>, why: &'static str) -> Error {
    Error::unsupported(field, why).hint("add {\"type\": \"mount\"} without a path to linux.namespaces")
}

//! What has to hold before a further container is made in the sandbox of a pod.

use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::link::{PodSandbox, find_pod_sandbox};
use crate::plan::Plan;
use crate::state::{Record, StateRoot};
use oci_spec::runtime::{LinuxNamespaceType, Spec};

/// The sandbox of the pod, if the container that `record` and `plan` describe can be made in it.
pub(super) fn join(root: &StateRoot, record: &Record, plan: &Plan, pod: &ContainerId) -> Result<PodSandbox> {
    let sandbox = find_pod_sandbox(root, pod)?;
    check_ids(&sandbox, &record.spec.parse()?)?;
    check_mounts(&sandbox)?;
    if !plan.hooks.create_container.is_empty() {
        let problem = "the host's programs cannot be reached from the pod's namespaces";
        return Err(Error::unsupported("hooks.createContainer", problem));
    }
    Ok(sandbox)
}

/// Refuses a configuration with other id mappings than the pod's, because a pod has one user namespace.
fn check_ids(pod: &PodSandbox, spec: &Spec) -> Result<()> {
    let ids = |spec: &Spec| {
        let linux = spec.linux().clone().unwrap_or_default();
        let namespaces = linux.namespaces().clone().unwrap_or_default();
        let user = namespaces.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::User);
        (user, linux.uid_mappings().clone(), linux.gid_mappings().clone())
    };
    if ids(spec) == ids(&pod.record().spec.parse()?) {
        return Ok(());
    }
    let problem = format!("differ from those of the pod {:?}", pod.record().id.as_str());
    Err(Error::spec("config.json", "linux.uidMappings", problem)
        .hint("the containers of a pod have one user namespace, with the same mappings"))
}

/// Refuses the sandbox of a root container without a mount namespace of its own: a further container would start with a
/// copy of the mounts of others.
fn check_mounts(pod: &PodSandbox) -> Result<()> {
    let linux = pod.record().spec.parse()?.linux().clone().unwrap_or_default();
    let namespaces = linux.namespaces().clone().unwrap_or_default();
    let mut mount = namespaces.iter().filter(|namespace| namespace.typ() == LinuxNamespaceType::Mount);
    let path = mount.next().map(|namespace| namespace.path().clone().unwrap_or_default());
    if path.is_some_and(|path| path.as_os_str().is_empty()) {
        return Ok(());
    }
    let problem = format!("{:?} has no mount namespace of its own", pod.record().id.as_str());
    Err(Error::unsupported("pod", problem))
}

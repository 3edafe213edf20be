//! The methods of [`ContainerBuilder`] about pods and shared namespaces.

use super::default_spec::build;
use super::description::ContainerBuilder;
use crate::error::Result;
use crate::id::ContainerId;
use crate::link::PodSandbox;
use crate::plan::PodVolume;
use crate::spec::{PodRole, ValidSpec};
use oci_spec::runtime::{LinuxNamespaceBuilder, LinuxNamespaceType};
use std::path::PathBuf;

impl ContainerBuilder {
    /// Runs in the sandbox of the container `pod`, as a further container of its [`Pod`]: with its network,
    /// ipc, uts and user namespaces, and so with its host name and id mappings.
    ///
    /// What engines write says the same: `io.kubernetes.cri.container-type` = `container` with
    /// `io.kubernetes.cri.sandbox-id` (containerd), `io.kubernetes.cri-o.ContainerType` with
    /// `io.kubernetes.cri-o.SandboxID` (CRI-O). Their `sandbox` is a container with a sandbox of its own.
    pub fn in_pod(mut self, pod: &ContainerId) -> Self {
        self.pod = Some(pod.clone());
        self
    }

    /// Has a sandbox of its own whatever the annotations of engines say; its namespaces are joined by their paths, where
    /// the configuration gives them. For engines that take each container's first process for their own child, as the
    /// runc shim of containerd does: in a pod it is not.
    pub fn ignore_pod_annotations(mut self) -> Self {
        self.pod_annotations = false;
        self
    }

    /// Sees, and is seen by, the processes of the pod's root container, instead of having a pid namespace of its own.
    /// Outside a pod: of the caller's pid namespace.
    pub fn share_pid_namespace(mut self) -> Self {
        self.without_namespace(LinuxNamespaceType::Pid);
        self
    }

    /// Is in the pid namespace at `path` instead of one of its own. A container's is `/proc/PID/ns/pid` with its
    /// [`init_pid`](Container::init_pid); its sandbox's pid leads to the namespace around that. Everything in it ends
    /// when its first process does.
    ///
    /// `create` refuses a namespace that the caller may not join: for that it has `CAP_SYS_ADMIN` in the user namespace
    /// which the pid namespace belongs to, and the container has the caller's user namespace or that one (setns(2)).
    pub fn join_pid_namespace(mut self, path: impl Into<PathBuf>) -> Self {
        self.without_namespace(LinuxNamespaceType::Pid);
        let joined = LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::Pid).path(path);
        let linux = self.linux();
        let mut namespaces = linux.namespaces().clone().unwrap_or_default();
        namespaces.push(build(|| joined.build()));
        linux.set_namespaces(Some(namespaces));
        self
    }

    /// Shows the pod's volume called `name` at `destination`: a file system in memory that every container of the pod
    /// which asks for that name sees, the root container too. It is made when the first of them is, with at most `size`
    /// bytes (half of the host's memory if `None`); what later ones say of its size has no effect. It is everybody's to
    /// write to (mode 1777), outlives every container but the root container, and ends with the pod.
    ///
    /// Needs Linux 6.15: `create` fails with [`ErrorKind::Unsupported`] on older kernels. Names are like ids.
    pub fn pod_volume(
        mut self,
        name: impl Into<String>,
        destination: impl Into<PathBuf>,
        size: Option<u64>,
    ) -> Self {
        let volume = PodVolume { name: name.into(), destination: destination.into(), size };
        self.extras.volumes.push(volume);
        self
    }

    /// The pod that was named, or that the annotations name.
    pub(super) fn find_pod(&self) -> Result<Option<ContainerId>> {
        if self.pod.is_some() || !self.pod_annotations {
            return Ok(self.pod.clone());
        }
        let annotations = self.spec.annotations().clone().unwrap_or_default();
        Ok(match ValidSpec::pod_role(&annotations.into_iter().collect())? {
            PodRole::Member(pod) => Some(pod),
            PodRole::Root => None,
        })
    }

    /// The user namespace and the id mappings of a pod that is there already.
    pub(super) fn take_ids_of(&mut self, pod: &PodSandbox) -> Result<()> {
        let spec = pod.record().spec.parse()?;
        let linux = spec.linux().clone().unwrap_or_default();
        let namespaces = linux.namespaces().clone().unwrap_or_default();
        if !namespaces.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::User) {
            self.without_namespace(LinuxNamespaceType::User);
        }
        let (uids, gids) = (linux.uid_mappings().clone(), linux.gid_mappings().clone());
        self.linux().set_uid_mappings(uids).set_gid_mappings(gids);
        Ok(())
    }
}

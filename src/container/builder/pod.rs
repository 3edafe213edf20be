//! The methods of [`ContainerBuilder`] about pods and shared namespaces.

use super::default_spec::build;
use super::description::ContainerBuilder;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::link::PodSandbox;
use crate::plan::{Extras, PodVolume};
use crate::spec::{Origin, PodRole, ValidSpec};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType};
use std::path::Path;

impl ContainerBuilder {
    /// Runs in the sandbox of the container `pod`, as a further container of its [`Pod`](crate::Pod): with its network,
    /// ipc, uts and user namespaces, and so with its host name and id mappings.
    ///
    /// [`follow_pod_annotations`](Self::follow_pod_annotations) reads the pod from a bundle.
    pub fn in_pod(mut self, pod: &ContainerId) -> Self {
        self.pod = Some(pod.clone());
        self
    }

    /// Does what the pod annotations of Kubernetes' engines say. [`in_pod`](Self::in_pod) is
    /// `io.kubernetes.cri.container-type` = `container` with `io.kubernetes.cri.sandbox-id` for containerd, and
    /// `io.kubernetes.cri-o.ContainerType` with `io.kubernetes.cri-o.SandboxID` for CRI-O. A container that they call
    /// `sandbox` gets a sandbox of its own; its OOM score does not count for the pod's.
    ///
    /// Only for an engine that passes no annotations of an image on, as these two do not: the image could choose a pod
    /// to join. By default a container gets a sandbox of its own, whatever its annotations, and joins the namespaces
    /// that the configuration names by path. This is also what the runc shim of containerd needs: it expects each
    /// container's first process to be its own child, which it is not in a pod.
    ///
    /// # Errors
    /// `build` refuses an unknown type, a container without a sandbox, and a sandbox that is no container's id.
    pub fn follow_pod_annotations(mut self) -> Self {
        self.pod_annotations = true;
        self
    }

    /// Whether PID 1 of the container is an *init*: a process of this crate that does nothing but collect orphans. Then the
    /// program is an ordinary process. It dies of any signal, its own `abort()` included, as it would
    /// outside of a container, and processes that it leaves behind do not stay zombies. The container still ends when the
    /// program ends, with the program's exit status.
    ///
    /// Inside, the program is pid 2 (1 with `init(false)`), and its parent's pid is 0; orphans get the parent 1. The init
    /// counts in no limit of the container but `RLIMIT_NPROC`, is not among the [`processes`](crate::Container::processes),
    /// and takes no signals. [`init_pid`](crate::Container::init_pid) is the program's pid on the host, in both cases.
    ///
    /// The default is `true`, except for a container [from a bundle](Self::from_bundle), where the program is PID 1 as
    /// with any OCI runtime, and for one without a pid namespace of its own. For the latter `init(true)` is an error of
    /// `build`. [`to_bundle`](Self::to_bundle) writes an `init(true)` that was asked for into a property that only this
    /// crate knows.
    pub fn init(mut self, init: bool) -> Self {
        self.init = Some(init);
        self
    }

    /// Whether the container gets a reaper: what [`init`](Self::init) asked for, or the default.
    pub(super) fn has_init(&self) -> Result<bool> {
        let namespaces = self.spec.linux().as_ref().and_then(|linux| linux.namespaces().clone());
        let is_own_pids = |namespace: &LinuxNamespace| {
            namespace.typ() == LinuxNamespaceType::Pid
                && namespace.path().as_ref().is_none_or(|path| path.as_os_str().is_empty())
        };
        let own_pids = namespaces.unwrap_or_default().iter().any(is_own_pids);
        match self.init {
            Some(true) if !own_pids => {
                let problem = "the container has no pid namespace of its own, and PID 1 of another one is there already";
                Err(Error::new(ErrorKind::InvalidInput, "ContainerBuilder::init", problem)
                    .hint("do without init(true), or without sharing a pid namespace"))
            }
            Some(init) => Ok(init),
            None => Ok(own_pids && self.origin == Origin::Builder),
        }
    }

    /// Shares the pid namespace of the pod's root container instead of having one of its own: each sees the processes
    /// of the other. Outside a pod, shares the caller's pid namespace.
    pub fn share_pid_namespace(mut self) -> Self {
        self.without_namespace(LinuxNamespaceType::Pid);
        self
    }

    /// Joins the pid namespace at `path` instead of having one of its own. Of another container that is
    /// `/proc/PID/ns/pid`, with its [`init_pid`](crate::Container::init_pid); with its sandbox's pid, the path leads to
    /// the namespace around that. When the first process of the namespace ends, the kernel kills all others.
    ///
    /// `create` refuses a namespace that the caller may not join. Joining needs `CAP_SYS_ADMIN` in the user namespace
    /// that owns the pid namespace, and the container has to be in the caller's user namespace or in that one
    /// (setns(2)).
    pub fn join_pid_namespace(mut self, path: impl AsRef<Path>) -> Self {
        let path = self.host_path("join_pid_namespace", path.as_ref());
        self.without_namespace(LinuxNamespaceType::Pid);
        let joined = LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::Pid).path(path);
        let linux = self.linux();
        let mut namespaces = linux.namespaces().clone().unwrap_or_default();
        namespaces.push(build(|| joined.build()));
        linux.set_namespaces(Some(namespaces));
        self
    }

    /// Mounts the pod's volume `name` at `destination`: a file system in memory, shared by all containers of the pod
    /// that mount that name, the root container among them. The first of them makes it, for at most `size` bytes (with
    /// `None`, half of the host's memory); the `size` of later ones has no effect. Everyone may write to it (mode
    /// 1777). It ends with the pod. A `size` of 0 is refused.
    ///
    /// On kernels before Linux 6.15, `create` fails with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported). A
    /// name has the form of a container id.
    pub fn pod_volume(
        mut self,
        name: impl Into<String>,
        destination: impl AsRef<Path>,
        size: Option<u64>,
    ) -> Self {
        self.refuse_zero("pod_volume", size);
        let destination = self.path("pod_volume", destination.as_ref());
        let volume = PodVolume { name: name.into(), destination, size };
        self.extras.volumes.push(volume);
        self
    }

    /// Finds the container's place in a pod: what [`in_pod`](Self::in_pod) or the annotations say.
    pub(super) fn find_pod(&mut self) -> Result<()> {
        self.extras.pod = self.pod.clone();
        if self.pod_annotations {
            let annotations = self.spec.annotations().clone().unwrap_or_default().into_iter().collect();
            self.extras.pause = ValidSpec::is_pause(&annotations);
            if self.pod.is_none()
                && let PodRole::Member(pod) = ValidSpec::pod_role(&annotations)?
            {
                self.extras.pod = Some(pod);
            }
        }
        Ok(())
    }

    /// Takes the user namespace and the id mappings of `pod`.
    pub(super) fn take_ids_of(&mut self, pod: &PodSandbox) -> Result<()> {
        let spec = pod.record().spec.parse()?;
        let linux = spec.linux().clone().unwrap_or_default();
        let namespaces = linux.namespaces().clone().unwrap_or_default();
        if !namespaces.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::User) {
            self.without_namespace(LinuxNamespaceType::User);
        }
        let (uids, gids) = (linux.uid_mappings().clone(), linux.gid_mappings().clone());
        self.linux().set_uid_mappings(uids).set_gid_mappings(gids);
        let extras: Extras = serde_json::from_value(pod.record().extras.clone())
            .map_err(|error| Error::new(ErrorKind::Stale, "pod", format!("extras: {error}")))?;
        self.extras.own_range = extras.own_range;
        Ok(())
    }
}

//! Pods: several containers in one sandbox.
//!
//! ```text
//!   sandbox of "pod"        network, ipc, uts and user namespace of all
//!      +- init of "pod"     the root container: its end is the end of the pod
//!      +- init of "web"     its own mounts, its own pids if it asks for that, its own cgroups and gofer
//!      +- init of "log"
//! ```

use crate::container::builder::default_spec::build;
use crate::container::{Alive, AnyContainer, Container, ContainerBuilder, Listed, Phase, teardown};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::helper::Donations;
use crate::id::ContainerId;
use crate::link::client;
use crate::plan::PodVolume;
use crate::process::channel::wait_readable_until;
use crate::process::{Channel, ProcessIdentity};
use crate::spec::{PodRole, ValidSpec};
use crate::state::{CONTROL_SOCKET, Found, Record, StateRoot, Status};
use crate::wire::message::{Operation, Request};
use oci_spec::runtime::{LinuxNamespaceBuilder, LinuxNamespaceType, Spec};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The containers of one sandbox, by the id of its root container.
///
/// They share network, ipc and uts namespaces and the user namespace; each has its own root directory and mounts, and
/// its own pid namespace unless it was built with
/// [`share_pid_namespace`](ContainerBuilder::share_pid_namespace). Each is created, started, signalled and deleted by
/// itself; when the root container ends, the others end with it.
#[derive(Clone, Debug)]
pub struct Pod {
    root: StateRoot,
    id: ContainerId,
}

impl Pod {
    /// The pod whose root container is called `id`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::InvalidInput`] if that container is itself in another one's sandbox.
    pub fn load(root: &StateRoot, id: &str) -> Result<Self> {
        let record = root.read(&root.find(id)?)?;
        check_is_root(&record)?;
        Ok(Self { root: root.clone(), id: record.id })
    }

    /// The id of the pod: its root container's.
    #[must_use]
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// A further container of this pod, described as any other; see [`ContainerBuilder::in_pod`].
    pub fn container(&self, id: impl Into<String>) -> ContainerBuilder {
        ContainerBuilder::new(id).state_root(self.root.clone()).in_pod(&self.id)
    }

    /// Every container of the pod, its root container among them, sorted by id.
    ///
    /// # Errors
    /// The state root cannot be read. A damaged record belongs to no pod.
    pub fn containers(&self) -> Result<Vec<AnyContainer>> {
        let all = AnyContainer::list(&self.root)?.into_iter();
        let containers = all.filter_map(|listed| match listed {
            Listed::Container(container) => Some(*container),
            Listed::Damaged { .. } => None,
        });
        Ok(containers.filter(|container| container.record().sandbox_id == self.id).collect())
    }

    /// Ends and removes every container of the pod, the root container last.
    ///
    /// # Errors
    /// [`ErrorKind::Incomplete`] naming what could not be removed. Every container is tried.
    pub fn delete(self) -> Result<()> {
        let (roots, members): (Vec<_>, Vec<_>) =
            self.containers()?.into_iter().partition(|container| *container.id() == self.id);
        let failures: Vec<String> = members
            .into_iter()
            .chain(roots)
            .filter_map(|container| container.delete(true).err())
            .map(|error| error.to_string())
            .collect();
        if failures.is_empty() {
            return Ok(());
        }
        let step = format!("delete pod {:?}", self.id.as_str());
        Err(Error::new(ErrorKind::Incomplete, step, failures.join("; ")))
    }
}

impl<P: Phase> Container<P> {
    /// The pod it is in: its own, or the one it joined.
    #[must_use]
    pub fn pod(&self) -> Pod
    where
        P: Alive,
    {
        Pod { root: self.core.root.clone(), id: self.core.record.sandbox_id.clone() }
    }
}

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
    pub(in crate::container) fn find_pod(&self) -> Result<Option<ContainerId>> {
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
    pub(in crate::container) fn take_ids_of(&mut self, seat: &PodSandbox) -> Result<()> {
        let spec = seat.spec()?;
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

fn check_is_root(record: &Record) -> Result<()> {
    if record.sandbox_id == record.id {
        return Ok(());
    }
    let problem = format!("{:?} is in the sandbox of {:?}", record.id.as_str(), record.sandbox_id.as_str());
    Err(Error::new(ErrorKind::InvalidInput, "pod", problem).hint("name the root container of the pod"))
}

/// How long a sandbox that cannot be looked into may still be on its way out.
const ENDING_LIMIT: Duration = Duration::from_secs(1);

/// The user namespace of a sandbox that was made since the boot with this id.
pub(in crate::container) fn user_namespace_of(sandbox: ProcessIdentity, boot_id: &str) -> Result<OwnedFd> {
    let path = format!("/proc/{}/ns/user", sandbox.pid);
    let namespace = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .os(|| format!("open({path:?})"));
    // Looked at after the open: only now is it certain whose it is.
    let gone = match (&namespace, sandbox.pidfd(boot_id)?) {
        (_, None) => true,
        (Ok(_), Some(_)) => false,
        // Nobody but root may look into a process that is about to be gone, which its own parent may otherwise.
        (Err(_), Some(ending)) => {
            wait_readable_until(ending.as_fd(), Instant::now().checked_add(ENDING_LIMIT))?
        }
    };
    if gone {
        return Err(Error::new(ErrorKind::Ended, "pod", "the sandbox is gone"));
    }
    namespace
}

/// A sandbox that a further container is made in.
#[derive(Debug)]
pub(in crate::container) struct PodSandbox {
    root: StateRoot,
    found: Found,
    record: Record,
    pub(in crate::container) sandbox: ProcessIdentity,
}

impl PodSandbox {
    /// The sandbox of the root container `pod`, which has to stand.
    pub(in crate::container) fn find(root: &StateRoot, pod: &ContainerId) -> Result<Self> {
        let missing = || {
            let problem = format!("there is no container {:?} whose sandbox could be joined", pod.as_str());
            Error::new(ErrorKind::NotFound, "pod", problem)
        };
        let found = root.find(pod.as_str()).ok().filter(|found| found.id() == pod.as_str());
        let found = found.ok_or_else(missing)?;
        let record = root.read(&found)?;
        check_is_root(&record)?;
        let actual = teardown::observe(&record)?;
        match (actual, record.sandbox) {
            (Status::Created | Status::Running | Status::Paused, Some(sandbox)) => {
                Ok(Self { root: root.clone(), found, record, sandbox })
            }
            _ => {
                let problem = format!("{:?} is {actual}, its sandbox cannot be joined", pod.as_str());
                Err(Error::wrong_state(actual, "pod", problem))
            }
        }
    }

    /// The configuration of the root container.
    pub(in crate::container) fn spec(&self) -> Result<Spec> {
        self.record.spec.parse()
    }

    /// Refuses a configuration whose ids mean something else than the pod's: there is one user namespace.
    pub(in crate::container) fn check_ids(&self, spec: &Spec) -> Result<()> {
        let ids = |spec: &Spec| {
            let linux = spec.linux().clone().unwrap_or_default();
            let namespaces = linux.namespaces().clone().unwrap_or_default();
            let user = namespaces.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::User);
            (user, linux.uid_mappings().clone(), linux.gid_mappings().clone())
        };
        if ids(spec) == ids(&self.spec()?) {
            return Ok(());
        }
        let problem = format!("differ from those of the pod {:?}", self.record.id.as_str());
        Err(Error::spec("config.json", "linux.uidMappings", problem)
            .hint("the containers of a pod have one user namespace, with the same mappings"))
    }

    /// Refuses the sandbox of a root container that has no mount namespace of its own: a further container would begin
    /// with a copy of what others have mounted.
    pub(in crate::container) fn check_mounts(&self) -> Result<()> {
        let linux = self.spec()?.linux().clone().unwrap_or_default();
        let namespaces = linux.namespaces().clone().unwrap_or_default();
        let mut mount = namespaces.iter().filter(|namespace| namespace.typ() == LinuxNamespaceType::Mount);
        let path = mount.next().map(|namespace| namespace.path().clone().unwrap_or_default());
        if path.is_some_and(|path| path.as_os_str().is_empty()) {
            return Ok(());
        }
        let problem = format!("{:?} has no mount namespace of its own", self.record.id.as_str());
        Err(Error::unsupported("pod", problem))
    }

    /// The path of the sandbox's control socket.
    pub(in crate::container) fn control_socket(&self) -> PathBuf {
        self.record.control_socket.clone()
    }

    /// The sandbox's user namespace, where that is one of its own.
    pub(in crate::container) fn user_namespace(&self) -> Result<OwnedFd> {
        user_namespace_of(self.sandbox, &self.record.boot_id)
    }

    /// Hands over all that makes a container; the answer comes on `boot`.
    pub(in crate::container) fn launch(&self, boot: &Channel, donations: &Donations<'_>) -> Result<()> {
        let operation = Operation::Launch { donated: donations.names().to_vec() };
        let fds: Vec<_> = std::iter::once(boot.as_fd()).chain(donations.fds().iter().copied()).collect();
        self.connect()?.send(&Request { container: None, operation }, &fds).map_err(Error::from_sandbox)
    }

    /// A connection that is closed by the end of the container `id`.
    pub(in crate::container) fn watch(&self, id: &ContainerId) -> Result<OwnedFd> {
        let (ours, theirs) = Channel::pair()?;
        let request = Request { container: Some(id.clone()), operation: Operation::Watch };
        self.connect()?.send(&request, &[theirs.as_fd()]).map_err(Error::from_sandbox)?;
        Ok(ours.into())
    }

    pub(in crate::container) fn connect(&self) -> Result<Channel> {
        client::connect_in(self.root.run_dir(&self.found)?.as_fd(), CONTROL_SOCKET)
    }
}

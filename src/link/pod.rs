//! [`PodSandbox`]: the sandbox of a pod, from the side of a further container that is made in it or found in it.

use super::client;
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::helper::Donations;
use crate::id::ContainerId;
use crate::process::channel::wait_readable_until;
use crate::process::{Channel, ProcessIdentity};
use crate::state::{CONTROL_SOCKET, Found, Record, StateRoot};
use crate::wire::control::{CONNECTION, Operation, Request};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a sandbox that seems to be ending may take to do so.
const ENDING_LIMIT: Duration = Duration::from_secs(1);

/// The live sandbox of a pod's root container.
#[derive(Debug)]
pub(crate) struct PodSandbox {
    root: StateRoot,
    found: Found,
    record: Record,
    sandbox: ProcessIdentity,
}

impl PodSandbox {
    /// The sandbox of the root container that `record` describes. The caller has seen that it is alive.
    pub(super) fn new(root: &StateRoot, found: Found, record: Record, sandbox: ProcessIdentity) -> Self {
        Self { root: root.clone(), found, record, sandbox }
    }

    /// The record of the root container.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// The sandbox's process.
    pub(crate) fn process(&self) -> ProcessIdentity {
        self.sandbox
    }

    /// The path of the sandbox's control socket.
    pub(crate) fn control_socket(&self) -> &Path {
        &self.record.control_socket
    }

    /// The user namespace that the sandbox is in.
    pub(crate) fn user_namespace(&self) -> Result<OwnedFd> {
        user_namespace_of(self.sandbox, &self.record.boot_id)
    }

    /// Hands everything that makes a container to the sandbox, which reports on the other end of `boot`.
    pub(crate) fn launch(&self, boot: &Channel, donations: &Donations<'_>) -> Result<()> {
        let request = Request { container: None, operation: Operation::Launch };
        let fds: Vec<_> = [(CONNECTION, boot.as_fd())].into_iter().chain(donations.named()).collect();
        self.connect()?.send(&request, &fds).map_err(Error::gone_means_ended)
    }

    /// A connection that the sandbox closes when the container `id` has ended.
    pub(crate) fn watch(&self, id: &ContainerId) -> Result<OwnedFd> {
        let (ours, theirs) = Channel::pair()?;
        let request = Request { container: Some(id.clone()), operation: Operation::Watch };
        self.connect()?.send(&request, &[(CONNECTION, theirs.as_fd())]).map_err(Error::gone_means_ended)?;
        Ok(ours.into())
    }

    /// Whether a container with the configuration `spec` can be made in this sandbox.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] if its id mappings differ from the pod's, because a pod has one user namespace.
    /// [`ErrorKind::Unsupported`] if the root container has no mount namespace of its own: the new container would
    /// start with a copy of the mounts of other processes.
    pub(crate) fn check_member(&self, spec: &Spec) -> Result<()> {
        let ids = |spec: &Spec| {
            let linux = spec.linux().clone().unwrap_or_default();
            let namespaces = linux.namespaces().clone().unwrap_or_default();
            let user = namespaces.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::User);
            (user, linux.uid_mappings().clone(), linux.gid_mappings().clone())
        };
        let root = self.record.spec.parse()?;
        if ids(spec) != ids(&root) {
            let problem = format!("differ from those of the pod {:?}", self.record.id.as_str());
            return Err(Error::spec("config.json", "linux.uidMappings", problem)
                .hint("the containers of a pod have one user namespace, with the same mappings"));
        }
        let linux = root.linux().clone().unwrap_or_default();
        let namespaces = linux.namespaces().clone().unwrap_or_default();
        let mut mount = namespaces.iter().filter(|namespace| namespace.typ() == LinuxNamespaceType::Mount);
        let path = mount.next().map(|namespace| namespace.path().clone().unwrap_or_default());
        if path.is_some_and(|path| path.as_os_str().is_empty()) {
            return Ok(());
        }
        let problem = format!("{:?} has no mount namespace of its own", self.record.id.as_str());
        Err(Error::unsupported("pod", problem))
    }

    /// Explains the `error` of a creation in this sandbox. If a helper died because the pod ended, the error returned is
    /// [`ErrorKind::Ended`], as for any other request to the pod.
    pub(crate) fn explain(&self, error: Error) -> Error {
        // The end of the pod's PID namespace kills a new init before the sandbox itself learns of that end.
        match *error.kind() == ErrorKind::HelperDied && self.ends().unwrap_or(false) {
            true => error.gone_means_ended(),
            false => error,
        }
    }

    /// Whether the sandbox has ended, or does within [`ENDING_LIMIT`].
    fn ends(&self) -> Result<bool> {
        match self.sandbox.pidfd(&self.record.boot_id)? {
            None => Ok(true),
            Some(pidfd) => wait_readable_until(pidfd.as_fd(), Instant::now().checked_add(ENDING_LIMIT)),
        }
    }

    /// A new connection to the sandbox.
    pub(super) fn connect(&self) -> Result<Channel> {
        client::connect_in(self.root.run_dir(&self.found)?.as_fd(), CONTROL_SOCKET)
    }
}

/// Refuses a container that is itself in another container's sandbox.
///
/// # Errors
/// [`ErrorKind::InvalidInput`].
pub(crate) fn check_is_root(record: &Record) -> Result<()> {
    if record.sandbox_id == record.id {
        return Ok(());
    }
    let problem = format!("{:?} is in the sandbox of {:?}", record.id.as_str(), record.sandbox_id.as_str());
    Err(Error::new(ErrorKind::InvalidInput, "pod", problem).hint("name the root container of the pod"))
}

/// The user namespace of `sandbox`, which was recorded in the boot with this id.
pub(crate) fn user_namespace_of(sandbox: ProcessIdentity, boot_id: &str) -> Result<OwnedFd> {
    let path = format!("/proc/{}/ns/user", sandbox.pid);
    let namespace = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .os(|| format!("open({path:?})"));
    // Check the identity after the open: only then is it certain whose namespace was opened.
    let gone = match (&namespace, sandbox.pidfd(boot_id)?) {
        (_, None) => true,
        (Ok(_), Some(_)) => false,
        // The kernel lets only root look into a process that is exiting, so a refusal may mean that it exits.
        (Err(_), Some(ending)) => {
            wait_readable_until(ending.as_fd(), Instant::now().checked_add(ENDING_LIMIT))?
        }
    };
    if gone {
        return Err(Error::new(ErrorKind::Ended, "pod", "the sandbox is gone"));
    }
    namespace
}

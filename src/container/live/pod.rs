//! Pods: several containers in one sandbox.
//!
//! ```text
//!   sandbox of "pod"        network, ipc, uts and user namespace of all
//!      +- init of "pod"     the root container: its end is the end of the pod
//!      +- init of "web"     its own mounts, its own pids if it asks for that, its own cgroups and gofer
//!      +- init of "log"
//! ```

use crate::container::{Alive, AnyContainer, Container, ContainerBuilder, Listed, Phase};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::link::check_is_root;
use crate::state::StateRoot;

/// The containers of one sandbox. The id of the root container names them.
///
/// They share network, ipc and uts namespaces and the user namespace; each has its own root directory and mounts, and
/// its own pid namespace unless it was built with [`share_pid_namespace`](ContainerBuilder::share_pid_namespace). Each
/// is created, started, signalled and deleted on its own; when the root container ends, the others end too.
#[derive(Clone, Debug)]
pub struct Pod {
    root: StateRoot,
    id: ContainerId,
}

impl Pod {
    /// The pod whose root container is called `id`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::InvalidInput`] if that container is itself in another container's sandbox.
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

    /// A builder for a further container of this pod; see [`ContainerBuilder::in_pod`].
    pub fn container(&self, id: impl Into<String>) -> ContainerBuilder {
        ContainerBuilder::new().id(id).state_root(self.root.clone()).in_pod(&self.id)
    }

    /// Every container of the pod, its root container among them, sorted by id.
    ///
    /// # Errors
    /// The state root cannot be read. Damaged records are left out, because they do not tell their pod.
    pub fn containers(&self) -> Result<Vec<AnyContainer>> {
        let all = AnyContainer::list(&self.root)?.into_iter();
        let containers = all.filter_map(|listed| match listed {
            Listed::Container(container) => Some(*container),
            Listed::Damaged { .. } => None,
        });
        Ok(containers.filter(|container| container.record().sandbox_id == self.id).collect())
    }

    /// Ends and removes every container of the pod, the root container last. Goes on after a failure.
    ///
    /// # Errors
    /// [`ErrorKind::Incomplete`] naming what could not be removed.
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

impl<P: Phase + ?Sized> Container<P> {
    /// The pod that the container is in: its own, or the one it joined.
    #[must_use]
    pub fn pod(&self) -> Pod
    where
        P: Alive,
    {
        Pod { root: self.core.root.clone(), id: self.core.record.sandbox_id.clone() }
    }
}

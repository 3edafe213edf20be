//! [`AnyContainer`]: a container whose phase is known only at run time.

use super::attachment::DropGuard;
use super::create::blueprint::{Blueprint, blueprint_of};
use super::failed::{FailedAny, WrongPhase};
use super::handle::{Handle, Streams};
use super::info::{Info, Listed};
use super::oci::OciState;
use super::outcome::Exit;
use super::teardown;
use super::typestate::{
    Alive, AnyContainer, Container, Created, Creating, Enterable, Paused, Phase, Running, Stopped,
};
use crate::criu::Criu;
use crate::error::{Error, ErrorKind, Result};
use crate::helper::collect_ended;
use crate::id::ContainerId;
use crate::link::{find_live, kill_by_socket};
use crate::state::{Found, Record, StateRoot, Status};
use serde::{Serialize, Serializer};
use std::path::Path;
use std::time::Duration;

macro_rules! for_any {
    ($any:expr, $container:ident => $body:expr) => {
        match $any {
            AnyContainer::Creating($container) => $body,
            AnyContainer::Created($container) => $body,
            AnyContainer::Running($container) => $body,
            AnyContainer::Paused($container) => $body,
            AnyContainer::Stopped($container) => $body,
        }
    };
}

impl AnyContainer {
    /// Loads the container with exactly this id.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::InvalidId`]; [`ErrorKind::Stale`] for a record that is damaged or another
    /// version's.
    pub fn load(root: &StateRoot, id: &str) -> Result<Self> {
        Self::load_found(root, &root.find(id)?)
    }

    /// Loads the container that a person means: by its id, or by the beginning of its id if no other begins so. A
    /// program that knows the id uses [`load`](Self::load): `job-1` may be gone, and `job-10` not.
    ///
    /// # Errors
    /// As [`load`](Self::load), and [`ErrorKind::InvalidInput`] for an ambiguous beginning, naming the candidates.
    pub fn load_by_beginning(root: &StateRoot, beginning: &str) -> Result<Self> {
        Self::load_found(root, &root.find_by_beginning(beginning)?)
    }

    pub(super) fn load_found(root: &StateRoot, found: &Found) -> Result<Self> {
        collect_ended();
        Self::from_record(root, Some(found.clone()), root.read(found)?)
    }

    /// Every container in `root`, sorted by id.
    ///
    /// # Errors
    /// The directory cannot be read. A damaged record is an entry of the list, not an error.
    pub fn list(root: &StateRoot) -> Result<Vec<Listed>> {
        let records = root.list()?;
        Ok(records
            .into_iter()
            .filter_map(|entry| match entry {
                Ok(record) => {
                    let id = record.id.to_string();
                    match root.find(&id).and_then(|found| Self::from_record(root, Some(found), record)) {
                        Ok(container) => Some(Listed::Container(Box::new(container))),
                        // Deleted while we were looking.
                        Err(error) if *error.kind() == ErrorKind::NotFound => None,
                        Err(error) => Some(Listed::Damaged { id, error }),
                    }
                }
                Err(damaged) => {
                    Some(Listed::Damaged { id: damaged.found.id().to_owned(), error: damaged.error })
                }
            })
            .collect())
    }

    fn from_record(root: &StateRoot, found: Option<Found>, record: Record) -> Result<Self> {
        let recorded = record.status();
        let live = find_live(root, &record)?;
        let core = Handle::new(root.clone(), record, found);
        let streams = Streams::default();
        Ok(match (recorded, live) {
            (Status::Creating, _) => {
                let blueprint: Blueprint = blueprint_of(&core.root, &core.record)?;
                Self::Creating(Container::new(core, blueprint))
            }
            (Status::Created, Some(live)) => {
                Self::Created(Container { core, phase: Created { live, streams } })
            }
            (Status::Running, Some(live)) => {
                Self::Running(Container { core, phase: Running { live, streams } })
            }
            (Status::Paused, Some(live)) => Self::Paused(Container { core, phase: Paused { live, streams } }),
            // Without live processes it has ended, even if the record says otherwise.
            (Status::Stopped, _) | (_, None) => {
                let exit = core.exit().unwrap_or_else(|_| Exit::unrecorded(None));
                Self::Stopped(Container { core, phase: Stopped { exit, streams } })
            }
        })
    }

    /// Makes this value hold the creator's drop guard.
    pub(super) fn with_tether(mut self, tether: Option<DropGuard>) -> Self {
        for_any!(&mut self, container => container.core.tether = tether);
        self
    }

    /// The container's id.
    #[must_use]
    pub fn id(&self) -> &ContainerId {
        for_any!(self, container => container.id())
    }

    /// The phase as a value.
    #[must_use]
    pub fn status(&self) -> Status {
        for_any!(self, container => container.status())
    }

    pub(super) fn record(&self) -> &Record {
        for_any!(self, container => container.record())
    }

    /// A copy of its record, as this value last saved or loaded it.
    #[must_use]
    pub fn info(&self) -> Info {
        Info::from(self.record())
    }

    /// Its configuration as JSON, as [`Container::config`].
    #[must_use]
    pub fn config(&self) -> &str {
        self.record().spec.text()
    }

    /// The OCI state: version, id, status, pid, bundle, annotations (OCI runtime.md, "State").
    ///
    /// # Errors
    /// The recorded configuration cannot be read.
    pub fn oci_state(&self) -> Result<OciState> {
        OciState::new(self.status(), self.record())
    }

    /// Removes the container and everything that belongs to it; with `force` also one that has not ended.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] without `force` for a container that has not ended; [`ErrorKind::Incomplete`] naming
    /// what could not be removed. If another process deleted it meanwhile, that is no error.
    pub fn delete(mut self, force: bool) -> Result<(), FailedAny> {
        if !force && !matches!(self, Self::Stopped(_) | Self::Creating(_)) {
            return Err(self.refused("stopped"));
        }
        let core = for_any!(&self, container => &container.core);
        // Built and never created: there is nothing.
        let Some(found) = core.found.clone() else { return Ok(()) };
        let root = core.root.clone();
        Self::destroy(&root, &found, Some(core.record.created_at)).map_err(|error| {
            let tether = for_any!(&mut self, container => container.core.tether.take());
            FailedAny::new(
                error,
                Self::load_found(&root, &found).ok().map(|container| container.with_tether(tether)),
            )
        })
    }

    /// Deletes what is left under exactly this id, damaged records included. Idempotent: an unknown id is no error.
    ///
    /// # Errors
    /// [`ErrorKind::Incomplete`] naming what could not be removed.
    pub fn delete_by_name(root: &StateRoot, id: &str) -> Result<()> {
        match root.find(id) {
            Ok(found) => Self::destroy(root, &found, None),
            // Unless it was only about to be one.
            Err(error) if *error.kind() == ErrorKind::NotFound => root.remove_remains(&ContainerId::new(id)?),
            Err(error) => Err(error),
        }
    }

    fn destroy(root: &StateRoot, found: &Found, created_at: Option<u64>) -> Result<()> {
        let destroyed = root.lock(found).and_then(|lock| match lock.load() {
            // Nothing to learn from a damaged record but where it lies: next to the sandbox's socket.
            Err(error) if *error.kind() == ErrorKind::Stale => {
                kill_by_socket(&lock)?;
                teardown::remove_default_cgroups(root, found.id())?;
                lock.remove()
            }
            _ => teardown::destroy(lock, created_at),
        });
        // It may have been a child of ours that was let go of.
        collect_ended();
        match destroyed {
            Err(error) if *error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// The container as one with processes: created, running or paused. What it offers is what
    /// [`Container`] has for [`Alive`] phases: signals, the process table, files, statistics, events, mounts, the pod.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] before create, [`ErrorKind::Ended`] after the end.
    pub fn as_alive(&self) -> Result<&Container<dyn Alive>> {
        match self {
            Self::Created(container) => Ok(container),
            Self::Running(container) => Ok(container),
            Self::Paused(container) => Ok(container),
            Self::Creating(_) | Self::Stopped(_) => Err(self.is_not("alive")),
        }
    }

    /// As [`as_alive`](Self::as_alive), to [`update`](Container::update) its limits.
    ///
    /// # Errors
    /// As [`as_alive`](Self::as_alive).
    pub fn as_alive_mut(&mut self) -> Result<&mut Container<dyn Alive>> {
        match self {
            Self::Created(container) => Ok(container),
            Self::Running(container) => Ok(container),
            Self::Paused(container) => Ok(container),
            Self::Creating(_) | Self::Stopped(_) => Err(self.is_not("alive")),
        }
    }

    /// The container as one in which further processes can be executed: created or running. Adds
    /// [`exec`](Container::exec) and the signals to single processes.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] before create and while it is paused, [`ErrorKind::Ended`] after the end.
    pub fn as_enterable(&self) -> Result<&Container<dyn Enterable>> {
        match self {
            Self::Created(container) => Ok(container),
            Self::Running(container) => Ok(container),
            Self::Creating(_) | Self::Paused(_) | Self::Stopped(_) => Err(self.is_not("created or running")),
        }
    }

    /// The running container.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] before start and while it is paused, [`ErrorKind::Ended`] after the end.
    pub fn as_running(&self) -> Result<&Container<Running>> {
        match self {
            Self::Running(container) => Ok(container),
            _ => Err(self.is_not("running")),
        }
    }

    /// The stopped container, for its [`exit`](Container::exit).
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] if it had not ended when this value last saw it: see [`wait`](Self::wait).
    pub fn as_stopped(&self) -> Result<&Container<Stopped>> {
        match self {
            Self::Stopped(container) => Ok(container),
            _ => Err(self.is_not("stopped")),
        }
    }

    /// The container in phase `P`, for a transition: `any.into_phase::<Created>()?.start()?`.
    ///
    /// # Errors
    /// [`WrongPhase`], with the container unchanged, if it is in another phase.
    pub fn into_phase<P: Phase>(self) -> Result<Container<P>, WrongPhase>
    where
        Container<P>: TryFrom<Self, Error = WrongPhase>,
    {
        Container::try_from(self)
    }

    /// Kills the container and waits for its end, as [`Container::kill`]. Returns one that is already stopped as it is.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] before create; [`ErrorKind::TimedOut`] if the kernel does not get rid of its processes.
    pub fn kill(self) -> Result<Container<Stopped>, FailedAny> {
        match self {
            Self::Stopped(container) => Ok(container),
            Self::Created(container) => Ok(container.kill()?),
            Self::Running(container) => Ok(container.kill()?),
            Self::Paused(container) => Ok(container.kill()?),
            other => Err(other.refused("alive")),
        }
    }

    /// Asks the container to end, and kills it after `grace`, as [`Container::stop`]. Returns one that is already stopped as
    /// it is.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] before its program was executed, and else as [`kill`](Self::kill).
    pub fn stop(self, grace: Duration) -> Result<Container<Stopped>, FailedAny> {
        match self {
            Self::Stopped(container) => Ok(container),
            Self::Running(container) => Ok(container.stop(grace)?),
            Self::Paused(container) => Ok(container.stop(grace)?),
            other => Err(other.refused("running or paused")),
        }
    }

    /// Writes an image of the container, and lets it go on, as [`Container::snapshot`].
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] before its program was executed, [`ErrorKind::Ended`] after the end, and else as there.
    pub fn snapshot(&self, criu: &Criu, directory: impl AsRef<Path>) -> Result<()> {
        match self {
            Self::Running(container) => container.snapshot(criu, directory),
            Self::Paused(container) => container.snapshot(criu, directory),
            _ => Err(self.is_not("running or paused")),
        }
    }

    /// Writes an image of the container, and ends it, as [`Container::checkpoint`].
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot); the container comes back.
    pub fn checkpoint(
        self,
        criu: &Criu,
        directory: impl AsRef<Path>,
    ) -> Result<Container<Stopped>, FailedAny> {
        match self {
            Self::Running(container) => Ok(container.checkpoint(criu, directory)?),
            Self::Paused(container) => Ok(container.checkpoint(criu, directory)?),
            other => Err(other.refused("running or paused")),
        }
    }

    /// Waits for the end of the container, as [`Container::wait_stopped`]. Returns one that is already stopped as it is.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] before its program was executed, or the system call that failed.
    pub fn wait_stopped(self) -> Result<Container<Stopped>, FailedAny> {
        match self {
            Self::Stopped(container) => Ok(container),
            Self::Running(container) => Ok(container.wait_stopped()?),
            Self::Paused(container) => Ok(container.wait_stopped()?),
            other => Err(other.refused("running or paused")),
        }
    }

    /// Lets the container outlive this program and this value, as [`Container::detach`].
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] before create, [`ErrorKind::Ended`] after the end, and else as there.
    pub fn detach(&mut self) -> Result<()> {
        self.as_alive_mut()?.detach()
    }

    /// Waits until the container has ended; repeatable, from any process, also long after the end.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] for a container that was never completely created.
    pub fn wait(&self) -> Result<Exit> {
        match self {
            Self::Stopped(container) => Ok(container.exit().clone()),
            _ => self.as_alive()?.wait(),
        }
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn try_wait(&self) -> Result<Option<Exit>> {
        self.wait_timeout(Duration::ZERO)
    }

    /// Waits until it has ended, at most for `limit`; `None` if it has not.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, limit: Duration) -> Result<Option<Exit>> {
        match self {
            Self::Stopped(container) => Ok(Some(container.exit().clone())),
            _ => self.as_alive()?.wait_timeout(limit),
        }
    }

    pub(super) fn is_not(&self, wanted: &str) -> Error {
        let actual = self.status();
        let step = format!("container {:?}", self.id().as_str());
        Error::wrong_state(actual, step, format!("is {actual}, not {wanted}"))
    }

    fn refused(self, wanted: &str) -> FailedAny {
        FailedAny::new(self.is_not(wanted), Some(self))
    }
}

impl Serialize for AnyContainer {
    /// As its [`Info`].
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.info().serialize(serializer)
    }
}

macro_rules! conversions {
    ($($phase:ident),*) => { $(
        impl From<Container<$phase>> for AnyContainer {
            fn from(container: Container<$phase>) -> Self {
                Self::$phase(container)
            }
        }

        impl TryFrom<AnyContainer> for Container<$phase> {
            type Error = WrongPhase;

            fn try_from(container: AnyContainer) -> Result<Self, WrongPhase> {
                match container {
                    AnyContainer::$phase(container) => Ok(container),
                    other => Err(WrongPhase::new(other, Status::$phase)),
                }
            }
        }
    )* };
}
conversions!(Creating, Created, Running, Paused, Stopped);

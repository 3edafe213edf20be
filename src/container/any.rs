//! [`AnyContainer`]: a container whose phase is known only at run time. What can be done with one is in `dispatch`.

use super::attachment::DropGuard;
use super::create::{Blueprint, blueprint_of};
use super::handle::{Handle, Streams};
use super::{
    Container, Created, Creating, Exit, FailedAny, OciState, Paused, Phase, Running, Stopped, WrongPhase,
    teardown,
};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::link::{find_live, kill_by_socket};
use crate::process::collect_ended;
use crate::state::{Found, Record, StateRoot, Status};
use serde::{Serialize, Serializer};

/// A container in any phase: what is loaded from disk, listed, kept in a `Vec`.
///
/// Closed on purpose: a `match` over the five phases needs no wildcard, and a sixth would be a change everybody has to
/// think about. Serializing one gives the record on disk; [`AnyContainer::try_from`] takes a record and looks at what
/// the kernel made of it since.
///
/// A loaded container is not attached: dropping it changes nothing.
///
/// It has every operation that a [`Container`] has. In a phase in which that would not compile, it is an error of the
/// kind [`ErrorKind::WrongState`], and nothing happened. Transitions consume it, and if one fails, [`FailedAny`] gives it
/// back.
#[derive(Debug)]
pub enum AnyContainer {
    /// Its creation was begun and not finished, by a program that may be gone.
    Creating(Container<Creating>),
    /// It waits to be started.
    Created(Container<Created>),
    /// Its program was executed.
    Running(Container<Running>),
    /// Its program is frozen.
    Paused(Container<Paused>),
    /// It has ended.
    Stopped(Container<Stopped>),
}

/// One entry of [`AnyContainer::list`].
#[derive(Debug)]
pub enum Listed {
    /// A container.
    Container(Box<AnyContainer>),
    /// A record that cannot be read. Its neighbours are not affected.
    Damaged {
        /// The id, as far as the file's name tells.
        id: String,
        /// What is wrong with it.
        error: Error,
    },
}

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
    /// Loads the container `name`: its id, or the beginning of its id if no other begins so.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::InvalidInput`] for an ambiguous beginning, naming the candidates;
    /// [`ErrorKind::Stale`] for a record that is damaged or another version's.
    pub fn load(root: &StateRoot, name: &str) -> Result<Self> {
        Self::load_found(root, &root.find(name)?)
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
        let core = Handle { root: root.clone(), record: Box::new(record), found, tether: None };
        let streams = Streams::default();
        Ok(match (recorded, live) {
            (Status::Creating, _) => {
                let blueprint: Blueprint = blueprint_of(&core.record)?;
                Self::Creating(Container::new(core, blueprint))
            }
            (Status::Created, Some(live)) => {
                Self::Created(Container { core, phase: Created { live, streams } })
            }
            (Status::Running, Some(live)) => {
                Self::Running(Container { core, phase: Running { live, streams } })
            }
            (Status::Paused, Some(live)) => Self::Paused(Container { core, phase: Paused { live, streams } }),
            // Dead, whatever the record says: also if it was paused.
            (Status::Stopped, _) | (_, None) => {
                let exit = core.exit().unwrap_or_else(|_| Exit::unrecorded(None));
                Self::Stopped(Container { core, phase: Stopped { exit, streams } })
            }
        })
    }

    /// Hands the creator's hold on the container on to this value.
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

    /// The record on disk, as it was when this value last saw it.
    #[must_use]
    pub fn record(&self) -> &Record {
        for_any!(self, container => container.record())
    }

    /// As [`Container::unapplied_limits`].
    #[must_use]
    pub fn unapplied_limits(&self) -> &[String] {
        &self.record().unapplied_limits
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
    /// what could not be removed. That somebody else deleted it meanwhile is no error.
    pub fn delete(mut self, force: bool) -> Result<(), FailedAny> {
        if !force && !matches!(self, Self::Stopped(_) | Self::Creating(_)) {
            return Err(FailedAny::new(self.wrong_state("delete"), Some(self)));
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

    /// Deletes by name, whatever is left under it, damaged records included. Idempotent: an unknown name is no error.
    ///
    /// # Errors
    /// [`ErrorKind::Incomplete`] naming what could not be removed.
    pub fn delete_by_name(root: &StateRoot, name: &str) -> Result<()> {
        match root.find(name) {
            Ok(found) => Self::destroy(root, &found, None),
            // Unless it was only about to be one.
            Err(error) if *error.kind() == ErrorKind::NotFound => {
                root.remove_remains(&ContainerId::new(name)?)
            }
            Err(error) => Err(error),
        }
    }

    fn destroy(root: &StateRoot, found: &Found, created_at: Option<u64>) -> Result<()> {
        let destroyed = root.lock(found).and_then(|lock| match lock.load() {
            // Nothing to learn from a damaged record but where it lies: next to the sandbox's socket.
            Err(error) if *error.kind() == ErrorKind::Stale => {
                kill_by_socket(&lock)?;
                teardown::remove_default_cgroups(found.id());
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

    pub(super) fn wrong_state(&self, operation: &'static str) -> Error {
        let actual = self.status();
        let problem = format!("{:?} is {actual}", self.id().as_str());
        Error::wrong_state(actual, operation, problem)
    }
}

impl Serialize for AnyContainer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.record().serialize(serializer)
    }
}

impl TryFrom<(&StateRoot, Record)> for AnyContainer {
    type Error = Error;

    /// The container a record describes, in the phase the kernel has it in now.
    fn try_from((root, record): (&StateRoot, Record)) -> Result<Self> {
        let found = match root.find(record.id.as_str()) {
            Ok(found) if found.id() == record.id.as_str() => Some(found),
            Ok(_) => None,
            Err(error) if *error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Self::from_record(root, found, record)
    }
}

impl From<AnyContainer> for Record {
    fn from(container: AnyContainer) -> Self {
        for_any!(container, container => *container.core.record)
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
                    other => Err(WrongPhase::new(other, <$phase as Phase>::STATUS)),
                }
            }
        }
    )* };
}
conversions!(Creating, Created, Running, Paused, Stopped);

//! The operations on an open state directory: to claim an id, and to find, lock, read and list containers.
//!
//! Code that changes a container needs its [`StateLock`]; code that makes one needs a [`Claim`].

use super::claim::Claim;
use super::lock::{Acquired, StateLock};
use super::name::{FileRole, StateName};
use super::record::Record;
use super::root::{Found, StateRoot, not_found};
use super::run_dir::RunDir;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use rustix::fs::FlockOperation;
use std::collections::BTreeMap;

impl StateRoot {
    /// Takes the id `container` for a container that will be created in `sandbox`.
    ///
    /// Changes no container that exists, but takes over what a creation left that crashed before its first save.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if a container has the id, in any sandbox, or is being created or deleted.
    pub fn claim(&self, container: &ContainerId, sandbox: &ContainerId) -> Result<Claim> {
        Claim::take(self, container, sandbox)
    }

    /// Removes what creations of `container` left that crashed before the first save. Changes nothing of a container
    /// that is being created or deleted.
    ///
    /// # Errors
    /// [`ErrorKind::Incomplete`] if something cannot be removed, [`ErrorKind::Os`] if the directory cannot be read.
    pub fn remove_remains(&self, container: &ContainerId) -> Result<()> {
        for (stem, role) in self.stems()? {
            if role != FileRole::Lock || !stem.is_of(container) {
                continue;
            }
            if let Acquired::Held(lock) =
                StateLock::acquire(self, &stem, FlockOperation::NonBlockingLockExclusive)?
                && !self.has(&stem, FileRole::State)?
            {
                lock.remove()?;
            }
        }
        Ok(())
    }

    /// Finds the container with exactly this id, even if its record is damaged. A damaged container with a very long id
    /// is also found by the shortened form under which it is listed.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidId`] if `id` cannot be an id, [`ErrorKind::NotFound`].
    pub fn find(&self, id: &str) -> Result<Found> {
        let wanted = match ContainerId::new(id) {
            Ok(wanted) => wanted,
            Err(error) => {
                let named =
                    |(stem, role): &(StateName, FileRole)| *role == FileRole::State && stem.container() == id;
                let found = self.stems()?.into_iter().find(named);
                return found.map(|(stem, _)| Found::new(stem, id)).ok_or(error);
            }
        };
        // If the container has a sandbox of its own, its file name is known: no need to read the directory.
        let own = StateName::new(&wanted, &wanted);
        if own.whole_container().is_some() && self.has(&own, FileRole::State)? {
            return Ok(Found::new(own, wanted.as_str()));
        }
        for (stem, role) in self.stems()? {
            if role == FileRole::State
                && stem.is_of(&wanted)
                && self.id_behind(&stem, &wanted).as_ref() == Some(&wanted)
            {
                return Ok(Found::new(stem, wanted.as_str()));
            }
        }
        Err(not_found(id))
    }

    /// Finds a container for a person: by its id, or by a beginning of its id that no other container's id has. What
    /// ends or changes a container should ask for the whole id, because the container that was meant may be gone.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidId`] if `beginning` cannot begin an id, [`ErrorKind::NotFound`], or
    /// [`ErrorKind::InvalidInput`] for an ambiguous beginning, with the candidates.
    pub fn find_by_beginning(&self, beginning: &str) -> Result<Found> {
        let wanted = ContainerId::new(beginning)?;
        let mut candidates = BTreeMap::new();
        for (stem, role) in self.stems()? {
            if role != FileRole::State || !stem.may_start_with(beginning) {
                continue;
            }
            let Some(id) = self.id_behind(&stem, &wanted) else {
                continue;
            };
            if id == wanted {
                return Ok(Found::new(stem, id.as_str()));
            }
            if id.as_str().starts_with(beginning) {
                candidates.insert(id, stem);
            }
        }
        if candidates.len() > 1 {
            return Err(ambiguous(beginning, candidates.keys()));
        }
        let only = candidates.pop_first().ok_or_else(|| not_found(beginning))?;
        Ok(Found::new(only.1, only.0.as_str()))
    }

    /// Waits for the container's lock, without a time limit: every holder limits the time of its own work.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the container was deleted in the meantime.
    pub fn lock(&self, found: &Found) -> Result<StateLock> {
        match StateLock::acquire(self, &found.stem, FlockOperation::LockExclusive)? {
            Acquired::Held(lock) => Ok(lock),
            Acquired::Busy | Acquired::Missing => Err(not_found(found.id())),
        }
    }

    /// Takes the container's lock if it is free; `None` if another holds it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the container was deleted in the meantime.
    pub fn try_lock(&self, found: &Found) -> Result<Option<StateLock>> {
        match StateLock::acquire(self, &found.stem, FlockOperation::NonBlockingLockExclusive)? {
            Acquired::Held(lock) => Ok(Some(lock)),
            Acquired::Busy => Ok(None),
            Acquired::Missing => Err(not_found(found.id())),
        }
    }

    /// The container's record as it is now, without its lock.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the container was deleted, [`ErrorKind::Stale`] if the record is damaged or another
    /// version's.
    pub fn read(&self, found: &Found) -> Result<Record> {
        self.read_record(&found.stem)?.ok_or_else(|| not_found(found.id()))
    }

    /// The container's run directory, without its lock.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the container was deleted.
    pub fn run_dir(&self, found: &Found) -> Result<RunDir> {
        RunDir::open(self.fd(), self.path(), &found.stem.file(FileRole::RunDir))?
            .ok_or_else(|| not_found(found.id()))
    }

    /// The run directory of the container `id` in the sandbox `sandbox`, which has its own id if it is alone there or the
    /// root container of a pod.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such container.
    pub(crate) fn run_dir_of(&self, id: &ContainerId, sandbox: &ContainerId) -> Result<RunDir> {
        let name = StateName::new(id, sandbox).file(FileRole::RunDir);
        RunDir::open(self.fd(), self.path(), &name)?.ok_or_else(|| not_found(id.as_str()))
    }

    /// All containers, sorted by id. One whose record cannot be read is listed as damaged; the others are listed
    /// all the same.
    ///
    /// # Errors
    /// [`ErrorKind::Os`] if the directory itself cannot be read.
    pub fn list(&self) -> Result<Vec<Result<Record, Damaged>>> {
        let mut listed = BTreeMap::new();
        for (stem, role) in self.stems()? {
            if role != FileRole::State {
                continue;
            }
            let entry = match self.read_record(&stem) {
                Ok(Some(record)) => Ok(record),
                Ok(None) => continue, // deleted since the directory was read
                Err(error) => Err(Damaged { found: Found::new(stem.clone(), stem.container()), error }),
            };
            let id = entry
                .as_ref()
                .map_or_else(|damaged| damaged.found.id().to_owned(), |record| record.id.to_string());
            listed.insert((id, stem.to_string()), entry);
        }
        Ok(listed.into_values().collect())
    }

    /// The whole id of the container that a file name belongs to. If the name has a shortened id, the record has the
    /// whole one; if the record is damaged, the id is `wanted` if the name may be its, and unknown otherwise.
    fn id_behind(&self, stem: &StateName, wanted: &ContainerId) -> Option<ContainerId> {
        stem.whole_container().or_else(|| match self.read_record(stem) {
            Ok(record) => record.map(|record| record.id),
            Err(_) => stem.is_of(wanted).then(|| wanted.clone()),
        })
    }
}

/// A container whose record cannot be read.
#[derive(Debug)]
#[non_exhaustive]
pub struct Damaged {
    /// The container, for [`StateRoot::lock`] and for removal.
    pub found: Found,
    /// What is wrong with the record.
    pub error: Error,
}

fn ambiguous<'a>(name: &str, candidates: impl ExactSizeIterator<Item = &'a ContainerId>) -> Error {
    /// Enough to find the mistake, and few enough for a line.
    const MAX_NAMED: usize = 10;
    let count = candidates.len();
    let mut names = candidates.take(MAX_NAMED).map(ContainerId::as_str).collect::<Vec<_>>().join(", ");
    if count > MAX_NAMED {
        names.push_str(&format!(" and {} more", count - MAX_NAMED));
    }
    let problem = format!("\"{name}\" is the beginning of {count} container ids: {names}");
    Error::new(ErrorKind::InvalidInput, "find", problem).hint("give more of the id")
}

#[cfg(test)]
mod tests;

//! Taking an id for a container that does not exist yet.
//!
//! A creation claims the id first, and only then prepares to undo what it makes. If the id is taken, it has nothing to
//! undo, so it cannot destroy the container that has the id.

use super::directory::DIRECTORY;
use super::flock::Flock;
use super::lock::{Acquired, StateLock};
use super::name::{FileRole, StateName};
use super::record::Record;
use super::root::StateRoot;
use super::run_dir::RunDir;
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::id::ContainerId;
use rustix::fs::{FlockOperation, Mode};

/// An id that this value has taken: it holds the lock, and has made an empty run directory, but no record yet. Dropping
/// it frees the id.
#[derive(Debug)]
#[must_use = "dropping a claim frees the id"]
pub struct Claim {
    run_dir: RunDir,
    lock: Option<StateLock>,
}

impl Claim {
    /// The run directory, for the control socket and the exit record.
    #[must_use]
    pub fn run_dir(&self) -> &RunDir {
        &self.run_dir
    }

    /// Saves the container's first record. From now on the container exists, and outlives this process.
    ///
    /// # Errors
    /// As [`StateLock::save`]; the id is then free again.
    pub fn commit(mut self, record: &mut Record) -> Result<StateLock> {
        let lock = self.lock.as_mut().expect("only commit and drop take the lock, and both end the claim");
        lock.save(record)?;
        Ok(self.lock.take().expect("it was there a line ago"))
    }

    pub(super) fn take(root: &StateRoot, container: &ContainerId, sandbox: &ContainerId) -> Result<Self> {
        let exists = |why: &str| {
            let problem = format!("container \"{container}\" already exists{why}");
            Err(Error::new(ErrorKind::AlreadyExists, "claim", problem))
        };
        let busy = || exists(": it is being created or deleted");

        // One claim at a time, because claims of one id for two sandboxes lock two files. Open the directory again,
        // because a lock belongs to an open file, and the threads of this program share the one that `root` has.
        let directory = rustix::fs::openat(root.fd(), ".", DIRECTORY, Mode::empty())
            .os(|| format!("openat({:?}, O_DIRECTORY)", root.path()))?;
        let _one_at_a_time = Flock::take(directory, FlockOperation::LockExclusive)
            .os(|| format!("flock({:?}, LOCK_EX)", root.path()))?;

        let own = StateName::new(container, sandbox);
        let mut others = Vec::new();
        for (stem, role) in root.stems()? {
            match role {
                FileRole::State if stem.is_of(container) => return exists(""),
                FileRole::Lock if stem.is_of(container) && stem != own => others.push(stem),
                _ => {}
            }
        }
        for stem in others {
            match StateLock::acquire(root, &stem, FlockOperation::NonBlockingLockExclusive)? {
                Acquired::Busy => return busy(),
                // The other creation saved its record after the directory was read.
                Acquired::Held(_) if root.has(&stem, FileRole::State)? => return exists(""),
                // A creation in another sandbox crashed. No later claim finds what it left, so remove that here.
                Acquired::Held(remains) => remains.remove()?,
                Acquired::Missing => {}
            }
        }
        let lock = match StateLock::create(root, &own)? {
            Acquired::Held(lock) => lock,
            Acquired::Busy | Acquired::Missing => return busy(),
        };
        if root.has(&own, FileRole::State)? {
            return exists("");
        }
        match RunDir::make(root.fd(), root.path(), &own.file(FileRole::RunDir)) {
            Ok(run_dir) => Ok(Self { run_dir, lock: Some(lock) }),
            Err(error) => {
                give_back(lock);
                Err(error)
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            give_back(lock);
        }
    }
}

/// Frees an id that has no record. If something cannot be removed, the next claim takes it over.
fn give_back(lock: StateLock) {
    if let Err(error) = lock.remove() {
        tracing::debug!(%error, "remains of a claim");
    }
}

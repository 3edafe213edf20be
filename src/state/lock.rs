//! The lock of one container, and what only its holder may do: save and remove the record.
//!
//! A lock file can be removed and made again while another process waits for the old one, so a lock counts only if its
//! file is still the one that the name leads to. With that check, and because removal removes the lock file last and
//! while it is locked, there is one holder at a time.

use super::directory::remove_name;
use super::flock::Flock;
use super::name::{FileRole, StateName};
use super::record::Record;
use super::root::{Found, StateRoot, not_found};
use super::run_dir::RunDir;
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::id::ContainerId;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The right to change one container's record. Unlocks on drop.
#[derive(Debug)]
pub struct StateLock {
    root: StateRoot,
    stem: StateName,
    _flock: Flock,
}

/// The result of an attempt to lock.
#[derive(Debug)]
pub(super) enum Acquired {
    Held(StateLock),
    Busy,
    Missing,
}

impl StateLock {
    /// The locked container, for finding it again.
    pub(crate) fn found(&self, id: &ContainerId) -> Found {
        Found::new(self.stem.clone(), id.as_str())
    }

    /// The record as it is now.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the container was deleted before the lock was taken, [`ErrorKind::Stale`] if the
    /// record is damaged or another version's.
    pub fn load(&self) -> Result<Record> {
        self.root.read_record(&self.stem)?.ok_or_else(|| not_found(self.stem.container()))
    }

    /// Replaces the record as a whole and counts up its generation. On failure both are as before.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if `record` is another container's or cannot be written as text.
    pub fn save(&mut self, record: &mut Record) -> Result<()> {
        if StateName::new(&record.id, &record.sandbox_id) != self.stem {
            let problem = format!("container \"{}\" is not the one that is locked, {}", record.id, self.stem);
            return Err(Error::new(ErrorKind::InvalidInput, "save", problem));
        }
        record.generation += 1;
        let saved = record.encode().and_then(|bytes| self.replace(&bytes));
        if saved.is_err() {
            record.generation -= 1;
        }
        saved
    }

    /// The container's run directory.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is gone, as after a removal that was cut short.
    pub fn run_dir(&self) -> Result<RunDir> {
        RunDir::open(self.root.fd(), self.root.path(), &self.stem.file(FileRole::RunDir))?
            .ok_or_else(|| not_found(self.stem.container()))
    }

    /// Removes all files of the container, the lock file last. It is no error if some are gone.
    ///
    /// The record goes first: after that the container does not exist, and if this process crashes, the next claim of
    /// the id takes over the rest.
    ///
    /// # Errors
    /// [`ErrorKind::Incomplete`] with every failure, if something is left. The lock file is then left as well.
    pub fn remove(self) -> Result<()> {
        let mut failures = Vec::new();
        let mut tried = |outcome: Result<()>| failures.extend(outcome.err().map(|error| error.to_string()));
        tried(self.unlink(FileRole::State));
        tried(self.unlink(FileRole::Temporary));
        tried(self.remove_run_dir());
        if failures.is_empty() {
            // Remove it while it is locked: a process that waits for the lock then sees that the name no longer leads
            // to this file.
            failures.extend(self.unlink(FileRole::Lock).err().map(|error| error.to_string()));
        }
        if failures.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Incomplete, format!("remove state of {}", self.stem), failures.join("; ")))
    }

    /// Locks `stem`, which has a lock file or a record. `operation` says whether to wait.
    pub(super) fn acquire(root: &StateRoot, stem: &StateName, operation: FlockOperation) -> Result<Acquired> {
        loop {
            let file = match open_lock(root, stem, OFlags::empty()) {
                Err(Errno::NOENT) if !root.has(stem, FileRole::State)? => return Ok(Acquired::Missing),
                // A record without its lock file, which may have been tidied up. The container must still be deletable.
                Err(Errno::NOENT) => open_lock(root, stem, OFlags::CREATE),
                opened => opened,
            };
            if let Some(done) = Self::hold(root, stem, file, operation)? {
                return Ok(done);
            }
        }
    }

    /// Makes the lock file of `stem` if it is missing, and locks it without waiting.
    pub(super) fn create(root: &StateRoot, stem: &StateName) -> Result<Acquired> {
        loop {
            let file = open_lock(root, stem, OFlags::CREATE);
            if let Some(done) = Self::hold(root, stem, file, FlockOperation::NonBlockingLockExclusive)? {
                return Ok(done);
            }
        }
    }

    /// Locks the opened file; `None` if the name leads to another file by now.
    fn hold(
        root: &StateRoot,
        stem: &StateName,
        file: rustix::io::Result<OwnedFd>,
        operation: FlockOperation,
    ) -> Result<Option<Acquired>> {
        let path = || root.path().join(stem.file(FileRole::Lock));
        let file = file.os(|| format!("openat({:?}, O_NOFOLLOW)", path()))?;
        let flock = match Flock::take(file, operation) {
            Err(Errno::WOULDBLOCK) => return Ok(Some(Acquired::Busy)),
            locked => locked.os(|| format!("flock({:?}, LOCK_EX)", path()))?,
        };
        let locked = rustix::fs::fstat(flock.file()).os(|| format!("fstat({:?})", path()))?;
        match rustix::fs::statat(root.fd(), stem.file(FileRole::Lock), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) if (named.st_dev, named.st_ino) == (locked.st_dev, locked.st_ino) => {
                Ok(Some(Acquired::Held(Self { root: root.clone(), stem: stem.clone(), _flock: flock })))
            }
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno).os(|| format!("fstatat({:?})", path())),
        }
    }

    /// Writes the new record to another file and puts that in the place of the old one.
    fn replace(&self, bytes: &[u8]) -> Result<()> {
        let written = self.write_temporary(bytes).and_then(|()| self.put_in_place());
        if let Err(error) = written {
            // The disk may be full: do not keep the space.
            let left = self.unlink(FileRole::Temporary).err();
            tracing::debug!(stem = %self.stem, ?left, "save failed");
            return Err(error);
        }
        if self.root.is_durable() {
            rustix::fs::fsync(self.root.fd()).os(|| format!("fsync({:?})", self.root.path()))?;
        }
        Ok(())
    }

    /// Exchanges the names of the new and the old record, if there is an old one, and removes the old one.
    ///
    /// A rename over the old one would be as atomic. But ext4 begins then to write the new file to the disk, and the removal
    /// of that file waits until it is written: behind all that the workloads of other containers write.
    fn put_in_place(&self) -> Result<()> {
        let (from, to) = (self.stem.file(FileRole::Temporary), self.stem.file(FileRole::State));
        let failed =
            |call| format!("{call}({:?}, {:?})", self.path(FileRole::Temporary), self.path(FileRole::State));
        let dir = self.root.fd();
        let exchange = || rustix::fs::renameat_with(dir, &from, dir, &to, RenameFlags::EXCHANGE);
        match exchange() {
            Ok(()) => match rustix::fs::unlinkat(dir, &from, AtFlags::empty()) {
                // No record is a directory.
                Err(Errno::ISDIR) => exchange().and(Err(Errno::ISDIR)).os(|| failed("renameat2")),
                // The next save removes what is left.
                _ => Ok(()),
            },
            // There is no old record, or the file system cannot exchange.
            Err(Errno::NOENT | Errno::INVAL) => {
                rustix::fs::renameat(dir, &from, dir, &to).os(|| failed("renameat"))
            }
            Err(errno) => Err(errno).os(|| failed("renameat2")),
        }
    }

    fn write_temporary(&self, bytes: &[u8]) -> Result<()> {
        let path = || self.path(FileRole::Temporary);
        let create = || {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(
                self.root.fd(),
                self.stem.file(FileRole::Temporary),
                flags,
                Mode::RUSR | Mode::WUSR,
            )
        };
        let mut created = create();
        if matches!(created, Err(Errno::EXIST)) {
            // Only the holder of the lock makes this file, so the process that made it has crashed.
            self.unlink(FileRole::Temporary)?;
            created = create();
        }
        let mut file = File::from(created.os(|| format!("openat({:?}, O_CREAT|O_EXCL)", path()))?);
        file.write_all(bytes).os(|| format!("write({:?}, {} bytes)", path(), bytes.len()))?;
        if self.root.is_durable() {
            rustix::fs::fsync(&file).os(|| format!("fsync({:?})", path()))?;
        }
        Ok(())
    }

    fn remove_run_dir(&self) -> Result<()> {
        match RunDir::open(self.root.fd(), self.root.path(), &self.stem.file(FileRole::RunDir)) {
            Ok(Some(run_dir)) => run_dir.clear()?,
            Ok(None) => return Ok(()),
            // A link or a file is in its place. Remove that, but not what a link points to.
            Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => {}
            // This process has no descriptor left to open the directory, which may be why the directory is empty. Try
            // to remove it unopened.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {}
            Err(error) => return Err(error),
        }
        self.unlink(FileRole::RunDir)
    }

    fn unlink(&self, role: FileRole) -> Result<()> {
        remove_name(self.root.fd(), &self.stem.file(role)).os(|| format!("unlinkat({:?})", self.path(role)))
    }

    fn path(&self, role: FileRole) -> PathBuf {
        self.root.path().join(self.stem.file(role))
    }
}

/// Opens a lock file. This crate never reads or writes it, so even a file of another type in its place can be locked.
fn open_lock(root: &StateRoot, stem: &StateName, create: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags =
        OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | create;
    rustix::fs::openat(root.fd(), stem.file(FileRole::Lock), flags, Mode::RUSR | Mode::WUSR)
}

//! The run directory of a container: where its control socket and its exit record are.
//!
//! All its files have fixed names, so clearing it does not need to read it.

use super::directory::{DIRECTORY, REGULAR, make_directory, remove_name};
use super::exit::{ExitRecord, MAX_EXIT_RECORD_BYTES};
use super::flock::Flock;
use crate::error::{OsContext, Result};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The control socket's name in the run directory.
pub const CONTROL_SOCKET: &str = "control.sock";
/// The exit record's name in the run directory.
pub const EXIT_RECORD: &str = "exit";

/// Held by the program that created a container as long as the container is attached to it. However that program ends,
/// the kernel frees it.
#[derive(Debug)]
#[must_use = "dropping it tells other programs that the creator is gone"]
pub struct CreatorLock {
    _flock: Flock,
}

/// An open run directory.
#[derive(Debug)]
pub struct RunDir {
    fd: OwnedFd,
    path: PathBuf,
}

impl RunDir {
    /// Opens the run directory `name` of `root`, which is at `root_path`; `None` if there is none.
    pub(super) fn open(root: BorrowedFd<'_>, root_path: &Path, name: &str) -> Result<Option<Self>> {
        let path = root_path.join(name);
        match rustix::fs::openat(root, name, DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, path })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno).os(|| format!("openat({path:?}, O_DIRECTORY|O_NOFOLLOW)")),
        }
    }

    /// Makes the run directory, or clears the one that a crashed creation left.
    pub(super) fn make(root: BorrowedFd<'_>, root_path: &Path, name: &str) -> Result<Self> {
        let (fd, created) = make_directory(root, OsStr::new(name), &root_path.join(name))?;
        let run_dir = Self { fd, path: root_path.join(name) };
        if !created {
            run_dir.clear()?;
        }
        Ok(run_dir)
    }

    /// The directory's path. It may be too long for a socket address.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the control socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.path.join(CONTROL_SOCKET)
    }

    /// Makes the empty exit record and returns the descriptor for writing it: one [`ExitRecord::encode`], one write(2).
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::error::ErrorKind::Os); EEXIST if it exists.
    pub fn create_exit_record(&self) -> Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, EXIT_RECORD, flags, Mode::RUSR | Mode::WUSR)
            .os(|| format!("openat({:?}, O_CREAT|O_EXCL)", self.path.join(EXIT_RECORD)))
    }

    /// The exit record; `None` as long as it is not written completely.
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::error::ErrorKind::Os) when the file cannot be read.
    pub fn exit_record(&self) -> Result<Option<ExitRecord>> {
        let step = || format!("read({:?})", self.path.join(EXIT_RECORD));
        let file = match rustix::fs::openat(&self.fd, EXIT_RECORD, REGULAR, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno).os(step),
        };
        let mut bytes = Vec::with_capacity(MAX_EXIT_RECORD_BYTES + 1);
        file.take(MAX_EXIT_RECORD_BYTES as u64 + 1).read_to_end(&mut bytes).os(step)?;
        Ok(ExitRecord::decode(&bytes))
    }

    /// Marks the container as this program's.
    ///
    /// # Errors
    /// [`ErrorKind::Os`](crate::error::ErrorKind::Os): the directory cannot be opened again or locked.
    pub fn lock_for_creator(&self) -> Result<CreatorLock> {
        let flock = Flock::take(self.reopen()?, FlockOperation::NonBlockingLockExclusive);
        Ok(CreatorLock { _flock: flock.os(|| format!("flock({:?}, LOCK_EX)", self.path))? })
    }

    /// Whether the program that created the container lives and has not let it go. Asked under the container's lock,
    /// because asking looks like a creator for a moment.
    ///
    /// # Errors
    /// As [`lock_for_creator`](Self::lock_for_creator).
    pub fn has_creator(&self) -> Result<bool> {
        match Flock::take(self.reopen()?, FlockOperation::NonBlockingLockExclusive) {
            Ok(_) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(errno) => Err(errno).os(|| format!("flock({:?}, LOCK_EX)", self.path)),
        }
    }

    /// An open file of its own, because a lock belongs to one.
    fn reopen(&self) -> Result<OwnedFd> {
        rustix::fs::openat(&self.fd, ".", DIRECTORY, Mode::empty())
            .os(|| format!("openat({:?}, O_DIRECTORY)", self.path))
    }

    /// Removes every file that this crate makes in the directory.
    pub(super) fn clear(&self) -> Result<()> {
        for name in [CONTROL_SOCKET, EXIT_RECORD] {
            remove_name(self.as_fd(), name).os(|| format!("unlinkat({:?})", self.path.join(name)))?;
        }
        Ok(())
    }
}

impl AsFd for RunDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

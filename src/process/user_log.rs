//! [`UserLog`]: the destination of the user log, opened so that a write to it never blocks.

use crate::error::{Error, ErrorKind, OsContext, Result};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where the sandbox writes the lines for the person who runs a container: a file by its path, or an open descriptor.
///
/// A file is appended to, and created if it is missing; a relative path starts at the caller's current directory. A pipe,
/// FIFO or terminal is opened again, so that writes to it do not block while the flags of the given descriptor stay as they
/// are.
#[derive(Debug)]
pub struct UserLog(To);

#[derive(Debug)]
enum To {
    Path(PathBuf),
    Fd(OwnedFd),
}

impl From<&Path> for UserLog {
    fn from(path: &Path) -> Self {
        Self::from(path.to_owned())
    }
}

impl From<PathBuf> for UserLog {
    fn from(path: PathBuf) -> Self {
        Self(To::Path(std::path::absolute(&path).unwrap_or(path)))
    }
}

impl From<OwnedFd> for UserLog {
    fn from(fd: OwnedFd) -> Self {
        Self(To::Fd(fd))
    }
}

impl From<File> for UserLog {
    fn from(file: File) -> Self {
        Self(To::Fd(file.into()))
    }
}

impl UserLog {
    /// The same for another container; `None` if it is a descriptor, which only one container can have.
    pub(crate) fn for_another(&self) -> Option<Self> {
        match &self.0 {
            To::Path(path) => Some(Self(To::Path(path.clone()))),
            To::Fd(_) => None,
        }
    }

    /// The descriptor for the sandbox.
    pub(crate) fn open(&self) -> Result<OwnedFd> {
        let named = |error: Error| error.during("user log");
        match &self.0 {
            To::Path(path) => open(path, OFlags::CREATE).map_err(named),
            To::Fd(fd) => {
                let kind = FileType::from_raw_mode(rustix::fs::fstat(fd).os(|| "fstat(user log)")?.st_mode);
                match kind {
                    // Neither blocks: the sandbox sends to a socket with MSG_DONTWAIT.
                    FileType::Socket | FileType::RegularFile => {
                        rustix::io::fcntl_dupfd_cloexec(fd, 3).os(|| "fcntl(F_DUPFD)")
                    }
                    FileType::Fifo | FileType::CharacterDevice => {
                        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
                        open(Path::new(&path), OFlags::empty()).map_err(named)
                    }
                    _ => {
                        let problem = format!("{kind:?} is not a file, pipe, terminal or socket");
                        Err(Error::new(ErrorKind::InvalidInput, "user log", problem))
                    }
                }
            }
        }
    }
}

fn open(path: &Path, more: OFlags) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    rustix::fs::open(path, flags | more, mode).os(|| format!("open({path:?}, O_APPEND | O_NONBLOCK)"))
}

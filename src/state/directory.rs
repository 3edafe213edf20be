//! Operations on a directory, each on one component below an open descriptor, and without following links.

use crate::error::{OsContext, Result};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// The flags to open a directory of the state.
pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The flags to open a file of the state for reading. Opening does not block, even if the file was replaced by a FIFO.
pub(super) const REGULAR: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY);

/// Makes the directory `path`, which is absolute and has no slash at its end, and its missing parents. The host may
/// have symbolic links on the way, but the last component must not be one.
pub(super) fn make_path(path: &Path) -> Result<OwnedFd> {
    const WAY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
    let mut so_far = PathBuf::from("/");
    let mut dir = rustix::fs::open("/", WAY, Mode::empty()).os(|| "open(\"/\", O_PATH)")?;
    let mut components = path.components().filter(|component| *component != Component::RootDir).peekable();
    while let Some(component) = components.next() {
        so_far.push(component);
        dir = match rustix::fs::openat(&dir, component.as_os_str(), WAY, Mode::empty()) {
            Ok(next) if components.peek().is_some() => next,
            Ok(_) | Err(Errno::NOENT) => make_directory(dir.as_fd(), component.as_os_str(), &so_far)?.0,
            Err(errno) => return Err(errno).os(|| format!("openat({so_far:?}, O_PATH|O_DIRECTORY)")),
        };
    }
    Ok(dir)
}

/// Opens the directory `name` of `parent`, and makes it if it is missing. Returns whether it made it. `path` is for
/// errors.
pub(super) fn make_directory(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(OwnedFd, bool)> {
    let created = match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(errno).os(|| format!("mkdirat({path:?}, 0700)")),
    };
    let fd = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())
        .os(|| format!("openat({path:?}, O_DIRECTORY|O_NOFOLLOW)"))?;
    if created {
        // Whatever the umask: with 0177, for example, the caller could not use the directory.
        rustix::fs::fchmod(&fd, Mode::RWXU).os(|| format!("fchmod({path:?}, 0700)"))?;
    }
    Ok((fd, created))
}

/// Removes `name` from `dir`, also if it is an empty directory by now. It is no error if it is gone.
pub(super) fn remove_name(dir: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
    let removed = match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR),
        removed => removed,
    };
    match removed {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

//! The few ways in which this module touches a directory: one component below a held fd, links not followed.

use crate::error::{OsContext, Result};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// How a directory of ours is opened.
pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How a file of ours is opened for reading. Whatever was put in its place, opening does not wait for it.
pub(super) const REGULAR: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY);

/// Makes the directory `path`, absolute and without a slash at its end, and its missing parents. Symbolic links on
/// the way are the host's own business, the last component may not be one.
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

/// Opens the directory `name` of `parent`, made if missing, and says whether it was. `path` is for the message.
pub(super) fn make_directory(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(OwnedFd, bool)> {
    let created = match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(errno).os(|| format!("mkdirat({path:?}, 0700)")),
    };
    let fd = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())
        .os(|| format!("openat({path:?}, O_DIRECTORY|O_NOFOLLOW)"))?;
    if created {
        // A umask of 0177 is good for a caller's files and would lock us out of our directory.
        rustix::fs::fchmod(&fd, Mode::RWXU).os(|| format!("fchmod({path:?}, 0700)"))?;
    }
    Ok((fd, created))
}

/// Removes `name` from `dir`, also if somebody put an empty directory in its place; already gone is fine.
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

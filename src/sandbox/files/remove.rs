//! Removing a tree: by descriptors from the directory it is in, never across a mount, never through a symlink.

use super::walk::{self, MAX_DEPTH};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::sandbox::init::resolve;
use crate::sandbox::init::resolve::ParentAndName;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;

/// Removes what stands at `place`, with everything below it. What is there to remove is removed even if something
/// else cannot be; the first failure is the error.
pub(super) fn remove_all(place: &ParentAndName) -> Result<()> {
    let name = std::ffi::CString::new(place.name.as_bytes())
        .map_err(|_| Error::new(ErrorKind::Os(libc::EINVAL), "remove", "a name with a NUL byte"))?;
    let stat = rustix::fs::statat(&place.parent, &name, AtFlags::SYMLINK_NOFOLLOW)
        .os(|| format!("fstatat({name:?})"))?;
    remove(place.parent.as_fd(), &name, FileType::from_raw_mode(stat.st_mode), MAX_DEPTH)
}

fn remove(parent: BorrowedFd<'_>, name: &CStr, kind: FileType, depth: usize) -> Result<()> {
    if kind != FileType::Directory {
        return match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            // Somebody else was faster.
            Err(Errno::NOENT) => Ok(()),
            result => result.os(|| format!("unlinkat({name:?})")),
        };
    }
    let below = match resolve::open_child(parent, name) {
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::XDEV) => {
            let busy = format!("{name:?} is a mount point");
            return Err(Error::new(ErrorKind::Os(libc::EBUSY), "remove", busy));
        }
        below => below.os(|| format!("openat2({name:?})"))?,
    };
    let Some(depth) = depth.checked_sub(1) else { return Err(walk::too_deep(name)) };
    let mut first = Ok(());
    for (name, kind) in walk::children(&below)? {
        first = first.and(remove(below.as_fd(), &name, kind, depth));
    }
    first?;
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        result => result.os(|| format!("unlinkat({name:?}, AT_REMOVEDIR)")),
    }
}

//! Walking and removing directories that a hostile container fills.

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::sandbox::resolve::{self, ParentAndName};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;

/// The deepest tree that is walked: each level holds one descriptor, of the 1024 that a process commonly has.
pub(super) const MAX_DEPTH: usize = 256;
/// The most names of one directory that are held in memory at once.
const MAX_NAMES: usize = 1 << 20;

/// The names in `directory` and what they are, without `.` and `..`, sorted.
pub(super) fn children(directory: &OwnedFd) -> Result<Vec<(CString, FileType)>> {
    let mut children = Vec::new();
    for_each(directory, |name, kind| {
        if children.len() == MAX_NAMES {
            let limit = MAX_NAMES as u64;
            let problem = format!("a directory has more than {MAX_NAMES} entries");
            return Err(Error::new(ErrorKind::TooLarge { limit }, "getdents", problem));
        }
        children.push((name.to_owned(), kind));
        Ok(())
    })?;
    children.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    Ok(children)
}

/// Calls `each` for every name in `directory` but `.` and `..`.
pub(super) fn for_each(
    directory: &OwnedFd,
    mut each: impl FnMut(&CStr, FileType) -> Result<()>,
) -> Result<()> {
    for entry in Dir::read_from(directory).os(|| "getdents()")? {
        let entry = entry.os(|| "getdents()")?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                match rustix::fs::statat(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    // Gone since it was read.
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(errno).os(|| format!("fstatat({name:?})")),
                }
            }
            kind => kind,
        };
        each(name, kind)?;
    }
    Ok(())
}

pub(super) fn too_deep(name: &CStr) -> Error {
    let problem = format!("{name:?} is more than {MAX_DEPTH} directories deep");
    Error::new(ErrorKind::Os(libc::ELOOP), "walk", problem)
}

/// Removes the file or tree at `place`, by descriptors, never across a mount and never through a symlink. It goes on after a
/// failure and returns the first one.
pub(super) fn remove_all(place: &ParentAndName) -> Result<()> {
    let name = CString::new(place.name.as_bytes())
        .map_err(|_| Error::new(ErrorKind::Os(libc::EINVAL), "remove", "a name with a NUL byte"))?;
    let stat = rustix::fs::statat(&place.parent, &name, AtFlags::SYMLINK_NOFOLLOW)
        .os(|| format!("fstatat({name:?})"))?;
    remove(place.parent.as_fd(), &name, FileType::from_raw_mode(stat.st_mode), MAX_DEPTH)
}

fn remove(parent: BorrowedFd<'_>, name: &CStr, kind: FileType, depth: usize) -> Result<()> {
    if kind != FileType::Directory {
        return match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            // Another process was faster.
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
    let Some(depth) = depth.checked_sub(1) else { return Err(too_deep(name)) };
    let mut first = Ok(());
    for (name, kind) in children(&below)? {
        first = first.and(remove(below.as_fd(), &name, kind, depth));
    }
    first?;
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        result => result.os(|| format!("unlinkat({name:?}, AT_REMOVEDIR)")),
    }
}

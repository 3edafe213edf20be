//! Reading directories that a hostile container fills.

use crate::error::{Error, ErrorKind, OsContext, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;
use std::ffi::{CStr, CString};

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

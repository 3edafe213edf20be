//! `tmpcopyup`: fills a new tmpfs with a copy of the image's directory at its destination.

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::process::lease::{name_lease, open_unleased};
use crate::sandbox::resolve;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::path::Path;

/// The deepest directory that is copied, so that an image cannot make us recurse without end.
const MAX_DEPTH: u32 = 128;

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Copies the tree at `at` below `root` into the directory `to`. A source that is not a directory, or not there, leaves
/// the tmpfs empty.
pub(in crate::sandbox) fn copy_up(root: BorrowedFd<'_>, at: &Path, to: BorrowedFd<'_>) -> Result<()> {
    match resolve::open_with(root, at, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(from) => {
            // A detached mount is an O_PATH descriptor: open it to be able to write.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let to = rustix::fs::openat(to, ".", flags, Mode::empty()).os(|| "open(tmpcopyup)")?;
            copy_directory(&from, to.as_fd(), MAX_DEPTH)
        }
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(errno) => Err(errno).os(|| format!("openat2(rootfs, {at:?})")),
    }
}

fn copy_directory(from: &OwnedFd, to: BorrowedFd<'_>, depth: u32) -> Result<()> {
    let stat = rustix::fs::fstat(from).os(|| "fstat(tmpcopyup)")?;
    keep_owner_and_mode(to, &stat)?;
    for entry in Dir::read_from(from).os(|| "getdents(tmpcopyup)")? {
        let entry = entry.os(|| "getdents(tmpcopyup)")?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(from, to, name, depth)?;
        }
    }
    Ok(())
}

/// Copies one entry. Leaves out devices, sockets and FIFOs, which are of no use in a tmpfs.
fn copy_entry(from: &OwnedFd, to: BorrowedFd<'_>, name: &CStr, depth: u32) -> Result<()> {
    let step = || format!("tmpcopyup {name:?}");
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).os(step)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let Some(depth) = depth.checked_sub(1) else {
                return Err(Error::new(ErrorKind::Os(libc::ELOOP), step(), "the directory is too deep"));
            };
            let source = rustix::fs::openat(from, name, OPEN | OFlags::DIRECTORY, Mode::empty()).os(step)?;
            rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700)).os(step)?;
            let copy = rustix::fs::openat(to, name, OPEN | OFlags::DIRECTORY, Mode::empty()).os(step)?;
            copy_directory(&source, copy.as_fd(), depth)
        }
        FileType::RegularFile => {
            let flags = OPEN | OFlags::NONBLOCK;
            let open = || rustix::fs::openat(from, name, flags, Mode::empty());
            let source = open_unleased(open).os(step).map_err(name_lease)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let copy = rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600)).os(step)?;
            keep_owner_and_mode(copy.as_fd(), &stat)?;
            std::io::copy(&mut std::fs::File::from(source), &mut std::fs::File::from(copy)).os(step).map(drop)
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new()).os(step)?;
            rustix::fs::symlinkat(&target, to, name).os(step)
        }
        _ => Ok(()),
    }
}

fn keep_owner_and_mode(fd: BorrowedFd<'_>, stat: &Stat) -> Result<()> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
    // An owner that is not mapped cannot be kept; the file then belongs to the container's root.
    let _ = rustix::fs::fchown(fd, Some(uid), Some(gid));
    rustix::fs::fchmod(fd, Mode::from_raw_mode(stat.st_mode & 0o7777)).os(|| "fchmod(tmpcopyup)")
}

//! The changes of a container: compares the upper layers of its overlays with the lower ones.

use super::layers::{self, Layer, Layers};
use super::walk::{self, MAX_DEPTH};
use crate::error::{OsContext, Result};
use crate::sandbox::resolve;
use crate::wire::files::{Change, ChangeKind};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Calls `each` for every change.
pub(super) fn for_each(layers: &Layers, mut each: impl FnMut(Change) -> Result<()>) -> Result<()> {
    for Layer { at, upper, lower } in layers.open()? {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let lower = rustix::fs::openat(lower, ".", flags, Mode::empty()).os(|| "open(lower layer)")?;
        compare(&upper, Some(&lower), &Path::new("/").join(at), MAX_DEPTH, &mut each)?;
    }
    Ok(())
}

/// Compares a directory of the upper layer with the one at the same path of the lower layer, if there is one.
fn compare(
    upper: &OwnedFd,
    lower: Option<&OwnedFd>,
    at: &Path,
    depth: usize,
    each: &mut impl FnMut(Change) -> Result<()>,
) -> Result<()> {
    let children = walk::children(upper)?;
    if let Some(lower) = lower.filter(|_| layers::is_opaque(upper)) {
        let here: BTreeSet<&CString> = children.iter().map(|(name, _)| name).collect();
        for (name, _) in walk::children(lower)?.iter().filter(|(name, _)| !here.contains(name)) {
            let path = at.join(OsStr::from_bytes(name.as_bytes()));
            each(Change { kind: ChangeKind::Deleted, path })?;
        }
    }
    for (name, kind) in &children {
        let path = at.join(OsStr::from_bytes(name.as_bytes()));
        let now = rustix::fs::statat(upper, name, AtFlags::SYMLINK_NOFOLLOW)
            .os(|| format!("fstatat(upper layer, {path:?})"))?;
        // If it cannot be read, there is nothing to compare with.
        let before = lower.and_then(|lower| rustix::fs::statat(lower, name, AtFlags::SYMLINK_NOFOLLOW).ok());
        let change = match &before {
            Some(_) if layers::is_whiteout(&now) => Some(ChangeKind::Deleted),
            None if layers::is_whiteout(&now) => None,
            None => Some(ChangeKind::Added),
            Some(before) => differs(before, &now).then_some(ChangeKind::Modified),
        };
        if let Some(kind) = change {
            each(Change { kind, path: path.clone() })?;
        }
        if *kind == FileType::Directory {
            let Some(depth) = depth.checked_sub(1) else { return Err(walk::too_deep(name)) };
            let below =
                resolve::open_child(upper.as_fd(), name).os(|| format!("open(upper layer, {path:?})"))?;
            let was_directory = before.is_some_and(|stat| kind_of(&stat) == FileType::Directory);
            let before = match lower {
                Some(lower) if was_directory => Some(
                    resolve::open_child(lower.as_fd(), name).os(|| format!("open(lower layer, {path:?})"))?,
                ),
                _ => None,
            };
            compare(&below, before.as_ref(), &path, depth, each)?;
        }
    }
    Ok(())
}

/// Whether the type, content, mode or owner differs. An entry of the upper layer need not have changed: the kernel copies a
/// file there, with its times, when it is opened for writing, and a directory, with new times, when anything below it is
/// copied.
fn differs(before: &Stat, now: &Stat) -> bool {
    let of_all = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    let of_files = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    of_all(before) != of_all(now)
        || (kind_of(now) != FileType::Directory && of_files(before) != of_files(now))
}

fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

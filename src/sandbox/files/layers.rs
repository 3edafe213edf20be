//! The layers of a container's overlays: the changed files, and the image below them.
//!
//! An overlay keeps in its upper directory everything that differs from the lower one (kernel documentation, "Overlay
//! Filesystem"): whole files, a character device 0:0 for each removed name, and an attribute on directories that hide the
//! lower directory.

use crate::error::{Error, OsContext, Result};
use crate::helper::Received;
use crate::wire::init::{lower_name, upper_name};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use std::path::{Path, PathBuf};

/// The attribute of a directory that hides the lower one, in an overlay with `userxattr`.
const OPAQUE: &str = "user.overlay.opaque";
/// The prefix of the overlay's own attributes, which are not part of a layer.
pub(super) const OWN_ATTRIBUTES: &[u8] = b"user.overlay.";

/// The layers, of every overlay of the container.
pub(in crate::sandbox) struct Layers {
    /// Where the overlays are, relative to the container's root.
    overlays: Vec<PathBuf>,
    /// For each, its upper and its lower layer.
    mounts: Vec<[OwnedFd; 2]>,
}

/// The layers of one overlay.
pub(super) struct Layer<'a> {
    /// Where it is, relative to the container's root.
    pub(super) at: &'a Path,
    /// Open for reading.
    pub(super) upper: OwnedFd,
    /// Open as a location.
    pub(super) lower: BorrowedFd<'a>,
}

impl Layers {
    /// Takes the layers of these overlays, which are paths below the root, from init's handles. There are none where they
    /// cannot be read.
    pub(in crate::sandbox) fn take(overlays: Vec<PathBuf>, handles: &mut Received) -> Result<Self> {
        let mut mounts = Vec::new();
        while let Some(upper) = handles.take_optional(&upper_name(mounts.len())) {
            let lower = handles.take(&lower_name(mounts.len()))?;
            mounts.push([upper, lower]);
        }
        Ok(Self { overlays, mounts })
    }

    /// Where the overlays are, relative to the container's root.
    pub(in crate::sandbox) fn overlays(&self) -> &[PathBuf] {
        &self.overlays
    }

    /// The layers under the names by which [`take`](Self::take) takes them.
    pub(in crate::sandbox) fn named(&self) -> Vec<(String, BorrowedFd<'_>)> {
        let names = (0..).flat_map(|overlay| [upper_name(overlay), lower_name(overlay)]);
        names.zip(self.fds()).collect()
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.mounts.iter().flatten().map(AsFd::as_fd)
    }

    /// Whether an overlay has changed files. Fails if its upper layer cannot be read.
    pub(in crate::sandbox) fn are_changed(&self) -> Result<bool> {
        if self.overlays.is_empty() {
            return Ok(false);
        }
        Ok(self.open()?.iter().any(|layer| !is_empty(layer.upper.as_fd())))
    }

    /// Whether an upper layer has a file at this absolute path of the container.
    pub(in crate::sandbox) fn changed_file(&self, path: &Path) -> bool {
        let path = path.strip_prefix("/").unwrap_or(path);
        let mut layers = self.overlays.iter().zip(&self.mounts);
        layers.any(|(at, [upper, _])| {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let found = path.strip_prefix(at).map(|below| {
                let found = rustix::fs::openat2(upper, below, flags, Mode::empty(), resolve);
                found.and_then(rustix::fs::fstat)
            });
            matches!(found, Ok(Ok(stat)) if !is_whiteout(&stat))
        })
    }

    /// The layers of each overlay, or why there are none.
    pub(super) fn open(&self) -> Result<Vec<Layer<'_>>> {
        if self.overlays.is_empty() {
            let problem = "the container has no scratch, so nothing is kept of what it changes";
            return Err(Error::unsupported("scratch", problem).hint("build it with scratch()"));
        }
        if self.mounts.len() != self.overlays.len() {
            let problem =
                "the files of a tmpfs have no user.* attributes on this kernel, so the layer cannot be read";
            return Err(Error::unsupported("scratch", problem).hint("Linux 6.6 with CONFIG_TMPFS_XATTR can"));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let layers = self.overlays.iter().zip(&self.mounts).map(|(at, [upper, lower])| {
            let upper = rustix::fs::openat(upper, ".", flags, Mode::empty()).os(|| "open(upper layer)")?;
            Ok(Layer { at, upper, lower: lower.as_fd() })
        });
        layers.collect()
    }
}

/// Whether a directory has no entries. One that cannot be read may have some.
pub(in crate::sandbox) fn is_empty(directory: BorrowedFd<'_>) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let entries = rustix::fs::openat(directory, ".", flags, Mode::empty()).and_then(Dir::new);
    let is_itself = |name: &std::ffi::CStr| matches!(name.to_bytes(), b"." | b"..");
    entries.is_ok_and(|mut all| all.all(|entry| entry.is_ok_and(|entry| is_itself(entry.file_name()))))
}

/// Whether this entry says that a name was removed.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether a directory hides the directory of the lower layer.
pub(super) fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0; 1];
    rustix::fs::fgetxattr(directory, OPAQUE, &mut value).is_ok_and(|size| size == 1 && value == *b"y")
}

//! The layers of a container's overlays: what it changed, and what it changed it from.
//!
//! An overlay keeps in its upper directory whatever differs from the lower one (kernel documentation, "Overlay
//! Filesystem"): files whole, a character device 0:0 where something was removed, and an attribute on directories that
//! hide what is below them.

use crate::error::{Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use std::path::{Path, PathBuf};

/// The attribute of a directory that hides the one below it, as an overlay with `userxattr` spells it.
const OPAQUE: &str = "user.overlay.opaque";
/// What attributes of an overlay's own begin with: no business of anybody else's.
pub(super) const OWN_ATTRIBUTES: &[u8] = b"user.overlay.";

/// The layers, of every overlay of the container.
#[derive(Default)]
pub(in crate::sandbox) struct Layers {
    /// Where the overlays are, relative to the container's root.
    overlays: Vec<PathBuf>,
    /// For each, its upper and its lower layer.
    mounts: Vec<OwnedFd>,
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
    pub(in crate::sandbox) fn new(overlays: Vec<PathBuf>) -> Self {
        Self { overlays, mounts: Vec::new() }
    }

    pub(in crate::sandbox) fn receive(&mut self, mounts: Vec<OwnedFd>) {
        self.mounts = mounts;
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.mounts.iter().map(AsFd::as_fd)
    }

    /// The layers of each overlay, or why there are none.
    pub(super) fn open(&self) -> Result<Vec<Layer<'_>>> {
        use crate::error::OsContext;
        if self.overlays.is_empty() {
            let problem = "the container has no scratch, so nothing is kept of what it changes";
            return Err(Error::unsupported("scratch", problem).hint("build it with scratch()"));
        }
        if self.mounts.len() != 2 * self.overlays.len() {
            let problem =
                "the files of a tmpfs have no user.* attributes on this kernel, so the layer cannot be read";
            return Err(Error::unsupported("scratch", problem).hint("Linux 6.6 with CONFIG_TMPFS_XATTR can"));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let pairs = self.overlays.iter().zip(self.mounts.chunks_exact(2));
        let layers = pairs.map(|(at, pair)| {
            let upper = rustix::fs::openat(&pair[0], ".", flags, Mode::empty()).os(|| "open(upper layer)")?;
            Ok(Layer { at, upper, lower: pair[1].as_fd() })
        });
        layers.collect()
    }
}

/// Whether it says that something was removed.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether a directory hides what the lower layer has in its place.
pub(super) fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0; 1];
    rustix::fs::fgetxattr(directory, OPAQUE, &mut value).is_ok_and(|size| size == 1 && value == *b"y")
}

//! An empty root, in which CRIU begins: nothing that it looks for by a path is there, whatever is in the container.
//!
//! ```text
//!   /            tmpfs, read by all, without a file
//!     proc/      a proc: CRIU executes itself by descriptors that it shows
//!     container/ the container's root, until CRIU and the sandbox enter it
//! ```

use super::file_systems::{new_fs, new_proc};
use super::tree::{enter, show_root};
use crate::error::{OsContext, Result};
use crate::spec::{MountAttrs, RootfsPropagation};
use crate::sys::attach;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};

/// Of a file system in which no program and no device is.
pub(super) const BARE: MountAttrs = MountAttrs::NOSUID.union(MountAttrs::NODEV).union(MountAttrs::NOEXEC);

/// It has a proc of the pid namespace that this process is in, a place for the container's root, and no file.
pub(super) struct EmptyRoot {
    root: OwnedFd,
    pub(super) proc: OwnedFd,
    place: OwnedFd,
}

impl EmptyRoot {
    /// Attaches it on top of this process's root.
    pub(super) fn make() -> Result<Self> {
        let options = ["mode=0555", "size=64k", "nr_inodes=16"].map(str::to_owned);
        let root = new_fs("tmpfs", &options, BARE)?;
        let proc = new_proc(None, &[], BARE)?;
        show_root(root.as_fd(), None, None)?;
        attach_new(proc.as_fd(), root.as_fd(), "proc")?;
        let place = make_directory(root.as_fd(), "container")?;
        Ok(Self { root, proc, place })
    }

    /// The place for the container's root.
    pub(super) fn place(&self) -> Result<OwnedFd> {
        self.place.try_clone().os(|| "fcntl(F_DUPFD_CLOEXEC, anteroom)")
    }

    /// Attaches `mount` at a new directory of it.
    pub(super) fn attach_new(&self, mount: BorrowedFd<'_>, name: &str) -> Result<()> {
        attach_new(mount, self.root.as_fd(), name)
    }

    /// Enters it, and takes along the container's root if that is elsewhere.
    pub(super) fn enter_with(self, root: Option<BorrowedFd<'_>>) -> Result<()> {
        if let Some(root) = root {
            attach(root, self.place.as_fd()).os(|| "move_mount(rootfs, anteroom)")?;
        }
        enter(self.root.as_fd(), RootfsPropagation::Private)
    }
}

/// Attaches `mount` at a new directory of `root`.
fn attach_new(mount: BorrowedFd<'_>, root: BorrowedFd<'_>, name: &str) -> Result<()> {
    attach(mount, make_directory(root, name)?.as_fd()).os(|| format!("move_mount({name:?})"))
}

fn make_directory(root: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let step = || format!("mkdir({name:?})");
    rustix::fs::mkdirat(root, name, Mode::from_raw_mode(0o555)).os(step)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(root, name, flags, Mode::empty()).os(step)
}

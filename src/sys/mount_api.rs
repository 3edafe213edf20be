//! Mounts as descriptors: make one detached, set its attributes while no path leads to it, then attach it.
//!
//! ```text
//!   NewMount::open(kind) --set, flag, option--> mount() --+
//!                                                         +--> detached mount --change, set_propagation--> attach
//!   clone_tree, clone_tree_at --------------------------- +
//! ```
//!
//! Every descriptor here is close-on-exec. mount_setattr(2) is the only call that `rustix` lacks.

use super::check;
use crate::error::{OsContext, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount, open_tree,
    unmount,
};
use std::ffi::CString;
use std::path::Path;

/// A new instance of a file system, between fsopen(2) and fsmount(2).
pub(crate) struct NewMount<'a> {
    kind: &'a str,
    context: OwnedFd,
}

impl<'a> NewMount<'a> {
    /// fsopen(2): `ENODEV` if the kernel does not know file systems of this `kind`.
    pub(crate) fn open(kind: &'a str) -> Result<Self> {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).os(|| format!("fsopen({kind:?})"))?;
        Ok(Self { kind, context })
    }

    /// fsconfig(2), `FSCONFIG_SET_STRING`.
    pub(crate) fn set(&self, key: &str, value: &str) -> Result<()> {
        fsconfig_set_string(self.context.as_fd(), key, value)
            .os(|| format!("fsconfig({:?}, {key:?}, {value:?})", self.kind))
    }

    /// fsconfig(2), `FSCONFIG_SET_FLAG`.
    pub(crate) fn flag(&self, key: &str) -> Result<()> {
        fsconfig_set_flag(self.context.as_fd(), key).os(|| format!("fsconfig({:?}, {key:?})", self.kind))
    }

    /// One option in the notation of mount(8): `key=value`, or a flag.
    pub(crate) fn option(&self, option: &str) -> Result<()> {
        match option.split_once('=') {
            Some((key, value)) => self.set(key, value),
            None => self.flag(option),
        }
    }

    /// Creates the file system and returns a detached mount of it with these attributes (`MOUNT_ATTR_*`).
    pub(crate) fn mount(self, attributes: u64) -> Result<OwnedFd> {
        let kind = self.kind;
        fsconfig_create(self.context.as_fd()).os(|| format!("fsconfig({kind:?}, FSCONFIG_CMD_CREATE)"))?;
        // fsmount(2) takes 32 bits. A bit above them is an attribute of a newer kernel: EINVAL, as for any unknown one.
        let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).unwrap_or(u32::MAX));
        fsmount(self.context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .os(|| format!("fsmount({kind:?})"))
    }
}

/// A new instance of a file system with options that are too long for fsconfig(2), as a detached mount: mount(2) takes a
/// page of them. That call needs a path, which is covered for a moment: `place`, in a mount namespace that no other
/// process looks into. Without a `source` that is the `kind`.
pub(crate) fn mount_with_page(
    kind: &str,
    source: Option<&str>,
    options: &[String],
    read_only: bool,
    place: &Path,
) -> Result<OwnedFd> {
    let options = options.join(",");
    let step = || format!("mount({kind:?}, {place:?}, {} bytes of options)", options.len());
    let flags = if read_only { MountFlags::RDONLY } else { MountFlags::empty() };
    let data = CString::new(options.as_str()).map_err(|_| Errno::INVAL).os(step)?;
    mount(source.unwrap_or(kind), place, kind, flags, data.as_c_str()).os(step)?;
    let copy = clone_tree_at(place, false).os(|| format!("open_tree({place:?}, OPEN_TREE_CLONE)"));
    unmount(place, UnmountFlags::DETACH).os(|| format!("umount2({place:?}, MNT_DETACH)"))?;
    copy
}

/// A detached copy of the mount at `at`; if `recursive`, with everything mounted below it: open_tree(2).
///
/// KERNEL(6.15): before, `EINVAL` for a mount that is attached nowhere.
pub(crate) fn clone_tree(at: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    open_tree(at, "", clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH)
}

/// As [`clone_tree`], by path.
pub(crate) fn clone_tree_at(path: &Path, recursive: bool) -> Result<OwnedFd, Errno> {
    open_tree(CWD, path, clone_flags(recursive))
}

/// The mount alone, or, where the kernel refuses that, with everything below it: in a user namespace, a mount that has
/// others on top of its directories cannot be copied without them, because the copy would uncover those directories.
pub(crate) fn alone_or_whole(clone: impl Fn(bool) -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    match clone(false) {
        Err(Errno::INVAL) => clone(true),
        copy => copy,
    }
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// Attaches a detached mount on top of `target`: move_mount(2).
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}

/// As [`attach`], by path.
pub(crate) fn attach_at(mount: BorrowedFd<'_>, path: &Path) -> Result<(), Errno> {
    move_mount(mount, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// What mount_setattr(2) changes: `struct mount_attr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// `MOUNT_ATTR_IDMAP`.
const IDMAP: u64 = 0x0010_0000;
/// `MOUNT_ATTR__ATIME`: the atime attributes are one field, which must be cleared before it is set.
const ATIME: u64 = 0x70;
const AT_RECURSIVE: libc::c_int = 0x8000;

impl MountAttr {
    /// Sets and clears attributes (`MOUNT_ATTR_*`).
    pub(crate) fn change(set: u64, clear: u64) -> Self {
        let clear = if (set | clear) & ATIME != 0 { clear | ATIME } else { clear };
        Self { attr_set: set, attr_clr: clear & !(set & !ATIME), ..Self::default() }
    }

    /// Shows files with the ids of `userns`.
    pub(crate) fn idmap(userns: BorrowedFd<'_>) -> Self {
        Self { attr_set: IDMAP, userns_fd: userns.as_raw_fd() as u64, ..Self::default() }
    }

    /// Sets the propagation type as well: `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or `MS_UNBINDABLE`.
    pub(crate) fn with_propagation(self, propagation: u64) -> Self {
        Self { propagation, ..self }
    }

    fn is_noop(&self) -> bool {
        self.attr_set == 0 && self.attr_clr == 0 && self.propagation == 0
    }
}

/// Changes the mount that `fd` is the root of; if `recursive`, also every mount below it.
pub(crate) fn mount_setattr(fd: BorrowedFd<'_>, attr: &MountAttr, recursive: bool) -> Result<(), Errno> {
    if attr.is_noop() {
        return Ok(());
    }
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string literal, and `attr` is a reference, so the struct of the size given is valid for
    // the call, which only reads both. The kernel uses `userns_fd` only with MOUNT_ATTR_IDMAP, which `idmap` alone
    // sets, from a borrowed descriptor.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    check(result)
}

/// Sets the propagation type alone, as [`MountAttr::with_propagation`].
pub(crate) fn set_propagation(fd: BorrowedFd<'_>, propagation: u64, recursive: bool) -> Result<(), Errno> {
    mount_setattr(fd, &MountAttr::default().with_propagation(propagation), recursive)
}

//! mount_setattr(2), which `rustix` lacks.

use super::check;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;

/// `struct mount_attr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MountAttr {
    pub(crate) attr_set: u64,
    pub(crate) attr_clr: u64,
    pub(crate) propagation: u64,
    pub(crate) userns_fd: u64,
}

/// `MOUNT_ATTR_IDMAP`.
const IDMAP: u64 = 0x0010_0000;
/// `MOUNT_ATTR__ATIME`: the atime attributes are one field, to be cleared before it is set.
const ATIME: u64 = 0x70;
const AT_RECURSIVE: libc::c_int = 0x8000;

impl MountAttr {
    /// Sets and clears attributes.
    pub(crate) fn change(set: u64, clear: u64) -> Self {
        let clear = if (set | clear) & ATIME != 0 { clear | ATIME } else { clear };
        Self { attr_set: set, attr_clr: clear & !(set & !ATIME), ..Self::default() }
    }

    /// Shows files with the ids of `userns`.
    pub(crate) fn idmap(userns: BorrowedFd<'_>) -> Self {
        Self { attr_set: IDMAP, userns_fd: userns.as_raw_fd() as u64, ..Self::default() }
    }

    fn is_noop(&self) -> bool {
        self.attr_set == 0 && self.attr_clr == 0 && self.propagation == 0
    }
}

/// Changes the mount `fd` is the root of; with `recursive`, the tree below it too.
pub(crate) fn mount_setattr(fd: BorrowedFd<'_>, attr: &MountAttr, recursive: bool) -> Result<(), Errno> {
    if attr.is_noop() {
        return Ok(());
    }
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is empty and the struct has the size given; `userns_fd` is only read with MOUNT_ATTR_IDMAP, and
    // then comes from a borrowed descriptor.
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

/// Sets propagation (`MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`) on the mount `fd` is the root of.
pub(crate) fn set_propagation(fd: BorrowedFd<'_>, propagation: u64, recursive: bool) -> Result<(), Errno> {
    mount_setattr(fd, &MountAttr { propagation, ..MountAttr::default() }, recursive)
}

//! The memory devices of a container's own, for descriptors: null, zero, full, random, urandom.
//!
//! No descriptor of such a device of the host reaches a workload, not even one that the caller gave: with the host's uid 0
//! the workload could change the mode of the host's device by fchmod(2). And what all containers have open together they
//! could use to signal each other, because the flags of fcntl(2) belong to the open file description. So each process
//! opens the node in its container's `/dev`, which init made; or which is a read-only bind of the host's in a user
//! namespace, where mknod(2) makes no device.

use super::init::file_systems::new_fs;
use super::resolve;
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::process::stdio::{MEMORY_DEVICES, NULL, memory_device};
use crate::spec::MountAttrs;
use crate::sys::{self, MountAttr, attach_at, clone_tree_at};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::path::Path;

/// The devices that a process opens for descriptors, each once, by minor number.
pub(super) struct OwnDevices(Vec<(u32, OwnedFd)>);

impl OwnDevices {
    /// By `open`, for each device among `wanted`.
    fn open(wanted: &[(i32, u32)], open: impl Fn(u32) -> Result<OwnedFd>) -> Result<Self> {
        let mut opened: Vec<(u32, OwnedFd)> = Vec::new();
        for (_, minor) in wanted {
            if !opened.iter().any(|(known, _)| known == minor) {
                opened.push((*minor, open(*minor)?));
            }
        }
        Ok(Self(opened))
    }

    /// In init, before it enters `root`.
    pub(super) fn of_new_root(wanted: &[(i32, u32)], root: BorrowedFd<'_>) -> Result<Self> {
        Self::open(wanted, |minor| of_new_root(root, minor))
    }

    /// In a further process of a container, below its root, which may be hostile. `null` is what init opened.
    pub(super) fn of_own_root(wanted: &[(i32, u32)], null: BorrowedFd<'_>) -> Result<Self> {
        if wanted.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open("/", flags, Mode::empty()).os(|| "open(\"/\", O_PATH)")?;
        Self::open(wanted, |minor| match open(root.as_fd(), minor)? {
            Some(device) => Ok(device),
            None if minor == NULL => rustix::io::fcntl_dupfd_cloexec(null, 3).os(|| "fcntl(F_DUPFD_CLOEXEC)"),
            None => {
                let problem = format!("the container's /dev/{} is another file", name_of(minor));
                Err(Error::new(ErrorKind::Os(libc::ENODEV), "open the device", problem))
            }
        })
    }

    /// The device for one number of `wanted`.
    fn device(&self, minor: u32) -> BorrowedFd<'_> {
        let found = self.0.iter().find(|(known, _)| *known == minor);
        found.expect("every wanted one is opened").1.as_fd()
    }

    /// Makes the standard streams among `wanted` these devices.
    pub(super) fn become_streams(&self, wanted: &[(i32, u32)]) -> Result<()> {
        for (number, minor) in wanted.iter().filter(|(number, _)| *number < 3) {
            sys::place_at(self.device(*minor), *number).os(|| format!("dup2({number})"))?;
        }
        Ok(())
    }

    /// Those among `wanted` that are no standard streams, with their numbers.
    pub(super) fn extra<'a>(
        &'a self,
        wanted: &'a [(i32, u32)],
    ) -> impl Iterator<Item = (i32, BorrowedFd<'a>)> {
        let extra = wanted.iter().filter(|(number, _)| *number > 2);
        extra.map(|(number, minor)| (*number, self.device(*minor)))
    }
}

/// In init, before it enters `root`: opens the device there; or makes one, where the configuration has put something else
/// over the container's `/dev`.
pub(super) fn of_new_root(root: BorrowedFd<'_>, minor: u32) -> Result<OwnedFd> {
    match open(root, minor)? {
        Some(device) => Ok(device),
        None => make(minor),
    }
}

/// Opens the device below `root`. `None` if another file is there, or none.
fn open(root: BorrowedFd<'_>, minor: u32) -> Result<Option<OwnedFd>> {
    let path = format!("dev/{}", name_of(minor));
    // The container may have put any file there. So look first, and again at what was opened, without waiting for it.
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let open = |flags| resolve::open_with(root, Path::new(&path), flags);
    let is_it = |file: &OwnedFd| Ok::<_, Error>(memory_device(file.as_fd())? == Some(minor));
    let Ok(seen) = open(OFlags::PATH) else { return Ok(None) };
    if !is_it(&seen)? {
        return Ok(None);
    }
    let Ok(file) = open(flags) else { return Ok(None) };
    if !is_it(&file)? {
        return Ok(None);
    }
    rustix::fs::fcntl_setfl(&file, OFlags::empty()).os(|| format!("fcntl({path:?}, F_SETFL)"))?;
    Ok(Some(file))
}

/// A device in a file system of its own; or, where mknod(2) is refused, the host's through a read-only mount.
pub(super) fn make(minor: u32) -> Result<OwnedFd> {
    let name = name_of(minor);
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let directory = new_fs("tmpfs", &["mode=755".to_owned()], MountAttrs::NOSUID | MountAttrs::NOEXEC)?;
    let mode = Mode::from_raw_mode(0o666);
    let device = rustix::fs::makedev(1, minor);
    match rustix::fs::mknodat(&directory, name, FileType::CharacterDevice, mode, device) {
        Ok(()) => {
            if let Ok(device) = rustix::fs::openat(&directory, name, flags, Mode::empty()) {
                return Ok(device);
            }
        }
        Err(Errno::PERM) => {}
        Err(errno) => return Err(errno).os(|| format!("mknod(1:{minor})")),
    }
    // Over the host's node, in the mount namespace that init is about to leave.
    let path = Path::new("/dev").join(name);
    let mount = clone_tree_at(&path, false).os(|| format!("open_tree({path:?}, OPEN_TREE_CLONE)"))?;
    sys::mount_setattr(mount.as_fd(), &MountAttr::change(MountAttrs::RDONLY.bits(), 0), false)
        .os(|| format!("mount_setattr({path:?}, MOUNT_ATTR_RDONLY)"))?;
    attach_at(mount.as_fd(), &path).os(|| format!("move_mount({path:?})"))?;
    rustix::fs::open(&path, flags, Mode::empty()).os(|| format!("open({path:?})"))
}

fn name_of(minor: u32) -> &'static str {
    MEMORY_DEVICES.iter().find(|(_, known)| *known == minor).map_or("null", |(name, _)| *name)
}

//! The container's file system: receive the gofer's mounts, put everything in its place, pivot.
//!
//! Init makes every mount detached, sets its attributes while no path leads to it, and moves it onto a target that it
//! resolved below the root. The plan has the steps and their order; this file decides nothing.

use super::file_systems::{new_fs, new_of, new_proc, new_tmpfs, unseen_proc};
use super::handed;
use super::handed::{Handed, misbehaved};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::plan::{DeviceNode, InitPlan, RootPlan, StepSource, Target, TreeStep};
use crate::process::Channel;
use crate::sandbox::namespaces;
use crate::sandbox::own_device::OwnDevices;
use crate::sandbox::resolve::{self, TargetKind};
use crate::spec::{MountAttrs, NamespaceSource, Propagation, RootfsPropagation};
use crate::sys::{self, MountAttr, attach, clone_tree};
use crate::weaken::{Rule, leaves_out};
use crate::wire::init::JoinNetwork;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, PROC_SUPER_MAGIC};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use std::ffi::OsStr;
use std::path::Path;

/// The links of OCI runtime-linux.md, "/dev symbolic links", and the multiplexer of devpts.
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// The root under construction.
struct Tree<'a> {
    root: OwnedFd,
    /// The connection from which the network namespace comes, until init has joined it.
    network: Option<&'a Channel>,
    handed: Handed,
    /// Mounts of the pod's volumes, from the sandbox.
    volumes: &'a [OwnedFd],
    /// The container's own proc, straight from the kernel: independent of any mount at `/proc`.
    proc: Option<OwnedFd>,
    read_only: Vec<OwnedFd>,
    /// The container's `/dev/null`, once a mask needed it.
    null: Option<OwnedFd>,
}

/// A complete tree.
pub(in crate::sandbox) struct Assembled {
    /// Attached but not yet entered.
    pub(in crate::sandbox) root: OwnedFd,
    /// Whether it is attached at its path on the host, for the hooks.
    pub(in crate::sandbox) shown: bool,
    /// The container's proc, as a detached mount, which nothing inside can cover.
    pub(in crate::sandbox) proc: OwnedFd,
    /// The upper and the lower layer of each overlay of the tree.
    pub(in crate::sandbox) layers: Vec<[OwnedFd; 2]>,
    /// What [`make_read_only`] makes read-only.
    pub(in crate::sandbox) read_only: Vec<OwnedFd>,
}

/// The root, entered.
pub(in crate::sandbox) struct Entered {
    pub(in crate::sandbox) root: OwnedFd,
    pub(in crate::sandbox) proc: OwnedFd,
    pub(in crate::sandbox) layers: Vec<[OwnedFd; 2]>,
    pub(in crate::sandbox) read_only: Vec<OwnedFd>,
    pub(in crate::sandbox) devices: OwnDevices,
    pub(in crate::sandbox) null: OwnedFd,
}

/// Builds the whole tree. Its root is attached where the hooks expect it, or else where `make_place` says, or on top of
/// the old one.
pub(super) fn assemble(
    plan: &InitPlan,
    mut handed: Handed,
    network: Option<&Channel>,
    volumes: &[OwnedFd],
    make_place: Option<&mut dyn FnMut() -> Result<OwnedFd>>,
) -> Result<Assembled> {
    let layers = std::mem::take(&mut handed.layers);
    let root = match plan.root {
        RootPlan::MountBatch(index) => handed.take(index)?.0,
        RootPlan::Empty => new_fs("tmpfs", &["mode=755".into()], MountAttrs::NOSUID | MountAttrs::NODEV)?,
    };
    let shown = show_root(root.as_fd(), plan.hooks.root_at.as_deref(), make_place)?;
    let mut tree = Tree { root, network, handed, volumes, proc: None, read_only: Vec::new(), null: None };
    for step in &plan.tree {
        tree.apply(step).map_err(|error| match error.kind() {
            ErrorKind::Os(_) => error.during(step.field.clone()),
            _ => error,
        })?;
    }
    tree.join_network()?;
    if plan.process.cwd != Path::new("/") {
        let cwd = crate::plan::relative_to_root(&plan.process.cwd);
        // Create a missing working directory. Whether the workload may enter it shows at start.
        if let Err(error) = resolve::ensure(tree.root.as_fd(), &cwd, TargetKind::Directory)
            && error.raw_os_error() != Some(libc::EACCES)
        {
            return Err(error.during("process.cwd"));
        }
    }
    if plan.root_readonly {
        tree.read_only.push(duplicate(tree.root.as_fd())?);
    }
    let proc = match tree.proc {
        Some(proc) => proc,
        None => unseen_proc()?,
    };
    Ok(Assembled { root: tree.root, shown, proc, layers, read_only: tree.read_only })
}

/// Attaches the root until the pivot, for hooks at its path on the host, and returns true. Otherwise, or if the path is out
/// of this process's reach, where `make_place` says, or on top of the old root, which stays this process's root: both exist.
pub(super) fn show_root(
    root: BorrowedFd<'_>,
    at: Option<&Path>,
    make_place: Option<&mut dyn FnMut() -> Result<OwnedFd>>,
) -> Result<bool> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let on_host = at.and_then(|path| rustix::fs::open(path, flags, Mode::empty()).ok());
    if on_host.is_some_and(|on_host| attach(root, on_host.as_fd()).is_ok()) {
        return Ok(true);
    }
    match make_place {
        Some(make_place) => attach(root, make_place()?.as_fd()).os(|| "move_mount(rootfs, anteroom)")?,
        None => sys::attach_at(root, Path::new("/")).os(|| "move_mount(rootfs, \"/\")")?,
    }
    Ok(false)
}

/// Makes the root, `/dev` and other file systems of the tree read-only, as the configuration says. Last: until now, mount
/// points were made in them, createContainer hooks changed them, and the terminal came into `/dev`.
pub(in crate::sandbox) fn make_read_only(mounts: Vec<OwnedFd>) -> Result<()> {
    mounts.iter().try_for_each(|mount| {
        sys::mount_setattr(mount.as_fd(), &MountAttr::change(MountAttrs::RDONLY.bits(), 0), false)
            .os(|| "mount_setattr(MOUNT_ATTR_RDONLY)")
    })
}

/// Attaches another mount to the tree below `root`, which is in use and may be hostile. Returns the mount.
pub(in crate::sandbox) fn attach_further(
    root: BorrowedFd<'_>,
    step: &TreeStep,
    gofer: Option<&Channel>,
) -> Result<OwnedFd> {
    let (mount, kind) = match (&step.source, gofer) {
        (StepSource::MountBatch(index), Some(gofer)) => handed::receive(gofer)?.take(*index)?,
        (StepSource::Tmpfs { options, copy_up }, None) => {
            let mount = new_tmpfs(root, step, options, *copy_up)?;
            let read_only = (step.set & MountAttrs::RDONLY).bits();
            sys::mount_setattr(mount.as_fd(), &MountAttr::change(read_only, 0), false)
                .os(|| "mount_setattr(tmpfs, MOUNT_ATTR_RDONLY)")?;
            (mount, TargetKind::Directory)
        }
        _ => return Err(misbehaved("a step for a gofer without one, or the other way round")),
    };
    let target = resolve::ensure(root, &step.at, kind)?;
    let on_proc =
        rustix::fs::fstatfs(&target).os(|| format!("fstatfs({:?})", step.at))?.f_type == PROC_SUPER_MAGIC;
    // A symlink of the image leads there. The caller named another place and did not mean to cover a part of /proc.
    if on_proc && !step.at.starts_with("proc") {
        let problem = format!("/{} leads into the container's /proc", step.at.display());
        return Err(Error::new(ErrorKind::Os(libc::ELOOP), "mount", problem));
    }
    put(mount.as_fd(), target.as_fd(), step)?;
    Ok(mount)
}

/// Makes the tree the root of this process and of the sandbox, and detaches the host's.
pub(in crate::sandbox) fn enter(root: BorrowedFd<'_>, propagation: RootfsPropagation) -> Result<()> {
    rustix::process::fchdir(root).os(|| "fchdir(rootfs)")?;
    // The new root and the place for the old one are the same directory: the old root ends up on top of the new one
    // and is taken off again (pivot_root(2), "pivot_root(".", ".")").
    rustix::process::pivot_root(".", ".").os(|| "pivot_root(\".\", \".\")")?;
    unmount(".", UnmountFlags::DETACH).os(|| "umount2(\".\", MNT_DETACH)")?;
    let propagation = match propagation {
        RootfsPropagation::Private => libc::MS_PRIVATE,
        RootfsPropagation::Slave => libc::MS_SLAVE,
        RootfsPropagation::Shared => libc::MS_SHARED,
        RootfsPropagation::Unbindable => libc::MS_UNBINDABLE,
    };
    // After the pivot: "EINVAL new_root [...] has the propagation type MS_SHARED" - pivot_root(2). Until here it is as the
    // gofer made it, private or a slave.
    sys::set_propagation(root, propagation, false)
        .os(|| "mount_setattr(rootfs)")
        .map_err(|error| error.during("linux.rootfsPropagation"))?;
    rustix::process::chdir("/").os(|| "chdir(\"/\")")
}

/// Takes the tree, which is this process's root, along to a mount namespace that other processes use, as a detached copy, so
/// that they see none of it. When its descriptor is closed, the kernel unmounts the copy (open_tree(2)), but for processes
/// that have it as their root it stays whole, and it is gone with the last of them.
pub(in crate::sandbox) fn take_along(source: &NamespaceSource, namespace: BorrowedFd<'_>) -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).os(|| "open(\"/\", O_PATH)")?;
    let copy = clone_tree(root.as_fd(), true).os(|| "open_tree(\"/\", OPEN_TREE_CLONE)")?;
    namespaces::enter_mounts(source, namespace, copy.as_fd())
}

/// Joins the container's network namespace, which the sandbox sends.
pub(super) fn join_network(sandbox: &Channel) -> Result<()> {
    namespaces::join_network(sandbox.receive::<JoinNetwork>(None)?.fds.take_only("network")?)
}

impl Tree<'_> {
    /// Joins the container's network namespace, if it has one and this was not done yet.
    fn join_network(&mut self) -> Result<()> {
        self.network.take().map_or(Ok(()), join_network)
    }

    fn apply(&mut self, step: &TreeStep) -> Result<()> {
        match &step.source {
            StepSource::MountBatch(index) => {
                // The gofer checked that the plan allows the source to be absent.
                if self.handed.is_absent(*index) {
                    return Ok(());
                }
                let (mount, kind) = self.handed.take(*index)?;
                self.attach(mount, step, kind)
            }
            StepSource::Volume(index) => {
                let volume = self.volumes.get(*index).ok_or_else(|| misbehaved("a volume is missing"))?;
                let target = resolve::ensure(self.root.as_fd(), &step.at, TargetKind::Directory)?;
                put(volume.as_fd(), target.as_fd(), step)
            }
            StepSource::Proc { options } => {
                let proc = new_proc(Some(step), options, step.set)?;
                let shown = duplicate(proc.as_fd())?;
                self.attach(proc, step, TargetKind::Directory)?;
                // Not the mount that is shown: a privileged process inside could cover parts of it.
                // KERNEL(6.15): a mount that is not attached can be cloned too.
                // An instance that hides processes cannot be used to look at them.
                let own = if options.is_empty() {
                    clone_tree(shown.as_fd(), false).os(|| "open_tree(proc, OPEN_TREE_CLONE)")?
                } else {
                    new_proc(None, &[], step.set)?
                };
                sys::set_propagation(own.as_fd(), libc::MS_PRIVATE, false)
                    .os(|| "mount_setattr(proc, MS_PRIVATE)")?;
                self.proc = Some(own);
                Ok(())
            }
            StepSource::Sysfs => {
                self.join_network()?;
                self.attach(new_of(step, "sysfs", &[], step.set)?, step, TargetKind::Directory)
            }
            StepSource::Mqueue => {
                self.attach(new_of(step, "mqueue", &[], step.set)?, step, TargetKind::Directory)
            }
            StepSource::Devpts { options } => {
                self.attach(new_of(step, "devpts", options, step.set)?, step, TargetKind::Directory)
            }
            StepSource::Tmpfs { options, copy_up } => {
                let mount = new_tmpfs(self.root.as_fd(), step, options, *copy_up)?;
                self.read_only_later(mount.as_fd(), step)?;
                self.attach(mount, step, TargetKind::Directory)
            }
            StepSource::Devices { options, nodes } => self.devices(step, options, nodes),
            StepSource::Node(node) => self.node(node),
            StepSource::Directory => {
                resolve::ensure(self.root.as_fd(), &step.at, TargetKind::Directory).map(drop)
            }
            StepSource::Symlink(to) => self.symlink(&step.at, to),
            StepSource::Mask => self.mask(step),
            StepSource::ReadOnly => self.make_read_only(step),
        }
    }

    /// The device directory, filled while it is detached; bound nodes follow once it is attached.
    fn devices(&mut self, step: &TreeStep, options: &[String], nodes: &[DeviceNode]) -> Result<()> {
        let attributes = step.set - MountAttrs::NODEV - MountAttrs::RDONLY;
        let directory = new_of(step, "tmpfs", options, attributes)?;
        self.read_only_later(directory.as_fd(), step)?;
        for (name, to) in DEVICE_LINKS {
            rustix::fs::symlinkat(to, &directory, name).os(|| format!("symlink({to:?}, dev/{name})"))?;
        }
        let target = resolve::ensure(self.root.as_fd(), &step.at, TargetKind::Directory)?;
        attach(directory.as_fd(), target.as_fd()).os(|| format!("move_mount({:?})", step.at))?;
        for node in nodes {
            let name = node.path.file_name().unwrap_or_default();
            let Some(index) = node.handed else {
                make_node(directory.as_fd(), name, node)?;
                continue;
            };
            let mount = self.take_device(index, node)?;
            let place = resolve::create(directory.as_fd(), name, &node.path, TargetKind::File)?;
            attach(mount.as_fd(), place.as_fd()).os(|| format!("move_mount({:?})", node.path))?;
        }
        Ok(())
    }

    fn read_only_later(&mut self, mount: BorrowedFd<'_>, step: &TreeStep) -> Result<()> {
        if step.set.contains(MountAttrs::RDONLY) {
            self.read_only.push(duplicate(mount)?);
        }
        Ok(())
    }

    fn attach(&self, mount: OwnedFd, step: &TreeStep, kind: TargetKind) -> Result<()> {
        let target = match step.target {
            Target::Create => resolve::ensure(self.root.as_fd(), &step.at, kind)?,
            Target::IfExists => match self.existing(&step.at)? {
                Some(target) => target,
                None => return Ok(()),
            },
        };
        put(mount.as_fd(), target.as_fd(), step)
    }

    fn existing(&self, at: &Path) -> Result<Option<OwnedFd>> {
        match resolve::open(self.root.as_fd(), at) {
            Ok(found) => Ok(Some(found)),
            // EACCES is an error: the workload may have a group that may go where its root may not.
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno).os(|| format!("openat2(rootfs, {at:?})")),
        }
    }

    fn symlink(&self, at: &Path, to: &str) -> Result<()> {
        let parent = at.parent().unwrap_or(Path::new(""));
        let parent = resolve::ensure(self.root.as_fd(), parent, TargetKind::Directory)?;
        let name = at.file_name().unwrap_or_default();
        match rustix::fs::symlinkat(to, &parent, name) {
            Err(Errno::EXIST) => Ok(()),
            result => result.os(|| format!("symlink({to:?}, rootfs/{})", at.display())),
        }
    }

    fn node(&mut self, node: &DeviceNode) -> Result<()> {
        if let Some(index) = node.handed {
            let mount = self.take_device(index, node)?;
            let target = resolve::ensure(self.root.as_fd(), &node.path, TargetKind::File)?;
            return attach(mount.as_fd(), target.as_fd()).os(|| format!("move_mount({:?})", node.path));
        }
        let parent = node.path.parent().unwrap_or(Path::new(""));
        let parent = resolve::ensure(self.root.as_fd(), parent, TargetKind::Directory)?;
        make_node(parent.as_fd(), node.path.file_name().unwrap_or_default(), node)
    }

    /// The gofer's mount of a device, checked to be that device.
    fn take_device(&mut self, index: usize, node: &DeviceNode) -> Result<OwnedFd> {
        let (mount, _) = self.handed.take(index)?;
        let stat = rustix::fs::fstat(&mount).os(|| format!("fstat({:?})", node.path))?;
        let expected = rustix::fs::makedev(node.major, node.minor);
        if stat.st_mode & libc::S_IFMT == node.mode & libc::S_IFMT && stat.st_rdev == expected {
            return Ok(mount);
        }
        let problem = format!("the host has another device there, not {}:{}", node.major, node.minor);
        Err(Error::unsupported(format!("/{}", node.path.display()), problem))
    }

    fn mask(&mut self, step: &TreeStep) -> Result<()> {
        if leaves_out(Rule::MaskedPaths) {
            return Ok(());
        }
        let Some(target) = self.existing(&step.at)? else { return Ok(()) };
        let stat = rustix::fs::fstat(&target).os(|| format!("fstat({:?})", step.at))?;
        let cover = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let attributes = MountAttrs::RDONLY | MountAttrs::NOSUID | MountAttrs::NODEV | MountAttrs::NOEXEC;
            new_fs("tmpfs", &["nr_inodes=1".into(), "size=4k".into()], attributes)?
        } else {
            self.another_null()?
        };
        attach(cover.as_fd(), target.as_fd()).os(|| format!("move_mount(mask, {:?})", step.at))
    }

    /// Another mount of the container's `/dev/null`, which came from us, and which this checks to be the null device.
    fn another_null(&mut self) -> Result<OwnedFd> {
        let null = match &mut self.null {
            Some(null) => null,
            none => none.insert(open_null(self.root.as_fd())?),
        };
        clone_tree(null.as_fd(), false).os(|| "open_tree(\"dev/null\", OPEN_TREE_CLONE)")
    }

    fn make_read_only(&self, step: &TreeStep) -> Result<()> {
        let Some(target) = self.existing(&step.at)? else { return Ok(()) };
        let read_only = MountAttr::change(MountAttrs::RDONLY.bits(), 0);
        match sys::mount_setattr(target.as_fd(), &read_only, false) {
            // Not the root of a mount: make it one.
            Err(Errno::INVAL) => {}
            result => return result.os(|| format!("mount_setattr({:?}, MOUNT_ATTR_RDONLY)", step.at)),
        }
        let copy =
            clone_tree(target.as_fd(), true).os(|| format!("open_tree({:?}, OPEN_TREE_CLONE)", step.at))?;
        sys::mount_setattr(copy.as_fd(), &read_only, true)
            .os(|| format!("mount_setattr({:?}, AT_RECURSIVE, MOUNT_ATTR_RDONLY)", step.at))?;
        attach(copy.as_fd(), target.as_fd()).os(|| format!("move_mount({:?})", step.at))
    }
}

fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).os(|| "fcntl(F_DUPFD_CLOEXEC)")
}

fn make_node(parent: BorrowedFd<'_>, name: &OsStr, node: &DeviceNode) -> Result<()> {
    let kind = FileType::from_raw_mode(node.mode);
    let device = rustix::fs::makedev(node.major, node.minor);
    match rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(node.mode & 0o7777), device) {
        // Of an earlier container of the same root.
        Err(Errno::EXIST) if kind == FileType::Fifo && is_fifo(parent, name) => {}
        made => made.os(|| format!("mknod({:?}, {}:{})", node.path, node.major, node.minor))?,
    }
    if (node.uid, node.gid) == (0, 0) {
        return Ok(());
    }
    let (uid, gid) = (rustix::fs::Uid::from_raw(node.uid), rustix::fs::Gid::from_raw(node.gid));
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .os(|| format!("chown({:?}, {}, {})", node.path, node.uid, node.gid))
}

fn is_fifo(parent: BorrowedFd<'_>, name: &OsStr) -> bool {
    let stat = rustix::fs::statat(parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

fn open_null(root: BorrowedFd<'_>) -> Result<OwnedFd> {
    let null = resolve::open(root, Path::new("dev/null")).os(|| "openat2(rootfs, \"dev/null\")")?;
    let stat = rustix::fs::fstat(&null).os(|| "fstat(\"dev/null\")")?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFCHR || stat.st_rdev != rustix::fs::makedev(1, 3) {
        return Err(Error::new(ErrorKind::Os(libc::ENODEV), "mask", "/dev/null is not the null device"));
    }
    Ok(null)
}

/// Attaches the mount of `step`, and sets the step's propagation.
fn put(mount: BorrowedFd<'_>, target: BorrowedFd<'_>, step: &TreeStep) -> Result<()> {
    attach(mount, target).os(|| format!("move_mount({:?})", step.at))?;
    let Some(propagation) = step.propagation else { return Ok(()) };
    let (flag, recursive) = propagation_flag(propagation);
    sys::set_propagation(mount, flag, recursive)
        .os(|| format!("mount_setattr({:?}, {propagation:?})", step.at))
}

fn propagation_flag(propagation: Propagation) -> (u64, bool) {
    match propagation {
        Propagation::Private => (libc::MS_PRIVATE, false),
        Propagation::RPrivate => (libc::MS_PRIVATE, true),
        Propagation::Slave => (libc::MS_SLAVE, false),
        Propagation::RSlave => (libc::MS_SLAVE, true),
        Propagation::Shared => (libc::MS_SHARED, false),
        Propagation::RShared => (libc::MS_SHARED, true),
        Propagation::Unbindable => (libc::MS_UNBINDABLE, false),
        Propagation::RUnbindable => (libc::MS_UNBINDABLE, true),
    }
}

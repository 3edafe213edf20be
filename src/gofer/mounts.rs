//! Turns each item of the gofer's plan, mostly a host path, into a detached mount.

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::plan::{
    GoferItem, GoferSource, IdMapping, KEEP_IDS, NodeNumbers, Owner, OwnerMapping, SealedGofer, Shown,
};
use crate::spec::{IdMap, IdMaps, MountAttrs, exceeds_fsconfig};
use crate::sys::{self, MountAttr, NamespaceHolder, NewMount};
use crate::wire::init::MountBatchItem;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;

/// Makes the mounts of one plan. It works in the gofer's own mount namespace, because it has to attach the layers of
/// overlays somewhere that the host does not see.
pub(super) struct MountFactory<'a> {
    plan: &'a SealedGofer<'a>,
    user_namespace: Option<OwnedFd>,
    /// `None` until the first overlay needs it.
    scratch: Option<ScratchMount>,
    /// The tmpfs with device nodes, until the first one `None`.
    nodes: Option<OwnedFd>,
    overlays: usize,
    /// Binds that [`take_binds_and_separate`](Self::take_binds_and_separate) made in advance, in the order of the plan.
    /// [`make`](Self::make) takes them from the front; `None` is an optional source that is absent.
    taken: VecDeque<Option<OwnedFd>>,
    /// The layers of the overlays made so far.
    layers: Vec<Layers>,
}

/// The two layers of an overlay, each as a read-only mount. The sandbox compares them to find what the container changed.
pub(super) struct Layers {
    pub(super) upper: OwnedFd,
    pub(super) lower: OwnedFd,
}

/// The tmpfs that holds the writable layers of all overlays.
struct ScratchMount {
    root: OwnedFd,
    /// Whether files in it can have `user.*` attributes, which tmpfs has since Linux 6.6.
    user_attributes: bool,
}

impl<'a> MountFactory<'a> {
    pub(super) fn new(plan: &'a SealedGofer<'a>, user_namespace: Option<OwnedFd>) -> Self {
        Self {
            plan,
            user_namespace,
            scratch: None,
            nodes: None,
            overlays: 0,
            taken: VecDeque::new(),
            layers: Vec::new(),
        }
    }

    /// The layers of all overlays made so far. Empty where this kernel's tmpfs keeps no `user.*` attributes: the sandbox
    /// reads from them which directories hide those of the lower layer, and cannot compare the layers without.
    pub(super) fn into_layers(self) -> Vec<Layers> {
        self.layers
    }

    /// Makes the detached mount of one item and sets its attributes. Call it for the items in the order of the plan.
    pub(super) fn make(&mut self, item: &GoferItem) -> Result<(MountBatchItem, Option<OwnedFd>)> {
        let mount = match &item.source {
            GoferSource::Bind { path, recursive } => match self.take_or_bind(path, *recursive, item)? {
                Some(mount) => mount,
                None => return Ok((MountBatchItem::Absent, None)),
            },
            GoferSource::Overlay { lower } => self.overlay(lower, item)?,
            GoferSource::New { file_system, source, options } => {
                let staging = &self.plan.facts.staging;
                new_file_system(file_system, source.as_deref(), options, item, staging)?
            }
            GoferSource::Node(numbers) => self.node(numbers, item)?,
        };
        let (set, clear) = (item.set.bits(), item.clear.bits());
        sys::mount_setattr(mount.as_fd(), &MountAttr::change(set, clear), false)
            .os(|| step(item, "mount_setattr"))?;
        let (set, clear) = (item.set_recursive.bits(), item.clear_recursive.bits());
        sys::mount_setattr(mount.as_fd(), &MountAttr::change(set, clear), true)
            .os(|| step(item, "mount_setattr(AT_RECURSIVE)"))?;
        let handed =
            if is_directory(mount.as_fd())? { MountBatchItem::Directory } else { MountBatchItem::File };
        Ok((handed, Some(mount)))
    }

    /// For shared propagation. First makes every bind of the plan while this namespace still shares mount events with the
    /// host, so that the binds go on sharing them. Then makes the namespace private, so that what the gofer attaches later
    /// does not appear on the host.
    pub(super) fn take_binds_and_separate(&mut self) -> Result<()> {
        for item in &self.plan.items {
            let GoferSource::Bind { path, recursive } = &item.source else { continue };
            let mount = self.bind(path, *recursive, item)?;
            if let (true, Some(mount)) = (item.directory, &mount) {
                // Only the container's root must be a directory. Make it private, or what init mounts on it would appear
                // on the host.
                sys::set_propagation(mount.as_fd(), libc::MS_PRIVATE, true)
                    .os(|| step(item, "mount_setattr(AT_RECURSIVE, MS_PRIVATE)"))?;
            }
            self.taken.push_back(mount);
        }
        let root = open_path(Path::new("/"))?;
        sys::set_propagation(root.as_fd(), libc::MS_PRIVATE, true)
            .os(|| "mount_setattr(\"/\", AT_RECURSIVE, MS_PRIVATE)")
    }

    fn take_or_bind(&mut self, path: &Path, recursive: bool, item: &GoferItem) -> Result<Option<OwnedFd>> {
        self.taken.pop_front().map_or_else(|| self.bind(path, recursive, item), Ok)
    }

    /// A detached bind of `path`, with ids mapped as the item says. `None` if `path` is absent and the item is optional.
    fn bind(&self, path: &Path, recursive: bool, item: &GoferItem) -> Result<Option<OwnedFd>> {
        let clone = |recursive| sys::clone_tree_at(path, recursive);
        let mount = match if recursive { clone(true) } else { sys::alone_or_whole(clone) } {
            Err(Errno::NOENT | Errno::NOTDIR) if item.optional => return Ok(None),
            other => other,
        };
        let mount = mount.map_err(|errno| {
            let why = nix::errno::Errno::from_raw(errno.raw_os_error()).desc();
            Error::spec(&self.plan.origin, item.field.as_str(), format!("{}: {why}", path.display()))
        })?;
        if item.directory && !is_directory(mount.as_fd())? {
            let problem = format!("{}: Not a directory", path.display());
            return Err(Error::spec(&self.plan.origin, item.field.as_str(), problem));
        }
        match &item.ids {
            IdMapping::AsOnDisk => {}
            IdMapping::ThroughUserNamespace { recursive } => {
                if let Some(namespace) = &self.user_namespace {
                    map_ids(mount.as_fd(), namespace.as_fd(), *recursive, path, item)?;
                }
            }
            IdMapping::OwnRange(range) => show_own_range(mount.as_fd(), range.maps(), path, item)?,
            IdMapping::OwnerAsUser(mapping) => show_owner_as_user(mount.as_fd(), mapping, path, item)?,
            IdMapping::Through { maps, recursive } => {
                map_through(mount.as_fd(), maps, *recursive, path, item)?
            }
        }
        Ok(Some(mount))
    }

    /// A detached overlay: an empty writable layer in memory on top of `lower`.
    fn overlay(&mut self, lower: &Path, item: &GoferItem) -> Result<OwnedFd> {
        let lower = self.bind(lower, false, &GoferItem { optional: false, ..item.clone() })?;
        let lower = lower.expect("a source that is not optional is there or an error");
        let ([upper, work, base], user_attributes) = self.layer_directories()?;
        // KERNEL(6.15): older kernels take only attached mounts as layers, so attach `lower` in our namespace. The other
        // layers are in the scratch file system, which is attached.
        sys::attach(lower.as_fd(), base.as_fd()).os(|| step(item, "move_mount(lower)"))?;

        let overlay = NewMount::open("overlay")?;
        for (key, layer) in [("lowerdir", &lower), ("upperdir", &upper), ("workdir", &work)] {
            overlay.set(key, &format!("/proc/self/fd/{}", layer.as_raw_fd()))?;
        }
        // The writable layer ends with the container, so overlayfs need not sync it.
        overlay.flag("volatile")?;
        if self.plan.join_user_namespace || user_attributes {
            // Have overlayfs keep its own marks in user.* attributes. By default it uses trusted.*, which a process in a
            // user namespace cannot access. This gofer may be in one, and so may the file worker that reads the marks.
            overlay.flag("userxattr")?;
        }
        let overlay = overlay.mount(0).map_err(|error| error.during(step(item, "overlay")))?;
        if user_attributes {
            let (upper, lower) = (read_only_copy(upper.as_fd())?, read_only_copy(lower.as_fd())?);
            self.layers.push(Layers { upper, lower });
        }
        Ok(overlay)
    }

    /// A detached mount of a new device node alone.
    fn node(&mut self, node: &NodeNumbers, item: &GoferItem) -> Result<OwnedFd> {
        if self.nodes.is_none() {
            let nodes = NewMount::open("tmpfs")?;
            nodes.set("mode", "0700")?;
            let nodes = nodes.mount(libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC)?;
            // KERNEL(6.15): older kernels clone only from attached mounts.
            let place = open_path(&self.plan.facts.staging)?;
            sys::attach(nodes.as_fd(), place.as_fd())
                .os(|| format!("move_mount(nodes, {:?})", self.plan.facts.staging))?;
            self.nodes = Some(nodes);
        }
        let nodes = self.nodes.as_ref().expect("made just above");
        let (kind, mode) = (FileType::from_raw_mode(node.mode), Mode::from_raw_mode(node.mode & 0o7777));
        let (uid, gid) = (rustix::fs::Uid::from_raw(node.uid), rustix::fs::Gid::from_raw(node.gid));
        let device = rustix::fs::makedev(node.major, node.minor);
        // The field has one node. Its name stays: the kernel attaches no mount of a file that was removed.
        let name = item.field.as_str();
        rustix::fs::mknodat(nodes, name, kind, mode, device).os(|| step(item, "mknod"))?;
        rustix::fs::chownat(nodes, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .os(|| step(item, "chown"))?;
        // After the change of owner, and whatever the umask.
        rustix::fs::chmodat(nodes, name, mode, AtFlags::empty()).os(|| step(item, "chmod"))?;
        let made = rustix::fs::openat(nodes, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .os(|| step(item, "open"))?;
        sys::clone_tree(made.as_fd(), false).os(|| step(item, "open_tree"))
    }

    /// Makes the directories of the next overlay: upper, work, and a mount point for its lower layer. Returns also whether
    /// files in them can have `user.*` attributes.
    fn layer_directories(&mut self) -> Result<([OwnedFd; 3], bool)> {
        if self.scratch.is_none() {
            self.scratch = Some(self.make_scratch()?);
        }
        let ScratchMount { root: scratch, user_attributes } = self.scratch.as_ref().expect("made just above");
        let number = self.overlays;
        self.overlays += 1;
        let directory = |kind: &str| -> Result<OwnedFd> {
            let name = format!("{kind}{number}");
            rustix::fs::mkdirat(scratch, &name, Mode::from_raw_mode(0o755))
                .os(|| format!("mkdir(scratch/{name})"))?;
            let fd = rustix::fs::openat(
                scratch,
                &name,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .os(|| format!("open(scratch/{name})"))?;
            // Give the directory to the container's root. A gofer that joined the container's user namespace is that user.
            if !self.plan.join_user_namespace {
                let (uid, gid) = self.plan.scratch_owner;
                let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
                rustix::fs::chownat(scratch, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                    .os(|| format!("chown(scratch/{name})"))?;
            }
            Ok(fd)
        };
        Ok(([directory("upper")?, directory("work")?, directory("lower")?], *user_attributes))
    }

    fn make_scratch(&self) -> Result<ScratchMount> {
        let scratch = NewMount::open("tmpfs")?;
        if let Some(size) = self.plan.scratch_size {
            scratch.set("size", &size.to_string())?;
        }
        scratch.set("mode", "0755")?;
        let scratch = scratch.mount(libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID)?;
        let place = open_path(&self.plan.facts.staging)?;
        sys::attach(scratch.as_fd(), place.as_fd())
            .os(|| format!("move_mount(scratch, {:?})", self.plan.facts.staging))?;
        let user_attributes = takes_user_attributes(scratch.as_fd())?;
        Ok(ScratchMount { root: scratch, user_attributes })
    }
}

/// Maps the ids of `mount` so that the owner of its root appears as the container's user, if `mapping` says so.
fn show_owner_as_user(
    mount: BorrowedFd<'_>,
    mapping: &OwnerMapping,
    path: &Path,
    item: &GoferItem,
) -> Result<()> {
    let stat = rustix::fs::fstat(mount).os(|| "fstat(mount)")?;
    match mapping.show(Owner { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode }) {
        Shown::AsOnDisk => Ok(()),
        Shown::Refused { why, hint } => {
            Err(Error::unsupported(item.field.clone(), format!("{}: {why}", path.display())).hint(hint))
        }
        Shown::Through { maps, or_as_on_disk } => match map_through(mount, &maps, true, path, item) {
            Err(error) if or_as_on_disk && matches!(error.kind(), ErrorKind::Unsupported { .. }) => Ok(()),
            mapped => mapped.map_err(|error| error.hint(KEEP_IDS)),
        },
    }
}

/// Shows the ids that containers have on disk as those of the container's range. On a file system that cannot map ids, the
/// files keep the ids that they have.
fn show_own_range(mount: BorrowedFd<'_>, maps: IdMaps, path: &Path, item: &GoferItem) -> Result<()> {
    match map_through(mount, &maps, true, path, item) {
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported { .. }) => Ok(()),
        mapped => mapped,
    }
}

/// Makes `mount` an idmapped mount with these maps.
fn map_through(
    mount: BorrowedFd<'_>,
    maps: &IdMaps,
    recursive: bool,
    path: &Path,
    item: &GoferItem,
) -> Result<()> {
    let namespace = user_namespace(maps).map_err(|error| error.during(item.field.clone()))?;
    map_ids(mount, namespace.as_fd(), recursive, path, item)
}

/// Makes `mount` an idmapped mount: it shows each file's ids as `namespace` maps them.
fn map_ids(
    mount: BorrowedFd<'_>,
    namespace: BorrowedFd<'_>,
    recursive: bool,
    path: &Path,
    item: &GoferItem,
) -> Result<()> {
    sys::mount_setattr(mount, &MountAttr::idmap(namespace), recursive).map_err(|errno| {
        let why = format!("{}: the file system cannot map ids: {errno}", path.display());
        let error = Error::unsupported(item.field.clone(), why);
        if item.directory { error.hint("build without idmapped_rootfs") } else { error }
    })
}

/// A new user namespace with these maps, because mount_setattr(2) takes a mapping of ids only from a user namespace. A child
/// holds it until its maps are written and it is open; then the descriptor keeps it.
fn user_namespace(maps: &IdMaps) -> Result<OwnedFd> {
    let holder = NamespaceHolder::new(libc::CLONE_NEWUSER.cast_unsigned());
    let holder = holder.os(|| "clone3(CLONE_NEWUSER)")?;
    map_and_open(holder.pid().as_raw_nonzero().get(), maps)
}

fn map_and_open(pid: i32, maps: &IdMaps) -> Result<OwnedFd> {
    let open = |path: &str, flags| {
        rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).os(|| format!("open({path:?})"))
    };
    for (name, maps) in [("uid_map", &maps.uids), ("gid_map", &maps.gids)] {
        let path = format!("/proc/{pid}/{name}");
        let text = lines(maps);
        // Write the map at once: the kernel accepts only one write for each.
        rustix::io::write(open(&path, OFlags::WRONLY)?, text.as_bytes())
            .os(|| format!("write({path:?}, {text:?})"))?;
    }
    open(&format!("/proc/{pid}/ns/user"), OFlags::RDONLY)
}

fn lines(maps: &[IdMap]) -> String {
    maps.iter().fold(String::new(), |mut text, map| {
        let _ = writeln!(text, "{} {} {}", map.container, map.host, map.size);
        text
    })
}

/// A new instance of a file system without a source in the host's tree.
fn new_file_system(
    file_system: &str,
    source: Option<&str>,
    options: &[String],
    item: &GoferItem,
    staging: &Path,
) -> Result<OwnedFd> {
    let make = || {
        if options.iter().any(|option| exceeds_fsconfig(option)) {
            let read_only = item.set.contains(MountAttrs::RDONLY);
            return sys::mount_with_page(file_system, source, options, read_only, staging);
        }
        let new = NewMount::open(file_system)?;
        if let Some(source) = source {
            new.set("source", source)?;
        }
        options.iter().try_for_each(|option| new.option(option))?;
        if item.set.contains(MountAttrs::RDONLY) {
            // Make the superblock read-only, not only the mount: otherwise the file system may still write to its disk.
            new.flag("ro")?;
        }
        new.mount(0)
    };
    make().map_err(|error: Error| match error.raw_os_error() {
        Some(libc::ENODEV) if error.step().starts_with("fsopen") => {
            let why = format!("this kernel knows no file system {file_system:?}");
            Error::unsupported(item.field.clone(), why)
        }
        _ => error.during(item.field.clone()),
    })
}

/// Whether files below `root` can have `user.*` attributes. Sets one on the root directory to find out.
fn takes_user_attributes(root: BorrowedFd<'_>) -> Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(root, ".", flags, Mode::empty()).os(|| "open(scratch)")?;
    let probe = "user.cofferdam";
    if rustix::fs::fsetxattr(&directory, probe, b"", XattrFlags::empty()).is_err() {
        return Ok(false);
    }
    rustix::fs::fremovexattr(&directory, probe).os(|| "fremovexattr(scratch)")?;
    Ok(true)
}

/// A mount of `layer` for the sandbox to read: no writing, no execution. It is detached, so that `..` does not lead out of
/// it: the sandbox must not reach a host path.
fn read_only_copy(layer: BorrowedFd<'_>) -> Result<OwnedFd> {
    let copy = sys::alone_or_whole(|recursive| sys::clone_tree(layer, recursive))
        .os(|| "open_tree(layer, OPEN_TREE_CLONE)")?;
    let safe = MountAttrs::RDONLY | MountAttrs::NOSUID | MountAttrs::NODEV | MountAttrs::NOEXEC;
    sys::mount_setattr(copy.as_fd(), &MountAttr::change(safe.bits(), 0), true)
        .os(|| "mount_setattr(layer, MOUNT_ATTR_RDONLY)")?;
    Ok(copy)
}

pub(super) fn open_path(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .os(|| format!("open({path:?}, O_PATH)"))
}

fn is_directory(mount: BorrowedFd<'_>) -> Result<bool> {
    let stat = rustix::fs::fstat(mount).os(|| "fstat(mount)")?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn step(item: &GoferItem, call: &str) -> String {
    let path = match &item.source {
        GoferSource::Bind { path, .. } => path,
        GoferSource::Overlay { lower } => lower,
        GoferSource::New { file_system, .. } => return format!("{}: {call}({file_system:?})", item.field),
        GoferSource::Node(node) => return format!("{}: {call}({}:{})", item.field, node.major, node.minor),
    };
    format!("{}: {call}({path:?})", item.field)
}

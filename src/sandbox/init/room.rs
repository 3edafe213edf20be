//! Init of a container whose processes are restored: it makes room for them, and leaves. Init of a clone unpacks here, too.
//!
//! It assembles the root as every init does, leaves it in an empty one in which CRIU begins ([`super::anteroom`]), and
//! unpacks the layers of the image: what the processes wrote to their scratch and to each tmpfs, as `sandbox::files`
//! exports them (OCI image-spec, layer.md). What the image says ends there: the mounts, and what may be written in them,
//! are the configuration's. A clone has its template's files in the same way.
//!
//! An archive is as untrusted as the rest of an image. This runs as the container's root in its root, and every path is
//! resolved below the root of one mount, without links and without crossing into another mount: what the configuration
//! shares with the container stays as it is.

use super::attributes::write_setting;
use super::empty_root::{BARE, EmptyRoot};
use super::file_systems::new_fs;
use super::handed::misbehaved;
use super::{First, Handles, handed};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::plan::RestorePlan;
use crate::sandbox::init::tree;
use crate::sandbox::init::tree::Entered;
use crate::sandbox::namespaces;
use crate::spec::MountAttrs;
use crate::sys::{self, MountAttr, attach, clone_tree};
use crate::wire::init::{InitReport, InitRequest, restore_name};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid,
    XattrFlags,
};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Entry, EntryType};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const ATTRIBUTE: &str = "SCHILY.xattr.";
/// The deepest tree that is removed.
const MAX_DEPTH: usize = 256;
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

type Archived<'a> = Entry<'a, BufReader<FromStart>>;

impl First<'_> {
    /// For restored processes: assembles the root, unpacks what they wrote, hands all over, and waits for its end.
    pub(super) fn make_room(&self, restore: &RestorePlan, ready: &InitReport) -> ! {
        let handles = self.room(restore).unwrap_or_else(|error| self.fail(&error));
        let named: Vec<_> = handles.iter().map(|(name, fd)| (name.as_str(), fd.as_fd())).collect();
        let sent = self.parent.send(ready, &named);
        drop(handles);
        // The sandbox ends this process when it has heard of that: an end at the same time would be taken for a failure.
        let _ = sent.and_then(|()| self.parent.receive::<InitRequest>(None));
        sys::exit_now(1)
    }

    fn room(&self, restore: &RestorePlan) -> Result<Handles> {
        self.begin()?;
        let mut handed = handed::receive(&self.given.gofer)?;
        let mut for_criu = handed.take_for_criu(restore)?;
        let mut furnish = |empty: &EmptyRoot| self.make_images(restore, &mut for_criu, empty);
        let entered = self.complete_root(handed, self.network, Some(&mut furnish))?;
        let mut handles = namespaces::all_of_this_process(entered.proc.as_fd())?;
        handles.extend(for_criu);
        handles.extend(self.furnish(restore, entered)?);
        Ok(handles)
    }

    /// Replaces the directory of the image among what CRIU works with by the one that it reads.
    pub(super) fn make_images(
        &self,
        restore: &RestorePlan,
        handles: &mut Handles,
        empty: &EmptyRoot,
    ) -> Result<()> {
        let name = restore_name(restore.images);
        if let Some((_, images)) = handles.iter_mut().find(|(handle, _)| *handle == name) {
            *images = self.images(restore, empty, images.as_fd())?;
        }
        Ok(())
    }

    /// The directory that CRIU reads: copies of the small files, as they were compared with the manifest and with the
    /// configuration, which no process outside can change; and the large files of `images` themselves.
    fn images(&self, restore: &RestorePlan, empty: &EmptyRoot, images: BorrowedFd<'_>) -> Result<OwnedFd> {
        let archive = self.given.image_files.as_ref();
        let archive = archive.ok_or_else(|| misbehaved("the files of the image are missing"))?;
        let copies = new_fs("tmpfs", &["mode=0700".to_owned()], BARE)?;
        // A mount has to be attached to be copied.
        empty.attach_new(copies.as_fd(), "copies")?;
        empty.attach_new(images, "images")?;
        let root = rustix::fs::openat(&copies, ".", DIRECTORY, Mode::empty()).os(|| "openat(copies)")?;
        let file = archive.try_clone().os(|| "fcntl(F_DUPFD_CLOEXEC, image)")?;
        unpack_into(&[Mount { root, at: PathBuf::new() }], File::from(file))?;
        for (name, _) in &restore.tree.files {
            let step = || format!("criu/{name}");
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat2(images, name, flags, Mode::empty(), resolve).os(step)?;
            let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let place = rustix::fs::openat(&copies, name, flags, Mode::RUSR).os(step)?;
            let mount = clone_tree(file.as_fd(), false).os(step)?;
            attach(mount.as_fd(), place.as_fd()).os(step)?;
        }
        let whole = clone_tree(copies.as_fd(), true).os(|| "open_tree(copies, OPEN_TREE_CLONE)")?;
        sys::mount_setattr(whole.as_fd(), &MountAttr::change(MountAttrs::RDONLY.bits(), 0), true)
            .os(|| "mount_setattr(copies, MOUNT_ATTR_RDONLY)")?;
        Ok(whole)
    }

    /// Unpacks the layers, and leaves the number of the plan to the next process.
    pub(super) fn furnish(&self, restore: &RestorePlan, entered: Entered) -> Result<Handles> {
        let Entered { root, proc, layers, read_only, null, .. } = entered;
        self.unpack(root.as_fd())?;
        tree::make_read_only(read_only)?;
        // The next process is CRIU, and those that it starts for itself follow: no pid of the image is taken.
        write_setting(proc.as_fd(), "sys/kernel/ns_last_pid", &(restore.tree.criu_pid - 1).to_string())?;
        let mut handles = self.handles(root, proc, layers)?;
        handles.push(("null".to_owned(), null));
        Ok(handles)
    }

    /// Unpacks the archives of the plan into the tree at `root`.
    pub(super) fn unpack(&self, root: BorrowedFd<'_>) -> Result<()> {
        let archives = self.given.archives.iter().zip(&self.plan.init.archives);
        let mut archives = archives.map(|(archive, tmpfs)| (archive.as_fd(), tmpfs.as_deref()));
        archives.try_for_each(|(archive, tmpfs)| unpack(archive, root, tmpfs, &self.plan.init.layers))
    }
}

/// Unpacks `archive` into the tmpfs at this path of the container, or else into its `overlays`, which are relative to the
/// `root`.
fn unpack(
    archive: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
    tmpfs: Option<&Path>,
    overlays: &[PathBuf],
) -> Result<()> {
    let file = archive.try_clone_to_owned().os(|| "fcntl(F_DUPFD_CLOEXEC, layer)")?;
    let mounts: Vec<Mount> = match tmpfs {
        Some(at) => vec![Mount::open(root, at.strip_prefix("/").unwrap_or(at), PathBuf::new())?],
        None => {
            let opened = overlays.iter().map(|at| Mount::open(root, at, at.clone()));
            opened.collect::<Result<_>>()?
        }
    };
    unpack_into(&mounts, File::from(file))
}

fn unpack_into(mounts: &[Mount], archive: File) -> Result<()> {
    let archive = FromStart { file: archive, at: 0 };
    let mut archive = Archive::new(BufReader::with_capacity(64 << 10, archive));
    let mut times = Vec::new();
    for entry in archive.entries().os(|| "read(layer)")? {
        let mut entry = entry.os(|| "read(layer)")?;
        let path = entry.path().os(|| "read(layer)")?.into_owned();
        let named = |error: Error| error.during(format!("unpack {path:?}"));
        let mount = mounts.iter().filter(|mount| path.starts_with(&mount.at));
        let mount = mount.max_by_key(|mount| mount.at.as_os_str().len());
        let mount =
            mount.ok_or_else(|| named(refused("it is in none of the container's writable mounts")))?;
        let inner = path.strip_prefix(&mount.at).expect("it starts with it");
        if let Some(time) = mount.put(inner, &mut entry).map_err(named)? {
            times.push((mount, inner.to_owned(), time));
        }
    }
    // Every entry changed the time of its directory.
    for (mount, path, time) in times {
        set_times(mount.directory(&path)?.as_fd(), "", time, AtFlags::EMPTY_PATH)?;
    }
    Ok(())
}

/// Unpacks `archive` below `root`, as if that were the root of a mount.
#[cfg(any(test, fuzzing))]
pub(crate) fn unpack_below(root: OwnedFd, archive: File) -> Result<()> {
    unpack_into(&[Mount { root, at: PathBuf::new() }], archive)
}

/// An archive, read from its beginning by a position of its own: init of another clone may read it at the same time.
struct FromStart {
    file: File,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let size = self.file.read_at(buffer, self.at)?;
        self.at += size as u64;
        Ok(size)
    }
}

fn refused(problem: &'static str) -> Error {
    Error::new(ErrorKind::Stale, "image", problem)
}

/// A mount to unpack into.
struct Mount {
    root: OwnedFd,
    /// The beginning of the paths of its entries.
    at: PathBuf,
}

impl Mount {
    fn open(root: BorrowedFd<'_>, path: &Path, at: PathBuf) -> Result<Self> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let root = rustix::fs::openat2(root, path, DIRECTORY, Mode::empty(), resolve)
            .os(|| format!("openat2({path:?})"))?;
        Ok(Self { root, at })
    }

    /// Makes one entry. Returns the time of a directory, for when everything is in it.
    fn put(&self, path: &Path, entry: &mut Archived<'_>) -> Result<Option<u64>> {
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        let Some(name) = path.file_name().filter(|_| plain) else {
            return match path.as_os_str().is_empty() {
                // The root of the mount is the configuration's.
                true => Ok(None),
                false => Err(refused("its path leads out of the layer")),
            };
        };
        let parent = self.directory(path.parent().expect("it has a name"))?;
        let parent = parent.as_fd();
        match name.as_bytes() {
            OPAQUE => return clear(parent, MAX_DEPTH).map(|()| None),
            removed if removed.starts_with(WHITEOUT) => {
                let removed = OsStr::from_bytes(&removed[WHITEOUT.len()..]);
                return match matches!(removed.as_bytes(), b"" | b"." | b"..") {
                    true => Err(refused("it removes what has no name")),
                    false => remove(parent, removed, MAX_DEPTH).map(|_| None),
                };
            }
            _ => {}
        }
        let (header, attributes) = (entry.header().clone(), attributes_of(entry)?);
        let number = |number: std::io::Result<u64>| number.os(|| "read(layer)");
        // -1 would leave the id as it is (chown(2)).
        let id = |id| {
            let id = u32::try_from(number(id)?).ok().filter(|id| *id != u32::MAX);
            id.ok_or_else(|| refused("its owner is none"))
        };
        let (uid, gid) = (id(header.uid())?, id(header.gid())?);
        let mode = Mode::from_raw_mode(header.mode().os(|| "read(layer)")? & 0o7777);
        let time = number(header.mtime())?;
        let target = entry.link_name().os(|| "read(layer)")?.map(|target| target.into_owned());
        let target = || target.clone().ok_or_else(|| refused("a link leads nowhere"));
        let kind = header.entry_type();
        if kind == EntryType::Directory {
            let Some(directory) = make_directory(parent, name)? else { return Ok(None) };
            own(directory.as_fd(), "", (uid, gid), AtFlags::EMPTY_PATH)?;
            rustix::fs::fchmod(&directory, mode).os(|| "fchmod()")?;
            set_attributes(directory.as_fd(), &attributes)?;
            return Ok(Some(time));
        }
        // The layer has the empty file that was made for a mount of a file. This configuration has made its own.
        if kind == EntryType::Regular && is_mount_point(parent, name) {
            return Ok(None);
        }
        if !remove(parent, name, MAX_DEPTH)? {
            return Err(refused("something of the configuration is mounted there"));
        }
        match kind {
            EntryType::Regular => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(parent, name, flags, Mode::RUSR).os(|| "openat(O_CREAT)")?;
                let mut file = File::from(file);
                std::io::copy(entry, &mut file).os(|| "write()")?;
                own(file.as_fd(), "", (uid, gid), AtFlags::EMPTY_PATH)?;
                rustix::fs::fchmod(&file, mode).os(|| "fchmod()")?;
                set_attributes(file.as_fd(), &attributes)?;
                set_times(file.as_fd(), "", time, AtFlags::EMPTY_PATH)?;
            }
            EntryType::Symlink => {
                rustix::fs::symlinkat(target()?.as_os_str(), parent, name).os(|| "symlinkat()")?;
                own(parent, name, (uid, gid), AtFlags::SYMLINK_NOFOLLOW)?;
                set_times(parent, name, time, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            EntryType::Link => {
                let target = target()?;
                let first =
                    target.strip_prefix(&self.at).map_err(|_| refused("a link leads out of its mount"))?;
                let first_name = first.file_name().ok_or_else(|| refused("a link leads nowhere"))?;
                let from = self.directory(first.parent().unwrap_or(Path::new("")))?;
                rustix::fs::linkat(&from, first_name, parent, name, AtFlags::empty()).os(|| "linkat()")?;
            }
            EntryType::Fifo => {
                rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::RUSR, 0).os(|| "mknodat()")?;
                own(parent, name, (uid, gid), AtFlags::SYMLINK_NOFOLLOW)?;
                rustix::fs::chmodat(parent, name, mode, AtFlags::empty()).os(|| "fchmodat()")?;
                set_times(parent, name, time, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            EntryType::Char | EntryType::Block => {
                return Err(refused("a restore makes no devices: linux.devices of the configuration does"));
            }
            // Among them files with holes, of which a short archive could fill a disk.
            _ => return Err(refused("an image has no entry of this kind")),
        }
        Ok(None)
    }

    fn directory(&self, path: &Path) -> Result<OwnedFd> {
        open_below(
            self.root.as_fd(),
            if path.as_os_str().is_empty() { OsStr::new(".") } else { path.as_os_str() },
        )
        .os(|| format!("openat2({path:?})"))
    }
}

/// A directory of the same mount.
fn open_below(at: BorrowedFd<'_>, path: &OsStr) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(at, path, DIRECTORY, Mode::empty(), resolve)
}

fn is_mount_point(parent: BorrowedFd<'_>, name: &OsStr) -> bool {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    matches!(rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve), Err(Errno::XDEV))
}

/// The directory, made if it is not there. `None` for a mount point.
fn make_directory(parent: BorrowedFd<'_>, name: &OsStr) -> Result<Option<OwnedFd>> {
    match open_below(parent, name) {
        Ok(directory) => return Ok(Some(directory)),
        Err(Errno::XDEV) => return Ok(None),
        Err(Errno::NOENT) => {}
        Err(Errno::NOTDIR | Errno::LOOP) => {
            if !remove(parent, name, MAX_DEPTH)? {
                return Ok(None);
            }
        }
        Err(errno) => return Err(errno).os(|| "openat2()"),
    }
    rustix::fs::mkdirat(parent, name, Mode::RWXU).os(|| "mkdirat()")?;
    open_below(parent, name).os(|| "openat2()").map(Some)
}

/// Removes what has this name, if anything has. Returns false if a mount is there, or below, which stays.
fn remove(parent: BorrowedFd<'_>, name: &OsStr, depth: usize) -> Result<bool> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::BUSY) => return Ok(false),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno).os(|| "unlinkat()"),
    }
    let depth = depth.checked_sub(1).ok_or_else(|| refused("the tree below it is too deep"))?;
    match open_below(parent, name) {
        Err(Errno::XDEV) => return Ok(false),
        Err(errno) => return Err(errno).os(|| "openat2()"),
        Ok(directory) => clear(directory.as_fd(), depth)?,
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => Ok(false),
        Err(errno) => Err(errno).os(|| "unlinkat(AT_REMOVEDIR)"),
    }
}

/// Empties a directory but for mounts and devices, which are the configuration's.
fn clear(directory: BorrowedFd<'_>, depth: usize) -> Result<()> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).os(|| "getdents64()")? {
        let entry = entry.os(|| "getdents64()")?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    for name in names {
        let stat = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW).os(|| "fstatat()")?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
            remove(directory, &name, depth)?;
        }
    }
    Ok(())
}

/// The extended attributes of the entry.
fn attributes_of(entry: &mut Archived<'_>) -> Result<Vec<(OsString, Vec<u8>)>> {
    let Some(extensions) = entry.pax_extensions().os(|| "read(layer)")? else { return Ok(Vec::new()) };
    let mut attributes = Vec::new();
    for extension in extensions {
        let extension = extension.os(|| "read(layer)")?;
        if let Some(name) = extension.key_bytes().strip_prefix(ATTRIBUTE.as_bytes()) {
            attributes.push((OsStr::from_bytes(name).to_owned(), extension.value_bytes().to_owned()));
        }
    }
    Ok(attributes)
}

fn set_attributes(file: BorrowedFd<'_>, attributes: &[(OsString, Vec<u8>)]) -> Result<()> {
    attributes.iter().try_for_each(|(name, value)| {
        rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()).os(|| format!("fsetxattr({name:?})"))
    })
}

fn own(at: BorrowedFd<'_>, name: impl AsRef<OsStr>, (uid, gid): (u32, u32), flags: AtFlags) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::fs::chownat(at, name.as_ref(), Some(uid), Some(gid), flags).os(|| "fchownat()")
}

fn set_times(at: BorrowedFd<'_>, name: impl AsRef<OsStr>, seconds: u64, flags: AtFlags) -> Result<()> {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 },
    };
    rustix::fs::utimensat(at, name.as_ref(), &times, flags).os(|| "utimensat()")
}

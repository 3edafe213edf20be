//! The requests of a file worker's client, one by one.

use super::layers::Layers;
use super::{diff, export, walk};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::process::Channel;
use crate::process::channel::Delivery;
use crate::process::lease::name_lease;
use crate::sandbox::resolve;
use crate::sandbox::resolve::ParentAndName;
use crate::sys;
use crate::wire::files::{Bytes, ENTRY, Entry, FileKind, FileReply, FileRequest, MAX_VALUE, Metadata, PAGE};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Permission bits, set-id and sticky bits included.
const MODE_BITS: u32 = 0o7777;
/// The longest list of attribute names. `XATTR_LIST_MAX` is more, but would not fit into a frame.
const MAX_NAMES: usize = 16 << 10;

/// The container that a worker serves.
pub(super) struct FileService<'a> {
    root: BorrowedFd<'a>,
    layers: &'a Layers,
}

impl<'a> FileService<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, layers: &'a Layers) -> Self {
        Self { root, layers }
    }

    /// Does what the client asked for and answers. The caller answers an error.
    pub(super) fn answer(&self, client: &Channel, request: Delivery<FileRequest>) -> Result<()> {
        let reply = match request.message {
            FileRequest::Open { path } => return send_file(client, &self.open(path.path())?),
            FileRequest::Create { path, mode } => return send_file(client, &self.create(path.path(), mode)?),
            FileRequest::Replace { path, mode } => {
                return send_file(client, &self.replace(path.path(), mode)?);
            }
            FileRequest::List { path, limit } => return self.list(client, path.path(), limit),
            FileRequest::Diff { limit } => return self.diff(client, limit),
            FileRequest::Export => {
                export::write(self.layers, request.fds.take_only("pipe")?)?;
                FileReply::Done
            }
            FileRequest::ExportMount { path } => {
                let path = path.path();
                let directory = resolve::open_with(self.root, path, OFlags::RDONLY | OFlags::DIRECTORY)
                    .os(|| format!("openat2({path:?}, O_DIRECTORY)"))?;
                export::write_mount(&directory, request.fds.take_only("pipe")?)?;
                FileReply::Done
            }
            FileRequest::Stat { path, follow } => self.stat(path.path(), follow)?,
            FileRequest::ReadLink { path } => FileReply::Bytes(self.read_link(path.path())?),
            FileRequest::GetXattr { path, name } => FileReply::Bytes(self.get_xattr(path.path(), &name)?),
            FileRequest::ListXattrs { path } => FileReply::Names(self.list_xattrs(path.path())?),
            other => {
                self.change(other)?;
                FileReply::Done
            }
        };
        client.send(&reply, &[])
    }

    /// The requests that are answered with "done".
    fn change(&self, request: FileRequest) -> Result<()> {
        match request {
            FileRequest::Mkdir { path, mode, parents } => self.mkdir(path.path(), mode, parents),
            FileRequest::RemoveFile { path } => self.unlink(path.path(), AtFlags::empty()),
            FileRequest::RemoveDir { path } => self.unlink(path.path(), AtFlags::REMOVEDIR),
            FileRequest::RemoveAll { path } => walk::remove_all(&self.place(path.path())?),
            FileRequest::Rename { from, to } => {
                let (old, new) = (self.place(from.path())?, self.place(to.path())?);
                rustix::fs::renameat(&old.parent, &old.name, &new.parent, &new.name)
                    .os(|| format!("renameat({:?}, {:?})", from.path(), to.path()))
            }
            FileRequest::Symlink { target, path } => {
                let place = self.place(path.path())?;
                rustix::fs::symlinkat(target.path(), &place.parent, &place.name)
                    .os(|| format!("symlinkat({:?}, {:?})", target.path(), path.path()))
            }
            FileRequest::HardLink { original, path } => {
                let (old, new) = (self.place(original.path())?, self.place(path.path())?);
                rustix::fs::linkat(&old.parent, &old.name, &new.parent, &new.name, AtFlags::empty())
                    .os(|| format!("linkat({:?}, {:?})", original.path(), path.path()))
            }
            FileRequest::SetMode { path, mode } => self.set_mode(path.path(), mode),
            FileRequest::SetOwner { path, uid, gid, follow } => {
                let (file, _) = self.find(path.path(), follow)?;
                let (owner, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                rustix::fs::chownat(&file, "", owner, group, AtFlags::EMPTY_PATH)
                    .os(|| format!("fchownat({:?}, {uid}, {gid})", path.path()))
            }
            FileRequest::SetModified { path, seconds, nanoseconds, follow } => {
                let (file, _) = self.find(path.path(), follow)?;
                let modified = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
                let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
                let times = Timestamps { last_access: omit, last_modification: modified };
                rustix::fs::utimensat(&file, "", &times, AtFlags::EMPTY_PATH)
                    .os(|| format!("utimensat({:?})", path.path()))
            }
            FileRequest::SetXattr { path, name, value } => {
                let file = self.open_for_xattrs(path.path())?;
                rustix::fs::fsetxattr(&file, name.path(), &value.0, XattrFlags::empty())
                    .os(|| format!("fsetxattr({:?}, {:?})", path.path(), name.path()))
            }
            FileRequest::RemoveXattr { path, name } => {
                let file = self.open_for_xattrs(path.path())?;
                rustix::fs::fremovexattr(&file, name.path())
                    .os(|| format!("fremovexattr({:?}, {:?})", path.path(), name.path()))
            }
            other => {
                Err(Error::new(ErrorKind::PeerMisbehaved, "files", format!("{other:?} changes nothing")))
            }
        }
    }

    /// The file at `path` as a location, and what it is.
    fn find(&self, path: &Path, follow: bool) -> Result<(OwnedFd, Stat)> {
        let nofollow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        let file = resolve::open_with(self.root, path, OFlags::PATH | nofollow)
            .os(|| format!("openat2({path:?}, O_PATH)"))?;
        let stat = rustix::fs::fstat(&file).os(|| format!("fstat({path:?})"))?;
        Ok((file, stat))
    }

    fn place(&self, path: &Path) -> Result<ParentAndName> {
        resolve::place(self.root, path).os(|| format!("openat2({path:?}, parent)"))
    }

    /// Opens the regular file at `path`. Anything else is not opened at all: to open a FIFO or a device is to use it.
    fn open_regular(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let (_, seen) = self.find(path, true)?;
        match kind_of(&seen) {
            FileKind::File => {}
            kind => {
                let problem = format!("it is {kind}, not a regular file");
                return Err(Error::new(ErrorKind::NotARegularFile, format!("open {path:?}"), problem));
            }
        }
        let file = resolve::open_seen(self.root, path, &seen, flags)
            .os(|| format!("openat2({path:?}, {flags:?})"))
            .map_err(name_lease)?;
        // O_NONBLOCK was only for the open.
        rustix::fs::fcntl_setfl(&file, OFlags::empty()).os(|| format!("fcntl({path:?}, F_SETFL, 0)"))?;
        Ok(file)
    }

    fn open(&self, path: &Path) -> Result<OwnedFd> {
        self.open_regular(path, OFlags::RDONLY)
    }

    fn create(&self, path: &Path, mode: u32) -> Result<OwnedFd> {
        let ParentAndName { parent, name } = self.place(path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let step = || format!("openat({path:?}, O_CREAT | O_EXCL, 0o{mode:o})");
        // Between the creation and the open, the container could lease it.
        let mode = Mode::from_raw_mode(mode & MODE_BITS);
        let file = rustix::fs::openat(&parent, &name, flags | OFlags::NONBLOCK, mode);
        let file = file.os(step).map_err(name_lease)?;
        rustix::fs::fcntl_setfl(&file, OFlags::empty()).os(|| format!("fcntl({path:?}, F_SETFL, 0)"))?;
        Ok(file)
    }

    fn replace(&self, path: &Path, mode: u32) -> Result<OwnedFd> {
        match self.open_regular(path, OFlags::RDWR) {
            Ok(file) => {
                rustix::fs::ftruncate(&file, 0).os(|| format!("ftruncate({path:?}, 0)"))?;
                Ok(file)
            }
            // Also for a dangling symlink, on which `create` then fails: it creates nothing through a symlink.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => self.create(path, mode),
            Err(error) => Err(error),
        }
    }

    fn stat(&self, path: &Path, follow: bool) -> Result<FileReply> {
        let (file, stat) = self.find(path, follow)?;
        let target = match kind_of(&stat) {
            FileKind::Symlink => Some(link_target(file.as_fd(), path)?),
            _ => None,
        };
        Ok(FileReply::Metadata { metadata: metadata_of(&stat), target })
    }

    fn read_link(&self, path: &Path) -> Result<Bytes> {
        let (file, stat) = self.find(path, false)?;
        match kind_of(&stat) {
            FileKind::Symlink => link_target(file.as_fd(), path),
            // EINVAL "The named file is not a symbolic link." - readlink(2)
            _ => Err(Errno::INVAL).os(|| format!("readlinkat({path:?})")),
        }
    }

    fn list(&self, client: &Channel, path: &Path, limit: u64) -> Result<()> {
        let directory = resolve::open_with(self.root, path, OFlags::RDONLY | OFlags::DIRECTORY)
            .os(|| format!("openat2({path:?}, O_DIRECTORY)"))?;
        let (mut entries, mut size, mut count) = (Vec::new(), 0, 0);
        walk::for_each(&directory, |name, kind| {
            count += 1;
            if count > limit {
                let problem = format!("has more than {limit} entries");
                return Err(Error::new(ErrorKind::TooLarge { limit }, format!("list {path:?}"), problem));
            }
            let name = OsStr::from_bytes(name.to_bytes()).to_owned();
            size += name.len() + ENTRY;
            entries.push(Entry { name, kind: kind_of_type(kind) });
            if size < PAGE {
                return Ok(());
            }
            size = 0;
            client.send(&FileReply::Entries { entries: std::mem::take(&mut entries), last: false }, &[])
        })?;
        client.send(&FileReply::Entries { entries, last: true }, &[])
    }

    fn diff(&self, client: &Channel, limit: u64) -> Result<()> {
        let (mut changes, mut size, mut count) = (Vec::new(), 0, 0);
        diff::for_each(self.layers, |change| {
            count += 1;
            if count > limit {
                let problem = format!("there are more than {limit} changes");
                return Err(Error::new(ErrorKind::TooLarge { limit }, "diff", problem));
            }
            size += change.path.as_os_str().len() + ENTRY;
            changes.push(change);
            if size < PAGE {
                return Ok(());
            }
            size = 0;
            client.send(&FileReply::Changes { changes: std::mem::take(&mut changes), last: false }, &[])
        })?;
        client.send(&FileReply::Changes { changes, last: true }, &[])
    }

    fn mkdir(&self, path: &Path, mode: u32, parents: bool) -> Result<()> {
        if !parents {
            return self.mkdir_one(path, mode);
        }
        let mut so_far = std::path::PathBuf::new();
        for component in path.components() {
            so_far.push(component);
            match self.find(&so_far, true) {
                Ok((_, stat)) if kind_of(&stat) == FileKind::Directory => {}
                Ok(_) => return Err(Errno::NOTDIR).os(|| format!("mkdirat({so_far:?})")),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    match self.mkdir_one(&so_far, mode) {
                        // Another process was faster. If it made something else, the next step fails.
                        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                            self.find(&so_far, true)?;
                        }
                        made => made?,
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn mkdir_one(&self, path: &Path, mode: u32) -> Result<()> {
        let ParentAndName { parent, name } = self.place(path)?;
        rustix::fs::mkdirat(&parent, &name, Mode::from_raw_mode(mode & MODE_BITS))
            .os(|| format!("mkdirat({path:?}, 0o{mode:o})"))
    }

    fn unlink(&self, path: &Path, flags: AtFlags) -> Result<()> {
        let ParentAndName { parent, name } = self.place(path)?;
        rustix::fs::unlinkat(&parent, &name, flags).os(|| format!("unlinkat({path:?}, {flags:?})"))
    }

    fn set_mode(&self, path: &Path, mode: u32) -> Result<()> {
        let (file, seen) = self.find(path, true)?;
        let step = || format!("fchmodat2({path:?}, 0o{mode:o})");
        match sys::change_mode(file.as_fd(), mode & MODE_BITS) {
            // KERNEL(6.6): the file itself must be opened, which has side effects on anything but these two types.
            Err(Errno::NOSYS) if matches!(kind_of(&seen), FileKind::File | FileKind::Directory) => {
                let file = resolve::open_seen(self.root, path, &seen, OFlags::RDONLY).os(step);
                let file = file.map_err(name_lease)?;
                rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & MODE_BITS)).os(step)
            }
            result => result.os(step),
        }
    }

    /// Only regular files and directories: nothing else has attributes a user may set (xattr(7)).
    fn open_for_xattrs(&self, path: &Path) -> Result<OwnedFd> {
        let (_, seen) = self.find(path, true)?;
        match kind_of(&seen) {
            FileKind::File | FileKind::Directory => {
                let file = resolve::open_seen(self.root, path, &seen, OFlags::RDONLY);
                file.os(|| format!("openat2({path:?})")).map_err(name_lease)
            }
            kind => {
                let problem = format!("it is {kind}, which has no extended attributes to work with");
                Err(Error::new(ErrorKind::NotARegularFile, format!("open {path:?}"), problem))
            }
        }
    }

    fn get_xattr(&self, path: &Path, name: &Bytes) -> Result<Bytes> {
        let file = self.open_for_xattrs(path)?;
        let mut value = vec![0; MAX_VALUE];
        let size = rustix::fs::fgetxattr(&file, name.path(), value.as_mut_slice())
            .os(|| format!("fgetxattr({path:?}, {:?})", name.path()))?;
        value.truncate(size);
        Ok(Bytes(value))
    }

    fn list_xattrs(&self, path: &Path) -> Result<Vec<Bytes>> {
        let file = self.open_for_xattrs(path)?;
        let mut names = vec![0; MAX_NAMES];
        let size =
            rustix::fs::flistxattr(&file, names.as_mut_slice()).os(|| format!("flistxattr({path:?})"))?;
        let names = names[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(|name| Bytes(name.to_vec())).collect())
    }
}

fn send_file(client: &Channel, file: &OwnedFd) -> Result<()> {
    client.send(&FileReply::Done, &[("file", file.as_fd())])
}

/// Reads the symlink that is open as a location.
fn link_target(link: BorrowedFd<'_>, path: &Path) -> Result<Bytes> {
    let target = rustix::fs::readlinkat(link, "", Vec::new()).os(|| format!("readlinkat({path:?})"))?;
    Ok(Bytes(target.into_bytes()))
}

#[allow(clippy::useless_conversion, reason = "the number of links has another type on other machines")]
pub(super) fn metadata_of(stat: &Stat) -> Metadata {
    Metadata {
        kind: kind_of(stat),
        mode: stat.st_mode & MODE_BITS,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        modified_seconds: stat.st_mtime,
        modified_nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
        links: stat.st_nlink.into(),
        device_major: rustix::fs::major(stat.st_rdev),
        device_minor: rustix::fs::minor(stat.st_rdev),
        file_system: stat.st_dev,
        inode: stat.st_ino,
        target: None,
    }
}

fn kind_of(stat: &Stat) -> FileKind {
    kind_of_type(FileType::from_raw_mode(stat.st_mode))
}

fn kind_of_type(kind: FileType) -> FileKind {
    match kind {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::CharDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::Unknown => FileKind::Unknown,
    }
}

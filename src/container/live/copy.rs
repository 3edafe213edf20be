//! Copies of files and trees, into a container and out of it.
//!
//! The file worker resolves the container's paths, inside the container. This file makes and opens each name on the
//! host below a directory descriptor, exclusively and without following symbolic links. So the container can change
//! what a copy contains, also while it is made, but never where it is written.

use super::files::{Files, SET_ID_BITS};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::wire::files::{FileKind, MAX_VALUE, Metadata};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The deepest tree that is copied: each level takes one descriptor of the caller.
const MAX_DEPTH: usize = 128;
/// The bytes that a name counts besides its content, so that a million empty files count too. A tar archive takes as
/// many.
const ENTRY_COST: u64 = 512;
const FILE_CAPABILITIES: &[u8] = b"security.capability";

/// How much a copy may take, and which user owns it.
#[derive(Clone, Debug)]
#[must_use]
pub struct Transfer {
    limit: u64,
    owner: Option<(u32, u32)>,
}

impl Transfer {
    /// Copies at most `limit` bytes. Each name counts 512 bytes and its own length, besides the content.
    pub fn up_to(limit: u64) -> Self {
        Self { limit, owner: None }
    }

    /// Makes copies into the container belong to these ids of the container instead of its root. Copies out of a
    /// container always belong to the caller.
    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.owner = Some((uid, gid));
        self
    }
}

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// Regular files, each counted once if it has several names.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Further names of files that were copied already.
    pub hard_links: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// What was left out, and why.
    pub skipped: Vec<Skipped>,
}

/// Something that was not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// Its path in the source.
    pub path: PathBuf,
    /// Why it was not copied.
    pub reason: String,
}

impl Files {
    /// Copies the host's file or tree `from` to `to` in the container, where `to` must not exist.
    ///
    /// Keeps modes, symbolic links (as links), hard links within the tree, `user.*` attributes, file capabilities and
    /// times of modification. The owner is the container's root, or [`Transfer::owner`]. Leaves out devices, FIFOs and
    /// sockets, and names them in [`Copied::skipped`]. Of a file that grows meanwhile, copies the length it had when
    /// it was opened.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] naming the file that exceeds the limit; `EEXIST` if `to` exists; `ELOOP` for a tree of
    /// more than 128 levels; the errno of the call that failed. What was copied before an error stays.
    pub fn copy_in(
        &self,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        transfer: &Transfer,
    ) -> Result<Copied> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let (parent, name) = host_place(from)?;
        let mut copy = Copy::new(self, transfer, to);
        copy.bring_in(parent.as_fd(), &name, from, to, MAX_DEPTH)?;
        Ok(copy.done)
    }

    /// Copies the container's file or tree `from` to `to` on the host, where `to` must not exist.
    ///
    /// Keeps modes without set-id bits, symbolic links (as links), hard links within the tree, `user.*` attributes and
    /// times of modification; the copy belongs to the caller. Leaves out devices, FIFOs and sockets, and names them in
    /// [`Copied::skipped`]. Of a file that grows meanwhile, copies the length it had when it was opened.
    ///
    /// The container chooses where a symbolic link in the copy points: do not follow one.
    ///
    /// # Errors
    /// As [`copy_in`](Self::copy_in).
    pub fn copy_out(
        &self,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        transfer: &Transfer,
    ) -> Result<Copied> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let (parent, name) = host_place(to)?;
        let mut copy = Copy::new(self, transfer, to);
        let place =
            CopyTarget { top: parent.as_fd(), parent: parent.as_fd(), inner: Path::new(""), name: &name };
        copy.bring_out(from, &place, MAX_DEPTH)?;
        Ok(copy.done)
    }
}

/// The state of one copy.
struct Copy<'a> {
    files: &'a Files,
    transfer: &'a Transfer,
    /// The destination, for the error text.
    to: &'a Path,
    left: u64,
    /// Files with several names, by device and inode, and the path of the first copy of each.
    linked: HashMap<(u64, u64), PathBuf>,
    done: Copied,
}

/// A name to make on the host.
struct CopyTarget<'a> {
    /// The directory of the whole copy.
    top: BorrowedFd<'a>,
    /// The directory to make it in, and that directory's path below `top`.
    parent: BorrowedFd<'a>,
    inner: &'a Path,
    name: &'a OsStr,
}

impl<'a> Copy<'a> {
    fn new(files: &'a Files, transfer: &'a Transfer, to: &'a Path) -> Self {
        let (linked, done) = (HashMap::new(), Copied::default());
        Self { files, transfer, to, left: transfer.limit, linked, done }
    }

    /// Counts `bytes` for `path` against the limit.
    fn charge(&mut self, path: &Path, bytes: u64) -> Result<()> {
        if let Some(left) = self.left.checked_sub(bytes) {
            self.left = left;
            return Ok(());
        }
        let limit = self.transfer.limit;
        let problem = format!("{bytes} bytes more exceed the limit of {limit} bytes");
        Err(Error::new(ErrorKind::TooLarge { limit }, format!("copy {path:?}"), problem)
            .hint(format!("what was copied before it is still at {:?}", self.to)))
    }

    fn charge_name(&mut self, path: &Path) -> Result<()> {
        self.charge(path, ENTRY_COST + path.as_os_str().len() as u64)
    }

    fn skip(&mut self, path: &Path, reason: impl Into<String>) {
        self.done.skipped.push(Skipped { path: path.to_owned(), reason: reason.into() });
    }

    fn bring_in(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        from: &Path,
        to: &Path,
        depth: usize,
    ) -> Result<()> {
        self.charge_name(from)?;
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .os(|| format!("fstatat({from:?})"))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.bring_in_file(parent, name, from, to),
            FileType::Directory => self.bring_in_directory(parent, name, from, to, depth),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new())
                    .os(|| format!("readlinkat({from:?})"))?;
                self.files.symlink(OsStr::from_bytes(target.as_bytes()), to)?;
                self.done.symlinks += 1;
                self.give_away(to)?;
                self.files.set_modified(to, modified(&stat))
            }
            _ => {
                self.skip(from, "neither a regular file nor a directory nor a symbolic link");
                Ok(())
            }
        }
    }

    fn bring_in_file(&mut self, parent: BorrowedFd<'_>, name: &OsStr, from: &Path, to: &Path) -> Result<()> {
        let source = open_host(parent, name, from, OFlags::empty())?;
        let stat = rustix::fs::fstat(&source).os(|| format!("fstat({from:?})"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            self.skip(from, "was replaced while it was copied");
            return Ok(());
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)) {
                self.files.hard_link(first, to)?;
                self.done.hard_links += 1;
                return Ok(());
            }
            self.linked.insert((stat.st_dev, stat.st_ino), to.to_owned());
        }
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        self.charge(from, size)?;
        let mode = stat.st_mode & 0o7777;
        let mut copy = self.files.create(to, mode & !SET_ID_BITS)?;
        self.pour(&File::from(source.try_clone().os(|| "fcntl(F_DUPFD_CLOEXEC)")?), &mut copy, size, from)?;
        drop(copy);
        self.done.files += 1;
        self.give_away(to)?;
        self.bring_in_xattrs(source.as_fd(), from, to)?;
        if mode & SET_ID_BITS != 0 {
            self.files.set_permissions(to, mode)?;
        }
        self.files.set_modified(to, modified(&stat))
    }

    fn bring_in_directory(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        from: &Path,
        to: &Path,
        depth: usize,
    ) -> Result<()> {
        let Some(depth) = depth.checked_sub(1) else { return Err(too_deep(from)) };
        let source = open_host(parent, name, from, OFlags::DIRECTORY)?;
        let stat = rustix::fs::fstat(&source).os(|| format!("fstat({from:?})"))?;
        self.files.create_dir(to, 0o700)?;
        self.done.directories += 1;
        for entry in Dir::read_from(&source).os(|| format!("getdents({from:?})"))? {
            let entry = entry.os(|| format!("getdents({from:?})"))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                self.bring_in(source.as_fd(), name, &from.join(name), &to.join(name), depth)?;
            }
        }
        self.give_away(to)?;
        self.bring_in_xattrs(source.as_fd(), from, to)?;
        self.files.set_permissions(to, stat.st_mode & 0o7777)?;
        self.files.set_modified(to, modified(&stat))
    }

    fn give_away(&self, to: &Path) -> Result<()> {
        match self.transfer.owner {
            Some((uid, gid)) => self.files.set_owner(to, uid, gid, false),
            None => Ok(()),
        }
    }

    fn bring_in_xattrs(&mut self, source: BorrowedFd<'_>, from: &Path, to: &Path) -> Result<()> {
        for name in host_xattrs(source, from)? {
            if !name.as_bytes().starts_with(b"user.") && name.as_bytes() != FILE_CAPABILITIES {
                continue;
            }
            let mut value = vec![0; MAX_VALUE];
            let size = match rustix::fs::fgetxattr(source, &name, value.as_mut_slice()) {
                Ok(size) => size,
                Err(errno) => {
                    self.skip(from, format!("attribute {name:?}: {errno}"));
                    continue;
                }
            };
            if let Err(error) = self.files.set_xattr(to, &name, &value[..size]) {
                self.skip_attribute(from, &name, error)?;
            }
        }
        Ok(())
    }

    /// Keeps the file without the attribute if its file system refuses attributes; fails on other errors.
    fn skip_attribute(&mut self, from: &Path, name: &OsStr, error: Error) -> Result<()> {
        match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::EPERM | libc::ENOSPC) => {
                self.skip(from, format!("attribute {name:?}: {error}"));
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn bring_out(&mut self, from: &Path, place: &CopyTarget<'_>, depth: usize) -> Result<()> {
        self.charge_name(from)?;
        let metadata = self.files.lstat(from)?;
        match metadata.kind {
            FileKind::File => self.bring_out_file(from, &metadata, place),
            FileKind::Directory => self.bring_out_directory(from, &metadata, place, depth),
            FileKind::Symlink => {
                let target = metadata.target.as_deref().unwrap_or(Path::new(""));
                rustix::fs::symlinkat(target, place.parent, place.name)
                    .os(|| format!("symlinkat({:?})", place.path()))?;
                self.done.symlinks += 1;
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::utimensat(place.parent, place.name, &times(&metadata), flags)
                    .os(|| format!("utimensat({:?})", place.path()))
            }
            kind => {
                self.skip(from, format!("is {kind}"));
                Ok(())
            }
        }
    }

    fn bring_out_file(&mut self, from: &Path, metadata: &Metadata, place: &CopyTarget<'_>) -> Result<()> {
        let several = (metadata.links > 1).then_some((metadata.file_system, metadata.inode));
        if let Some(first) = several.and_then(|file| self.linked.get(&file)) {
            place.link_to(first)?;
            self.done.hard_links += 1;
            return Ok(());
        }
        let source = self.files.open(from)?;
        let size = source.metadata().os(|| format!("fstat({from:?})"))?.len();
        self.charge(from, size)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let copy = rustix::fs::openat(place.parent, place.name, flags, Mode::from_raw_mode(0o600))
            .os(|| format!("openat({:?}, O_CREAT | O_EXCL)", place.path()))?;
        let mut copy = File::from(copy);
        self.pour(&source, &mut copy, size, from)?;
        self.done.files += 1;
        if let Some(file) = several {
            self.linked.insert(file, place.path());
        }
        self.finish(from, metadata, copy.as_fd())
    }

    fn bring_out_directory(
        &mut self,
        from: &Path,
        metadata: &Metadata,
        place: &CopyTarget<'_>,
        depth: usize,
    ) -> Result<()> {
        let Some(depth) = depth.checked_sub(1) else { return Err(too_deep(from)) };
        let step = || format!("mkdirat({:?})", place.path());
        rustix::fs::mkdirat(place.parent, place.name, Mode::from_raw_mode(0o700)).os(step)?;
        let copy = open_host(place.parent, place.name, &place.path(), OFlags::DIRECTORY)?;
        self.done.directories += 1;
        // Bound the list of one directory, which we hold in memory, by what is left of the limit.
        let entries = match self.files.list_up_to(from, self.left / ENTRY_COST) {
            Err(error) if matches!(error.kind(), ErrorKind::TooLarge { .. }) => {
                return self.charge(from, self.left.saturating_add(1));
            }
            entries => entries?,
        };
        let inner = place.path();
        for entry in entries {
            let name = entry.name.as_os_str();
            let below = CopyTarget { top: place.top, parent: copy.as_fd(), inner: &inner, name };
            match self.bring_out(&from.join(name), &below, depth) {
                // The container has removed it since it was listed.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    self.skip(&from.join(name), "was removed before it was copied");
                }
                result => result?,
            }
        }
        self.finish(from, metadata, copy.as_fd())
    }

    /// Sets attributes, mode and time of `copy`.
    fn finish(&mut self, from: &Path, metadata: &Metadata, copy: BorrowedFd<'_>) -> Result<()> {
        let names = match self.files.list_xattrs(from) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Vec::new(),
            names => names?,
        };
        // Copy no other attributes: file capabilities that the container set would count on the host.
        for name in names.iter().filter(|name| name.as_bytes().starts_with(b"user.")) {
            self.charge(from, MAX_VALUE as u64 / 16)?;
            let value = match self.files.get_xattr(from, name) {
                Ok(value) => value,
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENODATA | libc::ERANGE)) => {
                    self.skip(from, format!("attribute {name:?}: {error}"));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let set = rustix::fs::fsetxattr(copy, name, &value, XattrFlags::empty());
            if let Err(error) = set.os(|| format!("fsetxattr({name:?})")) {
                self.skip_attribute(from, name, error)?;
            }
        }
        // Drop set-id bits: the copy belongs to the caller, who may be root.
        let mode = metadata.mode & 0o777;
        rustix::fs::fchmod(copy, Mode::from_raw_mode(mode)).os(|| format!("fchmod(0o{mode:o})"))?;
        rustix::fs::futimens(copy, &times(metadata)).os(|| "futimens()")
    }

    /// Copies at most `size` bytes.
    fn pour(&mut self, source: &File, copy: &mut File, size: u64, from: &Path) -> Result<()> {
        let bytes = std::io::copy(&mut source.take(size), copy).os(|| format!("copy {from:?}"))?;
        self.done.bytes += bytes;
        Ok(())
    }
}

impl CopyTarget<'_> {
    fn path(&self) -> PathBuf {
        self.inner.join(self.name)
    }

    /// Links it to `first`, a path below the top of this copy.
    fn link_to(&self, first: &Path) -> Result<()> {
        let step = || format!("linkat({first:?}, {:?})", self.path());
        let directory = first.parent().filter(|parent| !parent.as_os_str().is_empty());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let directory = directory.unwrap_or(Path::new("."));
        let directory = rustix::fs::openat2(self.top, directory, flags, Mode::empty(), resolve).os(step)?;
        let name = first.file_name().unwrap_or_default();
        rustix::fs::linkat(&directory, name, self.parent, self.name, AtFlags::empty()).os(step)
    }
}

/// Opens the directory of `path`, and returns it with the last component. The caller chose the path, so symbolic links
/// in it are followed as usual.
fn host_place(path: &Path) -> Result<(OwnedFd, OsString)> {
    let Some(name) = path.file_name() else {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("copy {path:?}"),
            "the path does not end in a file name",
        ));
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent =
        rustix::fs::openat(CWD, parent, flags, Mode::empty()).os(|| format!("open({parent:?}, O_PATH)"))?;
    Ok((parent, name.to_owned()))
}

fn open_host(parent: BorrowedFd<'_>, name: &OsStr, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let base = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, base | flags, Mode::empty())
        .os(|| format!("openat({path:?}, O_NOFOLLOW)"))
}

fn host_xattrs(file: BorrowedFd<'_>, path: &Path) -> Result<Vec<OsString>> {
    // The kernel's own limit: XATTR_LIST_MAX.
    let mut names = vec![0; 64 << 10];
    let size = match rustix::fs::flistxattr(file, names.as_mut_slice()) {
        Err(Errno::OPNOTSUPP) => 0,
        size => size.os(|| format!("flistxattr({path:?})"))?,
    };
    let names = names[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| OsStr::from_bytes(name).to_owned()).collect())
}

fn modified(stat: &Stat) -> (i64, u32) {
    (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default())
}

fn times(metadata: &Metadata) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: metadata.modified_seconds,
            tv_nsec: metadata.modified_nanoseconds.into(),
        },
    }
}

fn too_deep(path: &Path) -> Error {
    let problem = format!("the tree is more than {MAX_DEPTH} directories deep");
    Error::new(ErrorKind::Os(libc::ELOOP), format!("copy {path:?}"), problem)
}

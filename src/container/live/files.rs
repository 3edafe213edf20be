//! [`Files`]: the files of a container, from outside it.

use super::file_worker::{FileWorker, unexpected};
use crate::container::{Container, HasFiles, Phase};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::process::Delivery;
use crate::wire::files::{Bytes, Change, Entry, FileReply, FileRequest, MAX_VALUE, Metadata};
use rustix::fd::AsFd;
use rustix::pipe::PipeFlags;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `S_ISUID` and `S_ISGID`.
pub(in crate::container) const SET_ID_BITS: u32 = 0o6000;
/// The most names a listing returns.
const MAX_ENTRIES: u64 = 1 << 20;

impl<P: Phase + ?Sized> Container<P> {
    /// Access to the container's files while it is created, running or paused, and after its end if the builder
    /// [kept them](crate::ContainerBuilder::keep_files). The image needs no program for this.
    ///
    /// # Errors
    /// [`ErrorKind::Ended`] if the container has ended: its value then is a [`Stopped`](crate::Stopped) one, or nothing
    /// was kept. The errno if no further process can be made.
    pub fn files(&self) -> Result<Files>
    where
        P: HasFiles,
    {
        let not_kept = || {
            let hint = "`keep_files` keeps the files of a container for the value that creates it";
            self.core.has_ended("files").hint(hint)
        };
        match self.phase.live_if_alive() {
            Some(live) => FileWorker::start(live).map(Files),
            None => self.core.kept.as_ref().ok_or_else(not_kept)?.worker().map(Files),
        }
    }
}

/// The files of one container.
///
/// A process of its own does the work, inside the container's user and mount namespaces and invisible to the container;
/// it ends when this value is dropped, or this program ends. It sees what the workload sees: the container's mounts, its ids,
/// and `EROFS` where a mount is read-only. It works as the container's root, also while the container is paused.
///
/// Paths are the container's, absolute or relative to its root. `..` and symbolic links, absolute ones included, are
/// resolved inside that root, whatever the container does meanwhile (openat2(2), `RESOLVE_IN_ROOT`); links of `/proc`
/// that lead elsewhere are not followed. Where a method speaks of a *name*, it means the last component itself, and
/// does not follow a symbolic link there.
///
/// Calls may come from any thread; they take turns. If the container ends, every call on a value from before fails with
/// [`ErrorKind::Ended`]. A call whose answer does not come within the time limit fails with [`ErrorKind::TimedOut`],
/// and every later one with [`ErrorKind::HelperDied`], as after the death of the worker: call [`Container::files`]
/// again then.
#[derive(Debug)]
pub struct Files(FileWorker);

impl Files {
    pub(super) fn of(worker: FileWorker) -> Self {
        Self(worker)
    }

    /// Changes how long one answer may take: 120 seconds unless this is called.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.0.time_limit = limit;
        self
    }

    /// The content of the regular file at `path`, if it is at most `limit` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] if it is more, [`ErrorKind::NotARegularFile`], or the errno of opening or reading it.
    pub fn read(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let file = self.open(path)?;
        let step = || format!("read {path:?}");
        let mut bytes = Vec::new();
        // Read one byte more than the limit, to see whether the file is longer, even if it grows meanwhile.
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes).os(step)?;
        if bytes.len() as u64 > limit {
            let problem = format!("is larger than the limit of {limit} bytes");
            return Err(Error::new(ErrorKind::TooLarge { limit }, step(), problem));
        }
        Ok(bytes)
    }

    /// Opens the regular file at `path` for reading.
    ///
    /// Refuses any other kind of file before it opens it, because an open of a FIFO or a device has effects.
    ///
    /// # Errors
    /// [`ErrorKind::NotARegularFile`], or the errno of opening it. `ESTALE`: something else was put in its place
    /// meanwhile.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<File> {
        let path = path.as_ref();
        self.file(path, &FileRequest::Open { path: path.into() })
    }

    /// Creates a regular file with exactly the permission bits `mode`, and opens it for reading and writing. As on any
    /// Linux file, a write clears set-id bits.
    ///
    /// # Errors
    /// `EEXIST` if the name is taken, by a symbolic link too; or the errno of creating it.
    pub fn create(&self, path: impl AsRef<Path>, mode: u32) -> Result<File> {
        let path = path.as_ref();
        self.file(path, &FileRequest::Create { path: path.into(), mode })
    }

    /// Writes a regular file. If it exists, it keeps owner and mode, except set-id bits, and gets the new content. If
    /// not, it is created with the permission bits `mode`.
    ///
    /// # Errors
    /// [`ErrorKind::NotARegularFile`], or the errno of opening, creating or writing it. `EEXIST` if the name is a
    /// symbolic link to nothing: no file is created through a link.
    pub fn write(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let path = path.as_ref();
        let (mut file, created) = match self.create(path, mode & !SET_ID_BITS) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => (
                self.file(path, &FileRequest::Replace { path: path.into(), mode: mode & !SET_ID_BITS })?,
                false,
            ),
            file => (file?, true),
        };
        file.write_all(bytes.as_ref()).os(|| format!("write {path:?}"))?;
        // Set them last: a write clears them.
        if created && mode & SET_ID_BITS != 0 { self.set_permissions(path, mode) } else { Ok(()) }
    }

    /// The metadata of what is at `path`; follows a symbolic link.
    ///
    /// # Errors
    /// The errno of looking at it.
    pub fn stat(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        self.metadata(path.as_ref(), true)
    }

    /// The metadata of the name `path`; of a symbolic link itself.
    ///
    /// # Errors
    /// The errno of looking at it.
    pub fn lstat(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        self.metadata(path.as_ref(), false)
    }

    /// The names in the directory at `path`, sorted, without `.` and `..`.
    ///
    /// # Errors
    /// The errno of reading it; [`ErrorKind::TooLarge`] for more than a million names.
    pub fn list(&self, path: impl AsRef<Path>) -> Result<Vec<Entry>> {
        self.list_up_to(path.as_ref(), MAX_ENTRIES)
    }

    pub(in crate::container) fn list_up_to(&self, path: &Path, limit: u64) -> Result<Vec<Entry>> {
        let limit = limit.min(MAX_ENTRIES);
        let request = FileRequest::List { path: path.into(), limit };
        let mut all = self.0.exchange(|worker| {
            worker.send(&request, &[])?;
            let mut all = Vec::new();
            loop {
                match worker.receive()?.message {
                    FileReply::Entries { entries, last } => {
                        all.extend(entries);
                        check_count(all.len(), limit)?;
                        if last {
                            return Ok(all);
                        }
                    }
                    other => return Err(unexpected(&other)),
                }
            }
        })?;
        all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// Makes a directory with exactly the permission bits `mode`.
    ///
    /// # Errors
    /// `EEXIST` if the name is taken; or the errno of making it.
    pub fn create_dir(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        self.change(&FileRequest::Mkdir { path: path.as_ref().into(), mode, parents: false })
    }

    /// Makes a directory and the missing ones above it, with exactly the permission bits `mode`. Directories that exist
    /// stay as they are.
    ///
    /// # Errors
    /// `ENOTDIR` if something else is in the way; or the errno of making one.
    pub fn create_dir_all(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        self.change(&FileRequest::Mkdir { path: path.as_ref().into(), mode, parents: true })
    }

    /// Removes a name that is not a directory's.
    ///
    /// # Errors
    /// The errno of unlinkat(2).
    pub fn remove_file(&self, path: impl AsRef<Path>) -> Result<()> {
        self.change(&FileRequest::RemoveFile { path: path.as_ref().into() })
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// The errno of unlinkat(2), `ENOTEMPTY` among them.
    pub fn remove_dir(&self, path: impl AsRef<Path>) -> Result<()> {
        self.change(&FileRequest::RemoveDir { path: path.as_ref().into() })
    }

    /// Removes a name and, if it is a directory's, everything below it; never through a symbolic link, and never
    /// across a mount.
    ///
    /// # Errors
    /// `EBUSY` if there is a mount below, `ELOOP` for a tree of more than 256 levels, or the errno of what could not be
    /// removed. Everything else is removed nevertheless.
    pub fn remove_all(&self, path: impl AsRef<Path>) -> Result<()> {
        self.change(&FileRequest::RemoveAll { path: path.as_ref().into() })
    }

    /// Renames `from` to `to`, and replaces what has the name `to`, as rename(2) does.
    ///
    /// # Errors
    /// The errno of renameat(2).
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        self.change(&FileRequest::Rename { from: from.as_ref().into(), to: to.as_ref().into() })
    }

    /// Makes a symbolic link at `path` with the text `target`, which is stored unchanged.
    ///
    /// # Errors
    /// The errno of symlinkat(2).
    pub fn symlink(&self, target: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<()> {
        self.change(&FileRequest::Symlink { target: target.as_ref().into(), path: path.as_ref().into() })
    }

    /// Gives a file one more name.
    ///
    /// # Errors
    /// The errno of linkat(2).
    pub fn hard_link(&self, original: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<()> {
        self.change(&FileRequest::HardLink { original: original.as_ref().into(), path: path.as_ref().into() })
    }

    /// The target of the symbolic link at `path`, as it is stored.
    ///
    /// # Errors
    /// `EINVAL` if it is none; or the errno of looking at it.
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let bytes = self.bytes(&FileRequest::ReadLink { path: path.as_ref().into() })?;
        Ok(OsString::from(bytes).into())
    }

    /// Sets the permission bits, set-id and sticky bits included.
    ///
    /// # Errors
    /// The errno of fchmodat2(2).
    pub fn set_permissions(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        self.change(&FileRequest::SetMode { path: path.as_ref().into(), mode })
    }

    /// Sets the owner, as ids of the container; follows a symbolic link. Clears set-id bits, as chown(2) does.
    ///
    /// # Errors
    /// `EINVAL` for an id the container does not have; or the errno of fchownat(2).
    pub fn chown(&self, path: impl AsRef<Path>, uid: u32, gid: u32) -> Result<()> {
        self.set_owner(path.as_ref(), uid, gid, true)
    }

    /// Sets the owner of the name itself, as [`chown`](Self::chown).
    ///
    /// # Errors
    /// As [`chown`](Self::chown).
    pub fn lchown(&self, path: impl AsRef<Path>, uid: u32, gid: u32) -> Result<()> {
        self.set_owner(path.as_ref(), uid, gid, false)
    }

    /// The value of an extended attribute of a regular file or a directory.
    ///
    /// # Errors
    /// `ENODATA` if it has none of that name, `ERANGE` if it is larger than 16 KiB, [`ErrorKind::NotARegularFile`] for
    /// another kind of file, or the errno of fgetxattr(2).
    pub fn get_xattr(&self, path: impl AsRef<Path>, name: impl AsRef<OsStr>) -> Result<Vec<u8>> {
        let (path, name) = (path.as_ref().into(), name.as_ref().into());
        Ok(self.bytes(&FileRequest::GetXattr { path, name })?.0)
    }

    /// Sets an extended attribute of a regular file or a directory.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a value of more than 16 KiB, [`ErrorKind::NotARegularFile`] for another kind of
    /// file, or the errno of fsetxattr(2).
    pub fn set_xattr(
        &self,
        path: impl AsRef<Path>,
        name: impl AsRef<OsStr>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        let (name, value) = (name.as_ref(), value.as_ref());
        if value.len() > MAX_VALUE {
            let problem = format!("{} bytes, the limit is {MAX_VALUE}", value.len());
            return Err(Error::new(ErrorKind::InvalidInput, format!("set xattr {name:?}"), problem));
        }
        let (path, value) = (path.as_ref().into(), Bytes(value.to_vec()));
        self.change(&FileRequest::SetXattr { path, name: name.into(), value })
    }

    /// Removes an extended attribute of a regular file or a directory.
    ///
    /// # Errors
    /// As [`get_xattr`](Self::get_xattr).
    pub fn remove_xattr(&self, path: impl AsRef<Path>, name: impl AsRef<OsStr>) -> Result<()> {
        let (path, name) = (path.as_ref().into(), name.as_ref().into());
        self.change(&FileRequest::RemoveXattr { path, name })
    }

    /// The names of the extended attributes of a regular file or a directory, sorted.
    ///
    /// # Errors
    /// `ERANGE` for more than 16 KiB of names; else as [`get_xattr`](Self::get_xattr).
    pub fn list_xattrs(&self, path: impl AsRef<Path>) -> Result<Vec<OsString>> {
        match self.ask(&FileRequest::ListXattrs { path: path.as_ref().into() })?.message {
            FileReply::Names(names) => {
                let mut names: Vec<OsString> = names.into_iter().map(OsString::from).collect();
                names.sort_unstable();
                Ok(names)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// What the container changed of its image, sorted by path: compares the content of its
    /// [scratch](crate::container::ContainerBuilder::scratch) with the image under it.
    ///
    /// A directory is listed if its mode or owner changed, not because of its content. What this crate made for the
    /// container, such as a mount point that the image lacks, is listed as added.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a container without a scratch, and on kernels before 6.6, whose tmpfs cannot
    /// record what was replaced; [`ErrorKind::TooLarge`] for more than a million changes; the errno of reading the
    /// layer.
    pub fn diff(&self) -> Result<Vec<Change>> {
        let mut all = self.0.exchange(|worker| {
            worker.send(&FileRequest::Diff { limit: MAX_ENTRIES }, &[])?;
            let mut all = Vec::new();
            loop {
                match worker.receive()?.message {
                    FileReply::Changes { changes, last } => {
                        all.extend(changes);
                        check_count(all.len(), MAX_ENTRIES)?;
                        if last {
                            return Ok(all);
                        }
                    }
                    other => return Err(unexpected(&other)),
                }
            }
        })?;
        all.sort_unstable_by(|one, other| one.path.as_os_str().cmp(other.path.as_os_str()));
        Ok(all)
    }

    /// Writes what the container changed of its image as a layer: an uncompressed tar archive (OCI image-spec,
    /// layer.md) with whiteouts, hard links, symbolic links, devices, `user.*` attributes and file capabilities, ids as
    /// the container sees them. The same changes give the same bytes.
    ///
    /// Pause a container that is at work: what it changes during the export may be in the layer or not.
    ///
    /// Writes at most `limit` bytes. An archive has the holes of a sparse file as zeroes, so a workload can make one that
    /// is far longer than what its disk holds.
    ///
    /// # Errors
    /// As [`diff`](Self::diff); [`ErrorKind::TooLarge`] for an archive of more than `limit` bytes;
    /// [`ErrorKind::InvalidInput`] for a name that begins with `.wh.`, which a layer cannot hold; `ELOOP` for a tree of
    /// more than 256 levels; the errno of `writer`. What was written before is no archive.
    pub fn export_layer(&self, limit: u64, mut writer: impl Write) -> Result<()> {
        self.export(&FileRequest::Export, limit, &mut writer)
    }

    /// Writes all that the one file system mounted at `path` holds, but devices, as a layer.
    pub(in crate::container) fn export_mount(
        &self,
        path: &Path,
        limit: u64,
        writer: &mut impl Write,
    ) -> Result<()> {
        self.export(&FileRequest::ExportMount { path: path.into() }, limit, writer)
    }

    fn export(&self, request: &FileRequest, limit: u64, writer: &mut impl Write) -> Result<()> {
        let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).os(|| "pipe2()")?;
        self.0.exchange(|worker| {
            worker.send(request, &[("pipe", theirs.as_fd())])?;
            drop(theirs);
            let written = worker.pour(ours, limit, writer);
            // Prefer the worker's own error: it says more than an archive that ends early or a pipe that is closed.
            let done = worker.done();
            written.and(done)
        })
    }

    pub(in crate::container) fn set_owner(
        &self,
        path: &Path,
        uid: u32,
        gid: u32,
        follow: bool,
    ) -> Result<()> {
        self.change(&FileRequest::SetOwner { path: path.into(), uid, gid, follow })
    }

    pub(in crate::container) fn set_modified(
        &self,
        path: &Path,
        (seconds, nanoseconds): (i64, u32),
    ) -> Result<()> {
        self.change(&FileRequest::SetModified { path: path.into(), seconds, nanoseconds, follow: false })
    }

    fn metadata(&self, path: &Path, follow: bool) -> Result<Metadata> {
        match self.ask(&FileRequest::Stat { path: path.into(), follow })?.message {
            FileReply::Metadata { metadata, target } => {
                Ok(Metadata { target: target.map(|bytes| OsString::from(bytes).into()), ..metadata })
            }
            other => Err(unexpected(&other)),
        }
    }

    fn change(&self, request: &FileRequest) -> Result<()> {
        self.0.exchange(|worker| {
            worker.send(request, &[])?;
            worker.done()
        })
    }

    fn bytes(&self, request: &FileRequest) -> Result<Bytes> {
        match self.ask(request)?.message {
            FileReply::Bytes(bytes) => Ok(bytes),
            other => Err(unexpected(&other)),
        }
    }

    fn file(&self, path: &Path, request: &FileRequest) -> Result<File> {
        let file = File::from(self.ask(request)?.fds.take_only("file")?);
        // Check it on this side too: the sandbox could send another kind of file, and a read from it could block.
        match file.metadata() {
            Ok(metadata) if metadata.is_file() => Ok(file),
            _ => Err(Error::new(ErrorKind::NotARegularFile, format!("open {path:?}"), "is another thing")),
        }
    }

    fn ask(&self, request: &FileRequest) -> Result<Delivery<FileReply>> {
        self.0.exchange(|worker| {
            worker.send(request, &[])?;
            worker.receive()
        })
    }
}

/// The worker keeps the limit. It works in the container, so this side checks it too, before a listing without an end
/// takes all memory.
fn check_count(count: usize, limit: u64) -> Result<()> {
    if count as u64 > limit {
        let problem = format!("more than the {limit} entries that were asked for");
        return Err(Error::new(ErrorKind::PeerMisbehaved, "files", problem));
    }
    Ok(())
}

impl Metadata {
    /// When its content was last changed.
    #[must_use]
    pub fn modified(&self) -> SystemTime {
        let whole = Duration::from_secs(self.modified_seconds.unsigned_abs());
        let fraction = Duration::from_nanos(self.modified_nanoseconds.into());
        if self.modified_seconds < 0 { UNIX_EPOCH - whole + fraction } else { UNIX_EPOCH + whole + fraction }
    }
}

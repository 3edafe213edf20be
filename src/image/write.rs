//! [`NewImage`]: a directory that becomes an image, or is left as it was found.

use super::digest::{DIRECTORY, of_file, open_regular};
use super::manifest::{CONFIG, CRIU, Description, FORMAT, FileEntry, ImageLayer, LAYERS, MANIFEST, Manifest};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::host::machine;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The manifest until it is on the disk.
const UNFINISHED: &str = "manifest.json.new";

/// An image that is being written. Dropped before [`keep`](Self::keep), it removes what it has written.
pub(crate) struct NewImage {
    path: PathBuf,
    directory: OwnedFd,
    criu: OwnedFd,
    layers: OwnedFd,
    written: Vec<ImageLayer>,
    /// The mode of the directory if it was there before.
    found: Option<Mode>,
    kept: bool,
}

impl NewImage {
    /// Makes the directory, or takes one that is empty, and closes it to other users.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let made = match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            refused => return Err(refused.os(|| format!("mkdir({path:?})")).expect_err("matched above")),
        };
        let opened = rustix::fs::openat(CWD, path, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
        let directory = opened.os(|| format!("open({path:?}, O_DIRECTORY | O_NOFOLLOW)"))?;
        let found = if made { None } else { Some(claim(directory.as_fd(), path)?) };
        let folder = |name: &str| {
            rustix::fs::mkdirat(&directory, name, Mode::RWXU)
                .and_then(|()| {
                    rustix::fs::openat(&directory, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
                })
                .os(|| format!("mkdir({:?})", path.join(name)))
        };
        let folders = folder(CRIU).and_then(|criu| Ok((criu, folder(LAYERS)?)));
        match folders {
            Ok((criu, layers)) => Ok(Self {
                path: path.to_owned(),
                directory,
                criu,
                layers,
                written: Vec::new(),
                found,
                kept: false,
            }),
            Err(error) => {
                leave(directory.as_fd(), path, found);
                Err(error)
            }
        }
    }

    /// The empty folder for CRIU's files.
    pub(crate) fn criu(&self) -> BorrowedFd<'_> {
        self.criu.as_fd()
    }

    /// The file for one more layer: of the tmpfs at this path in the container, or of the scratch.
    pub(crate) fn layer(&mut self, tmpfs: Option<PathBuf>) -> Result<File> {
        let name = format!("{}.tar", self.written.len());
        let file = create(self.layers.as_fd(), &name)?;
        self.written.push(ImageLayer::new(format!("{LAYERS}/{name}"), tmpfs));
        Ok(file)
    }

    /// Writes `config.json` and the manifest, which makes the directory an image: all of it is on the disk then.
    pub(crate) fn finish(
        &mut self,
        description: Description,
        config: &str,
        made_at: SystemTime,
    ) -> Result<()> {
        let mut file = create(self.directory.as_fd(), CONFIG)?;
        file.write_all(config.as_bytes()).os(|| self.step("write", CONFIG))?;
        let mut files = BTreeMap::from([self.entry("", self.directory.as_fd(), CONFIG)?]);
        for (folder, directory) in [(CRIU, self.criu.as_fd()), (LAYERS, self.layers.as_fd())] {
            for name in names(directory)? {
                files.extend([self.entry(folder, directory, &name)?]);
            }
        }
        let since = made_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let manifest = Manifest {
            format: FORMAT,
            crate_version: env!("CARGO_PKG_VERSION").to_owned(),
            made_at_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            machine: machine()?,
            description,
            layers: self.written.clone(),
            files,
        };
        let manifest = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| Error::new(ErrorKind::InvalidInput, "image", error.to_string()))?;
        // All data before the manifest has its name: a machine that loses power leaves no manifest of half an image.
        rustix::fs::syncfs(&self.directory).os(|| format!("syncfs({:?})", self.path))?;
        let mut file = create(self.directory.as_fd(), UNFINISHED)?;
        file.write_all(&manifest).and_then(|()| file.sync_all()).os(|| self.step("write", UNFINISHED))?;
        rustix::fs::renameat(&self.directory, UNFINISHED, &self.directory, MANIFEST)
            .os(|| self.step("rename", MANIFEST))?;
        rustix::fs::fsync(&self.directory).os(|| format!("fsync({:?})", self.path))
    }

    /// Leaves the image where it is.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }

    fn entry(&self, folder: &str, directory: BorrowedFd<'_>, name: &str) -> Result<(String, FileEntry)> {
        let (size, sha256) = of_file(open_regular(directory, name)?, name)?;
        let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        Ok((path, FileEntry { size, sha256 }))
    }

    fn step(&self, call: &str, name: &str) -> String {
        format!("{call}({:?})", self.path.join(name))
    }
}

impl Drop for NewImage {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // The manifest first: what is left of the rest if this process is killed meanwhile is no image.
        for name in [MANIFEST, UNFINISHED, CONFIG] {
            let _ = rustix::fs::unlinkat(&self.directory, name, AtFlags::empty());
        }
        for folder in [self.criu.as_fd(), self.layers.as_fd()] {
            for name in names(folder).unwrap_or_default() {
                let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
            }
        }
        leave(self.directory.as_fd(), &self.path, self.found);
    }
}

/// Closes a directory that was there to other users, if it is empty. Returns the mode that it had.
fn claim(directory: BorrowedFd<'_>, path: &Path) -> Result<Mode> {
    if !names(directory)?.is_empty() {
        let error = Error::new(ErrorKind::Os(libc::ENOTEMPTY), "image", format!("{path:?} is not empty"));
        return Err(error.hint("an image needs a directory of its own"));
    }
    let stat = rustix::fs::fstat(directory).os(|| format!("fstat({path:?})"))?;
    rustix::fs::fchmod(directory, Mode::RWXU).os(|| format!("fchmod({path:?}, 0700)"))?;
    Ok(Mode::from_raw_mode(stat.st_mode & 0o7777))
}

/// Removes the folders, and the directory if it was made: `found` is the mode of one that was there.
fn leave(directory: BorrowedFd<'_>, path: &Path, found: Option<Mode>) {
    for folder in [CRIU, LAYERS] {
        let _ = rustix::fs::unlinkat(directory, folder, AtFlags::REMOVEDIR);
    }
    let _ = match found {
        Some(mode) => rustix::fs::fchmod(directory, mode),
        None => rustix::fs::rmdir(path),
    };
}

/// The names in a directory, sorted. Those that are not UTF-8 are none of CRIU's or ours, and do not occur.
fn names(directory: BorrowedFd<'_>) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).os(|| "getdents(image)")? {
        let name = entry.os(|| "getdents(image)")?.file_name().to_string_lossy().into_owned();
        names.extend(Some(name).filter(|name| name != "." && name != ".."));
    }
    names.sort_unstable();
    Ok(names)
}

/// A new file, for reading and writing by its owner alone.
fn create(directory: BorrowedFd<'_>, name: &str) -> Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR);
    file.map(File::from).os(|| format!("openat({name:?}, O_CREAT | O_EXCL)"))
}

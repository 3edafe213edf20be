//! Images: directories with all that a container was, for its restore.
//!
//! ```text
//!   DIRECTORY/             0700
//!     criu/                CRIU's files: the processes and their memory
//!     layers/N.tar         what the container wrote to its scratch, and to each tmpfs
//!     config.json          the configuration of its record
//!     manifest.json        what it is an image of, and the length and digest of each file above
//! ```
//!
//! The manifest gets its name when everything else is on the disk, so that a directory without it is no image, and one
//! with it is whole. A reader takes nothing on trust: [`Image::open`] compares every file with the manifest, and refuses what
//! the manifest does not list. A digest proves that a file is the one that was written. It does not prove who wrote it: what
//! a restored process may do is for the restore to say, and never for the image.
//!
//! What may not live here: what a container or CRIU is.

mod digest;
mod manifest;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests damage images of their own")]
mod tests;
mod write;

pub(crate) use digest::hex_digest;
pub(crate) use manifest::Description;
pub use manifest::{ImageLayer, StreamKind};
pub(crate) use write::NewImage;

use crate::error::{Error, OsContext, Result};
use crate::host::machine;
use crate::id::ContainerId;
use digest::{DIRECTORY, of_file, open_regular};
use manifest::{CONFIG, CRIU, FileEntry, LAYERS, MANIFEST, MAX_CONFIG, MAX_MANIFEST, Manifest, stale};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::fs::{CWD, Dir, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The image of a container, which [`snapshot`](crate::Container::snapshot) or
/// [`checkpoint`](crate::Container::checkpoint) has made.
///
/// The directory belongs to the caller: it can be copied, packed and sent to another machine as it is, and deleted at any
/// time. It has the memory of every process of the container, so keep it as secret as those were.
///
/// ```no_run
/// use cofferdam::checkpoint::Image;
///
/// # fn main() -> cofferdam::Result<()> {
/// let image = Image::open("/var/lib/images/counter")?;
/// println!("{} of {:?}, {} bytes", image.container_id(), image.made_at(), image.size());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    directory: OwnedFd,
    manifest: Manifest,
    config: String,
}

impl Image {
    /// Opens the image in the directory `path`, and reads all of it: every file is compared with the manifest.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`](crate::ErrorKind::Stale) naming the file that is missing, cut, changed or not in the manifest,
    /// or for an image of another format; [`ErrorKind::NotARegularFile`](crate::ErrorKind::NotARegularFile) naming a
    /// symbolic link, FIFO or other special file; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for an image
    /// of another architecture, or of a machine whose processors can do what those of this one cannot; or the errno of
    /// reading it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let directory = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())
            .os(|| format!("open({path:?}, O_DIRECTORY)"))?;
        let manifest = match read(directory.as_fd(), MANIFEST, MAX_MANIFEST) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                let problem = "there is none: this is no image, or its writing was cut short";
                return Err(stale(MANIFEST, problem));
            }
            bytes => Manifest::decode(&bytes?)?,
        };
        if let Some(problem) = machine()?.refuses(&manifest.machine) {
            return Err(Error::unsupported("image", format!("{MANIFEST}: {problem}")));
        }
        refuse_unknown(directory.as_fd(), "", &manifest)?;
        for (name, entry) in &manifest.files {
            compare(directory.as_fd(), name, entry)?;
        }
        let config = read(directory.as_fd(), CONFIG, MAX_CONFIG)?;
        if hex_digest(&config) != manifest.files[CONFIG].sha256 {
            return Err(stale(CONFIG, "it was changed while it was read"));
        }
        let config = String::from_utf8(config).map_err(|error| stale(CONFIG, error))?;
        Ok(Self { path: path.to_owned(), directory, manifest, config })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id of the container that it is an image of.
    #[must_use]
    pub fn container_id(&self) -> &ContainerId {
        &self.manifest.description.container
    }

    /// The configuration of that container, the text of a `config.json`. It is a record of what was: a restore
    /// takes arguments, variables and working directory from it, and nothing that gives a right.
    #[must_use]
    pub fn config(&self) -> &str {
        &self.config
    }

    /// When its processes stood still to be written down.
    #[must_use]
    pub fn made_at(&self) -> SystemTime {
        let since = Duration::from_millis(self.manifest.made_at_ms);
        UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
    }

    /// The version of the CRIU that wrote it, as `4.1.1`.
    #[must_use]
    pub fn criu_version(&self) -> &str {
        &self.manifest.description.criu
    }

    /// The version of this crate that made it.
    #[must_use]
    pub fn crate_version(&self) -> &str {
        &self.manifest.crate_version
    }

    /// The release of the kernel that its processes ran on, as uname(2) has it.
    #[must_use]
    pub fn kernel(&self) -> &str {
        &self.manifest.machine.kernel
    }

    /// The architecture that its processes ran on, as uname(2) has it: `x86_64`, `aarch64`.
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.manifest.machine.architecture
    }

    /// The length of all its files, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.manifest.files.values().fold(0, |sum, file| sum.saturating_add(file.size))
    }

    /// Its files but the manifest, by their paths in the directory, with their lengths in bytes.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.manifest.files.iter().map(|(name, file)| (name.as_str(), file.size))
    }

    /// The pid, in the container, of its first process.
    #[must_use]
    pub fn init_pid(&self) -> i32 {
        self.manifest.description.init_pid
    }

    /// CRIU's files by their names in its folder, and their lengths.
    pub(crate) fn files_of_criu(&self) -> Vec<(String, u64)> {
        let of_criu =
            |(name, size): (&str, u64)| Some((name.strip_prefix(CRIU)?.strip_prefix('/')?.to_owned(), size));
        self.files().filter_map(of_criu).collect()
    }

    /// The content of one of CRIU's files, which is at most `limit` bytes long.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`](crate::ErrorKind::Stale) if it is not what it was when the image was opened.
    pub(crate) fn read_of_criu(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let path = format!("{CRIU}/{name}");
        let entry = self.manifest.files.get(&path).ok_or_else(|| stale(&path, "it is missing"))?;
        let bytes = content(open_file(self.as_fd(), &path)?, &path, limit)?;
        match hex_digest(&bytes) == entry.sha256 {
            true => Ok(bytes),
            false => Err(stale(&path, "it was changed after the image was opened")),
        }
    }

    /// What standard input, output and error of its first process were.
    #[must_use]
    pub fn streams(&self) -> &[StreamKind; 3] {
        &self.manifest.description.streams
    }

    /// What it wrote to its scratch, and to each tmpfs.
    #[must_use]
    pub fn layers(&self) -> &[ImageLayer] {
        &self.manifest.layers
    }

    /// The SHA-256 of the program of its seccomp filter, in hexadecimal digits; `None` if it had no filter.
    #[must_use]
    pub fn filter(&self) -> Option<&str> {
        self.manifest.description.filter.as_deref()
    }

    /// What CRIU's files only refer to, as options `--external` of CRIU: the namespaces and mounts of the container.
    #[must_use]
    pub fn external(&self) -> &[String] {
        &self.manifest.description.external
    }
}

impl AsFd for Image {
    /// The directory, open for reading: also if it has another name by now.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl AsRawFd for Image {
    /// The number of [`as_fd`](AsFd::as_fd), for event loops that take numbers. It stays this value's.
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// The content of a file that is at most `limit` bytes long.
fn read(directory: BorrowedFd<'_>, name: &str, limit: u64) -> Result<Vec<u8>> {
    content(open_regular(directory, name)?, name, limit)
}

fn content(file: File, name: &str, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).os(|| format!("read({name:?})"))?;
    if bytes.len() as u64 > limit {
        return Err(stale(name, format!("it is longer than {limit} bytes")));
    }
    Ok(bytes)
}

/// Fails if the folder, or one in it, has a file that the manifest does not list.
fn refuse_unknown(directory: BorrowedFd<'_>, folder: &str, manifest: &Manifest) -> Result<()> {
    for entry in Dir::read_from(directory).os(|| format!("getdents({folder:?})"))? {
        let entry = entry.os(|| format!("getdents({folder:?})"))?;
        let name = entry.file_name().to_string_lossy();
        let path = if folder.is_empty() { name.into_owned() } else { format!("{folder}/{name}") };
        match path.strip_prefix(folder).map(|name| name.trim_start_matches('/')) {
            Some("." | "..") => {}
            Some(MANIFEST) if folder.is_empty() => {}
            Some(name @ (CRIU | LAYERS)) if folder.is_empty() => {
                let below = rustix::fs::openat(directory, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
                match below {
                    Err(Errno::NOTDIR | Errno::LOOP) => return Err(stale(name, "it is no directory")),
                    below => {
                        refuse_unknown(below.os(|| format!("openat({name:?})"))?.as_fd(), name, manifest)?
                    }
                }
            }
            _ if manifest.files.contains_key(&path) => {}
            _ => return Err(stale(&path, "the manifest does not list it")),
        }
    }
    Ok(())
}

/// Fails if the file is not the one of the manifest.
fn compare(directory: BorrowedFd<'_>, name: &str, entry: &FileEntry) -> Result<()> {
    let file = open_file(directory, name)?;
    let length = file.metadata().os(|| format!("fstat({name:?})"))?.len();
    if length != entry.size {
        return Err(stale(
            name,
            format!("it has {length} bytes, and had {} when it was written", entry.size),
        ));
    }
    match of_file(file, name)? {
        (_, sha256) if sha256 == entry.sha256 => Ok(()),
        _ => Err(stale(name, "its content is not what was written: the digest differs")),
    }
}

/// Opens a file of an image: a regular one, in the directory or in a folder of it.
pub(crate) fn open_file(directory: BorrowedFd<'_>, name: &str) -> Result<File> {
    let opened = match name.split_once('/') {
        None => open_regular(directory, name),
        Some((folder, file)) => {
            let below = rustix::fs::openat(directory, folder, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
            below.os(|| format!("openat({folder:?})")).and_then(|below| open_regular(below.as_fd(), file))
        }
    };
    opened.map_err(|error| missing(name, error))
}

fn missing(name: &str, error: Error) -> Error {
    match error.raw_os_error() {
        // A name that no file can have is only in a manifest that was tampered with.
        Some(libc::ENOENT | libc::ENAMETOOLONG) => stale(name, "it is missing"),
        _ => error,
    }
}

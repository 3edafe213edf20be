//! An open cgroup directory. We open every file of a cgroup relative to one, and never by an absolute path.
//!
//! What lives here: open, make, remove, read, write, with errors that print like strace. What may not: decisions.

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::plan::cgroup::CONTAINER;
use crate::process::lease::{name_lease, open_unleased};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The cgroup version of a directory, by the magic number of its file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CgroupVersion {
    V1,
    V2,
}

/// The control files of v1 that more than one file here uses.
pub(super) mod v1 {
    /// A single-threaded process writes `0` here to join. `cgroup.procs` would do the same after an RCU grace period;
    /// `tasks` needs none, since the process cannot create another thread meanwhile.
    pub(in super::super) const JOIN: &str = "tasks";
    /// Whether the tasks of a cgroup may run. Shows a freezing by a cgroup above, too.
    pub(in super::super) const FREEZER: &str = "freezer.state";
    /// OOM kills of the memory controller.
    pub(in super::super) const OOM: &str = "memory.oom_control";
    /// The most memory used, in bytes.
    pub(in super::super) const PEAK: &str = "memory.max_usage_in_bytes";
}

/// The control files of v2 that more than one file here uses.
pub(super) mod v2 {
    /// A process writes `0` here to join, if it could not be created inside by `CLONE_INTO_CGROUP`.
    pub(in super::super) const JOIN: &str = "cgroup.procs";
    /// OOM kills of this cgroup and those below it.
    pub(in super::super) const OOM: &str = "memory.events";
    /// The most memory used, in bytes; since Linux 5.19.
    pub(in super::super) const PEAK: &str = "memory.peak";
    /// Whether it has processes, and whether they are frozen.
    pub(in super::super) const EVENTS: &str = "cgroup.events";
}

/// An open directory, known to be a cgroup, with the path it was opened by for messages.
#[derive(Debug)]
pub(super) struct CgroupDir {
    fd: OwnedFd,
    path: PathBuf,
    version: CgroupVersion,
}

impl CgroupDir {
    /// Opens the cgroup at the absolute `path`, which may be a mount point but contain no symbolic link.
    ///
    /// # Errors
    /// The errno of openat2(2), or [`ErrorKind::InvalidInput`] if the directory is of another filesystem.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let resolve = ResolveFlags::NO_SYMLINKS;
        let fd = rustix::fs::openat2(rustix::fs::CWD, path, DIRECTORY, Mode::empty(), resolve)
            .os(|| format!("openat2({path:?}, RESOLVE_NO_SYMLINKS)"))?;
        let magic = rustix::fs::fstatfs(&fd).os(|| format!("fstatfs({path:?})"))?.f_type;
        let version = match magic {
            libc::CGROUP_SUPER_MAGIC => CgroupVersion::V1,
            libc::CGROUP2_SUPER_MAGIC => CgroupVersion::V2,
            _ => {
                let message = format!("{path:?} is not a directory of a cgroup filesystem");
                return Err(Error::new(ErrorKind::InvalidInput, "open cgroup", message));
            }
        };
        Ok(Self { fd, path: path.to_path_buf(), version })
    }

    /// Opens the child `name`, a single component on the same mount.
    pub(super) fn child(&self, name: &OsStr) -> Result<Self> {
        let path = self.path.join(name);
        let fd = self.openat(name, DIRECTORY).os(|| format!("openat2({path:?})"))?;
        Ok(Self { fd, path, version: self.version })
    }

    /// Makes the child `name`; `false` if there is one already.
    pub(super) fn make(&self, name: &OsStr) -> Result<bool> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) => Ok(false),
            made => made.map(|()| true).os(|| format!("mkdir({:?})", self.path.join(name))),
        }
    }

    /// Removes the child `name`, which must have no process and no child.
    pub(super) fn remove(&self, name: &OsStr) -> Removal {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Removal::Gone,
            Err(Errno::BUSY | Errno::NOTEMPTY) => Removal::Busy,
            Err(errno) => {
                let step = || format!("rmdir({:?})", self.path.join(name));
                Err::<Removal, _>(errno).os(step).unwrap_or_else(Removal::Failed)
            }
        }
    }

    /// The directory above, without leaving the filesystem: cgroups cannot be moved to another parent.
    pub(super) fn parent(&self) -> Result<Self> {
        let path = self.path.parent().unwrap_or(&self.path).to_path_buf();
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let fd = rustix::fs::openat2(&self.fd, "..", DIRECTORY, Mode::empty(), resolve)
            .os(|| format!("openat2({:?}, \"..\")", self.path))?;
        Ok(Self { fd, path, version: self.version })
    }

    /// The directory of the container's own processes below this leaf, which has their limits and counts what they use.
    /// `None` if they are in the leaf itself.
    pub(super) fn container(&self) -> Result<Option<Self>> {
        // If the plan makes no such directory, the workload may have made one of that name.
        let apart = || Ok::<_, Error>(self.has("pids.max")? || self.has(v1::OOM)?);
        if self.version == CgroupVersion::V1 && !apart()? {
            return Ok(None);
        }
        match self.child(OsStr::new(CONTAINER)) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Removes the child cgroups that are empty, in one pass. Stops at `deadline`, because another process may be making
    /// more. Returns the name of one that is left, if any is.
    pub(super) fn remove_empty_children(&self, deadline: Instant) -> Result<Option<OsString>> {
        let mut left = None;
        for name in self.children()? {
            if Instant::now() >= deadline {
                return Ok(Some(name));
            }
            match self.remove(&name) {
                Removal::Gone => {}
                Removal::Busy => left = Some(name),
                Removal::Failed(error) => return Err(error),
            }
        }
        Ok(left)
    }

    /// The names of the child cgroups; none if this one is gone.
    pub(super) fn children(&self) -> Result<Vec<OsString>> {
        directories_in(self.entries()?).os(|| format!("getdents64({:?})", self.path))
    }

    /// The names of the control files.
    pub(super) fn files(&self) -> Result<Vec<String>> {
        let step = || format!("getdents64({:?})", self.path);
        let mut names = Vec::new();
        for entry in self.entries()? {
            let entry = entry.os(step)?;
            if entry.file_type() == FileType::RegularFile {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    /// Opens a control file for reading.
    pub(super) fn open_read(&self, file: &str) -> Result<OwnedFd> {
        self.open_file(file, OFlags::RDONLY)
    }

    /// Opens a control file for writing.
    pub(super) fn open_write(&self, file: &str) -> Result<OwnedFd> {
        self.open_file(file, OFlags::WRONLY)
    }

    /// Opens a control file for reading and writing.
    pub(super) fn open_read_write(&self, file: &str) -> Result<OwnedFd> {
        self.open_file(file, OFlags::RDWR)
    }

    /// The text of a control file.
    pub(super) fn read(&self, file: &str) -> Result<String> {
        let fd = self.open_read(file)?;
        read_text(fd.as_fd()).os(|| format!("read({:?})", self.path.join(file)))
    }

    /// The text of a control file; `None` where the kernel has none for this cgroup.
    pub(super) fn read_if_present(&self, file: &str) -> Result<Option<String>> {
        match self.read(file) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            text => text.map(Some),
        }
    }

    /// The text of a control file for statistics; `None` where the kernel does not count this for the cgroup.
    pub(super) fn statistic(&self, file: &str) -> Result<Option<String>> {
        match self.read(file) {
            Err(error) if is_absent(&error) => Ok(None),
            text => text.map(Some),
        }
    }

    /// The number in a control file for statistics.
    pub(super) fn number(&self, file: &str) -> Result<Option<u64>> {
        Ok(self.statistic(file)?.and_then(|text| text.trim().parse().ok()))
    }

    /// The sizes of huge pages that have a file `hugetlb.SIZE.SUFFIX`, sorted.
    pub(super) fn huge_page_sizes(&self, suffix: &str) -> Result<Vec<String>> {
        let files = self.files()?;
        let size = |file: &String| Some(file.strip_prefix("hugetlb.")?.strip_suffix(suffix)?.to_owned());
        // `hugetlb.2MB.rsvd.current` counts reservations of the same size.
        let mut sizes: Vec<String> =
            files.iter().filter_map(size).filter(|size| !size.contains('.')).collect();
        sizes.sort();
        Ok(sizes)
    }

    /// Whether the kernel has this control file for this cgroup.
    pub(super) fn has(&self, file: &str) -> Result<bool> {
        match rustix::fs::statat(&self.fd, file, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(false),
            found => found.map(|_| true).os(|| format!("stat({:?})", self.path.join(file))),
        }
    }

    /// Whether it, or a cgroup of v1 below it, has a process. `deepest` is how many levels below to look at: what is
    /// nested deeper counts as in use.
    pub(super) fn is_in_use(&self, deepest: u32) -> Result<bool> {
        if !self.read("cgroup.procs")?.is_empty() {
            return Ok(true);
        }
        for name in self.children()? {
            if deepest == 0 || self.child(&name)?.is_in_use(deepest - 1)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a process that joins it would be frozen: by itself, or by a cgroup above.
    pub(super) fn is_frozen(&self) -> Result<bool> {
        let (file, frozen) = match self.version {
            // "FREEZING" until the last task has stopped.
            CgroupVersion::V1 => (v1::FREEZER, ["FROZEN", "FREEZING"].as_slice()),
            CgroupVersion::V2 => (v2::EVENTS, ["frozen 1"].as_slice()),
        };
        // Absent outside of the freezer's hierarchy, and on v2 in the root.
        let text = self.read_if_present(file)?.unwrap_or_default();
        Ok(text.lines().any(|line| frozen.contains(&line)))
    }

    /// Writes a control file, in one write(2) as the kernel wants it.
    pub(super) fn write(&self, file: &str, value: &str) -> Result<()> {
        let fd = self.open_write(file)?;
        let step = || format!("write({:?}, {value:?})", self.path.join(file));
        match rustix::io::write(&fd, value.as_bytes()).os(step)? {
            written if written == value.len() => Ok(()),
            _ => Err(Errno::IO).os(step),
        }
    }

    /// Gives a control file to another user.
    pub(super) fn give(&self, file: &str, uid: u32) -> Result<()> {
        let owner = Some(rustix::fs::Uid::from_raw(uid));
        rustix::fs::chownat(&self.fd, file, owner, None, AtFlags::SYMLINK_NOFOLLOW)
            .os(|| format!("chown({:?}, {uid})", self.path.join(file)))
    }

    /// The user that a control file belongs to.
    pub(super) fn owner(&self, file: &str) -> Result<u32> {
        let stat = rustix::fs::statat(&self.fd, file, AtFlags::SYMLINK_NOFOLLOW);
        stat.map(|stat| stat.st_uid).os(|| format!("stat({:?})", self.path.join(file)))
    }

    /// Another descriptor of this directory, to pass on.
    pub(super) fn duplicate(&self) -> Result<OwnedFd> {
        self.fd.try_clone().os(|| format!("fcntl({:?}, F_DUPFD_CLOEXEC)", self.path))
    }

    pub(super) fn version(&self) -> CgroupVersion {
        self.version
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its entries, through a new open file description: two readers of one would share its position.
    fn entries(&self) -> Result<Dir> {
        let opened = self.openat(OsStr::new("."), DIRECTORY);
        opened.and_then(Dir::new).os(|| format!("openat2({:?}, \".\")", self.path))
    }

    fn open_file(&self, file: &str, access: OFlags) -> Result<OwnedFd> {
        let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let opened = self.openat(OsStr::new(file), flags);
        opened.os(|| format!("openat2({:?})", self.path.join(file))).map_err(name_lease)
    }

    fn openat(&self, name: &OsStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        open_in(self.fd.as_fd(), name, flags)
    }
}

impl AsFd for CgroupDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens the control file or child `name` of a cgroup, which may be known by descriptor only.
pub(super) fn open_in(dir: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    debug_assert!(!name.as_bytes().contains(&b'/'), "a single component");
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    // A workload whose user owns the file may have leased it.
    let open = || rustix::fs::openat2(dir, name, flags | OFlags::NONBLOCK, Mode::empty(), resolve);
    let file = open_unleased(open)?;
    // A limit written through a non-blocking descriptor reclaims no memory (cgroup-v2.rst, memory.max).
    if flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
        rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
    }
    Ok(file)
}

/// Opens the child `name` of a cgroup that is known by descriptor only.
pub(super) fn cgroup_directory_at(dir: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    open_in(dir, name, DIRECTORY)
}

/// The names of the cgroups directly below one that is known by descriptor only; none if it was removed meanwhile.
pub(super) fn children_of(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<OsString>> {
    match cgroup_directory_at(dir, OsStr::new(".")).and_then(Dir::new) {
        Err(Errno::NOENT | Errno::NODEV) => Ok(Vec::new()),
        entries => directories_in(entries?),
    }
}

fn directories_in(entries: Dir) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if entry.file_type() == FileType::Directory && name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// The result of a removal.
#[derive(Debug)]
pub(super) enum Removal {
    /// The directory is not there (any more).
    Gone,
    /// It still has processes or children.
    Busy,
    /// The kernel refused for another reason.
    Failed(Error),
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The most that we read of a control file, in bytes. Only `cgroup.procs` is long, with seven bytes for each process,
/// and callers read the rest in their next round.
const MAX_CONTROL_BYTES: usize = 1 << 20;

/// Reads `fd` from its start, at most [`MAX_CONTROL_BYTES`], leaving its position alone.
pub(super) fn read_text(fd: BorrowedFd<'_>) -> rustix::io::Result<String> {
    let mut text = Vec::with_capacity(4096);
    loop {
        let mut chunk = [0; 4096];
        match rustix::io::pread(fd, &mut chunk, text.len() as u64)? {
            0 => break,
            read => text.extend_from_slice(&chunk[..read]),
        }
        if text.len() >= MAX_CONTROL_BYTES {
            // Drop an incomplete last line: a number cut in two is another number.
            let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
            text.truncate(whole);
            break;
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Whether this is missing: the file, the whole cgroup, or the accounting behind it (`EOPNOTSUPP` with `psi=0`).
pub(super) fn is_absent(error: &Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP))
}

/// The value of `key` in lines of `key value`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?.trim().parse().ok()
}

/// A limit. `max`, and everything else that is not a number, means that there is none.
pub(super) fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

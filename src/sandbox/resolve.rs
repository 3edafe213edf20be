//! The one resolver: every path an image or a volume can influence is resolved here, below a root descriptor, by
//! openat2(2), to a descriptor that is used and never turned back into a string.

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::process::lease::open_unleased;
use crate::weaken::{Rule, leaves_out};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// What a mount point must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetKind {
    Directory,
    File,
}

/// Opens `path` below `root` as a location (`O_PATH`), following symlinks inside the root only.
pub(super) fn open(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    open_with(root, path, OFlags::PATH)
}

/// Opens `path` below `root` with `flags`. No FIFO and no lease (fcntl(2), `F_SETLEASE`) stops it for long.
pub(super) fn open_with(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = match leaves_out(Rule::ResolveInRoot) {
        true => ResolveFlags::empty(),
        false => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    };
    // With O_PATH the kernel refuses other flags; it then opens nothing that could block.
    let may_block = flags.contains(OFlags::PATH) || leaves_out(Rule::Fifos);
    let nonblock = if may_block { OFlags::empty() } else { OFlags::NONBLOCK };
    let flags = flags | nonblock | OFlags::CLOEXEC;
    open_unleased(|| rustix::fs::openat2(root, path, flags, Mode::empty(), resolve))
}

/// A name in a directory. It need not exist, and a symlink of that name is not followed.
pub(super) struct ParentAndName {
    pub(super) parent: OwnedFd,
    pub(super) name: OsString,
}

/// The place that `path` names below `root`: symlinks are followed, inside the root, up to the last component. A path
/// that ends with `..` or is the root names no place.
pub(super) fn place(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<ParentAndName> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let parent = path.parent().unwrap_or(Path::new(""));
    let parent = open_with(root, parent, OFlags::PATH | OFlags::DIRECTORY)?;
    Ok(ParentAndName { parent, name: name.to_owned() })
}

/// Opens the file that was `seen` at `path` below `root`; `ESTALE` if another one is there by now.
pub(super) fn open_seen(
    root: BorrowedFd<'_>,
    path: &Path,
    seen: &Stat,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let file = open_with(root, path, flags | OFlags::NOCTTY)?;
    let stat = rustix::fs::fstat(&file)?;
    if (stat.st_dev, stat.st_ino) == (seen.st_dev, seen.st_ino) { Ok(file) } else { Err(Errno::STALE) }
}

/// Opens the directory `name` in `parent` for reading: not through a symlink, and not across a mount.
pub(super) fn open_child(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve)
}

/// Opens a file of a proc file system of ours for writing. Fails if another mount covers it.
pub(super) fn open_setting(proc: BorrowedFd<'_>, path: &str) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// How many dangling symlinks a path may lead through: as many as the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Opens `path` below `root`, creating it and its parents if it is not there. Where a symlink dangles, this creates what
/// it points to, inside the root.
pub(super) fn ensure(root: BorrowedFd<'_>, path: &Path, kind: TargetKind) -> Result<OwnedFd> {
    let mut path = path.to_owned();
    for _ in 0..=MAX_LINKS {
        match ensure_or_follow(root, &path, kind)? {
            Ensured::Found(found) => return check_kind(found, &path, kind),
            Ensured::Link(leads_to) => path = leads_to,
        }
    }
    Err(Errno::LOOP).os(|| format!("openat2(rootfs, {path:?})"))
}

enum Ensured {
    Found(OwnedFd),
    /// The path goes on here, because a symlink on the way dangles.
    Link(PathBuf),
}

fn ensure_or_follow(root: BorrowedFd<'_>, path: &Path, kind: TargetKind) -> Result<Ensured> {
    match open(root, path) {
        Ok(found) => return Ok(Ensured::Found(found)),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno).os(|| format!("openat2(rootfs, {path:?})")),
    }
    let mut parent = open(root, Path::new("")).os(|| "openat2(rootfs, \".\")")?;
    let mut so_far = PathBuf::new();
    let mut components = path.components().filter_map(name_or_parent);
    while let Some(name) = components.next() {
        let above = so_far.clone();
        so_far.push(name);
        parent = match open(root, &so_far) {
            Ok(found) => found,
            Err(Errno::NOENT) => match rustix::fs::readlinkat(&parent, name, Vec::new()) {
                Ok(target) => {
                    let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                    let start = if target.is_absolute() { Path::new("") } else { above.as_path() };
                    let below = target.strip_prefix("/").unwrap_or(target);
                    return Ok(Ensured::Link(start.join(below).join(components.collect::<PathBuf>())));
                }
                Err(_) => {
                    let last = components.clone().next().is_none();
                    create(parent.as_fd(), name, &so_far, if last { kind } else { TargetKind::Directory })?
                }
            },
            Err(errno) => return Err(errno).os(|| format!("openat2(rootfs, {so_far:?})")),
        };
    }
    Ok(Ensured::Found(parent))
}

/// A component to walk along. The kernel resolves `..`, which it never lets lead above the root.
fn name_or_parent(component: Component<'_>) -> Option<&OsStr> {
    matches!(component, Component::Normal(_) | Component::ParentDir).then(|| component.as_os_str())
}

/// Creates one component, exclusively: a symlink placed there meanwhile causes an error and does not lead outside.
pub(super) fn create(parent: BorrowedFd<'_>, name: &OsStr, path: &Path, kind: TargetKind) -> Result<OwnedFd> {
    let hint =
        |error: Error| error.hint("create the mount point in the rootfs, or give the container a scratch");
    match kind {
        TargetKind::Directory => {
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))
                .os(|| format!("mkdir(rootfs/{})", path.display()))
                .map_err(hint)?;
        }
        TargetKind::File => {
            // Not by open(2), which another container of the image could stop by a lease.
            rustix::fs::mknodat(parent, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)
                .os(|| format!("mknod(rootfs/{})", path.display()))
                .map_err(hint)?;
        }
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty()).os(|| format!("openat(rootfs/{})", path.display()))
}

fn check_kind(found: OwnedFd, path: &Path, kind: TargetKind) -> Result<OwnedFd> {
    let stat = rustix::fs::fstat(found.as_fd()).os(|| format!("fstat({path:?})"))?;
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    match (kind, directory) {
        (TargetKind::Directory, false) => {
            Err(Error::new(ErrorKind::Os(libc::ENOTDIR), format!("{}", path.display()), "is not a directory"))
        }
        (TargetKind::File, true) => {
            Err(Error::new(ErrorKind::Os(libc::EISDIR), format!("{}", path.display()), "is a directory"))
        }
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_missing_path_is_created_below_the_root_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        symlink("/", dir.path().join("abs")).unwrap();
        ensure(root.as_fd(), Path::new("abs/a/b"), TargetKind::Directory).unwrap();
        assert!(dir.path().join("a/b").is_dir(), "an absolute symlink is followed inside the root");
        ensure(root.as_fd(), Path::new("a/b/c"), TargetKind::File).unwrap();
        assert!(dir.path().join("a/b/c").is_file());
    }

    #[test]
    fn what_a_dangling_symlink_leads_to_is_made_inside() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let planted = outside.path().join("planted");
        symlink(&planted, dir.path().join("absolute")).unwrap();
        symlink("../../../up", dir.path().join("relative")).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let make = |path: &str| ensure(root.as_fd(), Path::new(path), TargetKind::Directory);
        make("absolute").unwrap();
        make("relative/below").unwrap();
        let inside = |path: &Path| dir.path().join(path.strip_prefix("/").unwrap());
        assert!(inside(&planted).is_dir() && inside(Path::new("/up/below")).is_dir());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn symlinks_that_lead_to_each_other_for_ever_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        symlink("there/x", dir.path().join("here")).unwrap();
        symlink("here", dir.path().join("there")).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let error = ensure(root.as_fd(), Path::new("here"), TargetKind::Directory).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{error}");
    }

    #[test]
    fn a_file_where_a_directory_belongs_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::File::create(dir.path().join("sys")).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let error = ensure(root.as_fd(), Path::new("sys"), TargetKind::Directory).unwrap_err();
        assert_eq!(error.to_string(), "sys: is not a directory");
    }
}

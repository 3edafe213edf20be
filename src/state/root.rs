//! The state directory itself: opening it, the names in it, and reading one record.
//!
//! Reading takes no lock: a save replaces a record by rename, so a reader sees the one before or the one after.

use super::directory::{DIRECTORY, REGULAR, make_path};
use super::name::{FileRole, StateName};
use super::record::{MAX_RECORD_BYTES, Record};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::id::{ContainerId, QualifiedId};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The open state directory of one user. Clones share it.
#[derive(Clone, Debug)]
pub struct StateRoot {
    dir: Arc<OwnedFd>,
    path: Arc<Path>,
    durable: bool,
    /// Tells it from other state roots of this boot.
    tag: u32,
}

impl StateRoot {
    /// Opens the caller's own state directory, and makes it if it is missing: `/run/cofferdam` for root, otherwise
    /// `$XDG_RUNTIME_DIR/cofferdam`, or `/tmp/cofferdam-UID` if that variable is not set.
    ///
    /// Root of a user namespace, as which an unprivileged engine runs its runtime, counts as root only if
    /// `XDG_RUNTIME_DIR` is not set, because the host's `/run` does not belong to it.
    ///
    /// # Errors
    /// As [`StateRoot::open`].
    pub fn open_default() -> Result<Self> {
        Self::open(default_path(
            rustix::process::geteuid().as_raw(),
            crate::sys::is_in_initial_user_namespace,
            std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
        ))
    }

    /// Opens the state directory `path`, and makes it and its missing parents with mode 0700.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if it is a symbolic link, is no directory, has a path that is not UTF-8, belongs to
    /// another user, or is writable by others: records name processes that this crate sends signals to. Also if every
    /// user may replace it, because a directory above is writable by all and is not sticky. [`ErrorKind::Os`] if it
    /// cannot be opened or made.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let given = path.as_ref();
        // Rebuild the path from its components, because O_NOFOLLOW has no effect on a path that ends in a slash.
        let path: PathBuf =
            std::path::absolute(given).os(|| format!("open({given:?})"))?.components().collect();
        if path.to_str().is_none() {
            // Records are JSON, and name their own directory.
            return Err(refused(&path, "is not UTF-8"));
        }
        let dir = match rustix::fs::open(&path, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => {
                check_place(&path)?;
                make_path(&path)?
            }
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(refused(&path, "is not a directory")),
            opened => opened.os(|| format!("open({path:?}, O_DIRECTORY|O_NOFOLLOW)"))?,
        };
        let stat = check_private(dir.as_fd(), &path)?;
        check_above(dir.as_fd(), &path, "../")?;
        Ok(Self { dir: Arc::new(dir), path: path.into(), durable: false, tag: tag_of(&stat) })
    }

    /// Whether every save also reaches the disk (two fsync(2), milliseconds) before it returns. Off by default.
    ///
    /// It is not needed to keep a record whole when a process crashes: rename does that. After a reboot all that a
    /// record names (processes, cgroups, sockets) is gone, and the boot id in the record shows it. Use it for a
    /// directory that outlives a boot, if its exit records must do so as well.
    #[must_use]
    pub fn durable(mut self, yes: bool) -> Self {
        self.durable = yes;
        self
    }

    /// The directory's absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id of a container in this directory, among those of all state roots.
    pub(crate) fn qualify<'a>(&self, id: &'a ContainerId) -> QualifiedId<'a> {
        QualifiedId { id, root: self.tag }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    pub(super) fn is_durable(&self) -> bool {
        self.durable
    }

    /// The names in the directory that this crate makes, in no order.
    pub(super) fn stems(&self) -> Result<Vec<(StateName, FileRole)>> {
        let step = || format!("getdents64({:?})", self.path);
        let entries = Dir::read_from(self.fd()).os(step)?;
        let mut stems = Vec::new();
        for entry in entries {
            let entry = entry.os(step)?;
            stems.extend(entry.file_name().to_str().ok().and_then(StateName::parse));
        }
        Ok(stems)
    }

    pub(super) fn has(&self, stem: &StateName, role: FileRole) -> Result<bool> {
        let file = stem.file(role);
        match rustix::fs::statat(self.fd(), &file, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno).os(|| format!("fstatat({:?})", self.path.join(file))),
        }
    }

    /// Reads a record; `None` if there is none.
    pub(super) fn read_record(&self, stem: &StateName) -> Result<Option<Record>> {
        let path = self.path.join(stem.file(FileRole::State));
        let stale = |problem: &str| Error::new(ErrorKind::Stale, format!("read({path:?})"), problem);
        let file = match rustix::fs::openat(self.fd(), stem.file(FileRole::State), REGULAR, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            // ELOOP: a symbolic link. ENXIO: a socket.
            Err(Errno::LOOP | Errno::NXIO) => return Err(stale("is not a regular file").hint("remove it")),
            Err(errno) => return Err(errno).os(|| format!("openat({path:?}, O_NOFOLLOW)")),
        };
        let stat = rustix::fs::fstat(&file).os(|| format!("fstat({path:?})"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(stale("is not a regular file").hint("remove it"));
        }
        let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        if size > MAX_RECORD_BYTES {
            return Err(stale(&format!("is {size} bytes long, the limit is {MAX_RECORD_BYTES}")));
        }
        // One byte more, so that the read sees the end without growing the buffer.
        let mut bytes = Vec::with_capacity(size + 1);
        let limit = MAX_RECORD_BYTES as u64 + 1;
        File::from(file).take(limit).read_to_end(&mut bytes).os(|| format!("read({path:?})"))?;
        let record = Record::decode(&bytes).map_err(|error| error.during(format!("read({path:?})")))?;
        if StateName::new(&record.id, &record.sandbox_id) != *stem {
            let problem = format!(
                "holds the record of container \"{}\" in sandbox \"{}\"",
                record.id, record.sandbox_id
            );
            return Err(stale(&problem));
        }
        Ok(Some(record))
    }
}

/// A container that existed when it was looked for.
#[derive(Clone, Debug)]
pub struct Found {
    pub(super) stem: StateName,
    id: String,
}

impl Found {
    pub(super) fn new(stem: StateName, id: &str) -> Self {
        Self { stem, id: id.to_string() }
    }

    /// The container's id. If the record is damaged and the id is very long, its shortened form.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

pub(super) fn not_found(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, "find", format!("container \"{id}\" does not exist"))
}

fn default_path(
    euid: u32,
    in_initial_namespace: impl FnOnce() -> bool,
    xdg_runtime_dir: Option<PathBuf>,
) -> PathBuf {
    // "If an implementation encounters a relative path [...] it should consider the path invalid and ignore it."
    // - XDG Base Directory Specification
    match xdg_runtime_dir.filter(|path| path.is_absolute()) {
        None if euid == 0 => "/run/cofferdam".into(),
        Some(_) if euid == 0 && in_initial_namespace() => "/run/cofferdam".into(),
        Some(runtime_dir) => runtime_dir.join("cofferdam"),
        None => format!("/tmp/cofferdam-{euid}").into(),
    }
}

/// Refuses a directory that another user owns or can write to.
/// A digest (FNV-1a) of what the kernel knows the directory by.
fn tag_of(stat: &Stat) -> u32 {
    let bytes = stat.st_dev.to_ne_bytes().into_iter().chain(stat.st_ino.to_ne_bytes());
    bytes.fold(0x811c_9dc5, |tag, byte| (tag ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn check_private(dir: BorrowedFd<'_>, path: &Path) -> Result<Stat> {
    let stat = rustix::fs::fstat(dir).os(|| format!("fstat({path:?})"))?;
    let euid = rustix::process::geteuid().as_raw();
    if stat.st_uid != euid {
        return Err(refused(path, &format!("belongs to uid {}, not to {euid}", stat.st_uid)));
    }
    if Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
        return Err(refused(
            path,
            &format!("is writable by others, its mode is {:04o}", stat.st_mode & 0o7777),
        )
        .hint("chmod it to 0700, after checking what is in it"));
    }
    Ok(stat)
}

/// Refuses a directory that every user may rename, and put another in its place: the next process to open this path would
/// see other records. Looks at the directories really above, whatever links `path` has.
///
/// `way` leads from `dir` to the first of them.
fn check_above(dir: BorrowedFd<'_>, path: &Path, way: &str) -> Result<()> {
    let mut way = way.to_owned();
    let mut below = None;
    loop {
        let stat = match rustix::fs::statat(dir, &way, AtFlags::empty()) {
            Ok(stat) => stat,
            // This caller cannot go further up. Neither can it come down this way.
            Err(Errno::ACCESS) => return Ok(()),
            Err(errno) => return Err(errno).os(|| format!("fstatat({path:?}, {way:?})")),
        };
        // The root directory is its own parent.
        if below.replace((stat.st_dev, stat.st_ino)) == Some((stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        let mode = Mode::from_raw_mode(stat.st_mode);
        if mode.contains(Mode::WOTH) && !mode.contains(Mode::SVTX) {
            let above = path.ancestors().nth(way.matches("../").count()).unwrap_or(Path::new("/"));
            let mode = stat.st_mode & 0o7777;
            let problem = format!("can be replaced by every user: the mode of {above:?} is {mode:04o}");
            return Err(refused(path, &problem).hint("chmod that to 1777 or 0755"));
        }
        way.push_str("../");
    }
}

/// As [`check_above`], for a directory that is still to be made below the first that exists.
fn check_place(path: &Path) -> Result<()> {
    const WAY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
    let mut above = path.ancestors().skip(1);
    match above.find_map(|above| Some((above, rustix::fs::open(above, WAY, Mode::empty()).ok()?))) {
        Some((above, dir)) => check_above(dir.as_fd(), above, "./"),
        None => Ok(()),
    }
}

fn refused(path: &Path, problem: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "state directory", format!("{path:?} {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skip::note_skip;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn the_directory_is_made_private_with_all_that_is_missing_above_it() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b/state/");
        let root = StateRoot::open(&path).unwrap();
        assert_eq!(root.path(), parent.path().join("a/b/state"));
        for made in ["a", "a/b", "a/b/state"] {
            assert_eq!(fs::metadata(parent.path().join(made)).unwrap().permissions().mode() & 0o7777, 0o700);
        }
        StateRoot::open(&path).unwrap();
    }

    #[test]
    fn a_directory_others_could_have_prepared_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        let problem = |path: &Path| {
            let error = StateRoot::open(path).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::InvalidInput);
            error.to_string()
        };

        StateRoot::open(at("real")).unwrap();
        symlink(at("real"), at("link")).unwrap();
        assert!(problem(&at("link")).ends_with("is not a directory"));
        assert!(problem(&at("link/")).ends_with("is not a directory"));

        symlink(at("nowhere"), at("dangling")).unwrap();
        assert!(problem(&at("dangling")).ends_with("is not a directory"));
        assert!(!at("nowhere").exists());

        File::create(at("file")).unwrap();
        assert!(problem(&at("file")).ends_with("is not a directory"));

        for mode in [0o720, 0o702, 0o1777] {
            fs::set_permissions(at("real"), fs::Permissions::from_mode(mode)).unwrap();
            assert!(problem(&at("real")).contains("is writable by others"));
        }
        fs::set_permissions(at("real"), fs::Permissions::from_mode(0o755)).unwrap();
        StateRoot::open(at("real")).unwrap();
    }

    #[test]
    fn a_directory_that_every_user_may_replace_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let state = parent.path().join("open/inner/state");
        StateRoot::open(&state).unwrap();
        let open =
            |mode| fs::set_permissions(parent.path().join("open"), fs::Permissions::from_mode(mode)).unwrap();
        open(0o777);
        symlink("open/inner", parent.path().join("way")).unwrap();
        for path in [state.clone(), parent.path().join("way/state")] {
            let error = StateRoot::open(path).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::InvalidInput);
            assert!(error.to_string().contains("can be replaced by every user"), "{error}");
        }
        let missing = parent.path().join("open/a/b");
        let error = StateRoot::open(&missing).unwrap_err();
        assert!(error.to_string().contains("can be replaced by every user"), "{error}");
        assert!(!parent.path().join("open/a").exists(), "it leaves nothing");
        for mode in [0o1777, 0o775] {
            open(mode);
            StateRoot::open(&state).unwrap();
        }
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let root = StateRoot::open(parent.path().join("state")).unwrap();
        if let Err(error) = std::os::unix::fs::chown(root.path(), Some(12345), None) {
            return note_skip(&format!("only root can give a directory away: {error}"));
        }
        let error = StateRoot::open(root.path()).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::InvalidInput);
        assert!(error.to_string().contains("belongs to uid 12345"), "{error}");
    }

    #[test]
    fn a_symlink_above_the_directory_is_followed() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        StateRoot::open(at("run")).unwrap();
        symlink("run", at("var_run")).unwrap();
        StateRoot::open(at("var_run/state")).unwrap();
        assert!(at("run/state").is_dir());
    }

    #[test]
    fn every_user_has_a_default_directory() {
        let path =
            |euid, runtime_dir: Option<&str>| default_path(euid, || true, runtime_dir.map(PathBuf::from));
        assert_eq!(path(0, Some("/run/user/0")), Path::new("/run/cofferdam"));
        assert_eq!(path(7, Some("/run/user/7")), Path::new("/run/user/7/cofferdam"));
        assert_eq!(path(7, Some("relative")), Path::new("/tmp/cofferdam-7"));
        assert_eq!(path(7, Some("")), Path::new("/tmp/cofferdam-7"));
        assert_eq!(path(7, None), Path::new("/tmp/cofferdam-7"));
    }

    #[test]
    fn root_of_a_user_namespace_has_its_users_default_directory() {
        assert_eq!(default_path(0, || false, Some("/run/user/7".into())), Path::new("/run/user/7/cofferdam"));
        assert_eq!(default_path(0, || false, None), Path::new("/run/cofferdam"));
    }
}

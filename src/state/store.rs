//! The state directory: opening it, finding containers in it, reading their records.
//!
//! Reading takes no lock: a record is replaced by rename, so a reader sees the one before or the one after. What
//! changes a container goes through [`StateLock`], what makes one through [`Claim`].

use super::claim::Claim;
use super::directory::{DIRECTORY, REGULAR, make_path};
use super::lock::{Acquired, StateLock};
use super::name::{Role, StateName};
use super::record::{MAX_RECORD_BYTES, Record};
use super::run_dir::RunDir;
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::id::ContainerId;
use rustix::fs::{AtFlags, Dir, FileType, Mode};
use rustix::io::Errno;
use std::collections::BTreeMap;
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
}

impl StateRoot {
    /// Opens the caller's own state directory, made if missing: `/run/cofferdam` for root, else
    /// `$XDG_RUNTIME_DIR/cofferdam`, else `/tmp/cofferdam-UID`.
    ///
    /// Root of a user namespace, which is who an engine without privileges runs its runtime as, is root only where no
    /// `XDG_RUNTIME_DIR` is given: the host's `/run` is not its own.
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

    /// Opens the state directory `path`; it and what is missing on the way to it is made with mode 0700.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if it is a symbolic link, not a directory, somebody else's, or writable by others:
    /// records name processes that will be signalled. [`ErrorKind::Os`] if it cannot be opened or made.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let given = path.as_ref();
        // Rebuilt from its components, because O_NOFOLLOW means nothing to a path that ends in a slash.
        let path: PathBuf =
            std::path::absolute(given).os(|| format!("open({given:?})"))?.components().collect();
        let dir = match rustix::fs::open(&path, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => make_path(&path)?,
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(refused(&path, "is not a directory")),
            opened => opened.os(|| format!("open({path:?}, O_DIRECTORY|O_NOFOLLOW)"))?,
        };
        check_private(dir.as_fd(), &path)?;
        Ok(Self { dir: Arc::new(dir), path: path.into(), durable: false })
    }

    /// Whether every save also reaches the disk (two fsync(2), milliseconds) before it returns. Off by default.
    ///
    /// All that a record names (processes, cgroups, sockets) is gone after a reboot, and the boot id in the record
    /// tells; rename alone already keeps a record whole when any process crashes. Worth it for a directory that
    /// outlives a boot, whose exit records shall do so too.
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

    /// Takes the id `container`, to run in `sandbox`, for a container about to be created.
    ///
    /// Nothing that exists is touched, but the remains of a creation that crashed before its first save are taken
    /// over.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if a container has the id, in whichever sandbox, or somebody is creating or
    /// deleting one.
    pub fn claim(&self, container: &ContainerId, sandbox: &ContainerId) -> Result<Claim> {
        Claim::take(self, container, sandbox)
    }

    /// Removes what is left of creations of `container` that crashed before its first save. What somebody is just
    /// creating or deleting is not touched.
    ///
    /// # Errors
    /// [`ErrorKind::Incomplete`] if something cannot be removed, [`ErrorKind::Os`] if the directory cannot be read.
    pub fn remove_remains(&self, container: &ContainerId) -> Result<()> {
        for (stem, role) in self.stems()? {
            if role != Role::Lock || !stem.is_of(container) {
                continue;
            }
            if let Acquired::Held(lock) =
                StateLock::acquire(self, &stem, rustix::fs::FlockOperation::NonBlockingLockExclusive)?
                && !self.has(&stem, Role::State)?
            {
                lock.remove()?;
            }
        }
        Ok(())
    }

    /// Finds a container by its id, or by the beginning of its id if no other container's begins so.
    ///
    /// A damaged record does not hide a container whose id is asked for exactly.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidId`] if `name` cannot begin an id, [`ErrorKind::NotFound`], or
    /// [`ErrorKind::InvalidInput`] for an ambiguous beginning, with the candidates.
    pub fn find(&self, name: &str) -> Result<Found> {
        let wanted = ContainerId::new(name)?;
        // A container that is its own sandbox is found without reading the directory.
        let own = StateName::new(&wanted, &wanted);
        if own.whole_container().is_some() && self.has(&own, Role::State)? {
            return Ok(Found { stem: own, id: wanted.into() });
        }
        let mut candidates = BTreeMap::new();
        for stem in self.stems()?.into_iter().filter(|(_, role)| *role == Role::State).map(|(stem, _)| stem) {
            if !stem.may_start_with(name) {
                continue;
            }
            let Some(id) = self.id_behind(&stem, &wanted) else {
                continue;
            };
            if id == wanted {
                return Ok(Found { stem, id: id.into() });
            }
            if id.as_str().starts_with(name) {
                candidates.insert(id, stem);
            }
        }
        if candidates.len() > 1 {
            return Err(ambiguous(name, candidates.keys()));
        }
        let only = candidates.pop_first().ok_or_else(|| not_found(name))?;
        Ok(Found { id: only.0.into(), stem: only.1 })
    }

    /// Waits for the container's lock. There is no time limit: its holders bound their own work.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the container was deleted in the meantime.
    pub fn lock(&self, found: &Found) -> Result<StateLock> {
        match StateLock::acquire(self, &found.stem, rustix::fs::FlockOperation::LockExclusive)? {
            Acquired::Held(lock) => Ok(lock),
            Acquired::Busy | Acquired::Missing => Err(not_found(&found.id)),
        }
    }

    /// Takes the container's lock if it is free; `None` if somebody holds it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the container was deleted in the meantime.
    pub fn try_lock(&self, found: &Found) -> Result<Option<StateLock>> {
        match StateLock::acquire(self, &found.stem, rustix::fs::FlockOperation::NonBlockingLockExclusive)? {
            Acquired::Held(lock) => Ok(Some(lock)),
            Acquired::Busy => Ok(None),
            Acquired::Missing => Err(not_found(&found.id)),
        }
    }

    /// The container's record as it is now, without its lock.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the container was deleted, [`ErrorKind::Stale`] if the record is damaged or another
    /// version's.
    pub fn read(&self, found: &Found) -> Result<Record> {
        self.read_record(&found.stem)?.ok_or_else(|| not_found(&found.id))
    }

    /// The container's run directory, without its lock.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the container was deleted.
    pub fn run_dir(&self, found: &Found) -> Result<RunDir> {
        RunDir::open(self.fd(), &self.path, &found.stem.file(Role::RunDir))?
            .ok_or_else(|| not_found(&found.id))
    }

    /// The run directory of the container `id` that has a sandbox of its own.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such container.
    pub(crate) fn run_dir_of_sandbox(&self, id: &ContainerId) -> Result<RunDir> {
        let name = StateName::new(id, id).file(Role::RunDir);
        RunDir::open(self.fd(), &self.path, &name)?.ok_or_else(|| not_found(id.as_str()))
    }

    /// All containers, sorted by id. One that cannot be read is listed as such and keeps none of the others away.
    ///
    /// # Errors
    /// [`ErrorKind::Os`] if the directory itself cannot be read.
    pub fn list(&self) -> Result<Vec<Result<Record, Damaged>>> {
        let mut listed = BTreeMap::new();
        for (stem, role) in self.stems()? {
            if role != Role::State {
                continue;
            }
            let entry = match self.read_record(&stem) {
                Ok(Some(record)) => Ok(record),
                Ok(None) => continue, // deleted since the directory was read
                Err(error) => Err(Damaged {
                    found: Found { id: stem.container().to_owned(), stem: stem.clone() },
                    error,
                }),
            };
            let id = entry
                .as_ref()
                .map_or_else(|damaged| damaged.found.id.clone(), |record| record.id.to_string());
            listed.insert((id, stem.to_string()), entry);
        }
        Ok(listed.into_values().collect())
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    pub(super) fn is_durable(&self) -> bool {
        self.durable
    }

    /// What this crate made in the directory, in no order.
    pub(super) fn stems(&self) -> Result<Vec<(StateName, Role)>> {
        let step = || format!("getdents64({:?})", self.path);
        let entries = Dir::read_from(self.fd()).os(step)?;
        let mut stems = Vec::new();
        for entry in entries {
            let entry = entry.os(step)?;
            stems.extend(entry.file_name().to_str().ok().and_then(StateName::parse));
        }
        Ok(stems)
    }

    pub(super) fn has(&self, stem: &StateName, role: Role) -> Result<bool> {
        let file = stem.file(role);
        match rustix::fs::statat(self.fd(), &file, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno).os(|| format!("fstatat({:?})", self.path.join(file))),
        }
    }

    /// Reads a record; `None` if there is none.
    pub(super) fn read_record(&self, stem: &StateName) -> Result<Option<Record>> {
        let path = self.path.join(stem.file(Role::State));
        let stale = |problem: &str| Error::new(ErrorKind::Stale, format!("read({path:?})"), problem);
        let file = match rustix::fs::openat(self.fd(), stem.file(Role::State), REGULAR, Mode::empty()) {
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
        // One byte more, so that the end is seen without growing the buffer.
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

    /// The whole id of the container behind a file name. A shortened one is looked up in the record; where that is
    /// damaged, the name must do: it is `wanted` or unknown.
    fn id_behind(&self, stem: &StateName, wanted: &ContainerId) -> Option<ContainerId> {
        stem.whole_container().or_else(|| match self.read_record(stem) {
            Ok(record) => record.map(|record| record.id),
            Err(_) => stem.is_of(wanted).then(|| wanted.clone()),
        })
    }
}

/// A container that was there when it was looked for.
#[derive(Clone, Debug)]
pub struct Found {
    pub(super) stem: StateName,
    id: String,
}

impl Found {
    pub(super) fn new(stem: StateName, id: &ContainerId) -> Self {
        Self { stem, id: id.to_string() }
    }

    /// The container's id; of a damaged record the best guess, which for a very long id is its shortened form.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// A container whose record cannot be read.
#[derive(Debug)]
#[non_exhaustive]
pub struct Damaged {
    /// The container, good for [`StateRoot::lock`] and so for removal.
    pub found: Found,
    /// What is wrong with the record.
    pub error: Error,
}

pub(super) fn not_found(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, "find", format!("container \"{id}\" does not exist"))
}

fn ambiguous<'a>(name: &str, candidates: impl ExactSizeIterator<Item = &'a ContainerId>) -> Error {
    /// Enough to find the mistake by, few enough for a line.
    const MAX_NAMED: usize = 10;
    let count = candidates.len();
    let mut names = candidates.take(MAX_NAMED).map(ContainerId::as_str).collect::<Vec<_>>().join(", ");
    if count > MAX_NAMED {
        names.push_str(&format!(" and {} more", count - MAX_NAMED));
    }
    let problem = format!("\"{name}\" is the beginning of {count} container ids: {names}");
    Error::new(ErrorKind::InvalidInput, "find", problem).hint("give more of the id")
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

/// Only what nobody else can write to is believed.
fn check_private(dir: BorrowedFd<'_>, path: &Path) -> Result<()> {
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
    Ok(())
}

fn refused(path: &Path, problem: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "state directory", format!("{path:?} {problem}"))
}

#[cfg(test)]
mod tests;

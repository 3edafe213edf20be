//! The cgroups below the container's own that an executed process joins: its [leaf](super::leaf), or existing ones that
//! the caller names.

use super::dir::{CgroupDir, CgroupVersion, v1, v2};
use super::update::{LimitDirs, has_files_of};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::cgroup::CONTAINER;
use crate::process::donation::Received;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

/// Name of the v2 directory to start the process in.
pub(super) const DIR: &str = "exec-dir";
/// Name of the files that a process joins v1's by, followed by a number.
pub(super) const JOIN_V1: &str = "exec-join-v1";
/// Name of the file that a process joins v2's by.
pub(super) const JOIN_V2: &str = "exec-join-v2";

/// Existing cgroups below the container's own, as the caller opened them for one process.
#[derive(Debug, Default)]
pub(crate) struct SubCgroups(Vec<(String, OwnedFd)>);

impl SubCgroups {
    /// Opens those that are `wanted` below the recorded `cgroups` of a container: for each a path, and the v1 controller
    /// whose hierarchy it is in, or `None` for all hierarchies.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a path that leads out of the container's cgroup, a controller that the container
    /// has no v1 cgroup of, and a frozen cgroup; [`ErrorKind::NotFound`] if there is no such cgroup; the errno of
    /// openat2(2).
    pub(crate) fn open(cgroups: &[PathBuf], wanted: &[(Option<String>, PathBuf)]) -> Result<Self> {
        if wanted.is_empty() {
            return Ok(Self::default());
        }
        let dirs = LimitDirs::open(cgroups)?;
        let mut files = Vec::new();
        let own = dirs.exact().map(own_processes).collect::<Result<Vec<_>>>()?;
        for (controller, path) in wanted {
            let names = names_of(path)?;
            let mut found = false;
            for dir in dirs.exact().zip(&own).map(|(exact, own)| own.as_ref().unwrap_or(exact)) {
                let concerned = match controller {
                    None => true,
                    Some(name) => dir.version() == CgroupVersion::V1 && has_files_of(dir, name)?,
                };
                if !concerned {
                    continue;
                }
                found = true;
                if let Some((name, file)) = join_file(dir, &names, files.len())? {
                    // There is one hierarchy of v2, in which the last path counts, as it does in each of v1.
                    files.retain(|(known, _)| *known != name);
                    files.push((name, file));
                }
            }
            let problem = match controller {
                _ if found => continue,
                Some(name) => format!("unknown controller {name}: the container has no cgroup of v1 with it"),
                None => "the container has no cgroup".into(),
            };
            return Err(Error::new(ErrorKind::InvalidInput, STEP, problem));
        }
        Ok(Self(files))
    }

    /// The descriptors that the sandbox needs, by name.
    pub(crate) fn fds(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.0.iter().map(|(name, fd)| (name.as_str(), fd.as_fd()))
    }
}

const STEP: &str = "Exec::cgroup";

/// The directory below `dir` that has the container's processes; `None` if they are in `dir` itself. In v1's freezer it has
/// no limits, so it is not [the one of the limits](LimitDirs::exact).
fn own_processes(dir: &CgroupDir) -> Result<Option<CgroupDir>> {
    if dir.version() == CgroupVersion::V2 || !dir.has(v1::FREEZER)? {
        return Ok(None);
    }
    match dir.child(OsStr::new(CONTAINER)) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        own => own.map(Some),
    }
}

/// The names on the way from the container's own cgroup.
fn names_of(path: &Path) -> Result<Vec<&OsStr>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                let problem = format!("{} is not a sub cgroup path", path.display());
                return Err(Error::new(ErrorKind::InvalidInput, STEP, problem));
            }
        }
    }
    Ok(names)
}

/// The file by which a process joins the cgroup at `names` below `own`; `None` for `own` itself, which it joins anyway.
fn join_file(own: &CgroupDir, names: &[&OsStr], number: usize) -> Result<Option<(String, OwnedFd)>> {
    let mut below: Option<CgroupDir> = None;
    for name in names {
        let parent = below.as_ref().unwrap_or(own);
        let child = parent.child(name).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT) => {
                let path = parent.path().join(name).join(v2::JOIN);
                Error::new(
                    ErrorKind::NotFound,
                    STEP,
                    format!("{}: no such file or directory", path.display()),
                )
            }
            _ => error,
        })?;
        below = Some(child);
    }
    let Some(dir) = below else { return Ok(None) };
    // A process that joins it would not run.
    if dir.is_frozen()? {
        let problem = format!("{} is frozen", dir.path().display());
        return Err(Error::new(ErrorKind::InvalidInput, STEP, problem));
    }
    // No directory to start in: the container may freeze it meanwhile, and the sandbox would wait for that fork.
    Ok(Some(match dir.version() {
        CgroupVersion::V1 => (format!("{JOIN_V1}-{number}"), dir.open_write(v1::JOIN)?),
        CgroupVersion::V2 => (JOIN_V2.to_owned(), dir.open_write(v2::JOIN)?),
    }))
}

/// The files by which an executed process joins cgroups below the container's own, as the sandbox has them. Empty if it
/// stays in the container's own.
#[derive(Debug, Default)]
pub(crate) struct ExecJoin {
    directory: Option<OwnedFd>,
    v1: Vec<OwnedFd>,
    v2: Option<OwnedFd>,
}

impl ExecJoin {
    /// Takes the descriptors.
    pub(crate) fn take(fds: &mut Received) -> Self {
        Self { directory: fds.take_optional(DIR), v1: fds.take_all(JOIN_V1), v2: fds.take_optional(JOIN_V2) }
    }

    /// The directory for clone3(2) with `CLONE_INTO_CGROUP`.
    pub(crate) fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.directory.as_ref().map(AsFd::as_fd)
    }

    /// The files of v1.
    pub(crate) fn v1(&self) -> &[OwnedFd] {
        &self.v1
    }

    /// The file of v2.
    pub(crate) fn v2(&self) -> Option<&OwnedFd> {
        self.v2.as_ref()
    }
}

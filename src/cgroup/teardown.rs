//! Removal of recorded cgroups. It needs only the paths, so it also works after the process that made them has died.
//!
//! What lives here: removing nested cgroups depth first, then the recorded one; [`super::kill`] ends the processes inside.
//! Every wait has a time limit and uses the kernel's own events, never sleep. What may not: removing a directory that is
//! not on a cgroup filesystem, or that is a mount point.

use super::dir::{CgroupDir, CgroupVersion, Removal};
use super::kill::{End, check, empty, gone_is_none};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::cgroup::CONTAINER;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

/// How long [`destroy`] waits in all for killed processes to leave. They are gone in milliseconds unless one of them is
/// in an uninterruptible system call.
pub(crate) const TEARDOWN_LIMIT: Duration = Duration::from_secs(5);

/// Removes the cgroups at these absolute paths with everything in them, within [`TEARDOWN_LIMIT`]. See
/// [`destroy_within`].
pub(crate) fn destroy(paths: &[PathBuf]) -> Result<()> {
    destroy_within(paths, TEARDOWN_LIMIT)
}

/// Removes the cgroups at these absolute paths: kills the processes inside, removes nested cgroups, then each itself.
/// Skips what is gone, so that it can be called again after a crash. An error at one path does not keep it from the
/// others.
///
/// # Errors
/// [`ErrorKind::Incomplete`] with one line for all paths that are still there, among them those that are not below a
/// cgroup mount, which are never touched.
pub(crate) fn destroy_within(paths: &[PathBuf], limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    report(paths.iter().filter_map(|path| {
        let removed = match open_parent(path) {
            Ok(Some((parent, name))) => remove(&parent, name, deadline, End::Killed),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        removed.err()
    }))
}

/// Thaws these cgroups, where they are of v1: only there, a frozen task does not act on SIGKILL, and a wait for its end
/// would never return. Skips cgroups that are gone.
pub(crate) fn thaw(paths: &[PathBuf]) {
    for path in paths {
        let Ok(dir) = CgroupDir::open(path) else { continue };
        let inner = dir.child(OsStr::new(CONTAINER));
        for dir in [Ok(dir), inner].into_iter().flatten().filter(|dir| dir.version() == CgroupVersion::V1) {
            // The file exists in the freezer's hierarchy only.
            let _ = dir.write("freezer.state", "THAWED");
        }
    }
}

/// Removes those of these directories that are empty, and leaves those in use alone: for the directories that led to a
/// leaf, which other containers may share. The deepest must come first.
///
/// # Errors
/// As [`destroy_within`], but a directory in use is not an error.
pub(crate) fn prune(paths: &[PathBuf]) -> Result<()> {
    report(paths.iter().filter_map(|path| {
        let (parent, name) = match open_parent(path) {
            Ok(opened) => opened?,
            Err(error) => return Some(error),
        };
        match parent.remove(name) {
            Removal::Gone | Removal::Busy => None,
            Removal::Failed(error) => Some(error),
        }
    }))
}

/// Removes the cgroups at these paths once they are empty, and waits for that as long as a killed container's processes
/// may need. For paths where a container may have been: processes that do not end there belong to another container,
/// and stay.
pub(crate) fn remove_when_empty(paths: &[PathBuf]) {
    let deadline = Instant::now() + EMPTY_LIMIT;
    for path in paths {
        if let Ok(Some((parent, name))) = open_parent(path) {
            let _ = remove(&parent, name, deadline, End::ByItself);
        }
    }
}

/// How long [`remove_when_empty`] waits in all.
const EMPTY_LIMIT: Duration = Duration::from_secs(2);

fn report(failures: impl Iterator<Item = Error>) -> Result<()> {
    let failures: Vec<String> = failures.map(|error| error.to_string()).collect();
    match failures.is_empty() {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Incomplete, "remove cgroups", failures.join("; "))),
    }
}

/// Removes the cgroup `name` in `parent` and those below it. Another process may be doing the same.
pub(super) fn remove(parent: &CgroupDir, name: &OsStr, deadline: Instant, end: End) -> Result<()> {
    // Usually every process has ended, and these calls are enough. They need no descriptor, so a process without one to
    // spare can make them. The second removes the cgroup of the container's own processes, if there is one below.
    if settled(parent.remove(name))? {
        return Ok(());
    }
    if let Removal::Gone = parent.remove(Path::new(name).join(CONTAINER).as_os_str())
        && settled(parent.remove(name))?
    {
        return Ok(());
    }
    let Some(dir) = gone_is_none(parent.child(name))? else {
        return Ok(());
    };
    empty(&dir, deadline, end)?;
    remove_nested(dir, deadline, end)?;
    remove_leaf(parent, name, deadline, end)
}

/// The parent of `path`. It must be a cgroup itself, so a mount root is never removed. `None` if it is gone.
pub(super) fn open_parent(path: &Path) -> Result<Option<(CgroupDir, &OsStr)>> {
    let plain = path.is_absolute() && !path.components().any(|component| component == Component::ParentDir);
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if plain => {
            Ok(gone_is_none(CgroupDir::open(parent))?.map(|dir| (dir, name)))
        }
        _ => Err(Error::new(
            ErrorKind::InvalidInput,
            "remove cgroup",
            format!("{path:?} is not an absolute path"),
        )),
    }
}

/// Removes every cgroup below `top`. It holds one directory at a time and walks back by `..`, so that a hostile depth
/// costs no descriptors.
fn remove_nested(top: CgroupDir, deadline: Instant, end: End) -> Result<()> {
    let mut names: Vec<OsString> = Vec::new();
    let mut dir = top;
    loop {
        // If the directory is gone, go back up, as if it had been empty.
        match gone_is_none(dir.remove_empty_children(deadline))?.flatten() {
            Some(name) => {
                // The processes in it may have removed it since it was listed.
                if let Some(child) = gone_is_none(dir.child(&name))? {
                    names.push(name);
                    dir = child;
                }
            }
            None => {
                let Some(name) = names.pop() else { return Ok(()) };
                let Some(parent) = gone_is_none(dir.parent())? else { return Ok(()) };
                dir = parent;
                remove_leaf(&dir, &name, deadline, end)?;
            }
        }
        check(deadline, dir.path())?;
    }
}

/// Removes a cgroup without children, ending its processes as often as it takes.
fn remove_leaf(parent: &CgroupDir, name: &OsStr, deadline: Instant, end: End) -> Result<()> {
    while !settled(parent.remove(name))? {
        check(deadline, &parent.path().join(name))?;
        let Some(dir) = gone_is_none(parent.child(name))? else {
            return Ok(());
        };
        empty(&dir, deadline, end)?;
        if gone_is_none(dir.remove_empty_children(deadline))?.flatten().is_some() {
            remove_nested(dir, deadline, end)?;
        }
        // What remains is the kernel's last step of a dying task, which raises no event and ends within a time slice.
        rustix::thread::sched_yield();
    }
    Ok(())
}

fn settled(removal: Removal) -> Result<bool> {
    match removal {
        Removal::Gone => Ok(true),
        Removal::Busy => Ok(false),
        Removal::Failed(error) => Err(error),
    }
}

//! Removes recorded cgroups. It needs only their paths, so it also works after the process that made them has died.
//!
//! What lives here: removing nested cgroups depth first, then the recorded one; [`super::kill`] ends the processes inside.
//! Every wait has a time limit and uses the kernel's own events, never sleep. What may not: removing a directory that is
//! not on a cgroup filesystem, or that is a mount point.

use super::dir::{CgroupDir, CgroupVersion, Removal, v1};
use super::kill::{End, check, empty, gone_is_none, killed_in, listed};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::cgroup::{CONTAINER, SANDBOX};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

/// How long [`destroy`] waits at most, for all paths together. Killed processes are gone in milliseconds, unless one of
/// them is in an uninterruptible system call.
pub(crate) const TEARDOWN_LIMIT: Duration = Duration::from_secs(5);

/// Removes the cgroups at these absolute paths with everything in them, within [`TEARDOWN_LIMIT`]. See
/// [`destroy_within`].
pub(crate) fn destroy(paths: &[PathBuf]) -> Result<()> {
    destroy_within(paths, TEARDOWN_LIMIT)
}

/// Removes the cgroups at these absolute paths: kills the processes inside, removes nested cgroups, then each itself.
/// Skips cgroups that are gone, so that a caller can repeat it after a crash. If one path fails, it goes on with the next.
///
/// # Errors
/// [`ErrorKind::Incomplete`] with one line that names every path that failed. A path outside of the cgroup file systems
/// always fails, and nothing there is touched.
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

/// Thaws those of these cgroups that are of v1, and their [`CONTAINER`] children. Call it when processes inside are
/// killed: on v1, unlike v2, a frozen process does not act on SIGKILL, and a wait for its end would never return. Skips
/// cgroups that are gone.
pub(crate) fn thaw(paths: &[PathBuf]) {
    for path in paths {
        let Ok(dir) = CgroupDir::open(path) else { continue };
        let inner = dir.child(OsStr::new(CONTAINER));
        for dir in [Ok(dir), inner].into_iter().flatten().filter(|dir| dir.version() == CgroupVersion::V1) {
            // Ignore errors: only the freezer's hierarchy has this file.
            let _ = dir.write(v1::FREEZER, "THAWED");
        }
    }
}

/// As [`thaw`], and every cgroup below them, until `deadline`: a workload that may write to its cgroups can freeze
/// processes in one that it made.
pub(crate) fn thaw_nested(paths: &[PathBuf], deadline: Instant) {
    for path in paths {
        if let Ok(dir) = CgroupDir::open(path)
            && dir.version() == CgroupVersion::V1
            && dir.has(v1::FREEZER).unwrap_or(false)
        {
            // What is gone meanwhile has nothing to thaw.
            let _ = thaw_tree(dir, deadline);
        }
    }
}

/// Keeps only one directory open, as [`remove_nested`].
fn thaw_tree(top: CgroupDir, deadline: Instant) -> Result<()> {
    let thaw = |dir: &CgroupDir| {
        let _ = dir.write(v1::FREEZER, "THAWED");
        dir.children().unwrap_or_default()
    };
    // The children still to visit on each level.
    let mut levels = vec![thaw(&top)];
    let mut dir = top;
    while let Some(names) = levels.last_mut() {
        match names.pop() {
            Some(name) => {
                if let Some(child) = gone_is_none(dir.child(&name))? {
                    levels.push(thaw(&child));
                    dir = child;
                }
            }
            None => {
                levels.pop();
                if !levels.is_empty() {
                    dir = dir.parent()?;
                }
            }
        }
        check(deadline, dir.path())?;
    }
    Ok(())
}

/// Removes the empty ones of these directories and leaves the others, without killing anything. The directories are those
/// above a container's cgroup, and other containers may use them. The deepest must come first, because a directory is in
/// use while it has children.
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

/// Removes the cgroups at these paths without killing anything: waits up to [`EMPTY_LIMIT`] for their processes to end.
/// The caller has killed its container, but only guesses these paths. So what still runs there after the wait may belong
/// to another container, and stays.
///
/// Thaws a cgroup of v1 if everything in it was killed: until then it does not end, and it will never do anything else.
///
/// # Errors
/// [`ErrorKind::Incomplete`] with the processes that were killed and are still there.
pub(crate) fn remove_when_empty(paths: &[PathBuf]) -> Result<()> {
    let deadline = Instant::now() + EMPTY_LIMIT;
    // All of them first: a process is in cgroups of several hierarchies, and frozen in one.
    for dir in paths.iter().filter_map(|path| CgroupDir::open(path).ok()) {
        let _ = thaw_killed(&dir);
    }
    report(paths.iter().filter_map(|path| {
        let Ok(Some((parent, name))) = open_parent(path) else { return None };
        remove(&parent, name, deadline, End::ByItself).err()?;
        let left = parent.child(name).and_then(|dir| killed_in(&dir)).unwrap_or_default();
        let problem = format!("{path:?} has killed processes that do not end: {left:?}");
        (!left.is_empty()).then(|| Error::new(ErrorKind::Incomplete, "remove cgroup", problem))
    }))
}

fn thaw_killed(dir: &CgroupDir) -> Result<()> {
    let frozen = dir.version() == CgroupVersion::V1 && dir.is_frozen()?;
    if frozen && killed_in(dir)?.len() == listed(dir)?.len() {
        dir.write(v1::FREEZER, "THAWED")?;
    }
    Ok(())
}

/// How long [`remove_when_empty`] waits, for all paths together.
const EMPTY_LIMIT: Duration = Duration::from_secs(2);

fn report(failures: impl Iterator<Item = Error>) -> Result<()> {
    let failures: Vec<String> = failures.map(|error| error.to_string()).collect();
    match failures.is_empty() {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Incomplete, "remove cgroups", failures.join("; "))),
    }
}

/// Removes the cgroup `name` in `parent` and those below it, after their processes have ended as `end` says. Another
/// process may be removing them at the same time, so a cgroup that is gone counts as removed.
pub(super) fn remove(parent: &CgroupDir, name: &OsStr, deadline: Instant, end: End) -> Result<()> {
    // Try rmdir first: usually every process has ended. It needs no descriptor, so it also works for a process that has
    // reached its limit. If that fails, remove the cgroups that this crate makes below, then try again.
    if settled(parent.remove(name))? {
        return Ok(());
    }
    let below = |inner: &str| parent.remove(Path::new(name).join(inner).as_os_str());
    if let (Removal::Gone, Removal::Gone) = (below(CONTAINER), below(SANDBOX))
        && settled(parent.remove(name))?
    {
        return Ok(());
    }
    let Some(dir) = gone_is_none(parent.child(name))? else {
        return Ok(());
    };
    // Empty the top first: on v2 that also empties everything below it.
    empty(&dir, deadline, end)?;
    remove_nested(dir, deadline, end)?;
    remove_leaf(parent, name, deadline, end)
}

/// Opens the parent of `path`, and fails unless it is a cgroup. This keeps callers from removing the root of a cgroup
/// mount, whose parent is on another file system. `None` if the parent is gone.
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

/// Removes every cgroup below `top`, the deepest first. Keeps only one directory open and goes back up by `..`, so that a
/// workload that nests cgroups deeply cannot use up our descriptors.
fn remove_nested(top: CgroupDir, deadline: Instant, end: End) -> Result<()> {
    let mut names: Vec<OsString> = Vec::new();
    let mut dir = top;
    loop {
        // One pass removes the empty children and returns a busy one to go down into. Without one, or if `dir` itself is
        // gone, go back up.
        match gone_is_none(dir.remove_empty_children(deadline))?.flatten() {
            Some(name) => {
                // The workload may have removed the child since the pass listed it. Then make another pass.
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

/// Removes a cgroup whose children are gone. Processes may still fork or make new children in it, so this repeats both
/// steps, emptying it and removing its children, until rmdir succeeds or `deadline` passes.
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
        // rmdir can still fail while the kernel finishes a task that is no longer listed. No event tells when that is
        // done, but it takes less than a time slice: yield and try again.
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

//! Removes cgroups through directory descriptors it holds, after dropping every other privilege.
//!
//! What lives here: the held directories, and their removal once the processes inside have ended. What may not: ending a
//! process.

use super::dir::{CgroupDir, Removal, is_absent};
use super::kill::{End, gone_is_none};
use super::teardown::{TEARDOWN_LIMIT, open_parent, remove};
use crate::error::{OsContext, Result};
use crate::plan::cgroup::{CONTAINER, exec_leaf_name};
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The cgroups of one container, held where they can be removed from.
#[derive(Debug)]
pub(crate) struct Remover {
    leaves: Vec<(RemovalTarget, CgroupDir)>,
    /// The deepest first.
    ancestors: Vec<RemovalTarget>,
}

/// A name in a directory.
#[derive(Debug)]
struct RemovalTarget {
    parent: CgroupDir,
    name: OsString,
}

impl Remover {
    /// Holds the cgroups at these absolute paths, and the directories that were made on the way there, the deepest
    /// first. Skips those that are gone.
    ///
    /// # Errors
    /// The errno of openat2(2), or a path that is not below a cgroup mount.
    pub(crate) fn open(leaves: &[PathBuf], ancestors: &[PathBuf]) -> Result<Self> {
        let leaves = leaves.iter().filter_map(|path| RemovalTarget::open_with_dir(path).transpose());
        let ancestors = ancestors.iter().filter_map(|path| RemovalTarget::open(path).transpose());
        Ok(Self { leaves: leaves.collect::<Result<_>>()?, ancestors: ancestors.collect::<Result<_>>()? })
    }

    /// The directories in which it removes something.
    pub(crate) fn parents(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let leaves = self.leaves.iter().map(|(place, _)| place);
        leaves.chain(&self.ancestors).map(|place| place.parent.as_fd())
    }

    /// The directories below which it reads the lists of processes.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.leaves.iter().map(|(_, dir)| dir.as_fd())
    }

    /// Whether removing from one of the [`parents`](Self::parents) takes a capability even for its owner: the kernel makes
    /// the top of a hierarchy with the mode 0555.
    pub(crate) fn takes_capability(&self) -> Result<bool> {
        let modes = self.parents().map(|parent| rustix::fs::fstat(parent).map(|stat| stat.st_mode));
        let closed = modes.map(|mode| mode.map(|mode| mode & libc::S_IWUSR == 0));
        closed.collect::<rustix::io::Result<Vec<_>>>().os(|| "fstat(cgroup)").map(|all| all.contains(&true))
    }

    /// Waits within [`TEARDOWN_LIMIT`] until the processes inside have ended, and removes the cgroups with all cgroups
    /// below them. Then removes the directories that led there, unless other cgroups use them. What cannot be removed
    /// stays for [`destroy`](super::destroy).
    pub(crate) fn remove_when_empty(&self) {
        let deadline = Instant::now() + TEARDOWN_LIMIT;
        for (RemovalTarget { parent, name }, dir) in &self.leaves {
            // Another program may have removed it, and made a cgroup of the same name for another container.
            if matches!(dir.open_read("cgroup.procs"), Err(error) if is_absent(&error)) {
                continue;
            }
            let _ = remove(parent, name, deadline, End::ByItself);
        }
        for RemovalTarget { parent, name } in &self.ancestors {
            let _ = parent.remove(name);
        }
    }

    /// Removes the leaf with this number, which is empty, from all of the cgroups.
    pub(crate) fn remove_exec_leaf(&self, number: u64) {
        let deadline = Instant::now() + LEAF_LIMIT;
        let name = exec_leaf_name(number);
        for (_, dir) in &self.leaves {
            for path in [PathBuf::from(&name), Path::new(CONTAINER).join(&name)] {
                // As in `remove_leaf`: the kernel may not be done with a task that is no longer listed.
                while let Removal::Busy = dir.remove(path.as_os_str())
                    && Instant::now() < deadline
                {
                    rustix::thread::sched_yield();
                }
            }
        }
    }
}

/// How long [`Remover::remove_exec_leaf`] tries.
const LEAF_LIMIT: Duration = Duration::from_millis(100);

impl RemovalTarget {
    fn open(path: &Path) -> Result<Option<Self>> {
        Ok(open_parent(path)?.map(|(parent, name)| Self { parent, name: name.to_owned() }))
    }

    fn open_with_dir(path: &Path) -> Result<Option<(Self, CgroupDir)>> {
        let Some(place) = Self::open(path)? else { return Ok(None) };
        let dir = gone_is_none(place.parent.child(&place.name))?;
        Ok(dir.map(|dir| (place, dir)))
    }
}

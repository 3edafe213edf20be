//! What the files of a container's cgroups say, to notice later that another program has changed them: a limit was taken
//! away, processes were moved elsewhere or frozen.
//!
//! What lives here: reading the files and comparing them with an earlier reading. What may not: a decision what follows, or
//! a value of its own, because the kernel shows a limit in another form than that in which it was written.

use super::dir::{read_text, v1, v2};
use crate::error::{OsContext, Result};
use crate::plan::cgroup::{Branch, CgroupPlan, Hierarchy, PlannedDir, Value};
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// The contents of the files, each as it was read first.
#[derive(Debug)]
pub(crate) struct Snapshot(Vec<(PathBuf, String)>);

impl Snapshot {
    /// Reads the `files` that exist and can be read, and where the process `pid` is.
    ///
    /// # Errors
    /// The errno of the call that failed, if it is the process's file.
    pub(crate) fn take(files: &[PathBuf], pid: i32) -> Result<Self> {
        let place = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let text = read(&place).os(|| format!("read({place:?})"))?;
        let files = files.iter().filter_map(|file| Some((file.clone(), read(file).ok()?)));
        Ok(Self(files.chain([(place, text)]).collect()))
    }

    /// Whether every file says the same now.
    pub(crate) fn is_current(&self) -> bool {
        self.0.iter().all(|(file, then)| read(file).is_ok_and(|now| now == *then))
    }
}

/// The files that show whether the cgroups of `plan` are as the plan makes them: those that it writes, and those that show
/// whether processes are frozen. Some may be missing on this kernel.
pub(crate) fn watched_files(plan: &CgroupPlan) -> Vec<PathBuf> {
    plan.branches.iter().flat_map(files_of).collect()
}

fn files_of(branch: &Branch) -> impl Iterator<Item = PathBuf> {
    let always = match &branch.hierarchy {
        Hierarchy::V2 => Some(v2::EVENTS),
        hierarchy if hierarchy.has_freezer() => Some(v1::FREEZER),
        // What it writes there cannot be read.
        hierarchy if hierarchy.has("devices") => Some("devices.list"),
        Hierarchy::V1(_) => None,
    };
    let own = branch.dirs.iter().filter(|dir| dir.role.is_leaf());
    own.flat_map(move |dir| written(dir).chain(always).map(|file| dir.path.join(file)))
}

fn written(dir: &PlannedDir) -> impl Iterator<Item = &str> {
    dir.writes
        .iter()
        .flat_map(|write| match &write.value {
            Value::Program { .. } => [None, None],
            Value::Either { otherwise: (file, _), .. } => [Some(write.file.as_str()), Some(file.as_str())],
            _ => [Some(write.file.as_str()), None],
        })
        .flatten()
}

fn read(file: &Path) -> Result<String, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    read_text(rustix::fs::open(file, flags, Mode::empty())?.as_fd())
}

//! The effects of a [`CgroupPlan`]: directories made, limits written, fds handed on.
//!
//! What lives here: no decision the plan could have made. Limits are written before anything can join, so they bind
//! before the first instruction. Nothing here moves a process: the sandbox joins by itself, through what it is given.

use super::dir::{CgroupDir, CgroupVersion, v1, v2};
use super::{devices, freezer, oom, teardown};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::cgroup::{Branch, CgroupPlan, Hierarchy, PlannedDir, PlannedWrite, Role, Value};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Donation name of a file the sandbox writes `0` to, one for each v1 hierarchy, followed by its controllers.
pub(crate) const SANDBOX_JOIN: &str = "cgroup-sandbox-join";
/// Donation name of a file one of the container's own processes writes `0` to while it is single-threaded.
pub(crate) const CONTAINER_JOIN: &str = "cgroup-container-join";
/// Donation name of the v2 directory for clone3(2) with `CLONE_INTO_CGROUP` of the container's own processes.
pub(crate) const CONTAINER_DIR: &str = "cgroup-container-dir";
/// Donation name of the file with the OOM killer's counter.
pub(crate) const EVIDENCE_OOM: &str = "cgroup-oom";
/// Donation name of the file with the most memory used.
pub(crate) const EVIDENCE_PEAK: &str = "cgroup-peak";

/// The cgroups of one container, made and limited. Its default is none.
///
/// Dropping it closes fds and removes nothing: [`destroy`](super::destroy) does that, from the recorded paths.
#[derive(Debug, Default)]
pub(crate) struct Cgroup {
    groups: Vec<Group>,
    made_ancestors: Vec<PathBuf>,
}

/// The container's place in one hierarchy: at least one of the two directories.
#[derive(Debug)]
struct Group {
    hierarchy: Hierarchy,
    /// Has the limits, and the sandbox in it.
    sandbox: Option<CgroupDir>,
    /// Has the container's own processes in it and nothing else: can be frozen.
    container: Option<CgroupDir>,
}

impl Cgroup {
    /// Makes the directories of `plan` and writes its limits. An empty plan costs nothing. A leaf that exists and is
    /// empty is used, as engines make it beforehand. What the host refuses of an optional branch is done without.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if a leaf has processes; `Unsupported` where the kernel lacks a control file; else
    /// the errno of the call, under the name of the field it served. What was made is removed again.
    pub(crate) fn create(plan: &CgroupPlan) -> Result<Self> {
        let mut made = Vec::new();
        let groups: Result<Vec<Option<Group>>> = plan
            .branches
            .iter()
            .map(|branch| match build(branch, plan.delegate_uid, &mut made) {
                Err(error) if branch.optional => {
                    tracing::debug!(%error, "no cgroup to freeze this container in");
                    Ok(None)
                }
                group => group.map(Some),
            })
            .collect();
        // The deepest first, as it has to be removed.
        made.reverse();
        match groups {
            Ok(groups) => {
                let groups: Vec<Group> = groups.into_iter().flatten().collect();
                let cgroup = Self { groups, made_ancestors: Vec::new() };
                // Besides the ancestors, what is left of a branch that was given up.
                let held = |path: &PathBuf| cgroup.dirs().any(|dir| dir.path() == path);
                let others = made.into_iter().map(|(_, path)| path).filter(|path| !held(path)).collect();
                Ok(Self { made_ancestors: others, ..cgroup })
            }
            Err(error) => {
                let paths: Vec<PathBuf> = made.into_iter().map(|(_, path)| path).collect();
                Err(match teardown::prune(&paths) {
                    Ok(()) => error,
                    Err(left) => error.hint(format!("left behind: {left}")),
                })
            }
        }
    }

    /// The leaf directories that are this container's: what the state record keeps from now on.
    pub(crate) fn leaves(&self) -> Vec<PathBuf> {
        let leaf = |group: &Group| {
            let dir = group.sandbox.as_ref().or(group.container.as_ref())?;
            Some(dir.path().to_path_buf())
        };
        self.groups.iter().filter_map(leaf).collect()
    }

    fn dirs(&self) -> impl Iterator<Item = &CgroupDir> {
        self.groups.iter().flat_map(|group| group.sandbox.iter().chain(&group.container))
    }

    /// Directories that led to the leaf and were not there before, the deepest first: for [`prune`](super::prune) after
    /// [`destroy`](super::destroy).
    pub(crate) fn made_ancestors(&self) -> &[PathBuf] {
        &self.made_ancestors
    }

    /// All that a sandbox needs of its container's cgroups, by donation name.
    pub(crate) fn fds(&self) -> Result<Vec<(String, OwnedFd)>> {
        let (evidence, oom_watch) = (self.evidence_fds(), self.oom_watch_fds());
        let mut fds = self.join_fds()?;
        fds.extend(evidence.into_iter().chain(oom_watch).chain(self.freezer_fds()?));
        Ok(fds)
    }

    /// What processes need to join, by donation name. On v1 the sandbox writes `0` to each [`SANDBOX_JOIN`] file; on v2
    /// it is created inside, see [`sandbox_dir_fd`](Self::sandbox_dir_fd). The container's own processes join
    /// [`CONTAINER_JOIN`] (suffix `-v1` or `-v2`); on v2 they are better created in [`CONTAINER_DIR`], which avoids the
    /// cost of a move but needs the right to write there at that time, while the opened file carries its opener's.
    pub(crate) fn join_fds(&self) -> Result<Vec<(String, OwnedFd)>> {
        let mut fds = Vec::new();
        for group in &self.groups {
            if let (Hierarchy::V1(controllers), Some(sandbox)) = (&group.hierarchy, &group.sandbox) {
                let name = format!("{SANDBOX_JOIN}-{}", controllers.join("-"));
                fds.push((name, sandbox.open_write(v1::JOIN)?));
            }
            match &group.container {
                Some(container) if container.version() == CgroupVersion::V2 => {
                    fds.push((CONTAINER_DIR.into(), container.duplicate()?));
                    fds.push((format!("{CONTAINER_JOIN}-v2"), container.open_write(v2::JOIN)?));
                }
                Some(container) => {
                    fds.push((format!("{CONTAINER_JOIN}-v1"), container.open_write(v1::JOIN)?))
                }
                None => {}
            }
        }
        Ok(fds)
    }

    /// The v2 leaf, for clone3(2) with `CLONE_INTO_CGROUP` of the sandbox.
    pub(crate) fn sandbox_dir_fd(&self) -> Option<BorrowedFd<'_>> {
        let v2 = self.groups.iter().find(|group| group.hierarchy == Hierarchy::V2)?;
        v2.sandbox.as_ref().map(AsFd::as_fd)
    }

    /// What the sandbox needs to freeze, list and kill the container's own processes, by donation name; see
    /// [`Freezer`](super::Freezer). Empty where there is no place to freeze.
    pub(crate) fn freezer_fds(&self) -> Result<Vec<(String, OwnedFd)>> {
        let places = || self.groups.iter().filter_map(|group| group.container.as_ref());
        // Both only in a hybrid layout. There v2 is the better one: it can kill what is frozen.
        match places().find(|dir| dir.version() == CgroupVersion::V2).or(places().next()) {
            Some(dir) => freezer::open(dir),
            None => Ok(Vec::new()),
        }
    }

    /// What the sandbox needs to hear of an OOM kill when it happens, by donation name; see
    /// [`OomWatch`](super::OomWatch). Empty without the memory controller.
    pub(crate) fn oom_watch_fds(&self) -> Vec<(String, OwnedFd)> {
        self.groups
            .iter()
            .filter_map(|group| group.sandbox.as_ref())
            .find_map(oom::open)
            .into_iter()
            .collect()
    }

    /// What the sandbox needs to tell an OOM kill from another SIGKILL, by donation name; see
    /// [`OomEvidence::read`](super::OomEvidence::read). Empty without the memory controller.
    pub(crate) fn evidence_fds(&self) -> Vec<(String, OwnedFd)> {
        // In a hybrid layout the controller is in one of the hierarchies: the file exists in at most one group.
        let files = |group: &Group| match group.hierarchy {
            Hierarchy::V1(_) => (v1::OOM, v1::PEAK),
            Hierarchy::V2 => (v2::OOM, v2::PEAK),
        };
        let open = |group: &Group| {
            let (oom, peak) = files(group);
            let dir = group.sandbox.as_ref()?;
            let oom = dir.open_read(oom).ok()?;
            let peak = dir.open_read(peak).ok().map(|peak| (EVIDENCE_PEAK.into(), peak));
            Some(std::iter::once((EVIDENCE_OOM.into(), oom)).chain(peak).collect())
        };
        self.groups.iter().find_map(open).unwrap_or_default()
    }
}

/// Makes one branch from the top down, recording in `made` what was not there before.
fn build(branch: &Branch, delegate_uid: Option<u32>, made: &mut Vec<(Role, PathBuf)>) -> Result<Group> {
    let during = |error: Error| error.during(branch.field.clone());
    let broken = || Error::new(ErrorKind::InvalidInput, "cgroup plan", "a branch without directories");
    let (base, below) = branch.dirs.split_first().ok_or_else(broken)?;
    let mut parent = CgroupDir::open(&base.path).map_err(during)?;
    base.writes.iter().try_for_each(|write| apply(write, &parent, &parent))?;
    let (mut container, mut leads_to_sandbox) = (None, false);
    for planned in below {
        let dir = enter(&parent, planned, made).map_err(during)?;
        planned.writes.iter().try_for_each(|write| apply(write, &parent, &dir))?;
        if let (Hierarchy::V2, Role::Sandbox | Role::SystemdScope | Role::Container, Some(uid)) =
            (&branch.hierarchy, planned.role, delegate_uid)
        {
            // "write access to the cgroup.procs file of the common ancestor" (the leaf) and of the destination: kernel,
            // admin-guide/cgroup-v2. Without it they move there, and wait for the whole machine. Of either file a
            // container sees at most its own, whose processes it may kill anyway.
            let given = dir.give(v2::JOIN, uid);
            given.unwrap_or_else(|error| tracing::debug!(%error, "processes will move into their cgroup"));
        }
        match planned.role {
            Role::Container => container = Some(dir),
            Role::Base | Role::Ancestor => parent = dir,
            Role::Sandbox | Role::SystemdScope => {
                parent = dir;
                leads_to_sandbox = true;
            }
        }
    }
    // The leaf is the last directory that another can be in, so the walk ended with it as the parent.
    let sandbox = leads_to_sandbox.then_some(parent);
    Ok(Group { hierarchy: branch.hierarchy.clone(), sandbox, container })
}

fn enter(parent: &CgroupDir, planned: &PlannedDir, made: &mut Vec<(Role, PathBuf)>) -> Result<CgroupDir> {
    let name = planned.path.file_name().unwrap_or_default();
    if planned.role == Role::SystemdScope {
        return parent.child(name);
    }
    let new = parent.make(name)?;
    if new {
        made.push((planned.role, planned.path.clone()));
    }
    let dir = parent.child(name)?;
    let leaf = matches!(planned.role, Role::Sandbox | Role::Container);
    if leaf && !new && !dir.read("cgroup.procs")?.is_empty() {
        let message = format!("{:?} exists and has processes in it", planned.path);
        return Err(Error::new(ErrorKind::AlreadyExists, "create cgroup", message)
            .hint("choose another linux.cgroupsPath, or delete the container it belongs to"));
    }
    Ok(dir)
}

/// Writes one value into `dir`, under the name of the field it serves.
fn apply(write: &PlannedWrite, parent: &CgroupDir, dir: &CgroupDir) -> Result<()> {
    let file = write.file.as_str();
    match &write.value {
        Value::Text(text) => dir.write(file, text).map_err(|error| refused(write, dir, error)),
        Value::TextIfPresent(text) => match dir.write(file, text) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            done => done.map_err(|error| refused(write, dir, error)),
        },
        Value::Either { text, otherwise: (other_file, other_text) } => {
            let done = match dir.write(file, text) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => dir.write(other_file, other_text),
                done => done,
            };
            done.map_err(|error| refused(write, dir, error))
        }
        Value::FromParent => inherit(file, parent, dir).map_err(|error| refused(write, dir, error)),
        Value::Enable { required, observed } => {
            enable(file, required, observed, dir).map_err(|error| refused(write, dir, error))
        }
        Value::Program { program, required } => match devices::attach(program, dir) {
            Err(error) if !required => {
                tracing::debug!(%error, "device rules without effect, for a container that can make no node");
                Ok(())
            }
            done => done.map_err(|error| error.during(write.field.clone())),
        },
    }
}

fn inherit(file: &str, parent: &CgroupDir, dir: &CgroupDir) -> Result<()> {
    if !dir.read(file)?.trim().is_empty() {
        return Ok(());
    }
    dir.write(file, parent.read(file)?.trim())
}

fn enable(file: &str, required: &[String], observed: &[String], dir: &CgroupDir) -> Result<()> {
    // Read first: who may make cgroups here need not be allowed to write what is enabled already.
    let enabled = dir.read(file)?;
    let missing = |wanted: &[String]| {
        let missing = wanted.iter().filter(|name| !enabled.split_ascii_whitespace().any(|on| on == *name));
        missing.map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ")
    };
    let (required, observed) = (missing(required), missing(observed));
    if !required.is_empty() {
        dir.write(file, &required)?;
    }
    if !observed.is_empty()
        && let Err(error) = dir.write(file, &observed)
    {
        tracing::debug!(%error, "no statistics from these controllers");
    }
    Ok(())
}

/// Says which field could not be obeyed, and what can be done about the causes people meet.
pub(super) fn refused(write: &PlannedWrite, dir: &CgroupDir, error: Error) -> Error {
    let path = dir.path().join(&write.file);
    match error.raw_os_error() {
        Some(libc::ENOENT) => {
            let error = Error::unsupported(write.field.clone(), format!("this kernel has no {path:?}"));
            match write.field.ends_with(".swap") {
                true => {
                    error.hint("swap accounting is off: boot with swapaccount=1, or leave the swap limit out")
                }
                false => error,
            }
        }
        Some(libc::EBUSY) if matches!(write.value, Value::Enable { .. }) => error
            .during(write.field.clone())
            .hint("that cgroup holds processes itself: choose a linux.cgroupsPath below one that does not"),
        _ => error.during(write.field.clone()),
    }
}

//! Carries out a [`CgroupPlan`]: makes the directories, writes the limits, opens the descriptors that processes need.
//!
//! Limits are written before a process can join, so they apply from its first instruction. What may not live here: a
//! decision that the plan can make, or moving a process. The sandbox joins by itself, through the descriptors it gets.

use super::dir::{CgroupDir, CgroupVersion, v1, v2};
use super::{devices, freezer, oom, teardown};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::cgroup::{
    Branch, CGROUPS_PATH, CgroupPlan, Hierarchy, PlannedDir, PlannedWrite, Role, Value,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Donation name of a file the sandbox writes `0` to, one for each v1 hierarchy, followed by its controllers.
pub(crate) const SANDBOX_JOIN: &str = "cgroup-sandbox-join";
/// Donation name of a file the sandbox writes `0` to before it reports the container created, so that the cgroups which
/// /proc shows for its pid are those of the workload: see [`Cgroup::join_fds`].
pub(crate) const SANDBOX_SHOWN: &str = "cgroup-sandbox-shown";
/// Donation name of a file the sandbox writes `0` to before the program starts, to leave the workload's cgroups again.
pub(crate) const SANDBOX_BACK: &str = "cgroup-sandbox-back";
/// Donation name of a file one of the container's own processes writes `0` to while it is single-threaded.
pub(crate) const CONTAINER_JOIN: &str = "cgroup-container-join";
/// Donation name of the v2 directory for clone3(2) with `CLONE_INTO_CGROUP` of the container's own processes.
pub(crate) const CONTAINER_DIR: &str = "cgroup-container-dir";
/// Donation name of the file with the OOM killer's counter.
pub(crate) const EVIDENCE_OOM: &str = "cgroup-oom";
/// Donation name of the file with the most memory used.
pub(crate) const EVIDENCE_PEAK: &str = "cgroup-peak";

/// The cgroups of one container. The default has none.
///
/// Dropping it closes fds and removes nothing: [`destroy`](super::destroy) does that, from the recorded paths.
#[derive(Debug, Default)]
pub(crate) struct Cgroup {
    groups: Vec<Group>,
    made_ancestors: Vec<PathBuf>,
}

/// The container's place in one hierarchy.
#[derive(Debug)]
struct Group {
    hierarchy: Hierarchy,
    /// Whether the configuration names the place.
    named: bool,
    /// Contains the two others (v2).
    outer: Option<CgroupDir>,
    /// Has the sandbox in it. Without a `container` it has the container's own processes and their limits, too.
    sandbox: Option<CgroupDir>,
    /// Has the container's own processes in it and nothing else, and their limits.
    container: Option<CgroupDir>,
}

impl Group {
    /// All its directories, the uppermost first.
    fn dirs(&self) -> impl Iterator<Item = &CgroupDir> {
        self.outer.iter().chain(&self.sandbox).chain(&self.container)
    }

    /// The directories that count what the container's own processes use, the one without the sandbox first.
    fn counting(&self) -> impl Iterator<Item = &CgroupDir> {
        // Where the controllers are not enabled for the container's own directory, only the outer one counts.
        self.container.iter().chain(&self.outer).chain(self.sandbox.iter().filter(|_| self.outer.is_none()))
    }
}

impl Cgroup {
    /// Makes the directories of `plan` and writes its limits. An empty plan costs nothing. A leaf that exists and is
    /// empty is used, as engines make it beforehand. If the host refuses an optional branch, the container does without
    /// it. For a plan with a scope, systemd has started that around the process `sandbox`, which goes to its directory
    /// below.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if a leaf has processes; `Unsupported` where the kernel lacks a control file; else
    /// the errno of the call, under the name of the field it served. What was made is removed again.
    pub(crate) fn create(plan: &CgroupPlan, sandbox: Option<i32>) -> Result<Self> {
        let mut made = Vec::new();
        let groups: Result<Vec<Option<Group>>> = plan
            .branches
            .iter()
            .map(|branch| match build(branch, plan.delegate_uid, sandbox, &mut made) {
                Err(error) if branch.optional => {
                    tracing::debug!(%error, "the container does without this cgroup");
                    Ok(None)
                }
                group => group.map(Some),
            })
            .collect();
        // The deepest first, as a removal needs it.
        made.reverse();
        match groups {
            Ok(groups) => {
                let groups: Vec<Group> = groups.into_iter().flatten().collect();
                let cgroup = Self { groups, made_ancestors: Vec::new() };
                // The ancestors, and the remains of an optional branch that failed.
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

    /// The container's leaf directories, for its record.
    pub(crate) fn leaves(&self) -> Vec<PathBuf> {
        let leaf = |group: &Group| group.dirs().next().map(|dir| dir.path().to_path_buf());
        self.groups.iter().filter_map(leaf).collect()
    }

    fn dirs(&self) -> impl Iterator<Item = &CgroupDir> {
        self.groups.iter().flat_map(Group::dirs)
    }

    /// The directories made on the way to the leaves, the deepest first: for [`prune`](super::prune) after
    /// [`destroy`](super::destroy).
    pub(crate) fn made_ancestors(&self) -> &[PathBuf] {
        &self.made_ancestors
    }

    /// Every descriptor that a sandbox needs of its container's cgroups, by donation name.
    pub(crate) fn fds(&self) -> Result<Vec<(String, OwnedFd)>> {
        let (evidence, oom_watch) = (self.evidence_fds(), self.oom_watch_fds());
        let mut fds = self.join_fds()?;
        fds.extend(evidence.into_iter().chain(oom_watch).chain(self.freezer_fds()?));
        Ok(fds)
    }

    /// The descriptors that processes need to join, by donation name. On v1 the sandbox writes `0` to each
    /// [`SANDBOX_JOIN`] file; on v2 it is created inside, see [`sandbox_dir_fd`](Self::sandbox_dir_fd). The container's
    /// own processes join [`CONTAINER_JOIN`] (suffix `-v1` or `-v2`); on v2 it is cheaper to create them in
    /// [`CONTAINER_DIR`], because that avoids a move. The creator then needs write access itself, while an open file
    /// keeps the access of the process that opened it.
    ///
    /// An engine takes the cgroups of the pid that create gives it for the container's: there it reads the memory in use
    /// and the number of tasks, and waits for OOM kills. That pid is the sandbox's. So where the configuration names the
    /// place, as an engine's does, the sandbox is in the workload's cgroups of memory and tasks ([`SANDBOX_SHOWN`]) from the
    /// end of create until a program runs, before which it leaves ([`SANDBOX_BACK`]).
    ///
    /// podman reads the number of tasks at the named place, whatever is below it. So in v1's hierarchy of tasks the
    /// sandbox leaves for the cgroup above: otherwise podman would count it as one of the container's processes.
    pub(crate) fn join_fds(&self) -> Result<Vec<(String, OwnedFd)>> {
        let mut fds = Vec::new();
        for group in &self.groups {
            match (&group.hierarchy, &group.container) {
                (Hierarchy::V1(controllers), container) => {
                    let controllers = controllers.join("-");
                    let mut join = |name: String, dir: &CgroupDir| -> Result<()> {
                        fds.push((name, dir.open_write(v1::JOIN)?));
                        Ok(())
                    };
                    if let Some(sandbox) = &group.sandbox {
                        join(format!("{SANDBOX_JOIN}-{controllers}"), sandbox)?;
                    }
                    if let Some(container) = container {
                        join(format!("{CONTAINER_JOIN}-v1-{controllers}"), container)?;
                    }
                }
                (Hierarchy::V2, Some(container)) => {
                    fds.push((CONTAINER_DIR.into(), container.duplicate()?));
                    fds.push((format!("{CONTAINER_JOIN}-v2"), container.open_write(v2::JOIN)?));
                }
                (Hierarchy::V2, None) => {}
            }
            if let (true, Some(sandbox), Some(container)) = (group.named, &group.sandbox, &group.container) {
                let (join, memory) = match container.version() {
                    CgroupVersion::V1 => (v1::JOIN, v1::OOM),
                    CgroupVersion::V2 => (v2::JOIN, v2::OOM),
                };
                let bounds_memory = container.has(memory)?;
                let counts_tasks = container.version() == CgroupVersion::V1 && container.has("pids.max")?;
                if bounds_memory || counts_tasks {
                    let name = |name: &str| format!("{name}-{}", fds.len());
                    let (shown, back) = (name(SANDBOX_SHOWN), name(SANDBOX_BACK));
                    let above = || sandbox.parent().and_then(|above| above.open_write(join));
                    // A caller without privileges may not write there.
                    let back_to = match bounds_memory {
                        true => sandbox.open_write(join)?,
                        false => above().or_else(|_| sandbox.open_write(join))?,
                    };
                    fds.push((shown, container.open_write(join)?));
                    fds.push((back, back_to));
                }
            }
        }
        Ok(fds)
    }

    /// The sandbox's directory of v2, for clone3(2) with `CLONE_INTO_CGROUP` of the sandbox.
    pub(crate) fn sandbox_dir_fd(&self) -> Option<BorrowedFd<'_>> {
        let v2 = self.groups.iter().find(|group| group.hierarchy == Hierarchy::V2)?;
        v2.sandbox.as_ref().map(AsFd::as_fd)
    }

    /// The descriptors by which the sandbox freezes, lists and kills the container's own processes, by donation name;
    /// see [`Freezer`](super::Freezer). Empty without a cgroup to freeze.
    pub(crate) fn freezer_fds(&self) -> Result<Vec<(String, OwnedFd)>> {
        let freezing = || self.groups.iter().filter(|group| group.hierarchy.has_freezer());
        let places = || freezing().filter_map(|group| group.container.as_ref());
        // Only a hybrid layout has both. Prefer v2, which can kill frozen processes.
        match places().find(|dir| dir.version() == CgroupVersion::V2).or(places().next()) {
            Some(dir) => freezer::open(dir),
            None => Ok(Vec::new()),
        }
    }

    /// The descriptor by which the sandbox notices an OOM kill when it happens, by donation name; see
    /// [`OomWatch`](super::OomWatch). Empty without the memory controller.
    pub(crate) fn oom_watch_fds(&self) -> Vec<(String, OwnedFd)> {
        self.groups.iter().flat_map(Group::counting).find_map(oom::open).into_iter().collect()
    }

    /// The descriptors by which the sandbox tells an OOM kill from another SIGKILL, by donation name; see
    /// [`OomEvidence::read`](super::OomEvidence::read). Empty without the memory controller.
    pub(crate) fn evidence_fds(&self) -> Vec<(String, OwnedFd)> {
        // In a hybrid layout the controller is in one of the hierarchies: the file exists in at most one group.
        let open = |dir: &CgroupDir| {
            let (oom, peak) = match dir.version() {
                CgroupVersion::V1 => (v1::OOM, v1::PEAK),
                CgroupVersion::V2 => (v2::OOM, v2::PEAK),
            };
            let oom = dir.open_read(oom).ok()?;
            let peak = dir.open_read(peak).ok().map(|peak| (EVIDENCE_PEAK.into(), peak));
            Some(std::iter::once((EVIDENCE_OOM.into(), oom)).chain(peak).collect())
        };
        self.groups.iter().flat_map(Group::counting).find_map(open).unwrap_or_default()
    }
}

/// Makes one branch from the top down, and adds the directories that did not exist to `made`.
fn build(
    branch: &Branch,
    delegate_uid: Option<u32>,
    occupant: Option<i32>,
    made: &mut Vec<(Role, PathBuf)>,
) -> Result<Group> {
    let during = |error: Error| error.during(branch.field.clone());
    let broken = || Error::new(ErrorKind::InvalidInput, "cgroup plan", "a branch without directories");
    let (base, below) = branch.dirs.split_first().ok_or_else(broken)?;
    let mut parent = CgroupDir::open(&base.path).map_err(during)?;
    base.writes.iter().try_for_each(|write| apply(write, &parent, &parent))?;
    let (mut outer, mut sandbox, mut container) = (None, None, None);
    // A place that the configuration names may be below a frozen cgroup. The caller's own is not frozen: the caller runs.
    let mut may_be_frozen = branch.named;
    for planned in below {
        let above = outer.as_ref().or(sandbox.as_ref()).unwrap_or(&parent);
        let known = made.len();
        let dir = enter(above, planned, made).map_err(during)?;
        may_be_frozen |= made.len() == known;
        if branch.hierarchy.has_freezer() && planned.role.is_leaf() && std::mem::take(&mut may_be_frozen) {
            refuse_frozen(&dir, if branch.named { CGROUPS_PATH } else { &branch.field })?;
        }
        match (planned.role, &outer) {
            // Its writes follow when the sandbox's directory is there.
            (Role::Outer | Role::SystemdScope, _) => {}
            (Role::Sandbox, Some(outer)) => {
                if let Some(pid) = occupant {
                    dir.write(v2::JOIN, &pid.to_string()).map_err(during)?;
                }
                let deferred = below.iter().find(|dir| dir.path == outer.path());
                deferred
                    .into_iter()
                    .flat_map(|dir| &dir.writes)
                    .try_for_each(|write| apply(write, &parent, outer))?;
            }
            _ => planned.writes.iter().try_for_each(|write| apply(write, above, &dir))?,
        }
        if let (Hierarchy::V2, Role::Outer | Role::SystemdScope | Role::Container, Some(uid)) =
            (&branch.hierarchy, planned.role, delegate_uid)
        {
            // "write access to the cgroup.procs file of the common ancestor" (the leaf) and of the destination: kernel,
            // admin-guide/cgroup-v2. Without it they have to move there, and a move waits for an RCU grace period. A
            // container sees at most its own file, and may kill those processes anyway.
            let given = dir.give(v2::JOIN, uid);
            given.unwrap_or_else(|error| tracing::debug!(%error, "processes will move into their cgroup"));
        }
        match planned.role {
            Role::Base | Role::Ancestor => parent = dir,
            Role::Outer | Role::SystemdScope => outer = Some(dir),
            Role::Sandbox => sandbox = Some(dir),
            Role::Container => container = Some(dir),
        }
    }
    Ok(Group { hierarchy: branch.hierarchy.clone(), named: branch.named, outer, sandbox, container })
}

/// How many levels below an existing leaf to look for processes: engines make none.
const MAX_DEPTH: u32 = 16;

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
    let in_use = || -> Result<bool> {
        Ok(match planned.role {
            // Of a cgroup that only contains others.
            Role::Outer => dir.read(v2::EVENTS)?.lines().any(|line| line == "populated 1"),
            Role::Sandbox | Role::Container => dir.is_in_use(MAX_DEPTH)?,
            Role::Base | Role::Ancestor | Role::SystemdScope => false,
        })
    };
    if !new && in_use()? {
        let message = format!("{:?} exists and has processes in it", planned.path);
        return Err(Error::new(ErrorKind::AlreadyExists, "create cgroup", message)
            .hint("choose another linux.cgroupsPath, or delete the container it belongs to"));
    }
    Ok(dir)
}

/// Refuses a frozen cgroup, or one below a frozen cgroup: a process that joins it stands still, and create would wait for
/// it.
fn refuse_frozen(dir: &CgroupDir, field: &str) -> Result<()> {
    if !dir.is_frozen()? {
        return Ok(());
    }
    let problem = format!("{:?} is frozen", dir.path());
    Err(Error::new(ErrorKind::InvalidInput, field.to_owned(), problem)
        .hint("thaw it and the cgroups above it, or choose another linux.cgroupsPath"))
}

/// Writes one value into `dir`, under the name of the field it serves.
pub(super) fn apply(write: &PlannedWrite, parent: &CgroupDir, dir: &CgroupDir) -> Result<()> {
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

pub(super) fn inherit(file: &str, parent: &CgroupDir, dir: &CgroupDir) -> Result<()> {
    if !dir.read(file)?.trim().is_empty() {
        return Ok(());
    }
    dir.write(file, parent.read(file)?.trim())
}

fn enable(file: &str, required: &[String], observed: &[String], dir: &CgroupDir) -> Result<()> {
    // Read first: a caller that may make cgroups here may be refused this write, and needs none if all are enabled
    // already.
    let enabled = dir.read(file)?;
    let missing = |wanted: &[String]| {
        let missing = wanted.iter().filter(|name| !enabled.split_ascii_whitespace().any(|on| on == *name));
        missing.map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ")
    };
    let required = missing(required);
    if !required.is_empty() {
        dir.write(file, &required)?;
    }
    // Write one by one: if the kernel lacks one of several in a write, it enables none of them.
    for name in
        observed.iter().map(|name| missing(std::slice::from_ref(name))).filter(|name| !name.is_empty())
    {
        if let Err(error) = dir.write(file, &name) {
            tracing::debug!(%error, name, "no statistics from this controller");
        }
    }
    Ok(())
}

/// Names the field that could not be applied, with a hint for the usual causes.
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

//! The cgroups of a container as values: directories in order, and what is written into each. Pure.

use crate::host::facts::ScopeUnit;
use crate::plan::devices::DeviceProgram;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The cgroups to make and the limits to set, in order. Without branches the container needs no cgroup, and no process
/// touches one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CgroupPlan {
    /// One entry for each hierarchy in use.
    pub(crate) branches: Vec<Branch>,
    /// The host uid of the container's root, if that user makes the container's processes instead of the caller. The
    /// cgroup v2 directories are given to it: clone3(2) creates a process in a cgroup only for a user who may write the
    /// `cgroup.procs` file there.
    pub(crate) delegate_uid: Option<u32>,
    /// The scope that systemd starts around the sandbox before the directories are made.
    pub(crate) scope: Option<ScopePlan>,
}

/// The directories of one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Branch {
    /// Which hierarchy.
    pub(crate) hierarchy: Hierarchy,
    /// The configuration field that asked for it, for messages.
    pub(crate) field: String,
    /// Directories from the top down: the first exists, and each of the others is a child of the one before it, except
    /// that [`SANDBOX`] and [`CONTAINER`] are children of the same one.
    pub(crate) dirs: Vec<PlannedDir>,
    /// No field of the configuration asked for it: if the host refuses it, the container runs without it.
    pub(crate) optional: bool,
    /// Whether the configuration names the place, as those of engines do.
    pub(crate) named: bool,
}

impl Branch {
    /// The directory that is made and removed with the container: the one with its limits, or else its only one.
    pub(super) fn leaf(&self) -> Option<&PlannedDir> {
        self.dirs.iter().find(|dir| dir.role.is_leaf())
    }

    pub(super) fn leaf_mut(&mut self) -> Option<&mut PlannedDir> {
        self.dirs.iter_mut().find(|dir| dir.role.is_leaf())
    }

    /// Whether the container can be frozen here: a directory holds its own processes and no other.
    pub(super) fn freezes(&self) -> bool {
        self.hierarchy.has_freezer() && self.dirs.iter().any(|dir| dir.role == Role::Container)
    }
}

/// A hierarchy, by its controllers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Hierarchy {
    /// A v1 hierarchy with these controllers.
    V1(Vec<String>),
    /// The unified hierarchy.
    V2,
}

impl Hierarchy {
    /// Whether its cgroups can be frozen.
    pub(crate) fn has_freezer(&self) -> bool {
        self.has("freezer")
    }

    /// Whether the hierarchy is of v1 and has `controller`, or is the unified one, which may have every controller.
    pub(crate) fn has(&self, controller: &str) -> bool {
        match self {
            Self::V1(controllers) => controllers.iter().any(|own| own == controller),
            Self::V2 => true,
        }
    }
}

/// One directory. The process that makes it finishes its writes before it goes on to the next directory, except those
/// of [`Role::Outer`] and [`Role::SystemdScope`]: they follow when the sandbox's directory below is there, because a
/// cgroup of v2 with processes of its own enables no controllers for its children.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlannedDir {
    /// Absolute path.
    pub(crate) path: PathBuf,
    /// What it is for.
    pub(crate) role: Role,
    /// The writes into its files, in this order.
    pub(crate) writes: Vec<PlannedWrite>,
}

/// What a directory of a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Exists on the host: never made, never removed.
    Base,
    /// Leads to the leaf: made if it is missing, and then removed by the process that made it.
    Ancestor,
    /// Contains [`SANDBOX`] and [`CONTAINER`], and no process (v2). Its limits leave room for the sandbox.
    Outer,
    /// As [`Outer`](Self::Outer); a service manager made it and put the sandbox there, which moves on to [`SANDBOX`].
    SystemdScope,
    /// The sandbox joins it. On v2 it is below [`Outer`](Self::Outer) and has no limits. On v1 it is the container's
    /// directory: its limits leave room for the sandbox where a [`Container`](Self::Container) is below it.
    Sandbox,
    /// The container's own processes join it, and no other process does. Has the limits as the configuration has them.
    Container,
}

impl Role {
    /// Whether it is the container's alone: removed with it.
    pub(crate) fn is_leaf(self) -> bool {
        matches!(self, Self::Outer | Self::SystemdScope | Self::Sandbox | Self::Container)
    }
}

/// One write into a control file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlannedWrite {
    /// The control file, or for a program its attach type.
    pub(crate) file: String,
    /// What to write.
    pub(crate) value: Value,
    /// The configuration field that asked for it, for messages.
    pub(crate) field: String,
}

/// What to write into a control file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Value {
    /// This text. A kernel without the file cannot do what was asked.
    Text(String),
    /// This text, if the kernel has the file: a kernel without it does what was asked by default.
    TextIfPresent(String),
    /// This text, or on a kernel without the file another text into another file: kernels have several names for one
    /// limit.
    Either { text: String, otherwise: (String, String) },
    /// The parent's value, unless the file already has one.
    FromParent,
    /// `+controller` for those not yet enabled for the children. A required controller that the host refuses is an
    /// error; an observed one only gives statistics, and the container runs without them.
    Enable { required: Vec<String>, observed: Vec<String> },
    /// No text: this program, attached to the directory. If the host refuses a program that is not required, the
    /// container runs without it.
    Program { program: DeviceProgram, required: bool },
}

impl CgroupPlan {
    /// Whether the container needs no cgroup.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.branches.is_empty()
    }

    /// Whether a limit or a path asked for a cgroup.
    pub(crate) fn has_limits(&self) -> bool {
        self.branches.iter().any(|branch| !branch.optional)
    }

    /// The directory of the container's own processes in the hierarchy mounted at `mountpoint`, if it has one there.
    pub(crate) fn directory_in(&self, mountpoint: &Path) -> Option<PathBuf> {
        let innermost = self.branches.iter().filter_map(|branch| branch.dirs.last());
        let mut own = innermost.filter(|dir| dir.role.is_leaf() && dir.path.starts_with(mountpoint));
        own.next().map(|dir| dir.path.clone())
    }

    /// The leaf directories, which [`destroy`](crate::cgroup::destroy) removes. The state record keeps them *before*
    /// any of them is made.
    pub(crate) fn leaves(&self) -> Vec<PathBuf> {
        self.branches.iter().filter_map(Branch::leaf).map(|leaf| leaf.path.clone()).collect()
    }
}

/// The directory of the container's own processes, below the leaf.
pub(crate) const CONTAINER: &str = "container";

/// The directory below [`CONTAINER`] of the processes without a cgroup of their own, once one process has one (v2).
pub(crate) const CONTAINER_INIT: &str = "init";

/// The directory of an executed process that has limits of its own, beside [`CONTAINER_INIT`].
pub(crate) fn exec_leaf_name(number: u64) -> String {
    format!("exec-{number:016x}")
}

/// The directory of the sandbox, below the leaf (v2).
pub(crate) const SANDBOX: &str = "sandbox";

/// How many tasks the helpers may have besides the container's own: the sandbox is one, and forks others to execute
/// processes, to change mounts and to serve files, for at most 64 clients.
pub(super) const HELPER_TASKS: u64 = 128;

/// How much memory the helpers may use besides the container's own, in bytes. A sandbox needs one to two MiB; the rest
/// is for file workers, which read and write through the page cache.
pub(super) const HELPER_MEMORY: u64 = 32 << 20;

/// The highest limit of tasks that the kernel takes (`PIDS_MAX` in kernel/cgroup/pids.c).
const MAX_TASKS: u64 = 1 << 22;

/// The write that sets the limit of `exact` in the directory above, which the helpers are in, too. `None` if only the
/// container's own directory has this limit.
pub(crate) fn with_headroom(exact: &PlannedWrite) -> Option<PlannedWrite> {
    let (more, most) = match exact.file.as_str() {
        "pids.max" => (HELPER_TASKS, MAX_TASKS),
        "memory.max" | "memory.limit_in_bytes" | "memory.memsw.limit_in_bytes" => {
            (HELPER_MEMORY, i64::MAX.unsigned_abs())
        }
        _ => return None,
    };
    // "max", "-1", and what the kernel will refuse in the container's own directory stay as they are.
    let raised = |text: &str| match text.parse::<u64>() {
        Ok(limit) => limit.max(limit.saturating_add(more).min(most)).to_string(),
        Err(_) => text.to_owned(),
    };
    let value = match &exact.value {
        Value::Text(text) => Value::Text(raised(text)),
        Value::TextIfPresent(text) => Value::TextIfPresent(raised(text)),
        _ => return None,
    };
    Some(PlannedWrite { value, ..exact.clone() })
}

/// `dirs` with the directory of the container's own processes below the leaf. That one gets the leaf's limits, and the
/// leaf only those that bound the helpers, too.
pub(super) fn with_container(mut dirs: Vec<PlannedDir>) -> Vec<PlannedDir> {
    if let Some(leaf) = dirs.iter_mut().find(|dir| dir.role.is_leaf()) {
        let path = leaf.path.join(CONTAINER);
        let looser = leaf.writes.iter().filter_map(with_headroom).collect();
        let writes = std::mem::replace(&mut leaf.writes, looser);
        dirs.push(PlannedDir { path, role: Role::Container, writes });
    }
    dirs
}

/// A scope that systemd starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScopePlan {
    /// The unit.
    pub(crate) unit: ScopeUnit,
    /// The slice that the unit belongs to.
    pub(crate) slice: String,
    /// Its limits.
    pub(crate) properties: Vec<Property>,
}

/// A property of a unit (org.freedesktop.systemd1(5)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Property {
    pub(crate) name: String,
    pub(crate) value: PropertyValue,
}

/// The value of a property, of the type that systemd gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PropertyValue {
    /// `t`
    Number(u64),
    /// `ay`: a bit for each CPU or memory node, the lowest first.
    Mask(Vec<u8>),
}

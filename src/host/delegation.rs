//! The cgroups of the unified hierarchy between the caller's and the top, each with what the caller may do there.
//!
//! What lives here: these facts and their probe, which only reads. What may not: the choice among them, which is the
//! plan's.

use super::cgroups::{below, may_write, may_write_file, read_bounded};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::{Path, PathBuf};

/// One cgroup that contains the caller, with the facts that decide whether another can go below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DelegationPoint {
    /// Absolute path.
    pub(crate) dir: PathBuf,
    /// What the kernel calls its type.
    pub(crate) kind: CgroupType,
    /// `cgroup.controllers`: what can be enabled for its children.
    pub(crate) controllers: Vec<String>,
    /// `cgroup.subtree_control`: what is.
    pub(crate) enabled: Vec<String>,
    /// Whether it holds processes itself.
    pub(crate) populated: bool,
    /// Whether the caller may make the asked-for directory below it.
    pub(crate) may_make: bool,
    /// Whether the caller may write `cgroup.procs`, which the kernel wants of whoever has a process go from one cgroup
    /// below to another ("Delegation Containment" - kernel: admin-guide/cgroup-v2).
    pub(crate) may_move: bool,
    /// Whether the caller may write `cgroup.subtree_control`.
    pub(crate) may_enable: bool,
}

/// `cgroup.type`, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CgroupType {
    /// The root of the hierarchy, which alone may hold processes and enable controllers. The root of a cgroup namespace
    /// is not one.
    Root,
    /// An ordinary one.
    Domain,
    /// Part of a threaded subtree: an ordinary cgroup below it would be invalid.
    Threaded,
}

impl DelegationPoint {
    /// Looks at the cgroup `dir`, for a place with this path below it. What cannot be read is not there.
    pub(crate) fn probe(dir: PathBuf, inner: &Path) -> Self {
        let read = |file: &str| read_bounded(&dir.join(file));
        let names = |file| words(&read(file).unwrap_or_default());
        let kind = match read("cgroup.type") {
            // "exists on non-root cgroups" - kernel: admin-guide/cgroup-v2.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => CgroupType::Root,
            Ok(kind) if kind.trim_end() == "domain" => CgroupType::Domain,
            _ => CgroupType::Threaded,
        };
        Self {
            kind,
            controllers: names("cgroup.controllers"),
            enabled: names("cgroup.subtree_control"),
            populated: kind == CgroupType::Root || holds_processes(&dir),
            may_make: may_write(&below(&dir, inner)),
            may_move: may_write_file(&dir.join("cgroup.procs")),
            may_enable: may_write_file(&dir.join("cgroup.subtree_control")),
            dir,
        }
    }

    /// Whether the caller may make a cgroup here, and have its own processes born in it.
    pub(crate) fn is_open(&self) -> bool {
        self.may_make && self.may_move && self.kind != CgroupType::Threaded
    }

    /// Whether its children can have controllers at all: "no internal processes".
    pub(crate) fn may_distribute(&self) -> bool {
        !self.populated || self.kind == CgroupType::Root
    }

    /// Why its children cannot have `controller`, if they cannot.
    pub(crate) fn lacks(&self, controller: &str) -> Option<String> {
        match self.controllers.iter().any(|available| available == controller) {
            true => self.cannot_enable(controller),
            false => Some(format!("cgroup v2 at {:?} without it in cgroup.controllers", self.dir)),
        }
    }

    /// Why it could not enable `controller` even if it had it.
    pub(crate) fn cannot_enable(&self, controller: &str) -> Option<String> {
        let dir = &self.dir;
        if self.enabled.iter().any(|enabled| enabled == controller) {
            None
        } else if !self.may_distribute() {
            Some(format!("{dir:?} holds processes itself, and so cannot enable it in cgroup.subtree_control"))
        } else if !self.may_enable {
            Some(format!("the caller may not enable it in cgroup.subtree_control of {dir:?}"))
        } else {
            None
        }
    }
}

/// One that cannot be read, as in a threaded subtree, is taken to hold some.
fn holds_processes(dir: &Path) -> bool {
    let procs = std::fs::File::open(dir.join("cgroup.procs"));
    // A single one is enough to know.
    procs.and_then(|mut procs| procs.read(&mut [0; 16])).map_or(true, |read| read > 0)
}

fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

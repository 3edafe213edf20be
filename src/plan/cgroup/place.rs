//! Where a container's cgroups are: the names of the directories, and in the unified hierarchy the cgroup above them.
//! Pure.

use super::model::{PlannedDir, Role};
use super::requested::CGROUPS_PATH;
use crate::error::{Error, Result};
use crate::host::cgroups::{DelegationPoint, UnifiedHierarchy, V1Hierarchy};
use crate::id::QualifiedId;
use std::path::{Component, Path, PathBuf};

/// Where in each hierarchy the leaf is.
pub(super) struct CgroupLocation {
    /// Whether the names start at the mount point instead of the default base.
    pub(super) absolute: bool,
    /// Whether the configuration names the place.
    pub(super) explicit: bool,
    names: Vec<String>,
}

impl CgroupLocation {
    pub(super) fn new(cgroups_path: Option<&Path>, id: QualifiedId<'_>) -> Result<Self> {
        match cgroups_path {
            Some(path) => Self::named(path),
            None => Ok(Self { absolute: false, explicit: false, names: vec![default_name(id)] }),
        }
    }

    /// The place that a configuration names.
    pub(super) fn named(path: &Path) -> Result<Self> {
        let refuse =
            |problem: &str| Err(Error::spec("config.json", CGROUPS_PATH, format!("{path:?} {problem}")));
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => return refuse("contains \"..\""),
                Component::Normal(name) => match name.to_str() {
                    Some(name) if name.len() <= MAX_NAME && !name.contains(char::is_control) => {
                        names.push(name.into())
                    }
                    _ => return refuse("has a component that cannot name a cgroup"),
                },
            }
        }
        match names.is_empty() {
            true => refuse("names the root of the hierarchy"),
            false => Ok(Self { absolute: path.is_absolute(), explicit: true, names }),
        }
    }

    /// Where the names start in a v1 hierarchy.
    pub(super) fn base(&self, hierarchy: &V1Hierarchy) -> PathBuf {
        if self.absolute { hierarchy.mountpoint.clone() } else { hierarchy.own_dir() }
    }

    /// Base, ancestors and a leaf with this role, without writes.
    pub(super) fn dirs(&self, base: PathBuf, leaf: Role) -> Vec<PlannedDir> {
        let dir = |path: &Path, role| PlannedDir { path: path.to_path_buf(), role, writes: Vec::new() };
        let mut path = base;
        let mut dirs = vec![dir(&path, Role::Base)];
        for (position, name) in self.names.iter().enumerate() {
            path.push(name);
            let last = position + 1 == self.names.len();
            dirs.push(dir(&path, if last { leaf } else { Role::Ancestor }));
        }
        dirs
    }
}

/// Why no cgroup of the unified hierarchy can be the parent of the container's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// The caller may make a cgroup, but its children cannot have this controller.
    Without { controller: String, why: String },
    /// The caller may not make a cgroup.
    Closed { why: String },
}

impl CgroupLocation {
    /// The cgroup of the unified hierarchy that the names start in, so that the leaf can have the `required`
    /// controllers.
    ///
    /// Without an absolute path, that is the nearest such cgroup above the caller's own. One whose children cannot have
    /// controllers is the last choice even without limits: the container would have no statistics, and could get no
    /// limit later.
    pub(super) fn point<'a>(
        &self,
        unified: &'a UnifiedHierarchy,
        required: &[String],
    ) -> Result<&'a DelegationPoint, Unusable> {
        if self.absolute {
            return self.top(unified, required);
        }
        let mut open: Vec<&DelegationPoint> = unified.points.iter().filter(|point| point.is_open()).collect();
        open.sort_by_key(|point| !point.may_distribute());
        let usable = open.iter().find(|point| without(point, required).is_none());
        match (usable, open.first()) {
            (Some(point), _) => Ok(point),
            (None, Some(nearest)) => Err(without(nearest, required).unwrap_or_else(|| closed(unified))),
            (None, None) => Err(closed(unified)),
        }
    }

    /// The top of the hierarchy, if the caller may make the directories from there to the leaf and move the sandbox
    /// there.
    fn top<'a>(
        &self,
        unified: &'a UnifiedHierarchy,
        required: &[String],
    ) -> Result<&'a DelegationPoint, Unusable> {
        let top = unified.points.last().ok_or_else(|| closed(unified))?;
        let leaf: PathBuf = self.names.iter().fold(top.dir.clone(), |path, name| path.join(name));
        // The cgroups above both the caller's and the leaf. The kernel checks the move of the sandbox against the
        // innermost of them.
        let shared =
            || unified.points.iter().filter(|point| leaf != point.dir && leaf.starts_with(&point.dir));
        let crossing = shared().next().unwrap_or(top);
        if !top.may_make {
            return Err(Unusable::Closed { why: may_not_write(&leaf) });
        }
        if !crossing.may_move {
            return Err(Unusable::Closed { why: may_not_write(&crossing.dir.join("cgroup.procs")) });
        }
        for controller in required {
            // A controller that the top has can be enabled all the way down.
            let why =
                top.lacks(controller).or_else(|| shared().find_map(|point| point.cannot_enable(controller)));
            if let Some(why) = why {
                return Err(Unusable::Without { controller: controller.clone(), why });
            }
        }
        Ok(top)
    }
}

/// The first of the `required` controllers that children of `point` cannot have.
fn without(point: &DelegationPoint, required: &[String]) -> Option<Unusable> {
    required.iter().find_map(|controller| {
        let why = point.lacks(controller)?;
        Some(Unusable::Without { controller: controller.clone(), why })
    })
}

fn closed(unified: &UnifiedHierarchy) -> Unusable {
    Unusable::Closed { why: may_not_write(&unified.own_dir()) + " or any above it" }
}

/// The reason that errors give for a place that the caller may not write to.
pub(super) fn may_not_write(path: &Path) -> String {
    format!("the caller may not write in {path:?}")
}

/// The longest name of a directory.
pub(super) const MAX_NAME: usize = 255;

/// `cofferdam-ID-ROOT`: containers of two state roots may have one id, and neither may find, or remove, the other's cgroup.
/// In a name that is too long, a digest of the whole (FNV-1a) replaces the end. If two digests collide, the second
/// container finds a cgroup in use and fails; it never shares one.
pub(super) fn default_name(id: QualifiedId<'_>) -> String {
    let name = format!("cofferdam-{id}");
    if name.len() <= MAX_NAME {
        return name;
    }
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let digest = name.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, mix);
    format!("{}-{digest:016x}", &name[..MAX_NAME - 17])
}

//! `linux.cgroupsPath`: a path in the hierarchies, or a scope of systemd.
//!
//! The specification knows paths only. Engines that leave cgroups to systemd write `slice:prefix:name` instead, with
//! the meaning that runc gave it. A relative path with exactly two colons is read as such a name.

use super::field::{Field, shorten};
use crate::error::Result;
use std::path::{Component, Path, PathBuf};

/// `linux.cgroupsPath`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CgroupsPath {
    /// An absolute path starts at the mount point of each hierarchy. The plan chooses where a relative one starts.
    /// Contains no `..`.
    Path(PathBuf),
    /// A scope unit of systemd.
    SystemdScope(SystemdScope),
}

/// `slice:prefix:name`: the unit `prefix-name.scope` in `slice`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SystemdScope {
    /// A slice unit; `None` means the default of the manager.
    pub(crate) slice: Option<String>,
    /// The scope unit.
    pub(crate) unit: String,
}

impl CgroupsPath {
    /// Checks `linux.cgroupsPath`. An empty one is absent.
    pub(super) fn new(field: &Field<'_>, path: Option<&Path>) -> Result<Option<Self>> {
        let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
            return Ok(None);
        };
        let path = field.path(path)?;
        if path.components().any(|component| component == Component::ParentDir) {
            return Err(field.error(format_args!("{path:?} contains \"..\"")));
        }
        let text = path.to_string_lossy();
        if path.is_relative()
            && let [slice, prefix, name] = text.split(':').collect::<Vec<_>>()[..]
        {
            return SystemdScope::new(field, slice, prefix, name).map(Self::SystemdScope).map(Some);
        }
        Ok(Some(Self::Path(path)))
    }

    /// The path, if it is one.
    #[must_use]
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::SystemdScope(_) => None,
        }
    }

    /// The scope, if it is one.
    #[must_use]
    pub(crate) fn scope(&self) -> Option<&SystemdScope> {
        match self {
            Self::Path(_) => None,
            Self::SystemdScope(scope) => Some(scope),
        }
    }
}

impl SystemdScope {
    fn new(field: &Field<'_>, slice: &str, prefix: &str, name: &str) -> Result<Self> {
        if name.is_empty() {
            return Err(field.error("slice:prefix:name without a name"));
        }
        // runc makes a slice here, for engines that want a cgroup without processes.
        if name.ends_with(".slice") {
            let problem = format!("{:?} is a slice, which holds no processes", shorten(name));
            return Err(field.unsupported(problem));
        }
        let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        for name in [slice, &unit].into_iter().filter(|name| !name.is_empty()) {
            if !is_unit_name(name) {
                let problem = format!("{:?} is not the name of a systemd unit", shorten(name));
                return Err(field.error(problem).hint("use letters, digits and :-_.\\, 255 at most"));
            }
        }
        if !slice.is_empty() && !is_slice(slice) {
            let problem = format!("{:?} is not the name of a slice", shorten(slice));
            return Err(field.error(problem).hint("such as system.slice, or a-b.slice, which is in a.slice"));
        }
        Ok(Self { slice: Some(slice.to_owned()).filter(|slice| !slice.is_empty()), unit })
    }
}

/// The longest name of a unit (systemd.unit(5)).
const MAX_UNIT_NAME: usize = 255;

/// Whether systemd.unit(5) allows this name.
fn is_unit_name(name: &str) -> bool {
    name.len() <= MAX_UNIT_NAME
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\".contains(&byte))
}

/// Whether this is the name of a slice: dashes separate it from its parents (systemd.slice(5)), and `-.slice` is the
/// root.
fn is_slice(name: &str) -> bool {
    match name.strip_suffix(".slice") {
        Some("-") => true,
        Some(stem) => stem.split('-').all(|part| !part.is_empty()),
        None => false,
    }
}

//! Writes changed limits to the cgroups of an existing container: all of them, or none.
//!
//! What lives here: finding the directories, writing, and undoing the writes. What may not: choosing values, which
//! [`plan::cgroup`](crate::plan::cgroup) does.

use super::dir::{CgroupDir, CgroupVersion};
use super::group::refused;
use super::systemd;
use crate::error::{Error, ErrorKind, Result};
use crate::host::facts::ScopeUnit;
use crate::plan::cgroup::{
    self, ControllerUpdate, PlannedWrite, Property, ScopeUpdate, Spelling, Value, not_joined, with_headroom,
};
use std::path::{Path, PathBuf};

/// Limits that were written, with the values before. Dropping this undoes the writes, unless they are
/// [kept](Written::keep).
#[derive(Debug)]
#[must_use = "dropping it undoes the writes"]
pub(crate) struct Written<'a> {
    undo: Vec<Undo<'a>>,
}

#[derive(Debug)]
struct Undo<'a> {
    dir: &'a CgroupDir,
    file: String,
    before: String,
}

/// Properties that systemd has changed. Dropping this restores the old ones, unless the new ones are
/// [kept](PropertyUpdate::keep).
#[derive(Debug)]
#[must_use = "dropping it restores the old properties"]
pub(crate) struct PropertyUpdate<'a> {
    unit: &'a ScopeUnit,
    back: Vec<Property>,
}

impl<'a> PropertyUpdate<'a> {
    /// Sends the new limits to systemd, which would otherwise set the old ones again when it is reloaded.
    ///
    /// # Errors
    /// The error of systemd; nothing has changed then.
    pub(crate) fn of(unit: &'a ScopeUnit, update: ScopeUpdate) -> Result<Self> {
        if !update.change.is_empty() {
            systemd::set_properties(unit, &update.change)?;
        }
        Ok(Self { unit, back: update.back })
    }

    /// The new limits stay.
    pub(crate) fn keep(mut self) {
        self.back.clear();
    }
}

impl Drop for PropertyUpdate<'_> {
    fn drop(&mut self) {
        if !self.back.is_empty()
            && let Err(error) = systemd::set_properties(self.unit, &self.back)
        {
            tracing::debug!(%error, "systemd did not restore the old limits");
        }
    }
}

/// The open directories with a container's limits.
#[derive(Debug)]
pub(crate) struct LimitDirs(pub(super) Vec<LimitDir>);

/// The directories with limits in one hierarchy.
#[derive(Debug)]
pub(super) struct LimitDir {
    /// The recorded one.
    leaf: CgroupDir,
    /// The one of the container's own processes below, if they are apart from the sandbox: it has the limits as the
    /// configuration has them, and the leaf those [with room for the helpers](with_headroom).
    container: Option<CgroupDir>,
}

impl LimitDir {
    fn open(path: &Path) -> Result<Self> {
        let leaf = CgroupDir::open(path)?;
        Ok(Self { container: leaf.container()?, leaf })
    }

    /// The directory with exactly the limits of the configuration.
    pub(super) fn exact(&self) -> &CgroupDir {
        self.container.as_ref().unwrap_or(&self.leaf)
    }
}

impl LimitDirs {
    /// Opens the recorded cgroups.
    ///
    /// # Errors
    /// The errno of openat2(2); `ENOENT` if the container was deleted.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self> {
        paths.iter().map(|path| LimitDir::open(path)).collect::<Result<_>>().map(Self)
    }

    /// The directories of the container's own processes.
    pub(super) fn exact(&self) -> impl Iterator<Item = &CgroupDir> {
        self.0.iter().map(LimitDir::exact)
    }

    /// Refuses a memory limit below the current usage, for callers that set `checkBeforeUpdate`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`], or the errno of a read.
    pub(crate) fn check_usage(&self, limit: u64) -> Result<()> {
        for dir in self.exact() {
            let file = match dir.version() {
                CgroupVersion::V1 => "memory.usage_in_bytes",
                CgroupVersion::V2 => "memory.current",
            };
            let Some(usage) = dir.read_if_present(file)?.and_then(|text| text.trim().parse::<u64>().ok())
            else {
                continue;
            };
            if usage > limit {
                let problem =
                    format!("{limit} is below the {usage} bytes in use, and checkBeforeUpdate is set");
                return Err(Error::new(ErrorKind::InvalidInput, "linux.resources.memory.limit", problem));
            }
        }
        Ok(())
    }

    /// Writes all of `updates`. If one is refused, those before it are undone.
    ///
    /// # Errors
    /// `Unsupported` naming the field of a controller that the container was not created with, before anything is
    /// written; else the errno of the write, under the name of its field.
    pub(crate) fn write(&self, updates: &[ControllerUpdate]) -> Result<Written<'_>> {
        let places = updates.iter().map(|update| self.place(update)).collect::<Result<Vec<_>>>()?;
        let mut written = Written { undo: Vec::new() };
        for (dir, writes) in places {
            for write in writes {
                // First where only the workload is: a limit that falls below the memory in use has processes killed.
                written.add(dir.exact(), write)?;
                if let (Some(_), Some(looser)) = (&dir.container, with_headroom(write)) {
                    written.add(&dir.leaf, &looser)?;
                }
            }
        }
        Ok(written)
    }

    /// The directories of the controller that `update` is for, and what to write there.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(super) fn place<'a>(&self, update: &'a ControllerUpdate) -> Result<(&LimitDir, &'a [PlannedWrite])> {
        for dir in &self.0 {
            if has_controller(&dir.leaf, update)? {
                enable(dir, update)?;
                let (writes, version): (&Spelling, _) = match dir.leaf.version() {
                    CgroupVersion::V1 => (&update.v1, cgroup::Version::V1),
                    CgroupVersion::V2 => (&update.v2, cgroup::Version::V2),
                };
                let writes = writes.as_deref().map_err(|other| other.on(version))?;
                return Ok((dir, writes));
            }
        }
        Err(not_joined(update))
    }
}

/// Enables the controller for the container's own directory: it was made without limits of this controller.
fn enable(dir: &LimitDir, update: &ControllerUpdate) -> Result<()> {
    match &dir.container {
        Some(container)
            if container.version() == CgroupVersion::V2 && !has_controller(container, update)? =>
        {
            let enabled = dir.leaf.write("cgroup.subtree_control", &format!("+{}", update.controller));
            enabled.map_err(|error| error.during(update.field.clone()))
        }
        _ => Ok(()),
    }
}

fn has_controller(dir: &CgroupDir, update: &ControllerUpdate) -> Result<bool> {
    Ok(match dir.version() {
        CgroupVersion::V1 => has_files_of(dir, update.v1_controller())?,
        CgroupVersion::V2 => {
            let controllers = dir.read("cgroup.controllers")?;
            controllers.split_ascii_whitespace().any(|controller| controller == update.controller)
        }
    })
}

/// Whether a v1 directory has files of `controller`. A hierarchy has those of its own controllers only.
pub(super) fn has_files_of(dir: &CgroupDir, controller: &str) -> Result<bool> {
    let prefix = format!("{controller}.");
    Ok(dir.files()?.iter().any(|file| file.starts_with(&prefix)))
}

impl<'a> Written<'a> {
    /// The new limits stay.
    pub(crate) fn keep(mut self) {
        self.undo.clear();
    }

    fn add(&mut self, dir: &'a CgroupDir, write: &PlannedWrite) -> Result<()> {
        let (file, text) = match &write.value {
            Value::Text(text) => (&write.file, text),
            Value::TextIfPresent(text) if dir.has(&write.file)? => (&write.file, text),
            Value::Either { text, .. } if dir.has(&write.file)? => (&write.file, text),
            Value::Either { otherwise: (file, text), .. } => (file, text),
            // The file is absent, or the write is for new directories only.
            Value::TextIfPresent(_) | Value::FromParent | Value::Enable { .. } | Value::Program { .. } => {
                return Ok(());
            }
        };
        let replaced = dir.read(file).and_then(|before| {
            dir.write(file, text)?;
            Ok(Undo { dir, file: file.clone(), before: cgroup::undo(file, text, &before) })
        });
        self.undo.push(replaced.map_err(|error| refused(write, dir, error))?);
        Ok(())
    }
}

impl Drop for Written<'_> {
    fn drop(&mut self) {
        for Undo { dir, file, before } in self.undo.iter().rev() {
            if let Err(error) = dir.write(file, before) {
                tracing::debug!(%error, "a limit could not be restored");
            }
        }
    }
}

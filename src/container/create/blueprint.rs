//! [`Blueprint`]: everything that [`launch`](super::transaction::launch) needs to make a container, decided beforehand.

use super::restore_source::RestoreSource;
use super::weakened::{weaken, weaken_plan};
use crate::cgroup;
use crate::container::builder::names::FieldNames;
use crate::container::handle::{TemplateMemory, extras_of};
use crate::error::{Error, ErrorKind, Result};
use crate::helper::{ExtraFds, Zygote};
use crate::host::{Caller, Needs};
use crate::id::QualifiedId;
use crate::plan::{DeviceLimits, Extras, Plan};
use crate::process::console::ConsoleTarget;
use crate::process::{Stdio, UserLog};
use crate::spec::{CgroupsPath, MountKind, NamespaceSource, Origin, ValidSpec};
use crate::state::{Record, StateRoot};
use oci_spec::runtime::Spec;
use std::path::Path;
use std::sync::Arc;

/// The plan of a container, and what the plan cannot say: open descriptors, and where the caller's ends go.
#[derive(Debug)]
pub(in crate::container) struct Blueprint {
    pub(in crate::container) plan: Plan,
    pub(in crate::container) extras: Extras,
    pub(in crate::container) stdio: [Stdio; 3],
    pub(in crate::container) extra_fds: ExtraFds,
    /// The receiver of the terminal, if there is one.
    pub(in crate::container) console: ConsoleTarget,
    pub(in crate::container) user_log: Option<UserLog>,
    /// The zygote that forks the helpers; `None` executes them.
    pub(in crate::container) zygote: Option<Zygote>,
    /// What the workload is a copy of.
    pub(in crate::container) template: Option<TemplateMemory>,
    /// Delete a container that has the id and has ended.
    pub(in crate::container) replace: bool,
    /// Have the value keep the container's files beyond its end.
    pub(in crate::container) keep_files: bool,
    /// The image that it restores.
    pub(in crate::container) restored: Option<Arc<RestoreSource>>,
    /// The builder's methods, for errors.
    pub(in crate::container) names: FieldNames,
    /// The first word of errors about the configuration.
    pub(in crate::container) origin: &'static str,
}

impl Blueprint {
    /// Fails for a container whose creation was never finished, and that was being restored or made of a template: its record
    /// has neither.
    pub(in crate::container) fn check_image(&self) -> Result<()> {
        if self.extras.template.is_some() && self.template.is_none() {
            let problem = "it was to be a clone, and the record has no template";
            let error = Error::new(ErrorKind::Stale, "record", problem);
            return Err(error.hint("delete it, and make another clone"));
        }
        if self.extras.restore.is_none() || self.restored.is_some() {
            return Ok(());
        }
        let problem = "it was being restored, and the record has no image";
        Err(Error::new(ErrorKind::Stale, "record", problem).hint("delete it, and restore the image again"))
    }
}

/// Validates `spec` and plans the container `id`, with `caller` as the first half of what the plan knows of the host.
pub(in crate::container) fn blueprint(
    id: QualifiedId<'_>,
    spec: &Spec,
    extras: Extras,
    bundle: Option<&Path>,
    origin: Origin,
    caller: Caller,
) -> Result<Blueprint> {
    let mut valid = ValidSpec::new(spec, bundle, origin)?;
    weaken(&mut valid);
    let cgroups = !valid.resources.is_empty()
        || extras.accounting
        || valid.cgroups_path.is_some()
        || DeviceLimits::of(&valid, false).is_some()
        || valid.mounts.iter().any(|mount| matches!(mount.kind, MountKind::Cgroup | MountKind::Cgroup2));
    let needs = Needs {
        cgroups,
        freezer: !extras.without_cgroup,
        service_manager: valid
            .cgroups_path
            .as_ref()
            .and_then(CgroupsPath::scope)
            .map(|_| cgroup::systemd::find as _),
        cgroups_path: valid.cgroups_path.as_ref().and_then(CgroupsPath::path),
        labels: valid.asks_for_labels(),
        system_dirs: extras.host_rootfs,
        resolver: extras.host_rootfs && valid.namespaces.network != NamespaceSource::New,
    };
    let mut plan = Plan::new(id, &valid, &extras, &caller.host(needs)?)?;
    weaken_plan(&mut plan);
    Ok(Blueprint {
        plan,
        extras,
        stdio: Default::default(),
        extra_fds: ExtraFds::default(),
        console: ConsoleTarget::default(),
        user_log: None,
        zygote: None,
        template: None,
        replace: false,
        keep_files: false,
        restored: None,
        names: FieldNames::default(),
        origin: origin.as_str(),
    })
}

/// The blueprint of a recorded container whose creation was never finished.
pub(in crate::container) fn blueprint_of(root: &StateRoot, record: &Record) -> Result<Blueprint> {
    let extras = extras_of(record)?;
    blueprint(
        root.qualify(&record.id),
        &record.spec.parse()?,
        extras,
        Some(&record.bundle),
        Origin::ConfigJson,
        Caller::probe()?,
    )
}

//! One further mount for a container that exists: planned as those of its configuration are.

use super::cgroup::CgroupPlan;
use super::gofer::GoferPlan;
use super::init::{StepSource, TreeStep};
use super::mounts::TreeBuilder;
use super::{Extras, mount_namespace, relative_to_root};
use crate::error::{Error, Result};
use crate::host::facts::Host;
use crate::spec::{Mount, MountKind, Origin, ValidSpec};
use std::path::Path;

/// What a gofer of its own makes for it, if anything, and what is done with that inside.
#[derive(Clone, Debug)]
pub(crate) struct HotMountPlan {
    pub(crate) gofer: Option<GoferPlan>,
    pub(crate) step: TreeStep,
}

impl HotMountPlan {
    /// Plans `mount` for the container that was made from `spec`.
    pub(crate) fn new(mount: &Mount, spec: &ValidSpec, extras: &Extras, host: &Host) -> Result<Self> {
        if !matches!(mount.kind, MountKind::Bind { .. } | MountKind::Tmpfs { .. }) {
            let why = "only a bind and a tmpfs can be mounted into a container that exists";
            return Err(Error::unsupported("mount.type", why));
        }
        mount_namespace::check_hot_mount(spec)?;
        if relative_to_root(&mount.destination) == Path::new("dev") {
            let why = "the device directory cannot be replaced";
            return Err(Error::unsupported("mount.destination", why));
        }
        let cgroup = CgroupPlan::default();
        let mut tree = TreeBuilder::new(spec, extras, host, &cgroup, Origin::HotMount);
        tree.mount(mount, "mount")?;
        let (gofer, (_, steps)) = tree.finish();
        let step = steps.into_iter().next().expect("a bind and a tmpfs are one step each");
        let gofer = matches!(step.source, StepSource::MountBatch(_)).then_some(gofer);
        Ok(Self { gofer, step })
    }
}

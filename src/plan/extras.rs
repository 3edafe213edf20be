//! What the builder offers beyond the OCI configuration, as plans and records keep it. Pure.

use super::process::Account;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::spec::{Mount, Origin};
use core::time::Duration;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};

/// What the builder offers beyond the OCI configuration. Part of the state record, so that a loaded container has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Extras {
    /// The root is the host's own system directories, read-only, instead of `root.path`.
    pub(crate) host_rootfs: bool,
    /// A writable layer in memory over the root, removed with the container.
    pub(crate) scratch: Option<Scratch>,
    /// Show the rootfs with its on-disk ids mapped into the container's user namespace.
    pub(crate) idmap_rootfs: bool,
    /// How long the workload may run.
    pub(crate) timeout: Option<Duration>,
    /// The container whose sandbox it shares, if it has none of its own.
    #[serde(default)]
    pub(crate) pod: Option<ContainerId>,
    /// Whether an engine made it only to hold a pod.
    pub(crate) pause: bool,
    /// The volumes that it shares with other containers of its pod.
    pub(crate) volumes: Vec<PodVolume>,
    /// Run without those limits that this host or this caller cannot set.
    pub(crate) best_effort_limits: bool,
    /// Leave the caller's supplementary groups to the workload.
    pub(crate) keep_groups: bool,
    /// Make no cgroup that neither a limit nor a path asks for.
    pub(crate) without_cgroup: bool,
    /// Make cgroups without limits, where the caller may, so that everything is counted.
    pub(crate) accounting: bool,
    /// Show the container its own cgroups below `/sys/fs/cgroup`.
    pub(crate) cgroup_view: bool,
    /// The workload's user, if it is looked up in the container's own files.
    pub(crate) user: Option<Account>,
    /// Make PID 1 a reaper. Ignored without a new pid namespace.
    pub(crate) init: bool,
    /// Its host ids are a range that no other container has, but the others of its pod. On disk its files have the ids of
    /// [`IdRange::FOR_CONTAINERS`](crate::host::facts::IdRange::FOR_CONTAINERS).
    pub(crate) own_range: bool,
    /// Limit what it can take of the kernel's objects that are counted for the caller, too.
    pub(crate) default_limits: bool,
    /// The image whose processes it has in place of a program.
    pub(crate) restore: Option<Restored>,
    /// The template that it is a clone of.
    pub(crate) template: Option<OfTemplate>,
}

/// The writable layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scratch {
    /// The most bytes it may hold; the kernel's default for tmpfs (half of memory) if absent.
    pub(crate) size: Option<u64>,
}

/// A file system in memory that containers of a pod share by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodVolume {
    pub(crate) name: String,
    /// Where the container sees it.
    pub(crate) destination: PathBuf,
    /// The most bytes it may hold. Used only by the first container that asks for the volume.
    pub(crate) size: Option<u64>,
}

/// An image to restore, by the paths that the gofer opens. Part of the state record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restored {
    /// The directory with CRIU's files.
    pub(crate) images: PathBuf,
    /// CRIU's program, its dynamic loader, and the directories of its libraries.
    pub(crate) program: PathBuf,
    pub(crate) loader: Option<PathBuf>,
    pub(crate) libraries: Vec<PathBuf>,
    pub(crate) tree: RestoredTree,
    /// Of each layer, the tmpfs that it belongs to; `None` for the scratch.
    pub(crate) layers: Vec<Option<PathBuf>>,
}

/// What a clone has of its template besides memory. Part of the state record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OfTemplate {
    /// The program that init executes, and whose memory the template's replaces. The arguments are the clone's own.
    pub(crate) program: String,
    /// The tmpfs that each archive of the template's files belongs to; `None` for the scratch.
    pub(crate) archives: Vec<Option<PathBuf>>,
}

/// The processes to restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RestoredTree {
    /// The pid of the first process, in the container.
    pub(crate) init_pid: i32,
    /// A pid for CRIU itself, in the container: one that no restored process has, nor any soon after it.
    pub(crate) criu_pid: i32,
    /// CRIU's names of the streams that were pipes to a process outside, by the number of the stream.
    pub(crate) pipes: Vec<(usize, String)>,
    /// Those of CRIU's files that it reads from the image itself, and their lengths. It gets copies of the others.
    pub(crate) files: Vec<(String, u64)>,
}

/// The most volumes of one container.
const MAX_VOLUMES: usize = 64;

/// The builder's method for volumes, for messages.
pub(super) const VOLUME_FIELD: &str = "pod_volume";

impl Extras {
    /// What init unpacks: for each archive the tmpfs that it belongs to; `None` for the scratch.
    pub(super) fn archives(&self) -> &[Option<PathBuf>] {
        match (&self.restore, &self.template) {
            (Some(restored), _) => &restored.layers,
            (None, Some(template)) => &template.archives,
            (None, None) => &[],
        }
    }

    /// Checks the volumes, and returns where the container sees each of them, in their order.
    pub(super) fn volume_destinations(&self) -> Result<Vec<PathBuf>> {
        let origin = Origin::Builder;
        if self.volumes.len() > MAX_VOLUMES {
            let problem = format!("{} volumes, the limit is {MAX_VOLUMES}", self.volumes.len());
            return Err(Error::spec(origin.as_str(), VOLUME_FIELD, problem));
        }
        let destination = |volume: &PodVolume| {
            ContainerId::new(volume.name.clone())
                .map_err(|error| Error::spec(origin.as_str(), format!("{VOLUME_FIELD}.name"), error))?;
            Mount::check_destination(origin, VOLUME_FIELD, &volume.destination)
        };
        self.volumes.iter().map(destination).collect()
    }
}

/// An absolute path of the container without its root (`/proc/sys` -> `proc/sys`), as the resolver in the root takes it.
pub(crate) fn relative_to_root(path: &Path) -> PathBuf {
    path.components().filter(|component| matches!(component, Component::Normal(_))).collect()
}

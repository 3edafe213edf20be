//! File systems in memory that the containers of a pod share, by name.

use super::Extras;
use super::init::{StepSource, Target, TreeStep};
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::spec::{Mount, MountAttrs, Origin};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The most volumes of one container.
const MAX_VOLUMES: usize = 64;
/// What errors call them: the builder's method.
const FIELD: &str = "pod_volume";

/// A volume as a container asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodVolume {
    pub(crate) name: String,
    /// Where the container sees it.
    pub(crate) destination: PathBuf,
    /// The most bytes it may hold, if this container is the first to ask for it.
    pub(crate) size: Option<u64>,
}

/// The steps that show the volumes of `extras`: by their place in that list.
pub(super) fn steps(extras: &Extras) -> Result<Vec<TreeStep>> {
    if extras.volumes.len() > MAX_VOLUMES {
        let problem = format!("{} volumes, the limit is {MAX_VOLUMES}", extras.volumes.len());
        return Err(Error::spec(Origin::Builder.as_str(), FIELD, problem));
    }
    let step = |(index, volume): (usize, &PodVolume)| {
        ContainerId::new(volume.name.clone())
            .map_err(|error| Error::spec(Origin::Builder.as_str(), format!("{FIELD}.name"), error))?;
        let at = Mount::check_destination(Origin::Builder, FIELD, &volume.destination)?;
        Ok(TreeStep {
            at: super::relative_to_root(&at),
            source: StepSource::Volume(index),
            target: Target::Create,
            set: MountAttrs::empty(),
            clear: MountAttrs::empty(),
            propagation: None,
            field: FIELD.to_owned(),
        })
    };
    extras.volumes.iter().enumerate().map(step).collect()
}

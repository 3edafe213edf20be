//! The OCI state of a container (OCI runtime.md, "State"), as `runc state` prints it.

use crate::error::Result;
use crate::state::{Record, Status};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What an OCI runtime answers to `state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OciState {
    /// `ociVersion` of the configuration.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// `creating`, `created`, `running`, `paused` or `stopped`.
    pub status: Status,
    /// The sandbox's pid on the host, in a pod that of the container's init; 0 when it has ended.
    pub pid: i32,
    /// The bundle directory.
    pub bundle: PathBuf,
    /// `annotations` of the configuration.
    pub annotations: BTreeMap<String, String>,
}

impl OciState {
    pub(super) fn new(status: Status, record: &Record) -> Result<Self> {
        let head = record.spec.head()?;
        let alive = !matches!(status, Status::Stopped | Status::Creating);
        let pid = if record.sandbox_id == record.id { &record.sandbox } else { &record.init };
        Ok(Self {
            oci_version: head.oci_version,
            id: record.id.to_string(),
            status,
            pid: pid.as_ref().filter(|_| alive).map_or(0, |process| process.pid),
            bundle: record.bundle.clone(),
            annotations: head.annotations.unwrap_or_default(),
        })
    }
}

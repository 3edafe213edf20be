//! The record of one container: its fields, its text form and the table of transitions it obeys.
//!
//! What lives here: types and pure functions. What may not: files, clocks, processes; bytes come in and go out.

use super::digest::checksum;
use super::exit::{EndRequest, ExitRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::host::facts::ScopeUnit;
use crate::id::ContainerId;
use crate::process::ProcessIdentity;
use oci_spec::runtime::{Hooks, Spec};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The version of the record's fields this program reads and writes. A release with other fields than the last one's raises it.
pub const RECORD_VERSION: u32 = 1;

/// The largest record, in bytes: twice the largest `config.json`, so that one never makes a container unmanageable.
pub const MAX_RECORD_BYTES: usize = 32 << 20;

/// What is on disk about one container.
///
/// Status, generation and version have no setters: [`Record::advance`] moves the first through the table, saving
/// counts the second. The other fields are facts that the code which established them writes down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Record {
    version: u32,
    /// The container.
    pub id: ContainerId,
    /// The sandbox it runs in: its own id, or that of the pod's root container.
    pub sandbox_id: ContainerId,
    status: Status,
    /// When the id was claimed, in milliseconds since the epoch.
    pub created_at: u64,
    pub(super) generation: u64,
    /// The bundle directory, absolute.
    pub bundle: PathBuf,
    /// `config.json` as it was read: later edits of the file have no effect.
    pub spec: RawSpec,
    /// What the builder asked for that the OCI configuration has no field for.
    pub extras: serde_json::Value,
    /// The boot in which the process identities below mean something.
    pub boot_id: String,
    /// The sandbox process, once the environment is complete: before hooks of its creation run, if it has any.
    pub sandbox: Option<ProcessIdentity>,
    /// The gofer process, once it was spawned.
    pub gofer: Option<ProcessIdentity>,
    /// The container's init, once it was forked.
    pub init: Option<ProcessIdentity>,
    /// The cgroup directories of the container, absolute. Written down before the first is made, so that a crash
    /// leaves nothing that nobody knows of.
    pub cgroups: Vec<PathBuf>,
    /// The scope of systemd's that the cgroup belongs to, if it does. Written down before it is started.
    pub scope: Option<ScopeUnit>,
    /// Directories that led to those cgroups and were made for them, the deepest first; removed if nobody else uses them.
    pub cgroup_ancestors: Vec<PathBuf>,
    /// The fields of limits that were asked for and are done without, because best effort was enough.
    pub unapplied_limits: Vec<String>,
    /// The sandbox's control socket, absolute.
    pub control_socket: PathBuf,
    /// The PID file the caller asked for, absolute.
    pub pid_file: Option<PathBuf>,
    /// Whether the container ends with the program that created it.
    pub attached: bool,
    /// Whether the poststop hooks ran: they do so once.
    pub poststop_ran: bool,
    /// What this API last asked of the container that may end it.
    pub ended_by: Option<EndRequest>,
    /// How it ended.
    pub exit: Option<ExitRecord>,
}

impl Record {
    /// The first record of a container: `creating`, nothing established yet.
    #[must_use]
    pub fn new(id: ContainerId, sandbox_id: ContainerId, bundle: PathBuf, spec: RawSpec) -> Self {
        Self {
            version: RECORD_VERSION,
            id,
            sandbox_id,
            status: Status::Creating,
            created_at: 0,
            generation: 0,
            bundle,
            spec,
            extras: serde_json::Value::Null,
            boot_id: String::new(),
            sandbox: None,
            gofer: None,
            init: None,
            cgroups: Vec::new(),
            scope: None,
            cgroup_ancestors: Vec::new(),
            unapplied_limits: Vec::new(),
            control_socket: PathBuf::new(),
            pid_file: None,
            attached: false,
            poststop_ran: false,
            ended_by: None,
            exit: None,
        }
    }

    /// The status last written down. The kernel may have moved on.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// How often the record was saved.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Moves the status to `next`.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] if the table does not allow it; the record is unchanged.
    pub fn advance(&mut self, next: Status) -> Result<()> {
        if !self.status.may_become(next) {
            let problem = format!("container \"{}\" is {}, it cannot become {next}", self.id, self.status);
            return Err(Error::new(ErrorKind::WrongState { actual: self.status }, "state", problem));
        }
        self.status = next;
        Ok(())
    }

    /// The text form: the record as JSON, and on a last line its checksum.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if a path is not UTF-8 or the record is larger than [`MAX_RECORD_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>> {
        let refuse = |problem: String| Error::new(ErrorKind::InvalidInput, "encode record", problem);
        let mut bytes = Vec::with_capacity(self.spec.text().len() + TYPICAL_BYTES_BESIDE_SPEC);
        serde_json::to_writer(&mut bytes, self).map_err(|error| refuse(error.to_string()).because(error))?;
        let bytes = sealed(bytes);
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(refuse(format!("is {} bytes long, the limit is {MAX_RECORD_BYTES}", bytes.len())));
        }
        Ok(bytes)
    }

    /// Reads the text form back.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] if it was written by another version (the message names both) or is damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let stale = |problem: String| Error::new(ErrorKind::Stale, "decode record", problem);
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(stale(format!("is {} bytes long, the limit is {MAX_RECORD_BYTES}", bytes.len())));
        }
        // The version is only looked for when the rest does not fit: a record of this version is parsed once.
        let damaged = |problem: String| match version_of(bytes) {
            Some(version) if version != RECORD_VERSION => stale(other_version(version)),
            _ => stale(format!("is damaged: {problem}")),
        };
        if bytes.is_empty() {
            return Err(damaged("is empty".into()));
        }
        let json = match bytes.split_at_checked(bytes.len().wrapping_sub(TRAILER_LEN)) {
            Some((json, found)) if found == trailer(json).as_bytes() => json,
            _ => return Err(damaged("the checksum at its end is missing or wrong".into())),
        };
        match serde_json::from_slice::<Self>(json) {
            Ok(record) if record.version == RECORD_VERSION => Ok(record),
            Ok(record) => Err(stale(other_version(record.version))),
            Err(error) => Err(damaged(error.to_string()).because(error)),
        }
    }
}

/// What a record needs beside the spec, in bytes, when nothing in it is unusual: spares the encoder its reallocations.
const TYPICAL_BYTES_BESIDE_SPEC: usize = 2 << 10;

/// The text form of a record whose fields are `json`.
pub(crate) fn sealed(mut json: Vec<u8>) -> Vec<u8> {
    let trailer = trailer(&json);
    json.extend_from_slice(trailer.as_bytes());
    json
}

/// A newline, the checksum as a JSON string, a newline.
fn trailer(json: &[u8]) -> String {
    format!("\n\"{:016x}\"\n", checksum(json))
}

const TRAILER_LEN: usize = 1 + 18 + 1;

/// The version a record claims, whatever else is in it.
fn version_of(bytes: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    serde_json::Deserializer::from_slice(bytes)
        .into_iter::<Versioned>()
        .next()?
        .ok()
        .map(|record| record.version)
}

fn other_version(version: u32) -> String {
    let age = if version > RECORD_VERSION { "newer" } else { "older" };
    format!("was written by {age} version {version}, this program reads version {RECORD_VERSION}")
}

/// `config.json` as text, known to be JSON.
///
/// Kept as text because a record is saved several times in a container's life and the spec, which is most of it,
/// never changes: it is copied, not serialized again. Two are equal if their text is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawSpec(Box<RawValue>);

impl RawSpec {
    /// Takes the text of a `config.json`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] if it is not JSON.
    pub fn new(text: String) -> Result<Self> {
        let not_json = |error: serde_json::Error| Error::spec("config.json", "", &error).because(error);
        RawValue::from_string(text).map(Self).map_err(not_json)
    }

    /// The text of a spec that was built in memory.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] if a path in it is not UTF-8.
    pub fn from_spec(spec: &Spec) -> Result<Self> {
        let no_text = |error: serde_json::Error| Error::spec("builder", "", &error).because(error);
        serde_json::value::to_raw_value(spec).map(Self).map_err(no_text)
    }

    /// The text as it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// The fields of the text.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] if they are not those of an OCI configuration.
    pub fn parse(&self) -> Result<Spec> {
        let no_spec = |error: serde_json::Error| Error::spec("config.json", "", &error).because(error);
        serde_json::from_str(self.text()).map_err(no_spec)
    }
}

/// The few fields of a configuration that every operation of the lifecycle needs, without the work of reading the rest.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SpecHead {
    #[serde(rename = "ociVersion")]
    pub(crate) oci_version: String,
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    pub(crate) hooks: Option<Hooks>,
}

impl RawSpec {
    /// The head of the configuration.
    pub(crate) fn head(&self) -> Result<SpecHead> {
        let no_spec = |error: serde_json::Error| Error::spec("config.json", "", &error).because(error);
        serde_json::from_str(self.text()).map_err(no_spec)
    }
}

impl PartialEq for RawSpec {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

/// The text may hold environment values, which no log should.
impl fmt::Debug for RawSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawSpec({} bytes)", self.text().len())
    }
}

/// Where a container is in its life. `Display` gives the words of the OCI runtime specification (runtime.md, "State").
///
/// ```text
/// creating --> created --> running <--> paused
///     |           |           |            |
///     +-----------+-----------+------------+--> stopped
/// ```
///
/// Closed on purpose: the specification's four and `paused`; a sixth would be a new typestate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// "The container is being created."
    Creating,
    /// "The runtime has finished the create operation", the workload's program has not been started.
    Created,
    /// "The container process has executed the user-specified program but has not exited."
    Running,
    /// Running, but frozen.
    Paused,
    /// "The container process has exited."
    Stopped,
}

impl Status {
    /// The transition table: whether a container in this status may enter `next`.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Creating => matches!(next, Self::Created | Self::Stopped),
            Self::Created => matches!(next, Self::Running | Self::Stopped),
            Self::Running => matches!(next, Self::Paused | Self::Stopped),
            Self::Paused => matches!(next, Self::Running | Self::Stopped),
            Self::Stopped => false,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

#[cfg(test)]
mod tests;

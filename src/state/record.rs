//! The record of one container: its fields and its text form.
//!
//! What lives here: types and pure functions on bytes. What may not: files, clocks, processes.

use super::exit::{EndRequest, ExitRecord};
use super::status::Status;
use crate::error::{Error, ErrorKind, Result};
use crate::host::facts::ScopeUnit;
use crate::id::ContainerId;
use crate::process::{ProcessIdentity, SeenFrom};
use crate::spec::Hooks;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The version of the record's fields that this program reads and writes. A release that changes the fields raises it.
pub const RECORD_VERSION: u32 = 1;

/// The largest record, in bytes: twice the largest `config.json`, so that the record of a valid one always fits.
pub const MAX_RECORD_BYTES: usize = 32 << 20;

/// What is on disk about one container.
///
/// Status, generation and version have no setters: [`Record::advance`] moves the status through the table, and each
/// save raises the generation. The code that establishes one of the other facts sets its field.
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
    /// `ociVersion` of the configuration. This and the hooks are kept apart from the text, so that the operations which
    /// need them do not parse it.
    pub(crate) oci_version: String,
    /// The hooks of the configuration.
    pub(crate) hooks: Hooks,
    /// The settings of the builder for which the OCI configuration has no field.
    pub extras: serde_json::Value,
    /// The boot in which the process identities below mean something.
    pub boot_id: String,
    /// The namespaces in which they mean something.
    pub seen_from: SeenFrom,
    /// The sandbox process, once the environment is complete: before the hooks of the creation run, if there are any.
    pub sandbox: Option<ProcessIdentity>,
    /// The gofer process, once it was spawned.
    pub gofer: Option<ProcessIdentity>,
    /// The container's init, once it was forked.
    pub init: Option<ProcessIdentity>,
    /// The cgroup directories of the container, absolute. Saved before the first is made, so that after a crash they
    /// can be found and removed.
    pub cgroups: Vec<PathBuf>,
    /// The systemd scope that the cgroup belongs to, if there is one. Saved before it is started.
    pub scope: Option<ScopeUnit>,
    /// Parent directories that were made for those cgroups, the deepest first. They are removed with them, if they are
    /// empty.
    pub cgroup_ancestors: Vec<PathBuf>,
    /// The fields of limits that this host cannot apply, and that the caller allowed to be left out (best effort).
    pub unapplied_limits: Vec<String>,
    /// The sandbox's control socket, absolute.
    pub control_socket: PathBuf,
    /// The PID file that the caller asked for, absolute.
    pub pid_file: Option<PathBuf>,
    /// Whether the container ends with the program that created it.
    pub attached: bool,
    /// Whether the poststop hooks were run. They run once.
    pub poststop_ran: bool,
    /// The last request through this API that may end the container.
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
            oci_version: String::new(),
            hooks: Hooks::default(),
            extras: serde_json::Value::Null,
            boot_id: String::new(),
            seen_from: SeenFrom::default(),
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

    /// The status at the last save. The processes may be in another by now.
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
    /// [`ErrorKind::WrongState`] if the table does not allow it. The record then stays unchanged.
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
        // Look for the version only if the rest does not fit, so that a record of this version is parsed once.
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

/// How many bytes a usual record needs in addition to the spec. Saves the encoder reallocations.
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

/// Tells a damaged record from a whole one. It need not resist an attacker: the directory belongs to the user alone.
///
/// Every step (xor, multiplication by an odd number, xor-shift) is a bijection of the hash, so damage confined to one
/// aligned 8-byte word is always found, and any other with a probability of 1 - 2^-64. It works on words, not bytes,
/// because every load and save computes it.
fn checksum(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let step = |hash: u64, word: [u8; 8]| {
        let hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(PRIME);
        hash ^ (hash >> 32)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(OFFSET_BASIS ^ bytes.len() as u64, |hash, word| step(hash, *word));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    step(hash, last)
}

/// The version that a record states, whatever else it contains.
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

/// The text of `config.json`, which is known to be JSON.
///
/// The record keeps the text, because it is saved several times in a container's life and the spec, which is most of
/// it, never changes: a save copies it and does not serialise it again. Two are equal if their texts are.
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
    /// [`ErrorKind::InvalidInput`] if a path in it is not UTF-8.
    pub fn from_spec(spec: &Spec) -> Result<Self> {
        let no_text = |error: serde_json::Error| {
            let problem = format!("the configuration cannot be written as JSON: {error}");
            Error::new(ErrorKind::InvalidInput, "ContainerBuilder::build", problem).because(error)
        };
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

impl RawSpec {
    /// `annotations` of the configuration, without the work of reading the rest.
    pub(crate) fn annotations(&self) -> Result<BTreeMap<String, String>> {
        #[derive(Deserialize)]
        struct Annotated {
            annotations: Option<BTreeMap<String, String>>,
        }
        let no_spec = |error: serde_json::Error| Error::spec("config.json", "", &error).because(error);
        let annotated: Annotated = serde_json::from_str(self.text()).map_err(no_spec)?;
        Ok(annotated.annotations.unwrap_or_default())
    }
}

impl PartialEq for RawSpec {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

/// The text may hold values of environment variables, which must not get into a log.
impl fmt::Debug for RawSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawSpec({} bytes)", self.text().len())
    }
}

#[cfg(test)]
mod tests;

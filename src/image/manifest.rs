//! The manifest: what a directory is an image of, and which files belong to it.

use crate::error::{Error, ErrorKind, Result};
use crate::host::machine::Machine;
use crate::id::ContainerId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The version of the format that this program reads and writes. A release that changes it raises this.
pub(super) const FORMAT: u32 = 1;
/// The longest manifest, in bytes. A file takes about 140, and CRIU writes some dozens and a few for each process.
pub(super) const MAX_MANIFEST: u64 = 32 << 20;
/// The longest configuration, in bytes: that of a record.
pub(super) const MAX_CONFIG: u64 = 32 << 20;

pub(super) const CONFIG: &str = "config.json";
pub(super) const MANIFEST: &str = "manifest.json";
/// The folder of CRIU's files.
pub(super) const CRIU: &str = "criu";
/// The folder of the layers.
pub(super) const LAYERS: &str = "layers";

/// `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) format: u32,
    /// Of this crate.
    pub(super) crate_version: String,
    /// When the processes stood still, in milliseconds since the epoch.
    pub(super) made_at_ms: u64,
    pub(super) machine: Machine,
    pub(super) description: Description,
    pub(super) layers: Vec<ImageLayer>,
    /// Every other file, by its path in the directory.
    pub(super) files: BTreeMap<String, FileEntry>,
}

/// What an image is of, as the one who makes it knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    pub(crate) container: ContainerId,
    /// The version of the CRIU that wrote it.
    pub(crate) criu: String,
    /// Init's pid in the container.
    pub(crate) init_pid: i32,
    /// Its standard streams.
    pub(crate) streams: [StreamKind; 3],
    /// CRIU's `--external` options of the dump.
    pub(crate) external: Vec<String>,
    /// The digest of the program of the seccomp filter, if the container has one.
    pub(crate) filter: Option<String>,
}

/// A file of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileEntry {
    pub(super) size: u64,
    pub(super) sha256: String,
}

/// What a standard stream of a container was when its image was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum StreamKind {
    /// Nothing: `/dev/null`.
    Null,
    /// A pipe to a process outside.
    Pipe {
        /// CRIU's name of the pipe, `pipe:[INODE]`: two streams with one name were one pipe.
        key: String,
    },
    /// A terminal whose other end is outside.
    Terminal,
    /// The workload had closed it.
    Closed,
    /// A file, a pipe or a socket of the container's own, which the image has.
    Inside,
}

/// What a container wrote to one of its file systems, as a tar archive (OCI image-spec, layer.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageLayer {
    file: String,
    tmpfs: Option<PathBuf>,
}

impl ImageLayer {
    pub(super) fn new(file: String, tmpfs: Option<PathBuf>) -> Self {
        Self { file, tmpfs }
    }

    /// The archive, by its path in the directory of the image.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Where in the container the tmpfs was mounted; `None` for the [scratch](crate::ContainerBuilder::scratch), whose paths
    /// are below the container's root.
    #[must_use]
    pub fn tmpfs(&self) -> Option<&Path> {
        self.tmpfs.as_deref()
    }
}

impl Manifest {
    /// Reads one, and checks it in itself.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = |problem: String| stale(MANIFEST, problem);
        let manifest = match serde_json::from_slice::<Self>(bytes) {
            Ok(manifest) => manifest,
            Err(error) => return Err(other_format(bytes).unwrap_or_else(|| damaged(error.to_string()))),
        };
        if let Some(other) = other_format(bytes) {
            return Err(other);
        }
        for (name, FileEntry { sha256, .. }) in &manifest.files {
            if !is_file_name(name) {
                return Err(damaged(format!("files: {name:?} is no file of an image")));
            }
            if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(damaged(format!("files: {name:?} has no digest")));
            }
        }
        for file in [CONFIG].into_iter().chain(manifest.layers.iter().map(ImageLayer::file)) {
            if !manifest.files.contains_key(file) {
                return Err(damaged(format!("files: {file:?} is not among them")));
            }
        }
        for layer in &manifest.layers {
            if !layer.file.starts_with(LAYERS) || layer.tmpfs.as_deref().is_some_and(|at| !is_plain(at)) {
                return Err(damaged(format!("layers: {layer:?} is none")));
            }
        }
        if manifest.description.init_pid < 1 {
            return Err(damaged(format!("init_pid: {} is no pid", manifest.description.init_pid)));
        }
        Ok(manifest)
    }
}

/// Whether the path is one of an image's: `config.json`, or a name in one of its folders.
fn is_file_name(path: &str) -> bool {
    let plain = |name: &str| !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != "..";
    match path.split_once('/') {
        None => path == CONFIG,
        // CRIU takes what ends with `.so` in that folder for a plugin.
        Some((CRIU, name)) => plain(name) && name.ends_with(".img"),
        Some((folder, name)) => folder == LAYERS && plain(name),
    }
}

/// Whether it is absolute and has neither `.` nor `..`.
fn is_plain(path: &Path) -> bool {
    use std::path::Component;
    path.is_absolute()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

/// The error for a manifest of another format, whatever else it contains.
fn other_format(bytes: &[u8]) -> Option<Error> {
    #[derive(Deserialize)]
    struct Versioned {
        format: u32,
    }
    let Versioned { format } = serde_json::from_slice(bytes).ok()?;
    (format != FORMAT).then(|| {
        let problem = format!("it has format {format}, and this program reads format {FORMAT}");
        stale(MANIFEST, problem)
    })
}

/// The image is not usable because of this file.
pub(super) fn stale(file: &str, problem: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Stale, "image", format!("{file}: {problem}"))
}

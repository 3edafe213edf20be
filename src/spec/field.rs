//! The position of a value in the document, and the checks that all sections share.
//!
//! A [`Field`] is a path built on the stack while a document is walked; it becomes text only for an error. What may not
//! live here: rules of one section.

use crate::error::{Error, Result};
use std::ffi::CString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Where a configuration came from; the first word of its errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A `config.json`, from a bundle or from memory.
    ConfigJson,
    /// A builder in this program.
    Builder,
    /// A process for a running container.
    Exec,
    /// The program of a job for a created container.
    Job,
    /// New limits for a container that exists.
    Update,
    /// A further mount for a container that exists.
    HotMount,
    /// The configuration of a container that exists, read again. Its warnings were given before.
    Record,
}

impl Origin {
    /// `config.json`, `builder`, `exec`, `job`, `update` or `hot mount`; a record has the text of a `config.json`.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ConfigJson | Self::Record => "config.json",
            Self::Builder => "builder",
            Self::Exec => "exec",
            Self::Job => "job",
            Self::Update => "update",
            Self::HotMount => "hot mount",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A position in the document, such as `process.args[1]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    origin: Origin,
    parent: Option<&'a Field<'a>>,
    segment: PathSegment<'a>,
}

#[derive(Clone, Copy, Debug)]
enum PathSegment<'a> {
    Document,
    Key(&'a str),
    Index(usize),
}

impl<'a> Field<'a> {
    /// The whole document.
    pub(super) fn document(origin: Origin) -> Self {
        Self { origin, parent: None, segment: PathSegment::Document }
    }

    /// The property `key` of the object at `self`.
    pub(super) fn key(&'a self, key: &'a str) -> Self {
        Self { origin: self.origin, parent: Some(self), segment: PathSegment::Key(key) }
    }

    /// The element `index` of the array at `self`.
    pub(super) fn index(&'a self, index: usize) -> Self {
        Self { origin: self.origin, parent: Some(self), segment: PathSegment::Index(index) }
    }

    /// `ORIGIN: FIELD: PROBLEM`.
    pub(super) fn error(&self, problem: impl fmt::Display) -> Error {
        Error::spec(self.origin.as_str(), self.to_string(), problem)
    }

    /// An error about a valid property that this crate does not implement.
    pub(super) fn unsupported(&self, why: impl fmt::Display) -> Error {
        Error::unsupported(self.to_string(), why).during(self.origin.as_str())
    }

    /// Logs that a valid property has no effect, or not the whole one. Not for what an earlier operation logged already.
    pub(super) fn warn(&self, problem: impl fmt::Display) {
        let field = self.to_string();
        let is_new = match self.origin {
            Origin::ConfigJson | Origin::Builder | Origin::Exec | Origin::HotMount => true,
            Origin::Update => field.starts_with("linux.resources"),
            // All but arguments, variables and directory is the template's.
            Origin::Job | Origin::Record => false,
        };
        if is_new {
            tracing::warn!("{}: {field}: {problem}", self.origin);
        }
    }

    /// Whether a builder in this program has set the property, and not a document.
    pub(super) fn is_built(&self) -> bool {
        self.origin == Origin::Builder
    }

    /// A string for the kernel: without NUL bytes.
    pub(super) fn c_string(&self, text: impl AsRef<[u8]>) -> Result<CString> {
        CString::new(text.as_ref()).map_err(|_| self.error("contains a NUL byte"))
    }

    /// `NAME=value`. The value never appears in an error: it may be a secret.
    pub(super) fn variable(&self, text: &[u8]) -> Result<CString> {
        match text.iter().position(|byte| *byte == b'=') {
            None => Err(self.error("has no \"=\"").hint("write NAME=value")),
            Some(0) => Err(self.error("has an empty name").hint("write NAME=value")),
            Some(_) => self.c_string(text),
        }
    }

    /// A path for the kernel: not empty, and without NUL bytes.
    pub(super) fn path(&self, path: &Path) -> Result<PathBuf> {
        match path.as_os_str().as_bytes() {
            [] => Err(self.error("is empty")),
            bytes if bytes.contains(&0) => Err(self.error("contains a NUL byte")),
            _ => Ok(path.to_owned()),
        }
    }

    /// A path that starts at the root.
    pub(super) fn absolute(&self, path: &Path) -> Result<PathBuf> {
        let path = self.path(path)?;
        if path.is_absolute() {
            return Ok(path);
        }
        Err(self.error(format_args!("{path:?} is relative")).hint("use an absolute path"))
    }

    /// A path inside the container: absolute, without `..`; `.` and doubled slashes are dropped.
    pub(super) fn inside(&self, path: &Path) -> Result<PathBuf> {
        let path = self.absolute(path)?;
        if path.components().any(|component| component == Component::ParentDir) {
            return Err(self.error(format_args!("{path:?} contains \"..\"")));
        }
        Ok(path.components().collect())
    }

    /// A path inside the container that is not the root itself.
    pub(super) fn below_root(&self, path: &Path) -> Result<PathBuf> {
        let path = self.inside(path)?;
        match path.parent() {
            Some(_) => Ok(path),
            None => Err(self.error("is the root itself")),
        }
    }

    /// A path on the host: absolute, or relative to the bundle directory where there is one.
    pub(super) fn on_host(&self, path: &Path, bundle: Option<&Path>) -> Result<PathBuf> {
        let path = self.path(path)?;
        self.absolute(&bundle.map_or_else(|| path.clone(), |bundle| bundle.join(&path)))
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.segment {
            PathSegment::Document => Ok(()),
            PathSegment::Index(index) => write!(f, "[{index}]"),
            PathSegment::Key(key) => {
                let plain =
                    |key: &str| key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
                let key = shorten(key);
                match self.parent {
                    _ if key.is_empty() || !plain(&key) => write!(f, "[{key:?}]"),
                    Some(parent) if parent.parent.is_some() => write!(f, ".{key}"),
                    _ => f.write_str(&key),
                }
            }
        }
    }
}

/// How many characters of a string from the document an error quotes: a key may have megabytes.
const MAX_QUOTED: usize = 80;

/// `text`, or its beginning and `...` where it is too long for an error message.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_prints_as_a_path() {
        let document = Field::document(Origin::ConfigJson);
        assert_eq!(document.to_string(), "");
        let mounts = document.key("mounts");
        assert_eq!(mounts.index(3).key("destination").to_string(), "mounts[3].destination");
        assert_eq!(document.key("annotations").key("a.b\n").to_string(), "annotations[\"a.b\\n\"]");
    }

    #[test]
    fn a_key_of_any_length_prints_short() {
        let key = "é".repeat(1 << 20);
        assert!(Field::document(Origin::Builder).key(&key).to_string().len() < 200);
    }
}

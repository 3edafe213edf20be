//! Container ids: checked once, when they are parsed.

use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest id, in bytes: the limit of runsc and runc. The name of a state file holds two ids and a suffix, and may
/// have at most 255 bytes, so a long id is stored under a digest of itself.
const MAX_ID_LEN: usize = 255;

/// A container id: 1 to 255 characters of `[A-Za-z0-9_+.-]`, not starting with `-` or `.`.
///
/// Ids name files, sockets and cgroups, so an id can neither lead out of a directory nor look like an option.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// Parses an id.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidId`] naming the first offending character.
    pub fn new(id: impl Into<String>) -> Result<Self> {
        let id = id.into();
        let refuse = |problem: String| Err(Error::new(ErrorKind::InvalidId, "container id", problem));
        if id.is_empty() {
            return refuse("is empty".into());
        }
        if id.len() > MAX_ID_LEN {
            return refuse(format!("is {} bytes long, the limit is {MAX_ID_LEN}", id.len()));
        }
        if id.starts_with(['-', '.']) {
            return refuse(format!("{id:?} starts with {:?}", &id[..1]));
        }
        match id.chars().find(|c| !(c.is_ascii_alphanumeric() || "_+.-".contains(*c))) {
            Some(bad) => refuse(format!("{id:?} contains {bad:?}, allowed are A-Z a-z 0-9 _ + . -")),
            None => Ok(Self(id)),
        }
    }

    /// The id as a string slice.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An id among those of the whole host: only within one state root is an id given once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QualifiedId<'a> {
    pub(crate) id: &'a ContainerId,
    /// Tells the state root from others.
    pub(crate) root: u32,
}

impl fmt::Display for QualifiedId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08x}", self.id, self.root)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ContainerId {
    type Err = Error;

    fn from_str(id: &str) -> Result<Self> {
        Self::new(id)
    }
}

impl TryFrom<&str> for ContainerId {
    type Error = Error;

    fn try_from(id: &str) -> Result<Self> {
        Self::new(id)
    }
}

impl TryFrom<String> for ContainerId {
    type Error = Error;

    fn try_from(id: String) -> Result<Self> {
        Self::new(id)
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl AsRef<str> for ContainerId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_every_engine_are_accepted() {
        for id in ["a", "job-1", "A.b_c+d", &"f".repeat(64), &"x".repeat(255)] {
            assert_eq!(ContainerId::new(id).unwrap().as_str(), id);
        }
    }

    #[test]
    fn ids_that_could_be_paths_or_options_are_refused() {
        for (id, message) in [
            ("", "container id: is empty"),
            ("-rf", "container id: \"-rf\" starts with \"-\""),
            ("..", "container id: \"..\" starts with \".\""),
            ("a/b", "container id: \"a/b\" contains '/', allowed are A-Z a-z 0-9 _ + . -"),
            ("a b", "container id: \"a b\" contains ' ', allowed are A-Z a-z 0-9 _ + . -"),
            ("é", "container id: \"é\" contains 'é', allowed are A-Z a-z 0-9 _ + . -"),
        ] {
            assert_eq!(ContainerId::new(id).unwrap_err().to_string(), message);
        }
        assert!(ContainerId::new("x".repeat(256)).is_err());
    }

    #[test]
    fn an_id_from_disk_is_parsed_like_any_other() {
        assert!(serde_json::from_str::<ContainerId>("\"../x\"").is_err());
    }
}

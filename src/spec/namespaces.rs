//! `linux.namespaces`: which are new, which are joined, which are the host's.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The namespace types of `linux.namespaces[].type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
#[expect(missing_docs, reason = "the OCI words for the namespaces of namespaces(7)")]
pub enum NamespaceKind {
    User,
    Mount,
    Pid,
    Network,
    Ipc,
    Uts,
    Cgroup,
    Time,
}

/// Where a namespace comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceSource {
    /// Not listed: the caller's own ("if a namespace type is not specified [...] the container MUST inherit the
    /// runtime namespace of that type", OCI config-linux.md).
    #[default]
    Inherit,
    /// Listed without a path: a new one.
    New,
    /// Listed with a path: joined.
    Path(PathBuf),
}

/// All eight types, each with its source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "one field per NamespaceKind")]
pub struct Namespaces {
    pub user: NamespaceSource,
    pub mount: NamespaceSource,
    pub pid: NamespaceSource,
    pub network: NamespaceSource,
    pub ipc: NamespaceSource,
    pub uts: NamespaceSource,
    pub cgroup: NamespaceSource,
    pub time: NamespaceSource,
}

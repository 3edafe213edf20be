//! `linux.namespaces`: which are new, which are joined, which are the host's.

use super::field::Field;
use crate::error::Result;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};
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

impl Namespaces {
    /// Checks `linux.namespaces`.
    pub(super) fn new(linux: &Field<'_>, list: &[LinuxNamespace]) -> Result<Self> {
        let field = linux.key("namespaces");
        let mut namespaces = Self::default();
        for (index, namespace) in list.iter().enumerate() {
            let field = field.index(index);
            let (name, slot) = match namespace.typ() {
                LinuxNamespaceType::User => ("user", &mut namespaces.user),
                LinuxNamespaceType::Mount => ("mount", &mut namespaces.mount),
                LinuxNamespaceType::Pid => ("pid", &mut namespaces.pid),
                LinuxNamespaceType::Network => ("network", &mut namespaces.network),
                LinuxNamespaceType::Ipc => ("ipc", &mut namespaces.ipc),
                LinuxNamespaceType::Uts => ("uts", &mut namespaces.uts),
                LinuxNamespaceType::Cgroup => ("cgroup", &mut namespaces.cgroup),
                LinuxNamespaceType::Time => {
                    return Err(field.key("type").unsupported("time namespaces are not supported"));
                }
            };
            // "If a `namespaces` field contains duplicated namespaces with same `type`, the runtime MUST generate an
            // error." - OCI config-linux.md
            if *slot != NamespaceSource::Inherit {
                return Err(field.key("type").error(format_args!("{name} appears twice")));
            }
            *slot = match namespace.path() {
                // An empty string is how Go writes an absent path.
                Some(path) if !path.as_os_str().is_empty() => {
                    NamespaceSource::Path(field.key("path").absolute(path)?)
                }
                _ => NamespaceSource::New,
            };
        }
        Ok(namespaces)
    }
}

impl NamespaceSource {
    /// Whether the container has its own namespace of this type, or one somebody made for it.
    pub(super) fn is_listed(&self) -> bool {
        *self != Self::Inherit
    }
}

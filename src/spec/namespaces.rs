//! `linux.namespaces`: which are new, which are joined, which are the host's.

use super::field::Field;
use crate::error::Result;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, LinuxTimeOffset};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// The namespace types of `linux.namespaces[].type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
// The OCI words for the namespaces of namespaces(7).
pub(crate) enum NamespaceKind {
    User,
    Mount,
    Pid,
    Network,
    Ipc,
    Uts,
    Cgroup,
    Time,
}

/// Where a namespace comes from. For mounts, every other source than [`New`](Self::New) means that the container enters
/// its root by chroot(2) only, and that its root is in no mount namespace at all: see
/// [`manual::oci`](crate::manual::oci).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NamespaceSource {
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
// One field per NamespaceKind.
pub(crate) struct Namespaces {
    pub(crate) user: NamespaceSource,
    pub(crate) mount: NamespaceSource,
    pub(crate) pid: NamespaceSource,
    pub(crate) network: NamespaceSource,
    pub(crate) ipc: NamespaceSource,
    pub(crate) uts: NamespaceSource,
    pub(crate) cgroup: NamespaceSource,
    pub(crate) time: NamespaceSource,
}

/// One entry of `linux.timeOffsets`: how far ahead the clock is in the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TimeOffset {
    /// Which clock.
    pub(crate) clock: Clock,
    /// `secs`; negative sets it back.
    pub(crate) seconds: i64,
    /// `nanosecs`, below 1000000000.
    pub(crate) nanoseconds: u32,
}

/// The clocks a time namespace has of its own (time_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Clock {
    /// `CLOCK_MONOTONIC`, with its coarse and raw variants.
    Monotonic,
    /// `CLOCK_BOOTTIME`, with its alarm.
    Boottime,
}

impl Clock {
    /// The name in `linux.timeOffsets` and in `/proc/PID/timens_offsets`.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Monotonic => "monotonic",
            Self::Boottime => "boottime",
        }
    }
}

/// Checks `linux.timeOffsets`.
pub(super) fn time_offsets(
    linux: &Field<'_>,
    offsets: Option<&HashMap<String, LinuxTimeOffset>>,
    namespaces: &Namespaces,
) -> Result<Vec<TimeOffset>> {
    const NANOSECONDS: u32 = 1_000_000_000;
    let field = linux.key("timeOffsets");
    // Sorted first: the same document must give the same error each time.
    let offsets: BTreeMap<_, _> = offsets.into_iter().flatten().collect();
    if !offsets.is_empty() && namespaces.time != NamespaceSource::New {
        let error = field.error("needs a new time namespace");
        return Err(error.hint("add {\"type\": \"time\"} to linux.namespaces"));
    }
    let check = |(name, offset): (&String, &LinuxTimeOffset)| {
        let field = field.key(name);
        let clock = [Clock::Monotonic, Clock::Boottime].into_iter().find(|clock| clock.as_str() == name);
        let unknown = || field.error("is not a clock of a time namespace").hint("use monotonic or boottime");
        let clock = clock.ok_or_else(unknown)?;
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        if nanoseconds >= NANOSECONDS {
            let error = field.key("nanosecs").error(format_args!("{nanoseconds} is not below {NANOSECONDS}"));
            return Err(error);
        }
        Ok(TimeOffset { clock, seconds: offset.secs().unwrap_or(0), nanoseconds })
    };
    offsets.into_iter().map(check).collect()
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
                LinuxNamespaceType::Time => ("time", &mut namespaces.time),
            };
            // "If a `namespaces` field contains duplicated namespaces with same `type`, the runtime MUST generate an
            // error." - OCI config-linux.md
            if *slot != NamespaceSource::Inherit {
                return Err(field.key("type").error(format_args!("{name} appears twice")));
            }
            *slot = match namespace.path() {
                // Go writes an absent path as an empty string.
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
    /// Whether the configuration lists this type: the container gets a new namespace, or joins an existing one.
    pub(super) fn is_listed(&self) -> bool {
        *self != Self::Inherit
    }
}

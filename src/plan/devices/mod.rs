//! `linux.resources.devices`: which device numbers a container's cgroup lets through, and what that takes. Pure.
//!
//! What lives here: what the rules of a configuration say once the runtime's own are added to them, and whether a
//! container can do without their being enforced. How each version of the cgroup interface is told is in [`v1`] and
//! [`program`]. What may not: which cgroup it is, and telling the kernel.
//!
//! # How rules are read
//!
//! They form an allow list ("configures the allowed device list", OCI config-linux.md): where there is any, everything
//! is denied to begin with. They apply in order, and each of reading, writing and making a node is decided by itself,
//! by the last rule that speaks of it for that number; to open a device for reading and writing takes both. After those
//! of the configuration come [`DEFAULTS`], which therefore cannot be taken away: what a container's `/dev` always has,
//! and making nodes of any number, which without the right to open them is harmless. runc and crun do the same; also as
//! with them, a node of `linux.devices` is made and not for that reason allowed.

#[cfg(any(test, fuzzing))]
pub(crate) mod interpret;
mod program;
mod v1;

pub(crate) use program::DeviceProgram;

use crate::error::{Error, Result};
use crate::spec::{
    CapSet, DeviceAccess, DeviceRule, DeviceRuleKind, NamespaceSource, ValidProcess, ValidSpec,
};
use std::collections::HashMap;

/// The configuration field, for messages.
pub(crate) const FIELD: &str = "linux.resources.devices";

/// The device rules of a container, where they deny anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceLimits {
    /// What each rule says that no later one takes back, in their order.
    entries: Vec<Entry>,
    /// Whether the container could reach what they deny if nothing enforced them.
    pub(crate) required: bool,
}

/// A rule, about one type of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    allow: bool,
    pattern: Pattern,
    access: DeviceAccess,
}

/// A set of device numbers; `None` stands for all numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Pattern {
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
}

/// The type of a device, with the values of `BPF_DEVCG_DEV_*` (linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Block = 1,
    Char = 2,
}

/// Allowed after everything else: nodes of any device may be made; null, zero, full, random, urandom and tty ("Default
/// Devices", OCI config-linux.md), console, the multiplexer of terminals, and terminals (Linux admin-guide/devices.txt)
/// may be used.
const DEFAULTS: [(Kind, Option<u32>, Option<u32>, DeviceAccess); 11] = [
    (Kind::Char, None, None, DeviceAccess::MKNOD),
    (Kind::Block, None, None, DeviceAccess::MKNOD),
    (Kind::Char, Some(1), Some(3), DeviceAccess::all()),
    (Kind::Char, Some(1), Some(5), DeviceAccess::all()),
    (Kind::Char, Some(1), Some(7), DeviceAccess::all()),
    (Kind::Char, Some(1), Some(8), DeviceAccess::all()),
    (Kind::Char, Some(1), Some(9), DeviceAccess::all()),
    (Kind::Char, Some(5), Some(0), DeviceAccess::all()),
    (Kind::Char, Some(5), Some(1), DeviceAccess::all()),
    (Kind::Char, Some(5), Some(2), DeviceAccess::all()),
    (Kind::Char, Some(136), None, DeviceAccess::all()),
];

impl DeviceLimits {
    /// Those of `spec`, for a caller that may be `in_user_namespace` itself; `None` where it has no rules, or they deny
    /// nothing.
    pub(crate) fn of(spec: &ValidSpec, in_user_namespace: bool) -> Option<Self> {
        Self::new(&spec.resources.devices, makes_nodes(&spec.process, spec, in_user_namespace))
    }

    /// Those of `spec`, where `process`, executed in it, could reach what they deny, and the container's own processes
    /// could not: then they may be without effect.
    pub(crate) fn of_exec(process: &ValidProcess, spec: &ValidSpec, in_user_namespace: bool) -> Option<Self> {
        let limits = Self::of(spec, in_user_namespace).filter(|limits| !limits.required)?;
        makes_nodes(process, spec, in_user_namespace).then_some(limits)
    }

    /// What these rules come to; `None` where there are none, or they deny nothing.
    pub(crate) fn new(rules: &[DeviceRule], required: bool) -> Option<Self> {
        let entries = settled(rules);
        let deny = !rules.is_empty() && entries.iter().any(|entry| !entry.allow);
        deny.then_some(Self { entries, required })
    }

    /// On a host that cannot enforce them, and says why: nothing to do where that is not needed.
    ///
    /// # Errors
    /// [`Unsupported`](crate::error::ErrorKind::Unsupported) where it is.
    pub(crate) fn do_without(&self, why: &str) -> Result<()> {
        if !self.required {
            return Ok(());
        }
        Err(Error::unsupported(FIELD, format!("a container with CAP_MKNOD could make any device, and {why}"))
            .hint("drop CAP_MKNOD from process.capabilities.bounding, or add a user namespace"))
    }
}

/// Whether `process`, or what it executes, could make nodes of devices in the container that `spec` describes.
///
/// In a user namespace the kernel refuses mknod(2) of devices whatever the capabilities, and without it there is no node
/// that the configuration did not ask for: `/dev` is ours, and the root shows none.
fn makes_nodes(process: &ValidProcess, spec: &ValidSpec, in_user_namespace: bool) -> bool {
    process.capabilities.any().contains(CapSet::MKNOD)
        && spec.namespaces.user == NamespaceSource::Inherit
        && !in_user_namespace
}

/// The rules with what comes before and after them, each reduced to what no later one decides for all its devices.
fn settled(rules: &[DeviceRule]) -> Vec<Entry> {
    let kinds = |kind| match kind {
        DeviceRuleKind::All => &[Kind::Block, Kind::Char][..],
        DeviceRuleKind::Block => &[Kind::Block],
        DeviceRuleKind::Char => &[Kind::Char],
    };
    let nothing = [Kind::Block, Kind::Char].map(|kind| {
        let pattern = Pattern { kind, major: None, minor: None };
        Entry { allow: false, pattern, access: DeviceAccess::all() }
    });
    let asked = rules.iter().flat_map(|rule| {
        kinds(rule.kind).iter().map(|&kind| {
            let pattern = Pattern { kind, major: rule.major, minor: rule.minor };
            Entry { allow: rule.allow, pattern, access: rule.access }
        })
    });
    let defaults = DEFAULTS.into_iter().map(|(kind, major, minor, access)| {
        let pattern = Pattern { kind, major, minor };
        Entry { allow: true, pattern, access }
    });

    let mut entries: Vec<Entry> = nothing.into_iter().chain(asked).chain(defaults).collect();
    let mut decided: HashMap<Pattern, DeviceAccess> = HashMap::new();
    for entry in entries.iter_mut().rev() {
        let later = entry.pattern.wider().into_iter().filter_map(|wider| decided.get(&wider));
        let later = later.fold(DeviceAccess::empty(), |all, access| all | *access);
        *decided.entry(entry.pattern).or_default() |= entry.access;
        entry.access -= later;
    }
    entries.retain(|entry| !entry.access.is_empty());
    entries
}

impl Pattern {
    /// The patterns that have every number of this one, itself among them.
    fn wider(self) -> [Self; 4] {
        [
            self,
            Self { minor: None, ..self },
            Self { major: None, ..self },
            Self { major: None, minor: None, ..self },
        ]
    }

    /// Whether some device is in both.
    fn meets(self, other: Self) -> bool {
        let meet = |one: Option<u32>, other: Option<u32>| one.is_none() || other.is_none() || one == other;
        self.kind == other.kind && meet(self.major, other.major) && meet(self.minor, other.minor)
    }

    /// The devices in both, where there are any.
    fn both(self, other: Self) -> Option<Self> {
        let (major, minor) = (self.major.or(other.major), self.minor.or(other.minor));
        self.meets(other).then_some(Self { major, minor, ..self })
    }
}

#[cfg(test)]
mod tests;

//! `linux.resources.devices`: the device numbers that a container's cgroup allows. Pure.
//!
//! This file adds the runtime's own rules to those of the configuration, and decides whether the host must enforce
//! them. [`v1`] and [`program`] write them for each version of the cgroup interface. The cgroup is chosen in
//! [`cgroup`](super::cgroup).
//!
//! # How rules are read
//!
//! They form an allow list ("configures the allowed device list", OCI config-linux.md): if there is any rule, every
//! device that no rule allows is denied. Rules apply in order. For reading, for writing and for making a node, the last
//! rule about that access and that number decides; to open a device for reading and writing, a process needs both.
//! [`DEFAULTS`] come after the rules of the configuration, so no rule can deny them: the devices that a container's
//! `/dev` always has, and making nodes of any number, which is harmless without the right to open them. runc and crun
//! do the same. Also as with them, a device of `linux.devices` gets its node, and needs a rule to be opened.

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

/// The device rules of a container that deny some access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceLimits {
    /// The rules in order, each without the accesses that a later one decides.
    entries: Vec<Entry>,
    /// Whether the container could open a denied device if the host did not enforce them.
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
    /// The rules of `spec`, for a caller that may be `in_user_namespace` itself. `None` if they deny nothing.
    pub(crate) fn of(spec: &ValidSpec, in_user_namespace: bool) -> Option<Self> {
        Self::new(&spec.resources.devices, makes_nodes(&spec.process, spec, in_user_namespace))
    }

    /// The rules of `spec`, if `process` could open a denied device in the container and the container's own processes
    /// could not. The host may not enforce them then, because they were not [`required`](Self::required) at creation.
    pub(crate) fn of_exec(process: &ValidProcess, spec: &ValidSpec, in_user_namespace: bool) -> Option<Self> {
        let limits = Self::of(spec, in_user_namespace).filter(|limits| !limits.required)?;
        makes_nodes(process, spec, in_user_namespace).then_some(limits)
    }

    /// `None` if there are no rules, or if they deny nothing.
    pub(crate) fn new(rules: &[DeviceRule], required: bool) -> Option<Self> {
        let entries = settled(rules);
        let deny = !rules.is_empty() && entries.iter().any(|entry| !entry.allow);
        deny.then_some(Self { entries, required })
    }

    /// Accepts a host that cannot enforce the rules, for the reason `why`.
    ///
    /// # Errors
    /// [`Unsupported`](crate::error::ErrorKind::Unsupported) if they must be enforced.
    pub(crate) fn do_without(&self, why: &str) -> Result<()> {
        if !self.required {
            return Ok(());
        }
        Err(Error::unsupported(FIELD, format!("a container with CAP_MKNOD could make any device, and {why}"))
            .hint("drop CAP_MKNOD from process.capabilities.bounding, or add a user namespace"))
    }
}

/// Whether `process`, or a program that it executes, could make device nodes in the container that `spec` describes.
///
/// In a user namespace the kernel refuses mknod(2) of devices, whatever the capabilities. A container that cannot make
/// nodes has only those of its configuration: init fills `/dev`, and the root is mounted with `nodev`.
fn makes_nodes(process: &ValidProcess, spec: &ValidSpec, in_user_namespace: bool) -> bool {
    process.capabilities.any().contains(CapSet::MKNOD)
        && spec.namespaces.user == NamespaceSource::Inherit
        && !in_user_namespace
}

/// The rules between the initial denial and [`DEFAULTS`], each without the accesses that a later one decides for all of
/// its devices.
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

    /// Whether the two patterns have a device in common.
    fn meets(self, other: Self) -> bool {
        let meet = |one: Option<u32>, other: Option<u32>| one.is_none() || other.is_none() || one == other;
        self.kind == other.kind && meet(self.major, other.major) && meet(self.minor, other.minor)
    }

    /// The devices that both patterns have, if any.
    fn both(self, other: Self) -> Option<Self> {
        let (major, minor) = (self.major.or(other.major), self.minor.or(other.minor));
        self.meets(other).then_some(Self { major, minor, ..self })
    }
}

#[cfg(test)]
mod tests;

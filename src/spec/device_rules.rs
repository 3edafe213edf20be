//! `linux.resources.devices`: which devices the container's cgroup allows.

use super::field::{Field, shorten};
use crate::error::Result;
use bitflags::bitflags;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use serde::{Deserialize, Serialize};

/// One entry of `linux.resources.devices`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceRule {
    /// `allow`: whether matching devices may be used.
    pub(crate) allow: bool,
    /// `type`; every type where absent.
    pub(crate) kind: DeviceRuleKind,
    /// `major`; every one where absent or -1.
    pub(crate) major: Option<u32>,
    /// `minor`; every one where absent or -1.
    pub(crate) minor: Option<u32>,
    /// `access`: the operations that the rule covers, at least one; all where absent, as for the numbers.
    pub(crate) access: DeviceAccess,
}

/// `linux.resources.devices[].type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DeviceRuleKind {
    /// `a`, or absent.
    All,
    /// `c` or `u`.
    Char,
    /// `b`.
    Block,
}

bitflags! {
    /// `linux.resources.devices[].access`, with the values of `BPF_DEVCG_ACC_*` (linux/bpf.h).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(transparent)]
    pub(crate) struct DeviceAccess: u8 {
        /// `m`.
        const MKNOD = 1;
        /// `r`.
        const READ = 2;
        /// `w`.
        const WRITE = 4;
    }
}

/// The most rules of one configuration. The effect of a rule depends on all others. Engines write about ten.
const MAX_RULES: usize = 4096;

/// Checks `linux.resources.devices`.
pub(super) fn device_rules(field: &Field<'_>, rules: &[LinuxDeviceCgroup]) -> Result<Vec<DeviceRule>> {
    if rules.len() > MAX_RULES {
        return Err(field.error(format_args!("has {} entries, the limit is {MAX_RULES}", rules.len())));
    }
    rules.iter().enumerate().map(|(index, rule)| DeviceRule::new(&field.index(index), rule)).collect()
}

impl DeviceRule {
    fn new(field: &Field<'_>, rule: &LinuxDeviceCgroup) -> Result<Self> {
        let number = |name: &str, number: Option<i64>| match number {
            // Engines write -1 for "every number".
            None | Some(-1) => Ok(None),
            Some(number) => match u32::try_from(number) {
                Ok(number) => Ok(Some(number)),
                Err(_) => {
                    Err(field.key(name).error(format_args!("{number} is not between -1 and {}", u32::MAX)))
                }
            },
        };
        let kind = match rule.typ() {
            None | Some(LinuxDeviceType::A) => DeviceRuleKind::All,
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => DeviceRuleKind::Char,
            Some(LinuxDeviceType::B) => DeviceRuleKind::Block,
            Some(LinuxDeviceType::P) => {
                let error = field.key("type").error("\"p\" has no device number to match");
                return Err(error.hint("use a, b, c or u"));
            }
        };
        Ok(Self {
            allow: rule.allow(),
            kind,
            major: number("major", rule.major())?,
            minor: number("minor", rule.minor())?,
            access: match rule.access() {
                Some(letters) => access(&field.key("access"), letters)?,
                None => DeviceAccess::all(),
            },
        })
    }
}

fn access(field: &Field<'_>, letters: &str) -> Result<DeviceAccess> {
    if letters.is_empty() {
        return Err(field.error("is empty").hint("use some of r, w and m"));
    }
    let mut access = DeviceAccess::empty();
    for letter in letters.chars() {
        access |= match letter {
            'r' => DeviceAccess::READ,
            'w' => DeviceAccess::WRITE,
            'm' => DeviceAccess::MKNOD,
            _ => {
                let error = field.error(format_args!("unknown access {:?}", shorten(letters)));
                return Err(error.hint("use some of r, w and m"));
            }
        };
    }
    Ok(access)
}

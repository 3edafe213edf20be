//! `process.capabilities`: names to bit masks, and which of the five sets must contain which.

use super::field::{Field, Origin, shorten};
use crate::error::{Error, Result};
use bitflags::bitflags;
use oci_spec::runtime;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The five capability sets of `process.capabilities`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Capabilities {
    /// `bounding`.
    pub(crate) bounding: CapSet,
    /// `effective`: within `permitted`.
    pub(crate) effective: CapSet,
    /// `inheritable`.
    pub(crate) inheritable: CapSet,
    /// `permitted`.
    pub(crate) permitted: CapSet,
    /// `ambient`: within `permitted` and `inheritable`.
    pub(crate) ambient: CapSet,
}

bitflags! {
    /// A set of Linux capabilities as the kernel's bit mask: bit `n` is capability number `n` (capabilities(7)).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(transparent)]
    pub(crate) struct CapSet: u64 {
        /// `CAP_DAC_OVERRIDE`, with which any bit of a file's mode is enough to execute it.
        const DAC_OVERRIDE = 1 << 1;
        /// `CAP_SYS_ADMIN`, which the mount and seccomp code checks for.
        const SYS_ADMIN = 1 << 21;
        /// `CAP_MKNOD`, which makes rules about devices matter.
        const MKNOD = 1 << 27;
        /// Every other capability, those of future kernels included.
        const _ = !0;
    }
}

/// Reads capability names into a set: `CAP_KILL`, also `KILL`, in any case (capabilities(7)). A name may appear twice.
///
/// # Errors
/// [`ErrorKind::InvalidSpec`](crate::error::ErrorKind::InvalidSpec) at `PATH[INDEX]` for an unknown name.
pub(crate) fn parse_capability_set<S: AsRef<str>>(origin: Origin, path: &str, names: &[S]) -> Result<CapSet> {
    let mut set = CapSet::empty();
    for (index, name) in names.iter().enumerate() {
        let name = name.as_ref();
        set |= by_name(name)
            .ok_or_else(|| Error::spec(origin.as_str(), format!("{path}[{index}]"), unknown(name)))?;
    }
    Ok(set)
}

fn by_name(name: &str) -> Option<CapSet> {
    let upper = name.to_ascii_uppercase();
    let canonical = format!("CAP_{}", upper.trim_start_matches("CAP_"));
    canonical
        .parse::<caps::Capability>()
        .ok()
        .map(|capability| CapSet::from_bits_retain(capability.bitmask()))
}

fn unknown(name: &str) -> String {
    format!("unknown capability {:?}", shorten(name))
}

/// The properties of `process.capabilities`.
const SETS: [&str; 5] = ["bounding", "effective", "inheritable", "permitted", "ambient"];

/// Takes unknown names out of `process`, with a warning: `oci-spec` has a closed set of them. The typed reader refuses
/// wrong types later. "Any value which cannot be mapped to a relevant kernel interface, or cannot be granted otherwise,
/// MUST be logged as a warning by the runtime." - OCI config.md
pub(super) fn drop_unknown(process: &Field<'_>, value: &mut Value) {
    let field = process.key("capabilities");
    let Some(sets) = value.get_mut("capabilities").and_then(Value::as_object_mut) else { return };
    for set in SETS {
        let Some(names) = sets.get_mut(set).and_then(Value::as_array_mut) else { continue };
        let field = field.key(set);
        let mut index = 0..;
        names.retain(|name| {
            let index = index.next().expect("more numbers than names");
            match name {
                Value::String(name) if by_name(name).is_none() => {
                    field.index(index).warn(unknown(name));
                    false
                }
                _ => true,
            }
        });
    }
}

impl Capabilities {
    /// The sets under `process`, all empty where the field is absent.
    pub(super) fn new(process: &Field<'_>, sets: Option<&runtime::LinuxCapabilities>) -> Result<Self> {
        let Some(sets) = sets else {
            return Ok(Self::default());
        };
        let field = process.key("capabilities");
        let read = |name: &str, names: &Option<runtime::Capabilities>| match names {
            Some(names) => collect(&field.key(name), names),
            None => Ok(CapSet::empty()),
        };
        let mut this = Self {
            bounding: read("bounding", sets.bounding())?,
            effective: read("effective", sets.effective())?,
            inheritable: read("inheritable", sets.inheritable())?,
            permitted: read("permitted", sets.permitted())?,
            ambient: read("ambient", sets.ambient())?,
        };
        within(&field.key("effective"), this.effective, "permitted", this.permitted)?;
        if sets.inheritable().is_none() {
            // `runc spec` of 1.1 lists ambient capabilities and leaves `inheritable` out. "No capability can ever be
            // ambient if it is not both permitted and inheritable" (capabilities(7)), so the set it means is empty.
            this.ambient = CapSet::empty();
        }
        let ambient = field.key("ambient");
        for (name, outer) in [("permitted", this.permitted), ("inheritable", this.inheritable)] {
            match within(&ambient, this.ambient, name, outer) {
                Err(error) if field.is_built() => return Err(error),
                // The kernel does not grant it, and a workload that does not need it runs.
                Err(_) => ambient.warn(format_args!("{} not in {name}", names_of(this.ambient - outer))),
                Ok(()) => {}
            }
            this.ambient &= outer;
        }
        Ok(this)
    }

    /// The union of the sets: every capability that the process, or a program that it executes, could get.
    pub(crate) fn any(self) -> CapSet {
        self.bounding | self.effective | self.inheritable | self.permitted | self.ambient
    }
}

fn collect(field: &Field<'_>, names: &runtime::Capabilities) -> Result<CapSet> {
    let mut set = CapSet::empty();
    for name in names {
        set |= by_name(&name.to_string()).ok_or_else(|| field.error(unknown(&name.to_string())))?;
    }
    Ok(set)
}

fn within(field: &Field<'_>, set: CapSet, outer_name: &str, outer: CapSet) -> Result<()> {
    match set - outer {
        excess if excess.is_empty() => Ok(()),
        excess => Err(field.error(format_args!("{} not in {outer_name}", names_of(excess)))),
    }
}

/// `CAP_KILL is`, or `CAP_CHOWN and CAP_KILL are`.
fn names_of(set: CapSet) -> String {
    let numbers = (0..u64::BITS as u8).filter(|bit| set.bits() >> bit & 1 == 1);
    let name = |number: u8| {
        let known = caps::all().into_iter().find(|capability| capability.index() == number);
        known.map_or_else(|| format!("capability {number}"), |capability| capability.to_string())
    };
    let names: Vec<_> = numbers.map(name).collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_libraries_agree_on_every_name() {
        for capability in caps::all() {
            let name = capability.to_string();
            let parsed: runtime::Capability = serde_json::from_value(name.clone().into()).unwrap();
            assert_eq!(by_name(&parsed.to_string()), by_name(&name));
            assert_eq!(by_name(&name).unwrap().bits(), 1 << capability.index());
        }
        assert_eq!(by_name("sys_admin"), Some(CapSet::SYS_ADMIN));
    }

    #[test]
    fn an_unknown_name_is_reported_with_its_index() {
        let error =
            parse_capability_set(Origin::Builder, "exec.capabilities", &["CAP_KILL", "CAP_FLY"]).unwrap_err();
        assert_eq!(error.to_string(), "builder: exec.capabilities[1]: unknown capability \"CAP_FLY\"");
    }
}

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

/// Refuses unknown names while their index is known: `oci-spec` reads them into sets. The typed reader refuses wrong
/// types later.
pub(super) fn check_names(document: &Field<'_>, value: &Value) -> Result<()> {
    let (process, sets) = (document.key("process"), &value["process"]["capabilities"]);
    let capabilities = process.key("capabilities");
    for set in SETS {
        let field = capabilities.key(set);
        for (index, name) in sets[set].as_array().into_iter().flatten().enumerate() {
            if let Value::String(name) = name
                && by_name(name).is_none()
            {
                return Err(field.index(index).error(unknown(name)));
            }
        }
    }
    Ok(())
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
        within(&field.key("ambient"), this.ambient, "permitted", this.permitted)?;
        if sets.inheritable().is_none() {
            // `runc spec` of 1.1 lists ambient capabilities and leaves `inheritable` out. "No capability can ever be
            // ambient if it is not both permitted and inheritable" (capabilities(7)), so the set it means is empty.
            this.ambient = CapSet::empty();
        }
        within(&field.key("ambient"), this.ambient, "inheritable", this.inheritable)?;
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
    let excess = set - outer;
    match (0..u64::BITS as u8).find(|bit| excess.bits() >> bit & 1 == 1) {
        None => Ok(()),
        Some(number) => {
            let name = caps::all().into_iter().find(|capability| capability.index() == number);
            let name =
                name.map_or_else(|| format!("capability {number}"), |capability| capability.to_string());
            Err(field.error(format_args!("{name} is not in {outer_name}")))
        }
    }
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

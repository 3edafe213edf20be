//! Device rules for cgroup v1 (kernel: admin-guide/cgroup-v1/devices): a default, and a list of exceptions from it.

use super::{DeviceLimits, Entry, FIELD, Kind, Pattern};
use crate::error::{Error, Result};
use crate::plan::cgroup::{PlannedWrite, Value};
use crate::spec::DeviceAccess;
use std::collections::BTreeMap;
use std::fmt;

impl DeviceLimits {
    /// The writes into the files of the `devices` controller. The first resets the rules that the cgroup had before.
    ///
    /// # Errors
    /// [`Unsupported`](crate::error::ErrorKind::Unsupported) for rules that need an exception from an exception, which
    /// the kernel does not have.
    pub(crate) fn v1_writes(&self) -> Result<Vec<PlannedWrite>> {
        let all_but = match self.exceptions(true) {
            Ok(allowed) => (false, complete(allowed)),
            Err(contradiction) => match self.exceptions(false) {
                Ok(denied) => (true, denied),
                Err(_) => return Err(contradiction),
            },
        };
        let (default, exceptions) = all_but;
        let write = |allow: bool, text: String| PlannedWrite {
            file: if allow { "devices.allow" } else { "devices.deny" }.into(),
            value: Value::Text(text),
            field: FIELD.into(),
        };
        let exceptions = exceptions
            .into_iter()
            .map(|(pattern, access)| write(!default, format!("{pattern} {}", Letters(access))));
        Ok(std::iter::once(write(default, "a".into())).chain(exceptions).collect())
    }

    /// The exceptions that allow (or with `allow` false, deny) access if the opposite is the default.
    fn exceptions(&self, allow: bool) -> Result<BTreeMap<Pattern, DeviceAccess>> {
        let mut exceptions: Vec<Entry> = Vec::new();
        for entry in &self.entries {
            if entry.allow == allow {
                exceptions.push(*entry);
                continue;
            }
            // `settled` removed the earlier exceptions that lie wholly inside of this entry. One that still has
            // accesses in common with it would need an exception from the exception.
            let cut = exceptions.iter().find(|earlier| {
                earlier.access.intersects(entry.access) && earlier.pattern.meets(entry.pattern)
            });
            if let Some(earlier) = cut {
                let verb = |allow| if allow { "allow" } else { "deny" };
                let why = format!(
                    "cgroup v1 cannot {} \"{}\" but {} \"{}\" of it",
                    verb(allow),
                    earlier.pattern,
                    verb(!allow),
                    entry.pattern
                );
                return Err(Error::unsupported(FIELD, why).hint(
                    "replace the rule for the larger set by rules for the devices that it is meant for",
                ));
            }
        }
        let mut merged = BTreeMap::new();
        for Entry { pattern, access, .. } in exceptions {
            *merged.entry(pattern).or_default() |= access;
        }
        Ok(merged)
    }
}

/// The same exceptions, extended so that each access that several allow together is in a single one: the kernel looks
/// for one exception that allows all of an access.
fn complete(mut allowed: BTreeMap<Pattern, DeviceAccess>) -> BTreeMap<Pattern, DeviceAccess> {
    let all = |pattern: &&Pattern| pattern.major.is_none() && pattern.minor.is_some();
    let minors: Vec<Pattern> = allowed.keys().filter(all).copied().collect();
    let majors: Vec<Pattern> = allowed
        .keys()
        .filter(|pattern| pattern.major.is_some() && pattern.minor.is_none())
        .copied()
        .collect();
    for crossing in minors.iter().flat_map(|minor| majors.iter().filter_map(|major| minor.both(*major))) {
        allowed.entry(crossing).or_default();
    }
    let together = |pattern: &Pattern| {
        let wider = pattern.wider().into_iter().filter_map(|wider| allowed.get(&wider));
        wider.fold(DeviceAccess::empty(), |all, access| all | *access)
    };
    allowed.keys().map(|pattern| (*pattern, together(pattern))).collect()
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Block => 'b',
            Kind::Char => 'c',
        };
        let number = |number: Option<u32>| number.map_or("*".into(), |number| number.to_string());
        write!(f, "{kind} {}:{}", number(self.major), number(self.minor))
    }
}

/// An access in the kernel's letters.
struct Letters(DeviceAccess);

impl fmt::Display for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [(DeviceAccess::READ, "r"), (DeviceAccess::WRITE, "w"), (DeviceAccess::MKNOD, "m")];
        letters
            .iter()
            .filter(|(access, _)| self.0.contains(*access))
            .try_for_each(|(_, letter)| f.write_str(letter))
    }
}

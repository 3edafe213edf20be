//! The machine under a process, as far as its memory depends on it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How the extensions of the instruction set begin that programs of x86-64 look for when they start, and then use. The
/// kernel's list has the features of the kernel and of virtual machines besides.
const EXTENSIONS: [&str; 30] = [
    "abm",
    "adx",
    "aes",
    "amx",
    "avx",
    "bmi",
    "cldemote",
    "clflushopt",
    "clwb",
    "cx16",
    "f16c",
    "fma",
    "fsgsbase",
    "gfni",
    "lahf",
    "movbe",
    "movdir",
    "ospke",
    "pclmulqdq",
    "popcnt",
    "rdpid",
    "rdrand",
    "rdseed",
    "rdtscp",
    "sha_ni",
    "sse",
    "ssse3",
    "vaes",
    "vpclmulqdq",
    "xsave",
];

/// Where a process was when it was written down, or would be now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    /// The kernel's release, as uname(2) has it.
    pub(crate) kernel: String,
    /// The architecture, as uname(2) has it: `x86_64`, `aarch64`.
    pub(crate) architecture: String,
    /// The extensions of the instruction set that every processor has.
    pub(crate) extensions: BTreeSet<String>,
}

impl Machine {
    /// Of the text of `/proc/cpuinfo`.
    pub(super) fn new(kernel: String, architecture: String, cpuinfo: &str) -> Self {
        let lists = cpuinfo.lines().filter_map(|line| {
            let (key, list) = line.split_once(':')?;
            // x86-64 calls them flags, AArch64 features, all of which programs see.
            let all = match key.trim_end() {
                "flags" => false,
                "Features" => true,
                _ => return None,
            };
            let known = |word: &&str| all || EXTENSIONS.iter().any(|name| word.starts_with(name));
            Some(list.split_ascii_whitespace().filter(known).map(str::to_owned).collect::<BTreeSet<_>>())
        });
        let extensions = lists.reduce(|one, other| &one & &other).unwrap_or_default();
        Self { kernel, architecture, extensions }
    }

    /// Why a process of `other` cannot go on here, if that is so.
    pub(crate) fn refuses(&self, other: &Self) -> Option<String> {
        if self.architecture != other.architecture {
            return Some(format!(
                "it is of {}, and this machine is {}",
                other.architecture, self.architecture
            ));
        }
        let missing: Vec<_> = other.extensions.difference(&self.extensions).map(String::as_str).collect();
        (!missing.is_empty())
            .then(|| format!("the processors of this machine do not have {}", missing.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTEL: &str = "processor\t: 0\nflags\t\t: fpu sse4_2 avx2 pti hypervisor xsavec\nbugs\t: x\n\n\
                         processor\t: 1\nflags\t\t: fpu sse4_2 avx2 avx512f pti xsavec\n";
    const ARM: &str = "processor\t: 0\nFeatures\t: fp asimd sve\nCPU part\t: 0xd0c\n";

    fn machine(architecture: &str, cpuinfo: &str) -> Machine {
        Machine::new("6.18.0".into(), architecture.into(), cpuinfo)
    }

    #[test]
    fn only_what_every_processor_has_and_programs_use_counts() {
        let words = |machine: Machine| machine.extensions.into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(words(machine("x86_64", INTEL)), "avx2 sse4_2 xsavec");
        assert_eq!(words(machine("aarch64", ARM)), "asimd fp sve");
        assert_eq!(words(machine("x86_64", "")), "");
    }

    #[test]
    fn a_machine_refuses_another_architecture_and_what_its_processors_lack() {
        let (intel, arm) = (machine("x86_64", INTEL), machine("aarch64", ARM));
        assert_eq!(intel.refuses(&intel), None);
        assert_eq!(intel.refuses(&arm).unwrap(), "it is of aarch64, and this machine is x86_64");
        let older = machine("x86_64", "flags : sse4_2");
        assert_eq!(intel.refuses(&older), None);
        assert_eq!(older.refuses(&intel).unwrap(), "the processors of this machine do not have avx2 xsavec");
    }
}

//! The attributes of a process besides its privileges: scheduling, I/O priority, processors and memory nodes, and its
//! personality(2).

use super::field::{Field, shorten};
use crate::error::Result;
use oci_spec::runtime;
use oci_spec::runtime::{
    IOPriorityClass, LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy, MemoryPolicyFlagType,
    MemoryPolicyModeType,
};
use serde::{Deserialize, Serialize};

/// A set of small numbers, processors or memory nodes: bit N of word N / 64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NumberSet(pub(crate) Vec<u64>);

/// `process.ioPriority` as ioprio_set(2) takes it: the class above the level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IoPriority(pub(crate) u16);

/// `process.scheduler`, as the fields of `struct sched_attr` (sched_setattr(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
// The fields of sched_setattr(2).
pub(crate) struct Scheduler {
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
}

/// `process.execCPUAffinity`: "This setting is not applicable to the container's init process" - OCI config.md.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExecCpuAffinity {
    /// Before the process joins the container's cgroups.
    pub(crate) initial: Option<NumberSet>,
    /// After that.
    pub(crate) last: Option<NumberSet>,
}

/// `linux.memoryPolicy`, as set_mempolicy(2) takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemoryPolicy {
    /// `MPOL_*`, with the mode flags.
    pub(crate) mode: u32,
    /// The nodes; empty where the mode takes none.
    pub(crate) nodes: NumberSet,
}

/// `linux.personality`, as personality(2) takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Personality(pub(crate) u32);

impl NumberSet {
    /// Every number that a processor can have.
    pub(crate) fn every_processor() -> Self {
        Self(vec![u64::MAX; MAX_CPUS.div_ceil(64)])
    }

    /// Reads a list such as `0-3,7` of numbers below `limit`.
    fn new(field: &Field<'_>, list: &str, limit: usize) -> Result<Self> {
        let bad = || {
            let error = field.error(format_args!("{:?} is not a list", shorten(list)));
            error.hint(format!("write it as in 0-3,7, with numbers below {limit}"))
        };
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse::<usize>().ok().filter(|number| *number < limit),
            false => None,
        };
        let mut words = Vec::new();
        for range in list.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = number(first).zip(number(last)).filter(|(a, b)| a <= b).ok_or_else(bad)?;
            words.resize(words.len().max(last / 64 + 1), 0_u64);
            (first..=last).for_each(|number| words[number / 64] |= 1 << (number % 64));
        }
        Ok(Self(words))
    }
}

/// The levels within a class (ioprio_set(2)).
const IO_LEVELS: i64 = 8;

impl IoPriority {
    pub(super) fn new(field: &Field<'_>, asked: &runtime::LinuxIOPriority) -> Result<Self> {
        let class: u16 = match asked.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        match u16::try_from(asked.priority()) {
            Ok(level) if asked.priority() < IO_LEVELS => Ok(Self(class << 13 | level)),
            _ => {
                let level = asked.priority();
                Err(field
                    .key("priority")
                    .error(format_args!("{level} is not between 0 and {}", IO_LEVELS - 1)))
            }
        }
    }
}

impl Scheduler {
    pub(super) fn new(field: &Field<'_>, asked: &runtime::Scheduler) -> Result<Self> {
        // SCHED_ISO has a number and no implementation; the kernel refuses it.
        let policy = match asked.policy() {
            LinuxSchedulerPolicy::SchedOther => 0,
            LinuxSchedulerPolicy::SchedFifo => 1,
            LinuxSchedulerPolicy::SchedRr => 2,
            LinuxSchedulerPolicy::SchedBatch => 3,
            LinuxSchedulerPolicy::SchedIso => {
                return Err(field.key("policy").unsupported("no kernel implements SCHED_ISO"));
            }
            LinuxSchedulerPolicy::SchedIdle => 5,
            LinuxSchedulerPolicy::SchedDeadline => 6,
        };
        let (fixed, deadline) = (matches!(policy, 1 | 2), policy == 6);
        let nice = asked.nice().unwrap_or(0);
        if !(-20..=19).contains(&nice) {
            return Err(field.key("nice").error(format_args!("{nice} is not between -20 and 19")));
        }
        let priority = asked.priority().unwrap_or(0);
        if fixed && !(1..=99).contains(&priority) {
            return Err(field.key("priority").error(format_args!("{priority} is not between 1 and 99")));
        }
        if !fixed && priority != 0 {
            let error = field.key("priority").error(format_args!("{} has no priority", asked.policy()));
            return Err(error.hint("SCHED_FIFO and SCHED_RR have one"));
        }
        let times =
            [("runtime", asked.runtime()), ("deadline", asked.deadline()), ("period", asked.period())];
        for (name, time) in times {
            if !deadline && time.is_some_and(|time| time != 0) {
                return Err(field.key(name).error("is for SCHED_DEADLINE only"));
            }
        }
        Ok(Self {
            policy,
            flags: asked.flags().iter().flatten().fold(0, |flags, flag| flags | scheduler_flag(*flag)),
            nice,
            priority: priority.unsigned_abs(),
            runtime: asked.runtime().unwrap_or(0),
            deadline: asked.deadline().unwrap_or(0),
            period: asked.period().unwrap_or(0),
        })
    }
}

fn scheduler_flag(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

/// The two flags whose name in the specification differs from the one that `oci-spec` derives and reads.
pub(super) const SCHEDULER_FLAGS_OF_OCI_SPEC: [(&str, &str); 2] = [
    ("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"),
    ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN"),
];

/// The most processors a kernel can be built for (`NR_CPUS`).
const MAX_CPUS: usize = 8192;

impl ExecCpuAffinity {
    pub(super) fn new(field: &Field<'_>, asked: &runtime::ExecCPUAffinity) -> Result<Self> {
        let set = |name: &str, list: &Option<String>| {
            let list = list.as_deref().filter(|list| !list.is_empty());
            list.map(|list| NumberSet::new(&field.key(name), list, MAX_CPUS)).transpose()
        };
        Ok(Self {
            initial: set("initial", asked.initial())?,
            last: set("final", asked.cpu_affinity_final())?,
        })
    }
}

/// The most memory nodes a kernel can be built for (`MAX_NUMNODES`).
const MAX_NODES: usize = 1024;

impl MemoryPolicy {
    pub(super) fn new(field: &Field<'_>, asked: &runtime::LinuxMemoryPolicy) -> Result<Self> {
        use MemoryPolicyModeType as Mode;
        let (mode, takes_nodes, needs_nodes) = match asked.mode() {
            Mode::MpolDefault => (0, false, false),
            // "an empty set of nodes [...] means local allocation" - set_mempolicy(2)
            Mode::MpolPreferred => (1, true, false),
            Mode::MpolBind => (2, true, true),
            Mode::MpolInterleave => (3, true, true),
            Mode::MpolLocal => (4, false, false),
            Mode::MpolPreferredMany => (5, true, true),
            Mode::MpolWeightedInterleave => (6, true, true),
        };
        let list = asked.nodes().as_deref().unwrap_or_default();
        let nodes = field.key("nodes");
        match list.is_empty() {
            true if needs_nodes => {
                return Err(nodes.error(format_args!("is missing, and {} needs it", asked.mode())));
            }
            false if !takes_nodes => return Err(nodes.error(format_args!("{} takes no nodes", asked.mode()))),
            _ => {}
        }
        let flags = asked.flags().iter().flatten().fold(0, |flags, flag| {
            flags
                | match flag {
                    MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
                    MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
                    MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
                }
        });
        let nodes =
            if list.is_empty() { NumberSet::default() } else { NumberSet::new(&nodes, list, MAX_NODES)? };
        Ok(Self { mode: mode | flags, nodes })
    }
}

impl Personality {
    pub(super) fn new(field: &Field<'_>, asked: &runtime::LinuxPersonality) -> Result<Self> {
        // "currently no flag values are supported" - OCI config-linux.md
        if asked.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
            return Err(field.key("flags").unsupported("the specification defines none"));
        }
        Ok(Self(match asked.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => 8,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Origin;
    use super::*;

    #[test]
    fn a_list_is_a_set() {
        let document = Field::document(Origin::Builder);
        let read = |list| NumberSet::new(&document, list, 128).ok().map(|set| set.0);
        assert_eq!(read("0-3,7"), Some(vec![0x8f]));
        assert_eq!(read("64,1"), Some(vec![2, 1]));
        for bad in ["", "1-", "3-1", "+1", "128", "1,,2", "a", "99999999999999999999"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}

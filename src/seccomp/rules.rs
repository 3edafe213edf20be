//! The content of a profile, checked and turned into the kernel's values, before any ABI matters.
//!
//! Every error about a profile comes from here and names its field, except that about the size of the program.

use crate::error::{Error, Result};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
    LinuxSyscall,
};

/// A checked profile.
pub(super) struct Rules<'a> {
    /// What the filter returns where no rule applies.
    pub(super) default: u32,
    /// What it returns for numbers newer than the profile.
    pub(super) unknown: u32,
    /// One per entry of `syscalls`, in order.
    pub(super) rules: Vec<Rule<'a>>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub(super) flags: u32,
    /// Whether any rule notifies.
    pub(super) notify: bool,
}

/// One entry of `syscalls`.
pub(super) struct Rule<'a> {
    pub(super) names: &'a [String],
    /// What the filter returns where the rule applies.
    pub(super) action: u32,
    /// The rule applies where all conditions of one alternative hold; an alternative without conditions always holds.
    /// Without alternatives the rule only makes its names known.
    pub(super) alternatives: Vec<Vec<Condition>>,
}

impl Rule<'_> {
    /// Whether the rule lets the call happen without asking another process.
    pub(super) fn permits(&self) -> bool {
        matches!(self.action & RET_ACTION_FULL, RET_ALLOW | RET_LOG)
    }
}

/// A test of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) index: u32,
    pub(super) test: Test,
    /// Whether the test must fail instead.
    pub(super) negated: bool,
}

/// The tests classic BPF has; the rest are their negations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// `argument & mask == value`, where `value` has no bits outside `mask`.
    Masked { mask: u64, value: u64 },
    /// `argument >= value`.
    AtLeast(u64),
    /// `argument > value`.
    Above(u64),
}

impl<'a> Rules<'a> {
    pub(super) fn parse(profile: &'a LinuxSeccomp) -> Result<Self> {
        let default = default_value(profile)?;
        let syscalls = profile.syscalls().as_deref().unwrap_or_default();
        let rules = syscalls
            .iter()
            .enumerate()
            .map(|(at, entry)| parse_rule(at, entry, default))
            .collect::<Result<Vec<_>>>()?;
        let clauses = rules.iter().fold(0_usize, |sum, rule| {
            sum.saturating_add(rule.names.len().saturating_mul(rule.alternatives.len()))
        });
        if clauses > MAX_CLAUSES {
            return Err(refuse("syscalls", format!("{clauses} names and conditions, at most {MAX_CLAUSES}")));
        }
        let notify = check_listener(profile, &rules)?;
        let unknown = match default & RET_ACTION_FULL {
            // A default that permits, or asks a tracer, also covers calls that its author did not know.
            RET_ALLOW | RET_LOG | RET_TRACE => default,
            _ => RET_ERRNO | ENOSYS,
        };
        Ok(Self { default, unknown, rules, flags: flags(profile, notify), notify })
    }
}

/// The values of `SECCOMP_RET_*` (seccomp(2)).
pub(super) const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_KILL_THREAD: u32 = 0;
const RET_TRAP: u32 = 0x0003_0000;
pub(super) const RET_ERRNO: u32 = 0x0005_0000;
const RET_USER_NOTIF: u32 = 0x7fc0_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
pub(super) const RET_ALLOW: u32 = 0x7fff_0000;
const RET_ACTION_FULL: u32 = 0xffff_0000;

pub(super) const EPERM: u32 = libc::EPERM as u32;
pub(super) const ENOSYS: u32 = libc::ENOSYS as u32;

/// The largest errno (`MAX_ERRNO`); the kernel would silently return this instead of a larger one.
const MAX_ERRNO: u32 = 4095;

/// The most pairs of a name and an alternative. No program that the kernel takes has room for so many. Without a limit,
/// a rule with a megabyte of names and a megabyte of conditions would need their product in memory.
const MAX_CLAUSES: usize = 1 << 16;

fn default_value(profile: &LinuxSeccomp) -> Result<u32> {
    let action = profile.default_action();
    if action == LinuxSeccompAction::ScmpActNotify {
        // The filter is loaded before the listener is handed over, and handing it over takes system calls.
        return Err(refuse("defaultAction", "SCMP_ACT_NOTIFY cannot be the default")
            .hint("name the system calls the agent should see"));
    }
    action_value(action, profile.default_errno_ret(), || "defaultErrnoRet".to_owned())
}

fn parse_rule<'a>(at: usize, entry: &'a LinuxSyscall, default: u32) -> Result<Rule<'a>> {
    if entry.names().is_empty() {
        // "names [...] MUST contain at least one entry" - OCI config-linux.md
        return Err(refuse(format!("syscalls[{at}].names"), "is empty"));
    }
    let action = action_value(entry.action(), entry.errno_ret(), || format!("syscalls[{at}].errnoRet"))?;
    let args = entry.args().as_deref().unwrap_or_default();
    let conditions = args
        .iter()
        .enumerate()
        .map(|(arg_at, arg)| {
            condition(arg).ok_or_else(|| {
                let field = format!("syscalls[{at}].args[{arg_at}].index");
                refuse(field, format!("{} is above 5, the last argument", arg.index()))
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let alternatives = if action == default {
        Vec::new()
    } else if repeats_an_index(&conditions) {
        conditions.into_iter().map(|condition| vec![condition]).collect()
    } else {
        vec![conditions]
    };
    Ok(Rule { names: entry.names(), action, alternatives })
}

fn repeats_an_index(conditions: &[Condition]) -> bool {
    let mut seen = 0_u32;
    conditions.iter().any(|condition| {
        let earlier = seen;
        seen |= 1 << condition.index;
        earlier == seen
    })
}

fn condition(arg: &LinuxSeccompArg) -> Option<Condition> {
    let index = u32::try_from(arg.index()).ok().filter(|index| *index < 6)?;
    let value = arg.value();
    let equal = Test::Masked { mask: u64::MAX, value };
    let (test, negated) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpEq => (equal, false),
        LinuxSeccompOperator::ScmpCmpNe => (equal, true),
        LinuxSeccompOperator::ScmpCmpGe => (Test::AtLeast(value), false),
        LinuxSeccompOperator::ScmpCmpLt => (Test::AtLeast(value), true),
        LinuxSeccompOperator::ScmpCmpGt => (Test::Above(value), false),
        LinuxSeccompOperator::ScmpCmpLe => (Test::Above(value), true),
        // "matches when the masked argument value is equal to the masked datum value" - seccomp_rule_add(3)
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            (Test::Masked { mask: value, value: arg.value_two().unwrap_or(0) & value }, false)
        }
    };
    Some(Condition { index, test, negated })
}

fn action_value(action: LinuxSeccompAction, errno: Option<u32>, field: impl Fn() -> String) -> Result<u32> {
    let (value, most) = match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => (RET_KILL_THREAD, None),
        LinuxSeccompAction::ScmpActKillProcess => (RET_KILL_PROCESS, None),
        LinuxSeccompAction::ScmpActTrap => (RET_TRAP, None),
        LinuxSeccompAction::ScmpActErrno => (RET_ERRNO, Some(MAX_ERRNO)),
        LinuxSeccompAction::ScmpActTrace => (RET_TRACE, Some(u32::from(u16::MAX))),
        LinuxSeccompAction::ScmpActNotify => (RET_USER_NOTIF, None),
        LinuxSeccompAction::ScmpActLog => (RET_LOG, None),
        LinuxSeccompAction::ScmpActAllow => (RET_ALLOW, None),
    };
    match (most, errno) {
        (None, None) => Ok(value),
        // "When the action doesn't support an errno, the runtime MUST print and error and fail." - OCI config-linux.md
        (None, Some(_)) => Err(refuse(field(), format!("{action} takes no errno"))),
        (Some(_), None) => Ok(value | EPERM),
        (Some(most), Some(errno)) if errno <= most => Ok(value | errno),
        (Some(most), Some(errno)) => Err(refuse(field(), format!("{errno} is above {most}"))),
    }
}

/// Whether any rule notifies; the two `listener` fields must fit the answer.
fn check_listener(profile: &LinuxSeccomp, rules: &[Rule<'_>]) -> Result<bool> {
    if profile.listener_path().is_none() && profile.listener_metadata().is_some() {
        // "This field MUST NOT be set if listenerPath is not set." - OCI config-linux.md
        return Err(refuse("listenerMetadata", "is set although listenerPath is not"));
    }
    let Some(at) = rules.iter().position(|rule| rule.action == RET_USER_NOTIF) else {
        return Ok(false);
    };
    if profile.listener_path().is_none() {
        return Err(refuse(
            "listenerPath",
            format!("is missing although syscalls[{at}] has SCMP_ACT_NOTIFY"),
        ));
    }
    Ok(true)
}

fn flags(profile: &LinuxSeccomp, notify: bool) -> u32 {
    const TSYNC: u32 = 1 << 0;
    const LOG: u32 = 1 << 1;
    const SPEC_ALLOW: u32 = 1 << 2;
    const NEW_LISTENER: u32 = 1 << 3;
    const TSYNC_ESRCH: u32 = 1 << 4;
    const WAIT_KILLABLE_RECV: u32 = 1 << 5;

    let asked = profile.flags().as_deref().unwrap_or_default();
    let mut flags = asked.iter().fold(0, |flags, flag| {
        flags
            | match flag {
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => LOG,
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync => TSYNC,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => SPEC_ALLOW,
                // The kernel refuses it without a listener, where it would mean nothing.
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if notify => WAIT_KILLABLE_RECV,
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
            }
    });
    if notify {
        flags |= NEW_LISTENER;
        if flags & TSYNC != 0 {
            // Both use the return value; the kernel takes them together only if a failed TSYNC is an errno.
            flags |= TSYNC_ESRCH;
        }
    }
    flags
}

fn refuse(field: impl AsRef<str>, problem: impl std::fmt::Display) -> Error {
    Error::spec("config.json", format!("linux.seccomp.{}", field.as_ref()), problem)
}

//! Random profiles and calls: the program says what a linear reading of the profile says.

use super::random::{calls, number, profiles};
use super::*;
use crate::seccomp::MAX_INSTRUCTIONS;
use oci_spec::runtime::{LinuxSeccompArg, LinuxSyscall};
use proptest::prelude::*;

/// The profile read rule by rule, names looked up by number instead of numbers by name.
fn reference(profile: &LinuxSeccomp, call: &Call) -> u32 {
    let listed = |arch| profile.architectures().as_ref().is_some_and(|archs| archs.contains(&arch));
    let default = profile.default_action().as_u32(profile.default_errno_ret());
    let permissive = (0x7ff0_0000..0x8000_0000).contains(&default);
    let unknown = if permissive { default } else { NO_SUCH_CALL };

    let abi = match call.arch {
        0xc000_003e if call.number == u32::MAX => return unknown,
        0xc000_003e if call.number >= X32_BIT && listed(Arch::ScmpArchX32) => Abi::X32,
        0xc000_003e if call.number < X32_BIT => Abi::X86_64,
        0x4000_0003 if listed(Arch::ScmpArchX86) => Abi::X86,
        _ => return RET_KILL_PROCESS,
    };
    let args = cut(abi, call);
    let name = name_of(abi, call.number);
    let hidden = match (name, args[0]) {
        (Some("socketcall"), 1) if abi == Abi::X86 => Some("socket"),
        (Some("socketcall"), 3) if abi == Abi::X86 => Some("connect"),
        (Some("socketcall"), 9) if abi == Abi::X86 => Some("send"),
        (Some("ipc"), version) if abi == Abi::X86 && version & 0xffff == 1 => Some("semop"),
        _ => None,
    };

    let rules = profile.syscalls().as_deref().unwrap_or_default();
    let (mut conditional, mut unconditional) = (None, None);
    for rule in rules {
        let value = rule.action().as_u32(rule.errno_ret());
        let names = |name: Option<&str>| name.is_some_and(|name| rule.names().iter().any(|n| n == name));
        let conditions = rule.args().as_deref().unwrap_or_default();
        if value == default {
            continue;
        }
        let direct_hit = names(name) && matches(abi, conditions, &args);
        let permits = value == RET_ALLOW || value == 0x7ffc_0000;
        let hidden_hit = names(hidden) && (conditions.is_empty() || !permits);
        if names(name) && no_bits(abi, conditions) {
            unconditional = unconditional.or(Some(value));
        } else if direct_hit {
            conditional = conditional.or(Some(value));
        }
        if hidden_hit {
            conditional = conditional.or(Some(value));
        }
    }
    let newest = rules.iter().flat_map(LinuxSyscall::names).filter_map(|name| number(abi, name)).max();
    // New are numbers no rule is about: x32's own calls and i386's multiplexers may lie above all the profile names.
    let ruled = rules.iter().any(|rule| {
        let value = rule.action().as_u32(rule.errno_ret());
        let permits = value == RET_ALLOW || value == 0x7ffc_0000;
        let unconditional = rule.args().as_deref().unwrap_or_default().is_empty();
        let hidden: &[&str] = match name {
            Some("socketcall") if abi == Abi::X86 && (unconditional || !permits) => {
                &["socket", "connect", "send"]
            }
            Some("ipc") if abi == Abi::X86 && (unconditional || !permits) => &["semop"],
            _ => &[],
        };
        let about = |named: &String| name == Some(named) || hidden.contains(&named.as_str());
        value != default && rule.names().iter().any(about)
    });
    let new = newest.is_some_and(|newest| call.number > newest) && !ruled;
    let fallback = if new { unknown } else { default };
    unconditional.or(conditional).unwrap_or(fallback)
}

fn name_of(abi: Abi, number: u32) -> Option<&'static str> {
    match (abi, number) {
        (Abi::X86, _) => syscalls::x86::Sysno::new(number as usize).map(|call| call.name()),
        (Abi::X32, 0x4000_0200) => Some("rt_sigaction"),
        (Abi::X32, 0x4000_0208) => Some("execve"),
        _ => syscalls::x86_64::Sysno::new((number & !X32_BIT) as usize).map(|call| call.name()),
    }
}

/// The arguments a rule is about: a 32-bit ABI's are low halves.
fn cut(abi: Abi, call: &Call) -> [u64; 6] {
    call.args.map(|arg| abi.seen(arg))
}

/// Whether a rule with these conditions applies; a 32-bit ABI's are about the low halves of their values.
pub(super) fn matches(abi: Abi, conditions: &[LinuxSeccompArg], args: &[u64; 6]) -> bool {
    any_or_all(conditions, |condition| {
        let value_two = condition.value_two().unwrap_or(0);
        holds(condition.op(), args[condition.index()], abi.seen(condition.value()), abi.seen(value_two))
    })
}

/// Whether a rule with these conditions applies whatever the arguments are.
fn no_bits(abi: Abi, conditions: &[LinuxSeccompArg]) -> bool {
    any_or_all(conditions, |condition| {
        condition.op() == LinuxSeccompOperator::ScmpCmpMaskedEq && abi.seen(condition.value()) == 0
    })
}

/// All conditions have to hold, or any where two are about one argument.
fn any_or_all(conditions: &[LinuxSeccompArg], holds: impl Fn(&LinuxSeccompArg) -> bool) -> bool {
    let mut indices: Vec<_> = conditions.iter().map(LinuxSeccompArg::index).collect();
    indices.sort_unstable();
    indices.dedup();
    if indices.len() < conditions.len() { conditions.iter().any(holds) } else { conditions.iter().all(holds) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_program_says_the_same(
        profile in profiles(Machine::X86_64),
        calls in prop::collection::vec(calls(Machine::X86_64), 64),
    ) {
        let filter = compile_for(Machine::X86_64, &profile).unwrap();
        check(&filter.instructions);
        prop_assert!(filter.instructions.len() <= MAX_INSTRUCTIONS);
        for call in calls {
            prop_assert_eq!(run(&filter.instructions, &call).0, reference(&profile, &call), "{:x?}", call);
        }
    }
}

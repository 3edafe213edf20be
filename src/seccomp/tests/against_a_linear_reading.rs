//! Random profiles and calls: the program says what a linear reading of the profile says.

use super::*;
use crate::seccomp::MAX_INSTRUCTIONS;
use oci_spec::runtime::{LinuxSeccompArg, LinuxSyscall};
use proptest::prelude::*;

/// Names that exist everywhere, in one ABI, with two numbers, behind a multiplexer, or nowhere.
const NAMES: [&str; 20] = [
    "read",
    "write",
    "open",
    "close",
    "stat",
    "fstat",
    "lstat",
    "poll",
    "execve",
    "rt_sigaction",
    "waitpid",
    "socket",
    "connect",
    "send",
    "socketcall",
    "ipc",
    "semop",
    "clone3",
    "mmap2",
    "frobnicate",
];

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
    let args = call.args.map(|arg| if abi == Abi::X86 { arg & 0xffff_ffff } else { arg });
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
        let direct_hit = names(name) && matches(conditions, &args);
        let permits = value == RET_ALLOW || value == 0x7ffc_0000;
        let hidden_hit = names(hidden) && (conditions.is_empty() || !permits);
        if names(name) && conditions.is_empty() {
            unconditional = unconditional.or(Some(value));
        } else if direct_hit {
            conditional = conditional.or(Some(value));
        }
        if hidden_hit {
            conditional = conditional.or(Some(value));
        }
    }
    let newest = rules.iter().flat_map(LinuxSyscall::names).filter_map(|name| newest(abi, name)).max();
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
    conditional.or(unconditional).unwrap_or(fallback)
}

fn name_of(abi: Abi, number: u32) -> Option<&'static str> {
    match (abi, number) {
        (Abi::X86, _) => syscalls::x86::Sysno::new(number as usize).map(|call| call.name()),
        (Abi::X32, 0x4000_0200) => Some("rt_sigaction"),
        (Abi::X32, 0x4000_0208) => Some("execve"),
        _ => syscalls::x86_64::Sysno::new((number & !X32_BIT) as usize).map(|call| call.name()),
    }
}

fn newest(abi: Abi, name: &str) -> Option<u32> {
    let number = match abi {
        Abi::X86 => syscalls::x86::Sysno::from_str(name).ok()?.id(),
        _ => syscalls::x86_64::Sysno::from_str(name).ok()?.id(),
    };
    Some(number as u32 | if abi == Abi::X32 { X32_BIT } else { 0 })
}

fn matches(conditions: &[LinuxSeccompArg], args: &[u64; 6]) -> bool {
    let one = |condition: &LinuxSeccompArg| {
        let value_two = condition.value_two().unwrap_or(0);
        holds(condition.op(), args[condition.index()], condition.value(), value_two)
    };
    let mut indices: Vec<_> = conditions.iter().map(LinuxSeccompArg::index).collect();
    indices.sort_unstable();
    indices.dedup();
    if indices.len() < conditions.len() { conditions.iter().any(one) } else { conditions.iter().all(one) }
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![4 => prop::sample::select(EDGES.to_vec()), 4 => 0..24_u64, 1 => any::<u64>()]
}

fn action() -> impl Strategy<Value = (LinuxSeccompAction, Option<u32>)> {
    prop_oneof![
        3 => Just((LinuxSeccompAction::ScmpActAllow, None)),
        1 => Just((LinuxSeccompAction::ScmpActLog, None)),
        1 => Just((LinuxSeccompAction::ScmpActKillProcess, None)),
        1 => Just((LinuxSeccompAction::ScmpActKill, None)),
        1 => Just((LinuxSeccompAction::ScmpActTrap, None)),
        3 => prop::option::of(0..4_u32).prop_map(|errno| (LinuxSeccompAction::ScmpActErrno, errno)),
        1 => (0..4_u32).prop_map(|errno| (LinuxSeccompAction::ScmpActTrace, Some(errno))),
    ]
}

prop_compose! {
    fn rule()(
        names in prop::collection::vec(prop::sample::select(NAMES.to_vec()), 1..5),
        (action, errno) in action(),
        args in prop::collection::vec(
            (0..3_usize, value(), prop::option::of(value()), prop::sample::select(OPERATORS.to_vec())), 0..3),
    ) -> Value {
        let args: Vec<Value> = args
            .into_iter()
            .map(|(index, value, value_two, op)| {
                let mut arg = json!({ "index": index, "value": value, "op": op });
                if let Some(value_two) = value_two {
                    arg["valueTwo"] = value_two.into();
                }
                arg
            })
            .collect();
        let mut rule = json!({ "names": names, "action": action, "args": args });
        if let Some(errno) = errno {
            rule["errnoRet"] = errno.into();
        }
        rule
    }
}

prop_compose! {
    fn profiles()(
        (action, errno) in action(),
        archs in prop::sample::subsequence(
            vec!["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM"], 0..=4),
        rules in prop::collection::vec(rule(), 0..16),
    ) -> LinuxSeccomp {
        let mut document = json!({ "defaultAction": action, "architectures": archs, "syscalls": rules });
        if let Some(errno) = errno {
            document["defaultErrnoRet"] = errno.into();
        }
        profile(document)
    }
}

prop_compose! {
    fn calls()(
        arch in prop::sample::select(vec![0xc000_003e, 0xc000_003e, 0x4000_0003, 0x4000_0003, 0x4000_0028]),
        number in prop_oneof![
            6 => prop::sample::select(NAMES.to_vec()).prop_map(|name| newest(Abi::X86_64, name).unwrap_or(7)),
            6 => prop::sample::select(NAMES.to_vec()).prop_map(|name| newest(Abi::X86, name).unwrap_or(7)),
            1 => prop::sample::select(vec![512_u32, 520, X32_BIT - 1, u32::MAX - 1, u32::MAX]),
            1 => 0..500_u32,
            1 => any::<u32>(),
        ],
        x32 in prop::bool::weighted(0.2),
        args in prop::array::uniform6(value()),
    ) -> Call {
        Call { number: if x32 { number | X32_BIT } else { number }, arch, args }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_program_says_the_same(
        profile in profiles(),
        calls in prop::collection::vec(calls(), 64),
    ) {
        let filter = compile_for(Machine::X86_64, &profile).unwrap();
        check(&filter.instructions);
        prop_assert!(filter.instructions.len() <= MAX_INSTRUCTIONS);
        for call in calls {
            prop_assert_eq!(run(&filter.instructions, &call).0, reference(&profile, &call), "{:x?}", call);
        }
    }
}

//! Random profiles and calls, on which the program and a linear reading of the profile must agree.
//!
//! So that calls meet the rules, there are few names, few arguments, and values at the borders.

use super::*;
use crate::seccomp::MAX_INSTRUCTIONS;
use crate::seccomp::linear::reading_on;
use proptest::prelude::*;

/// Names that exist everywhere, in one ABI, with two numbers, behind a multiplexer, or nowhere.
const NAMES: [&str; 21] = [
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
    "cacheflush",
    "frobnicate",
];

/// The number of `name` in the part of `abi`'s table where new calls are appended.
pub(super) fn number(abi: Abi, name: &str) -> Option<u32> {
    let number = match abi {
        Abi::X86_64 | Abi::X32 => syscalls::x86_64::Sysno::from_str(name).ok()?.id(),
        Abi::X86 => syscalls::x86::Sysno::from_str(name).ok()?.id(),
        Abi::Aarch64 => syscalls::aarch64::Sysno::from_str(name).ok()?.id(),
        Abi::Arm => syscalls::arm::Sysno::from_str(name).ok()?.id(),
    };
    Some(number as u32 | if abi == Abi::X32 { X32_BIT } else { 0 })
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
    /// Profiles for every choice of the ABIs that kernels of `machine` have, and one they do not.
    pub(super) fn profiles(machine: Machine)(
        (action, errno) in action(),
        archs in prop::sample::subsequence(match machine {
            Machine::X86_64 => vec!["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM"],
            Machine::Aarch64 => vec!["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X86"],
        }, 0..=3),
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
    /// Calls through the ABIs of `machine` and through one it does not have, mostly by the numbers of [`NAMES`].
    pub(super) fn calls(machine: Machine)(
        abi in prop::sample::select(match machine {
            Machine::X86_64 => vec![Abi::X86_64, Abi::X86_64, Abi::X32, Abi::X86, Abi::X86, Abi::Arm],
            Machine::Aarch64 => vec![Abi::Aarch64, Abi::Aarch64, Abi::Arm, Abi::X86],
        }),
        name in prop::sample::select(NAMES.to_vec()),
        named in prop::bool::weighted(0.8),
        other in prop_oneof![
            prop::sample::select(vec![
                X32_BIT | 512, X32_BIT | 520, 512, 520, X32_BIT - 1, 0x000f_0002, u32::MAX - 1, u32::MAX]),
            0..500_u32,
            any::<u32>(),
        ],
        args in prop::array::uniform6(value()),
    ) -> Call {
        let number = number(abi, name).filter(|_| named).unwrap_or(other);
        Call { number, arch: abi.audit(), args }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_program_says_the_same_on_x86_64(
        profile in profiles(Machine::X86_64),
        calls in prop::collection::vec(calls(Machine::X86_64), 64),
    ) {
        agree(Machine::X86_64, &profile, &calls)?;
    }

    #[test]
    fn the_program_says_the_same_on_aarch64(
        profile in profiles(Machine::Aarch64),
        calls in prop::collection::vec(calls(Machine::Aarch64), 64),
    ) {
        agree(Machine::Aarch64, &profile, &calls)?;
    }
}

fn agree(machine: Machine, profile: &LinuxSeccomp, calls: &[Call]) -> Result<(), TestCaseError> {
    let filter = compile_for(machine, profile).unwrap();
    check(&filter.instructions);
    prop_assert!(filter.instructions.len() <= MAX_INSTRUCTIONS);
    for call in calls {
        let said = run(&filter.instructions, call).0;
        prop_assert_eq!(said, reading_on(machine, profile, call), "{:x?}", call);
    }
    Ok(())
}

//! What compiled programs do, asked of the interpreter: example by example, and against a second, linear reading of
//! the profile for random profiles and calls.

use super::arch::{Abi, Machine, X32_BIT};
use super::compile::compile_for;
use super::default::{
    ALWAYS, NEW_NAMESPACES, PERSONALITIES, SOCKET_FAMILIES, WITH_CAPABILITY, default_profile,
};
use super::interpret::{Call, check, run};
use super::rules::{ENOSYS, EPERM, RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS};
use super::{Filter, Instruction, MAX_INSTRUCTIONS};
use crate::error::ErrorKind;
use crate::spec::CapSet;
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompOperator};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::str::FromStr;

const NO: u32 = RET_ERRNO | EPERM;
const NO_SUCH_CALL: u32 = RET_ERRNO | ENOSYS;

fn profile(document: Value) -> LinuxSeccomp {
    serde_json::from_value(document).unwrap()
}

/// The filter on x86-64, as every example here means it; the kernel would load it.
fn filter(document: Value) -> Filter {
    let filter = compile_for(Machine::X86_64, &profile(document)).unwrap();
    check(&filter.instructions);
    filter
}

fn ask(filter: &Filter, abi: Abi, number: u32, args: &[u64]) -> u32 {
    let mut call = Call {
        number,
        arch: abi.audit(),
        ..Call::default()
    };
    call.args[..args.len()].copy_from_slice(args);
    run(&filter.instructions, &call).0
}

fn x86_64(name: &str) -> u32 {
    syscalls::x86_64::Sysno::from_str(name).unwrap().id() as u32
}

fn x86(name: &str) -> u32 {
    syscalls::x86::Sysno::from_str(name).unwrap().id() as u32
}

fn refusal(document: Value) -> String {
    let error = compile_for(Machine::X86_64, &profile(document)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidSpec { path } if path.starts_with("linux.seccomp")));
    error.to_string()
}

#[test]
fn a_listed_call_is_allowed_and_an_unlisted_one_refused() {
    let filter = filter(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": ["read", "close", "no_such_call", "getpid"], "action": "SCMP_ACT_ALLOW" }],
    }));
    for (name, verdict) in [
        ("read", RET_ALLOW),
        ("close", RET_ALLOW),
        ("getpid", RET_ALLOW),
        ("write", NO),
    ] {
        assert_eq!(ask(&filter, Abi::X86_64, x86_64(name), &[]), verdict, "{name}");
    }
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let document = |action: &str| {
        filter(json!({
            "defaultAction": action,
            "syscalls": [{ "names": ["getpid"], "action": "SCMP_ACT_LOG" }],
        }))
    };
    let newer = x86_64("getpid") + 1;
    for (action, verdict) in [
        ("SCMP_ACT_ERRNO", NO_SUCH_CALL),
        ("SCMP_ACT_TRAP", NO_SUCH_CALL),
        ("SCMP_ACT_KILL_PROCESS", NO_SUCH_CALL),
        ("SCMP_ACT_ALLOW", RET_ALLOW),
        ("SCMP_ACT_TRACE", 0x7ff0_0001),
    ] {
        assert_eq!(
            ask(&document(action), Abi::X86_64, newer, &[]),
            verdict,
            "{action}"
        );
    }
}

#[test]
fn an_abi_that_is_not_listed_is_no_way_around_the_filter() {
    let document = |archs: Value| {
        filter(json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": archs,
            "syscalls": [{ "names": ["mount", "execve"], "action": "SCMP_ACT_ERRNO" }],
        }))
    };
    for closed in [
        document(json!([])),
        document(json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_S390X"])),
    ] {
        assert_eq!(ask(&closed, Abi::X86_64, x86_64("mount"), &[]), NO);
        assert_eq!(ask(&closed, Abi::X86_64, x86_64("read"), &[]), RET_ALLOW);
        for number in 0..600 {
            assert_eq!(ask(&closed, Abi::X86, number, &[]), RET_KILL_PROCESS);
            assert_eq!(ask(&closed, Abi::X32, X32_BIT | number, &[]), RET_KILL_PROCESS);
            assert_eq!(ask(&closed, Abi::Aarch64, number, &[]), RET_KILL_PROCESS);
        }
        assert_eq!(ask(&closed, Abi::X32, u32::MAX - 1, &[]), RET_KILL_PROCESS);
        assert_eq!(ask(&closed, Abi::X86_64, u32::MAX, &[]), RET_ALLOW);
    }
    let open = document(json!(["SCMP_ARCH_X86", "SCMP_ARCH_X32"]));
    assert_eq!(ask(&open, Abi::X86, x86("mount"), &[]), NO);
    assert_eq!(ask(&open, Abi::X86, x86("read"), &[]), RET_ALLOW);
    assert_eq!(ask(&open, Abi::X32, X32_BIT | x86_64("mount"), &[]), NO);
    assert_eq!(
        ask(&open, Abi::X32, X32_BIT | 59, &[]),
        NO,
        "execve by its x86-64 number"
    );
    assert_eq!(
        ask(&open, Abi::X32, X32_BIT | 520, &[]),
        NO,
        "execve by its own number"
    );
    assert_eq!(ask(&open, Abi::X32, X32_BIT, &[]), RET_ALLOW);
}

#[test]
fn aarch64_is_guarded_together_with_arm() {
    let profile = profile(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "syscalls": [{ "names": ["openat", "cacheflush"], "action": "SCMP_ACT_ALLOW" }],
    }));
    let filter = compile_for(Machine::Aarch64, &profile).unwrap();
    check(&filter.instructions);
    assert_eq!(ask(&filter, Abi::Aarch64, 56, &[]), RET_ALLOW);
    assert_eq!(ask(&filter, Abi::Arm, 322, &[]), RET_ALLOW);
    assert_eq!(ask(&filter, Abi::Arm, 0xf_0002, &[]), RET_ALLOW);
    assert_eq!(ask(&filter, Abi::Arm, 0xf_0001, &[]), NO_SUCH_CALL);
    assert_eq!(ask(&filter, Abi::X86_64, 0, &[]), RET_KILL_PROCESS);
}

#[test]
fn every_operator_compares_both_halves() {
    for op in OPERATORS {
        for value in EDGES {
            for value_two in [0, 1, 0x1_0000_0000, u64::MAX] {
                let filter = filter(json!({
                    "defaultAction": "SCMP_ACT_ERRNO",
                    "architectures": ["SCMP_ARCH_X86"],
                    "syscalls": [{ "names": ["getpid"], "action": "SCMP_ACT_ALLOW",
                                   "args": [{ "index": 3, "value": value, "valueTwo": value_two, "op": op }] }],
                }));
                for arg in EDGES {
                    let expected = |arg| {
                        if holds(op, arg, value, value_two) {
                            RET_ALLOW
                        } else {
                            NO
                        }
                    };
                    let args = [0, 0, 0, arg];
                    let told = ask(&filter, Abi::X86_64, x86_64("getpid"), &args);
                    assert_eq!(told, expected(arg), "{arg:#x} {op} {value:#x} {value_two:#x}");
                    let narrow = ask(&filter, Abi::X86, x86("getpid"), &args);
                    assert_eq!(
                        narrow,
                        expected(arg & 0xffff_ffff),
                        "i386 {arg:#x} {op} {value:#x}"
                    );
                }
            }
        }
    }
}

#[test]
fn rules_with_arguments_come_before_the_one_without() {
    let filter = filter(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            { "names": ["dup"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["dup"], "action": "SCMP_ACT_KILL_PROCESS" },
            { "names": ["dup"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7,
              "args": [{ "index": 0, "value": 5, "op": "SCMP_CMP_GT" }, { "index": 1, "value": 1, "op": "SCMP_CMP_EQ" }] },
            { "names": ["dup"], "action": "SCMP_ACT_TRAP", "args": [{ "index": 0, "value": 3, "op": "SCMP_CMP_GT" }] },
        ],
    }));
    let dup = |args: &[u64]| ask(&filter, Abi::X86_64, x86_64("dup"), args);
    assert_eq!(dup(&[6, 1]), RET_ERRNO | 7);
    assert_eq!(dup(&[6, 0]), 0x0003_0000);
    assert_eq!(dup(&[3, 1]), RET_ALLOW);
}

#[test]
fn conditions_on_one_argument_are_alternatives() {
    let filter = filter(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": ["dup"], "action": "SCMP_ACT_ALLOW",
                       "args": [{ "index": 0, "value": 4, "op": "SCMP_CMP_EQ" },
                                { "index": 0, "value": 9, "op": "SCMP_CMP_EQ" }] }],
    }));
    for (arg, verdict) in [(4, RET_ALLOW), (9, RET_ALLOW), (5, NO)] {
        assert_eq!(ask(&filter, Abi::X86_64, x86_64("dup"), &[arg]), verdict);
    }
}

#[test]
fn a_call_hidden_in_socketcall_obeys_the_rule_of_its_name() {
    let filter = filter(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [
            { "names": ["connect", "shmat"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["socket"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 2, "op": "SCMP_CMP_EQ" }] },
            { "names": ["bind"], "action": "SCMP_ACT_TRAP",
              "args": [{ "index": 0, "value": 2, "op": "SCMP_CMP_EQ" }] },
        ],
    }));
    let socketcall = |call| ask(&filter, Abi::X86, x86("socketcall"), &[call]);
    assert_eq!(socketcall(3), RET_ALLOW);
    assert_eq!(
        socketcall(0xdead_0000_0000 | 3),
        RET_ALLOW,
        "the kernel ignores the high half"
    );
    assert_eq!(socketcall(1), NO, "the family cannot be read");
    assert_eq!(socketcall(2), 0x0003_0000, "refused whatever the arguments");
    assert_eq!(ask(&filter, Abi::X86, x86("ipc"), &[0x1_0000 | 21]), RET_ALLOW);
    assert_eq!(ask(&filter, Abi::X86, x86("socket"), &[2]), RET_ALLOW);
    assert_eq!(ask(&filter, Abi::X86, x86("socket"), &[38]), NO);
}

#[test]
fn flags_become_bits_and_a_listener_adds_its_own() {
    let flags = |document| {
        let filter = filter(document);
        (filter.flags, filter.notify)
    };
    let all = json!([
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    ]);
    assert_eq!(
        flags(json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": all })),
        (0b00_0111, false)
    );
    let notify = json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": all, "listenerPath": "/run/agent",
                         "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }] });
    assert_eq!(flags(notify), (0b11_1111, true));
}

#[test]
fn a_bad_profile_is_refused_by_field() {
    let rule = |rule: Value| json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule] });
    for (document, message) in [
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1 }),
            "config.json: linux.seccomp.defaultErrnoRet: SCMP_ACT_ALLOW takes no errno",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_NOTIFY" }),
            "config.json: linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be the default \
             (name the system calls the agent should see)",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x" }),
            "config.json: linux.seccomp.listenerMetadata: is set although listenerPath is not",
        ),
        (
            rule(json!({ "names": [], "action": "SCMP_ACT_ALLOW" })),
            "config.json: linux.seccomp.syscalls[0].names: is empty",
        ),
        (
            rule(json!({ "names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096 })),
            "config.json: linux.seccomp.syscalls[0].errnoRet: 4096 is above 4095",
        ),
        (
            rule(json!({ "names": ["read"], "action": "SCMP_ACT_NOTIFY" })),
            "config.json: linux.seccomp.listenerPath: is missing although syscalls[0] has SCMP_ACT_NOTIFY",
        ),
        (
            rule(json!({ "names": ["read"], "action": "SCMP_ACT_ALLOW",
                         "args": [{ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" }] })),
            "config.json: linux.seccomp.syscalls[0].args[0].index: 6 is above 5, the last argument",
        ),
    ] {
        assert_eq!(refusal(document), message);
    }
}

#[test]
fn a_program_too_long_for_the_kernel_is_refused() {
    let args: Vec<Value> = (0..2000)
        .map(|value| json!({ "index": 0, "value": value, "op": "SCMP_CMP_EQ" }))
        .collect();
    let message = refusal(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": args }],
    }));
    assert!(
        message.starts_with("config.json: linux.seccomp: compiles to "),
        "{message}"
    );
    assert!(
        message.ends_with("the kernel takes 4096 (use fewer rules with args)"),
        "{message}"
    );
}

#[test]
fn jumps_past_255_instructions_arrive() {
    let names = [
        "read", "write", "dup", "getpid", "close", "pause", "mkdir", "rmdir",
    ];
    let rules: Vec<Value> = (0..120)
        .flat_map(|value| names.map(|name| (value, name)))
        .map(|(value, name)| {
            json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": 100 + value,
                    "args": [{ "index": 0, "value": value, "op": "SCMP_CMP_EQ" }] })
        })
        .collect();
    let compiled = compile_for(
        Machine::X86_64,
        &profile(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules[..600] })),
    )
    .unwrap();
    check(&compiled.instructions);
    for name in names {
        for value in 0..75_u32 {
            let told = ask(&compiled, Abi::X86_64, x86_64(name), &[u64::from(value)]);
            assert_eq!(told, RET_ERRNO | (100 + value), "{name}({value})");
        }
        assert_eq!(ask(&compiled, Abi::X86_64, x86_64(name), &[75]), RET_ALLOW);
    }
}

#[test]
fn an_instruction_is_one_number_on_the_wire() {
    let filter = filter(json!({ "defaultAction": "SCMP_ACT_ALLOW" }));
    let wire = serde_json::to_value(&filter).unwrap();
    assert_eq!(wire["instructions"][0], json!(0x0020_0000_0000_0004_u64));
    assert_eq!(serde_json::from_value::<Filter>(wire).unwrap(), filter);
    let instruction = Instruction {
        code: 0x1234,
        jt: 0x56,
        jf: 0x78,
        k: 0x9abc_def0,
    };
    assert_eq!(u64::from(instruction), 0x1234_5678_9abc_def0);
    assert_eq!(Instruction::from(u64::from(instruction)), instruction);
}

mod of_the_default_profile {
    use super::*;

    fn filter(granted: CapSet) -> Filter {
        let mut profile = default_profile(granted);
        // What the profile says on x86-64, wherever the test runs.
        profile.set_architectures(Some(vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86]));
        let filter = compile_for(Machine::X86_64, &profile).unwrap();
        check(&filter.instructions);
        filter
    }

    fn native(filter: &Filter, name: &str, args: &[u64]) -> u32 {
        ask(filter, Abi::X86_64, x86_64(name), args)
    }

    #[test]
    fn every_name_is_a_system_call_somewhere() {
        use super::super::arch::{Name, Numbers};
        let named = ALWAYS
            .iter()
            .copied()
            .chain(WITH_CAPABILITY.iter().map(|(_, names)| *names));
        for name in named.flatten().copied() {
            let known = [Abi::X86_64, Abi::X86, Abi::Aarch64, Abi::Arm].iter().any(|abi| {
                let name = Name::new(name);
                abi.numbers(name) != Numbers::default() || abi.multiplexer(name).is_some()
            });
            assert!(known, "{name}");
        }
    }

    #[test]
    fn what_every_container_needs_is_allowed_through_both_abis() {
        let filter = filter(CapSet::empty());
        for name in ALWAYS.iter().flat_map(|group| group.iter()) {
            if let Ok(call) = syscalls::x86_64::Sysno::from_str(name) {
                assert_eq!(
                    ask(&filter, Abi::X86_64, call.id() as u32, &[]),
                    RET_ALLOW,
                    "{name}"
                );
            }
            if let Ok(call) = syscalls::x86::Sysno::from_str(name) {
                assert_eq!(ask(&filter, Abi::X86, call.id() as u32, &[]), RET_ALLOW, "{name}");
            }
        }
    }

    #[test]
    fn a_capability_brings_its_calls_and_nothing_else_does() {
        let without = filter(CapSet::empty());
        for (capabilities, names) in WITH_CAPABILITY {
            let lowest = CapSet::from_bits_retain(1 << capabilities.bits().trailing_zeros());
            let with = filter(lowest);
            for name in names
                .iter()
                .filter(|name| syscalls::x86_64::Sysno::from_str(name).is_ok())
            {
                let args = [NEW_NAMESPACES];
                assert_eq!(native(&with, name, &args), RET_ALLOW, "{name}");
                let refused = if *name == "clone3" { NO_SUCH_CALL } else { NO };
                assert_eq!(native(&without, name, &args), refused, "{name}");
            }
        }
    }

    #[test]
    fn some_calls_are_refused_whatever_is_granted() {
        let everything = filter(CapSet::all());
        for name in [
            "io_uring_setup",
            "io_uring_enter",
            "io_uring_register",
            "add_key",
            "keyctl",
            "request_key",
            "userfaultfd",
            "kexec_load",
            "kexec_file_load",
            "swapon",
            "swapoff",
            "nfsservctl",
            "uselib",
            "modify_ldt",
            "_sysctl",
            "create_module",
            "query_module",
            "ustat",
            "sysfs",
            "lookup_dcookie",
        ] {
            assert_eq!(native(&everything, name, &[]), NO, "{name}");
        }
    }

    #[test]
    fn clone_makes_threads_and_processes_but_no_namespaces() {
        let filter = filter(CapSet::empty());
        for bit in 0..32 {
            let flags = 1_u64 << bit;
            let verdict = if flags & NEW_NAMESPACES == 0 {
                RET_ALLOW
            } else {
                NO
            };
            for flags in [flags, flags | 17, flags | 0xff_0000_0000] {
                assert_eq!(native(&filter, "clone", &[flags]), verdict, "{flags:#x}");
                assert_eq!(
                    ask(&filter, Abi::X86, x86("clone"), &[flags]),
                    verdict,
                    "{flags:#x}"
                );
            }
        }
    }

    #[test]
    fn sockets_are_of_the_families_a_container_needs() {
        let none = filter(CapSet::empty());
        let network = filter(CapSet::from_bits_retain(1 << 12 | 1 << 13));
        let all = filter(CapSet::all());
        for family in 0..64_u64 {
            let by_default = SOCKET_FAMILIES[0].1.contains(&family);
            let listed = SOCKET_FAMILIES
                .iter()
                .any(|(_, families)| families.contains(&family));
            for (filter, allowed) in [(&none, by_default), (&network, listed), (&all, listed)] {
                let verdict = if allowed { RET_ALLOW } else { NO };
                assert_eq!(native(filter, "socket", &[family]), verdict, "{family}");
                assert_eq!(
                    ask(filter, Abi::X86, x86("socket"), &[family]),
                    verdict,
                    "{family}"
                );
                assert_eq!(native(filter, "socket", &[family | 1 << 32]), NO, "{family}");
            }
            let pair = if family == 1 { RET_ALLOW } else { NO };
            assert_eq!(native(&all, "socketpair", &[family]), pair, "{family}");
        }
        assert_eq!(
            ask(&all, Abi::X86, x86("socketcall"), &[1]),
            NO,
            "SYS_SOCKET hides its family"
        );
        assert_eq!(
            ask(&none, Abi::X86, x86("socketcall"), &[3]),
            RET_ALLOW,
            "SYS_CONNECT"
        );
    }

    #[test]
    fn personality_only_changes_the_names_a_program_sees() {
        let filter = filter(CapSet::empty());
        for persona in PERSONALITIES {
            assert_eq!(native(&filter, "personality", &[persona]), RET_ALLOW);
        }
        for persona in [0x4_0000, 0x40_0000, 0x1, 0x4_0008, u64::MAX] {
            assert_eq!(native(&filter, "personality", &[persona]), NO, "{persona:#x}");
        }
    }

    #[test]
    fn other_abis_are_shut_and_new_calls_do_not_exist() {
        let filter = filter(CapSet::empty());
        assert_eq!(
            ask(&filter, Abi::X32, X32_BIT | x86_64("read"), &[]),
            RET_KILL_PROCESS
        );
        assert_eq!(ask(&filter, Abi::Aarch64, 0, &[]), RET_KILL_PROCESS);
        for abi in [Abi::X86_64, Abi::X86] {
            assert_eq!(ask(&filter, abi, 500, &[]), NO_SUCH_CALL);
            assert_eq!(ask(&filter, abi, u32::MAX, &[]), NO_SUCH_CALL);
        }
    }

    #[test]
    fn it_is_small_and_every_call_is_decided_in_a_few_steps() {
        for granted in [CapSet::empty(), CapSet::all()] {
            let filter = filter(granted);
            assert!(
                filter.instructions.len() < 512,
                "{} instructions",
                filter.instructions.len()
            );
            let steps = |number| {
                run(
                    &filter.instructions,
                    &Call {
                        number,
                        arch: Abi::X86_64.audit(),
                        ..Call::default()
                    },
                )
                .1
            };
            assert!(
                steps(x86_64("read")) <= 12,
                "{} steps for read",
                steps(x86_64("read"))
            );
            assert!((0..500).all(|number| steps(number) <= 48));
        }
    }

    #[test]
    fn the_machine_at_hand_compiles_it() {
        let compiled = super::super::default_filter(CapSet::empty()).unwrap();
        assert_eq!(compiled, super::super::default_filter(CapSet::empty()).unwrap());
        assert_ne!(compiled, super::super::default_filter(CapSet::all()).unwrap());
    }
}

const OPERATORS: [LinuxSeccompOperator; 7] = [
    LinuxSeccompOperator::ScmpCmpNe,
    LinuxSeccompOperator::ScmpCmpLt,
    LinuxSeccompOperator::ScmpCmpLe,
    LinuxSeccompOperator::ScmpCmpEq,
    LinuxSeccompOperator::ScmpCmpGe,
    LinuxSeccompOperator::ScmpCmpGt,
    LinuxSeccompOperator::ScmpCmpMaskedEq,
];

/// Values at the borders of the halves.
const EDGES: [u64; 12] = [
    0,
    1,
    2,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x1_ffff_ffff,
    0xffff_ffff_0000_0000,
    u64::MAX,
];

fn holds(op: LinuxSeccompOperator, arg: u64, value: u64, value_two: u64) -> bool {
    match op {
        LinuxSeccompOperator::ScmpCmpNe => arg != value,
        LinuxSeccompOperator::ScmpCmpLt => arg < value,
        LinuxSeccompOperator::ScmpCmpLe => arg <= value,
        LinuxSeccompOperator::ScmpCmpEq => arg == value,
        LinuxSeccompOperator::ScmpCmpGe => arg >= value,
        LinuxSeccompOperator::ScmpCmpGt => arg > value,
        LinuxSeccompOperator::ScmpCmpMaskedEq => arg & value == value_two & value,
    }
}

mod against_a_linear_reading {
    use super::*;
    use oci_spec::runtime::{LinuxSeccompArg, LinuxSyscall};

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
        let listed = |arch| {
            profile
                .architectures()
                .as_ref()
                .is_some_and(|archs| archs.contains(&arch))
        };
        let default = profile.default_action().as_u32(profile.default_errno_ret());
        let permissive = default >= 0x7ff0_0000 && default < 0x8000_0000;
        let unknown = if permissive { default } else { NO_SUCH_CALL };

        let x32 = call.number & X32_BIT != 0 && call.number < u32::MAX;
        let abi = match call.arch {
            0xc000_003e if call.number == u32::MAX => return unknown,
            0xc000_003e if x32 && listed(Arch::ScmpArchX32) => Abi::X32,
            0xc000_003e if call.number < X32_BIT => Abi::X86_64,
            0x4000_0003 if listed(Arch::ScmpArchX86) => Abi::X86,
            _ => return RET_KILL_PROCESS,
        };
        let args = call
            .args
            .map(|arg| if abi == Abi::X86 { arg & 0xffff_ffff } else { arg });
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
        let newest = rules
            .iter()
            .flat_map(LinuxSyscall::names)
            .filter_map(|name| newest(abi, name))
            .max();
        let fallback = if newest.is_some_and(|newest| call.number > newest) {
            unknown
        } else {
            default
        };
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
            holds(
                condition.op(),
                args[condition.index()],
                condition.value(),
                value_two,
            )
        };
        let mut indices: Vec<_> = conditions.iter().map(LinuxSeccompArg::index).collect();
        indices.sort_unstable();
        indices.dedup();
        if indices.len() < conditions.len() {
            conditions.iter().any(one)
        } else {
            conditions.iter().all(one)
        }
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
}

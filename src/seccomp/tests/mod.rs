//! Compiled programs in the interpreter: by examples, and compared with a second, linear reading of random profiles.

mod against_libseccomp;
mod of_the_default_profile;
mod random;

use super::arch::{Abi, Machine, X32_BIT};
use super::compile::compile_for;
use super::interpret::{Call, check, run};
use super::linear::holds;
use super::rules::{ENOSYS, EPERM, RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS};
use super::{BpfInstruction, Filter};
use crate::error::ErrorKind;
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompOperator};
use serde_json::{Value, json};
use std::str::FromStr;

const NO: u32 = RET_ERRNO | EPERM;
const NO_SUCH_CALL: u32 = RET_ERRNO | ENOSYS;

fn profile(document: Value) -> LinuxSeccomp {
    serde_json::from_value(document).unwrap()
}

/// The filter on x86-64, the machine of every example here. The kernel would load it.
fn filter(document: Value) -> Filter {
    let filter = compile_for(Machine::X86_64, &profile(document)).unwrap();
    check(&filter.instructions);
    filter
}

fn ask(filter: &Filter, abi: Abi, number: u32, args: &[u64]) -> u32 {
    let mut call = Call { number, arch: abi.audit(), ..Call::default() };
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
    for (name, verdict) in [("read", RET_ALLOW), ("close", RET_ALLOW), ("getpid", RET_ALLOW), ("write", NO)] {
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
        assert_eq!(ask(&document(action), Abi::X86_64, newer, &[]), verdict, "{action}");
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
    for closed in [document(json!([])), document(json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_S390X"]))] {
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
    assert_eq!(ask(&open, Abi::X32, X32_BIT | 59, &[]), NO, "execve by its x86-64 number");
    assert_eq!(ask(&open, Abi::X32, X32_BIT | 520, &[]), NO, "execve by its own number");
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
                        if holds(op, arg, value, value_two) { RET_ALLOW } else { NO }
                    };
                    let args = [0, 0, 0, arg];
                    let answer = ask(&filter, Abi::X86_64, x86_64("getpid"), &args);
                    assert_eq!(answer, expected(arg), "{arg:#x} {op} {value:#x} {value_two:#x}");
                    let low = |value: u64| value & 0xffff_ffff;
                    let narrow = holds(op, low(arg), low(value), low(value_two));
                    let answer = ask(&filter, Abi::X86, x86("getpid"), &args);
                    assert_eq!(answer == RET_ALLOW, narrow, "i386 {arg:#x} {op} {value:#x} {value_two:#x}");
                }
            }
        }
    }
}

#[test]
fn the_first_rule_without_arguments_decides_whatever_else_is_said() {
    let masked = json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }]);
    let filter = filter(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            { "names": ["dup"], "action": "SCMP_ACT_TRAP", "args": masked },
            { "names": ["dup"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["dup"], "action": "SCMP_ACT_KILL_PROCESS" },
            { "names": ["dup"], "action": "SCMP_ACT_LOG", "args": masked },
            { "names": ["close"], "action": "SCMP_ACT_ALLOW", "args": masked },
            { "names": ["close"], "action": "SCMP_ACT_ERRNO" },
        ],
    }));
    for arg in [0, 1] {
        assert_eq!(ask(&filter, Abi::X86_64, x86_64("dup"), &[arg]), RET_ALLOW);
    }
    let close = |arg| ask(&filter, Abi::X86_64, x86_64("close"), &[arg]);
    assert_eq!((close(0), close(1)), (NO, RET_ALLOW), "a rule with the default action is none");
}

#[test]
fn of_rules_with_arguments_the_first_that_matches_decides() {
    let filter = filter(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
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
    assert_eq!(socketcall(0xdead_0000_0000 | 3), RET_ALLOW, "the kernel ignores the high half");
    assert_eq!(socketcall(1), NO, "the family cannot be read");
    assert_eq!(socketcall(2), 0x0003_0000, "refused whatever the arguments");
    assert_eq!(ask(&filter, Abi::X86, x86("ipc"), &[0x1_0000 | 21]), RET_ALLOW);
    assert_eq!(ask(&filter, Abi::X86, x86("socket"), &[2]), RET_ALLOW);
    assert_eq!(ask(&filter, Abi::X86, x86("socket"), &[38]), NO);
}

#[test]
fn a_rule_for_socketcall_itself_decides_about_all_it_hides() {
    let filter = filter(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [
            { "names": ["socketcall"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["socket"], "action": "SCMP_ACT_TRAP",
              "args": [{ "index": 0, "value": 16, "op": "SCMP_CMP_EQ" }] },
        ],
    }));
    assert_eq!(ask(&filter, Abi::X86, x86("socketcall"), &[1]), RET_ALLOW);
    assert_eq!(ask(&filter, Abi::X86, x86("socket"), &[16]), 0x0003_0000);
}

#[test]
fn x32_arguments_have_64_bits() {
    let filter = filter(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X32"],
        "syscalls": [{ "names": ["mmap"], "action": "SCMP_ACT_ALLOW",
                       "args": [{ "index": 1, "value": 4096, "op": "SCMP_CMP_LE" }] }],
    }));
    let mmap = |length| ask(&filter, Abi::X32, X32_BIT | x86_64("mmap"), &[0, length]);
    assert_eq!((mmap(4096), mmap(0x1_0000_0000)), (RET_ALLOW, NO), "the kernel would map all of it");
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
    assert_eq!(flags(json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": all })), (0b00_0111, false));
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
    let args: Vec<Value> =
        (0..2000).map(|value| json!({ "index": 0, "value": value, "op": "SCMP_CMP_EQ" })).collect();
    let message = refusal(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": args }],
    }));
    assert!(message.starts_with("config.json: linux.seccomp: compiles to "), "{message}");
    assert!(message.ends_with("the kernel takes 4096 (use fewer rules with args)"), "{message}");
}

#[test]
fn names_times_conditions_have_a_limit_of_their_own() {
    let args = vec![json!({ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }); 300];
    let rule = json!({ "names": vec!["read"; 300], "action": "SCMP_ACT_ALLOW", "args": args });
    assert_eq!(
        refusal(json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule] })),
        "config.json: linux.seccomp.syscalls: 90000 names and conditions, at most 65536",
    );
}

#[test]
fn jumps_past_255_instructions_arrive() {
    let names = ["read", "write", "dup", "getpid", "close", "pause", "mkdir", "rmdir"];
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
            let answer = ask(&compiled, Abi::X86_64, x86_64(name), &[u64::from(value)]);
            assert_eq!(answer, RET_ERRNO | (100 + value), "{name}({value})");
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
    let instruction = BpfInstruction { code: 0x1234, jt: 0x56, jf: 0x78, k: 0x9abc_def0 };
    assert_eq!(u64::from(instruction), 0x1234_5678_9abc_def0);
    assert_eq!(BpfInstruction::from(u64::from(instruction)), instruction);
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

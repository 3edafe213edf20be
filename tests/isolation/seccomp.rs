//! Filters in the kernel: programs of a few instructions make system calls in a container, through the native ABI and
//! through i386, and say what they were answered.

#![expect(clippy::disallowed_methods, reason = "tests read and write plain files of their own")]

use crate::kit::{Stage, skip, stage};
use cofferdam::oci::default_seccomp;
use cofferdam::oci_spec::runtime::LinuxSeccomp;
use cofferdam::{ContainerBuilder, Outcome, Rootfs};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;

/// How a program enters the kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Abi {
    X86_64,
    I386,
}

/// One system call with two arguments.
#[derive(Clone, Copy, Debug)]
struct Call {
    number: u32,
    args: [u64; 2],
}

impl Abi {
    /// A static executable that makes `calls` and writes what they returned, four bytes each.
    fn program(self, calls: &[Call]) -> Vec<u8> {
        const BASE: u32 = 0x40_0000;
        const BUFFER: u32 = 0x50_0000;
        let mut code = Vec::new();
        for (at, call) in calls.iter().enumerate() {
            self.write_call(&mut code, call.number, call.args, 0);
            let slot = BUFFER + 4 * at as u32;
            // mov [slot], eax
            code.extend(match self {
                Self::X86_64 => &[0x89, 0x04, 0x25][..],
                Self::I386 => &[0xa3][..],
            });
            code.extend(slot.to_le_bytes());
        }
        let (write, exit) = if self == Self::I386 { (4, 1) } else { (1, 60) };
        self.write_call(&mut code, write, [1, u64::from(BUFFER)], 4 * calls.len() as u32);
        self.write_call(&mut code, exit, [0, 0], 0);
        self.executable(&code, BASE, BUFFER - BASE + 0x1000)
    }

    /// Loads three arguments and the number, and enters the kernel.
    fn write_call(self, code: &mut Vec<u8>, number: u32, args: [u64; 2], third: u32) {
        match self {
            Self::X86_64 => {
                // movabs rdi, rsi
                code.extend([0x48, 0xbf]);
                code.extend(args[0].to_le_bytes());
                code.extend([0x48, 0xbe]);
                code.extend(args[1].to_le_bytes());
            }
            Self::I386 => {
                // mov ebx, ecx
                code.push(0xbb);
                code.extend((args[0] as u32).to_le_bytes());
                code.push(0xb9);
                code.extend((args[1] as u32).to_le_bytes());
            }
        }
        // mov edx, eax
        code.push(0xba);
        code.extend(third.to_le_bytes());
        code.push(0xb8);
        code.extend(number.to_le_bytes());
        code.extend(if self == Self::X86_64 { [0x0f, 0x05] } else { [0xcd, 0x80] });
    }

    /// One segment that holds the file and memory behind it, elf(5).
    fn executable(self, code: &[u8], base: u32, memory: u32) -> Vec<u8> {
        let wide = self == Self::X86_64;
        let (header, segment, machine) = if wide { (64_u16, 56_u16, 62_u16) } else { (52, 32, 3) };
        let start = u32::from(header + segment);
        let size = start + code.len() as u32;
        let mut elf = vec![0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1, 1];
        elf.resize(16, 0);
        let word = |elf: &mut Vec<u8>, value: u32| {
            elf.extend(value.to_le_bytes());
            if wide {
                elf.extend([0; 4]);
            }
        };
        elf.extend([2_u16, machine].map(u16::to_le_bytes).concat());
        elf.extend(1_u32.to_le_bytes());
        word(&mut elf, base + start);
        word(&mut elf, header.into());
        word(&mut elf, 0);
        elf.extend(0_u32.to_le_bytes());
        elf.extend([header, segment, 1, 0, 0, 0].map(u16::to_le_bytes).concat());

        const LOAD: u32 = 1;
        const READ_WRITE_EXECUTE: u32 = 7;
        elf.extend(LOAD.to_le_bytes());
        if wide {
            elf.extend(READ_WRITE_EXECUTE.to_le_bytes());
        }
        for value in [0, base, base, size, memory] {
            word(&mut elf, value);
        }
        if !wide {
            elf.extend(READ_WRITE_EXECUTE.to_le_bytes());
        }
        word(&mut elf, 0x1000);
        elf.extend(code);
        elf
    }

    /// The ABIs of this machine and kernel.
    fn available(stage: &Stage) -> Vec<Self> {
        if !cfg!(target_arch = "x86_64") {
            return Vec::new();
        }
        let path = stage.path().join("i386");
        write_program(&path, &Self::I386.program(&[]));
        match std::process::Command::new(path).status() {
            Ok(_) => vec![Self::X86_64, Self::I386],
            Err(_) => vec![Self::X86_64],
        }
    }
}

fn write_program(path: &std::path::Path, elf: &[u8]) {
    std::fs::write(path, elf).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// A container that makes `calls` behind `profile`.
fn caller(stage: &Stage, abi: Abi, profile: &LinuxSeccomp, calls: &[Call]) -> ContainerBuilder {
    let rootfs = stage.busybox();
    write_program(&rootfs.join("bin/caller"), &abi.program(calls));
    stage
        .container("caller")
        .rootfs(Rootfs::directory(rootfs))
        .args(["/bin/caller"])
        .seccomp(Some(profile.clone()))
}

/// What the kernel answered to each of `calls`.
fn answers(stage: &Stage, abi: Abi, profile: &LinuxSeccomp, calls: &[Call]) -> Vec<i32> {
    let output = caller(stage, abi, profile, calls).output().unwrap();
    assert!(output.exit.outcome.success(), "{:?}", output.exit.outcome);
    let (answers, rest) = output.stdout.as_chunks();
    assert!(rest.is_empty());
    answers.iter().copied().map(i32::from_le_bytes).collect()
}

fn killed_by(outcome: &Outcome) -> Option<i32> {
    match outcome {
        Outcome::Signalled { signal, .. } => Some(signal.number()),
        _ => None,
    }
}

fn profile(archs: &[&str], rules: &[Value]) -> LinuxSeccomp {
    let document = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": archs, "syscalls": rules });
    serde_json::from_value(document).unwrap()
}

/// Calls that do no harm whatever their arguments, with their numbers on x86-64 and i386.
const HARMLESS: [(&str, u32, u32); 3] = [("dup", 32, 41), ("getpgid", 121, 132), ("getsid", 124, 147)];

const EDGES: [u64; 8] = [0, 1, 2, 0xffff_fffe, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, u64::MAX];

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![Just(EDGES.to_vec()).prop_flat_map(prop::sample::select), any::<u64>()]
}

/// A name by its place in [`HARMLESS`], and the conditions: argument, operator by its place in [`OPERATORS`], value.
type Rule = (usize, Vec<(usize, usize, u64)>);

type Compare = fn(u64, u64) -> bool;

const OPERATORS: [(&str, Compare); 6] = [
    ("SCMP_CMP_EQ", |arg, value| arg == value),
    ("SCMP_CMP_NE", |arg, value| arg != value),
    ("SCMP_CMP_LT", |arg, value| arg < value),
    ("SCMP_CMP_LE", |arg, value| arg <= value),
    ("SCMP_CMP_GE", |arg, value| arg >= value),
    ("SCMP_CMP_GT", |arg, value| arg > value),
];

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let condition = |arg: usize| (Just(arg), 0..OPERATORS.len(), value());
    let conditions = prop_oneof![
        1 => Just(Vec::new()),
        3 => condition(0).prop_map(|first| vec![first]),
        3 => (condition(0), condition(1)).prop_map(|(first, second)| vec![first, second]),
    ];
    prop::collection::vec((0..HARMLESS.len(), conditions), 0..10)
}

/// The errno that the rule at `at` answers with: none that the calls have of their own.
fn errno_of_rule(at: usize) -> i32 {
    1000 + at as i32
}

/// The rule that decides about a call of the name at `name`: the first without conditions, or the first that matches.
fn deciding(rules: &[Rule], abi: Abi, name: usize, args: [u64; 2]) -> Option<usize> {
    let seen = |value: u64| if abi == Abi::I386 { value & 0xffff_ffff } else { value };
    let about = || rules.iter().enumerate().filter(|(_, (named, _))| *named == name);
    let unconditional = about().find(|(_, (_, conditions))| conditions.is_empty());
    let matching = || {
        about().find(|(_, (_, conditions))| {
            conditions.iter().all(|(arg, op, value)| OPERATORS[*op].1(seen(args[*arg]), seen(*value)))
        })
    };
    unconditional.or_else(matching).map(|(at, _)| at)
}

#[test]
fn the_kernel_answers_as_random_rules_say() {
    let stage = stage!();
    let abis = Abi::available(&stage);
    if abis.is_empty() {
        skip!("the programs are of x86-64");
    }
    let args = prop::collection::vec([value(), value()], 20);
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 8, failure_persistence: None, ..Default::default() });
    let outcome = runner.run(&(rules(), args), |(rules, args)| {
        let documents: Vec<Value> = rules
            .iter()
            .enumerate()
            .map(|(at, (name, conditions))| {
                let args: Vec<Value> = conditions
                    .iter()
                    .map(|(arg, op, value)| json!({ "index": arg, "op": OPERATORS[*op].0, "value": value }))
                    .collect();
                json!({ "names": [HARMLESS[*name].0], "action": "SCMP_ACT_ERRNO", "errnoRet": errno_of_rule(at),
                        "args": args })
            })
            .collect();
        let profile = profile(&["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], &documents);
        for &abi in &abis {
            let asked: Vec<(usize, Call)> = (0..HARMLESS.len())
                .flat_map(|name| {
                    let (_, wide, narrow) = HARMLESS[name];
                    let number = if abi == Abi::I386 { narrow } else { wide };
                    args.iter().map(move |args| (name, Call { number, args: *args }))
                })
                .collect();
            let calls: Vec<Call> = asked.iter().map(|(_, call)| *call).collect();
            for ((name, call), answer) in asked.iter().zip(answers(&stage, abi, &profile, &calls)) {
                let refused = (-answer >= errno_of_rule(0)).then_some(-answer);
                let expected = deciding(&rules, abi, *name, call.args).map(errno_of_rule);
                prop_assert_eq!(refused, expected, "{:?} {:x?}", abi, call);
            }
        }
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn no_program_types_into_its_terminal() {
    let stage = stage!();
    let default = default_seccomp(&HashSet::new());
    let abis = Abi::available(&stage);
    if abis.is_empty() {
        skip!("the programs are of x86-64");
    }
    const TCGETS: u64 = 0x5401;
    const TIOCSTI: u64 = 0x5412;
    const TIOCLINUX: u64 = 0x541c;
    for abi in abis {
        let number = if abi == Abi::I386 { 54 } else { 16 };
        let calls = [TCGETS, TIOCSTI, TIOCSTI | 1 << 32, TIOCLINUX]
            .map(|command| Call { number, args: [0, command] });
        // Standard input is no terminal: the kernel says so if the filter lets it.
        let answered = answers(&stage, abi, &default, &calls);
        assert_eq!(answered, [-libc::ENOTTY, -libc::EPERM, -libc::EPERM, -libc::EPERM], "{abi:?}");
    }
}

#[test]
fn no_program_takes_a_lease() {
    let stage = stage!();
    let default = default_seccomp(&HashSet::new());
    let abis = Abi::available(&stage);
    if abis.is_empty() {
        skip!("the programs are of x86-64");
    }
    const F_GETFD: u64 = 1;
    const F_SETLEASE: u64 = 1024;
    const F_GETLEASE: u64 = 1025;
    for abi in abis {
        let number = if abi == Abi::I386 { 55 } else { 72 };
        // Of a descriptor that is not open: the kernel says so if the filter lets it.
        let calls = [F_GETFD, F_GETLEASE, F_SETLEASE, F_SETLEASE | 1 << 32]
            .map(|command| Call { number, args: [1000, command] });
        let answered = answers(&stage, abi, &default, &calls);
        assert_eq!(answered, [-libc::EBADF, -libc::EBADF, -libc::EPERM, -libc::EPERM], "{abi:?}");
    }
}

#[test]
fn a_32_bit_program_is_filtered_by_the_profile_that_lists_its_abi_and_killed_by_one_that_does_not() {
    let stage = stage!();
    if !Abi::available(&stage).contains(&Abi::I386) {
        skip!("this kernel runs no i386 programs");
    }
    let refused = json!({ "names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1000 });
    let calls = [Call { number: 132, args: [0, 0] }];
    let open = profile(&["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], std::slice::from_ref(&refused));
    assert_eq!(answers(&stage, Abi::I386, &open, &calls), [-1000]);
    let shut = profile(&["SCMP_ARCH_X86_64"], &[refused]);
    let exit = caller(&stage, Abi::I386, &shut, &calls).run().unwrap();
    assert_eq!(killed_by(&exit.outcome), Some(libc::SIGSYS));
}

#[test]
fn x32_is_shut_unless_listed() {
    let stage = stage!();
    if !Abi::available(&stage).contains(&Abi::X86_64) {
        skip!("the programs are of x86-64");
    }
    let calls = [Call { number: 0x4000_0000 | 121, args: [0, 0] }];
    let exit = caller(&stage, Abi::X86_64, &profile(&["SCMP_ARCH_X86"], &[]), &calls).run().unwrap();
    assert_eq!(killed_by(&exit.outcome), Some(libc::SIGSYS));
    let refused = json!({ "names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1000 });
    assert_eq!(answers(&stage, Abi::X86_64, &profile(&["SCMP_ARCH_X32"], &[refused]), &calls), [-1000]);
}

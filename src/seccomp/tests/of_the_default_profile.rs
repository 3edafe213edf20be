//! Every rule of the default profile does what its comment says.

use super::*;
use crate::seccomp::arch::{SyscallName, SyscallNumbers};
use crate::seccomp::default::{
    ALWAYS, F_SETDELEG, F_SETLEASE, NEW_NAMESPACES, PERSONALITIES, SOCKET_FAMILIES, TIOCLINUX, TIOCSTI,
    WITH_CAPABILITY,
};
use crate::seccomp::{compile, default_profile};
use crate::spec::CapSet;

fn filter(granted: CapSet) -> Filter {
    let mut profile = default_profile(granted);
    // For x86-64, on whatever machine the test runs.
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
    let named = ALWAYS.iter().copied().chain(WITH_CAPABILITY.iter().map(|(_, names)| *names));
    for name in named.flatten().copied() {
        let known = [Abi::X86_64, Abi::X86, Abi::Aarch64, Abi::Arm].iter().any(|abi| {
            let name = SyscallName::new(name);
            abi.numbers(name) != SyscallNumbers::default() || abi.multiplexer(name).is_some()
        });
        assert!(known, "{name}");
    }
}

#[test]
fn what_every_container_needs_is_allowed_through_both_abis() {
    let filter = filter(CapSet::empty());
    for name in ALWAYS.iter().flat_map(|group| group.iter()) {
        if let Ok(call) = syscalls::x86_64::Sysno::from_str(name) {
            assert_eq!(ask(&filter, Abi::X86_64, call.id() as u32, &[]), RET_ALLOW, "{name}");
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
        for name in names.iter().filter(|name| syscalls::x86_64::Sysno::from_str(name).is_ok()) {
            let args = [NEW_NAMESPACES];
            assert_eq!(native(&with, name, &args), RET_ALLOW, "{name}");
            let refused = native(&without, name, &args);
            // Some of these are newer than anything the profile names without the capability.
            let expected = if *name == "clone3" { NO_SUCH_CALL } else { NO };
            assert!(refused == expected || refused == NO_SUCH_CALL, "{name}: {refused:#x}");
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
        let verdict = if flags & NEW_NAMESPACES == 0 { RET_ALLOW } else { NO };
        for flags in [flags, flags | 17, flags | 0xff_0000_0000] {
            assert_eq!(native(&filter, "clone", &[flags]), verdict, "{flags:#x}");
            assert_eq!(ask(&filter, Abi::X86, x86("clone"), &[flags]), verdict, "{flags:#x}");
        }
    }
}

#[test]
fn no_command_of_ioctl_types_into_a_terminal() {
    for filter in [filter(CapSet::empty()), filter(CapSet::all())] {
        let verdict = |command: u64| {
            let native = native(&filter, "ioctl", &[0, command]);
            assert_eq!(
                ask(&filter, Abi::X86, x86("ioctl"), &[0, command & 0xffff_ffff]),
                native,
                "{command:#x}"
            );
            native
        };
        for command in [TIOCSTI, TIOCLINUX] {
            // The kernel does not see the upper half.
            for upper in [0, 1, 1 << 31, 0xffff_ffff] {
                assert_eq!(verdict(command | upper << 32), NO, "{command:#x}");
            }
            for bit in 0..32 {
                let other = command ^ 1 << bit;
                assert_eq!(verdict(other), RET_ALLOW, "{other:#x}");
            }
        }
        for command in (0x5400..0x5500).filter(|command| ![TIOCSTI, TIOCLINUX].contains(command)) {
            assert_eq!(verdict(command), RET_ALLOW, "{command:#x}");
        }
    }
}

#[test]
fn no_command_of_fcntl_takes_a_lease_without_the_capability() {
    let without = filter(CapSet::empty());
    let with = filter(CapSet::from_bits_retain(1 << 28));
    // linux/fcntl.h: F_DUPFD to F_OFD_SETLKW, and those from F_SETLEASE on.
    for command in (0..64).chain(F_SETLEASE..F_SETLEASE + 32) {
        let verdict = if [F_SETLEASE, F_SETDELEG].contains(&command) { NO } else { RET_ALLOW };
        // The kernel does not see the upper half.
        for args in [[3, command], [3, command | 1 << 32]] {
            assert_eq!(native(&without, "fcntl", &args), verdict, "{command}");
            assert_eq!(native(&with, "fcntl", &args), RET_ALLOW, "{command}");
        }
        for name in ["fcntl", "fcntl64"] {
            assert_eq!(ask(&without, Abi::X86, x86(name), &[3, command]), verdict, "{name}({command})");
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
        let listed = SOCKET_FAMILIES.iter().any(|(_, families)| families.contains(&family));
        for (filter, allowed) in [(&none, by_default), (&network, listed), (&all, listed)] {
            let verdict = if allowed { RET_ALLOW } else { NO };
            assert_eq!(native(filter, "socket", &[family]), verdict, "{family}");
            assert_eq!(ask(filter, Abi::X86, x86("socket"), &[family]), verdict, "{family}");
            assert_eq!(native(filter, "socket", &[family | 1 << 32]), NO, "{family}");
        }
        let pair = if family == 1 { RET_ALLOW } else { NO };
        assert_eq!(native(&all, "socketpair", &[family]), pair, "{family}");
    }
    assert_eq!(ask(&all, Abi::X86, x86("socketcall"), &[1]), NO, "SYS_SOCKET hides its family");
    assert_eq!(ask(&none, Abi::X86, x86("socketcall"), &[3]), RET_ALLOW, "SYS_CONNECT");
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
    assert_eq!(ask(&filter, Abi::X32, X32_BIT | x86_64("read"), &[]), RET_KILL_PROCESS);
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
        assert!(filter.instructions.len() < 600, "{} instructions", filter.instructions.len());
        let steps = |number| {
            run(&filter.instructions, &Call { number, arch: Abi::X86_64.audit(), ..Call::default() }).1
        };
        assert!(steps(x86_64("read")) <= 12, "{} steps for read", steps(x86_64("read")));
        assert!((0..500).all(|number| steps(number) <= 64));
    }
}

#[test]
fn the_machine_at_hand_compiles_it() {
    let compiled = compile(&default_profile(CapSet::empty())).unwrap();
    assert_eq!(compiled, compile(&default_profile(CapSet::empty())).unwrap());
    assert_ne!(compiled, compile(&default_profile(CapSet::all())).unwrap());
}

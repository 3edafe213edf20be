//! The ABIs a process can enter the kernel through, and the number each gives to a system call's name.
//!
//! What lives here: tables, nothing that knows about profiles. The numbers come from the `syscalls` crate, hashed by
//! name at compile time: a profile names hundreds of calls, and the caller waits for its container while it is
//! compiled.

use oci_spec::runtime::Arch;

/// The kernel's own architecture, which decides what ABIs exist beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    X86_64,
    Aarch64,
}

impl Machine {
    /// The machine this program was built for.
    pub(super) const HOST: Option<Self> = if cfg!(target_arch = "x86_64") {
        Some(Self::X86_64)
    } else if cfg!(target_arch = "aarch64") {
        Some(Self::Aarch64)
    } else {
        None
    };

    /// The ABIs a profile that lists `listed` is about: the native one always, the compatible ones if listed.
    pub(super) fn abis(self, listed: &[Arch]) -> Vec<Abi> {
        let (native, compatible): (Abi, &[(Arch, Abi)]) = match self {
            Self::X86_64 => (Abi::X86_64, &[(Arch::ScmpArchX32, Abi::X32), (Arch::ScmpArchX86, Abi::X86)]),
            Self::Aarch64 => (Abi::Aarch64, &[(Arch::ScmpArchArm, Abi::Arm)]),
        };
        let compatible = compatible.iter().filter(|(arch, _)| listed.contains(arch)).map(|(_, abi)| *abi);
        std::iter::once(native).chain(compatible).collect()
    }
}

/// A system call ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abi {
    X86_64,
    /// x86-64 with 32-bit pointers: the audit value of x86-64, numbers with [`X32_BIT`].
    X32,
    X86,
    Aarch64,
    Arm,
}

/// What x32 adds to every number (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// The numbers one name has in one ABI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SyscallNumbers {
    /// The number in the table shared by all machines of this ABI, where new calls are appended.
    pub(super) regular: Option<u32>,
    /// A number outside that table: one of x32's own, or one of Arm's private calls.
    pub(super) extra: Option<u32>,
}

impl Abi {
    /// `AUDIT_ARCH_*`, as the kernel puts it into `seccomp_data.arch`.
    pub(super) const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Whether the kernel looks only at the low half of each argument.
    pub(super) const fn narrow(self) -> bool {
        matches!(self, Self::X86 | Self::Arm)
    }

    /// What a rule sees of an argument, or of a value to compare it with.
    pub(super) const fn seen(self, value: u64) -> u64 {
        if self.narrow() { value & 0xffff_ffff } else { value }
    }

    /// The numbers of `name`; both are `None` where this ABI does not have the call.
    pub(super) fn numbers(self, name: SyscallName<'_>) -> SyscallNumbers {
        match self {
            Self::X86_64 => SyscallNumbers { regular: X86_64.find(name), extra: None },
            // Kernels before 5.4 also answer to the x86-64 number of calls that have an x32 number of their own, so a
            // rule about the name has to cover both.
            Self::X32 => SyscallNumbers {
                regular: X86_64.find(name).map(|number| X32_BIT | number),
                extra: position(&X32_CALLS, name).map(|index| X32_BIT | (512 + index)),
            },
            Self::X86 => SyscallNumbers { regular: X86.find(name.spelled("break", "r#break")), extra: None },
            Self::Aarch64 => {
                SyscallNumbers { regular: AARCH64.find(name.spelled("newfstatat", "fstatat")), extra: None }
            }
            Self::Arm => SyscallNumbers {
                regular: ARM.find(name),
                extra: position(&ARM_PRIVATE_CALLS, name).map(|index| 0x000f_0001 + index),
            },
        }
    }

    /// The call that hides `name` behind a pointer in this ABI, if there is one.
    pub(super) fn multiplexer(self, name: SyscallName<'_>) -> Option<Multiplexed> {
        if self != Self::X86 {
            return None;
        }
        if let Some(index) = position(&SOCKETCALL_CALLS, name) {
            // The kernel takes the call number as an int and refuses any other.
            return Some(Multiplexed { number: 102, mask: u32::MAX, call: index + 1 });
        }
        // The upper half of the call number is a version the kernel strips off.
        let (_, call) = *IPC_CALLS.iter().find(|(hidden, _)| *hidden == name.text)?;
        Some(Multiplexed { number: 117, mask: 0xffff, call })
    }
}

/// A call made through another: `number(call, pointer to the arguments)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Multiplexed {
    /// The multiplexer's own number.
    pub(super) number: u32,
    /// The bits of its first argument that select the call.
    pub(super) mask: u32,
    /// The value of those bits.
    pub(super) call: u32,
}

/// A system call name, hashed once for all ABIs.
#[derive(Clone, Copy, Debug)]
pub(super) struct SyscallName<'a> {
    text: &'a str,
    hash: usize,
}

impl<'a> SyscallName<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, hash: hash(text) }
    }

    /// The name to look up where a table of the `syscalls` crate spells `name` its own way.
    fn spelled(self, name: &str, in_table: &'static str) -> SyscallName<'a> {
        if self.text == name { SyscallName::new(in_table) } else { self }
    }
}

/// FNV-1a.
const fn hash(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut hash, mut at) = (0x811c_9dc5_u32, 0);
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash as usize
}

/// Open addressing over the hash of the names; at most half full, so a miss ends soon. It holds numbers, not names:
/// pointers would be relocated at each start of a helper process.
struct SyscallTable {
    slots: [u16; SLOTS],
    name: fn(usize) -> Option<&'static str>,
}

const SLOTS: usize = 1024;
const EMPTY: u16 = u16::MAX;

impl SyscallTable {
    fn find(&self, name: SyscallName<'_>) -> Option<u32> {
        let mut slot = name.hash % SLOTS;
        while self.slots[slot] != EMPTY {
            let number = self.slots[slot];
            if (self.name)(usize::from(number)) == Some(name.text) {
                return Some(u32::from(number));
            }
            slot = (slot + 1) % SLOTS;
        }
        None
    }
}

macro_rules! table {
    ($abi:ident) => {{
        use syscalls::$abi::Sysno;
        assert!(Sysno::count() <= SLOTS / 2);
        let mut slots = [EMPTY; SLOTS];
        let mut number = 0;
        while number <= Sysno::last().id() as usize {
            if let Some(call) = Sysno::new(number) {
                let mut slot = hash(call.name()) % SLOTS;
                while slots[slot] != EMPTY {
                    slot = (slot + 1) % SLOTS;
                }
                slots[slot] = number as u16;
            }
            number += 1;
        }
        SyscallTable { slots, name: |number| Sysno::new(number).map(|call| call.name()) }
    }};
}

static X86_64: SyscallTable = table!(x86_64);
static X86: SyscallTable = table!(x86);
static AARCH64: SyscallTable = table!(aarch64);
static ARM: SyscallTable = table!(arm);

fn position(calls: &[&str], name: SyscallName<'_>) -> Option<u32> {
    let index = calls.iter().position(|call| *call == name.text)?;
    u32::try_from(index).ok()
}

/// The calls whose arguments differ between x32 and x86-64, numbered from 512.
const X32_CALLS: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// Arm's private calls (`__ARM_NR_*`), numbered from 0xf0001.
const ARM_PRIVATE_CALLS: [&str; 6] = ["breakpoint", "cacheflush", "usr26", "usr32", "set_tls", "get_tls"];

/// What socketcall(2) hides, numbered from 1 (`SYS_SOCKET`).
const SOCKETCALL_CALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// What ipc(2) hides, with its number there.
const IPC_CALLS: [(&str, u32); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn regular(abi: Abi, name: &str) -> Option<u32> {
        abi.numbers(SyscallName::new(name)).regular
    }

    #[test]
    fn every_name_of_every_table_is_found_under_its_own_number() {
        for (table, last) in [
            (&X86_64, syscalls::x86_64::Sysno::last().id()),
            (&X86, syscalls::x86::Sysno::last().id()),
            (&AARCH64, syscalls::aarch64::Sysno::last().id()),
            (&ARM, syscalls::arm::Sysno::last().id()),
        ] {
            for number in 0..=u32::try_from(last).unwrap() {
                if let Some(name) = (table.name)(number as usize) {
                    assert_eq!(table.find(SyscallName::new(name)), Some(number), "{name}");
                }
            }
        }
    }

    #[test]
    fn one_name_has_the_number_of_its_abi() {
        assert_eq!(regular(Abi::X86_64, "openat"), Some(257));
        assert_eq!(regular(Abi::X32, "openat"), Some(X32_BIT | 257));
        assert_eq!(regular(Abi::X86, "openat"), Some(295));
        assert_eq!(regular(Abi::Aarch64, "openat"), Some(56));
        assert_eq!(regular(Abi::Arm, "openat"), Some(322));
    }

    #[test]
    fn names_are_those_of_the_manual_pages() {
        assert_eq!(regular(Abi::Aarch64, "newfstatat"), Some(79));
        assert_eq!(regular(Abi::X86, "break"), Some(17));
    }

    #[test]
    fn an_unknown_name_has_no_number() {
        for abi in [Abi::X86_64, Abi::X32, Abi::X86, Abi::Aarch64, Abi::Arm] {
            assert_eq!(abi.numbers(SyscallName::new("frobnicate")), SyscallNumbers::default());
            assert_eq!(abi.numbers(SyscallName::new("")), SyscallNumbers::default());
        }
    }

    #[test]
    fn x32_calls_with_their_own_number_answer_to_both() {
        let execve = Abi::X32.numbers(SyscallName::new("execve"));
        assert_eq!(execve, SyscallNumbers { regular: Some(X32_BIT | 59), extra: Some(X32_BIT | 520) });
        let last = Abi::X32.numbers(SyscallName::new("pwritev2"));
        assert_eq!(last.extra, Some(X32_BIT | 547));
    }

    #[test]
    fn only_i386_hides_sockets_behind_one_call() {
        let connect = SyscallName::new("connect");
        let hidden = Multiplexed { number: 102, mask: u32::MAX, call: 3 };
        assert_eq!(Abi::X86.multiplexer(connect), Some(hidden));
        assert_eq!(regular(Abi::X86, "socketcall"), Some(102));
        assert_eq!(regular(Abi::X86, "ipc"), Some(117));
        assert_eq!(Abi::X86_64.multiplexer(connect), None);
    }
}

//! The program of a container's PID 1: an ELF file of a page, written by hand so that the process which runs it has one
//! page of code, one of stack, and nothing of this program.
//!
//! ```text
//!   prctl(PR_SET_DUMPABLE, 0), prctl(PR_SET_NAME, "init")
//!   [ recvmsg(0)                  the namespaces of the workload, and its root
//!     setns, fchdir, chroot       enters them
//!     prctl, capset, close_range  gives up everything but descriptor 0 ]
//!   seccomp(SECCOMP_SET_MODE_FILTER, the filter in the file)
//!   close(0)                      tells the sandbox, at the other end, that all of this is done
//!   for ever: ppoll(nothing)
//! ```
//!
//! The part in brackets is for a process that executes the program before the workload has its namespaces. The calls are
//! a table in the file, which [`code`] goes through. At the first that fails, it writes which one and the errno to
//! descriptor 0, and exits.

use std::mem::size_of;

/// Where the file is loaded: a multiple of the largest page size, above every `vm.mmap_min_addr`.
const BASE: u64 = 0x40_0000;
const PROGRAM_HEADERS: u64 = 64;
/// The name of the process.
const NAME_AT: u64 = PROGRAM_HEADERS + 2 * 56;
/// The path ".".
const HERE_AT: u64 = NAME_AT + 8;
/// The `struct __user_cap_header_struct` and the two `struct __user_cap_data_struct` of capset(2).
const NO_CAPABILITIES_AT: u64 = HERE_AT + 8;
/// The `struct sock_fprog` of seccomp(2).
const FILTER_AT: u64 = NO_CAPABILITIES_AT + 8 + 24;
const INSTRUCTIONS_AT: u64 = FILTER_AT + 16;
const CALLS_AT: u64 = INSTRUCTIONS_AT + (FILTER_LENGTH * size_of::<libc::sock_filter>()) as u64;

/// What the program may call once it has its filter.
const ALLOWED: [i64; 4] = [libc::SYS_close, libc::SYS_ppoll, libc::SYS_restart_syscall, libc::SYS_exit_group];
const FILTER_LENGTH: usize = 5 + ALLOWED.len();

/// What the program receives and enters, in the order in which it is sent. Each is one descriptor, but for the mount
/// namespace, which the root to have in it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entering {
    Network,
    Cgroup,
    Mount,
}

/// The program, and the names of its calls.
pub(crate) struct InitProgram {
    /// An ELF file.
    pub(crate) file: Vec<u8>,
    names: Vec<&'static str>,
}

/// A row of the table: its name, the system call, and five arguments.
type Call = (&'static str, i64, [u64; 5]);

/// The number of 64-bit words in a row: number, arguments, and the least result that is no failure.
const WORDS: u64 = 7;

impl InitProgram {
    /// The program for a process that is in the workload's namespaces and has given everything up.
    pub(crate) fn settled() -> Self {
        Self::of(&[])
    }

    /// The program for a process that has one end of a connection as its descriptor 0, and no other. A message brings
    /// what it enters.
    pub(crate) fn entering(entering: &[Entering]) -> Self {
        let everything = u64::from(u32::MAX);
        let mut calls: Vec<Call> = vec![
            // Executing may have reset it.
            (
                "prctl(PR_SET_PDEATHSIG)",
                libc::SYS_prctl,
                [libc::PR_SET_PDEATHSIG as u64, libc::SIGKILL as u64, 0, 0, 0],
            ),
            (RECEIVE, libc::SYS_recvmsg, [0; 5]),
        ];
        // Descriptors get the lowest numbers that are free, and only 0 is not.
        let mut received = 1..;
        let mut next = || received.next().unwrap_or_default();
        for entered in entering {
            let (name, namespace) = match entered {
                Entering::Network => ("setns(CLONE_NEWNET)", libc::CLONE_NEWNET),
                Entering::Cgroup => ("setns(CLONE_NEWCGROUP)", libc::CLONE_NEWCGROUP),
                Entering::Mount => ("setns(CLONE_NEWNS)", libc::CLONE_NEWNS),
            };
            calls.push((name, libc::SYS_setns, [next(), namespace as u64, 0, 0, 0]));
            if *entered == Entering::Mount {
                calls.push(("fchdir(rootfs)", libc::SYS_fchdir, [next(), 0, 0, 0, 0]));
                calls.push(("chroot(\".\")", libc::SYS_chroot, [BASE + HERE_AT, 0, 0, 0, 0]));
            }
        }
        let (clear, none) = (libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, BASE + NO_CAPABILITIES_AT);
        calls.extend([
            ("prctl(PR_SET_NO_NEW_PRIVS)", libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0]),
            (
                "prctl(PR_CAP_AMBIENT_CLEAR_ALL)",
                libc::SYS_prctl,
                [libc::PR_CAP_AMBIENT as u64, clear, 0, 0, 0],
            ),
            ("capset(0)", libc::SYS_capset, [none, none + 8, 0, 0, 0]),
            ("close_range()", libc::SYS_close_range, [1, everything, 0, 0, 0]),
        ]);
        Self::of(&calls)
    }

    fn of(between: &[Call]) -> Self {
        let first = [
            ("prctl(PR_SET_DUMPABLE, 0)", libc::SYS_prctl, [libc::PR_SET_DUMPABLE as u64, 0, 0, 0, 0]),
            ("prctl(PR_SET_NAME)", libc::SYS_prctl, [libc::PR_SET_NAME as u64, BASE + NAME_AT, 0, 0, 0]),
        ];
        let last = (
            "seccomp()",
            libc::SYS_seccomp,
            [u64::from(libc::SECCOMP_SET_MODE_FILTER), 0, BASE + FILTER_AT, 0, 0],
        );
        let calls: Vec<Call> = first.into_iter().chain(between.iter().copied()).chain([last]).collect();
        let mut table: Vec<u64> = Vec::new();
        for (name, number, arguments) in &calls {
            table.push(number.cast_unsigned());
            table.extend(arguments);
            // A message has at least a byte; 0 is the end of the connection.
            table.push(u64::from(*name == RECEIVE));
        }
        // The end: no call of the program has this number.
        table.push(u64::MAX);
        Self { file: elf(&table), names: calls.iter().map(|(name, ..)| *name).collect() }
    }

    /// The call that failed and its errno, from what the program wrote.
    pub(crate) fn failure(&self, written: &[u8]) -> Option<(&'static str, i32)> {
        let (row, result) = written.split_first_chunk::<8>()?;
        let place = u64::from_ne_bytes(*row).checked_sub(BASE + CALLS_AT)? / (WORDS * 8);
        // Not the end of the connection, which is no errno: then the sandbox is gone.
        let errno = i64::from_ne_bytes(result.try_into().ok()?).checked_neg().filter(|errno| *errno > 0)?;
        Some((self.names.get(usize::try_from(place).ok()?)?, i32::try_from(errno).ok()?))
    }
}

const RECEIVE: &str = "recvmsg()";

fn elf(calls: &[u64]) -> Vec<u8> {
    let (filter, code) = (filter(), code());
    let code_at = CALLS_AT + size_of_val(calls) as u64;
    let size = code_at + code.len() as u64;

    let mut file = Vec::with_capacity(size as usize);
    // Elf64_Ehdr (elf(5)): 64 bits, little-endian, version 1.
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    put_u16(&mut file, [libc::ET_EXEC, MACHINE]);
    file.extend(1_u32.to_le_bytes());
    put_u64(&mut file, [BASE + code_at, PROGRAM_HEADERS, 0]);
    file.extend(0_u32.to_le_bytes());
    put_u16(&mut file, [64, 56, 2, 0, 0, 0]);
    // Elf64_Phdr: the whole file, which the process may read and execute.
    put_u32(&mut file, [libc::PT_LOAD, libc::PF_R | libc::PF_X]);
    put_u64(&mut file, [0, BASE, BASE, size, size, 0x1_0000]);
    // A stack that the process may not execute.
    put_u32(&mut file, [libc::PT_GNU_STACK, libc::PF_R | libc::PF_W]);
    put_u64(&mut file, [0, 0, 0, 0, 0, 16]);

    file.extend(b"init\0\0\0\0.\0\0\0\0\0\0\0");
    /// The version of both structs: `_LINUX_CAPABILITY_VERSION_3` (linux/capability.h).
    const CAPABILITY_VERSION: u32 = 0x2008_0522;
    put_u32(&mut file, [CAPABILITY_VERSION, 0]);
    put_u64(&mut file, [0; 3]);
    put_u64(&mut file, [filter.len() as u64, BASE + INSTRUCTIONS_AT]);
    for instruction in &filter {
        put_u16(&mut file, [instruction.code]);
        file.extend([instruction.jt, instruction.jf]);
        put_u32(&mut file, [instruction.k]);
    }
    file.extend(calls.iter().flat_map(|word| word.to_le_bytes()));
    file.extend(code);
    file
}

/// Kills the process if it makes another call than [`ALLOWED`], or one through another ABI. Written by hand, because
/// compiling a profile would delay every container.
fn filter() -> [libc::sock_filter; FILTER_LENGTH] {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const JUMP_IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    // Offsets in `struct seccomp_data`.
    const NUMBER: u32 = 0;
    const ABI: u32 = 4;
    let instruction = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [instruction(RETURN, libc::SECCOMP_RET_KILL_PROCESS, 0, 0); FILTER_LENGTH];
    let (kill, allow) = (filter.len() - 2, filter.len() - 1);
    let distance = |from: usize, to: usize| (to - from - 1) as u8;
    filter[0] = instruction(LOAD, ABI, 0, 0);
    filter[1] = instruction(JUMP_IF_EQUAL, OWN_ABI, 0, distance(1, kill));
    filter[2] = instruction(LOAD, NUMBER, 0, 0);
    for (index, number) in ALLOWED.into_iter().enumerate() {
        let at = 3 + index;
        filter[at] = instruction(JUMP_IF_EQUAL, number as u32, distance(at, allow), 0);
    }
    filter[allow] = instruction(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0);
    filter
}

fn put_u16<const N: usize>(file: &mut Vec<u8>, numbers: [u16; N]) {
    file.extend(numbers.into_iter().flat_map(u16::to_le_bytes));
}

fn put_u32<const N: usize>(file: &mut Vec<u8>, numbers: [u32; N]) {
    file.extend(numbers.into_iter().flat_map(u32::to_le_bytes));
}

fn put_u64<const N: usize>(file: &mut Vec<u8>, numbers: [u64; N]) {
    file.extend(numbers.into_iter().flat_map(u64::to_le_bytes));
}

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;
/// `AUDIT_ARCH_X86_64`, `AUDIT_ARCH_AARCH64`: the machine, 64 bits, little-endian (linux/audit.h).
const OWN_ABI: u32 = 0xc000_0000 | MACHINE as u32;

/// The machine code, which knows where the file is loaded. At the start of a program all registers but the stack
/// pointer are zero.
///
/// Below the stack pointer it makes what recvmsg(2) needs: the `struct msghdr` (0 to 55), the `struct iovec` that names
/// the byte at 104 (56 to 71), and room for four descriptors (72 to 103).
#[cfg(target_arch = "x86_64")]
fn code() -> &'static [u8] {
    let (start, end): (*const u8, *const u8);
    // SAFETY: the block puts the code among this program's constants, without executing it, and computes two addresses.
    unsafe {
        std::arch::asm!(
            ".pushsection .rodata.cofferdam_init, \"a\", @progbits",
            "77:",
            "sub rsp, 128",
            "xor eax, eax",
            "mov [rsp], rax",
            "mov [rsp + 8], rax",
            "mov [rsp + 48], rax",
            "lea rax, [rsp + 56]",
            "mov [rsp + 16], rax",
            "mov qword ptr [rsp + 24], 1",
            "lea rax, [rsp + 72]",
            "mov [rsp + 32], rax",
            "mov qword ptr [rsp + 40], 32",
            "lea rax, [rsp + 104]",
            "mov [rsp + 56], rax",
            "mov qword ptr [rsp + 64], 1",
            "mov ebx, {calls}",
            // The next call.
            "74:",
            "mov rax, [rbx]",
            "cmp rax, -1",
            "je 73f",
            "mov rdi, [rbx + 8]",
            "mov rsi, [rbx + 16]",
            "mov rdx, [rbx + 24]",
            "mov r10, [rbx + 32]",
            "mov r8, [rbx + 40]",
            "cmp qword ptr [rbx + 48], 0",
            "cmovne rsi, rsp",
            "syscall",
            "cmp rax, [rbx + 48]",
            "jl 76f",
            "add rbx, {row}",
            "jmp 74b",
            // All are done.
            "73:",
            "xor edi, edi",
            "mov eax, {close}",
            "syscall",
            "75:",
            "xor edi, edi",
            "xor esi, esi",
            "xor edx, edx",
            "xor r10d, r10d",
            "mov eax, {ppoll}",
            "syscall",
            "jmp 75b",
            // One has failed.
            "76:",
            "mov [rsp], rbx",
            "mov [rsp + 8], rax",
            "xor edi, edi",
            "mov rsi, rsp",
            "mov edx, 16",
            "mov eax, {write}",
            "syscall",
            "mov edi, 1",
            "mov eax, {exit_group}",
            "syscall",
            "78:",
            ".popsection",
            "lea {start}, [rip + 77b]",
            "lea {end}, [rip + 78b]",
            calls = const BASE + CALLS_AT,
            row = const WORDS * 8,
            close = const libc::SYS_close,
            ppoll = const libc::SYS_ppoll,
            write = const libc::SYS_write,
            exit_group = const libc::SYS_exit_group,
            start = out(reg) start,
            end = out(reg) end,
            options(nomem, nostack, preserves_flags),
        );
    }
    between(start, end)
}

/// As for x86_64 above.
#[cfg(target_arch = "aarch64")]
fn code() -> &'static [u8] {
    let (start, end): (*const u8, *const u8);
    // SAFETY: the block puts the code among this program's constants, without executing it, and computes two addresses.
    unsafe {
        std::arch::asm!(
            ".pushsection .rodata.cofferdam_init, \"a\", %progbits",
            ".p2align 2",
            "77:",
            "sub sp, sp, #128",
            "mov x1, #1",
            "mov x2, #32",
            "mov x12, sp",
            "stp xzr, xzr, [sp]",
            "add x0, sp, #56",
            "stp x0, x1, [sp, #16]",
            "add x0, sp, #72",
            "stp x0, x2, [sp, #32]",
            "str xzr, [sp, #48]",
            "add x0, sp, #104",
            "stp x0, x1, [sp, #56]",
            "movz x9, #{calls_low}",
            "movk x9, #{calls_high}, lsl #16",
            // The next call.
            "74:",
            "ldr x8, [x9]",
            "cmn x8, #1",
            "b.eq 73f",
            "ldp x0, x1, [x9, #8]",
            "ldp x2, x3, [x9, #24]",
            "ldp x4, x10, [x9, #40]",
            "cmp x10, #0",
            "csel x1, x12, x1, ne",
            "svc #0",
            "cmp x0, x10",
            "b.lt 76f",
            "add x9, x9, #{row}",
            "b 74b",
            // All are done.
            "73:",
            "mov x0, #0",
            "mov x8, #{close}",
            "svc #0",
            "75:",
            "mov x0, #0",
            "mov x1, #0",
            "mov x2, #0",
            "mov x3, #0",
            "mov x8, #{ppoll}",
            "svc #0",
            "b 75b",
            // One has failed.
            "76:",
            "stp x9, x0, [sp]",
            "mov x0, #0",
            "mov x1, sp",
            "mov x2, #16",
            "mov x8, #{write}",
            "svc #0",
            "mov x0, #1",
            "mov x8, #{exit_group}",
            "svc #0",
            "78:",
            ".popsection",
            "adrp {start}, 77b",
            "add {start}, {start}, :lo12:77b",
            "adrp {end}, 78b",
            "add {end}, {end}, :lo12:78b",
            calls_low = const (BASE + CALLS_AT) & 0xffff,
            calls_high = const (BASE + CALLS_AT) >> 16,
            row = const WORDS * 8,
            close = const libc::SYS_close,
            ppoll = const libc::SYS_ppoll,
            write = const libc::SYS_write,
            exit_group = const libc::SYS_exit_group,
            start = out(reg) start,
            end = out(reg) end,
            options(nomem, nostack, preserves_flags),
        );
    }
    between(start, end)
}

fn between(start: *const u8, end: *const u8) -> &'static [u8] {
    // SAFETY: `code` took both from one block of constants of this program, the end after the start.
    unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_call_of_its_row() {
        let program = InitProgram::entering(&[Entering::Network, Entering::Mount]);
        let written = |row: u64, result: i64| {
            [(BASE + CALLS_AT + row * WORDS * 8).to_ne_bytes(), result.to_ne_bytes()].concat()
        };
        assert_eq!(program.failure(&written(4, -1)), Some(("setns(CLONE_NEWNET)", 1)));
        assert_eq!(program.failure(&written(7, -13)), Some(("chroot(\".\")", 13)));
        assert_eq!(program.failure(&written(12, -22)), Some(("seccomp()", 22)));
        assert_eq!(program.failure(&written(13, -22)), None);
        assert_eq!(program.failure(&written(3, 0)), None);
        assert_eq!(program.failure(b"short"), None);
        let page = |program: InitProgram| program.file.len() <= 4096;
        assert!(page(InitProgram::entering(&[Entering::Network, Entering::Cgroup, Entering::Mount])));
    }

    #[test]
    fn the_filter_lets_the_program_wait_and_nothing_else() {
        let filter = filter();
        let decide = |abi: u32, number: u32| {
            let (mut at, mut value) = (0, 0);
            loop {
                let libc::sock_filter { code, jt, jf, k } = filter[at];
                at += 1;
                match u32::from(code) & 0x07 {
                    libc::BPF_LD => value = if k == 4 { abi } else { number },
                    libc::BPF_JMP => at += usize::from(if value == k { jt } else { jf }),
                    _ => return k,
                }
            }
        };
        for number in 0..1000 {
            let allowed = ALLOWED.contains(&i64::from(number));
            assert_eq!(decide(OWN_ABI, number) == libc::SECCOMP_RET_ALLOW, allowed, "{number}");
            assert_eq!(decide(OWN_ABI ^ 1, number), libc::SECCOMP_RET_KILL_PROCESS);
            assert_eq!(decide(OWN_ABI, number | 0x4000_0000), libc::SECCOMP_RET_KILL_PROCESS);
        }
    }
}

//! The program of a container's PID 1: an ELF file of a few hundred bytes, written by hand so that the process which
//! runs it has one page of code, one of stack, and nothing of this program.
//!
//! ```text
//!   prctl(PR_SET_NAME, "init")
//!   prctl(PR_SET_DUMPABLE, 0)
//!   seccomp(SECCOMP_SET_MODE_FILTER, the filter in the file)
//!   close(0)                      tells the sandbox, at the other end, that all of this is done
//!   for ever: ppoll(nothing)
//! ```
//!
//! If the kernel refuses the filter, the program exits.

use std::mem::size_of;

/// Where the file is loaded: a multiple of the largest page size, above every `vm.mmap_min_addr`.
const BASE: u64 = 0x40_0000;
const PROGRAM_HEADERS: u64 = 64;
/// The name of the process.
const NAME_AT: u64 = PROGRAM_HEADERS + 2 * 56;
/// The `struct sock_fprog` of seccomp(2).
const FILTER_AT: u64 = NAME_AT + 8;
const INSTRUCTIONS_AT: u64 = FILTER_AT + 16;

/// What the program may call once it has its filter.
const ALLOWED: [i64; 4] = [libc::SYS_close, libc::SYS_ppoll, libc::SYS_restart_syscall, libc::SYS_exit_group];

/// The program, as the bytes of an ELF file.
pub(crate) fn init_program() -> Vec<u8> {
    let (filter, code) = (filter(), code());
    let code_at = INSTRUCTIONS_AT + (filter.len() * size_of::<libc::sock_filter>()) as u64;
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

    file.extend(b"init\0\0\0\0");
    put_u64(&mut file, [filter.len() as u64, BASE + INSTRUCTIONS_AT]);
    for instruction in &filter {
        put_u16(&mut file, [instruction.code]);
        file.extend([instruction.jt, instruction.jf]);
        put_u32(&mut file, [instruction.k]);
    }
    file.extend(code);
    file
}

/// Kills the process if it makes another call than [`ALLOWED`], or one through another ABI. Written by hand, because
/// compiling a profile would delay every container.
fn filter() -> [libc::sock_filter; 5 + ALLOWED.len()] {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const JUMP_IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    // Offsets in `struct seccomp_data`.
    const NUMBER: u32 = 0;
    const ABI: u32 = 4;
    let instruction = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [instruction(RETURN, libc::SECCOMP_RET_KILL_PROCESS, 0, 0); 5 + ALLOWED.len()];
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
#[cfg(target_arch = "x86_64")]
fn code() -> &'static [u8] {
    let (start, end): (*const u8, *const u8);
    // SAFETY: the block puts the code among this program's constants, without executing it, and computes two addresses.
    unsafe {
        std::arch::asm!(
            ".pushsection .rodata.cofferdam_init, \"a\", @progbits",
            "77:",
            "mov edi, {set_name}",
            "mov esi, {name}",
            "mov eax, {prctl}",
            "syscall",
            "mov edi, {set_dumpable}",
            "xor esi, esi",
            "mov eax, {prctl}",
            "syscall",
            "mov edi, {set_filter}",
            "xor esi, esi",
            "mov edx, {filter}",
            "mov eax, {seccomp}",
            "syscall",
            "test eax, eax",
            "jnz 76f",
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
            "76:",
            "mov edi, 1",
            "mov eax, {exit_group}",
            "syscall",
            "78:",
            ".popsection",
            "lea {start}, [rip + 77b]",
            "lea {end}, [rip + 78b]",
            set_name = const libc::PR_SET_NAME,
            name = const BASE + NAME_AT,
            set_dumpable = const libc::PR_SET_DUMPABLE,
            prctl = const libc::SYS_prctl,
            set_filter = const libc::SECCOMP_SET_MODE_FILTER,
            filter = const BASE + FILTER_AT,
            seccomp = const libc::SYS_seccomp,
            close = const libc::SYS_close,
            ppoll = const libc::SYS_ppoll,
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
            "mov x0, #{set_name}",
            "movz x1, #{name_low}",
            "movk x1, #{name_high}, lsl #16",
            "mov x8, #{prctl}",
            "svc #0",
            "mov x0, #{set_dumpable}",
            "mov x1, #0",
            "mov x8, #{prctl}",
            "svc #0",
            "mov x0, #{set_filter}",
            "mov x1, #0",
            "movz x2, #{filter_low}",
            "movk x2, #{filter_high}, lsl #16",
            "mov x8, #{seccomp}",
            "svc #0",
            "cbnz x0, 76f",
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
            "76:",
            "mov x0, #1",
            "mov x8, #{exit_group}",
            "svc #0",
            "78:",
            ".popsection",
            "adrp {start}, 77b",
            "add {start}, {start}, :lo12:77b",
            "adrp {end}, 78b",
            "add {end}, {end}, :lo12:78b",
            set_name = const libc::PR_SET_NAME,
            name_low = const (BASE + NAME_AT) & 0xffff,
            name_high = const (BASE + NAME_AT) >> 16,
            set_dumpable = const libc::PR_SET_DUMPABLE,
            prctl = const libc::SYS_prctl,
            set_filter = const libc::SECCOMP_SET_MODE_FILTER,
            filter_low = const (BASE + FILTER_AT) & 0xffff,
            filter_high = const (BASE + FILTER_AT) >> 16,
            seccomp = const libc::SYS_seccomp,
            close = const libc::SYS_close,
            ppoll = const libc::SYS_ppoll,
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

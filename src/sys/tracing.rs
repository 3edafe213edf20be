//! ptrace(2): holding a child still, and making system calls as that child.
//!
//! None of this touches memory of this process but the buffers that are passed along.

use super::{check, last_errno};
use nix::sys::signal::{SigSet, Signal};
use rustix::io::Errno;
use rustix::process::Pid;
use std::io::{IoSlice, IoSliceMut};

/// What a look at a traced child found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It is stopped, by this signal or by the tracer's own request (SIGTRAP).
    Stopped(i32),
    /// It has ended, and is still to be collected.
    Ended,
}

/// A register set of a stopped process, as its raw words: see [`arch`].
#[derive(Clone, Debug)]
pub(crate) struct Registers(pub(crate) Vec<u64>);

impl Registers {
    /// Prepares the call `call` of six arguments at `instruction`, which makes it.
    pub(crate) fn call(&mut self, instruction: u64, call: &[u64; 7]) {
        let words = &mut self.0;
        words[arch::NUMBER] = call[0];
        arch::ARGUMENTS.iter().zip(&call[1..]).for_each(|(at, value)| words[*at] = *value);
        self.go_to(instruction);
    }

    /// Has the process go on at `instruction`, and forget the system call that it was in.
    pub(crate) fn go_to(&mut self, instruction: u64) {
        self.0[arch::INSTRUCTION] = instruction;
        if let Some(word) = arch::ORIGINAL_NUMBER {
            self.0[word] = u64::MAX;
        }
    }

    pub(crate) fn result(&self) -> u64 {
        self.0[arch::RESULT]
    }

    pub(crate) fn table(&mut self) -> &mut u64 {
        &mut self.0[arch::TABLE]
    }

    /// A sleep that was interrupted cannot be resumed in another process (`-ERESTART_RESTARTBLOCK`): it returns EINTR.
    pub(crate) fn end_sleep(&mut self) {
        const RESTART_BLOCK: i64 = -516;
        let result = &mut self.0[arch::RESULT];
        if *result as i64 == RESTART_BLOCK {
            *result = i64::from(-libc::EINTR) as u64;
        }
    }
}

/// What differs between the architectures: words of the general registers, and code.
#[cfg(target_arch = "x86_64")]
pub(crate) mod arch {
    pub(super) const WORDS: usize = 27;
    pub(super) const NUMBER: usize = 10;
    pub(super) const RESULT: usize = 10;
    pub(super) const ARGUMENTS: [usize; 6] = [14, 13, 12, 7, 9, 8];
    pub(super) const INSTRUCTION: usize = 16;
    pub(super) const ORIGINAL_NUMBER: Option<usize> = Some(15);
    /// rbx
    pub(super) const TABLE: usize = 5;
    /// NT_X86_XSTATE
    pub(crate) const FURTHER_SETS: &[i32] = &[0x202];
    /// The words of `struct stat` with the mode, and with the numbers of a device.
    pub(crate) const STAT_MODE: usize = 3;
    pub(crate) const STAT_DEVICE: usize = 5;
    pub(crate) const SYSTEM_CALL: &[u8] = &[0x0f, 0x05];

    /// Makes the calls of a table, eight words each: number, arguments, result. It stops at the number -1, and at a call
    /// that fails.
    pub(crate) fn run_table() -> Vec<u8> {
        const CODE: [u8; 54] = [
            0x48, 0x8b, 0x03, // 0: mov rax, [rbx]
            0x48, 0x83, 0xf8, 0xff, // cmp rax, -1
            0x74, 0x2c, // je 1
            0x48, 0x8b, 0x7b, 0x08, // mov rdi, [rbx + 8]
            0x48, 0x8b, 0x73, 0x10, // mov rsi, [rbx + 16]
            0x48, 0x8b, 0x53, 0x18, // mov rdx, [rbx + 24]
            0x4c, 0x8b, 0x53, 0x20, // mov r10, [rbx + 32]
            0x4c, 0x8b, 0x43, 0x28, // mov r8, [rbx + 40]
            0x4c, 0x8b, 0x4b, 0x30, // mov r9, [rbx + 48]
            0x0f, 0x05, // syscall
            0x48, 0x89, 0x43, 0x38, // mov [rbx + 56], rax
            0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, // cmp rax, -4095
            0x73, 0x06, // jae 1
            0x48, 0x83, 0xc3, 0x40, // add rbx, 64
            0xeb, 0xcb, // jmp 0
            0xcc, // 1: int3
        ];
        CODE.to_vec()
    }
}

/// As for x86_64 above.
#[cfg(target_arch = "aarch64")]
pub(crate) mod arch {
    pub(super) const WORDS: usize = 34;
    pub(super) const NUMBER: usize = 8;
    pub(super) const RESULT: usize = 0;
    pub(super) const ARGUMENTS: [usize; 6] = [0, 1, 2, 3, 4, 5];
    pub(super) const INSTRUCTION: usize = 32;
    /// In a register set of its own.
    pub(super) const ORIGINAL_NUMBER: Option<usize> = None;
    /// x19
    pub(super) const TABLE: usize = 19;
    /// NT_PRFPREG, NT_ARM_TLS
    pub(crate) const FURTHER_SETS: &[i32] = &[2, 0x401];
    pub(crate) const STAT_MODE: usize = 2;
    pub(crate) const STAT_DEVICE: usize = 4;
    pub(crate) const SYSTEM_CALL: &[u8] = &[0x01, 0x00, 0x00, 0xd4];

    pub(crate) fn run_table() -> Vec<u8> {
        const CODE: [u32; 13] = [
            0xf940_0268,                                   // 0: ldr x8, [x19]
            0xb100_051f,                                   // cmn x8, #1
            0x5400_0000 | 10 << 5,                         // b.eq 1
            0xa940_0000 | 1 << 15 | 1 << 10 | 19 << 5,     // ldp x0, x1, [x19, #8]
            0xa940_0000 | 3 << 15 | 3 << 10 | 19 << 5 | 2, // ldp x2, x3, [x19, #24]
            0xa940_0000 | 5 << 15 | 5 << 10 | 19 << 5 | 4, // ldp x4, x5, [x19, #40]
            0xd400_0001,                                   // svc #0
            0xf900_0000 | 7 << 10 | 19 << 5,               // str x0, [x19, #56]
            0xb13f_fc1f,                                   // cmn x0, #4095
            0x5400_0000 | 3 << 5 | 2,                      // b.hs 1
            0x9101_0273,                                   // add x19, x19, #64
            0x1400_0000 | 0x03ff_fff5,                     // b 0
            0xd420_0000,                                   // 1: brk #0
        ];
        CODE.into_iter().flat_map(u32::to_le_bytes).collect()
    }
}

/// NT_PRSTATUS: the general registers.
pub(crate) const GENERAL: i32 = 1;

/// More than the largest register set of today (AMX: 11 KiB).
const LARGEST_SET: usize = 64 << 10;

/// Has the parent trace this process, which then stops after its next execve(2). Until the tracer sets another mask, it
/// receives no signal but SIGTRAP: a stop before execve(2) would not be noticed.
pub(crate) fn be_traced() -> Result<(), Errno> {
    let mut all = SigSet::all();
    all.remove(Signal::SIGTRAP);
    all.thread_set_mask().map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
    // SAFETY: the request has no arguments.
    check(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) })
}

/// Begins to trace a child that runs, and stops it.
pub(crate) fn seize(pid: Pid) -> Result<(), Errno> {
    request(libc::PTRACE_SEIZE, pid, 0, 0)?;
    request(libc::PTRACE_INTERRUPT, pid, 0, 0)
}

/// Has the kernel kill the process if this one ends.
pub(crate) fn kill_with_tracer(pid: Pid) -> Result<(), Errno> {
    request(libc::PTRACE_SETOPTIONS, pid, 0, libc::PTRACE_O_EXITKILL as usize)
}

/// Lets a stopped process go on for one instruction, or until it stops by itself.
pub(crate) fn resume(pid: Pid, one_instruction: bool) -> Result<(), Errno> {
    let how = if one_instruction { libc::PTRACE_SINGLESTEP } else { libc::PTRACE_CONT };
    request(how, pid, 0, 0)
}

/// Ends the tracing. The process goes on.
pub(crate) fn detach(pid: Pid) -> Result<(), Errno> {
    request(libc::PTRACE_DETACH, pid, 0, 0)
}

/// Whether a traced child has stopped since the last look, or has ended; `None` if it runs. Does not collect it.
pub(crate) fn look(pid: Pid) -> Result<Option<Seen>, Errno> {
    // SAFETY: a siginfo is plain memory.
    let mut info = unsafe { std::mem::zeroed::<libc::siginfo_t>() };
    let id = pid.as_raw_nonzero().get() as libc::id_t;
    let flags = libc::WSTOPPED | libc::WNOHANG | libc::__WALL;
    // SAFETY: `info` is a siginfo of this function.
    check(unsafe { libc::waitid(libc::P_PID, id, &raw mut info, flags | libc::WEXITED | libc::WNOWAIT) })?;
    // SAFETY: waitid(2) fills this in for a child, and leaves it zero without news of one.
    match (unsafe { info.si_pid() }, info.si_code) {
        (0, _) => return Ok(None),
        (_, libc::CLD_STOPPED | libc::CLD_TRAPPED) => {}
        _ => return Ok(Some(Seen::Ended)),
    }
    // Now for good, so that the next look does not see this stop. Its end, if it was killed meanwhile, is not taken.
    // SAFETY: as above.
    check(unsafe { libc::waitid(libc::P_PID, id, &raw mut info, flags) })?;
    // SAFETY: as above.
    Ok(Some(Seen::Stopped(unsafe { info.si_status() } & 0x7f)))
}

/// A register set, as bytes.
pub(crate) fn register_set(pid: Pid, set: i32) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0_u8; LARGEST_SET];
    let mut io = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    request(libc::PTRACE_GETREGSET, pid, set as usize, (&raw mut io) as usize)?;
    bytes.truncate(io.iov_len);
    Ok(bytes)
}

pub(crate) fn set_register_set(pid: Pid, set: i32, bytes: &[u8]) -> Result<(), Errno> {
    let mut io = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    request(libc::PTRACE_SETREGSET, pid, set as usize, (&raw mut io) as usize)
}

pub(crate) fn registers(pid: Pid) -> Result<Registers, Errno> {
    let bytes = register_set(pid, GENERAL)?;
    let words: Vec<u64> =
        bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("8"))).collect();
    // A process of another architecture has another number of them.
    if words.len() == arch::WORDS { Ok(Registers(words)) } else { Err(Errno::NOEXEC) }
}

pub(crate) fn set_registers(pid: Pid, registers: &Registers) -> Result<(), Errno> {
    let bytes: Vec<u8> = registers.0.iter().flat_map(|word| word.to_ne_bytes()).collect();
    set_register_set(pid, GENERAL, &bytes)?;
    #[cfg(target_arch = "aarch64")]
    if registers.0[arch::INSTRUCTION] != 0 {
        // NT_ARM_SYSTEM_CALL: it is in no system call, so none is restarted.
        set_register_set(pid, 0x404, &(-1_i32).to_ne_bytes())?;
    }
    Ok(())
}

/// The signals that a stopped process blocks, as the kernel's 64 bits.
pub(crate) fn signal_mask(pid: Pid) -> Result<u64, Errno> {
    let mut mask = 0_u64;
    request(PTRACE_GETSIGMASK, pid, size_of::<u64>(), (&raw mut mask) as usize).map(|()| mask)
}

pub(crate) fn set_signal_mask(pid: Pid, mask: u64) -> Result<(), Errno> {
    request(PTRACE_SETSIGMASK, pid, size_of::<u64>(), (&raw const mask) as usize)
}

const PTRACE_GETSIGMASK: libc::c_uint = 0x420a;
const PTRACE_SETSIGMASK: libc::c_uint = 0x420b;
const PTRACE_GET_RSEQ_CONFIGURATION: libc::c_uint = 0x420f;

/// The restartable sequences of a stopped process (rseq(2)): address, size and signature; `None` if it has none.
pub(crate) fn rseq(pid: Pid) -> Result<Option<[u64; 3]>, Errno> {
    // struct ptrace_rseq_configuration
    let mut words = [0_u64; 3];
    let length = size_of_val(&words);
    match request(PTRACE_GET_RSEQ_CONFIGURATION, pid, length, words.as_mut_ptr() as usize) {
        // KERNEL(5.13): the request. A kernel without it may have restartable sequences, but cannot say so.
        Ok(()) if words[0] == 0 => Ok(None),
        Ok(()) => Ok(Some([words[0], words[1] & 0xffff_ffff, words[1] >> 32])),
        Err(errno) => Err(errno),
    }
}

/// The robust list of a process (get_robust_list(2)): its head and length.
pub(crate) fn robust_list(pid: Pid) -> Result<[u64; 2], Errno> {
    let mut words = [0_u64; 2];
    let [head, length] = &mut words;
    let number = pid.as_raw_nonzero().get();
    // SAFETY: the kernel writes a word to each of the pointers.
    check(unsafe { libc::syscall(libc::SYS_get_robust_list, number, &raw mut *head, &raw mut *length) })?;
    Ok(words)
}

/// Whether two descriptors of a process are one open file (kcmp(2), KCMP_FILE).
pub(crate) fn is_same_file(pid: Pid, one: u64, other: u64) -> Result<bool, Errno> {
    const KCMP_FILE: i32 = 0;
    let pid = pid.as_raw_nonzero().get();
    // SAFETY: kcmp(2) takes numbers alone.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, pid, pid, KCMP_FILE, one, other) };
    check(order).map(|()| order == 0)
}

/// Reads memory of another process. Fails unless all of it is there.
pub(crate) fn read_memory(pid: Pid, at: u64, into: &mut [u8]) -> Result<(), Errno> {
    let length = into.len();
    let remote = libc::iovec { iov_base: at as *mut _, iov_len: length };
    let mut local = [IoSliceMut::new(into)];
    // SAFETY: an IoSliceMut has the layout of an iovec; the remote addresses are not of this process.
    let read = unsafe {
        libc::process_vm_readv(
            pid.as_raw_nonzero().get(),
            local.as_mut_ptr().cast(),
            1,
            &raw const remote,
            1,
            0,
        )
    };
    complete(read, length)
}

/// Writes memory of another process.
pub(crate) fn write_memory(pid: Pid, at: u64, bytes: &[u8]) -> Result<(), Errno> {
    let remote = libc::iovec { iov_base: at as *mut _, iov_len: bytes.len() };
    let local = [IoSlice::new(bytes)];
    // SAFETY: an IoSlice has the layout of an iovec; the remote addresses are not of this process.
    let written = unsafe {
        libc::process_vm_writev(pid.as_raw_nonzero().get(), local.as_ptr().cast(), 1, &raw const remote, 1, 0)
    };
    complete(written, bytes.len())
}

fn complete(done: isize, length: usize) -> Result<(), Errno> {
    match usize::try_from(done) {
        Ok(done) if done == length => Ok(()),
        Ok(_) => Err(Errno::FAULT),
        Err(_) => Err(last_errno()),
    }
}

fn request(request: impl Into<i64>, pid: Pid, address: usize, data: usize) -> Result<(), Errno> {
    // The type of a request differs between the C libraries, and the system call takes a word.
    let (request, pid): (i64, _) = (request.into(), pid.as_raw_nonzero().get());
    // SAFETY: of these requests the kernel writes at most to what `data` points to, as long as `address` or an iovec
    // says: buffers of the callers above.
    check(unsafe { libc::syscall(libc::SYS_ptrace, request, pid, address, data) })
}

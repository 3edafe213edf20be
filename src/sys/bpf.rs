//! bpf(2) programs that decide which devices a cgroup may use.

use super::{check, last_errno};
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;

/// Commands, types and flags (linux/bpf.h).
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// The bytes of a `struct bpf_insn`.
const INSTRUCTION: usize = 8;

/// The fields of `union bpf_attr` for `BPF_PROG_LOAD` that every kernel has.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
}

/// The fields of `union bpf_attr` for `BPF_PROG_ATTACH` that every kernel has.
#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// All fields of `union bpf_attr` for `BPF_PROG_QUERY`: newer kernels write the revision, whatever size they are given.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// `bpf(BPF_PROG_LOAD)` of instructions in the machine's byte order, for [`attach_device_program`]. The verifier writes
/// its log to `log` and ends it with a zero byte; with an empty `log` it writes none, which is faster.
pub(crate) fn load_device_program(instructions: &[u8], log: &mut [u8]) -> Result<OwnedFd, Errno> {
    let mut load = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(instructions.len() / INSTRUCTION).map_err(|_| Errno::TOOBIG)?,
        insns: instructions.as_ptr() as u64,
        // The kernel wants a license; only its helper functions, which these programs do not call, depend on which.
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: u32::try_from(log.len()).map_err(|_| Errno::TOOBIG)?,
        log_buf: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
    };
    // SAFETY: `load` is a prefix of the union, and its size is given. The kernel reads `insn_cnt` instructions and a C
    // string, and writes at most `log_size` bytes to `log`, which is borrowed mutably. All live across the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw mut load, size_of::<Load>()) };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just opened this descriptor, close-on-exec, so no other value owns it.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(last_errno()),
    }
}

/// `bpf(BPF_PROG_ATTACH)` of a program to a cgroup v2 directory, in addition to those attached there: each of them must
/// allow an access in that cgroup and those below. It stays attached as long as the cgroup exists.
pub(crate) fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let number = |fd: BorrowedFd<'_>| fd.as_raw_fd().cast_unsigned();
    let mut attach = Attach {
        target_fd: number(cgroup),
        attach_bpf_fd: number(program),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: `attach` is a prefix of the union, its size is given, it has no pointers, and it lives across the call.
    check(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw mut attach, size_of::<Attach>()) })
}

/// `bpf(BPF_PROG_QUERY)`: how many device programs are attached to a cgroup v2 directory, not counting those of the
/// directories above it.
pub(crate) fn device_programs(cgroup: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut query = Query {
        target_fd: cgroup.as_raw_fd().cast_unsigned(),
        attach_type: BPF_CGROUP_DEVICE,
        ..Query::default()
    };
    // SAFETY: `query` has every field that this command writes, its size is given, it is borrowed mutably and lives
    // across the call. `prog_cnt` is 0, so the kernel writes no ids.
    check(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size_of::<Query>()) })?;
    Ok(query.prog_cnt)
}

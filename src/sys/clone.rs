//! clone3(2): its arguments, the ordinary fork, and a child that runs on a stack of its own in shared memory.
//!
//! * [`spawn_helper`](super::spawn_helper): from any thread of any caller, without copying its page tables and without
//!   touching anything that the caller can see: `CLONE_VM | CLONE_VFORK` on a stack of its own, straight into
//!   `execveat`.
//! * [`fork`]: from the single-threaded sandbox, an ordinary copy that goes on in Rust.
//! * [`fork_inside`](super::fork_inside): the same, but into a pid namespace where others can look into the new
//!   process, so it is born with only the descriptors that it may have.
//! * [`fork_sibling`](super::fork_sibling): from the single-threaded zygote, a child of the zygote's parent.

use super::last_errno;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::process::Pid;
use std::ffi::c_void;
use std::mem::MaybeUninit;

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The struct of clone3(2).
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct CloneArgs {
    pub(super) flags: u64,
    pub(super) pidfd: u64,
    pub(super) child_tid: u64,
    pub(super) parent_tid: u64,
    pub(super) exit_signal: u64,
    pub(super) stack: u64,
    pub(super) stack_size: u64,
    pub(super) tls: u64,
    pub(super) set_tid: u64,
    pub(super) set_tid_size: u64,
    pub(super) cgroup: u64,
}

impl CloneArgs {
    /// Has the child start in this cgroup v2 directory, or, without one, in its parent's cgroup.
    pub(super) fn into_cgroup(mut self, cgroup: Option<BorrowedFd<'_>>) -> Self {
        self.flags = self.flags & !CLONE_INTO_CGROUP | if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
        self.cgroup = cgroup.map_or(0, |cgroup| cgroup.as_raw_fd() as u64);
        self
    }
}

/// Which of the two processes after a [`fork`] this is.
pub(crate) enum Forked {
    /// The process that forked. `pid` counts in its own pid namespace.
    Parent { pid: Pid, pidfd: OwnedFd },
    /// The new process: a copy, with copies of all descriptors.
    Child,
}

/// `clone3` as a fork into new namespaces. Only for helpers, which are single-threaded: the copy goes on running
/// ordinary Rust, and would wait for ever for a lock that another thread held at this moment.
pub(crate) fn fork(namespaces: u32, cgroup: Option<BorrowedFd<'_>>) -> Result<Forked, Errno> {
    fork_with(CloneArgs { flags: namespaces.into(), ..CloneArgs::default() }.into_cgroup(cgroup))
}

/// As [`fork`], with this number in the pid namespace in which children of this process start.
pub(crate) fn fork_as(number: i32, namespaces: u32) -> Result<Forked, Errno> {
    let set_tid = &raw const number as u64;
    fork_with(CloneArgs { flags: namespaces.into(), set_tid, set_tid_size: 1, ..CloneArgs::default() })
}

fn fork_with(args: CloneArgs) -> Result<Forked, Errno> {
    let mut pidfd: RawFd = -1;
    let args = CloneArgs {
        flags: args.flags | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..args
    };
    // SAFETY: without CLONE_VM the child has its own copy of memory and stack. The callers (helpers, which never start
    // a thread, and `floor`, which requires the same of its caller) ensure that no other thread holds a lock. `pidfd`,
    // which the kernel writes to, lives across the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    forked(pid, pidfd)
}

/// What a clone3 with `CLONE_PIDFD` returned, in the parent or in the child.
pub(super) fn forked(pid: i64, pidfd: RawFd) -> Result<Forked, Errno> {
    match pid {
        ..0 => Err(last_errno()),
        0 => Ok(Forked::Child),
        _ => {
            // SAFETY: the call succeeded, so the kernel has stored a new descriptor here (CLONE_PIDFD), which no other
            // value owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = Pid::from_raw(pid as i32).expect("clone3 returns a positive pid to the parent");
            Ok(Forked::Parent { pid, pidfd })
        }
    }
}

/// Memory for the stack of a process that shares this memory: 16-byte aligned, as the ABIs of x86_64 and aarch64
/// require, and not cleared, because clearing costs a page fault for every page that is never used.
pub(super) fn new_stack(bytes: usize) -> Box<[MaybeUninit<u128>]> {
    Box::new_uninit_slice(bytes / size_of::<u128>())
}

/// Makes a process that calls `entry(argument)` on `stack`, and shares this process's memory. `args` has what else there is
/// to say: other flags, and the cgroup.
///
/// # Safety
/// `stack` must stay valid, and unused by others, until the process has executed or exited. So must what `entry` reaches
/// through `argument`.
pub(super) unsafe fn clone_sharing(
    args: CloneArgs,
    stack: &mut [MaybeUninit<u128>],
    entry: extern "C" fn(*const c_void) -> !,
    argument: *const c_void,
) -> Result<(Pid, OwnedFd), Errno> {
    let mut pidfd: RawFd = -1;
    let args = CloneArgs {
        flags: args.flags | (libc::CLONE_VM | libc::CLONE_PIDFD) as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.as_mut_ptr() as u64,
        stack_size: size_of_val(stack) as u64,
        ..args
    };
    // SAFETY: the caller keeps `stack` valid. `pidfd`, which the kernel writes to, lives across the call.
    let pid = unsafe { clone3_on_stack(&args, entry, argument) };
    if pid < 0 {
        return Err(Errno::from_raw_os_error(-pid as i32));
    }
    // SAFETY: the call succeeded, so the kernel has stored a new descriptor here (CLONE_PIDFD), which no other value
    // owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((Pid::from_raw(pid as i32).expect("clone3 returns a positive pid to the parent"), pidfd))
}

/// Makes the system call and, in the child, calls `entry(argument)` on the new stack. The parent gets the pid or
/// `-errno`.
///
/// # Safety
/// `args` must name a stack that stays valid until the child has executed or exited.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn clone3_on_stack(
    args: &CloneArgs,
    entry: extern "C" fn(*const c_void) -> !,
    argument: *const c_void,
) -> isize {
    let result: isize;
    // SAFETY: the syscall instruction clobbers rcx and r11 only. The child leaves through `entry`, which never returns,
    // so it never runs on this frame. The caller keeps the stack valid.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r9",
            "call r8",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") std::ptr::from_ref(args),
            in("rsi") size_of::<CloneArgs>(),
            in("r8") entry,
            in("r9") argument,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// As for x86_64 above.
///
/// # Safety
/// `args` must name a stack that stays valid until the child has executed or exited.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn clone3_on_stack(
    args: &CloneArgs,
    entry: extern "C" fn(*const c_void) -> !,
    argument: *const c_void,
) -> isize {
    let result: isize;
    // SAFETY: svc clobbers nothing but x0. The child leaves through `entry`, which never returns, so it never runs on
    // this frame. The caller keeps the stack valid.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x10",
            "blr x9",
            "brk #1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") std::ptr::from_ref(args) as isize => result,
            in("x1") size_of::<CloneArgs>(),
            in("x9") entry,
            in("x10") argument,
        );
    }
    result
}

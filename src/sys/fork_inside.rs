//! Forking a child into another pid namespace, with nothing open that processes there must not get.

use super::clone::{CloneArgs, clone3_on_stack, new_stack};
use super::descriptors::gaps_between;
use super::exec::{exit_now, wait4};
use super::last_errno;
use rustix::fd::{AsRawFd, BorrowedFd, RawFd};
use rustix::io::Errno;
use rustix::process::Pid;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// How [`fork_inside`] makes a process.
#[derive(Default)]
pub(crate) struct Inside<'a> {
    /// The pid namespace of the new process, or a pidfd of a process in it. If `None`, the one in which all children of
    /// the caller start.
    pub(crate) beside: Option<BorrowedFd<'a>>,
    /// Further namespaces of that process which the new one starts in: `CLONE_NEW*` of setns(2). With a mount namespace
    /// it also gets that namespace's root directory, so that the new process never shows another root.
    pub(crate) joins: u32,
    /// `CLONE_NEW*` (clone(2)).
    pub(crate) namespaces: u32,
    /// The cgroup v2 directory to start in, if this process may write there.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// The only descriptors that it ever has, besides 0, 1 and 2, which are `/dev/null` in every helper.
    pub(crate) keep: &'a [BorrowedFd<'a>],
}

/// What the process between parent and child works with. The parent prepares it, because that process must not
/// allocate.
struct Between<F> {
    beside: RawFd,
    joins: i32,
    flags: u64,
    /// The ranges of descriptors to close.
    gaps: Vec<(u32, u32)>,
    entry: std::cell::Cell<Option<F>>,
    /// The pid of the child, or the negative errno.
    result: AtomicI32,
    born_in_cgroup: AtomicBool,
}

/// Forks a child of this process into another pid namespace and runs `entry` in it. Returns its pid, in this process's
/// own pid namespace. The argument of `entry` is whether the child started in the cgroup.
///
/// A privileged process in that namespace can look into the new process from its first instruction on. So this process,
/// which has much open, does not fork it itself: a process between the two does, which shares this memory, has its own
/// descriptor table, closes everything but `keep` in it, and stays outside of that namespace.
///
/// Only for the single-threaded sandbox, as [`fork`](super::fork). `entry` runs on a copy of this process's memory, in
/// which values still name the descriptors that were closed. It must not return to the code that owns them; if it
/// returns, the child exits.
pub(crate) fn fork_inside<F: FnOnce(bool)>(how: &Inside<'_>, entry: F) -> Result<Pid, Errno> {
    /// For everything the child does before it executes.
    const STACK: usize = 1 << 20;
    let between = Between {
        beside: how.beside.map_or(-1, |pidfd| pidfd.as_raw_fd()),
        joins: libc::CLONE_NEWPID | how.joins.cast_signed(),
        flags: libc::CLONE_PARENT as u64 | u64::from(how.namespaces),
        gaps: gaps_between(how.keep),
        entry: std::cell::Cell::new(Some(entry)),
        result: AtomicI32::new(0),
        born_in_cgroup: AtomicBool::new(how.cgroup.is_some()),
    };
    let mut stack = new_stack(STACK);
    let args = CloneArgs {
        flags: (libc::CLONE_VM | libc::CLONE_VFORK) as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.as_mut_ptr() as u64,
        stack_size: STACK as u64,
        ..CloneArgs::default()
    };
    let start = |args: &CloneArgs| {
        // SAFETY: the process between runs `between_main` on `stack`, which outlives it: CLONE_VFORK suspends this
        // thread, the only one, until that process has exited. The child that it forks has copies of stack and memory.
        unsafe { clone3_on_stack(args, between_main::<F>, (&raw const between).cast()) }
    };
    // The child inherits the cgroup from the process between.
    let mut forked = result_of(start(&args.into_cgroup(how.cgroup)), &between);
    // ENOENT: the cgroup is outside of this process's cgroup namespace, on a hierarchy mounted with `nsdelegate`.
    // EAGAIN: the cgroup has no room for the two, or not even for the child, which can still move there: the limit is
    // for those who fork inside.
    let elsewhere = [Errno::ACCESS, Errno::PERM, Errno::NOENT, Errno::AGAIN];
    if how.cgroup.is_some() && forked.is_err_and(|errno| elsewhere.contains(&errno)) {
        between.born_in_cgroup.store(false, Ordering::Release);
        forked = result_of(start(&args), &between);
    }
    drop(stack);
    forked
}

/// The child of the process between, which clone3(2) returned the pid of, or what went wrong.
fn result_of<F>(pid: isize, between: &Between<F>) -> Result<Pid, Errno> {
    if pid < 0 {
        return Err(Errno::from_raw_os_error(-pid as i32));
    }
    // Collect the process between, which has exited. `result` says more than its status.
    let _ = wait4(Pid::from_raw(pid as i32).expect("clone3 returns a positive pid to the parent"));
    match between.result.load(Ordering::Acquire) {
        child @ 1.. => Ok(Pid::from_raw(child).expect("checked to be positive")),
        errno => Err(Errno::from_raw_os_error(-errno)),
    }
}

/// The process between: enters the namespaces, closes what its child must not have, and forks.
extern "C" fn between_main<F: FnOnce(bool)>(between: *const c_void) -> ! {
    // SAFETY: `fork_inside` passes a `Between<F>` that stays alive and unmoved while CLONE_VFORK suspends it. In the
    // child this is the child's own copy.
    let between = unsafe { &*between.cast::<Between<F>>() };
    let fail = |errno: Errno| -> ! {
        between.result.store(-errno.raw_os_error(), Ordering::Release);
        exit_now(1)
    };
    if between.beside >= 0 {
        // SAFETY: setns with integers changes the namespaces of this process only, and those that its child starts in.
        // This process shares no root or working directory with another (no CLONE_FS).
        if unsafe { libc::setns(between.beside, between.joins) } < 0 {
            fail(last_errno());
        }
    }
    for (first, last) in &between.gaps {
        // SAFETY: the call changes this process's own descriptor table (no CLONE_FILES), and neither this process nor
        // its child uses these numbers again.
        if unsafe { libc::syscall(libc::SYS_close_range, *first, *last, 0) } < 0 {
            fail(last_errno());
        }
    }
    let args = CloneArgs { flags: between.flags, ..CloneArgs::default() };
    // SAFETY: without CLONE_VM the child has its own copy of memory and stack. The sandbox is single-threaded, so no
    // other thread holds a lock.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match pid {
        ..0 => fail(last_errno()),
        0 => {
            if let Some(entry) = between.entry.take() {
                entry(between.born_in_cgroup.load(Ordering::Acquire));
            }
            exit_now(1)
        }
        _ => {
            between.result.store(pid as i32, Ordering::Release);
            exit_now(0)
        }
    }
}

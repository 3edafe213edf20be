//! Making processes: `clone3(2)` in the three shapes the crate needs.
//!
//! * [`spawn_helper`]: from any thread of any caller, without copying its page tables and without touching anything
//!   the caller can see. `CLONE_VM | CLONE_VFORK` on a stack of its own, straight into `execveat`.
//! * [`fork`]: from the single-threaded sandbox, an ordinary copy that goes on in Rust.
//! * [`fork_inside`]: the same, but into a pid namespace where others look on, with nothing open that they must not get.

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::process::Pid;
use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

pub(super) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CHILD_STACK: usize = 64 << 10;
/// The number of the first donated descriptor; 0, 1 and 2 are `/dev/null`.
pub(crate) const FIRST_DONATED: RawFd = 3;

/// What to execute, and what it gets.
pub(crate) struct Helper<'a> {
    /// The program image; it is never open in the new program.
    pub(crate) image: BorrowedFd<'a>,
    pub(crate) argv: &'a [&'a CStr],
    pub(crate) envp: &'a [&'a CStr],
    /// Becomes descriptors 0, 1 and 2.
    pub(crate) null: BorrowedFd<'a>,
    /// Becomes descriptors 3, 4, ... in order; every other descriptor is closed.
    pub(crate) donated: &'a [BorrowedFd<'a>],
    /// `CLONE_NEW*` (clone(2)).
    pub(crate) namespaces: u32,
    /// A cgroup v2 directory to be born in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
}

/// Which call failed, in this process or between clone and exec in the new one.
#[derive(Debug)]
pub(crate) struct SpawnError {
    pub(crate) call: &'static str,
    pub(crate) errno: Errno,
}

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

/// What the child reads, prepared before the clone because the child must not allocate.
struct ChildPlan {
    image: RawFd,
    null: RawFd,
    sources: Vec<RawFd>,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    raise_ambient: bool,
    /// Written by the child, read by the parent: both run in the same memory.
    failed_call: AtomicU32,
    errno: AtomicI32,
}

const CALLS: [&str; 6] = ["", "dup3(source)", "dup3(target)", "close_range", "execveat", "capset"];

/// Starts a helper process from any thread: no page table is copied and no signal handler of the caller can run in it.
/// The helper starts with every signal blocked ([`super::reset_signals`] is its first act).
pub(crate) fn spawn_helper(helper: &Helper<'_>) -> Result<(Pid, OwnedFd), SpawnError> {
    let null_terminated = |strings: &[&CStr]| {
        strings.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect::<Vec<_>>()
    };
    let plan = ChildPlan {
        image: helper.image.as_raw_fd(),
        null: helper.null.as_raw_fd(),
        sources: helper.donated.iter().map(AsRawFd::as_raw_fd).collect(),
        argv: null_terminated(helper.argv),
        envp: null_terminated(helper.envp),
        raise_ambient: helper.namespaces & libc::CLONE_NEWUSER as u32 != 0,
        failed_call: AtomicU32::new(0),
        errno: AtomicI32::new(0),
    };
    let mut stack = new_stack(CHILD_STACK);
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD) as u64 | u64::from(helper.namespaces),
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.as_mut_ptr() as u64,
        stack_size: CHILD_STACK as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = helper.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }

    let blocked = block_all_signals();
    // SAFETY: the child runs `child_main` on `stack`, which outlives it: CLONE_VFORK suspends this thread until the
    // child has executed or exited, and `plan` is only reached through the pointer given. Signals are blocked in this
    // thread, so the child, which inherits the mask, never runs a handler of the caller on the shared memory.
    let pid = unsafe { clone3_on_stack(&args, child_main, (&raw const plan).cast()) };
    restore_signals(&blocked);
    drop(stack);

    if pid < 0 {
        return Err(SpawnError { call: "clone3", errno: Errno::from_raw_os_error(-pid as i32) });
    }
    // SAFETY: the kernel stored a new descriptor here (CLONE_PIDFD) that nothing else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let errno = plan.errno.load(Ordering::Acquire);
    if errno != 0 {
        let call = CALLS[plan.failed_call.load(Ordering::Acquire) as usize];
        let _ = rustix::process::waitid(
            rustix::process::WaitId::PidFd(rustix::fd::AsFd::as_fd(&pidfd)),
            rustix::process::WaitIdOptions::EXITED,
        );
        return Err(SpawnError { call, errno: Errno::from_raw_os_error(errno) });
    }
    let pid = Pid::from_raw(pid as i32).expect("clone3 returns a positive pid to the parent");
    Ok((pid, pidfd))
}

/// Room for the stack of a process that shares this memory: 16-byte aligned, as the ABIs of x86_64 and aarch64 want it,
/// and not cleared, which would cost a page fault for every page that is never used.
fn new_stack(bytes: usize) -> Box<[std::mem::MaybeUninit<u128>]> {
    Box::new_uninit_slice(bytes / size_of::<u128>())
}

/// The new process, until it executes: no allocation, no lock, no libc state but errno.
extern "C" fn child_main(plan: *const c_void) -> ! {
    // SAFETY: `spawn_helper` passes a `ChildPlan` that stays alive and unmoved while it is suspended by CLONE_VFORK.
    let plan = unsafe { &*plan.cast::<ChildPlan>() };
    let (call, errno) = child_steps(plan);
    plan.failed_call.store(call, Ordering::Release);
    plan.errno.store(errno, Ordering::Release);
    super::identity::exit_now(127)
}

/// Places the descriptors and executes; returns only on failure, as an index into [`CALLS`] and an errno.
fn child_steps(plan: &ChildPlan) -> (u32, i32) {
    let count = plan.sources.len() as RawFd;
    let image_at = FIRST_DONATED + count;
    // First everything out of the way of the target numbers, then into place. The copies start above every number in
    // play, so that no copy lands on a source that is still to be copied.
    let highest = plan.sources.iter().copied().fold(plan.null.max(plan.image).max(image_at), RawFd::max);
    let above = highest + 1;
    for (&source, copy) in [plan.null].iter().chain(&plan.sources).chain([&plan.image]).zip(above..) {
        // SAFETY: dup3 on numbers of this process's own table, which is a copy (no CLONE_FILES).
        if unsafe { libc::dup3(source, copy, libc::O_CLOEXEC) } < 0 {
            // Every source is open, so it is the number of the copy that is bad: above RLIMIT_NOFILE (dup(2)).
            let errno = if last_errno() == libc::EBADF { libc::EMFILE } else { last_errno() };
            return (1, errno);
        }
    }
    for target in 0..FIRST_DONATED {
        // SAFETY: as above.
        if unsafe { libc::dup3(above, target, 0) } < 0 {
            return (2, last_errno());
        }
    }
    for index in 0..count {
        // SAFETY: as above.
        if unsafe { libc::dup3(above + 1 + index, FIRST_DONATED + index, 0) } < 0 {
            return (2, last_errno());
        }
    }
    // SAFETY: as above.
    if unsafe { libc::dup3(above + 1 + count, image_at, libc::O_CLOEXEC) } < 0 {
        return (2, last_errno());
    }
    // The copies, and whatever else the caller has open: it need not be close-on-exec.
    // SAFETY: closes numbers of this process's own table only.
    if unsafe { libc::syscall(libc::SYS_close_range, image_at + 1, u32::MAX, 0) } < 0 {
        return (3, last_errno());
    }
    // In a new user namespace no id is mapped yet, so exec would drop every capability; ambient ones survive it.
    if plan.raise_ambient
        && let Err(errno) = raise_ambient_capabilities()
    {
        return (5, errno);
    }
    // SAFETY: argv and envp are null-terminated arrays of strings that the suspended parent keeps alive.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            image_at,
            c"".as_ptr(),
            plan.argv.as_ptr(),
            plan.envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    (4, last_errno())
}

fn raise_ambient_capabilities() -> Result<(), i32> {
    /// `struct __user_cap_header_struct` and two `__user_cap_data_struct` of capset(2).
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    let mut data = [0_u32; 6];
    // SAFETY: version 3 wants room for two data structs of three words, which `data` is.
    if unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) } < 0 {
        return Err(last_errno());
    }
    // Inheritable becomes what is permitted: ambient may not exceed either.
    data[2] = data[1];
    data[5] = data[4];
    // SAFETY: as above.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) } < 0 {
        return Err(last_errno());
    }
    let permitted = u64::from(data[1]) | u64::from(data[4]) << 32;
    for capability in (0..64).filter(|n| permitted >> n & 1 == 1) {
        // SAFETY: prctl with integers; an unknown capability is an error return.
        if unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) } < 0 {
            return Err(last_errno());
        }
    }
    Ok(())
}

/// Which side of a [`fork`] this is.
pub(crate) enum Forked {
    /// The original process, with the child's pid in its own namespace.
    Parent { pid: Pid, pidfd: OwnedFd },
    /// The copy. Its descriptors are copies too.
    Child,
}

/// `clone3` as a fork into new namespaces. Only for the helpers, which are single-threaded: the copy goes on running
/// ordinary Rust, so no other thread may hold a lock.
pub(crate) fn fork(namespaces: u32, cgroup: Option<BorrowedFd<'_>>) -> Result<Forked, Errno> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: libc::CLONE_PIDFD as u64 | u64::from(namespaces),
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has its own copy of memory and stack; the callers (sandbox and its children)
    // never start a thread, so no lock is held by a thread that does not exist in the copy.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    forked(pid, pidfd)
}

/// What clone3 returned, as whoever this is sees it.
pub(super) fn forked(pid: i64, pidfd: RawFd) -> Result<Forked, Errno> {
    match pid {
        ..0 => Err(Errno::from_raw_os_error(last_errno())),
        0 => Ok(Forked::Child),
        _ => {
            // SAFETY: the kernel stored a new descriptor here (CLONE_PIDFD) that nothing else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = Pid::from_raw(pid as i32).expect("clone3 returns a positive pid to the parent");
            Ok(Forked::Parent { pid, pidfd })
        }
    }
}

/// How a process is made by [`fork_inside`].
#[derive(Default)]
pub(crate) struct Inside<'a> {
    /// The pid namespace that it is born into, or a process (pidfd) in it; the caller's own for its children if `None`.
    pub(crate) beside: Option<BorrowedFd<'a>>,
    /// Further namespaces of that process that it is born into: `CLONE_NEW*` of setns(2). With its mount namespace goes
    /// its root directory, so that no other is ever seen of the new process.
    pub(crate) joins: u32,
    /// `CLONE_NEW*` (clone(2)).
    pub(crate) namespaces: u32,
    /// A cgroup v2 directory to be born in, if this process may write there.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// The descriptors it has; it never sees any other.
    pub(crate) keep: &'a [BorrowedFd<'a>],
}

/// What the process between parent and child works with: made before it, because it must not allocate.
struct Between<F> {
    beside: RawFd,
    joins: i32,
    flags: u64,
    /// What is closed: numbers from the first to the last, of each.
    gaps: Vec<(u32, u32)>,
    entry: std::cell::Cell<Option<F>>,
    /// The pid of the child, or the negative errno.
    result: AtomicI32,
    born_in_cgroup: AtomicBool,
}

/// Forks a child of this process into another pid namespace and runs `entry` in it, which is told whether it was born in
/// the cgroup. Returns its pid, in this process's own pid namespace.
///
/// Whoever is privileged inside that namespace may look at the new process, and into it, from its first instruction on.
/// So it is not forked from this process, with everything this process has open, but from a process between the two,
/// which shares this memory, has closed all but `keep` in its own descriptor table, and stays outside.
///
/// Only for the single-threaded sandbox, as [`fork`]. `entry` runs on a copy of this process's memory, where owned
/// descriptors that were not kept are closed already: it must not return into code that owns them, and does not.
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
    let mut args = CloneArgs {
        flags: (libc::CLONE_VM | libc::CLONE_VFORK) as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.as_mut_ptr() as u64,
        stack_size: STACK as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = how.cgroup {
        // The child inherits it from the process between.
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    let start = |args: &CloneArgs| {
        // SAFETY: the process between runs `between_main` on `stack`, which outlives it: CLONE_VFORK suspends this, the
        // only thread until it has exited. The child it forks has copies of both.
        unsafe { clone3_on_stack(args, between_main::<F>, (&raw const between).cast()) }
    };
    let mut pid = start(&args);
    // ENOENT: on the other side of a border that cgroup namespaces are (`nsdelegate`).
    if how.cgroup.is_some() && [libc::EACCES, libc::EPERM, libc::ENOENT].contains(&(-pid as i32)) {
        args.flags &= !CLONE_INTO_CGROUP;
        between.born_in_cgroup.store(false, Ordering::Release);
        pid = start(&args);
    }
    drop(stack);
    if pid < 0 {
        return Err(Errno::from_raw_os_error(-pid as i32));
    }
    // It has exited already; its status says nothing that `result` does not.
    let _ = super::wait4(Pid::from_raw(pid as i32).expect("clone3 returns a positive pid to the parent"));
    match between.result.load(Ordering::Acquire) {
        child @ 1.. => Ok(Pid::from_raw(child).expect("checked to be positive")),
        errno => Err(Errno::from_raw_os_error(-errno)),
    }
}

/// The numbers that are not in `keep`, as ranges for close_range(2). 0, 1 and 2 are `/dev/null` in every helper.
fn gaps_between(keep: &[BorrowedFd<'_>]) -> Vec<(u32, u32)> {
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).collect();
    kept.sort_unstable();
    kept.dedup();
    let mut gaps = Vec::with_capacity(kept.len() + 1);
    let mut from = FIRST_DONATED.unsigned_abs();
    for number in kept.into_iter().filter(|number| *number >= FIRST_DONATED.unsigned_abs()) {
        if number > from {
            gaps.push((from, number - 1));
        }
        from = number + 1;
    }
    gaps.push((from, u32::MAX));
    gaps
}

/// The process between: enters the pid namespace for its children, lets go of what they must not have, forks.
extern "C" fn between_main<F: FnOnce(bool)>(between: *const c_void) -> ! {
    // SAFETY: `fork_inside` passes a `Between<F>` that stays alive and unmoved while it is suspended by CLONE_VFORK;
    // in the child this is its own copy of it.
    let between = unsafe { &*between.cast::<Between<F>>() };
    let fail = |errno: i32| -> ! {
        between.result.store(-errno, Ordering::Release);
        super::identity::exit_now(1)
    };
    if between.beside >= 0 {
        // SAFETY: setns with integers; it decides where this process's children are born, and where this process is,
        // which shares no root or working directory with anybody (no CLONE_FS).
        if unsafe { libc::setns(between.beside, between.joins) } < 0 {
            fail(last_errno());
        }
    }
    for (first, last) in &between.gaps {
        // SAFETY: closes numbers of this process's own table (no CLONE_FILES); nothing here uses them any more.
        unsafe { libc::syscall(libc::SYS_close_range, *first, *last, 0) };
    }
    let args = CloneArgs { flags: between.flags, ..CloneArgs::default() };
    // SAFETY: without CLONE_VM the child has its own copy of memory and stack, and this thread is the only one.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match pid {
        ..0 => fail(last_errno()),
        0 => {
            if let Some(entry) = between.entry.take() {
                entry(between.born_in_cgroup.load(Ordering::Acquire));
            }
            super::identity::exit_now(1)
        }
        _ => {
            between.result.store(pid as i32, Ordering::Release);
            super::identity::exit_now(0)
        }
    }
}

/// Makes the system call and, in the child, calls `entry(argument)` on the new stack. Returns the pid or `-errno`.
///
/// # Safety
/// `args` must name a stack that stays valid until the child has executed or exited.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3_on_stack(
    args: &CloneArgs,
    entry: extern "C" fn(*const c_void) -> !,
    argument: *const c_void,
) -> isize {
    let result: isize;
    // SAFETY: the syscall instruction clobbers rcx and r11 only. The child leaves through `entry`, which never
    // returns, so it never runs on this frame; the caller promises the stack.
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

/// See the x86_64 twin.
///
/// # Safety
/// `args` must name a stack that stays valid until the child has executed or exited.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3_on_stack(
    args: &CloneArgs,
    entry: extern "C" fn(*const c_void) -> !,
    argument: *const c_void,
) -> isize {
    let result: isize;
    // SAFETY: svc clobbers nothing but x0. The child leaves through `entry`, which never returns, so it never runs on
    // this frame; the caller promises the stack.
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

fn block_all_signals() -> libc::sigset_t {
    let mut old = std::mem::MaybeUninit::uninit();
    let mut all = std::mem::MaybeUninit::uninit();
    // SAFETY: sigfillset initialises `all`.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: `all` is initialised, `old` is written by the call, which cannot fail with a valid `how`.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr()) };
    // SAFETY: initialised by the call above.
    unsafe { old.assume_init() }
}

fn restore_signals(old: &libc::sigset_t) {
    // SAFETY: `old` came from the kernel in `block_all_signals`.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old, std::ptr::null_mut()) };
}

fn last_errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

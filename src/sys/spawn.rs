//! Executing a helper from any thread of any caller: `clone3(CLONE_VM | CLONE_VFORK)`, then `execveat`.

use super::clone::{CloneArgs, clone_sharing, new_stack};
use super::descriptors::FIRST_AFTER_STDIO;
use super::exec::exit_now;
use super::last_errno;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions};
use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

const CHILD_STACK: usize = 64 << 10;

/// The program to execute, and what it starts with.
pub(crate) struct Helper<'a> {
    /// The program image. The new program does not have it open.
    pub(crate) image: BorrowedFd<'a>,
    pub(crate) argv: &'a [&'a CStr],
    pub(crate) envp: &'a [&'a CStr],
    /// Becomes descriptors 0, 1 and 2.
    pub(crate) null: BorrowedFd<'a>,
    /// Becomes descriptors 3, 4, ... in order; every other descriptor is closed.
    pub(crate) donated: &'a [BorrowedFd<'a>],
    /// `CLONE_NEW*` (clone(2)).
    pub(crate) namespaces: u32,
    /// Namespaces that it joins before it is in a new user namespace, each with its `CLONE_NEW*`.
    pub(crate) joins: &'a [(i32, BorrowedFd<'a>)],
    /// The cgroup v2 directory to start in; `None` for the caller's cgroup.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
}

/// The call that failed: in this process, or in the new one between clone and exec.
#[derive(Debug)]
pub(crate) struct SpawnError {
    pub(crate) call: &'static str,
    pub(crate) errno: Errno,
}

/// What the child reads. The parent prepares it, because the child must not allocate.
struct ChildPlan {
    image: RawFd,
    null: RawFd,
    sources: Vec<RawFd>,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    joins: Vec<(i32, RawFd)>,
    /// Whether it makes the user namespace itself, after the joins.
    new_user_namespace: bool,
    raise_ambient: bool,
    /// The child writes these two and the parent reads them: both run in the same memory.
    failed_call: AtomicU32,
    errno: AtomicI32,
}

const CALLS: [&str; 8] = [
    "",
    "dup3(source)",
    "dup3(target)",
    "close_range",
    "execveat",
    "capset",
    SETNS,
    "unshare(CLONE_NEWUSER)",
];

/// The call by which a helper joins a namespace.
pub(crate) const SETNS: &str = "setns";

/// Starts a helper from any thread. No page table is copied, and no signal handler of the caller can run in the child.
/// The helper starts with the signals blocked that libc can block, and with the caller's ignored ones ignored.
pub(crate) fn spawn_helper(helper: &Helper<'_>) -> Result<(Pid, OwnedFd), SpawnError> {
    let null_terminated = |strings: &[&CStr]| {
        strings.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect::<Vec<_>>()
    };
    let user = libc::CLONE_NEWUSER.cast_unsigned();
    let new_user_namespace = helper.namespaces & user != 0 && !helper.joins.is_empty();
    let with_clone = if new_user_namespace { helper.namespaces & !user } else { helper.namespaces };
    let plan = ChildPlan {
        image: helper.image.as_raw_fd(),
        null: helper.null.as_raw_fd(),
        sources: helper.donated.iter().map(AsRawFd::as_raw_fd).collect(),
        argv: null_terminated(helper.argv),
        envp: null_terminated(helper.envp),
        joins: helper.joins.iter().map(|(kind, namespace)| (*kind, namespace.as_raw_fd())).collect(),
        new_user_namespace,
        raise_ambient: helper.namespaces & user != 0,
        failed_call: AtomicU32::new(0),
        errno: AtomicI32::new(0),
    };
    let mut stack = new_stack(CHILD_STACK);
    let flags = libc::CLONE_VFORK as u64 | u64::from(with_clone);
    let args = CloneArgs { flags, ..CloneArgs::default() }.into_cgroup(helper.cgroup);

    let blocked = block_all_signals();
    // SAFETY: the child runs `child_main` on `stack`, which outlives it: CLONE_VFORK suspends this thread until the
    // child has executed or exited, and `plan` is only reached through the pointer given. Signals are blocked in this
    // thread, so the child, which inherits the mask, never runs a handler of the caller on the shared memory.
    let cloned = unsafe { clone_sharing(args, &mut stack, child_main, (&raw const plan).cast()) };
    restore_signals(&blocked);
    drop(stack);

    let (pid, pidfd) = cloned.map_err(|errno| SpawnError { call: "clone3", errno })?;
    let errno = plan.errno.load(Ordering::Acquire);
    if errno != 0 {
        let call = CALLS[plan.failed_call.load(Ordering::Acquire) as usize];
        let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        return Err(SpawnError { call, errno: Errno::from_raw_os_error(errno) });
    }
    Ok((pid, pidfd))
}

/// The new process until it executes. It shares the caller's memory, so it allocates nothing, takes no lock, and
/// changes no state of libc but errno.
extern "C" fn child_main(plan: *const c_void) -> ! {
    // SAFETY: `spawn_helper` passes a `ChildPlan` that stays alive and unmoved while it is suspended by CLONE_VFORK.
    let plan = unsafe { &*plan.cast::<ChildPlan>() };
    let (call, errno) = child_steps(plan);
    plan.failed_call.store(call, Ordering::Release);
    plan.errno.store(errno.raw_os_error(), Ordering::Release);
    exit_now(127)
}

/// Places the descriptors and executes. Returns only on failure: an index into [`CALLS`] and the errno.
fn child_steps(plan: &ChildPlan) -> (u32, Errno) {
    for (kind, namespace) in &plan.joins {
        // SAFETY: setns with integers changes the namespaces of this process only: it shares memory with the caller, but
        // no namespaces.
        if unsafe { libc::setns(*namespace, *kind) } < 0 {
            return (6, last_errno());
        }
    }
    // SAFETY: as for setns. This process is the only thread of its thread group.
    if plan.new_user_namespace && unsafe { libc::unshare(libc::CLONE_NEWUSER) } < 0 {
        return (7, last_errno());
    }
    let count = plan.sources.len() as RawFd;
    let image_at = FIRST_AFTER_STDIO + count;
    // Copy every source above all numbers in use first, then copy each to its target: so no copy overwrites a source
    // that has not been copied yet.
    let highest = plan.sources.iter().copied().fold(plan.null.max(plan.image).max(image_at), RawFd::max);
    let above = highest + 1;
    for (&source, copy) in [plan.null].iter().chain(&plan.sources).chain([&plan.image]).zip(above..) {
        // SAFETY: dup3 with integers changes only this process's descriptor table, which is a copy (no CLONE_FILES).
        if unsafe { libc::dup3(source, copy, libc::O_CLOEXEC) } < 0 {
            // Every source is open, so EBADF is about the number of the copy: it is above RLIMIT_NOFILE (dup(2)).
            let errno = if last_errno() == Errno::BADF { Errno::MFILE } else { last_errno() };
            return (1, errno);
        }
    }
    for target in 0..FIRST_AFTER_STDIO {
        // SAFETY: as for the first dup3.
        if unsafe { libc::dup3(above, target, 0) } < 0 {
            return (2, last_errno());
        }
    }
    for index in 0..count {
        // SAFETY: as for the first dup3.
        if unsafe { libc::dup3(above + 1 + index, FIRST_AFTER_STDIO + index, 0) } < 0 {
            return (2, last_errno());
        }
    }
    // SAFETY: as for the first dup3.
    if unsafe { libc::dup3(above + 1 + count, image_at, libc::O_CLOEXEC) } < 0 {
        return (2, last_errno());
    }
    // Close the copies and everything else that the caller has open, because not all of it need be close-on-exec.
    // SAFETY: the call changes only this process's descriptor table.
    if unsafe { libc::syscall(libc::SYS_close_range, image_at + 1, u32::MAX, 0) } < 0 {
        return (3, last_errno());
    }
    // In a new user namespace no id is mapped yet, so exec drops every capability except ambient ones.
    if plan.raise_ambient
        && let Err(errno) = raise_ambient_capabilities()
    {
        return (5, errno);
    }
    // SAFETY: argv and envp are null-terminated arrays of C strings, which `spawn_helper` keeps alive: CLONE_VFORK
    // suspends it until this call succeeds or this process exits.
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

fn raise_ambient_capabilities() -> Result<(), Errno> {
    /// `struct __user_cap_header_struct` and two `__user_cap_data_struct` of capset(2).
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    let mut data = [0_u32; 6];
    // SAFETY: version 3 writes two structs of three words, and `data` has six words.
    if unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) } < 0 {
        return Err(last_errno());
    }
    // Copy permitted to inheritable: an ambient capability must be in both.
    data[2] = data[1];
    data[5] = data[4];
    // SAFETY: version 3 reads two structs of three words, and `data` has six words.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) } < 0 {
        return Err(last_errno());
    }
    let permitted = u64::from(data[1]) | u64::from(data[4]) << 32;
    for capability in (0..64).filter(|n| permitted >> n & 1 == 1) {
        // SAFETY: prctl with integers has no memory effects.
        if unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) } < 0 {
            return Err(last_errno());
        }
    }
    Ok(())
}

pub(super) fn block_all_signals() -> libc::sigset_t {
    let mut old = std::mem::MaybeUninit::uninit();
    let mut all = std::mem::MaybeUninit::uninit();
    // SAFETY: `all` is a valid place for a set, which sigfillset initialises.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: `all` is initialised, and `old` is a valid place for a set.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr()) };
    // SAFETY: the call above initialised it; it fails only for an invalid `how`.
    unsafe { old.assume_init() }
}

pub(super) fn restore_signals(old: &libc::sigset_t) {
    // SAFETY: `old` is an initialised set, which `block_all_signals` got from the kernel.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old, std::ptr::null_mut()) };
}

//! Forking a child into another pid namespace, with nothing open that processes there must not get.

use super::clone::{CloneArgs, clone_sharing, clone3_on_stack, new_stack};
use super::descriptors::{FIRST_AFTER_STDIO, gaps_between};
use super::exec::{exit_now, wait4};
use super::last_errno;
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::process::Pid;
use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// How [`fork_inside`] makes a process.
pub(crate) struct Inside<'a> {
    /// The pid namespace of the new process, or a pidfd of a process in it. If `None`, the one in which all children of
    /// the caller start.
    pub(crate) beside: Option<BorrowedFd<'a>>,
    /// Further namespaces of that process which the new one starts in: `CLONE_NEW*` of setns(2). With a mount namespace
    /// it also gets that namespace's root directory, so that the new process never shows another root.
    pub(crate) joins: u32,
    /// `CLONE_NEW*` (clone(2)).
    pub(crate) namespaces: u32,
    /// The cgroup v2 directory to start in, if this process may write there. A process before it does not start there.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// What its descriptors 0, 1 and 2 are at first, because in this process they are the host's `/dev/null`. It is among
    /// `keep`.
    pub(crate) streams: BorrowedFd<'a>,
    /// The only descriptors that it ever has besides those three.
    pub(crate) keep: &'a [BorrowedFd<'a>],
}

/// What the process between parent and child works with. The parent prepares it, because that process must not
/// allocate.
struct Between<R, F> {
    beside: RawFd,
    joins: i32,
    namespaces: u32,
    /// How the child starts, but for its cgroup.
    child: CloneArgs,
    streams: RawFd,
    /// The ranges of descriptors to close.
    gaps: Vec<(u32, u32)>,
    /// Whether a process comes before the child.
    has_first: bool,
    first: Cell<Option<R>>,
    entry: Cell<Option<F>>,
    /// The pid of the process before the child; 0 if there is none.
    first_pid: AtomicI32,
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
    fork_between(how, None::<fn()>, entry).map(|(_, child)| child)
}

/// As [`fork_inside`], but makes two processes in the new namespaces of `how`: the first runs `first`, and in a new pid
/// namespace it is PID 1. It has all descriptors of this process. Returns both pids, the first one's first.
pub(crate) fn fork_two_inside<R: FnOnce(), F: FnOnce(bool)>(
    how: &Inside<'_>,
    first: R,
    entry: F,
) -> Result<(Pid, Pid), Errno> {
    let (first, child) = fork_between(how, Some(first), entry)?;
    Ok((first.expect("the process between forks it before the child"), child))
}

/// Makes a process that runs `run` on this process's memory, which saves the copy of the page tables, and starts in this
/// process's namespaces for children. Returns when it has executed a program or exited.
///
/// Only for the single-threaded sandbox. `run` has copies of all descriptors, and must neither leave a value behind that
/// names one of its own, nor return to the code that owns the others; if it returns, the process exits.
pub(crate) fn spawn_sharing<R: FnOnce()>(run: R) -> Result<(Pid, OwnedFd), Errno> {
    let mut stack = new_stack(1 << 17);
    let args = CloneArgs { flags: libc::CLONE_VFORK as u64, ..CloneArgs::default() };
    let run = Cell::new(Some(run));
    // SAFETY: the new process runs `sharing_main` on `stack`. Both that and `run` outlive it: CLONE_VFORK suspends this
    // thread, the only one, until it has executed or exited.
    unsafe { clone_sharing(args, &mut stack, sharing_main::<R>, (&raw const run).cast()) }
}

/// Runs `run` in a process with this number in the pid namespace in which children of this process start, and returns when it
/// has ended. It shares memory and descriptors with this process, so what it leaves behind is as if this process had done
/// it; working directory, root and mask are its own.
///
/// Only for init, which is single-threaded. `run` must not unwind.
pub(crate) fn run_as<R: FnOnce()>(number: i32, run: R) -> Result<(), Errno> {
    let mut stack = new_stack(8 << 20);
    let flags = (libc::CLONE_VFORK | libc::CLONE_FILES) as u64;
    let args =
        CloneArgs { flags, set_tid: &raw const number as u64, set_tid_size: 1, ..CloneArgs::default() };
    let run = Cell::new(Some(run));
    // SAFETY: the new process runs `sharing_main` on `stack`. Both that, `run` and `number` outlive it: CLONE_VFORK suspends
    // this thread, the only one, until it has exited. It never executes a program.
    let (pid, _) = unsafe { clone_sharing(args, &mut stack, sharing_main::<R>, (&raw const run).cast()) }?;
    wait4(pid).map(drop)
}

extern "C" fn sharing_main<R: FnOnce()>(run: *const c_void) -> ! {
    // SAFETY: `spawn_sharing` passes a `Cell<Option<R>>` that stays alive and that it does not touch while it is suspended.
    let run = unsafe { &*run.cast::<Cell<Option<R>>>() };
    if let Some(run) = run.take() {
        run();
    }
    exit_now(1)
}

fn fork_between<R: FnOnce(), F: FnOnce(bool)>(
    how: &Inside<'_>,
    first: Option<R>,
    entry: F,
) -> Result<(Option<Pid>, Pid), Errno> {
    /// For everything the child does before it executes.
    const STACK: usize = 1 << 20;
    let has_first = first.is_some();
    // Two processes share namespaces only if the process between makes these.
    let of_child = if has_first { 0 } else { how.namespaces };
    // A child inherits the cgroup from the process between, and then has no descriptor of it. The first of two is not to
    // be in that cgroup: there the second, which starts where nothing else looks into it, is put into it alone.
    let (of_both, of_second) = if has_first { (None, how.cgroup) } else { (how.cgroup, None) };
    let kept: Vec<_> = how.keep.iter().copied().chain(of_second).collect();
    let between = Between {
        beside: how.beside.map_or(-1, |pidfd| pidfd.as_raw_fd()),
        joins: libc::CLONE_NEWPID | how.joins.cast_signed(),
        namespaces: how.namespaces,
        child: CloneArgs { flags: libc::CLONE_PARENT as u64 | u64::from(of_child), ..CloneArgs::default() }
            .into_cgroup(of_second),
        streams: how.streams.as_raw_fd(),
        gaps: gaps_between(&kept),
        has_first,
        first: Cell::new(first),
        entry: Cell::new(Some(entry)),
        first_pid: AtomicI32::new(0),
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
        // thread, the only one, until that process has exited. The processes that it forks have copies of stack and
        // memory.
        unsafe { clone3_on_stack(args, between_main::<R, F>, (&raw const between).cast()) }
    };
    let mut forked = result_of(start(&args.into_cgroup(of_both)), &between);
    if of_both.is_some() && forked.is_err_and(is_refused) {
        between.born_in_cgroup.store(false, Ordering::Release);
        forked = result_of(start(&args), &between);
    }
    drop(stack);
    forked
}

/// The children of the process between, which clone3(2) returned the pid of, or what went wrong.
fn result_of<R, F>(pid: isize, between: &Between<R, F>) -> Result<(Option<Pid>, Pid), Errno> {
    if pid < 0 {
        return Err(Errno::from_raw_os_error(-pid as i32));
    }
    // Collect the process between, which has exited. `result` says more than its status.
    let _ = wait4(Pid::from_raw(pid as i32).expect("clone3 returns a positive pid to the parent"));
    let first = Pid::from_raw(between.first_pid.load(Ordering::Acquire));
    match between.result.load(Ordering::Acquire) {
        child @ 1.. => Ok((first, Pid::from_raw(child).expect("checked to be positive"))),
        errno => {
            if let Some(first) = first {
                // Alone it is of no use.
                let _ = rustix::process::kill_process(first, rustix::process::Signal::KILL);
                let _ = wait4(first);
            }
            Err(Errno::from_raw_os_error(-errno))
        }
    }
}

/// Whether a process cannot be born in the cgroup, and has to move there. `ENOENT`: the cgroup is outside of this
/// process's cgroup namespace, on a hierarchy mounted with `nsdelegate`. `EAGAIN`: the cgroup has no room for it, or for
/// the process between; it can still move there, because the limit is for those who fork inside.
fn is_refused(errno: Errno) -> bool {
    [Errno::ACCESS, Errno::PERM, Errno::NOENT, Errno::AGAIN].contains(&errno)
}

/// The process between: enters the namespaces, closes what its child must not have, and forks.
extern "C" fn between_main<R: FnOnce(), F: FnOnce(bool)>(between: *const c_void) -> ! {
    // SAFETY: `fork_between` passes a `Between<R, F>` that stays alive and unmoved while CLONE_VFORK suspends it. In a
    // process that is forked here this is that process's own copy.
    let between = unsafe { &*between.cast::<Between<R, F>>() };
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
    if between.has_first {
        // SAFETY: as for setns.
        if unsafe { libc::unshare(between.namespaces.cast_signed()) } < 0 {
            fail(last_errno());
        }
        match fork_here(&CloneArgs { flags: libc::CLONE_PARENT as u64, ..CloneArgs::default() }) {
            ..0 => fail(last_errno()),
            0 => {
                if let Some(first) = between.first.take() {
                    first();
                }
                exit_now(1)
            }
            pid => between.first_pid.store(pid, Ordering::Release),
        }
    }
    for (first, last) in &between.gaps {
        // SAFETY: the call changes this process's own descriptor table (no CLONE_FILES), and neither this process nor
        // its child uses these numbers again.
        if unsafe { libc::syscall(libc::SYS_close_range, *first, *last, 0) } < 0 {
            fail(last_errno());
        }
    }
    for stream in 0..FIRST_AFTER_STDIO {
        // SAFETY: as for close_range: in this process's own descriptor table.
        if unsafe { libc::dup2(between.streams, stream) } < 0 {
            fail(last_errno());
        }
    }
    let mut pid = fork_here(&between.child);
    if pid < 0 && between.has_first && is_refused(last_errno()) {
        between.born_in_cgroup.store(false, Ordering::Release);
        let outside = between.child.into_cgroup(None);
        // The fork that was refused has used up the number 2, which the child would have had: ask for it.
        let number: libc::pid_t = 2;
        let numbered = CloneArgs { set_tid: &raw const number as u64, set_tid_size: 1, ..outside };
        pid = fork_here(&numbered);
        if pid < 0 {
            pid = fork_here(&outside);
        }
    }
    match pid {
        ..0 => fail(last_errno()),
        0 => {
            if let Some(entry) = between.entry.take() {
                entry(between.born_in_cgroup.load(Ordering::Acquire));
            }
            exit_now(1)
        }
        _ => {
            between.result.store(pid, Ordering::Release);
            exit_now(0)
        }
    }
}

/// clone3(2) as a fork, in the process between. Returns the pid, 0 in the child, or -1 with errno set.
fn fork_here(args: &CloneArgs) -> i32 {
    // SAFETY: without CLONE_VM the child has its own copy of memory and stack. The sandbox is single-threaded, so no
    // other thread holds a lock.
    unsafe { libc::syscall(libc::SYS_clone3, std::ptr::from_ref(args), size_of::<CloneArgs>()) as i32 }
}

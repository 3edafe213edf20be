//! What a process does to itself on the way to execve(2) or while it waits, and how its parent collects it.

use super::{check, last_errno};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use rustix::process::Pid;
use std::ffi::{CStr, c_char};

/// Gives this process the default disposition for every signal and an empty mask. Ignored signals and the mask survive
/// execve(2), so without this the caller's choices would reach the workload.
pub(crate) fn reset_signals() {
    reset_dispositions();
    unblock_signals();
}

/// Gives this process the default disposition for every signal.
pub(crate) fn reset_dispositions() {
    set_dispositions(libc::SIG_DFL as u64);
}

fn set_dispositions(handler: u64) {
    // The kernel's struct sigaction, which is at most this long: the handler comes first, and no flags.
    let action = [handler, 0, 0, 0];
    const MASK_BYTES: usize = 8;
    for signal in 1..=64 {
        // The kernel refuses SIGKILL and SIGSTOP, whose disposition is always the default. Not through libc: it refuses
        // the two signals that it uses itself, and a caller may have ignored those all the same.
        // SAFETY: SIG_DFL and SIG_IGN install no code, and the struct, which the call only reads, outlives it.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                action.as_ptr(),
                std::ptr::null_mut::<u64>(),
                MASK_BYTES,
            )
        };
    }
}

/// Has this process ignore every signal, also after execve(2). The kernel then collects its children itself when they end
/// (sigaction(2), "SIGCHLD").
pub(crate) fn ignore_signals() {
    set_dispositions(libc::SIG_IGN as u64);
}

/// Blocks every signal in this process and in what it forks, so that only SIGKILL, SIGSTOP and faults of its own end or stop
/// it: a supervisor that signals every process below it must not end a helper. Not through libc, which leaves out the two
/// signals that it uses itself.
pub(crate) fn block_signals() {
    let all = u64::MAX;
    // SAFETY: the call only reads `all`, which has the length of the kernel's set.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            std::ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    };
}

/// Gives this process an empty signal mask.
pub(crate) fn unblock_signals() {
    let mut none = std::mem::MaybeUninit::uninit();
    // SAFETY: `none` is a valid place for a set, which sigemptyset initialises.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: `none` is initialised.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) };
}

/// Whether this process is in the initial user namespace, whose root is the root of the machine.
pub(crate) fn is_in_initial_user_namespace() -> bool {
    // PROC_USER_INIT_INO, which is part of the kernel's interface (linux/nsfs.h).
    const INITIAL: &str = "user:[4026531837]";
    std::fs::read_link("/proc/self/ns/user").is_ok_and(|name| name.as_os_str() == INITIAL)
}

/// A new, anonymous session keyring: keyctl(2) `KEYCTL_JOIN_SESSION_KEYRING`.
pub(crate) fn join_new_session_keyring() -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
    // SAFETY: a null name asks for an anonymous keyring, and the kernel reads no memory.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) })
}

/// What the session keyring lets its possessor, owner, group and others do, as `KEY_*` of linux/key.h: keyctl(2)
/// `KEYCTL_SETPERM`.
pub(crate) fn set_session_keyring_permissions(permissions: u32) -> Result<(), Errno> {
    const KEYCTL_SETPERM: i32 = 5;
    const KEY_SPEC_SESSION_KEYRING: i32 = -3;
    // SAFETY: the call takes integers only.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, KEY_SPEC_SESSION_KEYRING, permissions) })
}

/// setrlimit(2) by number: OCI may name limits that the enums of other crates do not have.
pub(crate) fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` is valid for the call, which only reads it; the null pointer asks for no old limits.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            &raw const limit,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    })
}

/// getrlimit(2) by number: the soft and the hard limit.
pub(crate) fn rlimit(resource: u32) -> Result<(u64, u64), Errno> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for the call, which fills it in; the null pointer sets no limit.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::null::<libc::rlimit64>(), &raw mut limit)
    })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// execveat(2) of the file itself, with `name` as its only argument and no environment. Returns only if it failed.
pub(crate) fn execute_file(program: BorrowedFd<'_>, name: &CStr) -> Errno {
    let (argv, envp) = ([name.as_ptr(), std::ptr::null()], [std::ptr::null::<c_char>()]);
    // SAFETY: both arrays end with a null pointer, and the C strings live across the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last_errno()
}

/// pidfd_send_signal(2) by number, because the enums of other crates have no real-time signals.
pub(crate) fn pidfd_send_raw(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let pidfd = pidfd.as_raw_fd();
    // SAFETY: with a null siginfo the kernel reads no memory.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, signal, std::ptr::null::<u8>(), 0) })
}

/// Gives the free pages of the heap back to the kernel: malloc_trim(3). Helpers call it when the container is made:
/// they need the most memory for that, and then wait.
pub(crate) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator takes its own locks and gives back only memory that is free.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// _exit(2): runs no destructor and no atexit handler, and flushes no buffer copied from the parent.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: the call takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

/// How a child ended and what it used: wait4(2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// The exit code, if it exited.
    pub(crate) code: Option<i32>,
    /// The signal that killed it, if one did, and whether it left a core dump.
    pub(crate) signal: Option<(i32, bool)>,
    /// CPU time in user mode, in microseconds, including descendants that it waited for.
    pub(crate) user_us: u64,
    /// CPU time in kernel mode, likewise.
    pub(crate) system_us: u64,
    /// The largest resident set of any one of these processes, in KiB.
    pub(crate) max_rss_kib: u64,
}

impl Usage {
    /// What the status of wait(2) says, and nothing used.
    pub(crate) fn of(status: i32) -> Self {
        Self {
            code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
            signal: libc::WIFSIGNALED(status).then(|| (libc::WTERMSIG(status), libc::WCOREDUMP(status))),
            user_us: 0,
            system_us: 0,
            max_rss_kib: 0,
        }
    }

    fn with(self, used: &libc::rusage) -> Self {
        let micros = |t: libc::timeval| t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64;
        let (user_us, system_us) = (micros(used.ru_utime), micros(used.ru_stime));
        Self { user_us, system_us, max_rss_kib: used.ru_maxrss as u64, ..self }
    }
}

/// Waits for the child `pid` to end and collects it: wait4(2) with `__WALL`.
pub(crate) fn wait4(pid: Pid) -> Result<Usage, Errno> {
    wait4_with(pid, libc::__WALL).map(|usage| usage.expect("without WNOHANG the call returns a child"))
}

/// Collects the child `pid`: wait4(2) with `__WALL` and `WNOHANG`. `None` if it still runs, or if a tracer has not collected
/// it yet.
pub(crate) fn wait4_now(pid: Pid) -> Result<Option<Usage>, Errno> {
    wait4_with(pid, libc::__WALL | libc::WNOHANG)
}

fn wait4_with(pid: Pid, options: i32) -> Result<Option<Usage>, Errno> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    let pid = pid.as_raw_nonzero().get();
    // SAFETY: both pointers are valid for the call, which writes through them.
    match unsafe { libc::wait4(pid, &raw mut status, options, usage.as_mut_ptr()) } {
        ..0 => Err(last_errno()),
        0 => Ok(None),
        _ => {
            // SAFETY: rusage consists of integers and was zeroed, so it is initialised.
            Ok(Some(Usage::of(status).with(&unsafe { usage.assume_init() })))
        }
    }
}

/// As [`wait4`], for the child that a pidfd is of: waitid(2) with `P_PIDFD`.
pub(crate) fn wait_pidfd(pidfd: BorrowedFd<'_>) -> Result<Usage, Errno> {
    wait_pidfd_with(pidfd, libc::WEXITED | libc::__WALL)
        .map(|usage| usage.expect("without WNOHANG the call returns a child"))
}

/// As [`wait4_now`], for the child that a pidfd is of.
pub(crate) fn wait_pidfd_now(pidfd: BorrowedFd<'_>) -> Result<Option<Usage>, Errno> {
    wait_pidfd_with(pidfd, libc::WEXITED | libc::__WALL | libc::WNOHANG)
}

fn wait_pidfd_with(pidfd: BorrowedFd<'_>, options: i32) -> Result<Option<Usage>, Errno> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are valid for the call, which writes through them. Not through libc, which has no rusage.
    check(unsafe {
        libc::syscall(
            libc::SYS_waitid,
            libc::P_PIDFD,
            pidfd.as_raw_fd(),
            info.as_mut_ptr(),
            options,
            usage.as_mut_ptr(),
        )
    })?;
    // SAFETY: siginfo_t consists of integers and was zeroed, so it is initialised.
    let info = unsafe { info.assume_init() };
    // SAFETY: as siginfo_t.
    let usage = unsafe { usage.assume_init() };
    // SAFETY: waitid(2) fills in the fields of SIGCHLD, of which this is one; it is 0 if there was no child to collect.
    if unsafe { info.si_pid() } == 0 {
        return Ok(None);
    }
    // SAFETY: as si_pid.
    let status = unsafe { info.si_status() };
    // As wait(2) encodes it.
    let status = match info.si_code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        libc::CLD_DUMPED => status | 0x80,
        _ => status,
    };
    Ok(Some(Usage::of(status).with(&usage)))
}

/// Waits until a child has ended, other than the one with the pid `last`, and collects it. Returns false, and collects
/// nothing, if `last` has ended or there is no child.
pub(crate) fn wait_any_but(last: Pid) -> bool {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOWAIT | libc::__WALL;
    // SAFETY: the pointer is valid for the call, which writes through it.
    if unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), flags) } < 0 {
        return false;
    }
    // SAFETY: siginfo_t consists of integers and was zeroed, so it is initialised.
    let info = unsafe { info.assume_init() };
    // SAFETY: waitid(2) fills in the fields of SIGCHLD, of which this is one.
    let pid = Pid::from_raw(unsafe { info.si_pid() });
    match pid.filter(|pid| *pid != last) {
        Some(pid) => wait4(pid).is_ok(),
        None => false,
    }
}

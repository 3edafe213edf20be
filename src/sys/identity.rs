//! What a process does to itself on the way to `execve`, and how its parent collects it.

use super::{check, last_errno};
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::process::Pid;
use std::ffi::{CStr, CString};

/// Gives this process default dispositions for every signal and an empty mask. Ignored signals and the mask survive
/// `execve`, so without this the caller's choices would reach the workload.
pub(crate) fn reset_signals() {
    // The kernel's struct sigaction, which is at most this long; all zeroes is SIG_DFL without flags.
    let default = [0_u64; 4];
    const MASK_BYTES: usize = 8;
    for signal in 1..=64 {
        // SAFETY: SIG_DFL installs no code, and the struct outlives the call. Not through libc: it keeps two numbers to
        // itself, which a caller may have ignored nevertheless. SIGKILL and SIGSTOP refuse, which is fine.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                MASK_BYTES,
            )
        };
    }
    unblock_signals();
}

/// Gives this process an empty signal mask.
pub(crate) fn unblock_signals() {
    let mut none = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises `none`.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: `none` is initialised.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) };
}

/// Takes ownership of a descriptor number this process was started with. Returns `None` if nothing is open there.
///
/// Each number must be taken at most once; the donation list in `argv`, which names every number once, ensures that.
pub(crate) fn inherited_fd(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: fcntl with integers has no memory effects.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    // SAFETY: open (just checked), and owned by nobody else: the donor placed it for this process to take once.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Whether this process is in the user namespace the machine began with, whose root is the machine's.
pub(crate) fn is_in_initial_user_namespace() -> bool {
    // PROC_USER_INIT_INO, which is part of the kernel's interface (linux/nsfs.h).
    const INITIAL: &str = "user:[4026531837]";
    std::fs::read_link("/proc/self/ns/user").is_ok_and(|name| name.as_os_str() == INITIAL)
}

/// A copy of whatever this process has open at `number`: fcntl(2) `F_DUPFD_CLOEXEC`. For the numbers that a command line
/// names, which are nobody's value.
pub(crate) fn duplicate(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: fcntl with integers has no memory effects.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    check(copy)?;
    // SAFETY: the kernel made the number just now, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Marks every descriptor from `first` on close-on-exec: close_range(2).
pub(crate) fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: only a flag of descriptors changes; ownership does not.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) })
}

/// Puts a copy of `fd` at `number`, whatever was there before: dup2(2). Only for a process on its way to execve, which
/// gives the numbers of its descriptors a meaning of their own.
pub(crate) fn place_at(fd: BorrowedFd<'_>, number: RawFd) -> Result<(), Errno> {
    // SAFETY: what was open at the number is closed; the caller is about to execute, and has moved out of the way what
    // it still needs until then.
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) })
}

/// Lets the descriptor at `number` survive execve.
pub(crate) fn keep_on_exec(number: RawFd) -> Result<(), Errno> {
    // SAFETY: fcntl with integers has no memory effects.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, 0) })
}

/// A new, anonymous session keyring: keyctl(2) `KEYCTL_JOIN_SESSION_KEYRING`.
pub(crate) fn join_new_session_keyring() -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
    // SAFETY: a null name asks for an anonymous keyring; no memory is read.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) })
}

/// setrlimit(2) by number: OCI names limits that enums of other crates may not know.
pub(crate) fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` is a valid struct for the duration of the call.
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

/// getrlimit(2), by number as [`set_rlimit`]: the soft and the hard limit.
pub(crate) fn rlimit(resource: u32) -> Result<(u64, u64), Errno> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid struct for the duration of the call, which fills it in.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::null::<libc::rlimit64>(), &raw mut limit)
    })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// execve(2). Returns only if it failed.
pub(crate) fn execve(program: &CStr, argv: &[CString], envp: &[CString]) -> Errno {
    let pointers = |strings: &[CString]| {
        strings.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect::<Vec<_>>()
    };
    let (argv, envp) = (pointers(argv), pointers(envp));
    // SAFETY: both arrays end with a null pointer and point into strings that live across the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    last_errno()
}

/// pidfd_send_signal(2) by number: real-time signals have no name.
pub(crate) fn pidfd_send_raw(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let pidfd = pidfd.as_raw_fd();
    // SAFETY: a null siginfo asks for the default one; no memory is read.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, signal, std::ptr::null::<u8>(), 0) })
}

/// Lets go of the pages of the program's code and constants that this process has looked at: they stay in memory for
/// whoever runs the same image, and come back when they are looked at again. For a process that is about to wait for long.
pub(crate) fn forget_code() {
    extern "C" fn forget(info: *mut libc::dl_phdr_info, _: usize, _: *mut libc::c_void) -> i32 {
        // SAFETY: dl_iterate_phdr(3) passes a struct that is valid for the call.
        let info = unsafe { &*info };
        // SAFETY: the headers are an array of that many, mapped as long as the program is.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        let page = rustix::param::page_size() as u64;
        // Never what is written: relocations and variables live in pages that nothing could bring back.
        let constant =
            |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0;
        for header in headers.iter().filter(constant) {
            let from = (info.dlpi_addr + header.p_vaddr).next_multiple_of(page);
            let to = (info.dlpi_addr + header.p_vaddr + header.p_memsz) / page * page;
            if from < to {
                // SAFETY: whole pages of a segment without PF_W, which are the image's own: dropped, they are read
                // from it again.
                unsafe { libc::madvise(from as *mut _, (to - from) as usize, libc::MADV_DONTNEED) };
            }
        }
        // The program is the first; the libraries after it are shared with the whole system.
        1
    }
    // SAFETY: the callback only looks at what it is given, for the duration of the call.
    unsafe { libc::dl_iterate_phdr(Some(forget), std::ptr::null_mut()) };
}

/// Gives the free pages of the heap back to the kernel: malloc_trim(3). What made the container was the most these
/// processes ever hold; from here on they wait.
pub(crate) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator gives back only what nobody holds; it takes its own locks.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// _exit(2): no destructor, no atexit handler, no buffer of the copied parent runs.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process at once; nothing can observe it afterwards.
    unsafe { libc::_exit(code) }
}

/// What wait4(2) tells about an ended child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Exit code, if it exited.
    pub(crate) code: Option<i32>,
    /// Signal and "core dumped", if it was killed.
    pub(crate) signal: Option<(i32, bool)>,
    /// CPU time in user mode, microseconds, waited-for descendants included.
    pub(crate) user_us: u64,
    /// CPU time in kernel mode, microseconds, waited-for descendants included.
    pub(crate) system_us: u64,
    /// Largest resident set of any one process, KiB.
    pub(crate) max_rss_kib: u64,
}

/// Collects `pid`, waiting for its end: wait4(2) with `__WALL`.
pub(crate) fn wait4(pid: Pid) -> Result<Usage, Errno> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    let pid = pid.as_raw_nonzero().get();
    // SAFETY: both out-pointers are valid for the call.
    match unsafe { libc::wait4(pid, &raw mut status, libc::__WALL, usage.as_mut_ptr()) } {
        ..0 => Err(last_errno()),
        _ => {
            // SAFETY: rusage is plain numbers; zeroed or filled in, it is initialised.
            let usage = unsafe { usage.assume_init() };
            let micros = |t: libc::timeval| t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64;
            Ok(Usage {
                code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
                signal: libc::WIFSIGNALED(status).then(|| (libc::WTERMSIG(status), libc::WCOREDUMP(status))),
                user_us: micros(usage.ru_utime),
                system_us: micros(usage.ru_stime),
                max_rss_kib: usage.ru_maxrss as u64,
            })
        }
    }
}

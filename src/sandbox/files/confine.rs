//! Confines a file worker to the capabilities and the system calls of file work.

use crate::error::{OsContext, Result};
use crate::seccomp;
use crate::sys;
use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets};

/// What the container's root may do with files. A worker keeps those that the sandbox has itself.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETFCAP);

/// The system calls to open, read and change files, to use the connection, to manage memory, and to end. None of them makes
/// a process, a socket or a mount, sends a signal, or executes a program.
const ALLOWED: [&str; 61] = [
    // Names and files.
    "openat",
    "openat2",
    "fstat",
    "newfstatat",
    "statx",
    "getdents64",
    "readlinkat",
    "mkdirat",
    "unlinkat",
    "renameat",
    "renameat2",
    "symlinkat",
    "linkat",
    "fchmod",
    "fchmodat2",
    "fchown",
    "fchownat",
    "utimensat",
    "ftruncate",
    "fgetxattr",
    "fsetxattr",
    "flistxattr",
    "fremovexattr",
    // Content and the connection.
    "read",
    "pread64",
    "readv",
    "write",
    "writev",
    "lseek",
    "close",
    "fcntl",
    "dup",
    "poll",
    "ppoll",
    "recvfrom",
    "recvmsg",
    "sendmsg",
    // The allocator, the standard library's maps, time, and the end.
    "futex",
    "brk",
    "mmap",
    "munmap",
    "mremap",
    "madvise",
    "mprotect",
    "getrandom",
    "clock_gettime",
    "clock_gettime64",
    "gettimeofday",
    "rt_sigreturn",
    "rt_sigprocmask",
    "restart_syscall",
    "sigaltstack",
    "sched_yield",
    "getpid",
    "gettid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "exit",
    "exit_group",
];

/// Gives up everything but file work.
pub(super) fn to_file_work() -> Result<()> {
    rustix::thread::clear_ambient_capability_set().os(|| "prctl(PR_CAP_AMBIENT_CLEAR_ALL)")?;
    let own = rustix::thread::capabilities(None).os(|| "capget()")?.permitted;
    let kept = own & KEPT;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).os(|| "capset(file work)")?;
    // Last, because a change of capabilities may set it anew.
    hide()?;
    rustix::thread::set_no_new_privs(true).os(|| "prctl(PR_SET_NO_NEW_PRIVS)")?;
    let filter = seccomp::compile(&seccomp::helper_profile(&ALLOWED))?;
    // Never freed: that may be a system call, and the filter may forbid it.
    let program = filter.program().leak();
    sys::load_seccomp(program, filter.flags).map(drop).os(|| "seccomp(SECCOMP_SET_MODE_FILTER)")
}

/// Lets no process without the caller's privileges look into this one.
pub(super) fn hide() -> Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).os(|| "prctl(PR_SET_DUMPABLE, 0)")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_filter_of_a_file_worker_compiles() {
        crate::seccomp::compile(&crate::seccomp::helper_profile(&super::ALLOWED)).unwrap();
    }
}

//! What is left of the gofer once its mounts are handed over: a process that can wait, and nothing else.

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::seccomp;
use crate::sys;
use landlock::{ABI, Access, AccessFs, Ruleset, RulesetAttr};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// What waiting takes, memory management of the allocator and a clean exit included. No call here opens, connects,
/// signals or creates anything.
const ALLOWED: [&str; 18] = [
    "read",
    "write",
    "close",
    "poll",
    "ppoll",
    "recvmsg",
    "sendmsg",
    "futex",
    "brk",
    "mmap",
    "munmap",
    "mremap",
    "madvise",
    "rt_sigreturn",
    "rt_sigprocmask",
    "restart_syscall",
    "exit",
    "exit_group",
];

/// Gives up every capability, the right to gain any, the file system, and every system call but those of waiting.
pub(super) fn give_up_everything() -> Result<()> {
    let none = CapabilitySet::empty();
    rustix::thread::clear_ambient_capability_set().os(|| "prctl(PR_CAP_AMBIENT_CLEAR_ALL)")?;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: none, permitted: none, inheritable: none },
    )
    .os(|| "capset(none)")?;
    rustix::thread::set_no_new_privs(true).os(|| "prctl(PR_SET_NO_NEW_PRIVS)")?;
    let landlock = |error: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Os(libc::EINVAL), "landlock_restrict_self", error.to_string())
    };
    // Best effort by design of the crate: a kernel without Landlock still has the filter below.
    Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))
        .map_err(|error| landlock(&error))?
        .create()
        .map_err(|error| landlock(&error))?
        .restrict_self()
        .map_err(|error| landlock(&error))?;
    let filter = seccomp::compile(&seccomp::helper_profile(&ALLOWED))?;
    sys::load_seccomp(filter.instructions.iter().map(Into::into), filter.flags)
        .map(drop)
        .os(|| "seccomp(SECCOMP_SET_MODE_FILTER)")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_filter_of_a_waiting_gofer_compiles() {
        crate::seccomp::compile(&crate::seccomp::helper_profile(&super::ALLOWED)).unwrap();
    }
}

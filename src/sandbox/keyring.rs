//! Session keyrings (session-keyring(7)). The caller's holds the keys of the caller's login (tickets, passwords, keys of
//! file systems), so every process of a container gets another one.
//!
//! ```text
//!   sandbox: makes the spare keyring, if its ids on the host will change
//!      |-- init: makes its own keyring, before the first hook that is a program of the container
//!      |-- exec: makes its own keyring
//! ```
//!
//! A new keyring counts against a quota of its owner on the host (`kernel.keys.maxkeys`, 200). All containers of root may
//! have the same ids there, so one container can use up the quota of all, also on purpose. Then a process keeps the
//! *spare* keyring: an empty one that the sandbox has made with the caller's ids. No process of a container may write to
//! it, because what it wrote would count against the caller's quota. Without a spare keyring, create fails.

use crate::error::{OsContext, Result};
use crate::plan::SandboxPlan;
use crate::sys;
use crate::weaken::{Rule, leaves_out};
use rustix::io::Errno;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether this process has left the caller's session keyring: the sandbox, and what it forks with a copy of its memory.
static LEFT_THE_CALLERS: AtomicBool = AtomicBool::new(false);

/// The possessor may view, read and search: `KEY_POS_*` (linux/key.h). No other process may do anything.
const READ_ONLY: u32 = 0x0b00_0000;

/// In the sandbox, before it takes its ids: makes the spare keyring if the plan asks for it.
pub(super) fn make_spare(plan: &SandboxPlan) -> Result<()> {
    if !plan.spare_keyring || !join_new()? {
        return Ok(());
    }
    sys::set_session_keyring_permissions(READ_ONLY).os(|| "keyctl(KEYCTL_SETPERM, spare keyring)")?;
    LEFT_THE_CALLERS.store(true, Ordering::Relaxed);
    Ok(())
}

/// In init and in each further process, with the ids of the container's root: joins a new, empty session keyring.
pub(super) fn leave_callers() -> Result<()> {
    if leaves_out(Rule::SessionKeyring) {
        return Ok(());
    }
    match join_new() {
        Err(error)
            if error.raw_os_error() == Some(libc::EDQUOT) && LEFT_THE_CALLERS.load(Ordering::Relaxed) =>
        {
            Ok(())
        }
        joined => joined.map(drop),
    }
}

/// Joins a new session keyring. Returns false if keyctl(2) does not exist: the kernel has no keyrings, or a seccomp filter
/// around this program says so, which the workload inherits.
fn join_new() -> Result<bool> {
    match sys::join_new_session_keyring() {
        Err(Errno::NOSYS) => Ok(false),
        Err(Errno::DQUOT) => {
            Err(Errno::DQUOT).os(|| "keyctl(KEYCTL_JOIN_SESSION_KEYRING)").map_err(|error| {
                error.hint("raise kernel.keys.maxkeys, or give the container other id_mappings")
            })
        }
        joined => joined.os(|| "keyctl(KEYCTL_JOIN_SESSION_KEYRING)").map(|()| true),
    }
}

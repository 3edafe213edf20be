//! System calls that no safe wrapper covers: the only `unsafe` of the crate.
//!
//! Conventions: borrowed descriptors in, owned descriptors out, close-on-exec from the start, one wrapper for one call.
//! A wrapper neither retries nor decides; the actors above do. They call `rustix` directly for what it offers safely,
//! unless several of them need the same sequence of calls, as for mounts ([`mount_api`]) and files of `/proc`
//! ([`procstat`]).

mod allocator;
mod bpf;
mod clone;
mod descriptors;
mod exec;
mod execution;
mod fork_inside;
mod holder;
mod init_program;
mod mount_api;
mod net;
mod procstat;
mod scheduling;
mod seccomp;
mod sibling;
mod signals;
mod spawn;
mod startup;
pub(crate) mod tracing;
mod trial;

pub use allocator::HelperAllocator;
pub(crate) use bpf::{attach_device_program, device_programs, load_device_program};
pub(crate) use clone::{Forked, fork, fork_as};
pub(crate) use descriptors::{
    change_mode, close_all_but, close_on_exec_from, close_stdout_and_stderr, duplicate, inherited_fd,
    keep_on_exec, place_at,
};
pub(crate) use exec::{
    Usage, block_signals, execute_file, exit_now, ignore_signals, is_in_initial_user_namespace,
    join_new_session_keyring, pidfd_send_raw, reset_dispositions, reset_signals, rlimit, set_rlimit,
    set_session_keyring_permissions, trim_heap, unblock_signals, wait_any_but, wait_pidfd, wait_pidfd_now,
    wait4, wait4_now,
};
pub(crate) use execution::{Execution, LastCall, forget_code, forget_peak, is_in_main_executable};
pub(crate) use fork_inside::{Inside, fork_inside, fork_two_inside, run_as, spawn_sharing};
pub(crate) use holder::NamespaceHolder;
pub(crate) use init_program::{Entering, InitProgram};
pub(crate) use mount_api::{
    MountAttr, NewMount, alone_or_whole, attach, attach_at, clone_tree, clone_tree_at, mount_setattr,
    mount_with_page, set_propagation,
};
pub(crate) use net::{bind_in, bring_loopback_up, connect_in, connect_stream, network_namespace_of};
pub(crate) use procstat::{ProcStat, StatusText, open_below, read_below};
pub(crate) use scheduling::{
    RESET_ON_FORK, SCHED_DEADLINE, SchedAttr, set_affinity, set_io_priority, set_memory_policy,
    set_personality, set_scheduler,
};
pub(crate) use seccomp::{close_with_secret, draw_secret, load_seccomp, read_with_secret, send_with_secret};
pub(crate) use sibling::{ArgumentArea, SharedPid, fork_sibling};
pub(crate) use signals::Caught;
pub(crate) use spawn::{Helper, SETNS, spawn_helper};
#[cfg(target_env = "musl")]
pub(crate) use startup::arguments_at_start;
pub(crate) use startup::{NOTE_BYTES, NOTE_KIND, NOTE_NAME, keep_note};
pub(crate) use trial::{TrialStep, has_landlock, try_namespaces};

use rustix::io::Errno;

/// Turns the result of a call into its error: below zero it failed, and errno says why.
fn check(result: impl Into<i64>) -> Result<(), Errno> {
    if result.into() < 0 { Err(last_errno()) } else { Ok(()) }
}

/// The errno of the last failed call of this thread.
fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

//! System calls that no safe wrapper covers: the only `unsafe` of the crate.
//!
//! Conventions: borrowed descriptors in, owned descriptors out, close-on-exec at birth, one wrapper for one call. A
//! wrapper neither retries nor decides; the actors above do. Calls that `rustix` already offers safely are made there
//! directly and do not appear here.

mod bpf;
mod clone;
mod files;
mod identity;
mod mount_api;
mod net;
mod procstat;
mod scheduling;
mod seccomp;
mod sibling;
mod signals;
mod unix;

pub(crate) use bpf::{attach_device_program, device_programs, load_device_program};
pub(crate) use clone::{Forked, Helper, Inside, fork, fork_inside, spawn_helper};
pub(crate) use files::{change_mode, close_all_but};
pub(crate) use identity::{
    Usage, close_on_exec_from, duplicate, execve, exit_now, forget_code, inherited_fd,
    is_in_initial_user_namespace, join_new_session_keyring, keep_on_exec, pidfd_send_raw, place_at,
    reset_signals, rlimit, set_rlimit, trim_heap, unblock_signals, wait4,
};
pub(crate) use mount_api::{
    MountAttr, NewMount, alone_or_whole, attach, attach_at, clone_tree, clone_tree_at, mount_setattr,
    set_propagation,
};
pub(crate) use net::{bring_loopback_up, network_namespace_of};
pub(crate) use procstat::{ProcStat, StatusText, open_below, read_below};
pub(crate) use scheduling::{
    RESET_ON_FORK, SCHED_DEADLINE, SchedAttr, set_affinity, set_io_priority, set_memory_policy,
    set_personality, set_scheduler,
};
pub(crate) use seccomp::{draw_secret, load_seccomp, read_with_secret, send_with_secret};
pub(crate) use sibling::{ArgumentArea, SharedPid, fork_sibling};
pub(crate) use signals::Caught;
pub(crate) use unix::{bind_in, connect_in, connect_stream};

/// What a system call made here returned: below zero it failed, and errno says why.
fn check(result: impl Into<i64>) -> Result<(), rustix::io::Errno> {
    if result.into() < 0 { Err(last_errno()) } else { Ok(()) }
}

fn last_errno() -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(rustix::io::Errno::IO)
}

//! A process that does nothing but hold new namespaces, until another process has opened them.

use super::clone::{CloneArgs, clone_sharing, new_stack};
use super::exec::{exit_now, wait4};
use super::spawn::{block_all_signals, restore_signals};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, getppid, pidfd_send_signal, set_parent_process_death_signal};
use std::ffi::c_void;
use std::mem::MaybeUninit;

/// For a few calls that each use a few hundred bytes.
const STACK: usize = 16 << 10;

/// A child of this process, alone in new namespaces. It is killed and collected when this is dropped.
///
/// It shares this process's memory, so that no page is copied for it and none faults afterwards, and makes only system calls
/// that need neither memory nor errno.
pub(crate) struct NamespaceHolder {
    pid: Pid,
    pidfd: OwnedFd,
    /// Its stack: in use until it is collected.
    _stack: Box<[MaybeUninit<u128>]>,
}

impl NamespaceHolder {
    /// Makes the process in new namespaces (`CLONE_NEW*` of clone(2)).
    pub(crate) fn new(namespaces: u32) -> Result<Self, Errno> {
        let mut stack = new_stack(STACK);
        let args = CloneArgs { flags: namespaces.into(), ..CloneArgs::default() };
        let parent = std::ptr::without_provenance(getpid().as_raw_nonzero().get() as usize);
        // It inherits the mask, and never runs a handler of this process on the shared memory.
        let blocked = block_all_signals();
        // SAFETY: the process runs `hold` on `stack`, which is freed only after the process was collected. It touches nothing
        // else of the memory that it shares.
        let cloned = unsafe { clone_sharing(args, &mut stack, hold, parent) };
        restore_signals(&blocked);
        cloned.map(|(pid, pidfd)| Self { pid, pidfd, _stack: stack })
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }
}

impl Drop for NamespaceHolder {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = wait4(self.pid);
    }
}

/// The process: waits to be killed. `parent` is the pid of its parent.
extern "C" fn hold(parent: *const c_void) -> ! {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // If the parent has ended before that, no signal will come.
    while getppid().is_some_and(|now| now.as_raw_nonzero().get() as usize == parent.addr()) {
        rustix::event::pause();
    }
    exit_now(0)
}

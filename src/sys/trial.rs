//! Tries out what every container needs of the kernel: new namespaces, and mounts in them.

use super::clone::{CloneArgs, clone3_on_stack, new_stack};
use super::exec::{exit_now, wait4};
use super::last_errno;
use super::spawn::{block_all_signals, restore_signals};
use rustix::io::Errno;
use rustix::process::Pid;
use std::ffi::c_void;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// What [`try_namespaces`] tries, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TrialStep {
    /// `clone3(CLONE_NEW*)`.
    Clone,
    /// Making the root private: any change of a mount.
    ChangeMount,
    /// A new proc, over the one that is there.
    MountProc,
}

/// Whether the kernel has Landlock (landlock_create_ruleset(2)).
pub(crate) fn has_landlock() -> bool {
    const VERSION: u32 = 1;
    // SAFETY: with this flag, the call takes a null pointer of size 0 and returns a number.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u64>(), 0, VERSION) };
    version > 0
}

struct Trial {
    failed_step: AtomicU32,
    errno: AtomicI32,
}

/// Makes a process in new `namespaces` (`CLONE_NEW*`, among them a user, a mount and a pid namespace), has it make two
/// mounts there, and collects it. Leaves nothing behind. Any thread may call this, as [`spawn_helper`](super::spawn_helper).
///
/// # Errors
/// The step that the kernel refused, and its errno.
pub(crate) fn try_namespaces(namespaces: u32) -> Result<(), (TrialStep, Errno)> {
    const STACK: usize = 16 << 10;
    let trial = Trial { failed_step: AtomicU32::new(0), errno: AtomicI32::new(0) };
    let mut stack = new_stack(STACK);
    let args = CloneArgs {
        flags: (libc::CLONE_VM | libc::CLONE_VFORK) as u64 | u64::from(namespaces),
        stack: stack.as_mut_ptr() as u64,
        stack_size: STACK as u64,
        // No signal at its end: a caller that handles SIGCHLD does not learn of this child.
        ..CloneArgs::default()
    };
    let blocked = block_all_signals();
    // SAFETY: the child runs `trial_main` on `stack`, which outlives it: CLONE_VFORK suspends this thread until the child
    // has exited, and `trial` is only reached through the pointer given. Signals are blocked in this thread, so the child,
    // which inherits the mask, never runs a handler of the caller on the shared memory.
    let pid = unsafe { clone3_on_stack(&args, trial_main, (&raw const trial).cast()) };
    restore_signals(&blocked);
    drop(stack);
    if pid < 0 {
        return Err((TrialStep::Clone, Errno::from_raw_os_error(-pid as i32)));
    }
    // The child has exited, and its result is in `trial`. The wait fails if the caller has reaped the child itself.
    let _ = wait4(Pid::from_raw(pid as i32).expect("clone3 returns a positive pid to the parent"));
    let step = match trial.failed_step.load(Ordering::Acquire) {
        0 => return Ok(()),
        1 => TrialStep::ChangeMount,
        _ => TrialStep::MountProc,
    };
    Err((step, Errno::from_raw_os_error(trial.errno.load(Ordering::Acquire))))
}

/// The child: shares the caller's memory, so it allocates nothing, takes no lock, and changes no state of libc but errno.
extern "C" fn trial_main(trial: *const c_void) -> ! {
    // SAFETY: `try_namespaces` passes a `Trial` that stays alive and unmoved while CLONE_VFORK suspends it.
    let trial = unsafe { &*trial.cast::<Trial>() };
    let fail = |step: u32| -> ! {
        trial.errno.store(last_errno().raw_os_error(), Ordering::Release);
        trial.failed_step.store(step, Ordering::Release);
        exit_now(1)
    };
    let private = (libc::MS_REC | libc::MS_PRIVATE) as libc::c_ulong;
    // SAFETY: mount with constant strings changes only the mount namespace that this process was born in.
    if unsafe { libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), private, std::ptr::null()) }
        < 0
    {
        fail(1);
    }
    let strict = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // SAFETY: as above.
    if unsafe { libc::mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), strict, std::ptr::null()) }
        < 0
    {
        fail(2);
    }
    exit_now(0)
}

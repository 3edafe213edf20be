//! Catching the signals of the calling process, and restoring their dispositions.
//!
//! [`handler`] is the only code of this crate that runs in a signal handler. It makes only system calls that
//! signal-safety(7) allows, on values that are atomic or never change.

use super::check;
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::ffi::c_void;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

/// The standard signals, which can be caught here, are below this number.
const SIGNALS: usize = 32;
/// The kernel's struct sigaction: handler, flags, restorer, mask.
const WORDS: usize = 4;
const MASK_BYTES: usize = 8;

type KernelSigaction = [u64; WORDS];

/// Whether a [`Caught`] exists.
static CATCHING: AtomicBool = AtomicBool::new(false);
/// The descriptor that the handler writes the numbers to; -1 while there is no [`Caught`].
static SINK: AtomicI32 = AtomicI32::new(-1);
/// The dispositions to restore. Atomic words, because the handler may read them at any moment.
static BEFORE: [[AtomicU64; WORDS]; SIGNALS] = [const { [const { AtomicU64::new(0) }; WORDS] }; SIGNALS];

/// The signals of this process, caught until this is dropped.
#[derive(Debug)]
pub(crate) struct Caught {
    signals: Vec<i32>,
    numbers: BorrowedFd<'static>,
}

impl Caught {
    /// Catches `signals`, each 1 to 31. `EBUSY` if another value catches signals already.
    ///
    /// The handler writes their numbers, one byte each, to a pipe. It does not catch a fault, which is a signal that
    /// the kernel sends because of what a thread just did: that has the effect it had before.
    pub(crate) fn new(signals: &[i32]) -> Result<Self, Errno> {
        let pipe = pipe()?;
        if CATCHING.swap(true, Ordering::AcqRel) {
            return Err(Errno::BUSY);
        }
        // Drop what a handler, still running when the previous value was dropped, has written since.
        let mut stale = [0; 64];
        while rustix::io::read(&pipe.0, &mut stale).is_ok_and(|count| count > 0) {}
        let mut caught = Self { signals: Vec::new(), numbers: rustix::fd::AsFd::as_fd(&pipe.0) };
        SINK.store(pipe.1.as_raw_fd(), Ordering::Release);
        for &signal in signals {
            let before = disposition(signal)?;
            for (word, value) in BEFORE[index(signal)].iter().zip(before) {
                word.store(value, Ordering::Release);
            }
            install(signal)?;
            caught.signals.push(signal);
        }
        Ok(caught)
    }

    /// The reading end of the pipe, non-blocking.
    pub(crate) fn numbers(&self) -> BorrowedFd<'static> {
        self.numbers
    }

    /// Restores every disposition. Numbers of signals caught before stay in the pipe.
    pub(crate) fn restore(&mut self) {
        for signal in std::mem::take(&mut self.signals) {
            // If other code of the program has set a disposition since, that one stays.
            let ours = disposition(signal).is_ok_and(|now| now[0] == handler as *const () as u64);
            if ours {
                restore(signal);
            }
        }
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        self.restore();
        SINK.store(-1, Ordering::Release);
        CATCHING.store(false, Ordering::Release);
    }
}

/// The pipe from the handler, made once and never closed: a handler may still run in another thread after [`Caught`] is
/// dropped, and must not write to a number that means another file by then.
fn pipe() -> Result<&'static (OwnedFd, OwnedFd), Errno> {
    static PIPE: OnceLock<(OwnedFd, OwnedFd)> = OnceLock::new();
    if let Some(pipe) = PIPE.get() {
        return Ok(pipe);
    }
    use rustix::pipe::{PipeFlags, pipe_with};
    let made = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    Ok(PIPE.get_or_init(|| made))
}

fn index(signal: i32) -> usize {
    usize::try_from(signal).ok().filter(|index| *index < SIGNALS).unwrap_or_default()
}

/// rt_sigaction(2), reading only.
fn disposition(signal: i32) -> Result<KernelSigaction, Errno> {
    let mut now: KernelSigaction = [0; WORDS];
    // SAFETY: a null new action changes nothing; `now` has the length of the kernel's struct, which the call writes.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, std::ptr::null::<u64>(), now.as_mut_ptr(), MASK_BYTES)
    };
    check(result).map(|()| now)
}

/// sigaction(2) with [`handler`], through libc, which knows how a handler returns.
fn install(signal: i32) -> Result<(), Errno> {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all zeroes is a valid struct sigaction: integers, a set and an optional function.
    let action = unsafe { action.assume_init_mut() };
    action.sa_sigaction = handler as *const () as usize;
    // On the alternate stack, if a thread has one: the fault may be an overflow of the ordinary stack.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the set is a field of `action`, which is valid and borrowed mutably.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    // SAFETY: `handler` has the signature that SA_SIGINFO requires, and makes only calls that signal-safety(7) allows.
    check(unsafe { libc::sigaction(signal, action, std::ptr::null_mut()) })
}

/// rt_sigaction(2) with the disposition from before. The handler calls it as well.
fn restore(signal: i32) {
    let before: KernelSigaction =
        std::array::from_fn(|word| BEFORE[index(signal)][word].load(Ordering::Acquire));
    // SAFETY: the kernel gave these words for this signal, so the handler in them was valid when the program installed
    // it.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            before.as_ptr(),
            std::ptr::null_mut::<u64>(),
            MASK_BYTES,
        )
    };
}

/// Runs in a thread that the kernel chooses, between any two instructions: it allocates nothing and takes no lock.
extern "C" fn handler(signal: i32, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // Save errno: the interrupted code must find it unchanged.
    let errno = nix::errno::Errno::last_raw();
    // SAFETY: the kernel passes a pointer to a valid siginfo to a handler with SA_SIGINFO.
    let code = unsafe { (*info).si_code };
    if is_fault(signal, code) {
        restore(signal);
        // The thread executes the instruction again, and it faults again. These two signals come after their
        // instruction, so send them again; the signal arrives when this handler, which blocks all of them, returns.
        if matches!(signal, libc::SIGTRAP | libc::SIGSYS) {
            // SAFETY: raise(3) takes an integer and is async-signal-safe.
            unsafe { libc::raise(signal) };
        }
    } else {
        let sink = SINK.load(Ordering::Acquire);
        if sink >= 0 {
            let number = signal as u8;
            // If the pipe is full, the signal is lost.
            // SAFETY: `number` is one byte on this stack, and the descriptor in SINK is never closed.
            unsafe { libc::write(sink, (&raw const number).cast(), 1) };
        }
    }
    nix::errno::Errno::set_raw(errno);
}

/// Whether the kernel sent the signal because of what the thread did (sigaction(2), "The si_code field").
fn is_fault(signal: i32, code: i32) -> bool {
    let about_a_thread = matches!(
        signal,
        libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP | libc::SIGSYS
    );
    about_a_thread && code > 0
}

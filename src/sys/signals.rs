//! Catching the signals of the calling process, and giving them back.
//!
//! The handler is the only code of this crate that runs in a signal handler. It does nothing but system calls that
//! signal-safety(7) allows, on values that are atomic or never change.

use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::ffi::c_void;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

/// Signals below this number can be caught here: the standard ones.
const SIGNALS: usize = 32;
/// The kernel's struct sigaction: handler, flags, restorer, mask.
const WORDS: usize = 4;
const MASK_BYTES: usize = 8;

type Disposition = [u64; WORDS];

/// Whether somebody catches now.
static CATCHING: AtomicBool = AtomicBool::new(false);
/// Where the handler writes the numbers; -1 if nobody wants them.
static SINK: AtomicI32 = AtomicI32::new(-1);
/// The dispositions to give back. Words of their own, because the handler may read them at any moment.
static BEFORE: [[AtomicU64; WORDS]; SIGNALS] = [const { [const { AtomicU64::new(0) }; WORDS] }; SIGNALS];

/// The signals of this process, caught until this is dropped.
#[derive(Debug)]
pub(crate) struct Caught {
    signals: Vec<i32>,
    numbers: BorrowedFd<'static>,
}

impl Caught {
    /// Catches `signals`, each 1 to 31. `EBUSY` if somebody does already.
    ///
    /// Their numbers are written, one byte each, to a pipe. A signal of the kernel's about what a thread just did (a
    /// fault) is not one of those: it has the effect it had before.
    pub(crate) fn new(signals: &[i32]) -> Result<Self, Errno> {
        let pipe = pipe()?;
        if CATCHING.swap(true, Ordering::AcqRel) {
            return Err(Errno::BUSY);
        }
        // What a handler that was still under way wrote for somebody before us.
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

    /// Gives every disposition back. The pipe stays this value's, with what was caught before.
    pub(crate) fn give_back(&mut self) {
        for signal in std::mem::take(&mut self.signals) {
            // Somebody who changed it meanwhile wants to keep it so.
            let ours = disposition(signal).is_ok_and(|now| now[0] == handler as *const () as u64);
            if ours {
                give_back(signal);
            }
        }
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        self.give_back();
        SINK.store(-1, Ordering::Release);
        CATCHING.store(false, Ordering::Release);
    }
}

/// The pipe from the handler, made once and never closed: a handler may be under way in another thread when the last
/// one who listened is gone, and must not write to a number that has become something else's.
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
fn disposition(signal: i32) -> Result<Disposition, Errno> {
    let mut now: Disposition = [0; WORDS];
    // SAFETY: a null new action changes nothing; `now` is as long as the kernel's struct.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, std::ptr::null::<u64>(), now.as_mut_ptr(), MASK_BYTES)
    };
    super::check(result).map(|()| now)
}

/// sigaction(2) with [`handler`], through libc, which knows how a handler returns.
fn install(signal: i32) -> Result<(), Errno> {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all zeroes is a valid struct sigaction: plain numbers, a set and an optional function.
    let action = unsafe { action.assume_init_mut() };
    action.sa_sigaction = handler as *const () as usize;
    // On the alternate stack where a thread has one: a fault may be the end of the ordinary one.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the set is part of a struct that we own.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    // SAFETY: `handler` has the signature that SA_SIGINFO asks for and keeps to signal-safety(7).
    super::check(unsafe { libc::sigaction(signal, action, std::ptr::null_mut()) })
}

/// rt_sigaction(2) with what was there before. Called from the handler, too.
fn give_back(signal: i32) {
    let before: Disposition = std::array::from_fn(|word| BEFORE[index(signal)][word].load(Ordering::Acquire));
    // SAFETY: these words came from the kernel for this signal; whoever installed them vouched for the handler.
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

/// Runs in whichever thread the kernel chose, between any two instructions of it: no allocation, no lock.
extern "C" fn handler(signal: i32, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // What was interrupted must find it as it was.
    let errno = nix::errno::Errno::last_raw();
    // SAFETY: the kernel passes a valid siginfo to a handler with SA_SIGINFO.
    let code = unsafe { (*info).si_code };
    if is_fault(signal, code) {
        give_back(signal);
        // The instruction is executed again and faults again. These two come after theirs and have to be sent again;
        // it arrives when this handler, which blocks everything, has returned.
        if matches!(signal, libc::SIGTRAP | libc::SIGSYS) {
            // SAFETY: raise(3) is async-signal-safe.
            unsafe { libc::raise(signal) };
        }
    } else {
        let sink = SINK.load(Ordering::Acquire);
        if sink >= 0 {
            let number = signal as u8;
            // SAFETY: one byte that is ours, to a descriptor that is never closed. A full pipe drops the signal.
            unsafe { libc::write(sink, (&raw const number).cast(), 1) };
        }
    }
    nix::errno::Errno::set_raw(errno);
}

/// Whether the kernel sent it because of what the thread did (sigaction(2), "The si_code field").
fn is_fault(signal: i32, code: i32) -> bool {
    let about_a_thread = matches!(
        signal,
        libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP | libc::SIGSYS
    );
    about_a_thread && code > 0
}

//! Passing on the signals of the calling process.

use super::Signal;
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::sys::Caught;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::pipe::{PipeFlags, pipe_with};
use std::thread::JoinHandle;

/// Passes the signals of this process on, until it is dropped.
///
/// This is the one thing in the crate that changes its caller, and only as long as the value lives: signals 1 to 31 but
/// for SIGKILL and SIGSTOP, which nobody can catch, and SIGCHLD, SIGPIPE and SIGURG, which are about this process
/// itself, have a handler of this crate's, and one thread passes them on. Dropping the value ends the thread and gives
/// every disposition back, but for one that somebody else changed meanwhile. The pipe that the handler writes to, two
/// descriptors, stays open for the next time: nobody can tell when the last handler in another thread has returned.
///
/// * A signal that every thread of the program blocks stays blocked.
/// * Of the same signal, several that come before one was passed on may become one, as signal(7) says of any process.
/// * A fault of this program (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS from the kernel) is its own, and has the
///   effect it had before.
/// * System calls that were interrupted are started again where the kernel does that (`SA_RESTART`).
/// * One value at a time per process.
#[must_use = "signals are passed on until this is dropped"]
#[derive(Debug)]
pub struct ForwardSignals {
    caught: Option<Caught>,
    /// The thread ends when this is closed.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl ForwardSignals {
    /// Calls `pass_on` for each signal, in a thread of its own.
    pub(crate) fn to(mut pass_on: impl FnMut(Signal) + Send + 'static) -> Result<Self> {
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC).os(|| "pipe2()")?;
        let caught = Caught::new(&forwarded()).map_err(|errno| match errno {
            rustix::io::Errno::BUSY => {
                Error::new(ErrorKind::InvalidInput, "forward signals", "signals are forwarded already")
                    .hint("drop the other ForwardSignals first")
            }
            errno => Err::<(), _>(errno).os(|| "sigaction()").expect_err("made from an errno"),
        })?;
        let numbers = caught.numbers();
        let work = move || {
            // This thread must not be the one that a signal interrupts: it could be in the middle of passing one on.
            let _ = nix::sys::signal::SigSet::all().thread_block();
            loop {
                let mut fds = [PollFd::new(&stopped, PollFlags::IN), PollFd::new(&numbers, PollFlags::IN)];
                match poll(&mut fds, None) {
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(_) => return,
                    Ok(_) => {}
                }
                let stop = !fds[0].revents().is_empty();
                let mut batch = [0; 64];
                // What was caught before the end is passed on before the end.
                while let Ok(count @ 1..) = rustix::io::read(numbers, &mut batch) {
                    batch[..count]
                        .iter()
                        .filter_map(|number| Signal::new(i32::from(*number)).ok())
                        .for_each(&mut pass_on);
                }
                if stop {
                    return;
                }
            }
        };
        let spawned = std::thread::Builder::new().name("cofferdam-signals".into()).spawn(work);
        let thread = spawned.os(|| "clone(thread)")?;
        Ok(Self { caught: Some(caught), stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for ForwardSignals {
    fn drop(&mut self) {
        // Dispositions first, so that nothing more is caught; then the thread, which passes on what was. Only then may
        // the next one begin to read.
        if let Some(caught) = &mut self.caught {
            caught.give_back();
        }
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        drop(self.caught.take());
    }
}

/// What is passed on.
fn forwarded() -> Vec<i32> {
    const OWN: [i32; 5] = [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD, libc::SIGPIPE, libc::SIGURG];
    (1..32).filter(|signal| !OWN.contains(signal)).collect()
}

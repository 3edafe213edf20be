//! [`ForwardSignals`]: forwards the signals that the calling process gets, to init or to an executed process.

use super::process::Process;
use crate::container::handle::Handle;
use crate::container::{Container, Phase, Started};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::link::{SandboxAddress, client};
use crate::process::Signal;
use crate::state::CONTROL_SOCKET;
use crate::sys::Caught;
use crate::wire::control::{Operation, Request, SignalTarget};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use std::thread::JoinHandle;

/// Forwards the signals that this process gets, until it is dropped.
///
/// This is the one thing in the crate that changes its caller, and only as long as the value lives. It installs a
/// handler for signals 1 to 31, except SIGKILL and SIGSTOP, which no process can catch, and SIGCHLD, SIGPIPE and
/// SIGURG, which are about this process itself; one thread forwards them. Dropping the value ends the thread and
/// restores every disposition, except one that other code has changed meanwhile. The pipe that the handler writes to,
/// two descriptors, stays open for the next value: a handler may still be running in another thread, and there is no
/// way to find out.
///
/// * A signal that every thread of the program blocks stays blocked.
/// * If the same signal comes several times before it is forwarded, it may be forwarded once, as signal(7) says of any
///   process.
/// * A fault of this program (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS from the kernel) is not forwarded, and
///   has the effect it had before.
/// * The kernel restarts interrupted system calls where it can (`SA_RESTART`).
/// * A process can have one such value at a time.
#[must_use = "signals are forwarded until this is dropped"]
#[derive(Debug)]
pub struct ForwardSignals {
    caught: Option<Caught>,
    /// Closing this ends the thread.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl ForwardSignals {
    /// Calls `forward` for each signal, in a thread of its own.
    fn to(mut forward: impl FnMut(Signal) + Send + 'static) -> Result<Self> {
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
            // Block all signals in this thread, so that none interrupts it while it forwards one.
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
                // Forward what was caught before `stop` was closed, then end.
                while let Ok(count @ 1..) = rustix::io::read(numbers, &mut batch) {
                    batch[..count]
                        .iter()
                        .filter_map(|number| Signal::new(i32::from(*number)).ok())
                        .for_each(&mut forward);
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
        // Restore the dispositions first, so that nothing more is caught; then end the thread, which forwards the rest.
        // Only after that may another value begin to read from the pipe.
        if let Some(caught) = &mut self.caught {
            caught.restore();
        }
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        drop(self.caught.take());
    }
}

/// The signals to forward.
fn forwarded() -> Vec<i32> {
    const OWN: [i32; 5] = [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD, libc::SIGPIPE, libc::SIGURG];
    (1..32).filter(|signal| !OWN.contains(signal)).collect()
}

impl<P: Phase + ?Sized> Container<P> {
    /// Forwards the signals that this program gets to init, as [`signal`](Container::signal) does, until the returned
    /// value is dropped: for a program that represents its workload to a supervisor or a terminal.
    ///
    /// **This changes this program** as [`ForwardSignals`] says, as long as that value lives. Signals that come after
    /// the end of the container are lost, so drop the value when [`wait`](Container::wait) returns.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if signals are forwarded already.
    pub fn forward_signals(&self) -> Result<ForwardSignals>
    where
        P: Started,
    {
        forward(&self.core)
    }
}

impl Process {
    /// Forwards the signals that this program gets to this process, as [`signal`](Self::signal) does, until the
    /// returned value is dropped; see [`Container::forward_signals`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if signals are forwarded already.
    pub fn forward_signals(&self) -> Result<ForwardSignals> {
        let (pid, send) = (self.id(), self.signal_sender()?);
        ForwardSignals::to(move |signal| {
            if let Err(error) = send(signal) {
                tracing::debug!(pid, %signal, %error, "a signal was not forwarded");
            }
        })
    }
}

/// Forwards signals to init, each over a new connection: hours may pass between two of them.
fn forward(core: &Handle) -> Result<ForwardSignals> {
    let run_dir = SandboxAddress::of(&core.root, &core.record).run_dir()?;
    let id = core.record.id.clone();
    ForwardSignals::to(move |signal| {
        let operation = Operation::Signal { number: signal.number(), to: SignalTarget::Init };
        let request = Request { container: Some(id.clone()), operation };
        let sent = client::connect_in(run_dir.as_fd(), CONTROL_SOCKET)
            .and_then(|sandbox| client::begin(sandbox, &request)?.reply());
        if let Err(error) = sent {
            tracing::debug!(container = %id, %signal, %error, "a signal was not forwarded");
        }
    })
}

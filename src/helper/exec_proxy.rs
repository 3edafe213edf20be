//! The stand-in: a process of the caller's that lives as long as one in a container does, for whoever waits for processes
//! and not for connections.
//!
//! ```text
//!   its parent --signals--> stand-in --pidfd--> the process
//!              <--status---          <--Ended-- sandbox
//! ```
//!
//! It has nothing open but that pidfd and that connection, so nobody waits for the end of a stream because of it.

use super::spawn::{Start, spawn};
use super::{Child, Donations, Received};
use crate::error::Result;
use crate::process::Channel;
use crate::sys;
use crate::wire::message::{ProcessEnd, ProcessReport};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::{DumpableBehavior, Signal};

/// `argv[0]` of a stand-in, as `ps` shows it.
pub(crate) const EXEC_PROXY: &str = "cofferdam-exec-proxy";

/// Starts the stand-in of the process behind `pidfd`, whose end is told on `channel`.
pub(crate) fn start(pidfd: BorrowedFd<'_>, channel: &Channel) -> Result<Child> {
    let mut donations = Donations::default();
    donations.give("process", &pidfd);
    donations.give("end", channel);
    spawn(&Start { name: EXEC_PROXY, namespaces: 0, cgroup: None }, &donations)
}

/// The stand-in's whole life, entered from the constructor.
pub(crate) fn serve(mut donated: Received) {
    let (Ok(process), Ok(channel)) = (donated.take("process"), donated.take("end").map(Channel::from)) else {
        return;
    };
    // Out of the caller's session: a key pressed at its terminal is not for us.
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"cofferdam-exec");
    match stand(&process, &channel) {
        Some(ProcessEnd { signal: Some((number, _)), .. }) => die_of(number),
        Some(ProcessEnd { code, .. }) => sys::exit_now(code.unwrap_or_default()),
        // Nobody is left to tell: the sandbox was killed, and the process with it.
        None => die_of(libc::SIGKILL),
    }
}

/// Passes signals on until the process has ended. How it did, if somebody said so.
fn stand(process: &OwnedFd, channel: &Channel) -> Option<ProcessEnd> {
    let all = SigSet::all();
    all.thread_block().ok()?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&all, flags).ok()?;
    loop {
        let mut fds = [PollFd::new(&signals, PollFlags::IN), PollFd::new(channel, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return None,
            Ok(_) => {}
        }
        let ended = !fds[1].revents().is_empty();
        while let Ok(Some(info)) = signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            if number != libc::SIGCHLD {
                // Gone already: its status comes next.
                let _ = sys::pidfd_send_raw(process.as_fd(), number);
            }
        }
        if ended {
            return match channel.receive_now::<ProcessReport>().ok()?.message {
                ProcessReport::Ended(end) => Some(end),
                _ => None,
            };
        }
    }
}

/// Ends as the process did, but for its core dump.
fn die_of(number: i32) -> ! {
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    sys::reset_signals();
    if let Some(signal) = Signal::from_named_raw(number) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
    }
    // A real-time signal has no name there.
    sys::exit_now(128 + number)
}

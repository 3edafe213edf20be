//! The exec proxy: a child of the caller that lives as long as a process in a container does, for engines that wait for
//! processes and not for connections.
//!
//! ```text
//!   its parent --signals--> exec proxy --pidfd--> the process
//!              <--status---            <--ProcessEnded-- sandbox
//! ```
//!
//! It has nothing open but that pidfd and that connection, so that it keeps none of the process's streams open.

use super::spawn::{Reexec, Start, spawn};
use super::{Child, Donations, Received};
use crate::error::Result;
use crate::process::Channel;
use crate::sys;
use crate::wire::control::{ProcessEnd, ProcessEnded};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::{DumpableBehavior, Signal};

/// `argv[0]` of an exec proxy, as `ps` shows it.
pub(crate) const EXEC_PROXY: &str = "cofferdam-exec-proxy";

/// Starts the exec proxy of the process behind `pidfd`; the sandbox reports its end on `channel`.
pub(crate) fn start(reexec: Reexec, pidfd: BorrowedFd<'_>, channel: &Channel) -> Result<Child> {
    let mut donations = Donations::default();
    donations.give("process", &pidfd);
    donations.give("end", channel);
    spawn(reexec, &Start::of(EXEC_PROXY), &donations)
}

/// The whole life of an exec proxy. The constructor calls this.
pub(crate) fn serve(mut donated: Received) {
    let (Ok(process), Ok(channel)) = (donated.take("process"), donated.take("end").map(Channel::from)) else {
        return;
    };
    // Leave the caller's session, so that a key pressed at its terminal sends this process no signal.
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"cofferdam-exec");
    match forward_until_end(&process, &channel) {
        Some(ProcessEnd { signal: Some((number, _)), .. }) => die_of(number),
        Some(ProcessEnd { code, .. }) => sys::exit_now(code.unwrap_or_default()),
        // The sandbox was killed before it could report, and the process with it.
        None => die_of(libc::SIGKILL),
    }
}

/// Forwards signals until the process has ended. Returns how it ended, if the sandbox reported that.
fn forward_until_end(process: &OwnedFd, channel: &Channel) -> Option<ProcessEnd> {
    sys::block_signals();
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&SigSet::all(), flags).ok()?;
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
                // If the process has ended already, its status comes next.
                let _ = sys::pidfd_send_raw(process.as_fd(), number);
            }
        }
        if ended {
            return channel.receive_now::<ProcessEnded>().ok().map(|ended| ended.message.0);
        }
    }
}

/// Ends this process by the same signal, without a core dump.
fn die_of(number: i32) -> ! {
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    sys::reset_signals();
    if let Some(signal) = Signal::from_named_raw(number) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
    }
    // `rustix` has no real-time signals; end with a shell's code for them.
    sys::exit_now(128 + number)
}

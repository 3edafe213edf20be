//! Waits for a process in a container: passes signals on to it, and copies between its terminal and ours.

use super::failure::Failure;
use super::relay::TerminalRelay;
use super::terminal::{RawMode, our_size};
use cofferdam::{Pty, Signal};
use nix::sys::signal::{SigSet, Signal as Named};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, OutputModes, isatty, tcgetattr, tcsetattr};
use std::io::{stdin, stdout};
use std::os::fd::BorrowedFd;

/// Signals that are not passed on, because they concern only this program.
const OWN: [Named; 11] = [
    Named::SIGKILL,
    Named::SIGSTOP,
    Named::SIGCHLD,
    Named::SIGPIPE,
    Named::SIGURG,
    Named::SIGSEGV,
    Named::SIGBUS,
    Named::SIGFPE,
    Named::SIGILL,
    Named::SIGTRAP,
    Named::SIGSYS,
];

/// Whether the output of a terminal inside goes to a file or a pipe. As with runc, newlines come there as they are.
pub(crate) fn keeps_newlines() -> bool {
    !isatty(stdout())
}

/// Has a terminal pass newlines on as they are, instead of as carriage return and newline.
pub(crate) fn keep_newlines(pty: &Pty) -> Result<(), Failure> {
    let mut modes = tcgetattr(pty)?;
    modes.output_modes -= OutputModes::ONLCR;
    Ok(tcsetattr(pty, OptionalActions::Now, &modes)?)
}

/// Blocks the signals of this program, reads them from a descriptor, and passes them on.
pub(crate) struct SignalForwarder(SignalFd);

impl SignalForwarder {
    pub(crate) fn new() -> Result<Self, Failure> {
        let mut watched = SigSet::all();
        OWN.into_iter().for_each(|signal| watched.remove(signal));
        watched.thread_block()?;
        Ok(Self(SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Passes signals to `send`, and copies between our terminal and `pty`, until `end` is readable.
    pub(crate) fn forward_until(
        &self,
        end: BorrowedFd<'_>,
        pty: Option<Pty>,
        send: &dyn Fn(Signal) -> cofferdam::Result<()>,
    ) -> Result<(), Failure> {
        let Some(pty) = pty else {
            loop {
                let mut fds = [PollFd::new(&self.0, PollFlags::IN), PollFd::new(&end, PollFlags::IN)];
                match poll(&mut fds, None) {
                    Err(Errno::INTR) => continue,
                    ready => ready?,
                };
                if !fds[1].revents().is_empty() {
                    return Ok(());
                }
                self.pass_on(None, send)?;
            }
        };
        let mut relay = TerminalRelay::new(pty)?;
        let raw = isatty(stdin()).then(RawMode::enter).transpose()?;
        while relay.talking {
            if relay.turn(&self.0, end)? {
                self.pass_on(Some(&relay.pty), send)?;
            }
        }
        drop(raw);
        Ok(())
    }

    fn pass_on(
        &self,
        pty: Option<&Pty>,
        send: &dyn Fn(Signal) -> cofferdam::Result<()>,
    ) -> Result<(), Failure> {
        while let Some(info) = self.0.read_signal()? {
            let signal = Signal::new(i32::try_from(info.ssi_signo).unwrap_or_default())?;
            match (pty, our_size()) {
                (Some(pty), Some(size)) if signal == Signal::WINCH => pty.resize(size)?,
                // The process may have ended; then there is nothing to signal.
                _ => drop(send(signal)),
            }
        }
        Ok(())
    }
}

//! Being where a container's process is run from: signals and the terminal go through this program.

use super::failure::Failure;
use cofferdam::{Pty, Signal, WindowSize};
use nix::sys::signal::{SigSet, Signal as Named};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{ErrorKind, Read, Write, stdin, stdout};
use std::os::fd::BorrowedFd;

/// What a terminal takes for the end of its input, where a pipe would just end.
const END_OF_INPUT: u8 = 0x04;
/// Signals that are about this program and nobody else.
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

/// The signals of this program, read instead of suffered from here on.
pub(crate) struct Attention(SignalFd);

impl Attention {
    pub(crate) fn new() -> Result<Self, Failure> {
        let mut watched = SigSet::all();
        OWN.into_iter().for_each(|signal| watched.remove(signal));
        watched.thread_block()?;
        Ok(Self(SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Passes signals to `send`, and is the wire between our terminal and `pty`, until `end` is readable.
    pub(crate) fn until_the_end(
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
        fcntl_setfl(&pty, fcntl_getfl(&pty)? | OFlags::NONBLOCK)?;
        let raw = isatty(stdin()).then(RawMode::enter).transpose()?;
        let mut wire = Wire { pty, typed: Vec::new(), listening: true, talking: true };
        while wire.talking {
            wire.turn(self, end, send)?;
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
                // Whoever has ended meanwhile does not hear it.
                _ => drop(send(signal)),
            }
        }
        Ok(())
    }
}

pub(crate) fn our_size() -> Option<WindowSize> {
    let size = tcgetwinsize(stdin()).ok()?;
    Some(WindowSize { rows: size.ws_row, columns: size.ws_col })
}

/// Our terminal with everything off that a terminal does with input: the one inside does it. Put back on drop.
struct RawMode(Termios);

impl RawMode {
    fn enter() -> Result<Self, Errno> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

/// Between the two terminals.
struct Wire {
    pty: Pty,
    /// What was typed and not taken yet. No more is read meanwhile.
    typed: Vec<u8>,
    /// Whether our input has not ended yet.
    listening: bool,
    /// Whether something may still come from inside.
    talking: bool,
}

impl Wire {
    fn turn(
        &mut self,
        attention: &Attention,
        end: BorrowedFd<'_>,
        send: &dyn Fn(Signal) -> cofferdam::Result<()>,
    ) -> Result<(), Failure> {
        let ours = stdin();
        let wants = |yes, flags| if yes { flags } else { PollFlags::empty() };
        let from_us = wants(self.listening && self.typed.is_empty(), PollFlags::IN);
        let from_inside = PollFlags::IN | wants(!self.typed.is_empty(), PollFlags::OUT);
        let mut fds = vec![
            PollFd::new(&attention.0, PollFlags::IN),
            PollFd::new(&self.pty, from_inside),
            PollFd::new(&end, PollFlags::IN),
        ];
        // A descriptor nobody wants to hear of would still report its hangup, over and over.
        if !from_us.is_empty() {
            fds.push(PollFd::new(&ours, from_us));
        }
        match poll(&mut fds, None) {
            Err(Errno::INTR) => return Ok(()),
            ready => ready?,
        };
        let found = |index: usize| fds.get(index).map_or(PollFlags::empty(), PollFd::revents);
        let (signalled, inside, ended, typing) = (found(0), found(1), found(2), found(3));
        drop(fds);

        if inside.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) || !ended.is_empty() {
            self.show()?;
        }
        self.talking &= ended.is_empty();
        if inside.contains(PollFlags::OUT) {
            match self.pty.write(&self.typed) {
                Ok(count) => drop(self.typed.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !typing.is_empty() {
            self.listen()?;
        }
        if signalled.is_empty() { Ok(()) } else { attention.pass_on(Some(&self.pty), send) }
    }

    /// Everything there is from inside, to our output.
    fn show(&mut self) -> std::io::Result<()> {
        let mut bytes = [0; 16 << 10];
        loop {
            match self.pty.read(&mut bytes) {
                Ok(0) => {
                    self.talking = false;
                    return Ok(());
                }
                Ok(count) => {
                    let mut out = stdout().lock();
                    out.write_all(&bytes[..count])?;
                    out.flush()?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn listen(&mut self) -> Result<(), Errno> {
        let mut bytes = [0; 4 << 10];
        // Not through std, whose buffer would hide bytes from poll.
        match rustix::io::read(stdin(), &mut bytes) {
            Ok(0) | Err(Errno::IO) => {
                self.listening = false;
                self.typed.push(END_OF_INPUT);
            }
            Ok(count) => self.typed.extend_from_slice(&bytes[..count]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }
}

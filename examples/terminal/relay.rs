//! Copies between our standard streams and a terminal in a container. One poll(2) waits for both directions, for
//! signals and for the end.

use cofferdam::Pty;
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use std::io::{ErrorKind, Read, Result, Write, stdin, stdout};
use std::os::fd::BorrowedFd;

/// Ctrl-D: a terminal takes it as the end of input, which a pipe would show by closing.
const END_OF_INPUT: u8 = 0x04;

/// Copies between our standard streams and a terminal.
pub(crate) struct TerminalRelay {
    pub(crate) pty: Pty,
    /// Typed bytes that the terminal inside has not taken yet. Until it takes them, we read no more.
    typed: Vec<u8>,
    /// Our input is still open.
    listening: bool,
    /// More output may still come from inside.
    pub(crate) talking: bool,
}

impl TerminalRelay {
    pub(crate) fn new(pty: Pty) -> Result<Self> {
        fcntl_setfl(&pty, fcntl_getfl(&pty)? | OFlags::NONBLOCK)?;
        Ok(Self { pty, typed: Vec::new(), listening: true, talking: true })
    }

    /// Waits for one event and handles it; stops `talking` once `end` is readable. Returns whether a signal can be
    /// read.
    pub(crate) fn turn(&mut self, signals: &SignalFd, end: BorrowedFd<'_>) -> Result<bool> {
        let ours = stdin();
        let wants = |yes, flags| if yes { flags } else { PollFlags::empty() };
        let from_us = wants(self.listening && self.typed.is_empty(), PollFlags::IN);
        let from_inside = PollFlags::IN | wants(!self.typed.is_empty(), PollFlags::OUT);
        let mut fds = vec![
            PollFd::new(signals, PollFlags::IN),
            PollFd::new(&self.pty, from_inside),
            PollFd::new(&end, PollFlags::IN),
        ];
        // Leave our input out if we want nothing from it: poll would report its hangup every time.
        if !from_us.is_empty() {
            fds.push(PollFd::new(&ours, from_us));
        }
        match poll(&mut fds, None) {
            Err(Errno::INTR) => return Ok(false),
            ready => ready?,
        };
        let found = |index: usize| fds.get(index).map_or(PollFlags::empty(), PollFd::revents);
        let (signalled, inside, ended, typing) = (found(0), found(1), found(2), found(3));
        drop(fds);

        if inside.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) || !ended.is_empty() {
            self.show()?;
        }
        // A program can close the terminal and go on: wait for its end, although typing no longer reaches it.
        self.talking &= ended.is_empty();
        if inside.contains(PollFlags::OUT) {
            self.write_typed()?;
        }
        if !typing.is_empty() {
            self.read_typed()?;
        }
        Ok(!signalled.is_empty())
    }

    /// Copies to our output what the terminal inside has written so far.
    fn show(&mut self) -> Result<()> {
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

    /// Reads what was typed.
    fn read_typed(&mut self) -> Result<()> {
        let mut bytes = [0; 4 << 10];
        // Bypass std: bytes in its buffer would be invisible to poll.
        match rustix::io::read(stdin(), &mut bytes) {
            Ok(0) | Err(Errno::IO) => {
                self.listening = false;
                self.typed.push(END_OF_INPUT);
            }
            Ok(count) => self.typed.extend_from_slice(&bytes[..count]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    /// Writes typed bytes to the terminal inside, as many as it takes now.
    fn write_typed(&mut self) -> Result<()> {
        match self.pty.write(&self.typed) {
            Ok(count) => drop(self.typed.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

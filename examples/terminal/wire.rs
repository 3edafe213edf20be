//! The wire between our standard streams and a terminal inside: one poll(2) for both, for signals, and for the end.

use cofferdam::Pty;
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use std::io::{ErrorKind, Read, Result, Write, stdin, stdout};
use std::os::fd::BorrowedFd;

/// What a terminal takes for the end of its input, where a pipe would just end.
const END_OF_INPUT: u8 = 0x04;

/// Between the two terminals.
pub(crate) struct Wire {
    pub(crate) pty: Pty,
    /// What was typed and not taken yet. No more is read meanwhile.
    typed: Vec<u8>,
    /// Whether our input has not ended yet.
    listening: bool,
    /// Whether something may still come from inside.
    pub(crate) talking: bool,
}

impl Wire {
    pub(crate) fn new(pty: Pty) -> Result<Self> {
        fcntl_setfl(&pty, fcntl_getfl(&pty)? | OFlags::NONBLOCK)?;
        Ok(Self { pty, typed: Vec::new(), listening: true, talking: true })
    }

    /// Waits for something to do, and does it, until `end` is readable. Returns whether there is a signal to read.
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
        // A descriptor nobody wants to hear of would still report its hangup, over and over.
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
        // Whoever is gone from the terminal without having ended is waited for, and cannot be typed to.
        self.talking &= ended.is_empty();
        if inside.contains(PollFlags::OUT) {
            self.pass_on()?;
        }
        if !typing.is_empty() {
            self.listen()?;
        }
        Ok(!signalled.is_empty())
    }

    /// Everything there is from inside, to our output.
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

    fn listen(&mut self) -> Result<()> {
        let mut bytes = [0; 4 << 10];
        // Not through std, whose buffer would hide bytes from poll.
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

    fn pass_on(&mut self) -> Result<()> {
        match self.pty.write(&self.typed) {
            Ok(count) => drop(self.typed.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

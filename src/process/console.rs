//! The caller's end of a terminal: the master of the pseudoterminal that the workload has as its own.
//!
//! ```text
//!   init: opens a pty of the container's devpts, keeps the slave, sends the master with the report that it is ready
//!   sandbox: passes it on to the caller, and keeps no copy
//!   caller: has a Pty, or sends it on once to a console socket
//! ```
//!
//! `sandbox/init/console.rs` makes the other end. Only the holder of the [`Pty`] has the master open, so closing it
//! hangs up.

use crate::error::{Error, OsContext, Result};
use crate::process::channel::send_descriptor;
use crate::sys::connect_stream;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

/// The master of the workload's terminal (pty(7)).
///
/// Bytes written to it are what a person types: a byte 0x03 is Ctrl-C, and interrupts the foreground job. A read gives
/// what the workload wrote and what the terminal echoed; the end of the file comes when no process in the container has
/// the terminal open any more.
///
/// Dropping the last copy hangs up: the kernel sends SIGHUP to the leader of the session and to its foreground job, and
/// their reads end. As with any signal from the kernel, SIGHUP does not end a leader that is PID 1 of its container and
/// has no handler for it.
#[derive(Debug)]
pub struct Pty(File);

/// The size of a terminal, in characters.
///
/// Closed on purpose: callers write it as a literal, and a terminal has two dimensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

impl Pty {
    pub(crate) fn new(master: OwnedFd) -> Self {
        Self(File::from(master))
    }

    /// Changes the size. If it differs from the size before, the foreground job gets SIGWINCH.
    ///
    /// # Errors
    /// The errno of ioctl(2) `TIOCSWINSZ`.
    pub fn resize(&self, size: WindowSize) -> Result<()> {
        let WindowSize { rows, columns } = size;
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.0, size).os(|| format!("ioctl(pty, TIOCSWINSZ, {rows}x{columns})"))
    }

    /// The size, as the workload sees it.
    ///
    /// # Errors
    /// The errno of ioctl(2) `TIOCGWINSZ`.
    pub fn size(&self) -> Result<WindowSize> {
        let size = tcgetwinsize(&self.0).os(|| "ioctl(pty, TIOCGWINSZ)")?;
        Ok(WindowSize { rows: size.ws_row, columns: size.ws_col })
    }

    /// Another handle on the same terminal. It hangs up when all of them are dropped.
    ///
    /// # Errors
    /// The errno of fcntl(2) `F_DUPFD_CLOEXEC`.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}

impl Read for &Pty {
    /// As read(2), except that EIO, by which the kernel says that no process has the other end open, is the end of the
    /// file.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (&self.0).read(buffer) {
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(0),
            read => read,
        }
    }
}

impl Write for &Pty {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Pty {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut &*self, buffer)
    }
}

impl Write for Pty {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut &*self, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Pty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Pty {
    /// The number of [`as_fd`](AsFd::as_fd), for event loops that take numbers. It stays this value's.
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl From<Pty> for File {
    /// The master as a plain file, whose reads fail with EIO at the end.
    fn from(pty: Pty) -> Self {
        pty.0
    }
}

impl From<Pty> for OwnedFd {
    fn from(pty: Pty) -> Self {
        pty.0.into()
    }
}

/// What gets the master.
#[derive(Clone, Debug, Default)]
pub(crate) enum ConsoleTarget {
    /// Not given: an error if the process has a terminal.
    #[default]
    Unset,
    /// The caller, as a [`Pty`].
    Caller,
    /// The program that listens on this socket.
    Socket(PathBuf),
}

/// A target that is ready, before there is a terminal to hand over.
#[derive(Debug)]
pub(crate) enum ConsoleSocket {
    Caller,
    Socket(OwnedFd),
}

/// How long the program that listens on a console socket may take to accept and to read.
const SOCKET_LIMIT: Duration = Duration::from_secs(10);
/// The text that goes with the descriptor: its name, as runc sends it. Receivers only print it.
const MASTER_NAME: &[u8] = b"/dev/ptmx";

impl ConsoleTarget {
    /// Makes the target ready. `origin` is where the configuration came from.
    pub(crate) fn find(&self, origin: &str) -> Result<ConsoleSocket> {
        match self {
            Self::Unset => Err(Error::spec(origin, "process.terminal", "nothing takes the terminal")
                .hint("ask the builder for `terminal()` or a `console_socket(path)`, or set it to false")),
            Self::Caller => Ok(ConsoleSocket::Caller),
            Self::Socket(path) => {
                connect_stream("console socket", path, SOCKET_LIMIT).map(ConsoleSocket::Socket)
            }
        }
    }
}

impl ConsoleSocket {
    /// Hands over the master. Returns what the caller keeps of it.
    pub(crate) fn take(self, master: OwnedFd) -> Result<Option<Pty>> {
        match self {
            Self::Caller => Ok(Some(Pty::new(master))),
            Self::Socket(socket) => {
                let sent = send_descriptor(socket.as_fd(), MASTER_NAME, master.as_fd());
                sent.map(|()| None).map_err(|error| error.during("console socket"))
            }
        }
    }
}

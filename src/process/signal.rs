//! Signals by number and by name.

use crate::error::{Error, ErrorKind, OsContext, Result};
use rustix::fd::BorrowedFd;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A signal: 1 to 64 on Linux, real-time ones included (signal(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Signal(i32);

impl Signal {
    /// Hangup.
    pub const HUP: Self = Self(libc::SIGHUP);
    /// Interrupt from the keyboard.
    pub const INT: Self = Self(libc::SIGINT);
    /// Quit from the keyboard.
    pub const QUIT: Self = Self(libc::SIGQUIT);
    /// Kill: cannot be caught or ignored.
    pub const KILL: Self = Self(libc::SIGKILL);
    /// First user signal.
    pub const USR1: Self = Self(libc::SIGUSR1);
    /// Second user signal.
    pub const USR2: Self = Self(libc::SIGUSR2);
    /// Termination request.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// Stop: cannot be caught or ignored.
    pub const STOP: Self = Self(libc::SIGSTOP);
    /// Continue if stopped.
    pub const CONT: Self = Self(libc::SIGCONT);
    /// The window size of the terminal changed.
    pub const WINCH: Self = Self(libc::SIGWINCH);

    /// Sends it to the process behind `pidfd`: pidfd_send_signal(2).
    ///
    /// # Errors
    /// [`ErrorKind::Ended`] if the process has ended; otherwise the errno of the call.
    pub(crate) fn send(self, pidfd: BorrowedFd<'_>) -> Result<()> {
        match crate::sys::pidfd_send_raw(pidfd, self.0) {
            Err(rustix::io::Errno::SRCH) => {
                Err(Error::new(ErrorKind::Ended, "signal", "the process has ended"))
            }
            sent => sent.os(|| format!("pidfd_send_signal({self})")),
        }
    }

    /// The signal with this number.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] outside 1 to 64.
    pub fn new(number: i32) -> Result<Self> {
        if (1..=64).contains(&number) {
            return Ok(Self(number));
        }
        Err(Error::new(ErrorKind::InvalidInput, "signal", format!("{number} is not a signal, use 1 to 64")))
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match nix::sys::signal::Signal::try_from(self.0) {
            Ok(named) => f.write_str(named.as_str()),
            Err(_) => write!(f, "SIGRTMIN+{}", self.0 - 34),
        }
    }
}

impl FromStr for Signal {
    type Err = Error;

    /// `SIGTERM`, `TERM`, `term` or `15`.
    fn from_str(text: &str) -> Result<Self> {
        if let Ok(number) = text.parse() {
            return Self::new(number);
        }
        let upper = text.to_ascii_uppercase();
        let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
        let named = nix::sys::signal::Signal::from_str(&name).map_err(|_| {
            Error::new(ErrorKind::InvalidInput, "signal", format!("{text:?} is not a signal name"))
        })?;
        Ok(Self(named as i32))
    }
}

impl TryFrom<i32> for Signal {
    type Error = Error;

    fn try_from(number: i32) -> Result<Self> {
        Self::new(number)
    }
}

impl From<Signal> for i32 {
    fn from(signal: Signal) -> Self {
        signal.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_parse_to_the_same_signal() {
        for text in ["SIGTERM", "TERM", "term", "15"] {
            assert_eq!(text.parse::<Signal>().unwrap(), Signal::TERM);
        }
        assert_eq!(Signal::TERM.to_string(), "SIGTERM");
        assert_eq!(Signal::new(35).unwrap().to_string(), "SIGRTMIN+1");
    }

    #[test]
    fn other_names_and_numbers_are_refused() {
        assert_eq!("FOO".parse::<Signal>().unwrap_err().to_string(), "signal: \"FOO\" is not a signal name");
        assert_eq!(Signal::new(0).unwrap_err().to_string(), "signal: 0 is not a signal, use 1 to 64");
        assert!(Signal::new(65).is_err());
    }
}

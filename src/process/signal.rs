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
    /// Hangup: the terminal is gone, or its session's leader has ended.
    pub const HUP: Self = Self(libc::SIGHUP);
    /// Interrupt from the keyboard.
    pub const INT: Self = Self(libc::SIGINT);
    /// Quit from the keyboard.
    pub const QUIT: Self = Self(libc::SIGQUIT);
    /// Illegal instruction.
    pub const ILL: Self = Self(libc::SIGILL);
    /// Breakpoint or trace trap.
    pub const TRAP: Self = Self(libc::SIGTRAP);
    /// Abort, as abort(3) sends it.
    pub const ABRT: Self = Self(libc::SIGABRT);
    /// Bus error: an access to memory that is not there.
    pub const BUS: Self = Self(libc::SIGBUS);
    /// Erroneous arithmetic operation.
    pub const FPE: Self = Self(libc::SIGFPE);
    /// Kill: cannot be caught or ignored.
    pub const KILL: Self = Self(libc::SIGKILL);
    /// First user signal.
    pub const USR1: Self = Self(libc::SIGUSR1);
    /// Invalid memory reference.
    pub const SEGV: Self = Self(libc::SIGSEGV);
    /// Second user signal.
    pub const USR2: Self = Self(libc::SIGUSR2);
    /// Write to a pipe or socket that no process reads.
    pub const PIPE: Self = Self(libc::SIGPIPE);
    /// A timer of alarm(2) ran out.
    pub const ALRM: Self = Self(libc::SIGALRM);
    /// Termination request.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// Stack fault of a coprocessor; unused.
    pub const STKFLT: Self = Self(libc::SIGSTKFLT);
    /// A child stopped, continued or ended.
    pub const CHLD: Self = Self(libc::SIGCHLD);
    /// Continue if stopped.
    pub const CONT: Self = Self(libc::SIGCONT);
    /// Stop: cannot be caught or ignored.
    pub const STOP: Self = Self(libc::SIGSTOP);
    /// Stop from the keyboard.
    pub const TSTP: Self = Self(libc::SIGTSTP);
    /// Read from the terminal by a background process.
    pub const TTIN: Self = Self(libc::SIGTTIN);
    /// Write to the terminal by a background process.
    pub const TTOU: Self = Self(libc::SIGTTOU);
    /// Urgent data on a socket.
    pub const URG: Self = Self(libc::SIGURG);
    /// The limit of CPU time was reached (setrlimit(2), `RLIMIT_CPU`).
    pub const XCPU: Self = Self(libc::SIGXCPU);
    /// The limit of the file size was reached (setrlimit(2), `RLIMIT_FSIZE`).
    pub const XFSZ: Self = Self(libc::SIGXFSZ);
    /// A virtual timer of setitimer(2) ran out.
    pub const VTALRM: Self = Self(libc::SIGVTALRM);
    /// A profiling timer of setitimer(2) ran out.
    pub const PROF: Self = Self(libc::SIGPROF);
    /// The window size of the terminal changed.
    pub const WINCH: Self = Self(libc::SIGWINCH);
    /// Input or output is possible.
    pub const IO: Self = Self(libc::SIGIO);
    /// Power failure.
    pub const PWR: Self = Self(libc::SIGPWR);
    /// Bad system call; a seccomp filter may send it.
    pub const SYS: Self = Self(libc::SIGSYS);

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
            Err(_) if self.0 < RTMIN => write!(f, "{}", self.0),
            Err(_) => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
        }
    }
}

impl FromStr for Signal {
    type Err = Error;

    /// `SIGTERM`, `TERM`, `term` or `15`; real-time signals also as `RTMIN+3` and `RTMAX-14`.
    fn from_str(text: &str) -> Result<Self> {
        if let Ok(number) = text.parse() {
            return Self::new(number);
        }
        let upper = text.to_ascii_uppercase();
        let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
        if let Some(number) = real_time(&name) {
            return Ok(Self(number));
        }
        let named = nix::sys::signal::Signal::from_str(&name).map_err(|_| {
            Error::new(ErrorKind::InvalidInput, "signal", format!("{text:?} is not a signal name"))
        })?;
        Ok(Self(named as i32))
    }
}

/// The first and the last real-time signal of programs, as glibc and musl count them: they keep 32 and up for threads
/// (signal(7)).
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The number of `SIGRTMIN`, `SIGRTMIN+N`, `SIGRTMAX` or `SIGRTMAX-N`.
fn real_time(name: &str) -> Option<i32> {
    let (first, distance, sign) = match (name.strip_prefix("SIGRTMIN"), name.strip_prefix("SIGRTMAX")) {
        (Some(distance), _) => (RTMIN, distance, '+'),
        (_, Some(distance)) => (RTMAX, distance, '-'),
        _ => return None,
    };
    let distance = match distance.strip_prefix(sign) {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        None if distance.is_empty() => 0,
        _ => return None,
    };
    let number = if sign == '+' { first.checked_add(distance)? } else { first.checked_sub(distance)? };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
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
    fn real_time_signals_have_names_from_both_ends() {
        for (text, number) in
            [("RTMIN+3", 37), ("SIGRTMIN", 34), ("sigrtmin+30", 64), ("RTMAX", 64), ("SIGRTMAX-14", 50)]
        {
            assert_eq!(text.parse::<Signal>().unwrap().number(), number, "{text}");
        }
        for number in 1..=64 {
            let signal = Signal::new(number).unwrap();
            assert_eq!(signal.to_string().parse::<Signal>().unwrap(), signal);
        }
        for bad in [
            "RTMIN+31",
            "RTMAX-31",
            "RTMIN-1",
            "RTMAX+1",
            "RTMIN+",
            "RTMIN++1",
            "RTMIN3",
            "RTMIN+99999999999",
        ] {
            assert!(bad.parse::<Signal>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_standard_signal_has_a_constant() {
        let constants = [
            Signal::HUP,
            Signal::INT,
            Signal::QUIT,
            Signal::ILL,
            Signal::TRAP,
            Signal::ABRT,
            Signal::BUS,
            Signal::FPE,
            Signal::KILL,
            Signal::USR1,
            Signal::SEGV,
            Signal::USR2,
            Signal::PIPE,
            Signal::ALRM,
            Signal::TERM,
            Signal::STKFLT,
            Signal::CHLD,
            Signal::CONT,
            Signal::STOP,
            Signal::TSTP,
            Signal::TTIN,
            Signal::TTOU,
            Signal::URG,
            Signal::XCPU,
            Signal::XFSZ,
            Signal::VTALRM,
            Signal::PROF,
            Signal::WINCH,
            Signal::IO,
            Signal::PWR,
            Signal::SYS,
        ];
        let numbers: Vec<i32> = constants.iter().map(|signal| signal.number()).collect();
        assert_eq!(numbers, (1..=31).collect::<Vec<_>>(), "in the order of x86-64, aarch64 and their like");
        for signal in constants {
            assert_eq!(signal.to_string().parse::<Signal>().unwrap(), signal);
        }
    }

    #[test]
    fn other_names_and_numbers_are_refused() {
        assert_eq!("FOO".parse::<Signal>().unwrap_err().to_string(), "signal: \"FOO\" is not a signal name");
        assert_eq!(Signal::new(0).unwrap_err().to_string(), "signal: 0 is not a signal, use 1 to 64");
        assert!(Signal::new(65).is_err());
    }
}

//! What `/proc/PID/stat` and `/proc/PID/status` say of a process, and reading files below a proc without leaving it.
//!
//! The kernel makes these files, but a process chooses parts of them: its name, and, if it may change its groups, how
//! long the list of them is. So every read has a limit, and every name may hold anything.
//!
//! `procfs` parses `stat`. It does not parse `status` here: `procfs::process::Status` needs all of its lines, so a list
//! of 65,536 groups would have to be read to its end, and one line that it does not understand hides all others.
//! [`StatusText`] looks for the few lines that are needed.

use procfs::FromRead;
use procfs::process::StatFlags;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::ops::Deref;

/// The fields of proc_pid_stat(5).
#[derive(Debug)]
pub(crate) struct ProcStat(procfs::process::Stat);

impl ProcStat {
    /// Parses the content of a `stat` file; `None` if it is not in that format, as after a read that was cut short.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text);
        let text = text.trim();
        // `procfs` takes "PID (" and the ") " after the name for granted, and slices there. The name may hold any
        // bytes, brackets too, so the last bracket ends it.
        let (pid, rest) = text.split_once('(')?;
        pid.strip_suffix(' ')?.parse::<i32>().ok()?;
        rest[rest.rfind(')')?..].strip_prefix(") ")?;
        procfs::process::Stat::from_read(text.as_bytes()).ok().map(Self)
    }

    /// Whether the process has ended and waits to be collected. A zombie with more than one thread is a live process
    /// whose first thread ended.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, 'X' | 'x') || (self.state == 'Z' && self.num_threads <= 1)
    }

    /// Whether its first thread is on its way out in the kernel, and runs no instruction of its own any more.
    pub(crate) fn is_exiting(&self) -> bool {
        self.flags & StatFlags::PF_EXITING.bits() != 0
    }
}

impl Deref for ProcStat {
    type Target = procfs::process::Stat;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// Lines of the form `Name:` and values: a `status` file (proc_pid_status(5)), or the `fdinfo` file of a pidfd.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StatusText<'a>(pub(crate) &'a str);

impl<'a> StatusText<'a> {
    /// The values of a line, trimmed; `None` without such a line.
    pub(crate) fn line(self, name: &str) -> Option<&'a str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    /// One value of a line, counted from 0.
    pub(crate) fn number(self, name: &str, index: usize) -> Option<u32> {
        self.line(name)?.split_ascii_whitespace().nth(index)?.parse().ok()
    }

    /// The set of signals in a line such as `SigCgt`: bit n - 1 is signal n.
    pub(crate) fn signals(self, name: &str) -> u64 {
        self.line(name).and_then(|set| u64::from_str_radix(set, 16).ok()).unwrap_or_default()
    }

    /// The `NSpid` line: the pids of the process, from the pid namespace of the proc inwards to its own. Empty where
    /// the kernel shows none.
    pub(crate) fn pids(self) -> impl DoubleEndedIterator<Item = i32> + use<'a> {
        let line = self.line("NSpid").unwrap_or_default();
        line.split_ascii_whitespace().filter_map(|pid| pid.parse().ok())
    }
}

/// Opens `path` below the proc or process directory `at`, without following links and without leaving that mount.
pub(crate) fn open_below(at: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::openat2(at, path, flags, Mode::empty(), resolve)
}

/// Reads at most `limit` bytes of the file that [`open_below`] opens.
pub(crate) fn read_below(at: BorrowedFd<'_>, path: &str, limit: u64) -> Result<Vec<u8>, Errno> {
    let file = File::from(open_below(at, path, OFlags::empty())?);
    let mut bytes = Vec::new();
    match file.take(limit).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Everything after the name, of a process in state `S` with three threads.
    const TAIL: &str =
        "S 1 7 6 34816 9 4194304 0 0 0 0 25 75 9 9 20 0 3 0 4242 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";

    #[test]
    fn a_process_cannot_name_itself_into_another_row() {
        for name in ["cat", "a) Z 1 1", "))) (", "x y", "a) R 1", ") Z 0 0 0", "x\ny", ""] {
            let stat = ProcStat::parse(format!("7 ({name}) {TAIL}\n").as_bytes()).unwrap();
            assert_eq!((stat.comm.as_str(), stat.state, stat.ppid), (name, 'S', 1));
            assert_eq!((stat.pgrp, stat.session, stat.tty_nr, stat.tpgid), (7, 6, 34816, 9));
            assert_eq!((stat.flags, stat.utime, stat.stime), (4_194_304, 25, 75));
            assert_eq!((stat.num_threads, stat.starttime), (3, 4242));
        }
        let bytes = [b"7 (\xff\xfe) ", TAIL.as_bytes()].concat();
        assert_eq!(ProcStat::parse(&bytes).unwrap().comm, "\u{fffd}\u{fffd}");
        assert!(ProcStat::parse(b"7 (sh").is_none());
        assert!(ProcStat::parse(b"7 (x) S 1 7").is_none());
    }

    #[test]
    fn a_first_thread_that_ended_does_not_make_a_zombie_of_the_rest() {
        let of = |state: &str, threads: &str| {
            let tail = TAIL.replacen('S', state, 1).replacen(" 3 ", &format!(" {threads} "), 1);
            ProcStat::parse(format!("7 (a) {tail}").as_bytes()).unwrap().is_dead()
        };
        assert!(of("Z", "1") && of("X", "0") && !of("Z", "2") && !of("S", "1"));
    }

    #[test]
    fn lines_of_a_status_are_found_by_their_whole_name() {
        let text = StatusText(
            "Name:\tUid:\nTgid:\t5\nUid:\t1\t2\t3\t4\nNSpid:\t9\t5\t1\nSigCgt:\t0000000000004002\n",
        );
        assert_eq!(text.number("Uid", 1), Some(2));
        assert_eq!(text.pids().collect::<Vec<_>>(), [9, 5, 1]);
        assert_eq!(text.signals("SigCgt"), 1 << 14 | 1 << 1);
        assert_eq!((text.line("Pid"), text.signals("SigIgn"), text.number("Uid", 4)), (None, 0, None));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ProcStat::parse(&bytes);
            prop_assert!(ProcStat::parse(&[b"7 (".as_slice(), &bytes, b") ", TAIL.as_bytes()].concat()).is_some());
            for shape in [["", "(", ")", ""], ["7 ", "(", ") ", "S"], ["é(", ")", "é", "("], [" ", " (x) S", "", ") "]] {
                let text = shape.map(|part| [part.as_bytes(), &bytes].concat()).concat();
                let _ = ProcStat::parse(&text);
            }
            let text = String::from_utf8_lossy(&bytes);
            let _ = (StatusText(&text).number("Uid", 1), StatusText(&text).pids().count());
        }
    }
}

//! Templates: a process that is written down once, and copies of it that begin where it stopped.
//!
//! ```text
//!   template                      sandbox                                 caller
//!      | runs, stops itself          |<----- Operation::Template -----------|
//!      |<--- seize, look, read ------|  capture: description, pages ------->|  both sealed
//!
//!   copy: init, made as ever         its sandbox
//!      | be traced, filter, execve ->|  hears execve
//!      | (stopped before the         |
//!      |  program's first instruction)
//!      |<--- a table of calls -------|  write: unmap the program, map the pages and files
//!      |<--- registers, detach ------|
//! ```
//!
//! The copy is a process that execve(2) has made of init, with the ids, capabilities, filter and limits of its own
//! configuration. Only then, and only by system calls that this process makes itself and its filter allows, does it get the
//! memory of the template. So nothing that a template does gives a copy a right, and the filter has to allow what the table
//! needs: mmap, munmap, mremap, madvise, openat, newfstatat, lseek, dup3, close, prctl, rt_sigaction, sigaltstack,
//! set_tid_address, set_robust_list, rseq, chdir, umask.
//!
//! All that is read of a template may be hostile: [`maps`] parses it, and counts and sizes are bounded. The sandbox does
//! nothing else while it holds a process, so it waits for it for a limited time (`child`), and never for a filesystem or a
//! page that the process could hold back: the process itself looks at the files.

mod capture;
mod child;
mod files;
pub(crate) mod maps;
mod refusal;
mod write;

#[cfg(any(test, fuzzing))]
pub(crate) use capture::describe;
pub(super) use capture::{Captured, capture, refuse_listener};
pub(super) use refusal::refuse;
pub(super) use write::write;

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::sys::tracing;
use crate::wire::template::FileVersion;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::process::Pid;

/// The process, stopped or about to be, and where it is seen.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    /// Its pid as the sandbox sees it.
    pub(super) pid: Pid,
    /// Its pid in the container's own proc.
    pub(super) inside: i32,
    pub(super) proc: BorrowedFd<'a>,
    pub(super) root: BorrowedFd<'a>,
}

/// The words of `struct stat` of both architectures.
const STAT_WORDS: usize = 18;

/// The version of a file that the process itself has asked for. Its tracer would have to wait for whatever filesystem the
/// file is on.
fn version_of(stat: &[u64; STAT_WORDS]) -> FileVersion {
    // st_ino, st_size, st_mtime, st_mtime_nsec
    FileVersion { inode: stat[1], size: stat[6], modified: (stat[11], stat[12]) }
}

/// The kernel, as precisely as it names itself.
fn kernel() -> String {
    let uname = rustix::system::uname();
    format!("{} {}", uname.release().to_string_lossy(), uname.version().to_string_lossy())
}

/// A file of the process in proc, at most `limit` bytes of it.
fn read(subject: Subject<'_>, name: &str, limit: u64) -> Result<Vec<u8>> {
    let path = format!("{}/{name}", subject.inside);
    crate::sys::read_below(subject.proc, &path, limit).os(|| format!("read(proc/{path})"))
}

/// Why the process, which was held, could not be handled: a process that is being killed is no longer stopped, and
/// everything about it fails in some way.
fn explain(pid: Pid, error: Error, step: &'static str) -> Error {
    let is_held = !matches!(tracing::signal_mask(pid), Err(Errno::SRCH));
    if is_held || *error.kind() == ErrorKind::TimedOut { error } else { ended(step) }
}

/// What the process ended in the middle of.
fn ended(step: &'static str) -> Error {
    Error::new(ErrorKind::Ended, step, "the process ended meanwhile")
}

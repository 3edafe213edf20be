//! Descriptors by number: what a process was started with, what it leaves to the program it executes, and closing the
//! rest.

use super::check;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;

/// The first number after standard input, output and error.
pub(crate) const FIRST_AFTER_STDIO: RawFd = 3;

/// Takes ownership of a descriptor that this process was started with. `None` if nothing is open at `number`.
///
/// The caller must take each number at most once. The donation list in `argv`, which names every number once, ensures
/// that.
pub(crate) fn inherited_fd(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: fcntl with integers has no memory effects.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    // SAFETY: the call above showed that the number is open. The process that executed this one placed it there for
    // this process, so no other value here owns it, and the caller takes it once.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A copy of what this process has open at `number`: fcntl(2) `F_DUPFD_CLOEXEC`. For numbers that a command line names,
/// and that no value of this crate owns.
pub(crate) fn duplicate(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: fcntl with integers has no memory effects.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, FIRST_AFTER_STDIO) };
    check(copy)?;
    // SAFETY: the kernel has just made the number for this call, so no other value owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Marks every descriptor from `first` on close-on-exec: close_range(2).
pub(crate) fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: the call changes a flag of the descriptors; their owners stay their owners.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) })
}

/// Closes standard output and standard error, for a process that has neither.
pub(crate) fn close_stdout_and_stderr() -> Result<(), Errno> {
    // SAFETY: no value owns these numbers: the standard library and rustix only borrow them.
    check(unsafe { libc::syscall(libc::SYS_close_range, libc::STDOUT_FILENO, libc::STDERR_FILENO, 0) })
}

/// Puts a copy of `fd` at `number` and closes what was there: dup2(2). Only for a process on its way to execve, where
/// the numbers have a meaning for the next program.
pub(crate) fn place_at(fd: BorrowedFd<'_>, number: RawFd) -> Result<(), Errno> {
    // SAFETY: this may close a descriptor that a value owns. The caller executes or ends before that value is used or
    // dropped, and has moved what it still needs until then to other numbers.
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) })
}

/// Keeps the descriptor at `number` open across execve.
pub(crate) fn keep_on_exec(number: RawFd) -> Result<(), Errno> {
    // SAFETY: fcntl with integers has no memory effects.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, 0) })
}

/// Closes every descriptor from 3 on except those in `keep`: close_range(2).
///
/// Only for a process that was just forked and never returns to the code that owned the others.
pub(crate) fn close_all_but(keep: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    for (first, last) in gaps_between(keep) {
        // SAFETY: the owners of these numbers are values of the parent's code, which never runs again in this process,
        // so no value uses or closes them a second time.
        check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    }
    Ok(())
}

/// The numbers from 3 on that are not in `keep`, as ranges for close_range(2).
pub(super) fn gaps_between(keep: &[BorrowedFd<'_>]) -> Vec<(u32, u32)> {
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).collect();
    kept.sort_unstable();
    kept.dedup();
    let first = FIRST_AFTER_STDIO.unsigned_abs();
    let mut gaps = Vec::with_capacity(kept.len() + 1);
    let mut from = first;
    for number in kept.into_iter().filter(|number| *number >= first) {
        if number > from {
            gaps.push((from, number - 1));
        }
        from = number + 1;
    }
    gaps.push((from, u32::MAX));
    gaps
}

/// Changes the permission bits of the file itself, even if it was opened with `O_PATH`: fchmodat2(2), Linux 6.6.
pub(crate) fn change_mode(file: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
    const FCHMODAT2: i64 = 452;
    // SAFETY: the path is a C string literal, which the call only reads; empty with AT_EMPTY_PATH, it means `file`.
    check(unsafe { libc::syscall(FCHMODAT2, file.as_raw_fd(), c"".as_ptr(), mode, libc::AT_EMPTY_PATH) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;

    #[test]
    fn what_is_closed_is_everything_between_what_is_kept() {
        assert_eq!(gaps_between(&[]), [(3, u32::MAX)]);
        let file = std::fs::File::open("/dev/null").expect("a file to have a number");
        let number = file.as_raw_fd().unsigned_abs();
        let gaps = gaps_between(&[file.as_fd(), rustix::stdio::stdin(), file.as_fd()]);
        let kept = |other: u32| !gaps.iter().any(|(first, last)| (*first..=*last).contains(&other));
        assert!(kept(0) && kept(2) && kept(number) && !kept(number + 1) && !kept(u32::MAX));
        assert!(number == 3 || !kept(3));
    }
}

//! What a file worker needs of the kernel that `rustix` lacks.

use super::check;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;

/// Changes the permission bits of the file itself, also one opened with `O_PATH`: fchmodat2(2), Linux 6.6.
pub(crate) fn change_mode(file: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
    const FCHMODAT2: i64 = 452;
    // SAFETY: the path is an empty C string, which with AT_EMPTY_PATH means the descriptor; no memory is written.
    check(unsafe { libc::syscall(FCHMODAT2, file.as_raw_fd(), c"".as_ptr(), mode, libc::AT_EMPTY_PATH) })
}

/// Closes every descriptor from 3 on but those in `keep`: close_range(2).
///
/// For a process that was just forked and never returns to the code that owned the others.
pub(crate) fn close_all_but(keep: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    keep.sort_unstable();
    let mut from = 3_u32;
    for last in keep.into_iter().map(|number| number.checked_sub(1)).chain([Some(u32::MAX)]) {
        if let Some(last) = last.filter(|last| *last >= from) {
            // SAFETY: the owners of these numbers are values of the parent's code, which never runs here again; so
            // nobody uses or closes them a second time.
            check(unsafe { libc::syscall(libc::SYS_close_range, from, last, 0) })?;
        }
        from = from.max(last.map_or(0, |last| last.saturating_add(2)));
    }
    Ok(())
}

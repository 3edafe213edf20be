//! Loading a compiled filter: seccomp(2).

use super::check;
use rustix::io::Errno;

/// Installs a filter on this thread. It cannot be removed again.
pub(crate) fn load_seccomp(
    instructions: impl Iterator<Item = libc::sock_filter>,
    flags: u32,
) -> Result<(), Errno> {
    let instructions: Vec<_> = instructions.collect();
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(|_| Errno::INVAL)?,
        filter: instructions.as_ptr().cast_mut(),
    };
    // SAFETY: `program` points to `len` instructions that live across the call; the kernel copies and checks them.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    check(result)
}

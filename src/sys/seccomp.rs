//! Loading a compiled filter, seccomp(2), and what little a process can still do when it has one that stops it.

use super::{check, last_errno};
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;

/// Installs a filter on this thread. It cannot be removed again. With `SECCOMP_FILTER_FLAG_NEW_LISTENER` among the
/// flags, the listener.
pub(crate) fn load_seccomp(
    instructions: impl Iterator<Item = libc::sock_filter>,
    flags: u32,
) -> Result<Option<OwnedFd>, Errno> {
    const NEW_LISTENER: u32 = 1 << 3;
    let instructions: Vec<_> = instructions.collect();
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(|_| Errno::INVAL)?,
        filter: instructions.as_ptr().cast_mut(),
    };
    // SAFETY: `program` points to `len` instructions that live across the call; the kernel copies and checks them.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    // Giving memory back is a system call, and the filter may stop it.
    std::mem::forget(instructions);
    check(result)?;
    if flags & NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: the kernel returned a new descriptor that nothing else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(result as RawFd) }))
}

/// 128 bits nobody can guess: getrandom(2).
pub(crate) fn draw_secret() -> Result<[u64; 2], Errno> {
    let mut secret = [0_u64; 2];
    let bytes = size_of_val(&secret);
    // SAFETY: the buffer is `bytes` long. Up to 256 bytes are never cut short.
    match unsafe { libc::getrandom(secret.as_mut_ptr().cast(), bytes, 0) } {
        drawn if drawn == bytes as isize => Ok(secret),
        _ => Err(last_errno()),
    }
}

/// sendmsg(2) of `bytes` with two descriptors, with `secret` in the arguments that the call does not have.
pub(crate) fn send_with_secret(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: [BorrowedFd<'_>; 2],
    secret: [u64; 2],
) -> Result<(), Errno> {
    /// A control message with two descriptors, its end aligned as `CMSG_SPACE` wants it.
    #[repr(C)]
    struct Rights {
        header: libc::cmsghdr,
        fds: [RawFd; 2],
    }
    // SAFETY: cmsghdr is plain numbers; all zeroes is a valid value.
    let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
    header.cmsg_len = size_of::<Rights>() as _;
    header.cmsg_level = libc::SOL_SOCKET;
    header.cmsg_type = libc::SCM_RIGHTS;
    let mut rights = Rights { header, fds: fds.map(|fd| fd.as_raw_fd()) };
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr is plain numbers and pointers; all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut rights).cast();
    message.msg_controllen = size_of::<Rights>() as _;
    // SAFETY: the message and all it points to live across the call, which only reads them; the kernel has no fourth
    // and fifth argument here to make anything of.
    check(unsafe {
        libc::syscall(
            libc::SYS_sendmsg,
            socket.as_raw_fd(),
            &raw const message,
            libc::MSG_NOSIGNAL,
            secret[0],
            secret[1],
        )
    })
}

/// read(2), with `secret` in the arguments that the call does not have. The number of bytes.
pub(crate) fn read_with_secret(
    file: BorrowedFd<'_>,
    bytes: &mut [u8],
    secret: [u64; 2],
) -> Result<usize, Errno> {
    // SAFETY: the buffer is as long as given; the kernel has no fourth and fifth argument here to make anything of.
    let result = unsafe {
        libc::syscall(libc::SYS_read, file.as_raw_fd(), bytes.as_mut_ptr(), bytes.len(), secret[0], secret[1])
    };
    usize::try_from(result).map_err(|_| last_errno())
}

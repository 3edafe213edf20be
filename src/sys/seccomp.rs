//! Loading a compiled filter (seccomp(2)), and the few calls that a process makes under a filter that forbids them:
//! they carry a secret, which our additions to the filter let pass.

use super::{check, last_errno};
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;

/// Installs a filter on this thread, for good. Returns the listener if `SECCOMP_FILTER_FLAG_NEW_LISTENER` is among the
/// flags. Makes no other system call.
pub(crate) fn load_seccomp(instructions: &[libc::sock_filter], flags: u32) -> Result<Option<OwnedFd>, Errno> {
    const NEW_LISTENER: u32 = 1 << 3;
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(|_| Errno::INVAL)?,
        filter: instructions.as_ptr().cast_mut(),
    };
    // SAFETY: `program` points to `len` instructions, which live across the call; the kernel copies and verifies them.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    check(result)?;
    if flags & NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: the kernel has just opened this descriptor, so no other value owns it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(result as RawFd) }))
}

/// 128 random bits: getrandom(2).
pub(crate) fn draw_secret() -> Result<[u64; 2], Errno> {
    let mut secret = [0_u64; 2];
    let bytes = size_of_val(&secret);
    // SAFETY: the buffer is `bytes` long. The kernel never cuts a request of up to 256 bytes short.
    match unsafe { libc::getrandom(secret.as_mut_ptr().cast(), bytes, 0) } {
        drawn if drawn == bytes as isize => Ok(secret),
        _ => Err(last_errno()),
    }
}

/// sendmsg(2) of `bytes` and the descriptors `fds` and `last`, with `secret` in the fourth and fifth argument, which the
/// call does not use and a filter can compare.
pub(crate) fn send_with_secret(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    last: [BorrowedFd<'_>; 2],
    secret: [u64; 2],
) -> Result<(), Errno> {
    /// `SCM_MAX_FD` (unix(7)).
    const MOST: usize = 253;
    /// A control message with descriptors, on the stack: the filter may refuse more memory.
    #[repr(C)]
    struct Rights {
        header: libc::cmsghdr,
        fds: [RawFd; MOST],
    }
    let count = fds.len() + last.len();
    if count > MOST {
        return Err(Errno::TOOMANYREFS);
    }
    let mut numbers = [0; MOST];
    for (number, fd) in numbers.iter_mut().zip(fds.iter().chain(&last)) {
        *number = fd.as_raw_fd();
    }
    // SAFETY: cmsghdr consists of integers, for which all zeroes is a valid value.
    let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
    header.cmsg_len = (size_of::<libc::cmsghdr>() + count * size_of::<RawFd>()) as _;
    header.cmsg_level = libc::SOL_SOCKET;
    header.cmsg_type = libc::SCM_RIGHTS;
    let mut rights = Rights { header, fds: numbers };
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr consists of integers and raw pointers, for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut rights).cast();
    // SAFETY: the call computes a length.
    message.msg_controllen = unsafe { libc::CMSG_SPACE((count * size_of::<RawFd>()) as u32) } as _;
    // SAFETY: the message and all it points to live across the call, which only reads them. The kernel ignores a fourth
    // and fifth argument of this call.
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

/// read(2), with `secret` as [`send_with_secret`]. Returns the number of bytes.
pub(crate) fn read_with_secret(
    file: BorrowedFd<'_>,
    bytes: &mut [u8],
    secret: [u64; 2],
) -> Result<usize, Errno> {
    // SAFETY: the buffer has the length given. The kernel ignores a fourth and fifth argument of this call.
    let result = unsafe {
        libc::syscall(libc::SYS_read, file.as_raw_fd(), bytes.as_mut_ptr(), bytes.len(), secret[0], secret[1])
    };
    usize::try_from(result).map_err(|_| last_errno())
}

/// close(2), with `secret` as [`send_with_secret`]. Only for a process on its way to execve: a value that owns `file` must
/// neither be used nor dropped after this.
pub(crate) fn close_with_secret(file: BorrowedFd<'_>, secret: [u64; 2]) {
    // SAFETY: the caller executes or ends before the owner of the number uses or drops it. The kernel ignores all arguments
    // of this call but the first.
    unsafe { libc::syscall(libc::SYS_close, file.as_raw_fd(), 0, 0, secret[0], secret[1]) };
}

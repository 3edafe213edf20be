//! Network namespaces: the one setting of a new one, its loopback interface, and whose a socket is.

use super::check;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

/// Sets `IFF_UP` on `lo` of the current network namespace (netdevice(7)).
pub(crate) fn bring_loopback_up() -> Result<(), Errno> {
    let socket: OwnedFd = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: ifreq is plain numbers and a union of them; all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which `request` is.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    check(result)
}

/// `ioctl(socket, SIOCGSKNS)`: the network namespace that `socket` was opened in (linux/sockios.h).
pub(crate) fn network_namespace_of(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // SAFETY: SIOCGSKNS takes no argument.
    let fd = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGSKNS as _) };
    check(fd)?;
    // SAFETY: the kernel has just opened it for us, close-on-exec, and nobody else knows the number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

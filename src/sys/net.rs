//! The one network setting of a new network namespace: its loopback interface.

use super::check;
use rustix::fd::{AsRawFd, OwnedFd};
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

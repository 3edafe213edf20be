//! Sockets: Unix sockets by directory descriptor and name, and what a socket has to do with its network namespace.
//!
//! A Unix socket's address goes through `/proc/self/fd/N/NAME`: that fits into the 108 bytes of `sockaddr_un` (unix(7))
//! however long the directory's own path is, and means that directory even if a process renames it meanwhile.

use super::check;
use crate::error::{Error, ErrorKind, OsContext, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with};
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

/// Connects a `SOCK_SEQPACKET` socket to `name` in `dir`.
pub(crate) fn connect_in(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let socket = socket(SocketType::SEQPACKET)?;
    connect(&socket, &address_in(dir, name)?)?;
    Ok(socket)
}

/// A `SOCK_SEQPACKET` socket, bound to `name` in `dir`, which must not exist.
pub(crate) fn bind_in(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let socket = socket(SocketType::SEQPACKET)?;
    bind(&socket, &address_in(dir, name)?)?;
    Ok(socket)
}

/// Connects a `SOCK_STREAM` socket to `path`, where another program listens; `what` names it in errors. Neither
/// connecting nor sending takes longer than `limit`.
pub(crate) fn connect_stream(what: &str, path: &Path, limit: Duration) -> Result<OwnedFd> {
    let step = || format!("connect({what}, {path:?})");
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new(ErrorKind::InvalidInput, step(), "is not the path of a socket"));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, directory, flags, Mode::empty()).os(step)?;
    let socket = socket(SocketType::STREAM).os(step)?;
    // The send timeout limits connect(2) as well (unix(7)).
    set_socket_timeout(&socket, Timeout::Send, Some(limit)).os(step)?;
    address_in(directory.as_fd(), name).and_then(|address| connect(&socket, &address)).os(step)?;
    Ok(socket)
}

fn socket(kind: SocketType) -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
}

fn address_in(dir: BorrowedFd<'_>, name: &OsStr) -> Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new(Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name))
}

/// Sets `IFF_UP` on `lo` of the current network namespace (netdevice(7)).
pub(crate) fn bring_loopback_up() -> Result<(), Errno> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: ifreq consists of integers and a union of them, for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, and `request` lives across the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    check(result)
}

/// `ioctl(socket, SIOCGSKNS)`: the network namespace that `socket` was opened in (linux/sockios.h).
pub(crate) fn network_namespace_of(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // SAFETY: SIOCGSKNS takes no argument.
    let fd = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGSKNS as _) };
    check(fd)?;
    // SAFETY: the kernel has just opened it for this call, close-on-exec, so no other value owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

//! Unix sockets by directory descriptor and name: `/proc/self/fd/N/NAME` fits into the 108 bytes of `sockaddr_un`
//! (unix(7)) however long the directory's own path is, and means that directory whatever is renamed meanwhile.

use crate::error::{Error, ErrorKind, OsContext, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
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

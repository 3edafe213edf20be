//! `--pidfd-socket`: a program that wants to wait for a process, or to signal it, gets a descriptor of it.

use super::failure::Failure;
use rustix::fd::AsFd;
use rustix::io::IoSlice;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, sendmsg, socket_with,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

/// The connection to a program that waits for a pidfd.
pub(crate) struct PidfdSocket(OwnedFd);

impl PidfdSocket {
    /// Connects. Call this before anything is made, so that a missing receiver leaves no trace.
    pub(crate) fn connect(path: &Path) -> Result<Self, Failure> {
        let failed = |errno| Failure::from(format!("pidfd socket {}: {errno}", path.display()));
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let socket = socket.map_err(failed)?;
        connect(&socket, &SocketAddrUnix::new(path).map_err(failed)?).map_err(failed)?;
        Ok(Self(socket))
    }

    /// Sends the pidfd of a container's first process, which has this pid.
    pub(crate) fn send_init(&self, pid: i32) -> Result<(), Failure> {
        let pid = Pid::from_raw(pid).ok_or("a process without a pid")?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty());
        self.send(pidfd.map_err(|errno| format!("pidfd of the container: {errno}"))?.as_fd(), "standard")
    }

    /// Sends the pidfd of a process of exec.
    pub(crate) fn send_executed(&self, pidfd: BorrowedFd<'_>) -> Result<(), Failure> {
        self.send(pidfd, "setns")
    }

    /// With the words that runc sends.
    fn send(&self, pidfd: BorrowedFd<'_>, words: &str) -> Result<(), Failure> {
        let failed = |errno| Failure::from(format!("pidfd socket: {errno}"));
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [pidfd];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let words = [IoSlice::new(words.as_bytes())];
        sendmsg(&self.0, &words, &mut control, SendFlags::NOSIGNAL).map(drop).map_err(failed)
    }
}

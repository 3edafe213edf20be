//! Frames and descriptors over `SOCK_SEQPACKET` Unix sockets. No other file builds or reads control messages.

use super::donation::{NamedFd, Received};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::wire::frame;
use crate::wire::frame::{MAX_FDS, MAX_FRAME, Message};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

/// How long a helper without work keeps the memory that it needs only to work. A container that ends sooner needs
/// most of that again at once.
pub(crate) const IDLE_AFTER: Duration = Duration::from_millis(50);

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// A message that arrived, and the descriptors that came along.
#[derive(Debug)]
pub(crate) struct Delivery<M> {
    pub(crate) message: M,
    pub(crate) fds: Received,
}

impl Channel {
    /// Both ends of a new connection: socketpair(2).
    pub(crate) fn pair() -> Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .os(|| "socketpair(AF_UNIX, SOCK_SEQPACKET)")?;
        Ok((Self(a), Self(b)))
    }

    /// Whether nothing arrives for [`IDLE_AFTER`], nor the other end closes. Reads no clock: that can be a system call,
    /// which a confined process may not make.
    pub(crate) fn is_idle(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut fds, Some(&timespec(IDLE_AFTER))) == Ok(0)
    }

    /// Sends `message` with `fds`. A peer that is gone is an error, never a signal.
    pub(crate) fn send<M: Message>(&self, message: &M, fds: &[NamedFd<'_>]) -> Result<()> {
        self.send_with(SendFlags::NOSIGNAL, message, fds)
    }

    /// As [`send`](Self::send), but fails with `EAGAIN` instead of waiting for a peer that does not read.
    pub(crate) fn send_now<M: Message>(&self, message: &M, fds: &[NamedFd<'_>]) -> Result<()> {
        self.send_with(SendFlags::NOSIGNAL | SendFlags::DONTWAIT, message, fds)
    }

    fn send_with<M: Message>(&self, flags: SendFlags, message: &M, fds: &[NamedFd<'_>]) -> Result<()> {
        let (names, fds): (Vec<&str>, Vec<BorrowedFd<'_>>) = fds.iter().copied().unzip();
        let frame = frame::encode(&names, message)?;
        let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(&fds).size()];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&fds));
        }
        loop {
            match sendmsg(&self.0, &[IoSlice::new(&frame)], &mut control, flags) {
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => return Err(gone("sendmsg")),
                sent => return sent.map(drop).os(|| "sendmsg"),
            }
        }
    }

    /// Receives one message, waiting until `deadline` (forever without one).
    pub(crate) fn receive<M: Message>(&self, deadline: Option<Instant>) -> Result<Delivery<M>> {
        let Some(deadline) = deadline else { return whole(self.receive_with(RecvFlags::empty())?) };
        wait_readable(self.0.as_fd(), deadline)?;
        self.receive_now()
    }

    /// Receives one message that poll(2) has reported; fails with `EAGAIN` if there is none.
    ///
    /// That matters also after the end of the peer: a process that may trace can have taken a copy of its descriptor
    /// (pidfd_getfd(2)), which keeps the connection open.
    pub(crate) fn receive_now<M: Message>(&self) -> Result<Delivery<M>> {
        whole(self.receive_part()?)
    }

    /// As [`receive_now`](Self::receive_now), but also returns a message that came without all of its descriptors, because
    /// this process has no room for them, and the error that says so. The first ones of its names have come.
    pub(crate) fn receive_part<M: Message>(&self) -> Result<(Delivery<M>, Option<Error>)> {
        self.receive_with(RecvFlags::DONTWAIT)
    }

    fn receive_with<M: Message>(&self, flags: RecvFlags) -> Result<(Delivery<M>, Option<Error>)> {
        // Ask for its size first: a buffer for the largest frame would be sixteen fresh pages for every message.
        let size = self.next_frame_size(flags)?;
        let mut bytes = vec![0; size];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut iov = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, &mut iov, &mut control, flags | RecvFlags::CMSG_CLOEXEC) {
                // The peer closed before it had read everything. The kernel reports that once, before what it sent.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                received => break received.os(|| "recvmsg")?,
            }
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Err(gone("recvmsg"));
        }
        let (mut names, message) = frame::decode(&bytes[..received.bytes])?;
        // The kernel drops descriptors when the receiver has no free numbers for them (unix(7), SCM_RIGHTS).
        let missing = received.flags.contains(ReturnFlags::CTRUNC).then(|| {
            names.truncate(fds.len());
            Err::<(), _>(Errno::MFILE).os(|| "recvmsg(SCM_RIGHTS)").expect_err("it is one")
        });
        Ok((Delivery { message, fds: Received::from_frame(names, fds)? }, missing))
    }

    /// The size of the next frame, at most one byte more than allowed.
    fn next_frame_size(&self, flags: RecvFlags) -> Result<usize> {
        loop {
            match recv(&self.0, &mut [0_u8; 0], flags | RecvFlags::PEEK | RecvFlags::TRUNC) {
                // As in `receive_now`.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                result => return result.os(|| "recv(MSG_PEEK)").map(|(_, size)| size.min(MAX_FRAME + 1)),
            }
        }
    }

    /// Waits until the peer has sent something (true) or is gone (false). Neither parses the message nor accepts the
    /// descriptors that came along.
    pub(crate) fn wait_for_message(&self) -> bool {
        loop {
            match rustix::io::read(&self.0, &mut [0_u8; 1]) {
                // As in `receive_now`.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                read => return read.is_ok_and(|size| size > 0),
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

/// Sends `text` and `fd` over a connected stream socket, in the protocol of another program.
pub(crate) fn send_descriptor(stream: BorrowedFd<'_>, text: &[u8], fd: BorrowedFd<'_>) -> Result<()> {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    loop {
        match sendmsg(stream, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return sent.map(drop).os(|| "sendmsg(SCM_RIGHTS)"),
        }
    }
}

/// The message, if all its descriptors have come.
fn whole<M>(received: (Delivery<M>, Option<Error>)) -> Result<Delivery<M>> {
    match received {
        (delivery, None) => Ok(delivery),
        (_, Some(missing)) => Err(missing),
    }
}

fn gone(call: &'static str) -> Error {
    Error::new(ErrorKind::HelperDied, call, "the peer closed the connection")
}

/// Waits until `fd` is readable, or fails with [`ErrorKind::TimedOut`] at `deadline`.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, deadline: Instant) -> Result<()> {
    if wait_readable_until(fd, Some(deadline))? {
        Ok(())
    } else {
        Err(Error::new(ErrorKind::TimedOut, "poll", "the deadline passed"))
    }
}

/// Waits until `fd` is readable (true) or `deadline` passed (false).
pub(crate) fn wait_readable_until(fd: BorrowedFd<'_>, deadline: Option<Instant>) -> Result<bool> {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    loop {
        let left = deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
        match poll(&mut fds, left.as_ref()) {
            Err(Errno::INTR) => {}
            ready => return Ok(ready.os(|| "poll")? > 0),
        }
    }
}

pub(crate) fn timespec(duration: Duration) -> Timespec {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: duration.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::boot::{ForkReply, GoferStart};
    use crate::wire::init::EndedAttached;

    #[test]
    fn the_last_message_of_a_peer_that_did_not_read_ours_arrives() {
        let (ours, theirs) = Channel::pair().expect("a pair");
        ours.send(&GoferStart {}, &[]).expect("a message that is never read");
        theirs.send(&ForkReply::Refused { errno: 7 }, &[]).expect("the last message");
        drop(theirs);
        let last = ours.receive::<ForkReply>(None).expect("a message").message;
        assert_eq!(last, ForkReply::Refused { errno: 7 });
        let end = ours.receive::<ForkReply>(None).map(|delivery| delivery.message);
        assert_eq!(*end.expect_err("the end").kind(), ErrorKind::HelperDied);
    }

    #[test]
    fn a_message_is_told_from_the_end_also_of_a_peer_that_did_not_read_ours() {
        for speaks in [true, false] {
            let (ours, theirs) = Channel::pair().expect("a pair");
            ours.send(&GoferStart {}, &[]).expect("a message that is never read");
            if speaks {
                theirs.send(&EndedAttached {}, &[("more", ours.as_fd())]).expect("a message");
            }
            drop(theirs);
            assert_eq!(ours.wait_for_message(), speaks);
            assert!(!ours.wait_for_message(), "nothing after it");
        }
    }

    #[test]
    fn descriptors_arrive_under_their_names() {
        let (ours, theirs) = Channel::pair().expect("a pair");
        let message = ForkReply::Forked { pid: 7 };
        ours.send(&message, &[("a", ours.as_fd()), ("b", theirs.as_fd())]).expect("sent");
        let Delivery { message: received, mut fds } = theirs.receive::<ForkReply>(None).expect("received");
        let inode = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).expect("a socket").st_ino;
        assert_eq!(received, message);
        assert_eq!(inode(fds.take("b").expect("b").as_fd()), inode(theirs.as_fd()));
        assert_eq!(inode(fds.take_only("a").expect("a").as_fd()), inode(ours.as_fd()));
    }
}

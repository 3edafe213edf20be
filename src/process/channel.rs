//! Frames and descriptors over `SOCK_SEQPACKET` Unix sockets: the only place that touches control messages.

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

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// What arrived: a message and the descriptors that came with it.
#[derive(Debug)]
pub(crate) struct Delivery<M> {
    pub(crate) message: M,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Channel {
    /// Both ends of a new connection: socketpair(2).
    pub(crate) fn pair() -> Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .os(|| "socketpair(AF_UNIX, SOCK_SEQPACKET)")?;
        Ok((Self(a), Self(b)))
    }

    /// Sends `message` with `fds`. A peer that is gone is an error, never a signal.
    pub(crate) fn send<M: Message>(&self, message: &M, fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.send_with(SendFlags::NOSIGNAL, message, fds)
    }

    /// As [`send`](Self::send), but a peer that does not read what it was sent is not waited for: EAGAIN.
    pub(crate) fn send_now<M: Message>(&self, message: &M, fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.send_with(SendFlags::NOSIGNAL | SendFlags::DONTWAIT, message, fds)
    }

    fn send_with<M: Message>(&self, flags: SendFlags, message: &M, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let frame = frame::encode(message)?;
        debug_assert!(fds.len() <= MAX_FDS, "batches are cut to MAX_FDS by their maker");
        let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(fds).size()];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
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
        if let Some(deadline) = deadline {
            wait_readable(self.0.as_fd(), deadline)?;
        }
        self.receive_now()
    }

    /// Receives one message that poll(2) said is there.
    pub(crate) fn receive_now<M: Message>(&self) -> Result<Delivery<M>> {
        // Its size first: a buffer for the largest frame would be sixteen fresh pages for every message.
        let size = self.next_frame_size()?;
        let mut bytes = vec![0; size];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut iov = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC) {
                // A peer that closed before it had read everything: told once, ahead of what it had sent.
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
        if received.flags.contains(ReturnFlags::CTRUNC) {
            // The kernel leaves out what the receiver has no numbers for (unix(7), SCM_RIGHTS).
            return Err(Errno::MFILE).os(|| "recvmsg(SCM_RIGHTS)");
        }
        let message = frame::decode(&bytes[..received.bytes])?;
        Ok(Delivery { message, fds })
    }

    /// The size of the frame that comes next, at most one byte more than allowed. Waits for it.
    fn next_frame_size(&self) -> Result<usize> {
        loop {
            match recv(&self.0, &mut [0_u8; 0], RecvFlags::PEEK | RecvFlags::TRUNC) {
                // As in `receive_now`.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                result => return result.os(|| "recv(MSG_PEEK)").map(|(_, size)| size.min(MAX_FRAME + 1)),
            }
        }
    }

    /// Waits until the peer has sent something (true) or is gone (false). What it sent is not looked at, and descriptors
    /// that came along are not taken.
    pub(crate) fn wait_for_word(&self) -> bool {
        loop {
            match rustix::io::read(&self.0, &mut [0_u8; 1]) {
                // As in `receive_now`.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                read => return read.is_ok_and(|size| size > 0),
            }
        }
    }

    /// Waits until the peer is gone or has sent something unexpected; both end the conversation.
    pub(crate) fn wait_for_hangup(&self) {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        while poll(&mut fds, None) == Err(Errno::INTR) {}
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

/// Sends `fd` with some `words` over a connected stream socket of somebody else's protocol.
pub(crate) fn send_descriptor(stream: BorrowedFd<'_>, words: &[u8], fd: BorrowedFd<'_>) -> Result<()> {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    loop {
        match sendmsg(stream, &[IoSlice::new(words)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return sent.map(drop).os(|| "sendmsg(SCM_RIGHTS)"),
        }
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

fn timespec(duration: Duration) -> Timespec {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: duration.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::{CallerGone, Proceed, Report};

    #[test]
    fn the_last_words_of_a_peer_that_did_not_read_ours_are_heard() {
        let (ours, theirs) = Channel::pair().expect("a pair");
        ours.send(&Proceed {}, &[]).expect("an order nobody reads");
        theirs.send(&Report::Ready { pid: 7 }, &[]).expect("the last words");
        drop(theirs);
        assert_eq!(ours.receive::<Report>(None).expect("a report").message, Report::Ready { pid: 7 });
        let end = ours.receive::<Report>(None).map(|delivery| delivery.message);
        assert_eq!(*end.expect_err("the end").kind(), ErrorKind::HelperDied);
    }

    #[test]
    fn a_word_is_told_from_the_end_also_of_a_peer_that_did_not_read_ours() {
        for speaks in [true, false] {
            let (ours, theirs) = Channel::pair().expect("a pair");
            ours.send(&Proceed {}, &[]).expect("an order nobody reads");
            if speaks {
                theirs.send(&CallerGone {}, &[ours.as_fd()]).expect("a word");
            }
            drop(theirs);
            assert_eq!(ours.wait_for_word(), speaks);
            assert!(!ours.wait_for_word(), "nothing after it");
        }
    }
}

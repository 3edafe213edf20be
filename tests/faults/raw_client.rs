//! Clients of the control socket that do not speak its language. The sandbox goes on serving those that do.

use crate::host::Place;
use crate::stage::{SETTLE, alone, settle};
use cofferdam::{AnyContainer, Outcome, Signal};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, send, sendmsg, socket_with,
};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::path::Path;

/// What a client may hold open: as many as wait to be accepted, and more than are.
const CROWD: usize = 100;

#[test]
fn a_client_that_does_not_speak_the_language_keeps_nobody_else_from_being_served() {
    alone(|| {
        let Some(place) = Place::new() else { return };
        let id = place.id("raw");
        let running =
            place.builder(&id).args(["sleep", "1000"]).build().expect("a plan").create().expect("created");
        let running = running.start().expect("started");
        let socket = running.record().control_socket.clone();
        let served = |what: &str| {
            let other =
                AnyContainer::load(&place.state(), &id).unwrap_or_else(|error| panic!("{what}: {error}"));
            other.signal(Signal::CONT).unwrap_or_else(|error| panic!("{what}: {error}"));
        };
        let fds_before = fds_of(running.sandbox_pid());

        let silent = client(&socket);
        served("silence");

        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        for length in [1, 7, 8, 9, 64, 1024, 65_536, 65_537, 200_000] {
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    noise =
                        noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (noise >> 56) as u8
                })
                .collect();
            // Too large a datagram is the kernel's to refuse; then there is nothing for the sandbox to survive.
            let _ = send(client(&socket), &bytes, SendFlags::NOSIGNAL);
            served("noise");
            let framed = [b"CFDM\x01\x00\x01\x00".as_slice(), &bytes].concat();
            let _ = send(client(&socket), &framed, SendFlags::NOSIGNAL);
            served("noise in a frame");
        }
        let deep = [b"CFDM\x01\x00\x01\x00".as_slice(), &b"[".repeat(60_000)].concat();
        send(client(&socket), &deep, SendFlags::NOSIGNAL).expect("a deep frame");
        served("a deep frame");

        let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())
            .expect("null");
        for count in [1, 64, 200, 253] {
            let given = client(&socket);
            let fds = vec![null.as_fd(); count];
            let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(&fds).size()];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
            sendmsg(
                &given,
                &[IoSlice::new(b"CFDM\x01\x00\x01\x00\"query\"")],
                &mut control,
                SendFlags::NOSIGNAL,
            )
            .expect("descriptors along with a request");
            served("descriptors");
        }
        drop(silent);
        served("the silent one hung up");
        // The last client's connection may still be there; the hundreds that came along with requests are not.
        if let (Some(before), Some(after)) = (fds_before, fds_of(running.sandbox_pid())) {
            assert!(after <= before + 2, "descriptors before {before}, after {after}");
        }

        let crowd: Vec<_> = (0..CROWD).map_while(|_| try_client(&socket)).collect();
        drop(crowd);
        served("a crowd that left");
        // The creator has a connection of its own, which no crowd can take away.
        let crowd: Vec<_> = (0..CROWD).map_while(|_| try_client(&socket)).collect();
        let stopped = running.kill().expect("killed in a crowd");
        assert_eq!(stopped.exit().outcome, Outcome::Killed { signal: Signal::KILL });
        drop(crowd);
        stopped.delete().expect("deleted");
        assert_eq!(settle(SETTLE), Vec::<String>::new());
        assert_eq!(place.leftovers(), Vec::<String>::new());
    });
}

fn client(socket: &Path) -> OwnedFd {
    try_client(socket).expect("a connection")
}

/// Without waiting: a full queue is an answer.
fn try_client(socket: &Path) -> Option<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a socket");
    connect(&fd, &SocketAddrUnix::new(socket).expect("a path that fits")).ok().map(|()| fd)
}

/// How many descriptors a process holds; unknown to whoever may not look.
fn fds_of(pid: i32) -> Option<usize> {
    std::fs::read_dir(format!("/proc/{pid}/fd")).ok().map(Iterator::count)
}

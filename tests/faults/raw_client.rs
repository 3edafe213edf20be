//! Clients of the control socket that do not speak its language. The sandbox goes on serving those that do.

use crate::kit::place::Place;
use crate::orphans::{SETTLE, alone, settle};
use cofferdam::{AnyContainer, Outcome, Signal};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, send, sendmsg, socket_with, socketpair,
};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::Duration;

/// What a client may hold open: as many as wait to be accepted, and more than are.
const CROWD: usize = 100;

#[test]
fn a_client_that_sends_garbage_delays_no_other_client() {
    alone(|| {
        let place = Place::new();
        let id = place.id("raw");
        let running = place.created(&id).start().expect("started");
        let socket = running.info().control_socket.clone();
        let served = |what: &str| {
            let other =
                AnyContainer::load(&place.state(), &id).unwrap_or_else(|error| panic!("{what}: {error}"));
            other.as_alive().unwrap().signal(Signal::CONT).unwrap_or_else(|error| panic!("{what}: {error}"));
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
            let names: Vec<String> = (0..count).map(|number| number.to_string()).collect();
            let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(&fds).size()];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
            sendmsg(&given, &[IoSlice::new(&frame(&names, "\"query\""))], &mut control, SendFlags::NOSIGNAL)
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

#[test]
fn operations_that_bring_descriptors_are_answered_or_hung_up_on_whatever_comes_along() {
    alone(|| {
        let place = Place::new();
        let id = place.id("fds");
        let running = place.created(&id).start().expect("started");
        let socket = running.info().control_socket.clone();
        let fds_before = fds_of(running.sandbox_pid());
        let null = open_null();
        let plans = plans_that_are_none();
        for operation in OPERATIONS {
            for container in ["null", "\"nobody\"", &format!("\"{id}\"")] {
                let request = format!(r#"{{"container":{container},"operation":{operation}}}"#);
                // Missing altogether, no socket at all, too many, wrong names, and a connection with all kinds of plans.
                send_with(&client(&socket), &request, &[]);
                send_with(&client(&socket), &request, &[null.as_fd(); 1]);
                send_with(&client(&socket), &request, &[null.as_fd(); 60]);
                send_named(&client(&socket), &request, &["plan", "plan", "gofer"], &[null.as_fd(); 3]);
                send_named(&client(&socket), &request, &["plan"], &[null.as_fd(); 2]);
                for (what, plan) in &plans {
                    for streams in [0, 3, 40] {
                        let flags = SocketFlags::CLOEXEC;
                        let (ours, theirs) =
                            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
                                .expect("a connection");
                        let fds: Vec<_> = [theirs.as_fd(), plan.as_fd()]
                            .into_iter()
                            .chain(std::iter::repeat_n(null.as_fd(), streams))
                            .collect();
                        let control = client(&socket);
                        send_with(&control, &request, &fds);
                        drop(fds);
                        drop(theirs);
                        // A watch lasts as long as its container, and a file worker as long as its client.
                        let lasts = operation.contains("watch") || operation.contains("files");
                        if !lasts || container.contains("nobody") {
                            let heard = is_readable(&ours, SETTLE);
                            assert!(heard, "{request} with {what} and {streams} streams hangs");
                        }
                        // The sandbox serves this client's next request, and other clients too.
                        let other = AnyContainer::load(&place.state(), &id).expect("a record");
                        other
                            .as_alive()
                            .unwrap()
                            .signal(Signal::CONT)
                            .unwrap_or_else(|error| panic!("{request}, {what}: {error}"));
                    }
                }
            }
        }
        let after = running.exec_output(cofferdam::Exec::new(["echo", "fine"])).expect("a real request");
        assert_eq!(after.stdout, b"fine\n");
        // Workers of clients that hung up may still be on their way out.
        if let (Some(before), Some(after)) = (fds_before, fds_of(running.sandbox_pid())) {
            assert!(after <= before + 24, "descriptors before {before}, after {after}");
        }
        running.kill().expect("killed").delete().expect("deleted");
        assert_eq!(settle(SETTLE), Vec::<String>::new());
        assert_eq!(place.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_client_that_never_reads_its_replies_delays_no_other_client() {
    alone(|| {
        let place = Place::new();
        let id = place.id("deaf");
        let running = place.created(&id).start().expect("started");
        let deaf = client(&running.info().control_socket);
        let request = frame(&[], r#"{"container":null,"operation":"query"}"#);
        // More than its buffer holds replies; it is hung up on when that is full.
        let mut sent = 0;
        while sent < 100_000
            && is_writable(&deaf, SETTLE)
            && send(&deaf, &request, SendFlags::NOSIGNAL).is_ok()
        {
            sent += 1;
        }
        assert!((1..100_000).contains(&sent), "after {sent} requests it is still served");
        let stopped = running.kill().expect("the others are served");
        stopped.delete().expect("deleted");
        assert_eq!(settle(SETTLE), Vec::<String>::new());
        assert_eq!(place.leftovers(), Vec::<String>::new());
    });
}

/// Requests that bring descriptors, as they are on the wire.
const OPERATIONS: [&str; 5] =
    [r#""exec""#, r#"{"wait_process":{"pid":1}}"#, r#""watch""#, r#""files""#, r#""launch""#];

/// What is no plan: something that a read would wait for, that can be changed, that is too large, or that is nonsense.
fn plans_that_are_none() -> Vec<(&'static str, OwnedFd)> {
    let memory = |bytes: &[u8], size: u64, seals: SealFlags| {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = rustix::fs::memfd_create("test-plan", flags).expect("memory");
        rustix::io::pwrite(&memory, bytes, 0).expect("written");
        rustix::fs::ftruncate(&memory, size).expect("its size");
        rustix::fs::fcntl_add_seals(&memory, seals).expect("sealed");
        memory
    };
    let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    let (fifo, writer) = rustix::pipe::pipe().expect("a pipe");
    vec![
        ("a pipe", fifo),
        ("the other end of a pipe", writer),
        ("/dev/null", open_null()),
        ("unsealed memory", memory(b"{}", 2, SealFlags::empty())),
        ("nothing in it", memory(b"", 0, all)),
        ("wrong bytes", memory(b"{\"process\":{}}", 14, all)),
        ("a deep document", memory(&b"[".repeat(1 << 20), 1 << 20, all)),
        ("a gigabyte", memory(b"{", 1 << 30, all)),
    ]
}

fn open_null() -> OwnedFd {
    rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty()).expect("null")
}

/// A request as it is on the wire: header, names of the descriptors, message.
fn frame(names: &[String], request: &str) -> Vec<u8> {
    let names = serde_json::to_string(names).expect("names are JSON");
    [b"CFDM\x01\x00\x01\x00".as_slice(), format!("[{names},{request}]").as_bytes()].concat()
}

/// Sends as many descriptors under the names that a request for a container may bring, then under names of their own.
fn send_with(to: &OwnedFd, request: &str, fds: &[BorrowedFd<'_>]) {
    const KNOWN: [&str; 5] = ["connection", "plan", "stdin", "stdout", "stderr"];
    let more = (3..).map(|number| format!("extra-{number}"));
    let names: Vec<_> = KNOWN.into_iter().map(str::to_owned).chain(more).take(fds.len()).collect();
    send_named(to, request, &names, fds);
}

fn send_named(to: &OwnedFd, request: &str, names: &[impl AsRef<str>], fds: &[BorrowedFd<'_>]) {
    let names: Vec<_> = names.iter().map(|name| name.as_ref().to_owned()).collect();
    let frame = frame(&names, request);
    let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(fds).size()];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    }
    sendmsg(to, &[IoSlice::new(&frame)], &mut control, SendFlags::NOSIGNAL).expect("a request");
}

fn is_readable(fd: &OwnedFd, limit: Duration) -> bool {
    is_ready(fd, PollFlags::IN, limit)
}

fn is_writable(fd: &OwnedFd, limit: Duration) -> bool {
    is_ready(fd, PollFlags::OUT, limit)
}

fn is_ready(fd: &OwnedFd, what: PollFlags, limit: Duration) -> bool {
    let limit = limit.try_into().expect("a short time");
    poll(&mut [PollFd::new(fd, what)], Some(&limit)).expect("poll") > 0
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

/// How many descriptors a process holds; `None` if this user may not look.
fn fds_of(pid: i32) -> Option<usize> {
    std::fs::read_dir(format!("/proc/{pid}/fd")).ok().map(Iterator::count)
}

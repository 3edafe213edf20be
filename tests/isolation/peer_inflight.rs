//! A container that queues as many descriptors in sockets as the kernel lets its user (unix(7), `ETOOMANYREFS`).

#![expect(clippy::disallowed_methods, reason = "tests read plain files of their own")]

use crate::kit::{Stage, inside, is_root, skip, stage, start, stdout_of};
use cofferdam::builder::Resource;
use cofferdam::{Container, ContainerBuilder, ErrorKind, Exec, Running};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::path::Path;

/// Set in a container: this executable fills sockets, and says at the path in this variable how that ended.
const FLOOD: &str = "COFFERDAM_TEST_FLOOD";

/// The most descriptors of one message.
const MOST: usize = 253;

/// Does what the environment asks of this process. Returns whether it asked for anything.
fn played_a_part() -> bool {
    let Some(path) = std::env::var_os(FLOOD) else { return false };
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let mut kept = Vec::new();
    let refused = loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        match std::iter::repeat_with(|| send(pair.0.as_fd())).find_map(Result::err) {
            Some(Errno::AGAIN) => kept.push(pair),
            refused => {
                kept.push(pair);
                break refused;
            }
        }
    };
    std::fs::write(path, refused.unwrap().raw_os_error().to_string()).unwrap();
    let _ = std::io::stdin().read_line(&mut String::new());
    loop {
        std::thread::park();
    }
}

/// Sends as many descriptors as one message takes.
fn send(socket: rustix::fd::BorrowedFd<'_>) -> rustix::io::Result<usize> {
    let fds = [socket; MOST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(socket, &[IoSlice::new(b"x")], &mut control, SendFlags::NOSIGNAL)
}

/// The container `name`, which has filled its sockets.
fn flooded(
    stage: &Stage,
    name: &str,
    seen: &Path,
    shape: impl Fn(ContainerBuilder) -> ContainerBuilder,
) -> Container<Running> {
    let test = std::thread::current().name().unwrap().to_owned();
    let builder = stage
        .container(name)
        .bind_ro(std::env::current_exe().unwrap(), "/tmp/test")
        .bind_rw(seen, "/tmp/seen")
        .env(FLOOD, "/tmp/seen/full")
        .args(["/tmp/test", "--exact", &test, "--nocapture", "--test-threads=1"]);
    let running = start(shape(builder));
    let full = || std::fs::read_to_string(seen.join("full")).ok().filter(|text| !text.is_empty());
    let said = loop {
        match full() {
            Some(said) => break said,
            None => assert!(running.try_wait().unwrap().is_none(), "it ended"),
        }
        std::thread::yield_now();
    };
    assert_eq!(said, libc::ETOOMANYREFS.to_string());
    running
}

#[test]
fn a_container_that_fills_sockets_with_descriptors_disturbs_no_other() {
    if played_a_part() {
        return;
    }
    let stage = stage!();
    if !is_root() {
        skip!("the containers of this user have one id, its own");
    }
    let seen = stage.open_directory("seen");
    let victim = start(stage.container("victim").args(["sleep", "1000"]));
    let attacker = flooded(&stage, "attacker", &seen, |builder| builder);

    assert_eq!(inside::output(&victim, "echo executed"), "executed\n");
    let files = victim.files().unwrap();
    files.write("/tmp/file", b"written", 0o600).unwrap();
    assert_eq!(files.read("/tmp/file", 9).unwrap(), b"written");
    assert!(!victim.processes().unwrap().is_empty());
    assert_eq!(stdout_of(stage.shell("new", "echo created")), "created");
    // The sandbox of the attacker may queue more than its workload.
    assert_eq!(inside::output(&attacker, "echo executed"), "executed\n");
    attacker.kill().unwrap().delete().unwrap();
    victim.kill().unwrap().delete().unwrap();
}

#[test]
fn an_exec_whose_process_cannot_be_handed_over_says_that_its_program_ran() {
    if played_a_part() {
        return;
    }
    let stage = stage!();
    if !is_root() {
        skip!("the containers of this user have one id, its own");
    }
    let seen = stage.open_directory("seen");
    // As much as the sandbox has.
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    if most > 1 << 20 {
        skip!("it takes too many descriptors to use up {most}");
    }
    let attacker = flooded(&stage, "attacker", &seen, |builder| builder.rlimit(Resource::OpenFiles, most));
    let error = attacker.exec(Exec::new(["sh", "-c", "exec sleep 1000"])).unwrap_err();
    let expected = "the program was executed, and runs, because its pidfd could not be handed over: ";
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(*error.kind(), ErrorKind::Os(libc::ETOOMANYREFS));
    let family = crate::kit::witness::descendants(std::process::id());
    assert!(family.iter().any(|process| process.name == "sleep"), "it runs");
    attacker.kill().unwrap().delete().unwrap();
}

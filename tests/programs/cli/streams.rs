//! Terminals, and the caller's descriptors.

use crate::cli::{Engine, LIMIT, need};
use crate::kit::example::is_ours;
use crate::kit::witness::descriptors;
use crate::kit::{is_readable_within, stage};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

/// Takes the one descriptor that comes over a console socket.
fn take_terminal(listener: &UnixListener) -> File {
    assert!(is_readable_within(listener, LIMIT), "a client connects");
    let (stream, _) = listener.accept().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 64];
    recvmsg(&stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut fds: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    assert_eq!(fds.len(), 1);
    fds.remove(0).into()
}

/// Reads a terminal up to its end.
fn read_terminal(mut terminal: File) -> String {
    let mut text = Vec::new();
    let mut bytes = [0; 1024];
    // EIO is the end, as the kernel says it.
    while let Ok(count @ 1..) = terminal.read(&mut bytes) {
        text.extend_from_slice(&bytes[..count]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn terminals_go_to_the_console_socket() {
    need!(runtime);
    let stage = stage!();
    let mut engine = Engine::on(&stage, "test -t 0 && echo a terminal; exec sleep 1000");
    engine.edit(|config| config["process"]["terminal"] = json!(true));
    let id = &stage.id("terminal");
    let (code, said) = engine.hand_on(&["create", id]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("cannot allocate tty if runc will detach without setting console socket"),
        "{said}"
    );

    let socket = stage.path().join("console.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let socket = socket.to_str().unwrap();
    engine.create(id, &["--console-socket", socket]);
    let mut terminal = take_terminal(&listener);
    engine.must(&["start", id]);
    let mut seen = String::new();
    while !seen.contains("a terminal") {
        assert!(is_readable_within(&terminal, LIMIT), "{seen:?}");
        let mut bytes = [0; 256];
        let count = terminal.read(&mut bytes).unwrap();
        seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }

    let process = engine.bundle.join("process.json");
    let document = json!({
        "terminal": true,
        "user": { "uid": 0, "gid": 0 },
        "args": ["sh", "-c", "test -t 1 && echo another"],
        "env": ["PATH=/bin"],
        "cwd": "/",
    });
    std::fs::write(&process, document.to_string()).unwrap();
    // As conmon calls it: --tty besides what the process says.
    let exec =
        ["exec", "--process", process.to_str().unwrap(), "--detach", "--tty", "--console-socket", socket, id];
    let (code, said) = engine.hand_on(&exec);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert_eq!(read_terminal(take_terminal(&listener)), "another\r\n");
    engine.must(&["delete", "--force", id]);
    std::fs::remove_file(socket).unwrap();
}

#[test]
fn descriptors_of_the_engine_reach_the_container_only_if_asked_for() {
    need!(runtime);
    let stage = stage!();
    let mut engine = Engine::on(&stage, "ls /proc/self/fd; exec sleep 1000");
    let id = &stage.id("fds");
    engine.made.push(id.clone());
    let shell = |engine: &Engine, arguments: &str| {
        let mut command = Command::new("bash");
        let script = format!(
            "exec 3</dev/null 4</dev/zero 5</dev/null 9</dev/null; exec {:?} --root {:?} {arguments}",
            engine.runtime, engine.root
        );
        command.arg("-c").arg(script).current_dir(&engine.bundle).stdin(Stdio::null());
        command.stdout(File::create(engine.bundle.join("stdout")).unwrap());
        assert!(command.status().unwrap().success());
    };
    shell(&engine, &format!("create --pid-file pid {id}"));
    let pid = engine.read("pid");
    let open = descriptors(&pid);
    assert!(open.values().all(|to| !to.contains("zero")), "{open:?}");
    // runc's process becomes the program; ours waits for it.
    assert!(!is_ours() || open.values().all(|to| !to.contains("stdout")), "{open:?}");
    engine.must(&["start", id]);
    while engine.read("stdout").len() < "0\n1\n2\n3\n".len() {
        std::thread::yield_now();
    }
    assert_eq!(engine.read("stdout"), "0\n1\n2\n3\n", "and what ls opened");
    shell(&engine, &format!("exec --preserve-fds 2 {id} sh -c 'ls /proc/self/fd; readlink /proc/self/fd/4'"));
    assert_eq!(engine.read("stdout"), "0\n1\n2\n3\n4\n5\n/dev/zero\n");
    engine.must(&["delete", "--force", id]);
    shell(&engine, &format!("run --preserve-fds 2 --detach {id}"));
    while engine.read("stdout").len() < "0\n1\n2\n3\n4\n5\n".len() {
        std::thread::yield_now();
    }
    assert_eq!(engine.read("stdout"), "0\n1\n2\n3\n4\n5\n");
    engine.must(&["delete", "--force", id]);
}

#[test]
fn newlines_of_a_terminal_come_into_a_pipe_as_they_are() {
    need!(runtime);
    let stage = stage!();
    let mut engine = Engine::on(&stage, "printf 'one\\ntwo\\r\\n'");
    engine.edit(|config| config["process"]["terminal"] = json!(true));
    assert_eq!(engine.must(&["run", &stage.id("into-a-pipe")]), "one\ntwo\r\n");
    engine.edit(|config| {
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sleep", "1000"]);
    });
    let id = &stage.id("executed");
    engine.running(id);
    let executed = engine.must(&["exec", "--tty", id, "sh", "-c", "printf 'one\\ntwo\\r\\n'"]);
    if is_ours() {
        // runc may be late.
        assert_eq!(executed, "one\ntwo\r\n");
    }
    engine.must(&["delete", "--force", id]);
}

#[test]
fn run_on_a_terminal_is_the_wire_to_it() {
    need!(ours);
    let stage = stage!();
    let engine = Engine::on(&stage, "stty size; read line; echo got $line; exit 3");
    engine.edit(|config| config["process"]["terminal"] = json!(true));
    let stty = engine.bundle.join("rootfs/bin/stty");
    std::os::unix::fs::symlink("busybox", stty).unwrap();
    let mut child = engine.command(&["run", &stage.id("wire")]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"words\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let seen = String::from_utf8(output.stdout).unwrap();
    assert!(seen.ends_with("got words\n"), "{seen:?}");
    assert_eq!(output.status.code(), Some(3));
}

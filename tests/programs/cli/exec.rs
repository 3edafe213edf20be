//! Further processes.

use crate::cli::{Engine, LIMIT, as_monitor, collect, need};
use crate::kit::caller::Caller;
use crate::kit::example::is_ours;
use crate::kit::{await_end, caller, is_readable_within, is_root, skip, stage};
use rustix::process::Pid;
use serde_json::json;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::Duration;

#[test]
fn exec_in_a_paused_container_is_refused_or_waits_until_it_is_resumed() {
    need!(runtime);
    if !is_root() {
        skip!("needs a cgroup to freeze");
    }
    let stage = stage!();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let id = &stage.id("paused");
    engine.running(id);
    engine.must(&["pause", id]);
    assert!(engine.refused(&["exec", id, "true"]).contains("cannot exec in a paused container"));
    let mut exec = engine.command(&["exec", "--ignore-paused", id, "sh", "-c", "exit 5"]).spawn().unwrap();
    // It waits: nothing inside runs before.
    assert_eq!(engine.status(id), "paused");
    assert_eq!(exec.try_wait().unwrap(), None);
    engine.must(&["resume", id]);
    assert_eq!(exec.wait().unwrap().code(), Some(5));
    engine.must(&["exec", "--ignore-paused", id, "true"]);
    // Its end ends the waiting, too.
    engine.must(&["pause", id]);
    let exec = engine.command(&["exec", "--ignore-paused", id, "true"]).stderr(Stdio::null()).spawn();
    engine.must(&["delete", "--force", id]);
    assert!(!exec.unwrap().wait().unwrap().success());
}

/// Takes one descriptor from a connection, and the words that came with it.
fn take_fd(listener: &UnixListener) -> (OwnedFd, String) {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let (connection, _) = listener.accept().unwrap();
    let (mut words, mut space) =
        ([0; 64], [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))]);
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        &connection,
        &mut [std::io::IoSliceMut::new(&mut words)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    );
    let length = received.unwrap().bytes;
    let mut fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    (fds.next().expect("a descriptor"), String::from_utf8_lossy(&words[..length]).into_owned())
}

#[test]
fn a_pidfd_of_the_process_goes_to_the_socket_that_is_named() {
    // runc 1.1 has no such option.
    need!(ours);
    let stage = stage!();
    let mut engine = Engine::on(&stage, "trap 'exit 4' TERM; echo ready; while :; do sleep 0.01; done");
    let id = &stage.id("pidfd");
    let missing = engine.bundle.join("missing").to_str().unwrap().to_owned();
    assert!(engine.refused(&["run", "--pidfd-socket", &missing, id]).contains("pidfd socket"));
    assert!(engine.refused(&["state", id]).contains("does not exist"));

    let path = engine.bundle.join("pidfd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let path = path.to_str().unwrap().to_owned();
    let pid = engine.create(id, &["--pidfd-socket", &path]);
    let (init, words) = take_fd(&listener);
    assert_eq!(words, "standard");
    engine.must(&["start", id]);
    while engine.read("stdout") != "ready\n" {
        std::thread::yield_now();
    }
    let code = engine.call(&["exec", "--pidfd-socket", &path, id, "sh", "-c", "exit 6"]).status.code();
    let (executed, words) = take_fd(&listener);
    assert_eq!((code, words.as_str()), (Some(6), "setns"));
    assert!(is_readable_within(&executed, Duration::ZERO), "that process has ended, and no other");
    rustix::process::pidfd_send_signal(&init, rustix::process::Signal::TERM).unwrap();
    await_end(pid);
    assert!(is_readable_within(&init, Duration::from_secs(10)));
    engine.must(&["delete", id]);
}

#[test]
fn exec_waits_for_the_process_and_ends_as_it_does() {
    need!(runtime);
    let stage = stage!();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let id = &stage.id("exec");
    let created = &stage.id("created");
    engine.create(created, &[]);
    engine.running(id);
    let arguments = ["exec", "--env", "A=b", "--cwd", "/tmp", id, "sh", "-c", "echo $A; pwd; id -u"];
    assert_eq!(engine.must(&arguments), "b\n/tmp\n0\n");
    assert_eq!(engine.call(&["exec", id, "sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(engine.call(&["exec", id, "sh", "-c", "kill -TERM $$"]).status.code(), Some(143));
    let missing = engine.call(&["exec", id, "nosuch"]);
    assert_eq!(missing.status.code(), Some(255));
    let said = String::from_utf8(missing.stderr).unwrap();
    assert!(said.contains("executable file not found in $PATH"), "{said}");

    // Beside init, which waits for the start.
    let arguments = ["exec", created, "sh", "-c", "echo $$ > /tmp/seen; hostname; exit 3"];
    let before = engine.call(&arguments);
    assert_eq!(before.status.code(), Some(3), "{before:?}");
    assert_eq!(engine.status(created), "created");

    let process = engine.bundle.join("process.json");
    let document = json!({
        "user": { "uid": 0, "gid": 0 },
        "args": ["sh", "-c", "echo $X; pwd; grep NoNewPrivs /proc/self/status; exit 5"],
        "env": ["PATH=/bin", "X=y"],
        "cwd": "/etc",
        "noNewPrivileges": true,
    });
    std::fs::write(&process, document.to_string()).unwrap();
    let output = engine.call(&["exec", "--process", process.to_str().unwrap(), id]);
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "y\n/etc\nNoNewPrivs:\t1\n");
    if is_ours() {
        let capable = ["exec", "--cap", "CAP_CHOWN", id, "grep", "CapEff", "/proc/self/status"];
        assert_eq!(engine.must(&capable), "CapEff:\t0000000020000421\n");
    }
    engine.must(&["delete", "--force", id]);
}

#[test]
fn exec_detach_leaves_a_process_that_ends_as_the_one_inside() {
    need!(runtime);
    if let Some(directory) = caller::role() {
        return as_monitor(&directory, |engine| {
            let id = format!("detached-{}", std::process::id());
            engine.running(&id);
            let pid_file = engine.bundle.join("exec.pid");
            let path = engine.bundle.join("process.json");
            let exec = |script: &str| -> (i32, std::io::PipeReader) {
                let document = json!({
                    "user": { "uid": 0, "gid": 0 },
                    "args": ["sh", "-c", script],
                    "env": ["PATH=/bin"],
                    "cwd": "/",
                });
                std::fs::write(&path, document.to_string()).unwrap();
                let (reader, writer) = std::io::pipe().unwrap();
                let (process, pid_file) = (path.to_str().unwrap(), pid_file.to_str().unwrap());
                let detach = ["exec", "--process", process, "--detach", "--pid-file", pid_file, &id];
                let status = engine.command(&detach).stdout(writer).status().unwrap();
                assert!(status.success(), "{status}");
                (std::fs::read_to_string(pid_file).unwrap().parse().unwrap(), reader)
            };
            assert_eq!(collect(exec("exit 7").0), (Some(7), None));
            assert_eq!(collect(exec("kill -KILL $$").0), (None, Some(9)));

            let (pid, mut stdout) = exec("trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done");
            stdout.read_exact(&mut [0; 6]).unwrap();
            rustix::process::kill_process(Pid::from_raw(pid).unwrap(), rustix::process::Signal::TERM)
                .unwrap();
            assert_eq!(collect(pid), (Some(3), None));
            assert_eq!(stdout.read(&mut [0; 1]).unwrap(), 0, "no other process holds it");

            // As containerd's shim kills: by the pid, and then nothing of it may be left inside.
            let (pid, mut stdout) = exec("echo ready; exec sleep 1000");
            stdout.read_exact(&mut [0; 6]).unwrap();
            rustix::process::kill_process(Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL)
                .unwrap();
            assert_eq!(collect(pid), (None, Some(9)));
            assert!(is_readable_within(&stdout, LIMIT), "the process inside ends");
            assert_eq!(stdout.read(&mut [0; 1]).unwrap(), 0);
            engine.must(&["delete", "--force", &id]);
        });
    }
    let stage = stage!();
    Caller::spawn(stage.path()).finish();
}

//! Further processes.

use crate::cli::{Engine, LIMIT, as_monitor, collect, need};
use crate::kit::caller::Caller;
use crate::kit::example::is_ours;
use crate::kit::{caller, is_readable_within, stage};
use rustix::process::Pid;
use serde_json::json;
use std::io::Read;

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
        assert!(engine.refused(&["exec", created, "true"]).contains("not started"));
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

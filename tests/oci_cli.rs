//! The command line of an OCI runtime, as engines call it: verbs, flags, files, words and exit codes.
//!
//! The runtime is the example `oci`, or whatever `RUNTIME` names: with `RUNTIME=/usr/sbin/runc` the same cases run
//! against runc, which is the control. What is ours alone is skipped there.

#![expect(clippy::disallowed_methods, reason = "tests run programs and write plain files of their own")]

mod common;

use common::caller::{self, Caller};
use common::example::{is_ours, runtime};
use common::witness::descriptors;
use common::{Stage, await_end, is_readable_within, is_root, skip};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, WaitOptions, waitpid};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A bundle, and the runtime to give it to.
struct Engine {
    runtime: PathBuf,
    root: PathBuf,
    bundle: PathBuf,
    made: Vec<String>,
}

impl Engine {
    /// With a bundle in `directory` whose busybox runs `script`.
    fn new(directory: &Path, root: &Path, script: &str) -> Self {
        let runtime = runtime().expect("asked for before");
        let bundle = directory.join("bundle");
        std::fs::create_dir(&bundle).unwrap();
        common::write_busybox_rootfs(&bundle.join("rootfs"));
        let engine = Self { runtime, root: root.to_owned(), bundle, made: Vec::new() };
        let rootless = if is_root() { None } else { Some("--rootless") };
        let bundle = engine.bundle.to_str().unwrap();
        let spec: Vec<_> = ["spec", "--bundle", bundle].into_iter().chain(rootless).collect();
        assert_success(&engine.call(&spec));
        engine.edit(|config| {
            config["process"]["terminal"] = json!(false);
            config["process"]["args"] = json!(["sh", "-c", script]);
        });
        engine
    }

    fn on(stage: &Stage, script: &str) -> Self {
        Self::new(stage.path(), stage.root().path(), script)
    }

    /// Changes config.json.
    fn edit(&self, change: impl FnOnce(&mut Value)) {
        common::bundle::edit_config(&self.bundle, change);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.runtime);
        command.arg("--root").arg(&self.root).args(arguments).current_dir(&self.bundle).stdin(Stdio::null());
        command
    }

    /// Calls a verb that starts nothing which keeps its streams.
    fn call(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the runtime is executed")
    }

    fn must(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        assert_success(&output);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Calls a verb that hands its streams on, into files. What it said on its standard error, and its code.
    fn hand_on(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let file = |name: &str| File::create(self.bundle.join(name)).unwrap();
        let mut command = self.command(arguments);
        let status = command.stdout(file("stdout")).stderr(file("stderr")).status().unwrap();
        (status.code(), self.read("stderr"))
    }

    /// Creates a container. Its pid.
    fn create(&mut self, id: &str, options: &[&str]) -> i32 {
        self.made.push(id.to_owned());
        let pid_file = self.bundle.join("init.pid");
        let first = ["create", "--bundle", self.bundle.to_str().unwrap(), "--pid-file"];
        let first: Vec<_> = first.into_iter().chain([pid_file.to_str().unwrap()]).collect();
        let arguments: Vec<_> = first.iter().chain(options).chain([&id]).copied().collect();
        let (code, said) = self.hand_on(&arguments);
        assert_eq!((code, said.as_str()), (Some(0), ""));
        let pid = std::fs::read_to_string(pid_file).unwrap();
        pid.parse().unwrap_or_else(|_| panic!("{pid:?} is a number and nothing else"))
    }

    fn running(&mut self, id: &str) -> i32 {
        let pid = self.create(id, &[]);
        assert_eq!(self.must(&["start", id]), "");
        pid
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.bundle.join(name)).unwrap()
    }

    fn status(&self, id: &str) -> String {
        let state: Value = serde_json::from_str(&self.must(&["state", id])).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }

    /// A verb that is refused: its one line.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        assert_ne!(output.status.code(), Some(0), "{arguments:?} succeeds");
        assert!(output.status.code().is_some(), "{arguments:?}: {}", output.status);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!is_ours() || said.lines().count() == 1, "{arguments:?}: not one line: {said}");
        said
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for id in &self.made {
            let _ = self.call(&["delete", "--force", id]);
        }
    }
}

fn assert_success(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}: {}{}", output.status, text(&output.stdout), text(&output.stderr));
}

/// Skips a test that the runtime under test is not for.
macro_rules! need {
    (runtime) => {
        if let Err(reason) = runtime() {
            skip!("{reason}");
        }
        if !is_ours() && !is_root() {
            skip!("runc needs root for cgroups here");
        }
    };
    (ours) => {
        need!(runtime);
        if !is_ours() {
            skip!("about our runtime");
        }
    };
}

#[test]
fn a_container_lives_as_engines_drive_it() {
    need!(runtime);
    let stage = Stage::new();
    let mut engine = Engine::on(&stage, "echo begun; exec sleep 1000");
    let id = &stage.id("life");
    let pid = engine.create(id, &[]);
    assert_eq!(engine.status(id), "created");
    assert_eq!(engine.read("stdout"), "");
    let state: Value = serde_json::from_str(&engine.must(&["state", id])).unwrap();
    assert_eq!(state["pid"], pid);
    assert_eq!(state["id"], **id);
    assert_eq!(state["bundle"], engine.bundle.to_str().unwrap());
    assert_eq!(state["rootfs"], engine.bundle.join("rootfs").to_str().unwrap());
    for key in ["ociVersion", "created", "owner"] {
        assert!(state[key].is_string(), "{key} in {state}");
    }

    assert_eq!(engine.must(&["start", id]), "");
    assert_eq!(engine.status(id), "running");
    let pids: Vec<i32> = serde_json::from_str(&engine.must(&["ps", "--format", "json", id])).unwrap();
    assert_eq!(pids.len(), 1, "{pids:?}");
    while !std::fs::read_to_string(format!("/proc/{}/cmdline", pids[0])).unwrap().starts_with("sleep") {
        // Still the shell, which is about to become it.
        assert_eq!(engine.status(id), "running");
    }
    assert!(engine.must(&["ps", id]).lines().nth(1).unwrap().contains("sleep 1000"));

    assert_eq!(engine.must(&["kill", id, "15"]), "", "a first process without a handler");
    if !is_ours() {
        // There the kernel's rule stands: nothing arrives.
        engine.must(&["kill", id, "KILL"]);
    }
    await_end(pid);
    assert_eq!(engine.status(id), "stopped");
    let state: Value = serde_json::from_str(&engine.must(&["state", id])).unwrap();
    assert_eq!(state["pid"], 0);
    assert_eq!(engine.must(&["delete", id]), "");
    assert!(engine.refused(&["state", id]).contains("does not exist"));
    assert_eq!(engine.must(&["delete", "--force", id]), "");
    assert_eq!(engine.read("stdout"), "begun\n");
}

#[test]
fn signals_have_numbers_and_names() {
    need!(runtime);
    let stage = Stage::new();
    let script =
        "trap 'echo usr1' USR1; trap 'echo usr2; exit 4' USR2; echo ready; while :; do sleep 0.01; done";
    let mut engine = Engine::on(&stage, script);
    let id = &stage.id("signals");
    let pid = engine.running(id);
    let until = |line: &str| {
        while !engine.read("stdout").ends_with(line) {
            assert!(Path::new(&format!("/proc/{pid}")).exists(), "{}", engine.read("stdout"));
            std::thread::yield_now();
        }
    };
    until("ready\n");
    for (signal, count) in [("10", 1), ("USR1", 2), ("SIGUSR1", 3)] {
        engine.must(&["kill", id, signal]);
        until(&format!("ready\n{}", "usr1\n".repeat(count)));
    }
    assert_eq!(engine.must(&["kill", id, "0"]), "", "it is there");
    engine.must(&["kill", id, "SIGUSR2"]);
    await_end(pid);
    assert!(engine.refused(&["kill", id, "0"]).contains("container not running"));
    assert!(engine.refused(&["kill", id]).contains("container not running"));
    engine.must(&["kill", "--all", id, "9"]);
    engine.must(&["delete", id]);
}

/// What is wrong, and words that say so: engines look for them.
#[test]
fn what_is_wrong_is_said_in_one_line_and_leaves_nothing() {
    need!(runtime);
    let stage = Stage::new();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let running = &stage.id("running");
    engine.running(running);
    let new = &stage.id("new");
    let no_such = &stage.id("nosuch");
    let empty = stage.open_directory("empty");
    let broken = stage.open_directory("broken");
    std::fs::write(broken.join("config.json"), "{ \"ociVersion\": ").unwrap();
    let (empty, broken) = (empty.to_str().unwrap(), broken.to_str().unwrap());
    let (junk, no_limit) = (stage.path().join("junk"), stage.path().join("no-limit"));
    std::fs::write(&junk, "junk").unwrap();
    std::fs::write(&no_limit, r#"{"memory": {"limit": "many"}, "args": "true"}"#).unwrap();
    let (junk, no_limit) = (junk.to_str().unwrap(), no_limit.to_str().unwrap());
    let long = "x".repeat(2000);
    let cases: &[(&[&str], &str)] = &[
        (&["state", no_such], "does not exist"),
        (&["start", no_such], "does not exist"),
        (&["kill", no_such, "9"], "does not exist"),
        (&["delete", no_such], "does not exist"),
        (&["exec", no_such, "true"], "does not exist"),
        (&["ps", no_such], "does not exist"),
        (&["pause", no_such], "does not exist"),
        (&["resume", no_such], "does not exist"),
        (&["update", "--pids-limit", "5", no_such], "does not exist"),
        (&["events", "--stats", no_such], "does not exist"),
        (&["start", running], "cannot start an already running container"),
        (&["delete", running], "not stopped"),
        (&["resume", running], "not paused"),
        (&["create", running], "exist"),
        (&["run", running], "exist"),
        (&["kill", running, "SIGNONE"], "signal"),
        (&["create", "--bundle", "/nonexistent", new], "/nonexistent"),
        (&["create", "--bundle", empty, new], "config.json"),
        (&["create", "--bundle", broken, new], ""),
        (&["create", "--console-socket", "/nonexistent/socket", new], "console socket"),
        (&["exec", "--process", "/nonexistent", running], "/nonexistent"),
        (&["update", "--resources", "/nonexistent", running], "/nonexistent"),
        (&["exec", running], ""),
        (&["create", "--no-such-flag", new], "no-such-flag"),
        (&["--no-such-flag", "list"], "no-such-flag"),
        (&["no-such-verb"], "no-such-verb"),
        (&["create", "bad/id", new], ""),
        (&["create", "bad/id"], ""),
        (&["create", ".."], ""),
        (&["create", ""], ""),
        (&["create", &long], ""),
        (&["create", "--preserve-fds", "many", new], "many"),
        (&["create", "--pid-file", "/nonexistent/pid", new], "/nonexistent"),
        (&["run", "--pid-file", "/nonexistent/pid", new], "/nonexistent"),
        (&["run", "--bundle", "/nonexistent", new], "/nonexistent"),
        (&["--log", "/nonexistent/log", "list"], "/nonexistent/log"),
        (&["--log-format", "xml", "list"], "xml"),
        (&["state"], ""),
        (&["start"], ""),
        (&["kill"], ""),
        (&["delete"], ""),
        (&["exec"], ""),
        (&["ps"], ""),
        (&["pause"], ""),
        (&["resume"], ""),
        (&["events"], ""),
        (&["kill", running, "65"], "signal"),
        (&["exec", "--process", junk, running], ""),
        (&["exec", "--process", no_limit, running], ""),
        (&["exec", "--user", "1:many", running, "true"], ""),
        (&["exec", "--cwd", "relative", running, "true"], ""),
        (&["exec", "--tty", "--detach", running, "true"], "console socket"),
        (&["update", "--resources", junk, running], ""),
        (&["update", "--resources", no_limit, running], ""),
        (&["update", "--pids-limit", "many", running], "many"),
        (&["spec", "--bundle", "/nonexistent"], "/nonexistent"),
        (&["list", "--format", "xml"], ""),
        (&["ps", "--format", "xml", running], ""),
    ];
    for (arguments, words) in cases {
        let said = engine.refused(arguments);
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    let list: Vec<Value> = serde_json::from_str(&engine.must(&["list", "--format", "json"])).unwrap();
    assert_eq!(list.len(), 1, "{list:?}");
    assert_eq!(engine.status(running), "running");
}

#[test]
fn what_a_state_does_not_allow_is_said_and_changes_nothing() {
    need!(runtime);
    let stage = Stage::new();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let id = |status: &str| stage.id(status);
    engine.create(&id("created"), &[]);
    let pid = engine.running(&id("stopped"));
    engine.must(&["kill", &id("stopped"), "9"]);
    await_end(pid);
    let mut cases = vec![
        ("created", "resume ID", "not paused"),
        ("stopped", "start ID", "cannot start a container that has stopped"),
        ("stopped", "kill ID 9", "not running"),
        ("stopped", "exec ID true", "cannot exec in a stopped container"),
        ("stopped", "pause ID", "not running"),
        ("stopped", "resume ID", "not paused"),
        ("stopped", "events --stats ID", "not running"),
    ];
    if is_ours() {
        // runc says something of cgroups, or nothing.
        cases.push(("created", "pause ID", "not running"));
        // runc executes beside a program that was not executed yet.
        cases.push(("created", "exec ID true", "cannot exec in a container that was not started"));
        cases.push(("stopped", "ps ID", "not running"));
        cases.push(("stopped", "update --pids-limit 5 ID", "stopped"));
    }
    if is_root() {
        engine.running(&id("paused"));
        engine.must(&["pause", &id("paused")]);
        cases.push(("paused", "start ID", "cannot start a container in the paused state"));
        cases.push(("paused", "pause ID", "not running"));
        cases.push(("paused", "exec ID true", "cannot exec in a paused container"));
        cases.push(("paused", "delete ID", "not stopped"));
    }
    for (status, call, words) in cases {
        let id = id(status);
        let arguments: Vec<_> =
            call.split(' ').map(|word| if word == "ID" { id.as_str() } else { word }).collect();
        let said = engine.refused(&arguments);
        assert!(said.contains(words), "{arguments:?}: {said}");
        assert_eq!(engine.status(&id), status, "{arguments:?}");
    }
}

#[test]
fn a_scope_and_the_flag_for_it_go_together() {
    need!(runtime);
    let stage = Stage::new();
    let engine = Engine::on(&stage, "true");
    let new = &stage.id("new");
    engine.edit(|config| config["linux"]["cgroupsPath"] = json!("/a/path"));
    let said = engine.refused(&["--systemd-cgroup", "create", new]).replace('\\', "");
    assert!(said.contains("expected cgroupsPath to be of format \"slice:prefix:name\""), "{said}");
    assert!(said.contains("/a/path"), "{said}");
    if is_ours() {
        // runc takes it for a path.
        engine.edit(|config| config["linux"]["cgroupsPath"] = json!("system.slice:prefix:name"));
        let said = engine.refused(&["create", new]).replace('\\', "");
        let words = "cgroupsPath \"system.slice:prefix:name\" is for systemd cgroups: use --systemd-cgroup";
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(engine.must(&["list", "--quiet"]), "");
}

#[test]
fn a_beginning_of_an_id_is_not_the_id() {
    need!(runtime);
    let stage = Stage::new();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let id = &stage.id("abcdef");
    engine.running(id);
    let beginning = &id[..id.len() - 2];
    assert!(engine.refused(&["state", beginning]).contains("does not exist"));
    assert!(engine.refused(&["delete", beginning]).contains("does not exist"));
    engine.must(&["delete", "--force", beginning]);
    assert_eq!(engine.status(id), "running");
}

#[test]
fn errors_are_lines_of_json_in_the_log() {
    need!(runtime);
    let stage = Stage::new();
    let engine = Engine::on(&stage, "true");
    let log = engine.bundle.join("log.json");
    let options = ["--log", log.to_str().unwrap(), "--log-format", "json"];
    for _ in 0..2 {
        engine.refused(&[&options[..], &["state", &stage.id("nosuch")]].concat());
    }
    let text = engine.read("log.json");
    assert_eq!(text.lines().count(), 2);
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["level"], "error");
        assert!(line["msg"].as_str().unwrap().contains("does not exist"), "{line}");
        let time = line["time"].as_str().unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z') && time.contains('T'), "{time}");
    }
    // As podman writes it.
    let file = format!("--log={}", log.display());
    engine.refused(&["--log-format=json", &file, "state", &stage.id("nosuch")]);
    assert_eq!(engine.read("log.json").lines().count(), 3);
}

#[test]
fn what_cannot_be_executed_is_creates_error_in_the_words_engines_know() {
    need!(runtime);
    let stage = Stage::new();
    let engine = Engine::on(&stage, "true");
    std::fs::write(engine.bundle.join("rootfs/etc/plain"), "").unwrap();
    let id = &stage.id("nothing");
    for (program, words) in [
        ("nosuch", "exec: \"nosuch\": executable file not found in $PATH"),
        ("/no/such", "no such file or directory"),
        ("/etc/plain", "exec: \"/etc/plain\": permission denied"),
    ] {
        engine.edit(|config| config["process"]["args"] = json!([program]));
        let (code, said) = engine.hand_on(&["create", id]);
        assert_eq!(code, Some(1), "{said}");
        // The text format quotes.
        assert!(said.replace("\\\"", "\"").contains(words), "{said}");
        assert!(engine.refused(&["state", id]).contains("does not exist"));
    }
}

#[test]
fn exec_waits_for_the_process_and_ends_as_it_does() {
    need!(runtime);
    let stage = Stage::new();
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

/// A process that engines' monitors are: everything whose parent ended becomes its child.
fn as_monitor(directory: &Path, work: impl FnOnce(&mut Engine)) {
    rustix::process::set_child_subreaper(Pid::from_raw(1)).expect("prctl(PR_SET_CHILD_SUBREAPER)");
    let mut engine = Engine::new(directory, &directory.join("state"), "exec sleep 1000");
    work(&mut engine);
}

/// Waits for a process as its parent. Its exit code, or the signal it died of.
fn collect(pid: i32) -> (Option<i32>, Option<i32>) {
    let (_, status) = waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap().expect("it ended");
    (status.exit_status(), status.terminating_signal())
}

#[test]
fn the_monitor_of_an_engine_sees_how_the_first_process_ended() {
    need!(runtime);
    if let Some(directory) = caller::role() {
        return as_monitor(&directory, |engine| {
            let id = format!("monitored-{}", std::process::id());
            engine.edit(|config| config["process"]["args"] = json!(["sh", "-c", "exit 9"]));
            let pid = engine.running(&id);
            assert_eq!(collect(pid), (Some(9), None));
            engine.must(&["delete", &id]);
            engine.edit(|config| config["process"]["args"] = json!(["sleep", "1000"]));
            let pid = engine.running(&id);
            engine.must(&["kill", &id, "9"]);
            // runc's process is killed itself; a sandbox tells of it.
            let ended = collect(pid);
            assert!(ended == (Some(137), None) || ended == (None, Some(9)), "{ended:?}");
            engine.must(&["delete", &id]);
        });
    }
    let stage = Stage::new();
    Caller::spawn("the_monitor_of_an_engine_sees_how_the_first_process_ended", stage.path()).finish();
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
            assert_eq!(stdout.read(&mut [0; 1]).unwrap(), 0, "nobody else holds it");

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
    let stage = Stage::new();
    Caller::spawn("exec_detach_leaves_a_process_that_ends_as_the_one_inside", stage.path()).finish();
}

/// Takes the one descriptor that comes over a console socket.
fn take_terminal(listener: &UnixListener) -> File {
    assert!(is_readable_within(listener, LIMIT), "somebody connects");
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
    let stage = Stage::new();
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
    let stage = Stage::new();
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
fn run_waits_and_deletes_or_leaves_alone() {
    need!(runtime);
    let stage = Stage::new();
    let mut engine = Engine::on(&stage, "echo ran; exit 6");
    let id = &stage.id("run");
    let output = engine.call(&["run", id]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(6), b"ran\n".as_slice()));
    assert!(engine.refused(&["state", id]).contains("does not exist"));

    engine.made.push(id.clone());
    engine.edit(|config| config["process"]["args"] = json!(["sleep", "1000"]));
    let (code, said) = engine.hand_on(&["run", "--detach", "--pid-file", "pid", id]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert_eq!(engine.status(id), "running");
    assert!(Path::new("/proc").join(engine.read("pid")).exists());
    engine.must(&["delete", "--force", id]);

    let script = "trap 'exit 8' TERM; echo ready; while :; do sleep 0.01; done";
    engine.edit(|config| config["process"]["args"] = json!(["sh", "-c", script]));
    let mut child = engine.command(&["run", id]).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 6]).unwrap();
    rustix::process::kill_process(Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(8));
    assert!(engine.refused(&["state", id]).contains("does not exist"));
}

#[test]
fn run_on_a_terminal_is_the_wire_to_it() {
    need!(ours);
    let stage = Stage::new();
    let engine = Engine::on(&stage, "stty size; read line; echo got $line; exit 3");
    engine.edit(|config| config["process"]["terminal"] = json!(true));
    let stty = engine.bundle.join("rootfs/bin/stty");
    std::os::unix::fs::symlink("busybox", stty).unwrap();
    let mut child = engine.command(&["run", &stage.id("wire")]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"words\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let seen = String::from_utf8(output.stdout).unwrap();
    assert!(seen.ends_with("got words\r\n"), "{seen:?}");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn containers_are_listed() {
    need!(runtime);
    let stage = Stage::new();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let (first, second) = (&stage.id("a"), &stage.id("b"));
    engine.create(first, &[]);
    let pid = engine.running(second);
    assert_eq!(engine.must(&["list", "--quiet"]), format!("{first}\n{second}\n"));
    let listed: Value = serde_json::from_str(&engine.must(&["list", "--format", "json"])).unwrap();
    assert_eq!(listed[0]["status"], "created");
    assert_eq!(listed[1]["status"], "running");
    assert_eq!(listed[1]["pid"], pid);
    assert_eq!(listed[1]["id"], **second);
    let table = engine.must(&["list"]);
    let mut lines = table.lines();
    let words: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(words, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert!(lines.next().unwrap().starts_with(first.as_str()));
    // What was never started is deleted without force.
    engine.must(&["delete", first]);
    engine.must(&["delete", "--force", second]);
}

#[test]
fn limits_change_by_document_and_by_flag() {
    need!(runtime);
    if !is_root() {
        skip!("needs cgroups that the caller may make");
    }
    let stage = Stage::new();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let id = &stage.id("limits");
    engine.edit(|config| {
        config["linux"]["cgroupsPath"] = json!(format!("/{id}"));
        config["linux"]["resources"]["memory"] = json!({ "limit": 134_217_728 });
        config["linux"]["resources"]["pids"] = json!({ "limit": 50 });
    });
    engine.running(id);
    let limits = || {
        let line: Value = serde_json::from_str(&engine.must(&["events", "--stats", id])).unwrap();
        assert_eq!((line["type"].as_str(), line["id"].as_str()), (Some("stats"), Some(id.as_str())));
        let data = &line["data"];
        (data["memory"]["usage"]["limit"].as_u64().unwrap(), data["pids"]["limit"].as_u64().unwrap())
    };
    assert_eq!(limits(), (128 << 20, 50));
    // As containerd's shim sends it: zeros are what nobody asked for.
    let document = r#"{"memory":{"limit":67108864,"reservation":0,"swap":0,"kernel":0},
        "cpu":{"shares":0,"quota":0,"period":0},"blockIO":{"weight":0}}"#;
    let mut update = engine.command(&["update", "--resources", "-", id]);
    let mut update = update.stdin(Stdio::piped()).spawn().unwrap();
    update.stdin.take().unwrap().write_all(document.as_bytes()).unwrap();
    assert!(update.wait().unwrap().success());
    assert_eq!(limits(), (64 << 20, 50));
    engine.must(&["update", "--pids-limit", "20", id]);
    assert_eq!(limits(), (64 << 20, 20));
    engine.must(&["update", "--memory", "96m", "--cpu-quota", "50000", "--cpu-burst", "20000", id]);
    assert_eq!(limits(), (96 << 20, 20));
    engine.must(&["update", "--memory", "-1", "--cpu-burst", "0", "--cpu-idle", "1", id]);
    assert_eq!(limits(), (u64::MAX, 20));
    for (flags, said) in [
        (["--cpu-burst", "60000"], "linux.resources.cpu.burst: 60000 is above quota, 50000"),
        (["--memory", "1x"], "is no number of bytes"),
        (["--blkio-weight", "5"], "linux.resources.blockIO.weight: 5 is not between 10 and 1000"),
    ] {
        let refusal = engine.refused(&[&["update"], &flags[..], &[id.as_str()]].concat());
        assert!(refusal.contains(said), "{refusal}");
    }
    engine.must(&["delete", "--force", id]);
}

#[test]
fn what_is_frozen_stands_still() {
    need!(runtime);
    if !is_root() {
        skip!("needs cgroups that the caller may make");
    }
    let stage = Stage::new();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let id = &stage.id("frozen");
    engine.running(id);
    engine.must(&["pause", id]);
    assert_eq!(engine.status(id), "paused");
    assert!(engine.refused(&["exec", id, "true"]).contains("cannot exec in a paused container"));
    engine.must(&["resume", id]);
    assert_eq!(engine.status(id), "running");
    engine.must(&["pause", id]);
    engine.must(&["delete", "--force", id]);
}

#[test]
fn events_are_told_until_the_end() {
    need!(runtime);
    if !is_root() {
        skip!("needs cgroups that the caller may make");
    }
    let stage = Stage::new();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let id = &stage.id("events");
    engine.edit(|config| config["linux"]["resources"]["pids"] = json!({ "limit": 50 }));
    engine.running(id);
    let events = engine.command(&["events", "--interval", "1s", id]).stdout(Stdio::piped()).spawn();
    let mut events = events.unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!((&line["type"], &line["id"]), (&json!("stats"), &json!(id)));
    assert_eq!(line["data"]["pids"]["limit"], 50);
    engine.must(&["delete", "--force", id]);
    assert!(lines.all(|line| line.is_ok()));
    assert!(events.wait().unwrap().success());
}

#[test]
fn a_configuration_to_begin_with_is_written_once() {
    need!(runtime);
    let stage = Stage::new();
    let engine = Engine::on(&stage, "true");
    assert!(engine.refused(&["spec"]).contains("File config.json exists. Remove it first"));
}

#[test]
fn features_are_what_a_configuration_may_ask_for() {
    need!(runtime);
    let stage = Stage::new();
    let engine = Engine::on(&stage, "true");
    let features: Value = serde_json::from_str(&engine.must(&["features"])).unwrap();
    let has = |path: &str, word: &str| {
        let list =
            features.pointer(path).and_then(Value::as_array).unwrap_or_else(|| panic!("{path}: {features}"));
        list.iter().any(|entry| entry == word)
    };
    assert!(has("/hooks", "createRuntime") && has("/hooks", "poststop"));
    assert!(has("/mountOptions", "rbind") && has("/mountOptions", "tmpcopyup"));
    for kind in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"] {
        assert!(has("/linux/namespaces", kind), "{kind}");
    }
    assert!(has("/linux/capabilities", "CAP_CHECKPOINT_RESTORE"));
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    assert!(
        has("/linux/seccomp/actions", "SCMP_ACT_ERRNO") && has("/linux/seccomp/actions", "SCMP_ACT_NOTIFY")
    );
    assert!(has("/linux/seccomp/operators", "SCMP_CMP_MASKED_EQ"));
    assert!(has("/linux/seccomp/archs", "SCMP_ARCH_X86_64"));
    if is_ours() {
        assert_eq!(features["ociVersionMax"], "1.3.0");
        assert_eq!(features["linux"]["netDevices"]["enabled"], true);
        assert!(has("/linux/memoryPolicy/modes", "MPOL_BIND"), "{features}");
        assert!(has("/linux/memoryPolicy/flags", "MPOL_F_STATIC_NODES"), "{features}");
        // Every word that a configuration may have there, and the library obeys.
        for (path, count) in [
            ("/hooks", 6),
            ("/linux/namespaces", 8),
            ("/linux/capabilities", 41),
            ("/linux/seccomp/actions", 9),
            ("/linux/seccomp/operators", 7),
            ("/linux/seccomp/knownFlags", 4),
            ("/linux/memoryPolicy/modes", 7),
            ("/linux/memoryPolicy/flags", 3),
        ] {
            let list = features.pointer(path).and_then(Value::as_array).map(Vec::len);
            assert_eq!(list, Some(count), "{path}: {features}");
        }
        assert!(!has("/linux/seccomp/archs", "SCMP_ARCH_NATIVE"), "no word of the specification: {features}");
        // Claimed only where it is obeyed.
        engine.edit(|config| config["linux"]["intelRdt"] = json!({ "closID": "x" }));
        let refused = engine.hand_on(&["create", &stage.id("rdt")]).0 != Some(0);
        assert_eq!(features["linux"]["intelRdt"]["enabled"], !refused);
    }
}

#[test]
fn every_flag_of_runc_is_taken() {
    need!(runtime);
    let stage = Stage::new();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let id = &stage.id("flags");
    let (log, pid_file) = (stage.path().join("log"), stage.path().join("pid"));
    let (log, pid_file) = (log.to_str().unwrap(), pid_file.to_str().unwrap());
    let global = ["--debug", "--log", log, "--log-format", "json", "--rootless", "auto", "--criu", "criu"];
    engine.must(&[&global[..], &["list"]].concat());
    engine.create(id, &["--no-pivot", "--no-new-keyring", "--preserve-fds", "0"]);
    engine.must(&["start", id]);
    let user = if is_root() { "0:0" } else { "0" };
    let mut exec =
        vec!["exec", "--cwd", "/", "--env", "A=b", "--env", "C=d", "--user", user, "--cap", "CAP_KILL"];
    exec.extend(["--no-new-privs", "--preserve-fds", "0", "--pid-file", pid_file, "--ignore-paused"]);
    // Without privilege there is one group, and it is the only one.
    exec.extend(is_root().then_some(["--additional-gids", "5"]).into_iter().flatten());
    exec.extend([id, "sh", "-c", "echo $A$C"]);
    assert_eq!(engine.must(&exec), "bd\n");
    assert!(std::fs::read_to_string(pid_file).unwrap().parse::<i32>().is_ok());
    assert!(engine.must(&["ps", "--format", "table", id, "-o", "pid,args"]).contains("sleep 1000"));
    assert_eq!(engine.must(&["kill", "-a", id, "KILL"]), "");
    assert_eq!(engine.must(&["delete", "-f", id]), "");

    engine.made.push(id.clone());
    let run = ["run", "--detach", "--keep", "--no-subreaper", "--no-pivot", "--no-new-keyring"];
    engine.edit(|config| config["process"]["args"] = json!(["true"]));
    // Whether it has ended before it is let go or after.
    for _ in 0..10 {
        let (code, said) = engine.hand_on(&[&run[..], &["--preserve-fds", "0", id]].concat());
        assert_eq!((code, said.as_str()), (Some(0), ""));
        engine.must(&["delete", "--force", id]);
    }
    let new = stage.open_directory("new");
    engine.must(&["spec", "--rootless", "-b", new.to_str().unwrap()]);
    assert!(new.join("config.json").is_file());
}

/// What a runtime says about itself, and where.
#[test]
fn help_and_version_are_no_errors() {
    need!(runtime);
    let stage = Stage::new();
    let engine = Engine::on(&stage, "true");
    for arguments in [&["--help"][..], &["-h"], &["help"]] {
        assert!(engine.must(arguments).to_lowercase().contains("usage"), "{arguments:?}");
    }
    // Nothing at all, not even a root.
    let nothing = Command::new(&engine.runtime).output().unwrap();
    assert_success(&nothing);
    assert!(String::from_utf8(nothing.stdout).unwrap().to_lowercase().contains("usage"));
    let verbs =
        ["create", "start", "run", "state", "kill", "delete", "exec", "ps", "events", "pause", "resume"];
    for verb in verbs.into_iter().chain(["update", "list", "spec", "features"]) {
        assert!(engine.must(&[verb, "--help"]).contains(verb), "{verb}");
    }
    for flag in ["--version", "-v"] {
        // Docker looks for these words, podman shows the lines.
        let version = engine.must(&[flag]);
        assert!(version.lines().next().unwrap().contains(" version "), "{version}");
        assert!(version.lines().any(|line| line.starts_with("spec: 1.")), "{version}");
    }
}

#[test]
fn what_engines_ask_before_they_begin_is_answered() {
    need!(ours);
    let stage = Stage::new();
    let engine = Engine::on(&stage, "true");
    // podman asks this, and takes success for an answer, to find out whether there are checkpoints.
    for probe in [&["checkpoint", "--help"][..], &["checkpoint", "--image-path", "x", "y"], &["restore", "x"]]
    {
        assert!(engine.refused(probe).contains("not supported"));
    }
}

#[test]
fn annotations_of_pods_are_followed_only_if_asked_for() {
    need!(ours);
    let stage = Stage::new();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let (pod, alone, member) = (&stage.id("pod"), &stage.id("alone"), &stage.id("member"));
    let pod_pid = engine.running(pod);
    engine.edit(|config| {
        config["annotations"] = json!({
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.sandbox-id": pod,
        });
    });
    let sandbox_of = |engine: &Engine, id: &str| {
        let pids: Vec<i32> = serde_json::from_str(&engine.must(&["ps", "--format", "json", id])).unwrap();
        let status = common::status_line(&pids[0].to_string(), "PPid");
        status.parse::<i32>().unwrap()
    };
    engine.running(alone);
    assert_ne!(sandbox_of(&engine, alone), pod_pid);
    engine.made.push(member.clone());
    let (code, said) = engine.hand_on(&["--pods", "create", member]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    engine.must(&["start", member]);
    assert_eq!(sandbox_of(&engine, member), pod_pid);
    for id in [member, alone, pod] {
        engine.must(&["delete", "--force", id]);
    }
}

#[test]
fn decisions_are_logged_with_debug() {
    need!(ours);
    let stage = Stage::new();
    let engine = Engine::on(&stage, "true");
    let log = engine.bundle.join("log");
    let output = engine.call(&["--debug", "--log", log.to_str().unwrap(), "run", &stage.id("debug")]);
    assert_success(&output);
    assert!(engine.read("log").lines().all(|line| line.starts_with("time=\"") && line.contains(" level=")));
}

#[test]
fn a_limit_that_is_passed_over_is_named_in_the_log() {
    need!(ours);
    let stage = Stage::new();
    let engine = Engine::on(&stage, "true");
    engine.edit(|config| {
        config["linux"]["resources"] = json!({"memory": {"kernelTCP": 1 << 20, "kernel": -1}})
    });
    let log = engine.bundle.join("log");
    let output = engine.call(&["--debug", "--log", log.to_str().unwrap(), "run", &stage.id("ignored")]);
    assert_success(&output);
    let log = engine.read("log");
    let about = |name: &str| log.lines().any(|line| line.contains("level=warn") && line.contains(name));
    assert!(about("linux.resources.memory.kernelTCP"), "{log}");
    assert!(!about("linux.resources.memory.kernel "), "-1 asks for nothing: {log}");
}

//! create, start, run, state, list, pause, kill and delete, as engines drive a container.

use crate::cli::{Engine, as_monitor, collect, need};
use crate::kit::caller::Caller;
use crate::kit::example::is_ours;
use crate::kit::{await_end, caller, is_root, skip, stage, status_line, witness};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;

/// The pid that the PID file has for the pid in a state: that of the sandbox, init's parent. With runc both are init's.
fn in_pid_file(in_state: &Value) -> i32 {
    let init = i32::try_from(in_state.as_i64().expect("a number")).unwrap();
    if is_ours() { status_line(&init.to_string(), "PPid").parse().unwrap() } else { init }
}

#[test]
fn a_container_lives_as_engines_drive_it() {
    need!(runtime);
    let stage = stage!();
    let mut engine = Engine::on(&stage, "echo begun; exec sleep 1000");
    let id = &stage.id("life");
    let pid = engine.create(id, &[]);
    assert_eq!(engine.status(id), "created");
    assert_eq!(engine.read("stdout"), "");
    let state: Value = serde_json::from_str(&engine.must(&["state", id])).unwrap();
    assert_eq!(in_pid_file(&state["pid"]), pid);
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
    let stage = stage!();
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

#[test]
fn a_real_time_signal_has_names() {
    need!(ours);
    let stage = stage!();
    let script = "trap 'echo got; exit 3' 37; echo ready; while :; do sleep 0.01; done";
    let mut engine = Engine::on(&stage, script);
    for (index, name) in ["RTMIN+3", "SIGRTMIN+3", "RTMAX-27", "37"].into_iter().enumerate() {
        let id = &stage.id(&format!("real-time-{index}"));
        let pid = engine.running(id);
        while engine.read("stdout") != "ready\n" {
            std::thread::yield_now();
        }
        engine.must(&["kill", id, name]);
        await_end(pid);
        assert_eq!(engine.read("stdout"), "ready\ngot\n", "{name}");
        engine.must(&["delete", id]);
    }
}

#[test]
fn what_a_state_does_not_allow_is_said_and_changes_nothing() {
    need!(runtime);
    let stage = stage!();
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
fn a_beginning_of_an_id_is_not_the_id() {
    need!(runtime);
    let stage = stage!();
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
    let stage = stage!();
    Caller::spawn(stage.path()).finish();
}

#[test]
fn a_supervisor_may_signal_the_process_that_waits_and_every_helper() {
    need!(ours);
    let stage = stage!();
    // As a batch system does that warns a job: it signals every process below its own.
    let script = "trap 'echo warned; exit 3' USR1; echo ready; while :; do sleep 0.01; done";
    let engine = Engine::on(&stage, script);
    let id = stage.id("warned");
    let mut run = engine.command(&["run", &id]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let helpers = witness::descendants(run.id()).into_iter();
    let helpers = helpers.filter(|process| process.name.starts_with("cofferdam")).map(|process| process.pid);
    let helpers: Vec<_> = helpers.collect();
    assert_eq!(helpers.len(), 2, "{helpers:?}");
    for pid in helpers.into_iter().rev().chain([run.id()]) {
        kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::USR1).unwrap();
    }
    assert_eq!(lines.next().unwrap().unwrap(), "warned");
    assert_eq!(run.wait().unwrap().code(), Some(3));
}

#[test]
fn run_waits_and_deletes_or_leaves_alone() {
    need!(runtime);
    let stage = stage!();
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
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(8));
    assert!(engine.refused(&["state", id]).contains("does not exist"));
}

#[test]
fn containers_are_listed() {
    need!(runtime);
    let stage = stage!();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let (first, second) = (&stage.id("a"), &stage.id("b"));
    engine.create(first, &[]);
    let pid = engine.running(second);
    assert_eq!(engine.must(&["list", "--quiet"]), format!("{first}\n{second}\n"));
    let listed: Value = serde_json::from_str(&engine.must(&["list", "--format", "json"])).unwrap();
    assert_eq!(listed[0]["status"], "created");
    assert_eq!(listed[1]["status"], "running");
    assert_eq!(in_pid_file(&listed[1]["pid"]), pid);
    assert_eq!(listed[1]["id"], **second);
    let table = engine.must(&["list"]);
    let mut lines = table.lines();
    let words: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(words, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert!(lines.next().unwrap().starts_with(first.as_str()));
    // A container that was never started is deleted without force.
    engine.must(&["delete", first]);
    engine.must(&["delete", "--force", second]);
}

#[test]
fn the_pid_of_a_container_leads_to_its_namespaces() {
    need!(runtime);
    if !is_root() {
        skip!("another container's namespaces belong to its user namespace");
    }
    let stage = stage!();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let (one, other) = (&stage.id("one"), &stage.id("other"));
    let pid = engine.running(one);
    engine.edit(|config| {
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            let file = match namespace["type"].as_str().unwrap() {
                "network" => "net",
                kind @ ("pid" | "ipc" | "uts") => kind,
                _ => continue,
            };
            namespace["path"] = json!(format!("/proc/{pid}/ns/{file}"));
        }
    });
    engine.running(other);
    let namespaces = "for f in pid net ipc uts; do readlink /proc/self/ns/$f; done; cat /proc/1/comm";
    let [theirs, ours] = [one, other].map(|id| engine.must(&["exec", id, "sh", "-c", namespaces]));
    assert_eq!(theirs, ours);
    assert!(ours.ends_with("\nsleep\n"), "{ours}");
    for id in [other, one] {
        engine.must(&["delete", "--force", id]);
    }
}

#[test]
fn what_is_frozen_stands_still() {
    need!(runtime);
    if !is_root() {
        skip!("needs cgroups that the caller may make");
    }
    let stage = stage!();
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

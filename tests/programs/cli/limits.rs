//! Limits that change, and what is used.

use crate::cli::{Engine, assert_success, need};
use crate::kit::{is_root, skip, stage};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

#[test]
fn limits_change_by_document_and_by_flag() {
    need!(runtime);
    if !is_root() {
        skip!("needs cgroups that the caller may make");
    }
    let stage = stage!();
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
    // As containerd's shim sends it: a zero means that no limit was asked for.
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
        (["--memory", "1x"], "is not a number of bytes"),
        (["--blkio-weight", "5"], "linux.resources.blockIO.weight: 5 is not between 10 and 1000"),
    ] {
        let refusal = engine.refused(&[&["update"], &flags[..], &[id.as_str()]].concat());
        assert!(refusal.contains(said), "{refusal}");
    }
    engine.must(&["delete", "--force", id]);
}

#[test]
fn events_are_told_until_the_end() {
    need!(runtime);
    if !is_root() {
        skip!("needs cgroups that the caller may make");
    }
    let stage = stage!();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let id = &stage.id("events");
    engine.edit(|config| config["linux"]["resources"]["pids"] = json!({ "limit": 50 }));
    engine.running(id);
    let events = engine.command(&["events", "--interval", "1s", id]).stdout(Stdio::piped()).spawn();
    let mut events = events.unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    // Programs compare the beginning of a line.
    assert!(line.starts_with(&format!(r#"{{"type":"stats","id":"{id}","data":{{"#)), "{line}");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["type"], &line["id"]), (&json!("stats"), &json!(id)));
    assert_eq!(line["data"]["pids"]["limit"], 50);
    engine.must(&["delete", "--force", id]);
    assert!(lines.all(|line| line.is_ok()));
    assert!(events.wait().unwrap().success());
}

#[test]
fn a_limit_that_is_passed_over_is_named_in_the_log() {
    need!(ours);
    let stage = stage!();
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

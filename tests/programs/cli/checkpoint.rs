//! The verbs checkpoint and restore, as podman, docker and containerd call them.

use crate::cli::{Engine, LIMIT, need};
use crate::kit::{is_readable_within, is_root, skip, stage};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, PipeReader};
use std::path::PathBuf;
use std::process::Stdio;

/// Its variable is in memory alone.
const COUNTER: &str = "i=0; while :; do i=$((i + 1)); echo $i; sleep 0.05; done";

/// The CRIU of the tests. Skips the test without one.
macro_rules! criu_path {
    () => {
        match crate::kit::criu::path() {
            Ok(path) if is_root() => path.to_str().expect("a path of the tests").to_owned(),
            Ok(_) => skip!("only root of the host may write an image"),
            Err(reason) => skip!("{reason}"),
        }
    };
}

/// Calls a verb whose container writes into a pipe: the reading end.
fn into_pipe(engine: &Engine, arguments: &[&str]) -> BufReader<PipeReader> {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = engine.command(arguments);
    let said = command.stdout(writer.try_clone().unwrap()).stderr(writer).status().unwrap();
    drop(command);
    let mut reader = BufReader::new(reader);
    if !said.success() {
        let mut text = String::new();
        while reader.read_line(&mut text).unwrap() > 0 {}
        panic!("{arguments:?}: {said}: {text}");
    }
    reader
}

fn number(reader: &mut BufReader<PipeReader>) -> u32 {
    let mut line = String::new();
    assert!(!reader.buffer().is_empty() || is_readable_within(reader.get_ref(), LIMIT), "it counts");
    reader.read_line(&mut line).unwrap();
    line.trim().parse().unwrap_or_else(|_| panic!("{line:?} is a number"))
}

/// The numbers up to the end: the last of them.
fn last(mut reader: BufReader<PipeReader>, mut number: u32) -> u32 {
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 0 {
        number = line.trim().parse().unwrap();
        line.clear();
    }
    number
}

fn images(engine: &Engine) -> (PathBuf, String) {
    let path = engine.bundle.join("checkpoint");
    let text = path.to_str().unwrap().to_owned();
    (path, text)
}

#[test]
fn a_container_that_was_restored_goes_on_where_its_image_was_taken() {
    need!(ours);
    let criu = criu_path!();
    let stage = stage!();
    let mut engine = Engine::on(&stage, COUNTER);
    let (path, image) = images(&engine);
    let (first, second) = (stage.id("first"), stage.id("second"));
    engine.made.extend([first.clone(), second.clone()]);
    let bundle = engine.bundle.to_str().unwrap().to_owned();
    let mut numbers = into_pipe(&engine, &["run", "--detach", "--bundle", &bundle, &first]);
    while number(&mut numbers) < 3 {}
    let checkpoint = [
        "--criu",
        &criu,
        "checkpoint",
        "--image-path",
        &image,
        "--work-path",
        &bundle,
        "--tcp-established",
        "--file-locks",
        &first,
    ];
    assert_eq!(engine.must(&checkpoint), "");
    let counted = last(numbers, 3);
    assert_eq!(engine.status(&first), "stopped");
    // What podman looks for.
    assert!(path.join("inventory.img").is_file());
    engine.must(&["delete", &first]);

    let pid_file = stage.path().join("pid");
    let restore = ["--criu", &criu, "restore", "--image-path", &image, "--work-path", &bundle, "--bundle"];
    let rest = [&bundle, "--pid-file", pid_file.to_str().unwrap(), "--detach", "-no-subreaper", &second];
    let mut numbers = into_pipe(&engine, &[&restore[..], &rest[..]].concat());
    assert_eq!(number(&mut numbers), counted + 1);
    assert_eq!(engine.status(&second), "running");
    assert!(std::fs::read_to_string(pid_file).unwrap().parse::<i32>().is_ok());
    assert!(engine.must(&["exec", &second, "cat", "/proc/1/cmdline"]).starts_with("sh\0-c\0i=0;"));
    engine.must(&["kill", &second, "KILL"]);
    last(numbers, 0);
    engine.must(&["delete", "--force", &second]);
}

#[test]
fn the_hooks_of_a_restored_container_are_run_with_its_pid() {
    need!(ours);
    let criu = criu_path!();
    let stage = stage!();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let (_, image) = images(&engine);
    let id = stage.id("hooked");
    engine.made.push(id.clone());
    let bundle = engine.bundle.to_str().unwrap().to_owned();
    let detached = ["--detach", "--bundle", &bundle, &id];
    // Without pipes, which the container would keep open.
    let call = |engine: &Engine, parts: [&[&str]; 2]| {
        let mut command = engine.command(&parts.concat());
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(call(&engine, [&["run"], &detached]));
    let verb = |verb: &'static str| ["--criu", &criu, verb, "--image-path", &image];
    assert!(call(&engine, [&verb("checkpoint"), &[&id]]));
    engine.must(&["delete", &id]);

    let log = stage.path().join("log");
    let script = format!("cat >>{log:?}; echo >>{log:?}");
    let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
    engine.edit(|config| config["hooks"] = json!({ "createContainer": hook }));
    let said = engine.refused(&[&verb("restore")[..], &detached].concat());
    assert!(said.contains("hooks.createContainer"), "{said}");
    engine.edit(|config| config["hooks"] = json!({ "createRuntime": hook, "poststart": hook }));
    assert!(call(&engine, [&verb("restore"), &detached]));
    let states = std::fs::read_to_string(log).unwrap();
    let states: Vec<Value> = states.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(states.len(), 2);
    let state: Value = serde_json::from_str(&engine.must(&["state", &id])).unwrap();
    // At createRuntime, the restored process has not used a file yet, and init speaks for it.
    assert_eq!((&states[0]["status"], &states[1]["status"]), (&json!("creating"), &json!("running")));
    assert_eq!(states[1]["pid"], state["pid"]);
    engine.must(&["delete", "--force", &id]);
}

#[test]
fn a_container_goes_on_after_its_image_was_taken_if_it_shall() {
    need!(ours);
    let criu = criu_path!();
    let stage = stage!();
    let mut engine = Engine::on(&stage, COUNTER);
    let (path, image) = images(&engine);
    let id = stage.id("counter");
    engine.made.push(id.clone());
    let mut numbers = into_pipe(&engine, &["run", "--detach", &id]);
    let before = number(&mut numbers);
    // podman says it twice.
    let flags = ["--leave-running", "--leave-running", "--image-path", &image];
    let checkpoint = [&["--criu", &criu, "checkpoint"], &flags[..], &[&id]].concat();
    engine.must(&checkpoint);
    assert_eq!(number(&mut numbers), before + 1);
    // As containerd does it.
    std::fs::remove_dir_all(&path).unwrap();
    engine.must(&["pause", &id]);
    engine.must(&checkpoint);
    assert_eq!(engine.status(&id), "paused");
    engine.must(&["resume", &id]);
    number(&mut numbers);
    assert_eq!(engine.status(&id), "running");
    engine.must(&["delete", "--force", &id]);
}

#[test]
fn what_an_image_cannot_have_is_refused_by_its_flag() {
    need!(ours);
    let stage = stage!();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let id = &stage.id("flags");
    engine.running(id);
    for flag in ["--pre-dump", "--lazy-pages"] {
        let said = engine.refused(&["checkpoint", flag, id]);
        assert!(said.contains(&format!("{flag} is not supported")), "{said}");
    }
    let said = engine.refused(&["restore", "--lazy-pages", &stage.id("new")]);
    assert!(said.contains("--lazy-pages is not supported"), "{said}");
    assert_eq!(engine.status(id), "running");
    let nowhere = stage.path().join("nowhere");
    let said = engine.refused(&["--criu", nowhere.to_str().unwrap(), "checkpoint", id]);
    assert!(said.contains("there is no program"), "{said}");
    assert!(!engine.bundle.join("checkpoint").exists());
}

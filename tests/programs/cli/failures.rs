//! What is wrong: one line, an exit code, the log, and nothing left.

use crate::cli::{Engine, assert_success, need};
use crate::kit::example::is_ours;
use crate::kit::stage;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::path::Path;

#[test]
fn with_debug_the_log_has_what_was_done_and_without_it_nothing() {
    need!(runtime);
    let stage = stage!();
    let engine = Engine::on(&stage, "true");
    let id = stage.id("debug");
    let output = engine.call(&["--debug", "run", &id]);
    assert_success(&output);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("level=debug"), "{said}");
    for (format, mark) in [("text", "level=debug"), ("json", "\"level\":\"debug\"")] {
        let log = engine.bundle.join(format);
        let log = ["--log", log.to_str().unwrap(), "--log-format", format];
        let quiet = engine.call(&[&log[..], &["run", &id]].concat());
        assert_success(&quiet);
        assert!(!engine.read(format).contains(mark), "{}", engine.read(format));
        let output = engine.call(&[&["--debug"], &log[..], &["run", &id]].concat());
        assert_success(&output);
        assert!(String::from_utf8(output.stderr).unwrap().is_empty());
        let text = engine.read(format);
        assert!(text.contains(mark), "{text}");
        for what in ["created", "started", "deleted"] {
            assert!(!is_ours() || text.contains(what), "{what} in {text}");
        }
    }
}

/// What is wrong, and words that say so: engines look for them.
#[test]
fn what_is_wrong_is_said_in_one_line_and_leaves_nothing() {
    need!(runtime);
    let stage = stage!();
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
        (&["exec", "--user", "+1", running, "true"], "not a numeric user"),
        (&["exec", "--user", "0:01", running, "true"], "not a numeric user"),
        (&["exec", "--additional-gids", "00", running, "true"], "not a numeric user"),
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
fn a_scope_and_the_flag_for_it_go_together() {
    need!(runtime);
    let stage = stage!();
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
fn errors_are_lines_of_json_in_the_log() {
    need!(runtime);
    let stage = stage!();
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
fn a_log_is_no_link_and_no_fifo_that_nothing_reads() {
    need!(ours);
    let stage = stage!();
    let engine = Engine::on(&stage, "true");
    let (link, fifo, other) =
        (stage.path().join("link"), stage.path().join("fifo"), stage.path().join("other"));
    std::os::unix::fs::symlink(&other, &link).unwrap();
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let log = |path: &Path| engine.refused(&["--log", path.to_str().unwrap(), "state", &stage.id("nosuch")]);
    let said = log(&link);
    assert!(said.starts_with("open log ") && said.contains("symbolic link") && !other.exists(), "{said}");
    assert!(log(&fifo).starts_with("open log "));
    // With a reader it is a log, and a terminal or a pipe of ours is one by its name.
    let mut reader = File::options().read(true).write(true).open(&fifo).unwrap();
    assert!(log(&fifo).contains("does not exist"));
    let mut bytes = [0; 4096];
    let count = reader.read(&mut bytes).unwrap();
    assert!(String::from_utf8_lossy(&bytes[..count]).contains("does not exist"));
    let said = log(Path::new("/dev/stdout"));
    assert!(said.contains("does not exist"), "{said}");
}

#[test]
fn what_cannot_be_executed_is_creates_error_in_the_words_engines_know() {
    need!(runtime);
    let stage = stage!();
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
fn decisions_are_logged_with_debug() {
    need!(ours);
    let stage = stage!();
    let engine = Engine::on(&stage, "true");
    let log = engine.bundle.join("log");
    let output = engine.call(&["--debug", "--log", log.to_str().unwrap(), "run", &stage.id("debug")]);
    assert_success(&output);
    assert!(engine.read("log").lines().all(|line| line.starts_with("time=\"") && line.contains(" level=")));
}

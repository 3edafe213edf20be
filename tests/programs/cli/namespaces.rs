//! Callers in other pid and time namespaces than the one that created a container.

use crate::cli::{Engine, assert_success, need};
use crate::kit::{await_end, is_root, skip, stage};
use std::process::{Command, Output, Stdio};

/// The ways to another namespace.
const WAYS: [&[&str]; 2] =
    [&["--pid", "--fork", "--mount-proc"], &["--time", "--boottime", "100000", "--fork"]];

fn from(way: &[&str], engine: &Engine, arguments: &[&str]) -> Output {
    let mut command = Command::new("unshare");
    command.args(way).arg(&engine.runtime).arg("--root").arg(&engine.root).args(arguments);
    command.current_dir(&engine.bundle).stdin(Stdio::null()).output().unwrap()
}

fn refused_from(way: &[&str], engine: &Engine, arguments: &[&str]) -> String {
    let output = from(way, engine, arguments);
    assert!(!output.status.success(), "{arguments:?} from {way:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn from_another_namespace_a_running_container_is_not_taken_for_a_stopped_one() {
    need!(ours);
    if !is_root() {
        skip!("needs other namespaces");
    }
    let stage = stage!();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    for (number, way) in WAYS.into_iter().enumerate() {
        let id = &stage.id(&format!("elsewhere{number}"));
        let sandbox = engine.running(id);
        for verb in
            [&["delete", id.as_str()][..], &["state", id], &["kill", id, "KILL"], &["exec", id, "true"]]
        {
            let said = refused_from(way, &engine, verb);
            assert!(said.contains("its pids mean other processes here"), "{verb:?}: {said}");
        }
        let taken = refused_from(way, &engine, &["run", id]);
        assert!(taken.contains("exists"), "{taken}");
        assert_eq!(engine.status(id), "running");
        // By force it is deleted: the sandbox ends it.
        assert_success(&from(way, &engine, &["delete", "--force", id]));
        await_end(sandbox);
        assert!(engine.refused(&["state", id]).contains("does not exist"));

        // What has ended is known to have ended everywhere.
        let sandbox = engine.running(id);
        engine.must(&["kill", id, "KILL"]);
        await_end(sandbox);
        let state = from(way, &engine, &["state", id]);
        assert_success(&state);
        assert!(String::from_utf8(state.stdout).unwrap().contains("\"status\": \"stopped\""));
        assert_success(&from(way, &engine, &["delete", id]));
    }
}

//! What engines do with images of running containers; runc is the control.

use crate::engine::{Engine, output, said, wait_until};
use crate::kit::{is_installed, skip};
use std::ffi::OsString;
use std::process::Command;
use std::time::{Duration, Instant};

/// Its variable is in memory alone, and in no file after a start from the beginning.
const COUNTER: &str = "i=0; while :; do i=$((i + 1)); echo $i >/new; mv /new /count; sleep 0.05; done";

/// The path to search for programs, with the CRIU of the tests in front.
pub(crate) fn search_path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let criu = crate::kit::criu::path().ok();
    let folder = criu.as_ref().and_then(|criu| criu.parent()).map(|folder| folder.to_owned());
    std::env::join_paths(folder.into_iter().chain(std::env::split_paths(&path))).expect("no path has a colon")
}

fn count(engine: &dyn Engine, name: &str) -> u32 {
    let shown = engine.exec(name, &[], "cat /count");
    String::from_utf8_lossy(&shown.stdout).trim().parse().unwrap_or(0)
}

/// Has the counter end in a checkpoint, and go on from it. What the engine says if it does not.
fn goes_on(engine: &dyn Engine, name: &str) -> Result<(), String> {
    let counts_above =
        |number: u32| wait_until("it counts", || count(engine, name) > number, || engine.status(name));
    counts_above(20);
    let before = count(engine, name);
    for mut step in engine.checkpoint_and_restore(name) {
        let mut done = output(&mut step);
        // With any runtime, docker's daemon now and then finds what it has deleted a moment before.
        let begun = Instant::now();
        while said(&done).contains(": already exists") && begun.elapsed() < Duration::from_secs(20) {
            done = output(&mut step);
        }
        if !done.status.success() {
            return Err(format!("{step:?}: {}", said(&done).trim_end()));
        }
    }
    assert_eq!(engine.status(name), "running");
    // A new counter would be at less.
    let after = count(engine, name);
    assert!(after >= before, "{after}, and it was {before}");
    counts_above(after);
    Ok(())
}

pub(crate) fn a_container_goes_on_from_its_checkpoint_as_with_runc(engine: &dyn Engine) {
    if let Err(reason) = crate::kit::criu::path() {
        skip!("{reason}");
    }
    if !is_installed("runc") {
        skip!("runc is not installed");
    }
    let args = ["sh", "-c", COUNTER];
    engine.start_control("control", &[], &args);
    let control = goes_on(engine, "control");
    engine.remove("control");
    if let Err(reason) = control {
        skip!("the engine does not even restore a container of runc here: {}", reason.replace('\n', " "));
    }
    engine.start("tested", &[], &args);
    goes_on(engine, "tested").unwrap_or_else(|reason| panic!("{reason}"));
    engine.kill("tested", "KILL");
    assert_eq!(engine.wait("tested"), 137);
    engine.remove("tested");
}

/// The commands of an engine, each with its words.
pub(crate) fn steps<const N: usize>(engine: &dyn Engine, steps: [&[&str]; N]) -> Vec<Command> {
    let command = |words: &[&str]| {
        let mut client = engine.client();
        client.args(words);
        client
    };
    steps.into_iter().map(command).collect()
}

//! The program that helpers execute, if it is not this one.

#![expect(clippy::disallowed_methods, reason = "tests read files of /proc and write files of their own")]

use crate::kit::{Stage, is_root, stage, start};
use cofferdam::helpers::Helper;
use cofferdam::{ErrorKind, Exec, Outcome, Zygote};
use std::os::unix::fs::MetadataExt;

const HELPER: &str = env!("CARGO_BIN_EXE_cofferdam-helper");

/// `file` is the program's file. In an image it has no name to compare, so its size tells which program a process executes.
fn every_kind_of_helper_works_with(stage: &Stage, helper: &Helper, file: &str) {
    let size = |path: &str| std::fs::metadata(path).unwrap().size();
    let executes_the_helper = |pid: i32| size(&format!("/proc/{pid}/exe")) == size(file);
    helper.install().unwrap();
    let running = start(stage.shell("lean", "exec sleep 1000"));
    let output = running.exec_output(Exec::new(["echo", "inside"])).unwrap();
    assert_eq!(output.stdout, b"inside\n");
    assert!(running.files().unwrap().stat("/bin/sh").is_ok());
    if is_root() {
        let pids = [running.info().gofer.as_ref().expect("recorded").pid, running.sandbox_pid()];
        assert!(pids.into_iter().all(executes_the_helper), "{pids:?}");
    }
    running.kill().unwrap().delete().unwrap();
    let zygote = Zygote::spawn().unwrap();
    assert!(!is_root() || executes_the_helper(zygote.pid()));
    let exit = stage.shell("forked", "exit 8").zygote(&zygote).run().unwrap();
    assert_eq!(exit.outcome, Outcome::Exited { code: 8 });
}

#[test]
fn a_file_is_the_program_of_every_helper() {
    let stage = stage!();
    every_kind_of_helper_works_with(&stage, &Helper::at(HELPER).unwrap(), HELPER);
}

#[test]
fn bytes_are_the_program_of_every_helper() {
    let stage = stage!();
    let helper = Helper::embedded(&std::fs::read(HELPER).unwrap()).unwrap();
    every_kind_of_helper_works_with(&stage, &helper, HELPER);
}

#[cfg(feature = "embedded-helper")]
#[test]
fn what_was_built_in_is_the_program_of_every_helper() {
    let stage = stage!();
    every_kind_of_helper_works_with(&stage, &Helper::built_in().unwrap(), env!("COFFERDAM_HELPER"));
}

#[test]
fn what_was_installed_stays_when_its_file_is_replaced() {
    let stage = stage!();
    let copy = stage.path().join("helper");
    std::fs::copy(HELPER, &copy).unwrap();
    Helper::at(&copy).unwrap().install().unwrap();
    std::fs::rename(&copy, stage.path().join("old")).unwrap();
    std::fs::write(&copy, "something else").unwrap();
    let exit = stage.shell("kept", "exit 9").run().unwrap();
    assert_eq!(exit.outcome, Outcome::Exited { code: 9 });
}

#[test]
fn what_is_no_helper_is_refused_before_it_serves_a_container() {
    let stage = stage!();
    let at = |name: &str| stage.path().join(name);
    for path in ["/bin/true", "/bin/cat"] {
        let error = Helper::at(path).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), format!("helper: {path:?} is no cofferdam-helper"));
    }
    std::fs::write(at("text"), "no program\n").unwrap();
    std::fs::create_dir(at("directory")).unwrap();
    let fifo = at("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [at("text"), at("missing"), at("directory"), fifo] {
        let error = Helper::at(&path).unwrap_err();
        assert!(error.raw_os_error().is_some(), "{error}");
    }
    Helper::embedded(b"").unwrap_err();
    Helper::embedded(b"#!/bin/true\n").unwrap_err();
    let cut = &std::fs::read(HELPER).unwrap()[..4096];
    Helper::embedded(cut).unwrap_err();
}

#[test]
fn a_process_has_one_program_for_all_its_helpers() {
    let stage = stage!();
    let helper = Helper::at(HELPER).unwrap();
    stage.shell("first", "true").run().unwrap();
    let error = helper.install().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("started helpers already"), "{error}");
}

#[test]
fn a_helper_that_is_started_by_hand_fails() {
    let output = std::process::Command::new(HELPER).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
}

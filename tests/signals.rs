//! Signals: to init, to all, to one process, to a group, to a terminal's foreground.

mod common;

use cofferdam::{AnyContainer, Container, ErrorKind, Exec, Outcome, Running, Signal, Stdio};
use common::Stage;
use std::io::{BufRead, BufReader};

fn running(stage: &Stage, name: &str, script: &str) -> Container<Running> {
    stage.shell(name, script).build().unwrap().create().unwrap().start().unwrap()
}

/// How many processes the container has, the counting ones included.
fn count(container: &Container<Running>) -> String {
    let counting = Exec::new(["sh", "-c", "cd /proc; ls -d [0-9]* | wc -l"]);
    String::from_utf8(container.exec_output(counting).unwrap().stdout).unwrap().trim().to_owned()
}

#[test]
fn sigterm_ends_an_init_that_never_heard_of_it() {
    let stage = Stage::new();
    let container = running(&stage, "term", "sleep 1000; true");
    container.signal(Signal::TERM).unwrap();
    assert_eq!(container.wait().unwrap().outcome, Outcome::Killed { signal: Signal::TERM });
}

#[test]
fn every_process_gets_what_is_sent_to_all() {
    let stage = Stage::new();
    let looping = |trap: &str| format!("trap '{trap}' USR1; echo ready; while :; do sleep 1000 & wait; done");
    let builder = stage.shell("all", &looping("echo init")).stdout(Stdio::piped());
    let mut container = builder.build().unwrap().create().unwrap().start().unwrap();
    let exec = Exec::new(["sh", "-c", &looping("exit 4")]).stdout(Stdio::piped());
    let mut process = container.exec(exec).unwrap();
    let mut of_init = BufReader::new(container.take_stdout().unwrap()).lines().map(Result::unwrap);
    let mut of_process = BufReader::new(process.take_stdout().unwrap()).lines().map(Result::unwrap);
    assert_eq!((of_init.next().as_deref(), of_process.next().as_deref()), (Some("ready"), Some("ready")));
    container.signal_all(Signal::USR1).unwrap();
    // Init first ends nobody, so nobody can end of init.
    assert_eq!(of_init.next().as_deref(), Some("init"));
    assert_eq!(process.wait().unwrap().outcome, Outcome::Exited { code: 4 });
}

#[test]
fn kill_to_all_returns_when_all_are_gone() {
    let stage = Stage::new();
    let container = running(&stage, "killall", "sleep 1000 & sleep 1000 & sleep 1000");
    let host_pid = container.init_pid();
    container.signal_all(Signal::KILL).unwrap();
    assert_eq!(container.wait().unwrap().outcome, Outcome::Killed { signal: Signal::KILL });
    assert!(!std::path::Path::new(&format!("/proc/{host_pid}")).exists());
}

#[test]
fn one_process_is_signalled_by_its_pid_inside() {
    let stage = Stage::new();
    let container = running(&stage, "one", "sleep 1000; sleep 1000");
    let process = container.exec(Exec::new(["sleep", "1000"])).unwrap();
    container.signal_process(process.pid_inside(), Signal::TERM).unwrap();
    let outcome = process.wait().unwrap().outcome;
    assert_eq!(outcome, Outcome::Signalled { signal: Signal::TERM, core_dumped: false });
    let error = container.signal_process(4000, Signal::TERM).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("has no process 4000"), "{error}");
    for pid in [0, -1] {
        assert_eq!(*container.signal_process(pid, Signal::TERM).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    container.signal_process(1, Signal::TERM).unwrap();
    assert_eq!(container.wait().unwrap().outcome, Outcome::Killed { signal: Signal::TERM });
}

#[test]
fn a_process_group_is_signalled_and_no_other() {
    let stage = Stage::new();
    let container = running(&stage, "group", "sleep 1000; true");
    let group = container.exec(Exec::new(["sh", "-c", "sleep 1000 & sleep 1000; true"])).unwrap();
    let other = container.exec(Exec::new(["sleep", "1000"])).unwrap();
    container.signal_process_group(group.pid_inside(), Signal::KILL).unwrap();
    assert!(matches!(group.wait().unwrap().outcome, Outcome::Signalled { signal: Signal::KILL, .. }));
    assert_eq!(other.try_wait().unwrap(), None);
    let error = container.signal_process_group(999, Signal::KILL).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound);
    assert!(count(&container).parse::<u32>().unwrap() >= 5);
}

#[test]
fn without_a_terminal_there_is_no_foreground() {
    let stage = Stage::new();
    let container = running(&stage, "foreground", "sleep 1000; true");
    let error = container.signal_foreground(1, Signal::INT).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("no terminal"), "{error}");
}

#[test]
fn a_loaded_container_is_signalled_too_and_a_stopped_one_is_an_error() {
    let stage = Stage::new();
    let container = running(&stage, "loaded", "sleep 1000; true");
    let loaded = AnyContainer::load(stage.root(), container.id().as_str()).unwrap();
    loaded.signal_all(Signal::KILL).unwrap();
    container.wait().unwrap();
    let loaded = AnyContainer::load(stage.root(), container.id().as_str()).unwrap();
    assert!(matches!(loaded.signal(Signal::TERM).unwrap_err().kind(), ErrorKind::WrongState { .. }));
}

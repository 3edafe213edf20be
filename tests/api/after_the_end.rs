//! Operations on a value whose container has ended meanwhile: each error says so, and how the container ended.

use crate::kit::{Stage, stage, start};
use cofferdam::oci_spec::runtime::LinuxResources;
use cofferdam::{
    AnyContainer, Container, Error, ErrorKind, Exec, Outcome, Paused, Result, Running, Signal, Stdio,
};

/// The name of an operation in errors, and the operation.
type Operation = (&'static str, fn(&Container<Running>) -> Result<()>);

const OPERATIONS: &[Operation] = &[
    ("exec", |container| container.exec(Exec::new(["true"])).map(drop)),
    ("exec", |container| container.exec_output(Exec::new(["true"])).map(drop)),
    ("wait", |container| container.wait_pid(5).map(drop)),
    ("signal", |container| container.signal(Signal::TERM)),
    ("signal", |container| container.signal_all(Signal::TERM)),
    ("signal", |container| container.signal_process(1, Signal::TERM)),
    ("signal", |container| container.signal_process_group(1, Signal::TERM)),
    ("signal", |container| container.signal_foreground(1, Signal::TERM)),
    ("processes", |container| container.processes().map(drop)),
    ("stats", |container| container.stats().map(drop)),
    ("files", |container| container.files().map(drop)),
    ("mount", |container| container.mount_tmpfs("/mnt", 1 << 20)),
    ("mount", |container| container.mount_bind_ro("/etc", "/mnt")),
    ("unmount", |container| container.unmount("/mnt")),
];

fn check(error: &Error, step: &str, container: &str, how: &str) {
    assert_eq!(*error.kind(), ErrorKind::Ended, "{error}");
    assert_eq!(error.to_string(), format!("{step}: container {container:?} has ended: {how}"));
}

/// A container whose program exits with code 3 when its standard input is closed.
fn ends_with_3(stage: &Stage, name: &str) -> Container<Running> {
    start(stage.shell(name, "cat; exit 3").stdin(Stdio::piped()))
}

/// Waits for the end of `container`, and then tries every operation on it.
fn everything_is_too_late(mut container: Container<Running>) {
    let id = container.id().to_string();
    let files = container.files().unwrap();
    let process = container.exec(Exec::new(["sleep", "1000"])).unwrap();
    assert_eq!(container.wait().unwrap().outcome, Outcome::Exited { code: 3 });
    let how = "it exited with code 3";
    for (step, operation) in OPERATIONS {
        check(&operation(&container).expect_err(step), step, &id, how);
    }
    check(&files.read("/etc/passwd", 1 << 20).unwrap_err(), "files", &id, how);
    check(&container.update(&LinuxResources::default()).unwrap_err(), "update", &id, how);
    assert!(matches!(process.wait().unwrap().outcome, Outcome::Signalled { signal: Signal::KILL, .. }));
    let (error, recovered) = container.pause().unwrap_err().into_parts();
    check(&error, "pause", &id, how);
    let cofferdam::typestate::Recovered::Moved(stopped) = recovered else { panic!("{recovered:?}") };
    stopped.delete(false).unwrap();
}

#[test]
fn every_operation_is_ended_and_says_how() {
    let stage = stage!();
    everything_is_too_late(ends_with_3(&stage, "own"));
}

#[test]
fn every_operation_on_a_loaded_value_is_ended_and_says_how() {
    let stage = stage!();
    let container = ends_with_3(&stage, "loaded");
    let loaded = AnyContainer::load(stage.root(), container.id().as_str()).unwrap();
    let loaded: Container<Running> = loaded.into_phase().unwrap();
    container.wait().unwrap();
    everything_is_too_late_when_loaded(&loaded);
    container.wait_stopped().unwrap().delete().unwrap();
    let error = loaded.exec(Exec::new(["true"])).unwrap_err();
    let problem = format!("exec: container {:?} has ended and was deleted", loaded.id().as_str());
    assert_eq!((error.kind(), error.to_string()), (&ErrorKind::Ended, problem));
}

fn everything_is_too_late_when_loaded(container: &Container<Running>) {
    for (step, operation) in OPERATIONS {
        check(&operation(container).expect_err(step), step, container.id().as_str(), "it exited with code 3");
    }
}

#[test]
fn a_member_of_a_pod_ends_by_itself_and_says_so() {
    let stage = stage!();
    let root = start(stage.container("pod").args(["sleep", "1000"]));
    let member = stage.shell("member", "cat; exit 3").stdin(Stdio::piped()).in_pod(root.id());
    everything_is_too_late(start(member));
}

#[test]
fn every_operation_says_that_a_killed_sandbox_is_lost() {
    let stage = stage!();
    let container = start(stage.container("lost").args(["sleep", "1000"]));
    let id = container.id().to_string();
    let process = container.exec(Exec::new(["sleep", "1000"])).unwrap();
    let sandbox = rustix::process::Pid::from_raw(container.sandbox_pid()).unwrap();
    rustix::process::kill_process(sandbox, rustix::process::Signal::KILL).unwrap();
    let how = "it was lost with its sandbox or gofer";
    check(&process.wait().unwrap_err(), "wait", &id, how);
    check(&container.exec(Exec::new(["true"])).unwrap_err(), "exec", &id, how);
    check(&container.signal(Signal::TERM).unwrap_err(), "signal", &id, how);
}

#[test]
fn a_resume_says_how_a_paused_container_was_killed() {
    let stage = stage!();
    let paused: Container<Paused> = start(stage.container("paused").args(["sleep", "1000"])).pause().unwrap();
    let id = paused.id().to_string();
    paused.signal(Signal::KILL).unwrap();
    paused.wait().unwrap();
    check(paused.resume().unwrap_err().error(), "resume", &id, "it was killed by SIGKILL");
}

//! Signals: to init, to all, to one process, to a group, to a terminal's foreground.

use crate::kit::{Stage, is_root, skip, stage};
use cofferdam::oci_spec::runtime::Capability;
use cofferdam::{AnyContainer, Container, ErrorKind, Exec, Outcome, Running, Signal, Stdio};
use std::io::{BufRead, BufReader};

fn running(stage: &Stage, name: &str, script: &str) -> Container<Running> {
    stage.shell(name, script).build().unwrap().create().unwrap().start().unwrap()
}

/// How many processes the container has, the counting one included.
fn count(container: &Container<Running>) -> String {
    let counting = Exec::new(["sh", "-c", "set -- /proc/[0-9]*; echo $#"]);
    String::from_utf8(container.exec_output(counting).unwrap().stdout).unwrap().trim().to_owned()
}

#[test]
fn sigterm_ends_an_init_that_never_heard_of_it() {
    let stage = stage!();
    let container = running(&stage, "term", "sleep 1000; true");
    container.signal(Signal::TERM).unwrap();
    assert_eq!(container.wait().unwrap().outcome, Outcome::Killed { signal: Signal::TERM });
}

#[test]
fn every_process_gets_what_is_sent_to_all() {
    let stage = stage!();
    let looping = |trap: &str| format!("trap '{trap}' USR1; echo ready; while :; do sleep 1000 & wait; done");
    let builder = stage.shell("all", &looping("echo init")).stdout(Stdio::piped());
    let mut container = builder.build().unwrap().create().unwrap().start().unwrap();
    let exec = Exec::new(["sh", "-c", &looping("exit 4")]).stdout(Stdio::piped());
    let mut process = container.exec(exec).unwrap();
    let mut of_init = BufReader::new(container.take_stdout().unwrap()).lines().map(Result::unwrap);
    let mut of_process = BufReader::new(process.take_stdout().unwrap()).lines().map(Result::unwrap);
    assert_eq!((of_init.next().as_deref(), of_process.next().as_deref()), (Some("ready"), Some("ready")));
    container.signal_all(Signal::USR1).unwrap();
    // The signal does not end init, and init's end would have ended the other process.
    assert_eq!(of_init.next().as_deref(), Some("init"));
    assert_eq!(process.wait().unwrap().outcome, Outcome::Exited { code: 4 });
}

#[test]
fn kill_to_all_returns_when_all_are_gone() {
    let stage = stage!();
    let container = running(&stage, "killall", "sleep 1000 & sleep 1000 & sleep 1000");
    let host_pid = container.init_pid();
    container.signal_all(Signal::KILL).unwrap();
    assert_eq!(container.wait().unwrap().outcome, Outcome::Killed { signal: Signal::KILL });
    assert!(!std::path::Path::new(&format!("/proc/{host_pid}")).exists());
}

#[test]
fn one_process_is_signalled_by_its_pid_inside() {
    let stage = stage!();
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
    container.signal_process(2, Signal::TERM).unwrap();
    assert_eq!(container.wait().unwrap().outcome, Outcome::Killed { signal: Signal::TERM });
}

#[test]
fn a_process_group_is_signalled_and_no_other() {
    let stage = stage!();
    let container = running(&stage, "group", "sleep 1000; true");
    let group = container.exec(Exec::new(["sh", "-c", "sleep 1000 & sleep 1000; true"])).unwrap();
    let other = container.exec(Exec::new(["sleep", "1000"])).unwrap();
    container.signal_process_group(group.pid_inside(), Signal::KILL).unwrap();
    assert!(matches!(group.wait().unwrap().outcome, Outcome::Signalled { signal: Signal::KILL, .. }));
    assert_eq!(other.try_wait().unwrap(), None);
    let error = container.signal_process_group(999, Signal::KILL).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound);
    assert!(count(&container).parse::<u32>().unwrap() >= 3);
}

#[test]
fn without_a_terminal_there_is_no_foreground() {
    let stage = stage!();
    let container = running(&stage, "foreground", "sleep 1000; true");
    let error = container.signal_foreground(2, Signal::INT).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("no terminal"), "{error}");
}

#[test]
fn a_loaded_container_is_signalled_too_and_a_stopped_one_is_an_error() {
    let stage = stage!();
    let container = running(&stage, "loaded", "sleep 1000; true");
    let loaded = AnyContainer::load(stage.root(), container.id().as_str()).unwrap();
    loaded.as_alive().unwrap().signal_all(Signal::KILL).unwrap();
    container.wait().unwrap();
    let loaded = AnyContainer::load(stage.root(), container.id().as_str()).unwrap();
    assert_eq!(*loaded.as_alive().unwrap_err().kind(), ErrorKind::Ended);
}

#[test]
fn a_process_that_is_covered_in_the_containers_proc_gets_what_is_sent_to_all() {
    let stage = stage!();
    let container = running(&stage, "pod", "sleep 1000; true");
    let member = container.pod().container(stage.id("member")).share_pid_namespace();
    let member = member.args(["sleep", "1000"]).grant_capabilities([Capability::SysAdmin].into());
    let member = member.build().unwrap().create().unwrap().start().unwrap();
    let hidden = member.exec(Exec::new(["sleep", "1000"])).unwrap();
    let pid = hidden.pid_inside();
    let cover = format!("mount -t tmpfs covered /proc/{pid} && ! test -e /proc/{pid}/stat");
    let covering = member.exec_output(Exec::new(["sh", "-c", &cover])).unwrap();
    assert!(covering.exit.outcome.success(), "{covering:?}");
    assert!(member.processes().unwrap().iter().any(|process| process.pid == pid));
    member.signal_process(pid, Signal::CONT).unwrap();
    member.signal_all(Signal::KILL).unwrap();
    assert!(matches!(hidden.wait().unwrap().outcome, Outcome::Signalled { signal: Signal::KILL, .. }));
    assert!(container.try_wait().unwrap().is_none());
}

#[test]
fn all_processes_of_a_container_in_the_hosts_pid_namespace_are_none_of_ours() {
    if !is_root() {
        skip!("a proc of the host's pid namespace is mounted by root only");
    }
    let stage = stage!();
    let script = "trap 'echo got' USR1; echo ready; while :; do sleep 1000 & wait $!; kill $!; done";
    let builder = stage
        .shell("host-pids", script)
        .share_pid_namespace()
        .without_user_namespace()
        .stdout(Stdio::piped());
    let mut container = builder.build().unwrap().create().unwrap().start().unwrap();
    let mut lines = BufReader::new(container.take_stdout().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let files = container.files().unwrap();
    files.stat("/tmp").unwrap();
    let listed = container.processes().unwrap();
    assert!(listed.iter().all(|process| !process.command().contains("cofferdam")), "{listed:?}");
    container.signal_all(Signal::USR1).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "got");
    files.stat("/tmp").unwrap();
    let error = container.signal_process(container.sandbox_pid(), Signal::KILL).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound);
    container.signal_all(Signal::KILL).unwrap();
    assert_eq!(container.wait().unwrap().outcome, Outcome::Killed { signal: Signal::KILL });
    assert_eq!(lines.next().map(Result::unwrap), None, "it was told once");
}

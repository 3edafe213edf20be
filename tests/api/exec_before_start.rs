//! Further processes in a container that was created and not started: beside init, which waits.

use crate::kit::{Stage, is_readable_within, stage, start};
use cofferdam::oci_spec::runtime::Capability;
use cofferdam::{AnyContainer, Container, Created, ErrorKind, Exec, Outcome, Signal, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

fn created(stage: &Stage, name: &str, script: &str) -> Container<Created> {
    stage.busybox_shell(name, script).stdout(Stdio::piped()).build().unwrap().create().unwrap()
}

fn said(container: &Container<Created>, script: &str) -> String {
    let output = container.exec_output(Exec::new(["sh", "-c", script])).unwrap();
    assert!(output.exit.outcome.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_process_shares_every_namespace_with_an_init_that_waits() {
    let stage = stage!();
    for init in [true, false] {
        let builder = stage.busybox_shell("shares", "exec sleep 1000").init(init);
        let container = builder.build().unwrap().create().unwrap();
        let script = "for n in cgroup ipc mnt net pid user uts; do readlink /proc/$1/ns/$n; done";
        let of = |pid: &str| {
            let exec = Exec::new(["sh", "-c", script, "sh", pid]);
            let exec = exec.capabilities([Capability::SysPtrace].into());
            container.exec_output(exec).unwrap().stdout
        };
        let waits = if init { "2" } else { "1" };
        let (own, its) = (of("self"), of(waits));
        assert_eq!(String::from_utf8(own).unwrap(), String::from_utf8(its).unwrap());
        let table = container.processes().unwrap();
        assert_eq!(table.iter().map(|process| process.pid.to_string()).collect::<Vec<_>>(), [waits]);
        assert_eq!(container.status().to_string(), "created");
        container.kill().unwrap().delete().unwrap();
    }
}

#[test]
fn what_it_prepares_is_there_when_the_workload_starts() {
    let stage = stage!();
    let mut container = created(&stage, "prepares", "cat /tmp/prepared; exec sleep 1000");
    said(&container, "echo before > /tmp/prepared");
    let goes_on = container.exec(Exec::new(["sleep", "1000"])).unwrap();
    let stdout = container.take_stdout().unwrap();
    let running = container.start().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    assert_eq!(line, "before\n");
    assert_eq!(goes_on.try_wait().unwrap(), None, "it outlives the start");
    let pid = goes_on.pid_inside();
    drop(goes_on);
    running.signal_process(pid, Signal::TERM).unwrap();
    let outcome = running.wait_pid(pid).unwrap().outcome;
    assert_eq!(outcome, Outcome::Signalled { signal: Signal::TERM, core_dumped: false });
    let stopped = running.kill().unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Killed { signal: Signal::KILL });
}

#[test]
fn its_end_is_no_end_of_the_container_and_the_containers_end_is_its() {
    let stage = stage!();
    let container = created(&stage, "ends", "exit 7");
    for script in ["exit 3", "kill -KILL $$"] {
        let end = container.exec(Exec::new(["sh", "-c", script])).unwrap().wait().unwrap();
        assert!(!end.outcome.success(), "{end:?}");
        assert_eq!(container.try_wait().unwrap(), None);
    }
    let error = container.exec(Exec::new(["nosuch"])).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::ProgramNotFound);
    let lives = container.exec(Exec::new(["sleep", "1000"])).unwrap();
    let stopped = container.kill().unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::NeverStarted);
    let end = lives.wait().unwrap();
    assert_eq!(end.outcome, Outcome::Signalled { signal: Signal::KILL, core_dumped: false });
    stopped.delete().unwrap();
}

#[test]
fn a_created_container_that_is_deleted_takes_its_processes_along() {
    let stage = stage!();
    let mut container = created(&stage, "deleted", "exit 7");
    container.detach().unwrap();
    let loaded = AnyContainer::load(stage.root(), container.id().as_str()).unwrap();
    let lives = loaded.as_enterable().unwrap().exec(Exec::new(["sleep", "1000"])).unwrap();
    let pidfd = lives.pidfd().try_clone_to_owned().unwrap();
    loaded.delete(true).unwrap();
    assert!(is_readable_within(&pidfd, LIMIT), "its process is gone");
    assert!(is_readable_within(&lives, LIMIT), "its end is told");
    match lives.wait() {
        Ok(end) => assert!(!end.outcome.success(), "{end:?}"),
        // The sandbox was killed first.
        Err(error) => assert_eq!(*error.kind(), ErrorKind::Ended, "{error}"),
    }
}

#[test]
fn a_member_of_a_pod_is_entered_before_its_start_too() {
    let stage = stage!();
    let pod = start(stage.busybox_shell("pod", "exec sleep 1000"));
    let member = pod.pod().container(stage.id("member")).args(["sleep", "1000"]).build().unwrap();
    let member = member.create().unwrap();
    let hostname = |container: &Container<Created>| said(container, "hostname");
    assert_eq!(
        hostname(&member),
        String::from_utf8(pod.exec_output(Exec::new(["hostname"])).unwrap().stdout).unwrap()
    );
    let lives = member.exec(Exec::new(["sleep", "1000"])).unwrap();
    let stopped = member.kill().unwrap();
    assert!(!lives.wait().unwrap().outcome.success());
    assert_eq!(pod.try_wait().unwrap(), None);
    stopped.delete().unwrap();
}

#[test]
fn one_that_takes_all_memory_leaves_the_container_to_be_started() {
    let stage = stage!();
    if !crate::kit::may_limit("memory") {
        crate::kit::skip!("this user may not limit memory here");
    }
    let builder = stage.busybox_shell("memory", "exit 7").memory_limit(32 << 20);
    let container = builder.build().unwrap().create().unwrap();
    let exec = Exec::new(["sh", "-c", "exec tail /dev/zero"]);
    let output = container.exec_output(exec).unwrap();
    assert_eq!(output.exit.outcome, Outcome::OutOfMemory);
    let stopped = container.start().unwrap().wait_stopped().unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Exited { code: 7 });
}

//! The reaper as PID 1 of a container: what it does for the program, and what others see of it.

use crate::kit::{Stage, is_readable_within, is_root, skip, stage, start, status_line, stdout_of};
use cofferdam::oci_spec::runtime::Capability;
use cofferdam::{Container, ErrorKind, Exec, Outcome, Rootfs, Running, Signal, Stdio};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{BufRead, BufReader};
use std::time::Duration;

/// The outcome of a container that runs `script`.
fn outcome(stage: &Stage, name: &str, script: &str) -> Outcome {
    stage.shell(name, script).run().unwrap().outcome
}

fn number(number: i32) -> Signal {
    Signal::new(number).unwrap()
}

fn signalled(signal: Signal) -> Outcome {
    Outcome::Signalled { signal, core_dumped: false }
}

/// The host's pid of PID 1 in this container: the child of the sandbox that is not the program.
fn reaper_of(container: &Container<Running>) -> i32 {
    let sandbox = container.sandbox_pid();
    let children = std::fs::read_to_string(format!("/proc/{sandbox}/task/{sandbox}/children")).unwrap();
    let mut pids = children.split_whitespace().map(|pid| pid.parse().unwrap());
    pids.find(|pid: &i32| status_line(&pid.to_string(), "NSpid").ends_with(" 1")).expect("PID 1")
}

#[test]
fn orphans_of_many_execs_are_collected() {
    let stage = stage!();
    let builder = stage.container("orphans").args(["sleep", "1000"]);
    let builder = if crate::kit::may_limit("pids") { builder.pids_limit(64) } else { builder };
    let container = start(builder);
    for _ in 0..200 {
        let exec = Exec::new(["sh", "-c", "(true & true &) ; sleep 0.001 & exit 3"]);
        assert_eq!(container.exec(exec).unwrap().wait().unwrap().outcome, Outcome::Exited { code: 3 });
    }
    let zombies = Exec::new(["sh", "-c", "while grep -l '^State:.Z' /proc/[0-9]*/status; do :; done"]);
    assert!(container.exec(zombies).unwrap().wait().unwrap().outcome.success());
}

#[test]
fn a_program_that_aborts_dies_of_sigabrt() {
    let stage = stage!();
    assert_eq!(
        outcome(&stage, "abort", "ulimit -c 0; kill -ABRT $$; echo still here"),
        signalled(number(libc::SIGABRT))
    );
}

#[test]
fn a_program_that_kills_itself_dies_of_sigkill() {
    let stage = stage!();
    assert_eq!(outcome(&stage, "kill", "kill -9 $$; echo still here"), signalled(Signal::KILL));
}

#[test]
fn sigalrm_ends_a_program_without_a_handler() {
    let stage = stage!();
    assert_eq!(outcome(&stage, "alarm", "kill -ALRM $$; echo still here"), signalled(number(libc::SIGALRM)));
}

#[test]
fn a_file_that_becomes_too_large_ends_the_program() {
    let stage = stage!();
    // `echo` is a builtin, so the first process itself writes.
    let script =
        "ulimit -c 0; ulimit -f 1; while :; do echo 0123456789012345678901234567890; done > /tmp/file";
    assert_eq!(outcome(&stage, "xfsz", script), signalled(number(libc::SIGXFSZ)));
}

#[test]
fn without_an_init_the_program_is_pid_1() {
    let stage = stage!();
    let pid = |name: &str, init| stdout_of(stage.shell(name, "echo $$ $PPID").init(init));
    assert_eq!(pid("with", true), "2 0");
    assert_eq!(pid("without", false), "1 0");
    assert_eq!(stdout_of(stage.shell("default", "echo $$ $PPID")), "2 0");
    let bundle = stage.path().join("bundle");
    stage.busybox_shell("to", "echo $$").to_bundle(&bundle).unwrap();
    let from = |name: &str, bundle| stage.bundled(name, bundle).unwrap();
    assert_eq!(stdout_of(from("from", &bundle)), "1");
    assert_eq!(stdout_of(from("from-with", &bundle).init(true)), "2");
    let bundle = stage.path().join("asked");
    stage.busybox_shell("to", "echo $$").init(true).to_bundle(&bundle).unwrap();
    assert_eq!(stdout_of(from("asked", &bundle)), "2");
}

#[test]
fn an_init_needs_a_pid_namespace_of_its_own() {
    let stage = stage!();
    let container = start(stage.container("root").args(["sleep", "1000"]));
    let member =
        || container.pod().container(stage.id("member")).share_pid_namespace().args(["sh", "-c", "echo $$"]);
    let joining = format!("/proc/{}/ns/pid", container.init_pid());
    let joining = || stage.container("joining").join_pid_namespace(&joining).args(["true"]);
    for refused in [member(), joining()] {
        let error = refused.init(true).build().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("ContainerBuilder::init"), "{error}");
    }
    // By default such a container has no reaper.
    assert_ne!(stdout_of(member()), "2");
    let own = container.pod().container(stage.id("own")).args(["sh", "-c", "echo $$"]);
    assert_eq!(stdout_of(own), "2");
    let own = container.pod().container(stage.id("without")).args(["sh", "-c", "echo $$"]);
    assert_eq!(stdout_of(own.init(false)), "1");
}

#[test]
fn a_killed_init_takes_everything_along_and_the_outcome_says_lost() {
    let stage = stage!();
    let container = start(stage.shell("lost", "sleep 1000 & sleep 1000"));
    let exec = container.exec(Exec::new(["sleep", "1000"])).unwrap();
    if rustix::process::kill_process(
        Pid::from_raw(reaper_of(&container)).unwrap(),
        rustix::process::Signal::KILL,
    )
    .is_err()
    {
        skip!("this user may not kill the init");
    }
    let exit = container.wait_timeout(Duration::from_secs(20)).unwrap().expect("it ends");
    assert_eq!(exit.outcome, Outcome::Lost);
    assert_eq!(exec.wait().unwrap().outcome, signalled(Signal::KILL));
    container.wait_stopped().unwrap().delete().unwrap();
}

#[test]
fn an_init_that_is_killed_before_the_start_leaves_a_container_that_never_ran() {
    let stage = stage!();
    let created = stage.container("early").args(["true"]).build().unwrap().create().unwrap();
    let sandbox = created.sandbox_pid();
    let children = std::fs::read_to_string(format!("/proc/{sandbox}/task/{sandbox}/children")).unwrap();
    let reaper =
        children.split_whitespace().map(|pid| pid.parse().unwrap()).find(|pid| *pid != created.init_pid());
    let reaper = Pid::from_raw(reaper.unwrap()).unwrap();
    if rustix::process::kill_process(reaper, rustix::process::Signal::KILL).is_err() {
        skip!("this user may not kill the init");
    }
    assert_eq!(created.wait().unwrap().outcome, Outcome::NeverStarted);
    let failed = created.start().unwrap_err();
    assert_eq!(*failed.error().kind(), ErrorKind::Ended, "{failed}");
}

#[test]
fn the_end_of_the_program_is_the_end_of_everything_inside() {
    let stage = stage!();
    let script = "sleep 1000 & echo ready; read line; exit 7";
    let builder = stage.shell("end", script).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut created = builder.build().unwrap().create().unwrap();
    let mut said = BufReader::new(created.take_stdout().unwrap()).lines();
    let stdin = created.take_stdin().unwrap();
    let container = created.start().unwrap();
    assert_eq!(said.next().unwrap().unwrap(), "ready");
    let exec = container.exec(Exec::new(["sleep", "1000"])).unwrap();
    let reaper = pidfd_open(Pid::from_raw(reaper_of(&container)).unwrap(), PidfdFlags::empty()).unwrap();
    drop(stdin);
    let stopped = container.wait_stopped().unwrap();
    assert!(is_readable_within(&reaper, Duration::ZERO), "the exit record is written when all have ended");
    assert_eq!(stopped.exit().outcome, Outcome::Exited { code: 7 });
    assert_eq!(exec.wait().unwrap().outcome, signalled(Signal::KILL));
    assert!(said.next().is_none(), "no process has the stream open");
    stopped.delete().unwrap();
}

#[test]
fn signals_reach_the_program_and_its_processes_and_not_the_init() {
    let stage = stage!();
    let script = "trap 'exit 5' TERM; echo ready; while :; do sleep 1000 & wait; done";
    let mut created =
        stage.shell("signals", script).stdout(Stdio::piped()).build().unwrap().create().unwrap();
    let mut said = BufReader::new(created.take_stdout().unwrap()).lines();
    let container = created.start().unwrap();
    assert_eq!(said.next().unwrap().unwrap(), "ready");
    let listed = container.processes().unwrap();
    assert!(listed.iter().all(|process| process.pid != 1), "{listed:?}");
    let error = container.signal_process(1, Signal::TERM).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound, "{error}");
    // A process inside cannot signal it either.
    let kill = Exec::new(["sh", "-c", "kill -9 1; kill -TERM 1; kill -CHLD 1; kill -STOP 1; kill -0 1"]);
    assert!(container.exec(kill).unwrap().wait().unwrap().outcome.success());
    container.signal_all(Signal::TERM).unwrap();
    assert_eq!(container.wait().unwrap().outcome, Outcome::Exited { code: 5 });
}

#[test]
fn a_signal_without_a_handler_ends_the_program_and_is_the_outcome() {
    let stage = stage!();
    let container = start(stage.container("term").args(["sleep", "1000"]));
    container.signal(Signal::TERM).unwrap();
    assert_eq!(container.wait().unwrap().outcome, Outcome::Killed { signal: Signal::TERM });
}

#[test]
fn kill_to_all_ends_the_container() {
    let stage = stage!();
    let container = start(stage.shell("all", "sleep 1000 & sleep 1000"));
    container.signal_all(Signal::KILL).unwrap();
    assert_eq!(container.wait().unwrap().outcome, Outcome::Killed { signal: Signal::KILL });
}

#[test]
fn a_paused_container_with_an_init_ends_when_it_is_killed() {
    let stage = stage!();
    for (name, freezer) in [("frozen", true), ("stopped", false)] {
        let builder = stage.shell(name, "sleep 1000 & sleep 1000");
        let container = start(if freezer { builder } else { builder.without_cgroup() });
        let paused = container.pause().unwrap();
        let resumed = paused.resume().unwrap();
        let paused = resumed.pause().unwrap();
        assert_eq!(paused.kill().unwrap().exit().outcome, Outcome::Killed { signal: Signal::KILL });
    }
}

#[test]
fn the_init_of_a_member_dies_with_a_sandbox_in_the_hosts_pid_namespace() {
    if !is_root() {
        skip!("a proc of the host's pid namespace is mounted by root only");
    }
    let stage = stage!();
    let root = stage.container("host-pids").share_pid_namespace().without_user_namespace();
    let root = start(root.args(["sleep", "1000"]));
    let member = root.pod().container(stage.id("member")).args(["sh", "-c", "sleep 1000 & wait"]);
    let member = start(member);
    let reaper = pidfd_open(Pid::from_raw(reaper_of(&member)).unwrap(), PidfdFlags::empty()).unwrap();
    rustix::process::kill_process(Pid::from_raw(root.sandbox_pid()).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    assert!(is_readable_within(&reaper, Duration::from_secs(20)), "nothing of the member goes on");
}

#[test]
fn a_container_that_mounts_and_traces_sees_only_its_own_in_its_init() {
    let stage = stage!();
    // Compares namespaces, network devices and mounts of PID 1 with those of the program.
    let script = "for n in cgroup ipc mnt net pid user uts; do
        [ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] || echo $n; done
        cmp /proc/1/net/dev /proc/self/net/dev && cmp /proc/1/mountinfo /proc/self/mountinfo && echo same";
    let all = [Capability::SysAdmin, Capability::SysPtrace].into();
    let builder = stage.shell("namespaces", script).grant_capabilities(all);
    assert_eq!(stdout_of(builder), "same");
}

#[test]
fn an_init_works_on_a_root_directory_with_nothing_but_the_program() {
    let stage = stage!();
    let builder = stage.container("busybox").rootfs(Rootfs::directory(stage.busybox()));
    assert_eq!(stdout_of(builder.args(["cat", "/proc/1/comm", "/proc/1/cmdline"])), "init\ninit\0");
}

//! A container whose workload may trace, and holds what its host executes in it: it takes every process that it can see,
//! and never collects one that has ended. Until a tracer does, the kernel hides the end from the parent (ptrace(2)).

#![expect(unsafe_code, reason = "no safe crate traces processes that it has not started")]

use crate::kit::{await_end, stage, start};
use cofferdam::oci_spec::runtime::Capability;
use cofferdam::{Container, ContainerBuilder, Exec, Outcome, Running, Stdio};
use std::io::{BufRead, BufReader, Write};
use std::time::{Duration, Instant};

/// What the environment of the tracer names.
const TRACE: &str = "TRACE";
/// Longer than any operation here takes.
const SOON: Duration = Duration::from_secs(15);
/// How long an execution may take, if it does not end.
const LIMIT: Duration = Duration::from_secs(2);

/// Starts the tracer, and waits until it traces.
fn start_tracer(builder: ContainerBuilder) -> Container<Running> {
    let args = ["/tmp/tracer", "--exact", "hostile_tracer::traces_when_told_to", "--nocapture"];
    let builder = builder.args(args).env(TRACE, "1").bind_ro(std::env::current_exe().unwrap(), "/tmp/tracer");
    let (reader, writer) = std::io::pipe().unwrap();
    let builder = builder.grant_capabilities([Capability::SysPtrace].into());
    let running = start(builder.stdout(Stdio::fd(writer)).stderr(Stdio::inherit()));
    let lines = BufReader::new(reader).lines().map_while(Result::ok);
    assert!(lines.into_iter().any(|line| line == "traces"), "the tracer failed");
    running
}

/// Not a test but the program in a container: holds every other process but the first.
#[test]
fn traces_when_told_to() {
    if std::env::var_os(TRACE).is_none() {
        return;
    }
    std::io::stdout().write_all(b"\ntraces\n").unwrap();
    let own = i32::try_from(std::process::id()).unwrap();
    loop {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            if pid != own {
                // SAFETY: seizing takes numbers only. It stops nothing, and this process never waits.
                unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) };
            }
        }
    }
}

/// That an execution ends in time, though what was executed is held.
fn executes(container: &Container<Running>) {
    for round in 0..3 {
        let begun = Instant::now();
        let held = container.exec_output(Exec::new(["sleep", "1000"]).timeout(LIMIT)).unwrap();
        assert_eq!(held.exit.outcome, Outcome::TimedOut { after: LIMIT }, "round {round}");
        // Long enough for the tracer to see it, and without a child, whose end the tracer would hide from it.
        let ended = container.exec_output(Exec::new(["sleep", "0.3"]).timeout(SOON)).unwrap();
        assert_eq!(ended.exit.outcome, Outcome::Exited { code: 0 }, "round {round}");
        assert!(begun.elapsed() < SOON, "round {round}: after {:?}", begun.elapsed());
    }
}

#[test]
fn a_tracer_that_holds_what_is_executed_holds_no_one_else() {
    let stage = stage!();
    let container = start_tracer(stage.container("tracer"));
    executes(&container);
    container.files().unwrap().write("/tmp/file", "text", 0o600).unwrap();
    container.stats().unwrap();
    let sandbox = container.sandbox_pid();
    container.kill().unwrap().delete().unwrap();
    await_end(sandbox);
}

#[test]
fn a_tracer_in_a_pod_with_one_pid_namespace_holds_no_other_container() {
    let stage = stage!();
    let pod = start(stage.container("pod").args(["sleep", "1000"]));
    let tracer = start_tracer(pod.pod().container(stage.id("tracer")).share_pid_namespace());
    let member = |name: &str, script: &str| {
        pod.pod().container(stage.id(name)).share_pid_namespace().args(["sh", "-c", script])
    };
    let begun = Instant::now();
    let victim = start(member("victim", "exec sleep 0.3"));
    // What is executed beside the tracer's victim is held, too.
    executes(&pod);
    assert_eq!(victim.wait().unwrap().outcome, Outcome::Exited { code: 0 });
    let other = start(member("other", "sleep 1000"));
    other.kill().unwrap().delete().unwrap();
    assert!(begun.elapsed() < 2 * SOON, "after {:?}", begun.elapsed());
    let sandbox = pod.sandbox_pid();
    tracer.kill().unwrap().delete().unwrap();
    pod.kill().unwrap().delete().unwrap();
    await_end(sandbox);
}

//! A container whose workload may trace, and holds what its host executes in it: it takes every process that it can see,
//! and never collects one that has ended. Until a tracer does, the kernel hides the end from the parent (ptrace(2)).

#![expect(unsafe_code, reason = "no safe crate traces processes that it has not started")]
#![expect(clippy::multiple_unsafe_ops_per_block, reason = "calls of one purpose, in their order")]

use crate::kit::{Stage, await_end, stage, start};
use cofferdam::oci_spec::runtime::Capability;
use cofferdam::{Container, ContainerBuilder, Exec, Outcome, Running, Stdio};
use rustix::net::sockopt::socket_type;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketType, sendmsg};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// What the environment of the tracer names.
const TRACE: &str = "TRACE";
/// Longer than any operation here takes.
const SOON: Duration = Duration::from_secs(15);
/// How long an execution may take, if it does not end.
const LIMIT: Duration = Duration::from_secs(2);

/// Starts the tracer, and waits until it traces. Also returns what else it says.
fn start_tracer(builder: ContainerBuilder, how: &str) -> (Container<Running>, impl Iterator<Item = String>) {
    let args = ["/tmp/tracer", "--exact", "hostile_tracer::traces_when_told_to", "--nocapture"];
    let builder = builder.args(args).env(TRACE, how).bind_ro(std::env::current_exe().unwrap(), "/tmp/tracer");
    let (reader, writer) = std::io::pipe().unwrap();
    let builder = builder.grant_capabilities([Capability::SysPtrace].into());
    let running = start(builder.stdout(Stdio::fd(writer)).stderr(Stdio::inherit()));
    let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "traces"), "the tracer failed");
    (running, lines)
}

/// Not a test but the program in a container: does to every process but itself what its environment says.
#[test]
fn traces_when_told_to() {
    let Some(how) = std::env::var_os(TRACE) else { return };
    std::io::stdout().write_all(b"\ntraces\n").unwrap();
    let own = i32::try_from(std::process::id()).unwrap();
    let mut stolen = BTreeMap::new();
    loop {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
            match pid.filter(|pid| *pid != own) {
                // SAFETY: seizing takes numbers only. It stops nothing, and this process never waits.
                Some(pid) if how == "holds" => drop(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) }),
                Some(pid) => steal(pid, how == "floods", &mut stolen),
                None => {}
            }
        }
    }
}

/// Takes a copy of every connection of a process that has not executed its program yet, and keeps it. Sends what that
/// process would, if it `floods`.
fn steal(pid: i32, floods: bool, stolen: &mut BTreeMap<i32, Vec<OwnedFd>>) {
    let named =
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.contains("cofferdam"));
    if !named || stolen.contains_key(&pid) {
        return;
    }
    let mut status = 0;
    // SAFETY: the calls take numbers, and `status` is written to. The process is let go again.
    let seized = unsafe {
        libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) == 0
            && libc::ptrace(libc::PTRACE_INTERRUPT, pid, 0, 0) == 0
            && libc::waitpid(pid, &raw mut status, libc::__WALL) == pid
    };
    let mut own = Vec::new();
    if let Some(pidfd) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) {
        let copies = (0..64).filter_map(|number| pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).ok());
        own.extend(copies.filter(|fd| socket_type(fd).is_ok_and(|kind| kind == SocketType::SEQPACKET)));
    }
    if seized {
        // SAFETY: as above.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0, 0) };
    }
    for connection in own.iter().map(|fd| fd.try_clone().unwrap()).filter(|_| floods) {
        // As `wire/` encodes that the process has a terminal, here /dev/null.
        std::thread::spawn(move || {
            let null = File::open("/dev/null").unwrap();
            let frame = b"CFDM\x01\x00\x1f\x00[[\"terminal\"],\"terminal\"]";
            let fds = [null.as_fd()];
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            loop {
                let mut control = SendAncillaryBuffer::new(&mut space);
                assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
                let frame = [std::io::IoSlice::new(frame)];
                if sendmsg(&connection, &frame, &mut control, SendFlags::NOSIGNAL).is_err() {
                    return;
                }
            }
        });
    }
    if !own.is_empty() {
        std::io::stdout().write_all(b"\nstole\n").unwrap();
        stolen.insert(pid, own);
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
    let (container, _said) = start_tracer(stage.container("tracer"), "holds");
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
    let (tracer, _said) =
        start_tracer(pod.pod().container(stage.id("tracer")).share_pid_namespace(), "holds");
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

/// That what the host does with the container and with another one of its pod goes on, whatever became of what it executed.
fn lives_beside_a_thief(stage: &Stage, how: &str) {
    let pod = start(stage.container("pod").args(["sleep", "1000"]));
    let (thief, said) = start_tracer(pod.pod().container(stage.id("thief")), how);
    for round in 0..20 {
        let begun = Instant::now();
        let executed = thief.exec_output(Exec::new(["true"]).timeout(LIMIT / 4));
        assert!(begun.elapsed() < SOON, "round {round}: after {:?}: {executed:?}", begun.elapsed());
        let begun = Instant::now();
        assert!(pod.exec_output(Exec::new(["true"]).timeout(SOON)).unwrap().exit.outcome.success());
        thief.stats().unwrap();
        assert!(begun.elapsed() < SOON, "round {round}: after {:?}", begun.elapsed());
    }
    thief.kill().unwrap().delete().unwrap();
    assert!(said.into_iter().any(|line| line == "stole"), "the thief was never fast enough");
    pod.kill().unwrap().delete().unwrap();
}

#[test]
fn a_tracer_that_keeps_the_connections_of_what_is_executed_stops_no_one() {
    let stage = stage!();
    lives_beside_a_thief(&stage, "keeps");
}

#[test]
fn a_tracer_that_speaks_for_what_is_executed_stops_no_one() {
    let stage = stage!();
    lives_beside_a_thief(&stage, "floods");
}

//! A sandbox that has used up its descriptors: every child is collected, every call returns, and all works again once
//! there is room.

use crate::kit::place::describe;
use crate::kit::{Stage, skip, stage};
use cofferdam::{AnyContainer, Container, Exec, Process, Running};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::time::{Duration, Instant};

/// A container whose sandbox may have so many descriptors. This process may have more.
fn limited(stage: &Stage, name: &str, most: u64) -> Container<Running> {
    let running = stage.busybox_shell(name, "exec sleep 1000").spawn().unwrap();
    // Afterwards, because the sandbox raises its limit as far as it may.
    let limit = Rlimit { current: Some(most), ..getrlimit(Resource::Nofile) };
    prlimit(Pid::from_raw(running.sandbox_pid()), Resource::Nofile, limit).unwrap();
    running
}

/// Executes until that fails; returns what runs, and the error.
fn fill(running: &Container<Running>) -> (Vec<Process>, String) {
    let mut processes = Vec::new();
    loop {
        match running.exec(Exec::new(["sleep", "1000"])) {
            Ok(process) => processes.push(process),
            Err(error) => return (processes, error.to_string()),
        }
        assert!(processes.len() < 100, "the limit was not reached");
    }
}

/// Whether an error says that the sandbox had no descriptor left, by the call that failed or as the likely cause.
fn says_why(error: &str) -> bool {
    error.contains("EMFILE") || error.contains("RLIMIT_NOFILE")
}

/// The children of the sandbox, as text.
fn children(running: &Container<Running>) -> Vec<String> {
    let pid = running.sandbox_pid();
    let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    listed.split_whitespace().map(|pid| describe(pid.parse().unwrap())).collect()
}

fn cpu_time(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn an_exec_without_room_for_its_descriptors_is_an_error_and_its_process_is_collected() {
    let stage = stage!();
    // An exec takes several descriptors: with the limits next to each other, each of them is the one that is missing.
    for most in 48..56 {
        let running = limited(&stage, &format!("most{most}"), most);
        let before = children(&running).len();
        let (processes, error) = fill(&running);
        assert!(says_why(&error), "{most}: {error}");
        assert!(!processes.is_empty(), "{most}: {error}");
        let (again, error) = fill(&running);
        assert!(again.is_empty() && says_why(&error), "{most}: {error}");
        assert_eq!(children(&running).len(), before + processes.len(), "{most}: {:?}", children(&running));
        for process in &processes {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        assert_eq!(children(&running).len(), before, "{most}: {:?}", children(&running));
        assert!(running.exec_output(Exec::new(["true"])).unwrap().exit.outcome.success());
        running.kill().unwrap().delete().unwrap();
    }
}

#[test]
fn a_client_without_room_for_its_connection_waits_and_the_sandbox_does_not_spin() {
    let stage = stage!();
    let running = limited(&stage, "listener", 48);
    let (mut processes, _) = fill(&running);
    let loaded = AnyContainer::load(stage.root(), running.id().as_str()).unwrap();
    let AnyContainer::Running(loaded) = loaded else { panic!("it runs") };
    std::thread::scope(|scope| {
        // The last descriptors, one by one.
        let clients: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| loaded.exec(Exec::new(["true"])).map(|process| process.wait().unwrap())))
            .collect();
        let (before, began) = (cpu_time(running.sandbox_pid()), Instant::now());
        let limit = Duration::from_millis(500);
        assert_eq!(processes[0].wait_timeout(limit).unwrap(), None);
        assert!(began.elapsed() >= limit);
        let ticks = cpu_time(running.sandbox_pid()) - before;
        assert!(ticks < 15, "{ticks} of 50 ticks");
        for process in processes.drain(..) {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        // Those that had not connected are served now; the others were told why not.
        for client in clients {
            match client.join().unwrap() {
                Ok(exit) => assert!(exit.outcome.success()),
                Err(error) => assert!(says_why(&error.to_string()), "{error}"),
            }
        }
    });
    drop(loaded);
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn an_error_that_is_longer_than_a_message_arrives_with_its_start_and_its_end() {
    let stage = stage!();
    let longest = format!("{}-the-end", "x".repeat(100_000));
    let error = stage.busybox_shell("init", "echo ran").args([&longest]).output().unwrap_err().to_string();
    assert!(error.contains("exec: \"xxx") && error.contains("-the-end"), "{error}");
    assert!(error.contains(" [...] ") && error.len() < 64 << 10, "{} bytes", error.len());
}

#[test]
fn more_groups_than_a_process_can_have_are_refused_wherever_they_come_from() {
    let stage = stage!();
    if !crate::kit::is_root() {
        skip!("only root has so many groups to give");
    }
    let most = 65_537;
    let builder = stage.busybox_shell("init", "echo ran").without_user_namespace().groups(0..most);
    let refused = "65537 groups; a process has at most 65536";
    let error = builder.output().unwrap_err().to_string();
    assert!(error.contains(refused), "{error}");
    // The same from the image of a container that runs.
    let rootfs = stage.busybox();
    std::fs::write(rootfs.join("etc/passwd"), "many:x:1:1::/:\n").unwrap();
    let group: String = (0..most).map(|gid| format!("g::{gid}:many\n")).collect();
    std::fs::write(rootfs.join("etc/group"), group).unwrap();
    let running = stage.busybox_shell("exec", "exec sleep 1000").without_user_namespace().spawn().unwrap();
    let error = running.exec(Exec::new(["true"]).user_name("many")).unwrap_err().to_string();
    assert!(error.contains(refused), "{error}");
    assert!(running.exec_output(Exec::new(["true"])).unwrap().exit.outcome.success());
    running.kill().unwrap().delete().unwrap();
}

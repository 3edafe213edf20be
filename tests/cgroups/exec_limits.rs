//! Limits of one executed process: its own cgroup, what they hold back, and that nothing of them stays.

#![expect(clippy::disallowed_methods, reason = "a test writes control files of its own cgroups")]

use crate::kit::limits::own_cgroups;
use crate::kit::{Stage, may_limit_all, skip, stage, start};
use cofferdam::{Container, ContainerBuilder, ErrorKind, Exec, Outcome, Process, Running};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// The cgroups that executed processes of the container have now.
fn leaves(container: &Container<Running>) -> Vec<PathBuf> {
    let below = own_cgroups(container).into_iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten());
    let dirs = below.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    dirs.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("exec-")))
        .collect()
}

/// The text of the first of these files that one of the leaves has.
fn leaf_file(container: &Container<Running>, files: &[&str]) -> String {
    let leaves = leaves(container);
    let mut paths = leaves.iter().flat_map(|leaf| files.iter().map(move |file| leaf.join(file)));
    paths.find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default().trim().to_owned()
}

/// Waits for what the gofer does after the end of a process.
fn await_no_leaves(container: &Container<Running>) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !leaves(container).is_empty() {
        assert!(Instant::now() < deadline, "{:?}", leaves(container));
        std::thread::yield_now();
    }
}

/// A container that sleeps, and whose cgroups have the controllers of all limits.
fn session(stage: &Stage, name: &str) -> ContainerBuilder {
    let builder = stage.busybox_shell(name, "exec sleep 1000");
    builder.memory_limit(256 * MIB).pids_limit(64).cpu_limit(2.0)
}

fn shell(script: &str) -> Exec {
    Exec::new(["sh", "-c", script])
}

fn said(output: &cofferdam::processes::ProcessOutput) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn a_process_beyond_its_own_memory_is_out_of_memory_and_all_others_go_on() {
    let stage = stage!();
    if !may_limit_all() {
        skip!("this user may not limit memory, pids and cpu here");
    }
    let running = start(session(&stage, "oom"));
    let before = running.exec(shell("exec sleep 1000")).unwrap();
    let beside = running.exec(shell("exec sleep 1000").memory_limit(64 * MIB)).unwrap();
    let exit = running.exec(Exec::new(["tail", "/dev/zero"]).memory_limit(16 * MIB)).unwrap().wait().unwrap();
    assert_eq!(exit.outcome, Outcome::OutOfMemory);
    assert!(exit.max_rss <= 24 * MIB, "{}", exit.max_rss);
    // It was the limit of this one process: with the container's there is room.
    let fits = "dd if=/dev/zero of=/dev/null bs=32M count=1 2>/dev/null && echo fits";
    assert_eq!(said(&running.exec_output(shell(fits).memory_limit(16 * MIB)).unwrap()), "");
    assert_eq!(said(&running.exec_output(shell(fits)).unwrap()), "fits");
    for process in [&before, &beside] {
        assert_eq!(process.try_wait().unwrap(), None, "the others go on");
    }
    // A SIGKILL from inside is none of the kernel's for memory, whatever the kernel did to another process.
    let killed = running.exec(shell("kill -9 $$")).unwrap().wait().unwrap();
    assert_eq!(killed.outcome.to_string(), "died of SIGKILL", "{killed:?}");
    before.kill().unwrap();
    beside.kill().unwrap();
    beside.wait().unwrap();
    await_no_leaves(&running);
    let exit = running.kill().unwrap();
    assert!(exit.exit().oom_kills >= 1);
    exit.delete().unwrap();
}

#[test]
fn limits_of_one_process_are_written_before_it_runs_and_hold_with_all_that_it_starts() {
    let stage = stage!();
    if !may_limit_all() {
        skip!("this user may not limit memory, pids and cpu here");
    }
    let running = start(session(&stage, "written"));
    let exec =
        || shell("read _; (echo another); echo end").memory_limit(32 * MIB).pids_limit(1).cpu_limit(0.5);
    let mut process = running.exec(exec().stdin(piped()).stdout(piped())).unwrap();
    let read = |files: &[&str]| leaf_file(&running, files);
    assert_eq!(read(&["memory.limit_in_bytes", "memory.max"]), (32 * MIB).to_string());
    assert_eq!(read(&["pids.max"]), "1");
    assert!(["50000", "50000 100000"].contains(&read(&["cpu.cfs_quota_us", "cpu.max"]).as_str()));
    // The container counts it, and keeps its own limits.
    let pids = running.stats().unwrap().pids.unwrap();
    assert_eq!((pids.current, pids.limit), (2, Some(64)));
    assert_eq!(running.stats().unwrap().memory.unwrap().limit, Some(256 * MIB));
    drop(process.take_stdin());
    let output = process.wait_with_output().unwrap();
    assert_eq!(said(&output), "", "its one task cannot fork: {output:?}");
    await_no_leaves(&running);
    // Those without limits of their own are held by the container's alone.
    assert_eq!(said(&running.exec_output(shell("(echo another)")).unwrap()), "another");
    running.kill().unwrap().delete().unwrap();
}

fn piped() -> cofferdam::Stdio {
    cofferdam::Stdio::piped()
}

#[test]
fn what_a_process_with_limits_left_behind_ends_with_its_time() {
    let stage = stage!();
    if !may_limit_all() {
        skip!("this user may not limit memory, pids and cpu here");
    }
    let running = start(session(&stage, "daemon"));
    let processes = || running.stats().unwrap().pids.unwrap().current;
    // In a session of its own, and its parents are gone: nothing but the cgroup knows whose it is.
    let daemon = || shell("(busybox setsid sleep 1000 &) ; exit 3").pids_limit(8);
    let limit = Duration::from_secs(2);
    let began = Instant::now();
    let exit = running.exec(daemon().timeout(limit)).unwrap().wait().unwrap();
    assert_eq!(exit.outcome, Outcome::Exited { code: 3 });
    assert!(began.elapsed() > limit || processes() == 2, "the daemon goes on until then");
    await_no_leaves(&running);
    assert!(began.elapsed() >= limit);
    assert_eq!(processes(), 1);
    // Without a time limit it goes on, until all that its process started is asked for.
    running.exec(daemon()).unwrap().wait().unwrap();
    assert_eq!((processes(), !leaves(&running).is_empty()), (2, true));
    let mut other = running.exec(
        shell("(busybox setsid sleep 1000 &); echo; read _").pids_limit(8).stdin(piped()).stdout(piped()),
    );
    let other: &mut Process = other.as_mut().unwrap();
    std::io::Read::read_exact(&mut other.take_stdout().unwrap(), &mut [0]).unwrap();
    other.kill_tree().unwrap();
    // This ends the shell too, by the end of its input. It was asked to end with all that it started before.
    other.wait().unwrap();
    while processes() != 2 {
        assert!(began.elapsed() < Duration::from_secs(30), "{}", processes());
        std::thread::yield_now();
    }
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_container_with_such_processes_pauses_changes_its_limits_and_ends_as_any_other() {
    let stage = stage!();
    if !may_limit_all() {
        skip!("this user may not limit memory, pids and cpu here");
    }
    let running = start(session(&stage, "whole"));
    let mut process = running
        .exec(shell("while echo; do sleep 0.01; done").memory_limit(32 * MIB).stdout(piped()))
        .unwrap();
    let mut output = process.take_stdout().unwrap();
    let mut read = || std::io::Read::read(&mut output, &mut [0; 4096]).unwrap();
    assert!(read() > 0);
    let paused = running.pause().unwrap();
    assert!(process.try_wait().unwrap().is_none());
    let mut running = paused.resume().unwrap();
    assert!(read() > 0);
    let resources = serde_json::json!({"memory": {"limit": 128 * MIB}, "pids": {"limit": 32}});
    running.update(&serde_json::from_value(resources).unwrap()).unwrap();
    assert_eq!(running.stats().unwrap().memory.unwrap().limit, Some(128 * MIB));
    assert_eq!(leaf_file(&running, &["memory.limit_in_bytes", "memory.max"]), (32 * MIB).to_string());
    running.kill().unwrap().delete().unwrap();
    assert!(!process.wait().unwrap().outcome.success());
}

#[test]
fn many_processes_with_and_without_limits_start_at_the_same_time() {
    let stage = stage!();
    if !may_limit_all() {
        skip!("this user may not limit memory, pids and cpu here");
    }
    let running = start(session(&stage, "many"));
    let expect = |exec: Exec| assert_eq!(said(&running.exec_output(exec).unwrap()), "ran");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..8).for_each(|_| expect(shell("echo ran"))));
            scope.spawn(|| (0..8).for_each(|_| expect(shell("echo ran").memory_limit(32 * MIB))));
        }
    });
    await_no_leaves(&running);
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_limit_that_cannot_be_set_is_refused_by_its_method_before_anything_runs() {
    let stage = stage!();
    let marks = stage.open_directory("marks");
    let running = start(stage.busybox_shell("none", "exec sleep 1000").bind_rw(&marks, "/root"));
    let mark = || shell("echo >/root/ran");
    for (exec, method) in [
        (mark().memory_limit(32 * MIB), "Exec::memory_limit"),
        (mark().pids_limit(5), "Exec::pids_limit"),
        (mark().cpu_limit(0.5), "Exec::cpu_limit"),
    ] {
        // Where the container's only cgroup has the controller all the same, the limit holds.
        match running.exec_output(exec) {
            Ok(output) => assert!(output.exit.outcome.success(), "{output:?}"),
            Err(error) => {
                assert_eq!(*error.kind(), ErrorKind::Unsupported { feature: method.to_owned() });
                assert!(error.to_string().contains("accounting()"), "{error}");
                assert!(!marks.join("ran").exists(), "{method}");
            }
        }
        let _ = fs::remove_file(marks.join("ran"));
    }
    for (exec, method) in [
        (mark().memory_limit(0), "Exec::memory_limit: must not be 0"),
        (mark().pids_limit(0), "Exec::pids_limit: must not be 0"),
        (mark().cpu_limit(0.0), "Exec::cpu_limit: 0 is not between 0.01 and 1000000"),
        (mark().cpu_limit(f64::NAN), "Exec::cpu_limit: NaN is not between 0.01 and 1000000"),
    ] {
        let error = running.exec(exec).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with(method), "{error}");
    }
    assert!(!marks.join("ran").exists());
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_process_that_does_not_start_leaves_no_cgroup() {
    let stage = stage!();
    if !may_limit_all() {
        skip!("this user may not limit memory, pids and cpu here");
    }
    let running = start(session(&stage, "failing"));
    let error = running.exec(Exec::new(["/no/such/program"]).memory_limit(32 * MIB)).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::ProgramNotFound);
    assert!(leaves(&running).is_empty());
    // The kernel kills it while it starts, or as it begins to run.
    match running.exec(shell("true").memory_limit(4096)) {
        Ok(process) => assert_eq!(process.wait().unwrap().outcome, Outcome::OutOfMemory),
        Err(error) => assert!(error.to_string().contains("Exec::memory_limit"), "{error}"),
    }
    let closed = running.exec(shell("true").memory_limit(32 * MIB).inherit_fds(900));
    assert!(closed.is_err());
    await_no_leaves(&running);
    // It goes on, and counts none of these.
    assert!(running.exec_output(shell("true")).unwrap().exit.outcome.success());
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_process_joins_an_existing_cgroup_below_its_containers_and_no_other() {
    let stage = stage!();
    if !may_limit_all() {
        skip!("this user may not limit memory, pids and cpu here");
    }
    let running = start(session(&stage, "below"));
    let exact = |dir: PathBuf| Some(dir.join("container")).filter(|own| own.exists()).unwrap_or(dir);
    let own: Vec<PathBuf> = running.info().cgroups.into_iter().map(exact).collect();
    for dir in &own {
        fs::create_dir(dir.join("job")).unwrap();
        // A cpuset takes a process only after both have a value.
        for file in ["cpuset.cpus", "cpuset.mems"].into_iter().filter(|file| dir.join(file).exists()) {
            fs::write(dir.join("job").join(file), fs::read(dir.join(file)).unwrap()).unwrap();
        }
    }
    let places = |exec: Exec| -> Vec<PathBuf> {
        let process = running.exec(exec.stdin(cofferdam::Stdio::piped())).unwrap();
        let pid = process.id().to_string();
        let has = |dir: &PathBuf| {
            fs::read_to_string(dir.join("cgroup.procs")).unwrap().lines().any(|line| line == pid)
        };
        let all = own.iter().map(|dir| dir.join("job")).chain(own.clone());
        let found = all.filter(has).collect();
        process.wait().unwrap();
        found
    };
    let cat = || Exec::new(["cat"]);
    assert_eq!(places(cat().cgroup("job")), own.iter().map(|dir| dir.join("job")).collect::<Vec<_>>());
    assert_eq!(places(cat().cgroup("/")), own);
    let refused = |exec: Exec| running.exec(exec).unwrap_err();
    for path in ["..", "job/../..", "../job"] {
        let error = refused(cat().cgroup(path));
        assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("is not a sub cgroup path"), "{error}");
    }
    assert_eq!(*refused(cat().cgroup("none")).kind(), ErrorKind::NotFound);
    assert_eq!(*refused(cat().controller_cgroup("whaaat", "job")).kind(), ErrorKind::InvalidInput);
    assert_eq!(*refused(cat().cgroup("job").memory_limit(8 * MIB)).kind(), ErrorKind::InvalidInput);
    // What an executed process leaves there goes with the container.
    running.exec(Exec::new(["sleep", "1000"]).cgroup("job")).unwrap();
    running.kill().unwrap().delete().unwrap();
    assert!(own.iter().all(|dir| !dir.exists()), "{own:?}");
}

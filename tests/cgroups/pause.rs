//! Freezing: the place for it that every container has, and what is done to a container that is frozen.

use crate::kit::{Stage, may_limit, skip, stage, start};
use cofferdam::typestate::WrongPhase;
use cofferdam::{
    AnyContainer, Container, ContainerBuilder, ErrorKind, Exec, Outcome, Paused, Running, Signal, StateRoot,
    Status, Stdio,
};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The directory whose processes can be frozen; `None` if the container has none.
fn place_to_freeze(container: &Container<Running>) -> Option<PathBuf> {
    let leaves = container.info().cgroups.into_iter();
    let places = leaves.flat_map(|leaf| [leaf.join("container"), leaf]);
    places.into_iter().find(|dir| {
        dir.join("freezer.state").exists()
            || (dir.ends_with("container") && dir.join("cgroup.freeze").exists())
    })
}

fn processes_in(dir: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Freezes by hand, as any program with the right to write there may at any time.
#[expect(clippy::disallowed_methods, reason = "a control file: one write, nothing to replace")]
fn freeze(dir: &Path) {
    let v1 = dir.join("freezer.state");
    let began = Instant::now();
    if v1.exists() {
        std::fs::write(&v1, "FROZEN").unwrap();
        while std::fs::read_to_string(&v1).unwrap().trim() != "FROZEN" {
            assert!(began.elapsed() < Duration::from_secs(10), "not frozen");
        }
        return;
    }
    std::fs::write(dir.join("cgroup.freeze"), "1").unwrap();
    while !std::fs::read_to_string(dir.join("cgroup.events")).unwrap().contains("frozen 1") {
        assert!(began.elapsed() < Duration::from_secs(10), "not frozen");
    }
}

#[test]
fn a_container_without_limits_has_a_place_to_freeze_and_its_sandbox_is_not_in_it() {
    let stage = stage!();
    if !may_limit("pids") {
        skip!("this user may not limit pids here");
    }
    let running = start(stage.shell("place", "sleep 1000 & sleep 1000"));
    let place = place_to_freeze(&running).expect("a place to freeze");
    assert_eq!(running.info().cgroups.len(), 1, "{:?}", running.info().cgroups);
    let members = processes_in(&place);
    assert!(members.contains(&running.init_pid()), "{members:?}");
    assert!(!members.contains(&running.sandbox_pid()), "{members:?}");
    running.kill().unwrap().delete().unwrap();
    assert!(!place.exists());
}

#[test]
fn a_container_can_do_without_a_cgroup() {
    let stage = stage!();
    let running = start(stage.container("none").args(["sleep", "1000"]).without_cgroup());
    assert_eq!(running.info().cgroups, Vec::<PathBuf>::new());
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_frozen_container_is_deleted_by_force_without_delay() {
    let stage = stage!();
    if !may_limit("pids") {
        skip!("this user may not limit pids here");
    }
    for (name, by_drop) in [("force", false), ("drop", true)] {
        let running = start(stage.shell(name, "sleep 1000 & sleep 1000"));
        let place = place_to_freeze(&running).expect("a place to freeze");
        freeze(&place);
        let began = Instant::now();
        if by_drop {
            drop(running);
        } else {
            let mut detached = running;
            detached.detach().unwrap();
            let id = detached.id().to_string();
            drop(detached);
            AnyContainer::load(stage.root(), &id).unwrap().delete(true).unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(!place.exists());
    }
}

#[test]
fn the_cgroup_of_another_container_is_neither_used_nor_destroyed() {
    let stage = stage!();
    if !may_limit("pids") {
        skip!("this user may not limit pids here");
    }
    let place = format!("it-{}-named", stage.id("one"));
    for limited in [false, true] {
        let builder = |id| {
            let builder = stage.container(id).args(["sleep", "1000"]).cgroups_path(&place);
            if limited { builder.pids_limit(100) } else { builder }
        };
        let first = start(builder("one"));
        let failed = builder("two").build().unwrap().create().expect_err("two containers share a cgroup");
        assert_eq!(*failed.error().kind(), ErrorKind::AlreadyExists, "{failed}");
        assert_eq!(first.try_wait().unwrap(), None, "limited: {limited}");
        first.kill().unwrap().delete().unwrap();
    }
}

#[test]
fn containers_of_one_id_in_two_state_roots_have_cgroups_of_their_own() {
    let stage = stage!();
    if !may_limit("pids") {
        skip!("this user may not limit pids here");
    }
    let elsewhere = StateRoot::open(stage.path().join("elsewhere")).unwrap();
    for limited in [false, true] {
        let builder = || {
            let builder = stage.container("same").args(["sleep", "1000"]);
            if limited { builder.pids_limit(100) } else { builder }
        };
        let first = start(builder());
        let second = start(builder().state_root(elsewhere.clone()));
        let [firsts, seconds] = [&first, &second].map(|container| container.info().cgroups);
        assert!(!firsts.is_empty() && firsts.len() == seconds.len(), "{firsts:?} {seconds:?}");
        assert!(firsts.iter().all(|place| !seconds.contains(place)), "{firsts:?} {seconds:?}");
        first.kill().unwrap().delete().unwrap();
        assert_eq!(second.try_wait().unwrap(), None, "killed with its namesake, limited: {limited}");
        second.kill().unwrap().delete().unwrap();
        assert!(firsts.iter().chain(&seconds).all(|place| !place.exists()));
    }
}

/// A program that counts in a file, and the file.
fn counting(stage: &Stage, name: &str) -> (ContainerBuilder, PathBuf) {
    let shared = stage.open_directory(name);
    let builder = stage.shell(name, "while :; do echo >> /mnt/count; done").bind_rw(&shared, "/mnt");
    (builder, shared.join("count"))
}

fn length(file: &Path) -> u64 {
    file.metadata().map_or(0, |file| file.len())
}

/// Waits until the file has grown.
fn grows(file: &Path) {
    let (before, began) = (length(file), Instant::now());
    while length(file) <= before {
        assert!(began.elapsed() < Duration::from_secs(20), "it makes no progress");
        std::thread::yield_now();
    }
}

/// Whether the file stays as it is while another container does a good deal of work.
fn stands_still(stage: &Stage, file: &Path) {
    let before = length(file);
    let name = format!("work{}", file.display().to_string().len());
    let work = stage.shell(&name, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done");
    assert!(work.run().unwrap().outcome.success());
    assert_eq!(length(file), before);
}

#[test]
fn a_paused_container_makes_no_progress_and_a_resumed_one_does() {
    let stage = stage!();
    for (name, freezer) in [("freezer", true), ("signals", false)] {
        let (builder, count) = counting(&stage, name);
        let builder = if freezer { builder } else { builder.without_cgroup() };
        let running = start(builder);
        grows(&count);
        let paused = running.pause().unwrap();
        assert_eq!(AnyContainer::load(stage.root(), paused.id().as_str()).unwrap().status(), Status::Paused);
        stands_still(&stage, &count);
        let running = paused.resume().unwrap();
        assert_eq!(
            AnyContainer::load(stage.root(), running.id().as_str()).unwrap().status(),
            Status::Running
        );
        grows(&count);
        // More than once, and from a loaded container too.
        let loaded = AnyContainer::load(stage.root(), running.id().as_str()).unwrap();
        let loaded = loaded.into_phase::<Running>().unwrap().pause().unwrap();
        stands_still(&stage, &count);
        let loaded = loaded.resume().unwrap();
        grows(&count);
        loaded.kill().unwrap().delete().unwrap();
    }
}

#[test]
fn pausing_twice_and_resuming_twice_are_errors_that_change_nothing() {
    let stage = stage!();
    let running = start(stage.container("twice").args(["sleep", "1000"]));
    let id = running.id().to_string();
    let load = || AnyContainer::load(stage.root(), &id).unwrap();
    let wrong_state = |wrong: WrongPhase| cofferdam::Error::from(wrong).kind().clone();
    let refused = load().into_phase::<Paused>().unwrap_err();
    assert_eq!(wrong_state(refused), ErrorKind::WrongState { actual: Status::Running });
    let paused = running.pause().unwrap();
    let refused = load().into_phase::<Running>().unwrap_err();
    assert_eq!(wrong_state(refused), ErrorKind::WrongState { actual: Status::Paused });
    assert_eq!(load().status(), Status::Paused);
    // Another program was faster.
    drop(load().into_phase::<Paused>().unwrap().resume().unwrap());
    let moved = paused.resume().unwrap_err();
    assert_eq!(*moved.error().kind(), ErrorKind::WrongState { actual: Status::Running });
    let waiting = stage.container("created").args(["true"]).build().unwrap().create().unwrap();
    let loaded = AnyContainer::load(stage.root(), waiting.id().as_str()).unwrap();
    let refused = loaded.into_phase::<Running>().unwrap_err();
    assert_eq!(wrong_state(refused), ErrorKind::WrongState { actual: Status::Created });
}

#[test]
fn a_paused_container_is_killed_stopped_and_dropped() {
    let stage = stage!();
    for freezer in [true, false] {
        let builder = |name: &str, script: &str| {
            let builder = stage.shell(&format!("{name}{freezer}"), script);
            if freezer { builder } else { builder.without_cgroup() }
        };
        let paused = start(builder("kill", "sleep 1000 & sleep 1000")).pause().unwrap();
        let stopped = paused.kill().unwrap();
        assert_eq!(stopped.exit().outcome, Outcome::Killed { signal: Signal::KILL });
        stopped.delete().unwrap();
        let paused = start(builder("all", "sleep 1000 & sleep 1000")).pause().unwrap();
        paused.signal_all(Signal::KILL).unwrap();
        assert_eq!(paused.wait().unwrap().outcome, Outcome::Killed { signal: Signal::KILL });
        let mut running = start(
            builder("stop", "trap 'exit 7' TERM; echo ready; while :; do sleep 1000 & wait; done")
                .stdout(Stdio::piped()),
        );
        let mut line = String::new();
        BufReader::new(running.take_stdout().unwrap()).read_line(&mut line).unwrap();
        let stopped = running.pause().unwrap().stop(Duration::from_secs(20)).unwrap();
        assert_eq!(stopped.exit().outcome, Outcome::Exited { code: 7 });
        let paused = start(builder("drop", "sleep 1000 & sleep 1000")).pause().unwrap();
        let id = paused.id().to_string();
        drop(paused);
        assert_eq!(*AnyContainer::load(stage.root(), &id).unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[test]
fn a_paused_container_still_has_its_files_and_processes_and_takes_no_new_one() {
    let stage = stage!();
    let builder = stage.busybox_shell("files", "echo here > /tmp/file; sleep 1000; true");
    let running = start(builder);
    let files = running.files().unwrap();
    let began = Instant::now();
    while files.read("/tmp/file", 100).is_ok_and(|text| text != b"here\n") || files.stat("/tmp/file").is_err()
    {
        assert!(began.elapsed() < Duration::from_secs(20), "the file is written");
    }
    drop(files);
    let paused = running.pause().unwrap();
    assert_eq!(paused.files().unwrap().read("/tmp/file", 100).unwrap(), b"here\n");
    assert!(!paused.processes().unwrap().is_empty());
    paused.stats().unwrap();
    let loaded = AnyContainer::load(stage.root(), paused.id().as_str()).unwrap();
    let refused = loaded.as_running().unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::WrongState { actual: Status::Paused });
}

#[test]
fn a_paused_container_whose_sandbox_is_killed_has_stopped() {
    let stage = stage!();
    let mut paused = start(stage.shell("dead", "sleep 1000 & sleep 1000")).pause().unwrap();
    paused.detach().unwrap();
    let id = paused.id().to_string();
    let sandbox = rustix::process::Pid::from_raw(paused.sandbox_pid()).unwrap();
    drop(paused);
    rustix::process::kill_process(sandbox, rustix::process::Signal::KILL).unwrap();
    let began = Instant::now();
    while AnyContainer::load(stage.root(), &id).unwrap().status() != Status::Stopped {
        assert!(began.elapsed() < Duration::from_secs(20), "stopped, though it was paused");
        std::thread::yield_now();
    }
    AnyContainer::load(stage.root(), &id).unwrap().delete(false).unwrap();
}

#[test]
fn members_of_a_pod_are_paused_one_by_one() {
    let stage = stage!();
    let pod = start(stage.container("pod").args(["sleep", "1000"]));
    for (name, freezer) in [("frozen", true), ("signalled", false)] {
        let shared = stage.open_directory(name);
        let counting = "while :; do echo >> /mnt/count; done";
        let member = pod.pod().container(stage.id(name)).args(["sh", "-c", counting]);
        let member = member.bind_rw(&shared, "/mnt").share_pid_namespace();
        let member = start(if freezer { member } else { member.without_cgroup() });
        grows(&shared.join("count"));
        let member = member.pause().unwrap();
        stands_still(&stage, &shared.join("count"));
        assert!(pod.exec_output(Exec::new(["true"])).unwrap().exit.outcome.success());
        grows_after(member.resume().unwrap(), &shared.join("count"));
    }
}

fn grows_after(running: Container<Running>, file: &Path) {
    grows(file);
    running.kill().unwrap().delete().unwrap();
}

//! Who a container lives and dies with: attached, dropped, detached, and the caller killed.

#![expect(clippy::disallowed_methods, reason = "tests read and write plain files of their own")]

mod common;

use cofferdam::{AnyContainer, ContainerBuilder, Outcome, Signal, StateRoot, Status};
use common::caller::{self, Caller};
use common::{Stage, await_end, descendants_of_this_process, may_limit, skip};
use std::path::Path;

/// A container that a caller process makes; its id is the stage's, handed over by file.
fn callers_builder(directory: &Path) -> (ContainerBuilder, StateRoot) {
    let root = caller::root(directory);
    let id = std::fs::read_to_string(directory.join("id")).unwrap();
    (ContainerBuilder::new(id).state_root(root.clone()).args(["sleep", "1000"]), root)
}

/// Writes the id down and starts the caller.
fn spawn_caller(test: &str, stage: &Stage, id: &str) -> Caller {
    std::fs::write(stage.path().join("id"), id).unwrap();
    Caller::spawn(test, stage.path())
}

fn pids(words: &str) -> Vec<i32> {
    words.split(' ').map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn dropping_an_attached_container_destroys_it() {
    let stage = Stage::new();
    let created = stage.container("dropped").args(["sleep", "1000"]).build().unwrap().create().unwrap();
    let (sandbox, init) = (created.sandbox_pid(), created.init_pid());
    drop(created);
    assert!(stage.changes().is_empty(), "a created one: {:?}", stage.changes());
    await_end(sandbox);
    await_end(init);

    let running = stage
        .container("dropped")
        .args(["sleep", "1000"])
        .build()
        .unwrap()
        .create()
        .unwrap()
        .start()
        .unwrap();
    drop(running);
    assert!(stage.changes().is_empty(), "a running one: {:?}", stage.changes());

    let running =
        stage.container("dropped").args(["true"]).build().unwrap().create().unwrap().start().unwrap();
    drop(running.wait_stopped().unwrap());
    assert!(stage.changes().is_empty(), "a stopped one: {:?}", stage.changes());
}

#[test]
fn dropping_a_loaded_container_changes_nothing() {
    let stage = Stage::new();
    let running =
        stage.container("loaded").args(["sleep", "1000"]).build().unwrap().create().unwrap().start().unwrap();
    let loaded = AnyContainer::load(stage.root(), running.id().as_str()).unwrap();
    assert!(matches!(loaded, AnyContainer::Running(_)));
    drop(loaded);
    assert!(running.try_wait().unwrap().is_none());
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_container_that_was_never_created_leaves_nothing_when_dropped() {
    let stage = Stage::new();
    drop(stage.container("never").args(["true"]).build().unwrap());
    assert!(stage.changes().is_empty(), "{:?}", stage.changes());
}

#[test]
fn a_detached_container_outlives_its_value() {
    let stage = Stage::new();
    let running = stage
        .container("detached")
        .args(["sleep", "1000"])
        .build()
        .unwrap()
        .create()
        .unwrap()
        .start()
        .unwrap();
    let id = running.id().to_string();
    drop(running.detach().unwrap());
    let loaded = AnyContainer::load(stage.root(), &id).unwrap();
    assert_eq!(loaded.status(), Status::Running);
    assert!(!loaded.record().attached);
    loaded.signal(Signal::TERM).unwrap();
    assert_eq!(loaded.wait().unwrap().outcome, Outcome::Killed { signal: Signal::TERM });
    AnyContainer::load(stage.root(), &id).unwrap().delete(false).unwrap();
    // The children of a container that was let go are collected at the next look at any container.
    assert!(AnyContainer::load(stage.root(), &id).is_err());
    assert_eq!(descendants_of_this_process(), Vec::<String>::new());
}

#[test]
fn a_container_that_has_ended_meanwhile_is_detached_all_the_same() {
    let stage = Stage::new();
    let running = stage.shell("brief", "exit 4").build().unwrap().create().unwrap().start().unwrap();
    let id = running.id().to_string();
    running.wait().unwrap();
    drop(running.detach().unwrap());
    let AnyContainer::Stopped(stopped) = AnyContainer::load(stage.root(), &id).unwrap() else {
        panic!("it has ended")
    };
    assert_eq!(stopped.exit().outcome, Outcome::Exited { code: 4 });
    stopped.delete().unwrap();
}

#[test]
fn a_created_container_can_be_detached_and_started_by_another_handle() {
    let stage = Stage::new();
    let created = stage.shell("later", "exit 9").build().unwrap().create().unwrap().detach().unwrap();
    let id = created.id().to_string();
    drop(created);
    let AnyContainer::Created(created) = AnyContainer::load(stage.root(), &id).unwrap() else {
        panic!("it waits to be started")
    };
    let stopped = created.start().unwrap().wait_stopped().unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Exited { code: 9 });
    stopped.delete().unwrap();
    assert!(AnyContainer::load(stage.root(), &id).is_err());
}

#[test]
fn a_killed_caller_takes_its_attached_container_along() {
    if let Some(directory) = caller::role() {
        let (builder, _) = callers_builder(&directory);
        let running = builder.build().unwrap().create().unwrap().start().unwrap();
        caller::say(format!("{} {}", running.sandbox_pid(), running.init_pid()));
        return caller::stay();
    }
    let stage = Stage::new();
    let id = stage.id("callergone");
    let mut caller = spawn_caller("a_killed_caller_takes_its_attached_container_along", &stage, &id);
    let pids = pids(&caller.hear());
    caller.kill();
    pids.into_iter().for_each(await_end);
    let loaded = AnyContainer::load(stage.root(), &id).unwrap();
    assert_eq!(loaded.status(), Status::Stopped);
    assert_eq!(loaded.wait().unwrap().outcome, Outcome::CallerGone);
    loaded.delete(false).unwrap();
}

#[test]
fn a_killed_caller_leaves_cgroups_that_are_empty_and_go_with_the_record() {
    if let Some(directory) = caller::role() {
        let (builder, _) = callers_builder(&directory);
        let builder = builder.memory_limit(64 << 20).pids_limit(20).cpu_limit(0.5);
        let running = builder.build().unwrap().create().unwrap().start().unwrap();
        caller::say(format!("{} {}", running.sandbox_pid(), running.init_pid()));
        return caller::stay();
    }
    let stage = Stage::new();
    if !["cpu", "memory", "pids"].into_iter().all(may_limit) {
        skip!("this user may not limit all of cpu, memory and pids here");
    }
    let id = stage.id("limitedgone");
    let test = "a_killed_caller_leaves_cgroups_that_are_empty_and_go_with_the_record";
    let mut caller = spawn_caller(test, &stage, &id);
    let pids = pids(&caller.hear());
    caller.kill();
    pids.into_iter().for_each(await_end);
    let loaded = AnyContainer::load(stage.root(), &id).unwrap();
    let cgroups = loaded.record().cgroups.clone();
    assert!(!cgroups.is_empty(), "limits take cgroups");
    for cgroup in &cgroups {
        assert_eq!(members_of(cgroup), "", "{cgroup:?}");
    }
    loaded.delete(false).unwrap();
    assert!(cgroups.iter().all(|cgroup| !cgroup.exists()), "{cgroups:?}");
    assert_eq!(stage.changes(), Vec::<String>::new());
}

/// The processes in a cgroup and in those below it, one a line.
fn members_of(cgroup: &Path) -> String {
    let below = std::fs::read_dir(cgroup).unwrap().map(|entry| entry.unwrap().path());
    let nested: String = below.filter(|path| path.is_dir()).map(|path| members_of(&path)).collect();
    std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap() + &nested
}

#[test]
fn a_killed_caller_takes_its_created_container_along() {
    if let Some(directory) = caller::role() {
        let (builder, _) = callers_builder(&directory);
        let created = builder.build().unwrap().create().unwrap();
        caller::say(format!("{} {}", created.sandbox_pid(), created.init_pid()));
        return caller::stay();
    }
    let stage = Stage::new();
    let id = stage.id("createdgone");
    let mut caller = spawn_caller("a_killed_caller_takes_its_created_container_along", &stage, &id);
    let pids = pids(&caller.hear());
    caller.kill();
    pids.into_iter().for_each(await_end);
    let loaded = AnyContainer::load(stage.root(), &id).unwrap();
    assert_eq!(loaded.status(), Status::Stopped);
    assert_eq!(loaded.wait().unwrap().outcome, Outcome::NeverStarted);
    loaded.delete(false).unwrap();
}

#[test]
fn a_detached_container_outlives_a_killed_caller() {
    if let Some(directory) = caller::role() {
        let (builder, _) = callers_builder(&directory);
        let running = builder.build().unwrap().create().unwrap().start().unwrap().detach().unwrap();
        caller::say(format!("{} {}", running.sandbox_pid(), running.init_pid()));
        return caller::stay();
    }
    let stage = Stage::new();
    let id = stage.id("survivor");
    let mut caller = spawn_caller("a_detached_container_outlives_a_killed_caller", &stage, &id);
    let pids = pids(&caller.hear());
    caller.kill();
    let AnyContainer::Running(running) = AnyContainer::load(stage.root(), &id).unwrap() else {
        panic!("it runs on")
    };
    assert!(running.try_wait().unwrap().is_none());
    assert_eq!(vec![running.sandbox_pid(), running.init_pid()], pids);
    let stopped = running.kill().unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Killed { signal: Signal::KILL });
    stopped.delete().unwrap();
    pids.into_iter().for_each(await_end);
}

#[test]
fn the_end_of_the_thread_that_made_it_does_not_end_a_container() {
    let stage = Stage::new();
    let builder = stage.container("thread").args(["sleep", "1000"]);
    let make = || builder.build().unwrap().create().unwrap().start().unwrap();
    let running = std::thread::scope(|scope| scope.spawn(make).join().unwrap());
    assert!(running.wait_timeout(std::time::Duration::from_millis(100)).unwrap().is_none());
    running.kill().unwrap().delete().unwrap();
}

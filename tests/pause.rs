//! Freezing: the place for it that every container has, and what is done to a container that is frozen.

mod common;

use cofferdam::{AnyContainer, Container, ContainerBuilder, ErrorKind, Running, StateRoot};
use common::{Stage, may_limit, skip};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The directory whose processes can be frozen; `None` if the container has none.
fn place_to_freeze(container: &Container<Running>) -> Option<PathBuf> {
    let leaves = container.record().cgroups.iter();
    let places = leaves.flat_map(|leaf| [leaf.join("container"), leaf.clone()]);
    places.into_iter().find(|dir| {
        dir.join("freezer.state").exists()
            || (dir.ends_with("container") && dir.join("cgroup.freeze").exists())
    })
}

fn processes_in(dir: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Freezes by hand, as somebody with the cgroup's path may at any time.
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

fn start(builder: ContainerBuilder) -> Container<Running> {
    builder.build().unwrap().create().unwrap().start().unwrap()
}

#[test]
fn a_container_without_limits_has_a_place_to_freeze_and_its_sandbox_is_not_in_it() {
    let stage = Stage::new();
    if !may_limit("pids") {
        skip!("this user may not limit pids here");
    }
    let running = start(stage.shell("place", "sleep 1000 & sleep 1000"));
    let place = place_to_freeze(&running).expect("a place to freeze");
    assert_eq!(running.record().cgroups.len(), 1, "{:?}", running.record().cgroups);
    let members = processes_in(&place);
    assert!(members.contains(&running.init_pid()), "{members:?}");
    assert!(!members.contains(&running.sandbox_pid()), "{members:?}");
    running.kill().unwrap().delete().unwrap();
    assert!(!place.exists());
}

#[test]
fn a_container_can_do_without_a_cgroup() {
    let stage = Stage::new();
    let running = start(stage.container("none").args(["sleep", "1000"]).without_cgroup());
    assert_eq!(running.record().cgroups, Vec::<PathBuf>::new());
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_frozen_container_is_deleted_by_force_without_delay() {
    let stage = Stage::new();
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
            let detached = running.detach().unwrap();
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
    let stage = Stage::new();
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
        let place = first.record().cgroups.clone();
        let second = builder().state_root(elsewhere.clone()).build().unwrap().create();
        match second {
            Ok(second) if !limited => {
                assert_eq!(second.record().cgroups, Vec::<PathBuf>::new());
                second.kill().unwrap().delete().unwrap();
            }
            Ok(_) => panic!("two containers share {place:?}"),
            Err(failed) => assert_eq!(*failed.error().kind(), ErrorKind::AlreadyExists, "{failed}"),
        }
        assert_eq!(first.try_wait().unwrap(), None, "limited: {limited}");
        first.kill().unwrap().delete().unwrap();
    }
}

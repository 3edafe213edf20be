//! Containers found on disk: load, list, delete, and the record as data.

#![expect(clippy::disallowed_methods, reason = "tests read and write plain files of their own")]

use crate::kit::{Stage, stage};
use cofferdam::info::Listed;
use cofferdam::{AnyContainer, Container, ErrorKind, Outcome, Running, Status, Stopped};

fn start(stage: &Stage, name: &str) -> Container<Running> {
    stage.container(name).args(["sleep", "1000"]).build().unwrap().create().unwrap().start().unwrap()
}

/// A file of the state root by its ending.
fn file_ending_in(stage: &Stage, id: &str, ending: &str) -> std::path::PathBuf {
    let entries = std::fs::read_dir(stage.root().path()).unwrap().flatten().map(|entry| entry.path());
    let named = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(id) && name.ends_with(ending)
    };
    entries.into_iter().find(named).unwrap()
}

#[test]
fn a_beginning_that_is_unique_names_a_container() {
    let stage = stage!();
    let (red, green) = (start(&stage, "red"), start(&stage, "green"));
    let loaded = AnyContainer::load_by_beginning(stage.root(), &stage.id("gr")).unwrap();
    assert_eq!(loaded.id(), green.id());
    let ambiguous = AnyContainer::load_by_beginning(stage.root(), &stage.id("")).unwrap_err();
    assert_eq!(*ambiguous.kind(), ErrorKind::InvalidInput);
    let said = ambiguous.to_string();
    assert!(said.contains(red.id().as_str()) && said.contains(green.id().as_str()), "{said}");
    let unknown = AnyContainer::load_by_beginning(stage.root(), &stage.id("blue")).unwrap_err();
    assert_eq!(*unknown.kind(), ErrorKind::NotFound, "{unknown}");
    let invalid = AnyContainer::load(stage.root(), "../etc").unwrap_err();
    assert_eq!(*invalid.kind(), ErrorKind::InvalidId, "{invalid}");
}

#[test]
fn what_ends_a_container_asks_for_its_whole_id() {
    let stage = stage!();
    let job = start(&stage, "job-10");
    let beginning = stage.id("job-1");
    AnyContainer::delete_by_name(stage.root(), &beginning).unwrap();
    assert_eq!(*AnyContainer::load(stage.root(), &beginning).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(*cofferdam::Pod::load(stage.root(), &beginning).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(job.try_wait().unwrap().is_none(), "job-10 runs on");
    AnyContainer::delete_by_name(stage.root(), job.id().as_str()).unwrap();
    assert!(AnyContainer::list(stage.root()).unwrap().is_empty());
}

#[test]
fn an_exact_id_wins_over_those_it_begins() {
    let stage = stage!();
    let (short, long) = (start(&stage, "a"), start(&stage, "ab"));
    assert_eq!(AnyContainer::load(stage.root(), short.id().as_str()).unwrap().id(), short.id());
    assert_eq!(AnyContainer::load(stage.root(), long.id().as_str()).unwrap().id(), long.id());
}

#[test]
fn a_damaged_record_does_not_hide_its_neighbours() {
    let stage = stage!();
    let (good, bad) = (start(&stage, "good"), start(&stage, "bad"));
    let file = file_ending_in(&stage, bad.id().as_str(), ".state");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&file, &bytes).unwrap();

    let listed = AnyContainer::list(stage.root()).unwrap();
    let seen: Vec<(String, bool)> = listed
        .iter()
        .map(|entry| match entry {
            Listed::Container(container) => (container.id().to_string(), true),
            Listed::Damaged { id, error } => {
                assert_eq!(*error.kind(), ErrorKind::Stale, "{error}");
                (id.clone(), false)
            }
        })
        .collect();
    assert_eq!(seen, [(bad.id().to_string(), false), (good.id().to_string(), true)]);
    assert_eq!(*AnyContainer::load(stage.root(), bad.id().as_str()).unwrap_err().kind(), ErrorKind::Stale);

    // Its name is freed all the same; its processes are this value's, and end with it.
    let init = bad.init_pid();
    AnyContainer::delete_by_name(stage.root(), bad.id().as_str()).unwrap();
    drop(bad);
    crate::kit::await_end(init);
    assert!(good.try_wait().unwrap().is_none());
}

#[test]
fn the_list_has_every_container_in_its_phase() {
    let stage = stage!();
    assert!(AnyContainer::list(stage.root()).unwrap().is_empty());
    let created = stage.container("c1").args(["true"]).build().unwrap().create().unwrap();
    let running = start(&stage, "c2");
    let stopped = start(&stage, "c3").kill().unwrap();
    let seen: Vec<(String, Status)> = AnyContainer::list(stage.root())
        .unwrap()
        .into_iter()
        .map(|entry| match entry {
            Listed::Container(container) => (container.id().to_string(), container.status()),
            Listed::Damaged { id, error } => panic!("{id}: {error}"),
        })
        .collect();
    let id = |id: &cofferdam::ContainerId| id.to_string();
    let expected = [
        (id(created.id()), Status::Created),
        (id(running.id()), Status::Running),
        (id(stopped.id()), Status::Stopped),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn delete_refuses_what_lives_unless_forced() {
    let stage = stage!();
    let running = start(&stage, "living");
    let id = running.id().to_string();
    let refused = AnyContainer::load(stage.root(), &id).unwrap().delete(false).unwrap_err();
    assert_eq!(*refused.error().kind(), ErrorKind::WrongState { actual: Status::Running }, "{refused}");
    assert!(running.try_wait().unwrap().is_none());

    AnyContainer::load(stage.root(), &id).unwrap().delete(true).unwrap();
    assert_eq!(running.wait().unwrap().outcome, Outcome::Lost, "its exit record went with it");
    assert_eq!(*AnyContainer::load(stage.root(), &id).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn delete_is_idempotent() {
    let stage = stage!();
    let stopped = start(&stage, "twice").kill().unwrap();
    let id = stopped.id().to_string();
    let (one, two) =
        (AnyContainer::load(stage.root(), &id).unwrap(), AnyContainer::load(stage.root(), &id).unwrap());
    one.delete(false).unwrap();
    two.delete(false).unwrap();
    AnyContainer::delete_by_name(stage.root(), &id).unwrap();
    stopped.delete().unwrap();
}

#[test]
fn an_id_is_free_again_after_delete() {
    let stage = stage!();
    for code in 0..3 {
        let exit = stage.shell("again", &format!("exit {code}")).run().unwrap();
        assert_eq!(exit.outcome, Outcome::Exited { code });
    }
}

#[test]
fn a_container_is_loaded_as_what_its_record_and_the_kernel_say() {
    let stage = stage!();
    let running = start(&stage, "record");
    let loaded = AnyContainer::load(stage.root(), running.id().as_str()).unwrap();
    let json = serde_json::to_value(&loaded).unwrap();
    assert_eq!(json, serde_json::to_value(running.info()).unwrap());
    assert_eq!((loaded.info(), loaded.config()), (running.info(), running.config()));

    let again = AnyContainer::load(stage.root(), running.id().as_str()).unwrap();
    let phase = match &again {
        AnyContainer::Creating(container) => container.status(),
        AnyContainer::Created(container) => container.status(),
        AnyContainer::Running(container) => container.status(),
        AnyContainer::Paused(container) => container.status(),
        AnyContainer::Stopped(container) => container.status(),
    };
    assert_eq!(phase, Status::Running);
    let wrong = Container::<Stopped>::try_from(again).unwrap_err();
    assert_eq!(wrong.to_string(), format!("container {:?}: is running, not stopped", running.id().as_str()));
    let right = Container::<Running>::try_from(*wrong.container).unwrap();
    assert_eq!(right.init_pid(), running.init_pid());

    let stopped = running.kill().unwrap();
    let late = AnyContainer::load(stage.root(), stopped.id().as_str()).unwrap();
    assert_eq!(late.info().status, Status::Running, "nothing was written down");
    assert_eq!(late.status(), Status::Stopped, "a record is a hint, the kernel is the truth");
    stopped.delete().unwrap();
}

#[test]
fn a_container_that_another_process_moved_comes_back_as_it_is_now() {
    let stage = stage!();
    let created = stage.container("moved").args(["sleep", "1000"]).build().unwrap().create().unwrap();
    let AnyContainer::Created(other) = AnyContainer::load(stage.root(), created.id().as_str()).unwrap()
    else {
        panic!("it was created")
    };
    let running = other.start().unwrap();
    let failed = created.start().unwrap_err();
    assert_eq!(*failed.error().kind(), ErrorKind::WrongState { actual: Status::Running }, "{failed}");
    match Option::<AnyContainer>::from(failed) {
        Some(AnyContainer::Running(container)) => assert_eq!(container.init_pid(), running.init_pid()),
        other => panic!("it runs: {other:?}"),
    }
}

#[test]
fn what_has_ended_refuses_signals_by_its_phase() {
    let stage = stage!();
    let stopped = start(&stage, "ended").kill().unwrap();
    let loaded = AnyContainer::load(stage.root(), stopped.id().as_str()).unwrap();
    let refused = loaded.as_alive().unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Ended);
    assert_eq!(refused.to_string(), format!("container {:?}: is stopped, not alive", stopped.id().as_str()));
    let state = loaded.oci_state().unwrap();
    assert_eq!((state.pid, state.status, state.id.as_str()), (0, Status::Stopped, stopped.id().as_str()));
}

#[test]
fn a_handle_never_destroys_another_container_of_the_same_name() {
    let stage = stage!();
    let first = start(&stage, "name");
    let id = first.id().to_string();
    let stale = AnyContainer::load(stage.root(), &id).unwrap();
    AnyContainer::delete_by_name(stage.root(), &id).unwrap();

    let second = start(&stage, "name");
    drop(first);
    stale.delete(true).unwrap();
    assert!(second.try_wait().unwrap().is_none(), "the second one has nothing to do with the first");
    assert_eq!(AnyContainer::load(stage.root(), &id).unwrap().status(), Status::Running);
    second.kill().unwrap().delete().unwrap();
}

#[test]
fn a_damaged_record_is_deleted_with_the_processes_it_named() {
    let stage = stage!();
    let mut running = start(&stage, "damaged");
    running.detach().unwrap();
    let (id, init, sandbox) = (running.id().to_string(), running.init_pid(), running.sandbox_pid());
    drop(running);
    std::fs::write(file_ending_in(&stage, &id, ".state"), "not a record").unwrap();
    AnyContainer::delete_by_name(stage.root(), &id).unwrap();
    crate::kit::await_end(init);
    crate::kit::await_end(sandbox);
    let gone = stage.container("collector").args(["true"]).run().unwrap();
    assert!(gone.outcome.success());
}

//! The id of a new container: taken, free, abandoned, replaced.

#![expect(clippy::disallowed_methods, reason = "tests write plain files of their own")]

use crate::kit::caller::{self, Caller};
use crate::kit::{await_end, stage, start};
use cofferdam::{AnyContainer, ContainerBuilder, ErrorKind, Outcome, Status};
use std::path::Path;

/// The container that a caller process creates, and after it the test. The test writes the id into a file for both.
fn callers(directory: &Path) -> ContainerBuilder {
    let id = std::fs::read_to_string(directory.join("id")).unwrap();
    ContainerBuilder::new().id(id).state_root(caller::root(directory)).args(["sleep", "1000"])
}

#[test]
fn a_killed_callers_container_does_not_keep_its_id() {
    if let Some(directory) = caller::role() {
        let builder = callers(&directory);
        let creating = builder.build().unwrap();
        let created = creating.create().unwrap();
        let created_pid = created.sandbox_pid();
        let running = created.start().unwrap();
        caller::say(created_pid);
        caller::stay();
        drop(running);
        return;
    }
    let stage = stage!();
    std::fs::write(stage.path().join("id"), stage.id("left")).unwrap();
    for round in 0..3 {
        let mut caller = Caller::spawn(stage.path());
        let sandbox = caller.hear().parse().unwrap();
        let mine = || callers(stage.path());
        let taken = mine().spawn().unwrap_err();
        assert_eq!(*taken.kind(), ErrorKind::AlreadyExists, "its creator lives");
        assert!(taken.to_string().ends_with("already exists (it is running)"), "{taken}");
        assert_eq!(*mine().replace().spawn().unwrap_err().kind(), ErrorKind::AlreadyExists, "and so does it");
        caller.kill();
        // The first round does not wait until the sandbox has killed the container and ended; the others do.
        if round > 0 {
            await_end(sandbox);
        }
        assert!(mine().args(["true"]).run().unwrap().outcome.success());
        await_end(sandbox);
    }
}

#[test]
fn one_of_several_creators_takes_over_an_abandoned_id() {
    if let Some(directory) = caller::role() {
        let running = callers(&directory).spawn().unwrap();
        caller::say("made");
        caller::stay();
        drop(running);
        return;
    }
    let stage = stage!();
    std::fs::write(stage.path().join("id"), stage.id("raced")).unwrap();
    for _ in 0..5 {
        let mut caller = Caller::spawn(stage.path());
        caller.hear();
        caller.kill();
        let results: Vec<_> = std::thread::scope(|scope| {
            let creators: Vec<_> =
                (0..4).map(|_| scope.spawn(|| callers(stage.path()).build().unwrap().create())).collect();
            creators.into_iter().map(|creator| creator.join().unwrap()).collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1, "{lost:?}");
        for error in lost.into_iter().map(Result::unwrap_err) {
            assert_eq!(*error.kind(), ErrorKind::AlreadyExists, "{error:?}");
        }
    }
}

#[test]
fn a_container_that_lives_or_was_detached_keeps_its_id() {
    let stage = stage!();
    let id = stage.id("kept");
    let builder = || stage.container("kept").args(["sleep", "1000"]);
    let mut detached = start(builder());
    detached.detach().unwrap();
    for attempt in [builder(), builder().replace()] {
        assert_eq!(*attempt.spawn().unwrap_err().kind(), ErrorKind::AlreadyExists);
    }
    assert!(detached.try_wait().unwrap().is_none(), "it is unharmed");
    drop(detached.kill().unwrap());
    let refused = builder().spawn().unwrap_err();
    assert!(refused.to_string().ends_with("(it has ended: delete it, or call `replace`)"), "{refused}");
    assert_eq!(AnyContainer::load(stage.root(), &id).unwrap().status(), Status::Stopped);

    // `replace` deletes what has ended: the first container was detached, the second is attached to a living value.
    let second = start(builder().replace().args(["sh", "-c", "exit 3"])).wait_stopped().unwrap();
    assert_eq!(*builder().spawn().unwrap_err().kind(), ErrorKind::AlreadyExists, "its value is still there");
    let third = start(builder().replace());
    assert_eq!(second.exit().outcome, Outcome::Exited { code: 3 });
    second.delete().unwrap();
    assert!(third.try_wait().unwrap().is_none(), "deleting a value of the second leaves the third alone");
    third.kill().unwrap().delete().unwrap();
}

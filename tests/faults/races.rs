//! Several want the same: one id, one start, one end.

use crate::kit::place::Place;
use crate::orphans::{SETTLE, again, alone, settle};
use cofferdam::{AnyContainer, Container, Created, ErrorKind, StateRoot};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Barrier;

const RACERS: usize = 16;
const ROUNDS: usize = 4;
/// What a racing process is to do, where, and to which container.
const RACE: &str = "COFFERDAM_TEST_RACE";
const DIR: &str = "COFFERDAM_TEST_RACE_DIR";
const ID: &str = "COFFERDAM_TEST_RACE_ID";

#[test]
fn of_sixteen_threads_that_create_one_id_one_wins() {
    alone(|| {
        let place = Place::new();
        for round in 0..ROUNDS {
            let id = place.id(&format!("threads{round}"));
            let together = Barrier::new(RACERS);
            let outcomes: Vec<_> = std::thread::scope(|scope| {
                let race = || {
                    let planned = place.builder(&id).build().expect("a plan");
                    together.wait();
                    planned.create().map_err(cofferdam::Error::from)
                };
                let racers: Vec<_> = (0..RACERS).map(|_| scope.spawn(race)).collect();
                racers.into_iter().map(|racer| racer.join().expect("no panic")).collect()
            });
            let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
            assert_eq!(won.len(), 1, "{lost:?}");
            for loser in lost {
                assert_eq!(*loser.expect_err("partitioned").kind(), ErrorKind::AlreadyExists);
            }
            // The losers undid nothing of the winner's.
            let winner = won.into_iter().next().expect("one").expect("partitioned");
            assert_eq!(
                AnyContainer::load(&place.state(), &id).expect("a record").status(),
                cofferdam::Status::Created
            );
            winner.start().expect("started").wait_stopped().expect("ended").delete().expect("deleted");
            assert_eq!(place.leftovers(), Vec::<String>::new());
        }
    });
}

#[test]
fn of_sixteen_processes_that_create_one_id_one_wins() {
    alone(|| {
        let place = Place::new();
        let id = place.id("processes");
        let words = race("create", &place, &id, RACERS);
        assert_eq!(words.iter().filter(|word| *word == "won").count(), 1, "{words:?}");
        assert_eq!(words.iter().filter(|word| *word == "AlreadyExists").count(), RACERS - 1, "{words:?}");
        AnyContainer::load(&place.state(), &id).expect("the winner's").delete(true).expect("deleted");
        assert_eq!(settle(SETTLE), Vec::<String>::new());
        assert_eq!(place.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn of_two_processes_that_start_one_container_one_wins() {
    alone(|| {
        let place = Place::new();
        for round in 0..ROUNDS {
            let id = place.id(&format!("start{round}"));
            let created = place.created(&id);
            let mut words = race("start", &place, &id, 2);
            words.sort();
            assert_eq!(words, ["WrongState", "won"]);
            drop(created);
            assert_eq!(settle(SETTLE), Vec::<String>::new());
            assert_eq!(place.leftovers(), Vec::<String>::new());
        }
    });
}

#[test]
fn a_container_deleted_while_it_starts_is_gone_and_the_starter_knows() {
    alone(|| {
        let place = Place::new();
        for round in 0..ROUNDS * 2 {
            let id = place.id(&format!("gone{round}"));
            let created = place.created(&id);
            let mut starter = Racer::new("start", &place, &id);
            let mut deleter = Racer::new("delete", &place, &id);
            starter.go();
            deleter.go();
            let (started, deleted) = (starter.word(), deleter.word());
            assert_eq!(deleted, "won", "round {round}, start: {started}");
            let known = ["won", "NotFound", "Ended", "WrongState"];
            assert!(known.contains(&started.as_str()), "round {round}: {started}");
            drop(created);
            assert_eq!(settle(SETTLE), Vec::<String>::new());
            assert_eq!(place.leftovers(), Vec::<String>::new());
        }
    });
}

/// Lets `count` processes do the same thing at once; what became of each.
fn race(what: &str, place: &Place, id: &str, count: usize) -> Vec<String> {
    let mut racers: Vec<_> = (0..count).map(|_| Racer::new(what, place, id)).collect();
    racers.iter_mut().for_each(Racer::go);
    racers.into_iter().map(Racer::word).collect()
}

/// A process that is ready to do one thing.
struct Racer(Child);

impl Racer {
    fn new(what: &str, place: &Place, id: &str) -> Self {
        let mut command = again("races::races_when_told_to");
        command
            .env(RACE, what)
            .env(DIR, place.path())
            .env(ID, id)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("this program again");
        let mut ready = [0; 1];
        child.stderr.as_mut().expect("a pipe").read_exact(&mut ready).expect("a racer at the line");
        Self(child)
    }

    fn go(&mut self) {
        self.0.stdin.as_mut().expect("a pipe").write_all(b"!").expect("a racer that listens");
    }

    fn word(mut self) -> String {
        let mut word = String::new();
        self.0.stderr.as_mut().expect("a pipe").read_to_string(&mut word).expect("a word");
        self.0.wait().expect("an end");
        word.trim().to_owned()
    }
}

/// Not a test but a racer. Without the variables that the test sets, it does nothing.
#[test]
fn races_when_told_to() {
    let (Ok(what), Some(dir), Ok(id)) = (std::env::var(RACE), std::env::var_os(DIR), std::env::var(ID))
    else {
        return;
    };
    let dir = PathBuf::from(dir);
    let state = StateRoot::open(dir.join("state")).expect("the state root");
    let planned = cofferdam::ContainerBuilder::new()
        .id(&id)
        .rootfs(cofferdam::Rootfs::directory(dir.join("rootfs")))
        .state_root(state.clone())
        .args(["sleep", "1000"])
        .build();
    let loaded =
        if what == "create" { None } else { Some(AnyContainer::load(&state, &id).expect("a container")) };
    eprint!(".");
    std::io::stdin().read_exact(&mut [0]).expect("the signal to go");
    let outcome = match (what.as_str(), loaded) {
        ("create", _) => planned
            .and_then(|planned| planned.create().map_err(Into::into))
            .and_then(|mut created| created.detach()),
        ("start", Some(container)) => Container::<Created>::try_from(container)
            .map_err(|_| ErrorKind::WrongState { actual: cofferdam::Status::Running })
            .map(|created| created.start().map(drop).map_err(cofferdam::Error::from))
            .unwrap_or(Ok(())),
        (_, Some(container)) => container.delete(true).map_err(cofferdam::Error::from),
        (_, None) => unreachable!("only a creation needs no container"),
    };
    match outcome {
        Ok(()) => eprintln!("won"),
        Err(error) => {
            let kind = format!("{:?}", error.kind());
            eprintln!("{}", kind.split([' ', '(', '{']).next().unwrap_or_default());
        }
    }
}

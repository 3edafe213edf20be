//! The stream of what happens to a container.

use crate::kit::{may_limit, skip, stage, start};
use cofferdam::events::Event;
use cofferdam::{AnyContainer, ErrorKind, Outcome, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::time::Duration;

#[test]
fn paused_resumed_and_the_end_are_told_in_order_to_all_who_listen() {
    let stage = stage!();
    let running = start(stage.container("order").args(["sleep", "1000"]));
    let here = running.events().unwrap();
    // Each over a connection of its own, which nothing asked for later overtakes.
    let there = (0..16).map(|_| {
        AnyContainer::load(stage.root(), running.id().as_str()).unwrap().as_alive().unwrap().events().unwrap()
    });
    let all: Vec<_> = std::iter::once(here).chain(there).collect();
    let running = running.pause().unwrap().resume().unwrap();
    running.signal(Signal::TERM).unwrap();
    running.wait().unwrap();
    for events in all {
        let events: Vec<_> = events.map(Result::unwrap).collect();
        match &events[..] {
            [Event::Paused, Event::Resumed, Event::Exit(exit)] => {
                assert_eq!(exit.outcome, Outcome::Killed { signal: Signal::TERM });
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_event_makes_the_descriptor_readable_and_nothing_else_does() {
    let stage = stage!();
    let running = start(stage.container("fd").args(["sleep", "1000"]));
    let mut events = running.events().unwrap();
    assert!(events.try_next().unwrap().is_none());
    let ready = |events: &cofferdam::Events, limit: Timespec| {
        poll(&mut [PollFd::new(events, PollFlags::IN)], Some(&limit)).unwrap() == 1
    };
    assert!(!ready(&events, Timespec { tv_sec: 0, tv_nsec: 0 }));
    let paused = running.pause().unwrap();
    assert!(ready(&events, Timespec { tv_sec: 20, tv_nsec: 0 }));
    assert!(matches!(events.try_next().unwrap(), Some(Event::Paused)));
    drop(paused);
    assert!(ready(&events, Timespec { tv_sec: 20, tv_nsec: 0 }));
    assert!(matches!(events.next(), Some(Ok(Event::Exit(_)))));
    assert!(events.next().is_none());
    assert!(events.try_next().unwrap().is_none());
}

#[test]
fn statistics_come_as_often_as_they_were_asked_for() {
    let stage = stage!();
    let running = start(stage.container("stats").args(["sleep", "1000"]));
    let mut events = running.events().unwrap().stats_every(Duration::from_millis(5));
    for _ in 0..3 {
        assert!(matches!(events.next(), Some(Ok(Event::Stats(_)))));
    }
    drop(running);
    assert!(events.map(Result::unwrap).any(|event| matches!(event, Event::Exit(_))));
}

#[test]
fn an_oom_kill_is_told_before_the_end() {
    let stage = stage!();
    if !may_limit("memory") {
        skip!("a memory cgroup needs a caller that may make one");
    }
    let script = "tail /dev/zero; exit 3";
    let created = stage.shell("oom", script).memory_limit(32 << 20).build().unwrap().create().unwrap();
    let events = created.events().unwrap();
    let running = created.start().unwrap();
    let events: Vec<_> = events.map(Result::unwrap).collect();
    assert!(matches!(events.first(), Some(Event::OutOfMemory)), "{events:?}");
    assert!(matches!(events.last(), Some(Event::Exit(_))), "{events:?}");
    assert!(running.wait().unwrap().oom_kills >= 1);
}

#[test]
fn there_are_no_events_before_create_and_after_the_end() {
    let stage = stage!();
    let running = start(stage.container("over").args(["true"]));
    running.wait().unwrap();
    let loaded = AnyContainer::load(stage.root(), running.id().as_str()).unwrap();
    assert_eq!(*loaded.as_alive().unwrap_err().kind(), ErrorKind::Ended);
}

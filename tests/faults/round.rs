//! One life of a container with one fault in it, and what came of it.

use crate::caller::{CREATED, Caller, Life};
use crate::kit::place::Place;
use crate::orphans::{SETTLE, settle};
use crate::tracer::{self, Census, Scope};
use std::time::Duration;

/// How long a caller may take to say what became of its container: a traced one on a busy machine takes seconds.
const VERDICT: Duration = Duration::from_secs(60);

/// What came of one life.
pub(crate) struct Round {
    /// The caller's last word, `None` if it died before; or that it hangs.
    pub(crate) verdict: Result<Option<String>, String>,
    /// Whether the caller said that the container was created, which only the life of a bundle does.
    pub(crate) created: bool,
    /// The processes that were killed.
    pub(crate) killed: Vec<i32>,
    pub(crate) caller_lives: bool,
    /// How many calls were made to fail.
    pub(crate) injected: usize,
    /// The processes that did not end by themselves.
    pub(crate) late: Vec<String>,
}

/// Lives `life` with the fault, an expression of strace's. `None` where strace cannot attach.
pub(crate) fn live(place: &Place, id: &str, life: Life, scope: Scope, fault: &str) -> Option<Round> {
    let mut caller = Caller::new(place, id, life);
    let record = tracer::attach(place, &caller, scope, &[fault.to_owned()])?;
    caller.go();
    let mut created = false;
    let verdict = loop {
        match caller.verdict(VERDICT) {
            Ok(Some(word)) if word == CREATED => created = true,
            verdict => break verdict,
        }
    };
    let late = settle(SETTLE);
    let killed = tracer::killed(&record, caller.thread);
    let caller_lives = !killed.contains(&caller.thread);
    Some(Round { verdict, created, killed, caller_lives, injected: tracer::injected(&record), late })
}

/// An undisturbed life, to know how often each call is made by those that are traced.
pub(crate) fn undisturbed(place: &Place, life: Life, scope: Scope) -> Option<Census> {
    let id = place.id("baseline");
    let mut caller = Caller::new(place, &id, life);
    let record = tracer::attach(place, &caller, scope, &[])?;
    caller.go();
    while let Some(word) = caller.line().filter(|word| word != "ok") {
        assert_eq!(word, CREATED, "an undisturbed life");
    }
    assert_eq!(settle(SETTLE), Vec::<String>::new());
    assert_eq!(place.leftovers(), Vec::<String>::new());
    Some(match scope {
        Scope::Caller => Census { caller: tracer::calls(&record), ..Census::default() },
        Scope::Everybody => tracer::census(&record, caller.thread),
    })
}

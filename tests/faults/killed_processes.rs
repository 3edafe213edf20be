//! kill -9 of the caller, the gofer, the sandbox and init, at every step of a container's life.

use crate::caller::Life;
use crate::kit::lanes::{self, Lane};
use crate::kit::place::Place;
use crate::orphans::{alone, recovers};
use crate::round;
use crate::tracer::{Census, Scope};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The calls a step of create, start, kill and delete consists of; memory, clocks and closing are no steps.
const STEPS: [&str; 27] = [
    "bind",
    "clone3",
    "connect",
    "fchown",
    "fcntl",
    "flock",
    "ftruncate",
    "getdents64",
    "listen",
    "memfd_create",
    "mkdir",
    "mkdirat",
    "openat",
    "pidfd_open",
    "pidfd_send_signal",
    "pipe2",
    "poll",
    "recvmsg",
    "renameat",
    "renameat2",
    "rmdir",
    "sendmsg",
    "socket",
    "socketpair",
    "unlinkat",
    "waitid",
    "write",
];

/// How many points each sweep visits at most, and how long it may take: enough to hit every kind of call, spread over
/// the whole life, and still something one runs.
const MAX_POINTS: usize = 220;
const BUDGET: Duration = Duration::from_secs(20);
/// A lane goes on beyond its budget until it has seen more than this, so that a slow machine sees enough too.
const ENOUGH: usize = 15;

#[test]
fn a_caller_killed_at_any_call_leaves_nothing_that_cannot_be_deleted() {
    alone(|| {
        let Some(tally) = sweep(Life::Full, of_caller, Scope::Caller, BUDGET) else { return };
        eprintln!("kill points: {tally} of the caller");
        assert!(tally > 40, "{tally} kills are too few to mean anything");
    });
}

#[test]
fn a_helper_killed_at_any_call_fails_the_caller_and_leaves_nothing() {
    alone(|| {
        let Some(tally) = sweep(Life::Full, Census::of_helpers_alone, Scope::Everybody, BUDGET) else {
            return;
        };
        eprintln!("kill points: {tally} of gofer, sandbox and init");
        assert!(tally > 40, "{tally} kills are too few to mean anything");
    });
}

/// The steps that the caller makes.
pub(crate) fn of_caller(census: &Census) -> Vec<(String, u32)> {
    steps(&census.caller)
}

/// Each call of these numbers of calls that is a step.
pub(crate) fn steps(calls: &BTreeMap<String, u32>) -> Vec<(String, u32)> {
    let points = STEPS.into_iter().flat_map(|call| {
        let times = calls.get(call).copied().unwrap_or(0);
        (1..=times).map(move |nth| (call.to_owned(), nth))
    });
    points.collect()
}

/// Kills at each point of an undisturbed life and checks what is left. Returns how many processes were killed; `None`
/// where strace cannot attach, and in a lane.
pub(crate) fn sweep(
    life: Life,
    points: impl FnOnce(&Census) -> Vec<(String, u32)>,
    scope: Scope,
    budget: Duration,
) -> Option<usize> {
    let lanes = lanes::run(|lane| {
        let place = Place::new();
        let census = round::undisturbed(&place, life, scope)?;
        Some(sweep_lane(&place, life, points(&census), (scope, budget), lane))
    });
    lanes?.into_iter().sum()
}

/// The share of one lane.
fn sweep_lane(
    place: &Place,
    life: Life,
    points: Vec<(String, u32)>,
    (scope, budget): (Scope, Duration),
    lane: Lane,
) -> usize {
    let began = Instant::now();
    let every = points.len().div_ceil(MAX_POINTS).max(1);
    let mut kills = 0;
    let mut problems = Vec::new();
    // Strided, so that running out of time thins the sweep out instead of cutting its end off.
    let order = (0..every.max(4)).flat_map(|first| (first..points.len()).step_by(every.max(4)));
    for index in lane.share(order.take(MAX_POINTS)) {
        if began.elapsed() > budget && kills > ENOUGH {
            break;
        }
        let (call, nth) = &points[index];
        let id = place.id(&format!("p{index}"));
        let kill = format!("{call}:signal=KILL:when={nth}");
        let Some(round) = round::live(place, &id, life, scope, &kill) else { return kills };
        let mut found = round.late;
        kills += round.killed.len();
        match round.verdict {
            Err(hangs) => found.push(hangs),
            // The caller may make as many calls on a path that the census did not see: then this has killed the caller.
            Ok(None) if round.caller_lives => found.push("the caller died along".into()),
            Ok(_) => {}
        }
        if round.caller_lives {
            found.extend(place.leftovers());
        }
        found.extend(recovers(place, &id));
        problems.extend(found.into_iter().map(|problem| format!("{call} #{nth}: {problem}")));
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    kills
}

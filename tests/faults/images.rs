//! kill -9 of the caller at every call of a restore, and of the dump of what was restored.

use crate::caller::{Caller, IMAGE, Life, NEXT, of_image};
use crate::killed_processes::steps;
use crate::kit::criu::for_a_dump;
use crate::kit::lanes::{self, Lane};
use crate::kit::place::Place;
use crate::kit::skip;
use crate::orphans::{SETTLE, alone, recovers, settle};
use crate::round;
use crate::tracer;
use crate::tracer::Scope;
use cofferdam::checkpoint::{Criu, Image};
use cofferdam::{AnyContainer, ErrorKind};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// As for the other lives: enough to hit every kind of call, and still something one runs.
const MAX_POINTS: usize = 220;
const BUDGET: Duration = Duration::from_secs(20);
const ENOUGH: usize = 15;

#[test]
fn a_caller_killed_at_any_call_leaves_an_image_that_is_whole_or_none() {
    alone(|| {
        let criu = match for_a_dump() {
            Ok(criu) => criu,
            Err(reason) => skip!("{reason}"),
        };
        let lanes = lanes::run(|lane| {
            let place = Place::new();
            make_image(&place, &criu);
            let points = steps(&calls_of_a_life(&place)?);
            Some(sweep_lane(&place, &points, lane))
        });
        let Some(tally) = lanes.and_then(|lanes| lanes.into_iter().sum::<Option<usize>>()) else { return };
        eprintln!("kill points: {tally} of the caller of a restore and a dump");
        assert!(tally > 40, "{tally} kills are too few to mean anything");
    });
}

fn make_image(place: &Place, criu: &Criu) {
    let running = of_image(place.path(), &place.id("first")).expect("a builder").spawn().expect("it runs");
    let stopped = running.checkpoint(criu, place.path().join(IMAGE)).expect("an image");
    stopped.delete().expect("deleted");
}

/// How often the caller makes each call in an undisturbed life; `None` where strace cannot attach.
fn calls_of_a_life(place: &Place) -> Option<BTreeMap<String, u32>> {
    let mut caller = Caller::new(place, &place.id("baseline"), Life::OfImage);
    // Not of the others: CRIU itself traces them.
    let record = tracer::attach(place, &caller, Scope::Caller, &[])?;
    caller.go();
    assert_eq!(caller.line().as_deref(), Some("ok"), "an undisturbed life");
    assert_eq!(settle(SETTLE), Vec::<String>::new());
    let calls = tracer::calls(&record);
    assert_eq!(check_images(place), Vec::<String>::new());
    Some(calls)
}

/// The share of one lane. Returns how many callers were killed.
fn sweep_lane(place: &Place, points: &[(String, u32)], lane: Lane) -> usize {
    let began = Instant::now();
    let every = points.len().div_ceil(MAX_POINTS).max(4);
    let mut kills = 0;
    let mut problems = Vec::new();
    let order = (0..every).flat_map(|first| (first..points.len()).step_by(every));
    for index in lane.share(order.take(MAX_POINTS)) {
        if began.elapsed() > BUDGET && kills > ENOUGH {
            break;
        }
        let (call, nth) = &points[index];
        let id = place.id(&format!("p{index}"));
        let kill = format!("{call}:signal=KILL:when={nth}");
        let Some(round) = round::live(place, &id, Life::OfImage, Scope::Caller, &kill) else { return kills };
        kills += round.killed.len();
        let mut found = round.late;
        found.extend(round.verdict.err());
        found.extend(made_without_its_image(place, &id));
        found.extend(recovers(place, &id));
        found.extend(check_images(place));
        problems.extend(found.into_iter().map(|problem| format!("{call} #{nth}: {problem}")));
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    kills
}

/// What is half made cannot be made from its record alone.
fn made_without_its_image(place: &Place, id: &str) -> Option<String> {
    let Ok(AnyContainer::Creating(half_made)) = AnyContainer::load(&place.state(), id) else { return None };
    match half_made.create().map_err(|failed| failed.error().kind().clone()) {
        Err(ErrorKind::Stale) => None,
        Err(other) => Some(format!("create again: {other:?}")),
        Ok(_) => Some("it was created without its image".into()),
    }
}

/// The first image is as it was. The second one is whole, or none.
fn check_images(place: &Place) -> Vec<String> {
    let next = place.path().join(NEXT);
    let mut problems: Vec<_> = Image::open(place.path().join(IMAGE))
        .err()
        .map(|error| format!("the first image: {error}"))
        .into_iter()
        .collect();
    if next.join("manifest.json").exists() {
        problems.extend(Image::open(&next).err().map(|error| format!("the second image: {error}")));
    } else if Image::open(&next).is_ok() {
        problems.push("an image without a manifest".into());
    }
    if next.exists() {
        std::fs::remove_dir_all(next).expect("a directory of the test's");
    }
    problems
}

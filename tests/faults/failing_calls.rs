//! Calls that fail: no descriptor left, no space, interrupted. The caller gets an error and the host keeps nothing.

use crate::caller::Life;
use crate::kit::lanes;
use crate::kit::place::Place;
use crate::orphans::{alone, recovers};
use crate::round;
use crate::tracer::Scope;
use cofferdam::ErrorKind;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::{Duration, Instant};

/// What fails, and how. The last group must not be noticed at all.
const FAULTS: [(&str, &str); 19] = [
    ("openat", "EMFILE"),
    ("openat", "ENOSPC"),
    ("openat", "EROFS"),
    ("mkdirat", "ENOSPC"),
    ("write", "ENOSPC"),
    ("renameat", "ENOSPC"),
    ("renameat2", "ENOSPC"),
    ("pwrite64", "ENOSPC"),
    ("socketpair", "EMFILE"),
    ("socket", "EMFILE"),
    ("bind", "ENOSPC"),
    ("pipe2", "EMFILE"),
    ("memfd_create", "EMFILE"),
    ("fcntl", "EMFILE"),
    ("clone3", "EAGAIN"),
    ("sendmsg", "ENOBUFS"),
    ("recvmsg", "ENOMEM"),
    ("poll", "EINTR"),
    ("recvmsg", "EINTR"),
];

/// Points of one kind of fault, spread over the whole life.
const MAX_EACH: u32 = 40;
const BUDGET: Duration = Duration::from_secs(20);
/// A lane goes on beyond its budget until it has seen more than this, so that a slow machine sees enough too.
const ENOUGH: usize = 12;

/// What the caller does otherwise with a zygote: it asks, and looks at itself.
const FAULTS_WITH_ZYGOTE: [(&str, &str); 6] = [
    ("openat", "EMFILE"),
    ("readlink", "EACCES"),
    ("sendmsg", "ENOBUFS"),
    ("recvmsg", "ENOMEM"),
    ("recvmsg", "EINTR"),
    ("poll", "EINTR"),
];

#[test]
fn a_call_that_fails_fails_the_container_and_leaves_nothing() {
    sweep(&FAULTS, Life::Full);
}

#[test]
fn a_call_that_fails_with_a_zygote_leaves_nothing_either() {
    sweep(&FAULTS_WITH_ZYGOTE, Life::FullWithZygote);
}

fn sweep(faults: &[(&str, &str)], life: Life) {
    alone(|| {
        let lanes = lanes::run(|lane| {
            let place = Place::new();
            let census = round::undisturbed(&place, life, Scope::Everybody)?;
            let points = faults.iter().flat_map(|&(call, errno)| {
                let times = census.caller.get(call).copied().unwrap_or(0);
                let stride = times.div_ceil(MAX_EACH).max(1);
                (1..=times).step_by(stride as usize).map(move |nth| (call, errno, nth))
            });
            Some(sweep_lane(&place, lane.share(points), life))
        });
        let injected: Option<usize> = lanes.and_then(|lanes| lanes.into_iter().sum());
        let Some(injected) = injected else { return };
        eprintln!("failing calls: {injected}");
        assert!(injected > 30, "{injected} failing calls are too few to mean anything");
    });
}

/// The share of one lane. Returns how many calls failed.
fn sweep_lane<'a>(place: &Place, points: impl Iterator<Item = (&'a str, &'a str, u32)>, life: Life) -> usize {
    let began = Instant::now();
    let (mut injected, mut problems) = (0, Vec::new());
    for (call, errno, nth) in points {
        if began.elapsed() > BUDGET && injected > ENOUGH {
            break;
        }
        let id = place.id(&format!("{call}-{errno}-{nth}").to_lowercase());
        let fault = format!("{call}:error={errno}:when={nth}");
        let Some(round) = round::live(place, &id, life, Scope::Caller, &fault) else { return injected };
        let mut found = round.late;
        injected += round.injected;
        match round.verdict {
            Ok(Some(word)) if word == "ok" || word.starts_with("failed: ") => {
                if errno == "EINTR" && word != "ok" {
                    found.push(format!("an interruption was not taken up again: {word}"));
                }
                // Undone by the caller itself: one fault never keeps the second attempt from working.
                found.extend(place.leftovers().into_iter().map(|left| format!("{left} after {word:?}")));
            }
            other => found.push(format!("no verdict: {other:?}")),
        }
        found.extend(recovers(place, &id));
        problems.extend(found.into_iter().map(|problem| format!("{fault}: {problem}")));
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    injected
}

#[test]
fn a_caller_at_its_limit_of_descriptors_gets_an_error_and_loses_none() {
    alone(|| {
        let place = Place::new();
        let id = place.id("nofile");
        // Once without the limit, so that what is opened once per process is open.
        assert!(place.builder(&id).run().expect("a container").outcome.success());
        let before = fds();
        let whole = getrlimit(Resource::Nofile);
        let (mut failed, mut limit) = (0, before as u64);
        loop {
            let container = place.builder(&id).build().expect("a plan");
            setrlimit(Resource::Nofile, Rlimit { current: Some(limit), ..whole }).expect("a lower limit");
            let outcome = container.create();
            setrlimit(Resource::Nofile, whole).expect("the old limit");
            match outcome {
                Ok(created) => {
                    drop(created);
                    break;
                }
                Err(failure) => {
                    let error = failure.error();
                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{limit}: {error}");
                    assert!(matches!(error.kind(), ErrorKind::Os(_)), "{limit}: {error:?}");
                    drop(failure);
                    failed += 1;
                }
            }
            assert_eq!(place.leftovers(), Vec::<String>::new(), "at {limit} descriptors");
            assert_eq!(fds(), before, "at {limit} descriptors");
            limit += 1;
        }
        assert!(failed > 10, "failed with {failed} limits only");
        assert_eq!(recovers(&place, &id), Vec::<String>::new());
        eprintln!("descriptor limits: {failed}");
    });
}

fn fds() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("the descriptors of this process").count()
}

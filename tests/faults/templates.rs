//! kill -9 of the caller, the sandbox, the gofer and the process itself while a template is taken and a clone is made.
//!
//! A sandbox traces the process of a template and of a clone, which nothing else may trace then. So the sweeps that follow
//! every process end with create, and those of what follows look at the sandbox alone: strace stops it at its n-th call,
//! and the test kills what it wants to see dead.

use crate::caller::{Life, member_of, of_template};
use crate::killed_processes::{of_caller, sweep};
use crate::kit::lanes::{self, Lane};
use crate::kit::place::{Place, children, describe};
use crate::orphans::{SETTLE, alone, recovers, settle};
use crate::tracer::{self, Census, Scope};
use cofferdam::templates::{Ready, Template};
use cofferdam::{Container, Created, ErrorKind, Running};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a lane goes on, and how many kills it wants at least.
const BUDGET: Duration = Duration::from_secs(10);
const ENOUGH: usize = 15;

#[test]
fn a_caller_killed_at_any_call_of_a_template_and_a_clone_leaves_nothing() {
    alone(|| {
        let Some(tally) = sweep(Life::OfTemplate, of_caller, Scope::Caller, BUDGET) else { return };
        eprintln!("kill points: {tally} of the caller of a template");
        assert!(tally > 40, "{tally} kills are too few to mean anything");
    });
}

#[test]
fn a_helper_killed_at_any_call_of_a_clones_create_fails_the_caller_and_leaves_nothing() {
    alone(|| {
        let Some(tally) = sweep(Life::OfClone, Census::of_helpers_alone, Scope::Everybody, BUDGET) else {
            return;
        };
        eprintln!("kill points: {tally} of gofer, sandbox and init of a clone");
        assert!(tally > 40, "{tally} kills are too few to mean anything");
    });
}

#[test]
fn what_is_killed_while_a_template_is_taken_or_a_clone_starts_leaves_nothing_and_the_template_works() {
    alone(|| {
        let lanes = lanes::run(|lane| sweep_lane(&Place::new(), lane));
        let Some(tally) = lanes.and_then(|lanes| lanes.into_iter().sum::<Option<usize>>()) else { return };
        eprintln!("kill points: {tally} of sandbox, gofer and process");
        assert!(tally > 40, "{tally} kills are too few to mean anything");
    });
}

/// Who is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Sandbox,
    Gofer,
    /// That of the template, or the clone.
    Process,
}

/// What the sandbox is in the middle of.
#[derive(Clone, Copy, Debug)]
enum Step {
    Take,
    Start,
}

/// The share of one lane. Returns how many processes were killed, or `None` where strace cannot attach.
fn sweep_lane(place: &Place, lane: Lane) -> Option<usize> {
    let began = Instant::now();
    let template = take(running(place, &place.id("first"))).expect("a template");
    let mut points = Vec::new();
    for step in [Step::Take, Step::Start] {
        let undisturbed = Round::live(place, &template, &place.id("baseline"), step, None)?;
        assert_eq!(undisturbed.problems, Vec::<String>::new());
        let victims = [Victim::Sandbox, Victim::Gofer, Victim::Process];
        for (call, times) in undisturbed.calls {
            points.extend(victims.into_iter().flat_map(|victim| {
                let call = call.clone();
                (1..=times).map(move |nth| (step, victim, call.clone(), nth))
            }));
        }
    }
    let (mut kills, mut problems) = (0, Vec::new());
    // Strided, so that the end of the budget thins the sweep out.
    let every = 41;
    let order = (0..every).flat_map(|first| (first..points.len()).step_by(every));
    for index in lane.share(order) {
        if began.elapsed() > BUDGET && kills > ENOUGH {
            break;
        }
        let (step, victim, call, nth) = &points[index];
        let id = place.id(&format!("p{index}"));
        let round = Round::live(place, &template, &id, *step, Some((*victim, call, *nth)))?;
        kills += usize::from(round.killed);
        let mut found = round.problems;
        found.extend(recovers(place, &id));
        if let Err(problem) = works(&template, &member_of(&id)) {
            found.push(problem);
        }
        problems.extend(found.into_iter().map(|text| format!("{step:?}, {victim:?}, {call} #{nth}: {text}")));
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    Some(kills)
}

/// A container whose process is ready to be a template.
fn running(place: &Place, id: &str) -> Container<Running> {
    let running = of_template(place.path(), id).expect("a builder").spawn().expect("it runs");
    let stat = format!("/proc/{}/stat", running.init_pid());
    while !std::fs::read_to_string(&stat).expect("it stops").contains(") T ") {
        std::thread::yield_now();
    }
    running
}

fn take(running: Container<Running>) -> Result<Template, ErrorKind> {
    running.into_template(Ready::Stopped).map_err(|failed| failed.kind().clone())
}

/// Starts a clone and waits for its end.
fn start(clone: Container<Created>) -> Result<(), ErrorKind> {
    let running = clone.start().map_err(|failed| failed.kind().clone())?;
    let stopped = running.wait_stopped().map_err(|failed| failed.kind().clone())?;
    stopped.delete().map_err(|failed| failed.kind().clone())
}

fn works(template: &Template, id: &str) -> Result<(), String> {
    match template.builder(id).output() {
        Ok(output) if output.stdout == b"on\n" => Ok(()),
        other => Err(format!("the template does not work any more: {other:?}")),
    }
}

/// The gofer of the only container of this process.
fn gofer() -> i32 {
    let is_gofer = |pid: &i32| describe(*pid).contains("cofferdam-gofer");
    children().into_iter().find(is_gofer).expect("a gofer is a child of the caller")
}

/// What came of one step with one kill in it.
struct Round {
    killed: bool,
    problems: Vec<String>,
    calls: std::collections::BTreeMap<String, u32>,
}

impl Round {
    /// `None` where strace cannot attach.
    fn live(
        place: &Place,
        template: &Template,
        id: &str,
        step: Step,
        kill: Option<(Victim, &str, u32)>,
    ) -> Option<Self> {
        let stop = kill.map(|(_, call, nth)| format!("{call}:signal=STOP:when={nth}"));
        let inject: Vec<_> = stop.into_iter().collect();
        let (record, killed, result) = match step {
            Step::Take => {
                let running = running(place, id);
                let pids = [running.sandbox_pid(), gofer(), running.init_pid()];
                let record = tracer::attach_to(place, pids[0], Scope::Caller, &inject)?;
                let act = move || {
                    take(running).and_then(|template| works(&template, "clone").map_err(|_| ErrorKind::Stale))
                };
                let (killed, result) = killing(&record, pids, kill.map(|(victim, ..)| victim), act);
                (record, killed, result)
            }
            Step::Start => {
                let clone = template.builder(id).build().expect("a plan").create().expect("created");
                let pids = [clone.sandbox_pid(), gofer(), clone.init_pid()];
                let record = tracer::attach_to(place, pids[0], Scope::Caller, &inject)?;
                let (killed, result) =
                    killing(&record, pids, kill.map(|(victim, ..)| victim), move || start(clone));
                (record, killed, result)
            }
        };
        let mut problems = settle(SETTLE);
        match result {
            // The sandbox may make fewer calls than when they were counted.
            Ok(()) => {}
            Err(ErrorKind::Ended | ErrorKind::HelperDied) if killed => {}
            other => problems.push(format!("{other:?}")),
        }
        problems.extend(place.leftovers());
        Some(Self { killed, problems, calls: tracer::calls(&record) })
    }
}

/// Does `act`. If strace stops the sandbox meanwhile, kills the victim and lets the sandbox go on. Returns whether it did.
fn killing<T: Send>(
    record: &Path,
    pids: [i32; 3],
    victim: Option<Victim>,
    act: impl FnOnce() -> T + Send,
) -> (bool, T) {
    let [sandbox, gofer, process] = pids.map(|pid| -> OwnedFd {
        pidfd_open(Pid::from_raw(pid).expect("a pid"), PidfdFlags::empty()).expect("it lives")
    });
    std::thread::scope(|scope| {
        let acting = scope.spawn(act);
        let is_stopped =
            || std::fs::read_to_string(record).is_ok_and(|text| text.contains("stopped by SIGSTOP"));
        let mut killed = false;
        while !acting.is_finished() {
            if let Some(victim) = victim.filter(|_| !killed && is_stopped()) {
                let dies = match victim {
                    Victim::Sandbox => &sandbox,
                    Victim::Gofer => &gofer,
                    Victim::Process => &process,
                };
                // It may have ended just now.
                let _ = pidfd_send_signal(dies, Signal::KILL);
                let _ = pidfd_send_signal(&sandbox, Signal::CONT);
                killed = true;
            }
            std::thread::yield_now();
        }
        (killed, acting.join().expect("it does not panic"))
    })
}

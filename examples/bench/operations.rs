//! Single operations: on a running container, in a pod and among many records, and a run with limits.

use super::peer_exec::{self, PeerExec};
use super::report::{CostOfLimits, Samples};
use super::{Amounts, Ground, Result, WARM_UP};
use cofferdam::{AnyContainer, ContainerBuilder, Exec, Status};
use std::path::Path;
use std::time::{Duration, Instant};

/// Times of an exec, ours and those of others.
pub(super) struct Execs {
    pub(super) ours: Samples,
    pub(super) peers: Vec<PeerExec>,
}

/// Executes `true` in a sleeping container: ours in every round, the peers' in evenly spread rounds.
pub(super) fn exec(ground: &Ground, place: &Path, amounts: &Amounts) -> Result<Execs> {
    let sleeping = ground.container(&["/bin/sleep", "1000"]).build()?.create()?.start()?;
    let execute = || -> Result<Duration> {
        let clock = Instant::now();
        let outcome = sleeping.exec(Exec::new(["/bin/true"]))?.wait()?.outcome;
        if outcome.success() {
            Ok(clock.elapsed())
        } else {
            Err(format!("true ended with {outcome:?}").into())
        }
    };
    let mut peers = peer_exec::start(place);
    for _ in 0..WARM_UP {
        execute()?;
        peers.iter_mut().for_each(PeerExec::measure);
    }
    peers.iter_mut().for_each(PeerExec::reset);
    let mut ours = Samples::default();
    let every = amounts.execs / amounts.peer_execs;
    for round in 0..amounts.execs {
        ours.add(execute()?);
        if round % every == 0 {
            peers.iter_mut().for_each(PeerExec::measure);
        }
    }
    sleeping.kill()?.delete()?;
    Ok(Execs { ours, peers })
}

/// Runs with limits on memory, processes and CPU time.
pub(super) fn runs_with_limits(ground: &Ground, runs: usize) -> Result<Samples> {
    samples(runs, || run_with_limits(ground))
}

fn run_with_limits(ground: &Ground) -> Result<Duration> {
    let limited =
        |container: ContainerBuilder| container.memory_limit(64 << 20).pids_limit(64).cpu_limit(1.0);
    ground.run_as(limited).map(sum)
}

/// Measures runs without limits and with them, in turns.
pub(super) fn cost_of_limits(ground: &Ground, runs: usize) -> Result<CostOfLimits> {
    let mut cost = CostOfLimits::default();
    for round in 0..WARM_UP + runs {
        let (without, with) = (ground.run().map(sum)?, run_with_limits(ground)?);
        if round >= WARM_UP {
            cost.without.add(without);
            cost.with.add(with);
        }
    }
    Ok(cost)
}

/// Runs without a writable bind and with one, in turns. Root binds a directory of another user, which takes an id-mapped
/// mount.
pub(super) fn cost_of_a_bind(ground: &Ground, place: &Path, runs: usize) -> Result<[Samples; 2]> {
    let bound = place.join("bound");
    std::fs::create_dir(&bound)?;
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&bound, Some(1000), Some(1000))?;
    }
    let mut taken = [Samples::default(), Samples::default()];
    for round in 0..WARM_UP + runs {
        let without = ground.run().map(sum)?;
        let with = ground.run_as(|container| container.bind_rw(&bound, "/tmp/bound")).map(sum)?;
        if round >= WARM_UP {
            taken[0].add(without);
            taken[1].add(with);
        }
    }
    Ok(taken)
}

fn sum(laps: [Duration; 5]) -> Duration {
    laps.iter().sum()
}

/// Pauses and resumes a container.
pub(super) fn pause_resume(ground: &Ground, runs: usize) -> Result<Samples> {
    let mut running = ground.container(&["/bin/sleep", "1000"]).build()?.create()?.start()?;
    let mut taken = Samples::default();
    for round in 0..WARM_UP + runs {
        let clock = Instant::now();
        running = running.pause()?.resume()?;
        if round >= WARM_UP {
            taken.add(clock.elapsed());
        }
    }
    running.kill()?.delete()?;
    Ok(taken)
}

/// Times a second container of a pod from create to running.
pub(super) fn pod_member(ground: &Ground, runs: usize) -> Result<Samples> {
    let root = ground.container(&["/bin/sleep", "1000"]).build()?.create()?.start()?;
    let members = samples(runs, || {
        let creating = ground.container(&["/bin/sleep", "1000"]).in_pod(root.id()).build()?;
        let clock = Instant::now();
        let running = creating.create()?.start()?;
        let took = clock.elapsed();
        running.kill()?.delete()?;
        Ok(took)
    });
    root.kill()?.delete()?;
    members
}

/// Loads one running container by its id, among many records of stopped ones, and composes its OCI state.
pub(super) fn state_among(ground: &Ground, records: &Path, amounts: &Amounts) -> Result<Samples> {
    let crowd = Ground::new(ground.rootfs().to_owned(), records.to_owned())?;
    let ended =
        |_| -> Result<_> { Ok(crowd.container(&["/bin/true"]).build()?.create()?.start()?.wait_stopped()?) };
    let others = (1..amounts.records).map(ended).collect::<Result<Vec<_>>>()?;
    let sleeping = crowd.container(&["/bin/sleep", "1000"]).build()?.create()?.start()?;
    let states = samples(amounts.operations, || {
        let clock = Instant::now();
        let state = AnyContainer::load(&crowd.state, sleeping.id().as_str())?.oci_state()?;
        let took = clock.elapsed();
        if state.status == Status::Running { Ok(took) } else { Err("it does not run".into()) }
    });
    others.into_iter().try_for_each(|container| container.delete())?;
    sleeping.kill()?.delete()?;
    states
}

/// Measures `count` times, after the warm-up.
fn samples(count: usize, measure: impl Fn() -> Result<Duration>) -> Result<Samples> {
    let mut samples = Samples::default();
    for round in 0..WARM_UP + count {
        let took = measure()?;
        if round >= WARM_UP {
            samples.add(took);
        }
    }
    Ok(samples)
}

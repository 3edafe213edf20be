//! What a container costs from the take out of a full pool to its exit, beside one that is created for its job.

use super::peers::Peer;
use super::report::Samples;
use super::{Ground, Result, WARM_UP};
use cofferdam::info::Listed;
use cofferdam::pools::{Job, Pool};
use cofferdam::{AnyContainer, Container, Created, StateRoot};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a member may take to be created.
const PATIENCE: Duration = Duration::from_secs(10);

/// Containers out of a pool, and others that are created for their jobs.
#[derive(Default)]
pub(super) struct Pooled {
    pub(super) warm: Samples,
    pub(super) warm_cpu: CpuTime,
    pub(super) cold: Samples,
    pub(super) cold_cpu: CpuTime,
}

/// The CPU time of some containers, deletion included.
#[derive(Default)]
pub(super) struct CpuTime {
    total: Duration,
    count: u32,
}

impl CpuTime {
    fn add(&mut self, used: Duration) {
        self.total += used;
        self.count += 1;
    }

    /// Of one, in milliseconds.
    pub(super) fn mean(&self) -> f64 {
        self.total.as_secs_f64() * 1e3 / f64::from(self.count)
    }
}

/// Takes jobs from a pool that is full before each, and makes containers for others, in turns. bubblewrap takes turns
/// too, if it is there.
pub(super) fn measure(ground: &Ground, place: &Path, peers: &mut [Peer], runs: usize) -> Result<Pooled> {
    let state = StateRoot::open(place.join("pool"))?;
    let pool = Pool::new(ground.container(&["/bin/true"]).state_root(state.clone()), 1)?;
    let mut bubblewrap = peers.iter_mut().find(|peer| peer.name == "bwrap" && peer.left_out.is_none());
    let mut pooled = Pooled::default();
    for round in 0..WARM_UP + runs {
        if round == WARM_UP {
            pooled = Pooled::default();
        }
        pool.wait_full(PATIENCE)?;
        let (took, used) = to_exit(|| Ok(ground.container(&["/bin/true"]).build()?.create()?))?;
        pooled.cold.add(took);
        pooled.cold_cpu.add(used);

        let before = used_by_the_member(&state)?;
        let (took, used) = to_exit(|| {
            let taken = pool.take(Job::new(["/bin/true"]))?;
            if taken.is_cold() { Err("the pool was empty".into()) } else { Ok(taken.into_container()) }
        })?;
        pooled.warm.add(took);
        pooled.warm_cpu.add(used.saturating_sub(before));
        if let Some(peer) = bubblewrap.as_mut().filter(|_| round % 4 == 0) {
            peer.measure();
        }
    }
    Ok(pooled)
}

/// The time from here to the exit of the container, and the CPU time of this thread and the container's processes. Those of
/// the next member do not count: they have not ended.
fn to_exit(create: impl FnOnce() -> Result<Container<Created>>) -> Result<(Duration, Duration)> {
    let (used, clock) = (used_so_far()?, Instant::now());
    let stopped = create()?.start()?.wait_stopped()?;
    let took = clock.elapsed();
    let outcome = stopped.exit().outcome;
    stopped.delete()?;
    if !outcome.success() {
        return Err(format!("true ended with {outcome:?}").into());
    }
    Ok((took, used_so_far()?.saturating_sub(used)))
}

/// The CPU time of this thread, and of the children that have ended, with theirs (getrusage(2)).
fn used_so_far() -> Result<Duration> {
    let mut total = Duration::ZERO;
    for who in [UsageWho::RUSAGE_THREAD, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        total += Duration::from_micros(microseconds.unsigned_abs());
    }
    Ok(total)
}

/// The CPU time that the processes of the only container in `state` have used so far: that of its creation.
fn used_by_the_member(state: &StateRoot) -> Result<Duration> {
    let listed = AnyContainer::list(state)?.into_iter().next();
    let Some(Listed::Container(member)) = listed else { return Err("no member waits".into()) };
    let info = member.info();
    let helpers = [info.sandbox, info.gofer].into_iter().flatten().map(|process| process.pid);
    let mut pids: Vec<i32> = helpers.collect();
    // Init, and the reaper.
    let sandbox = pids.first().ok_or("the record names no sandbox")?;
    let children = std::fs::read_to_string(format!("/proc/{sandbox}/task/{sandbox}/children"))?;
    pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    let mut total = Duration::ZERO;
    for pid in pids {
        // The time on a CPU, in nanoseconds, comes first.
        let schedstat = std::fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
        let time = schedstat.split(' ').next().and_then(|time| time.parse().ok());
        total += Duration::from_nanos(time.ok_or("no time in schedstat")?);
    }
    Ok(total)
}

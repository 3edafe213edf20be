//! A thousand execs at once: as futures on one thread with tokio, and as threads that block.

use super::report::Samples;
use super::{Ground, Result};
use cofferdam::{Container, Exec, Running};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::sync::{Arc, OnceLock, RwLock};
#[cfg(feature = "tokio")]
use std::time::Duration;
use std::time::Instant;

/// How many there are at the same time.
const COUNT: usize = 1000;
/// A caller has three descriptors for each, and so has the sandbox; some more are in flight.
const DESCRIPTORS: u64 = 8 * COUNT as u64;
/// The first round fills caches, and starts threads for the first time.
const ROUNDS: usize = 4;

/// The times from when all began to the end of each.
pub(super) struct ManyExecs {
    pub(super) blocking: Result<Samples>,
    pub(super) tokio: Result<Samples>,
}

impl ManyExecs {
    /// Both, with their names.
    pub(super) fn rows(&self) -> [(&'static str, &Result<Samples>); 2] {
        [("from a thread each", &self.blocking), ("on one tokio thread", &self.tokio)]
    }

    /// The times on one thread by those of a thread each, at the 99th percentile.
    pub(super) fn ratio(&self) -> Option<f64> {
        let [tokio, blocking] = [&self.tokio, &self.blocking].map(|samples| samples.as_ref().ok());
        Some(tokio?.percentile(99) / blocking?.percentile(99))
    }
}

/// Measures both in turns, in one container.
pub(super) fn measure(ground: &Ground) -> Result<ManyExecs> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if limit.maximum.is_some_and(|most| most < DESCRIPTORS) {
        let reason = || format!("it takes {DESCRIPTORS} descriptors, which this user may not have");
        return Ok(ManyExecs { blocking: Err(reason().into()), tokio: Err(reason().into()) });
    }
    // The sandbox inherits it.
    setrlimit(Resource::Nofile, limit)?;
    let sleeping = Arc::new(ground.container(&["/bin/sleep", "1000"]).build()?.create()?.start()?);
    let mut taken = ManyExecs { blocking: Ok(Samples::default()), tokio: Ok(Samples::default()) };
    for round in 0..ROUNDS {
        let warm_up = round == 0;
        join(&mut taken.blocking, blocking(&sleeping), warm_up);
        join(&mut taken.tokio, with_tokio(&sleeping), warm_up);
    }
    Arc::into_inner(sleeping).ok_or("a task goes on")?.kill()?.delete()?;
    Ok(taken)
}

/// Keeps the first error.
fn join(all: &mut Result<Samples>, round: Result<Samples>, warm_up: bool) {
    match (all.as_mut(), round) {
        (Ok(all), Ok(round)) if !warm_up => all.extend(round),
        (Ok(_), Err(error)) => *all = Err(error),
        _ => {}
    }
}

fn of_true() -> Exec {
    Exec::new(["/bin/true"]).attached()
}

fn blocking(container: &Container<Running>) -> Result<Samples> {
    /// One exec does not need the 2 MiB of a thread of std.
    const STACK: usize = 256 << 10;
    let (gate, started) = (RwLock::new(()), OnceLock::new());
    let run = || -> Result<_> {
        drop(gate.read());
        let clock: &Instant = started.get_or_init(Instant::now);
        match container.exec(of_true())?.wait()?.outcome {
            outcome if outcome.success() => Ok(clock.elapsed()),
            outcome => Err(format!("true ended with {outcome:?}").into()),
        }
    };
    std::thread::scope(|scope| {
        let closed = gate.write();
        let spawn = |_| std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run);
        let threads = (0..COUNT).map(spawn).collect::<Result<Vec<_>, _>>()?;
        drop(closed);
        let mut samples = Samples::default();
        for thread in threads {
            samples.add(thread.join().expect("an exec returns its errors")?);
        }
        Ok(samples)
    })
}

#[cfg(feature = "tokio")]
fn with_tokio(container: &Arc<Container<Running>>) -> Result<Samples> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (clock, mut tasks) = (Instant::now(), tokio::task::JoinSet::<Result<Duration>>::new());
        for _ in 0..COUNT {
            let container = Arc::clone(container);
            tasks.spawn(async move {
                match container.exec_async(of_true()).await?.wait_async().await?.outcome {
                    outcome if outcome.success() => Ok(clock.elapsed()),
                    outcome => Err(format!("true ended with {outcome:?}").into()),
                }
            });
        }
        let mut samples = Samples::default();
        while let Some(took) = tasks.join_next().await {
            samples.add(took??);
        }
        Ok(samples)
    })
}

#[cfg(not(feature = "tokio"))]
fn with_tokio(_: &Arc<Container<Running>>) -> Result<Samples> {
    Err("built without the feature `tokio`".into())
}

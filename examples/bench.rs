//! Measures what a container costs, next to the minimum that Linux needs for one and next to other runtimes.
//!
//! ```text
//! cargo run --profile dist --example bench              # a table
//! cargo run --profile dist --example bench -- --quick   # takes at most 40 seconds
//! cargo run --profile dist --example bench -- --json    # one object
//! cargo run --profile dist --example bench -- --html FILE  # the table, and a page of pictures
//! cargo run --profile dist --example bench -- --limits  # only what limits cost
//! cargo run --profile dist --example bench -- --trace   # one run as a timeline of system calls, by strace
//! cargo run --profile dist --example bench -- --pool    # only jobs from a pool, beside bubblewrap
//! cargo run --profile dist --example bench -- --images  # only checkpoint and restore, beside runc
//! cargo run --profile dist --example bench -- --warm   # only clones of a prepared Python, beside cold starts
//! cargo run --profile dist --example bench -- --helper FILE  # with that program as the helpers' (helpers::Helper)
//! ```
//!
//! A *run* is build, create, start, wait and delete of a static `true` from busybox, in all namespaces that the builder
//! creates by default and without cgroup limits. The *floor* is one clone into the same namespaces, the same mounts and
//! an exec, and nothing else. The same runs are measured once more with a zygote, from which the helpers
//! are forked. runc, crun and bubblewrap take part if they are on the `PATH`; all of them take turns in one loop,
//! so that a busy host slows all alike. The example `oci`, our command line, takes part too, once
//! `cargo build --profile dist --example oci` has built it. `podman run --rm` is measured with each of the OCI runtimes.
//!
//! An *exec* is the same `true` in a running container: ours, runc's and crun's. A thousand of them at once are measured
//! from a thread each, and, with the feature `tokio`, as futures on one thread. The other operations have no peers; a
//! table shows their targets.
//!
//! The cost of limits is a ratio, so that it is meaningful on an emulated machine too: `VM_BENCH=1 tests/vm/run`
//! measures it on cgroup v2.
//!
//! Works as root and as any other user. What the user cannot run or read is left out, and the reason is printed.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

#[path = "built/mod.rs"]
mod built;
#[path = "bench/callers.rs"]
mod callers;
#[path = "bench/cost.rs"]
mod cost;
#[path = "bench/images.rs"]
mod images;
#[path = "bench/many_execs.rs"]
mod many_execs;
#[path = "bench/operations.rs"]
mod operations;
#[path = "bench/peer_exec.rs"]
mod peer_exec;
#[path = "bench/peers.rs"]
mod peers;
#[path = "bench/picture.rs"]
mod picture;
#[path = "bench/podman.rs"]
mod podman;
#[path = "bench/pool.rs"]
mod pool;
#[path = "bench/report.rs"]
mod report;
#[path = "bench/rootfs.rs"]
mod rootfs;
#[path = "bench/scale.rs"]
mod scale;
#[path = "bench/targets.rs"]
mod targets;
#[path = "bench/trace.rs"]
mod trace;
#[path = "bench/warm.rs"]
mod warm;
#[path = "bench/zygote.rs"]
mod zygote;

use clap::{Parser, Subcommand};
use cofferdam::helpers::Helper;
use cofferdam::{Container, ContainerBuilder, Rootfs, Running, StateRoot, Zygote, floor};
use cost::Costs;
use peers::Peer;
use report::{Phases, Report, Samples};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// The parallel measurement creates containers from this many threads.
const THREADS: usize = 8;
/// Rounds whose times are discarded: the first ones fill caches and open what a process opens only once.
const WARM_UP: usize = 5;

/// Measures what a container costs, next to the minimum that Linux needs for one and next to other runtimes.
#[derive(Parser)]
struct Options {
    /// Measure fewer runs, in at most 40 seconds.
    #[arg(long)]
    quick: bool,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Write a page with the table and its pictures to this file, too.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Measure only runs with limits and runs without, in turns.
    #[arg(long)]
    limits: bool,
    /// Print one run as a timeline of the system calls of its processes, by strace.
    #[arg(long)]
    trace: bool,
    /// Measure only containers from a pool and others that are created for their jobs, in turns.
    #[arg(long)]
    pool: bool,
    /// Measure only images of containers, by the example oci and by runc, in turns.
    #[arg(long)]
    images: bool,
    /// Measure only clones of a Python that has imported its modules and others that start, in turns.
    #[arg(long)]
    warm: bool,
    /// Have the helpers execute this program.
    #[arg(long, value_name = "FILE")]
    helper: Option<PathBuf>,
    /// How many containers to run, one after the other.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What a copy of this program does that the program itself started.
#[derive(Subcommand)]
enum Role {
    /// Run one container for every line of standard input and print its nanoseconds.
    #[command(hide = true)]
    Caller(callers::Caller),
}

/// How often each operation is measured.
struct Amounts {
    runs: usize,
    peer_runs: usize,
    caller_runs: usize,
    parallel_runs: usize,
    execs: usize,
    peer_execs: usize,
    operations: usize,
    podman_runs: usize,
    records: usize,
    /// How many containers live at once, ascending.
    alive: &'static [usize],
}

impl Amounts {
    /// How many containers with a larger program live at once.
    fn alive_at_once(&self) -> usize {
        self.alive.iter().copied().filter(|alive| *alive <= 100).max().unwrap_or(1)
    }
}

impl Options {
    fn amounts(&self) -> Amounts {
        let (runs, peer_runs, caller_runs, parallel_runs) =
            if self.quick { (150, 15, 30, 10) } else { (500, 60, 100, 40) };
        let runs = self.runs.map_or(runs, |runs| runs as usize);
        let (execs, peer_execs, operations) = if self.quick { (150, 15, 40) } else { (500, 60, 200) };
        let podman_runs = if self.quick { 3 } else { 20 };
        let (peer_runs, records) = (peer_runs.min(runs), 500);
        let alive: &[usize] = if self.quick { &[1, 10, 100] } else { &[1, 10, 100, 1000] };
        Amounts {
            runs,
            peer_runs,
            caller_runs,
            parallel_runs,
            execs,
            peer_execs,
            operations,
            podman_runs,
            records,
            alive,
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = || match &options.role {
        Some(Role::Caller(caller)) => caller.serve(),
        None if options.limits => bench_limits(&options),
        None if options.trace => print_trace(),
        None if options.pool => bench_pool(&options),
        None if options.images => bench_images(&options),
        None if options.warm => bench_warm(&options),
        None => bench(&options),
    };
    let installed = options.helper.as_ref().map_or(Ok(()), |path| Helper::at(path)?.install());
    match installed.map_err(Into::into).and_then(|()| done()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &Options) -> Result<()> {
    let amounts = options.amounts();
    let place = rootfs::directory()?;
    let ground = Ground::new(rootfs::busybox(place.path())?, place.path().join("state"))?;
    let mut peers = peers::on_path(place.path(), ground.rootfs())?;

    let zygote = Zygote::spawn()?;
    let InTurns { run, run_without_init, forked_run, floor, phases, costs } =
        in_turns(&ground, &zygote, &mut peers, &amounts)?;
    let pooled = pool::measure(&ground, place.path(), &mut peers, amounts.operations)?;
    let report = Report {
        run,
        pooled,
        run_without_init,
        floor,
        phases,
        costs,
        parallel_per_second: parallel(THREADS, amounts.parallel_runs, || ground.run().map(drop))?,
        forked: zygote::measure(&ground, &zygote, forked_run, amounts.parallel_runs)?,
        helpers_pss_kib: helpers_pss_kib(&ground),
        big_caller_ratio: callers::ratio(&ground, amounts.caller_runs)?,
        exec: operations::exec(&ground, place.path(), &amounts)?,
        many_execs: many_execs::measure(&ground)?,
        limits_run: operations::runs_with_limits(&ground, amounts.operations),
        bind_run: operations::cost_of_a_bind(&ground, place.path(), amounts.operations)?,
        pause_resume: operations::pause_resume(&ground, amounts.operations)?,
        pod_member: operations::pod_member(&ground, amounts.operations)?,
        state_of_many: (
            amounts.records,
            operations::state_among(&ground, &place.path().join("records"), &amounts)?,
        ),
        scale: scale::measure(&ground, amounts.alive, THREADS * amounts.parallel_runs, &peers)?,
        warm: warm::measure(place.path(), amounts.operations.div_ceil(4), amounts.alive_at_once())?,
        podman: podman::measure(place.path(), ground.rootfs(), &amounts),
        peers,
    };
    if options.json {
        println!("{:#}", report.json())
    } else {
        print!("{}", report.table())
    }
    options.html.as_ref().map_or(Ok(()), |file| picture::write(file, &report))
}

fn bench_limits(options: &Options) -> Result<()> {
    let place = rootfs::directory()?;
    let ground = Ground::new(rootfs::busybox(place.path())?, place.path().join("state"))?;
    let cost = operations::cost_of_limits(&ground, options.amounts().operations)?;
    if options.json {
        println!("{:#}", cost.json())
    } else {
        print!("{}", cost.table())
    }
    Ok(())
}

fn print_trace() -> Result<()> {
    let place = rootfs::directory()?;
    let ground = Ground::new(rootfs::busybox(place.path())?, place.path().join("state"))?;
    print!("{}", trace::timeline(&ground)?);
    Ok(())
}

fn bench_pool(options: &Options) -> Result<()> {
    let place = rootfs::directory()?;
    let ground = Ground::new(rootfs::busybox(place.path())?, place.path().join("state"))?;
    let mut peers = peers::on_path(place.path(), ground.rootfs())?;
    peers.retain(|peer| peer.name == "bwrap");
    let pooled = pool::measure(&ground, place.path(), &mut peers, options.amounts().operations)?;
    if options.json {
        println!("{:#}", report::pool_json(&pooled))
    } else {
        print!("{}", report::pool_table(&pooled, &peers))
    }
    Ok(())
}

fn bench_images(options: &Options) -> Result<()> {
    let place = rootfs::directory()?;
    rootfs::busybox(place.path())?;
    let runs = if options.quick { 5 } else { 30 };
    let runtimes = images::measure(place.path(), options.runs.map_or(runs, |runs| runs as usize))?;
    if options.json {
        println!("{:#}", images::json(&runtimes))
    } else {
        print!("{}", images::table(&runtimes))
    }
    Ok(())
}

fn bench_warm(options: &Options) -> Result<()> {
    let (place, amounts) = (rootfs::directory()?, options.amounts());
    let warm = warm::measure(place.path(), amounts.operations, amounts.alive_at_once())?;
    let warm = warm.ok_or("there is no Python")?;
    if options.json {
        println!("{:#}", warm.json())
    } else {
        print!("{}", warm.table())
    }
    Ok(())
}

/// The root file system and the state directory of the containers measured here.
struct Ground {
    rootfs: PathBuf,
    state: StateRoot,
    made: AtomicUsize,
}

impl Ground {
    fn new(rootfs: PathBuf, state: PathBuf) -> Result<Self> {
        Ok(Self { rootfs, state: StateRoot::open(state)?, made: AtomicUsize::new(0) })
    }

    fn rootfs(&self) -> &Path {
        &self.rootfs
    }

    fn state(&self) -> &Path {
        self.state.path()
    }

    fn container(&self, program: &[&str]) -> ContainerBuilder {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        ContainerBuilder::new()
            .id(format!("bench-{}-{number}", std::process::id()))
            .rootfs(Rootfs::directory(&self.rootfs))
            .state_root(self.state.clone())
            .args(program.iter().copied())
    }

    /// Runs one container from its description to its deletion. Returns the time of each phase.
    fn run(&self) -> Result<[Duration; 5]> {
        self.run_as(|container| container)
    }

    /// The same without the container's init.
    fn run_without_init(&self) -> Result<[Duration; 5]> {
        self.run_as(|container| container.init(false))
    }

    /// The same with helpers forked from `zygote`.
    fn run_forked(&self, zygote: &Zygote) -> Result<[Duration; 5]> {
        self.run_as(|container| container.zygote(zygote))
    }

    fn run_as(&self, describe: impl Fn(ContainerBuilder) -> ContainerBuilder) -> Result<[Duration; 5]> {
        let mut clock = Instant::now();
        let mut lap = || {
            let now = Instant::now();
            now - std::mem::replace(&mut clock, now)
        };
        let creating = describe(self.container(&["/bin/true"])).build()?;
        let build = lap();
        let created = creating.create()?;
        let create = lap();
        let running = created.start()?;
        let start = lap();
        let stopped = running.wait_stopped()?;
        let wait = lap();
        let outcome = stopped.exit().outcome;
        stopped.delete()?;
        let delete = lap();
        if !outcome.success() {
            return Err(format!("true ended with {outcome:?}").into());
        }
        Ok([build, create, start, wait, delete])
    }

    fn run_floor(&self) -> Result<Duration> {
        let clock = Instant::now();
        match floor::run(&self.rootfs, Path::new("/bin/true"))? {
            0 => Ok(clock.elapsed()),
            errno => Err(format!("the floor: {}", std::io::Error::from_raw_os_error(errno)).into()),
        }
    }
}

/// Measurements to compare, taken in turns in one loop.
#[derive(Default)]
struct InTurns {
    run: Samples,
    /// Runs of containers whose program is PID 1.
    run_without_init: Samples,
    /// Runs whose helpers were forked from a zygote.
    forked_run: Samples,
    floor: Samples,
    phases: Phases,
    costs: CostsInTurns,
}

/// The same runs as in [`InTurns`].
#[derive(Default)]
struct CostsInTurns {
    run: Costs,
    run_without_init: Costs,
    forked_run: Costs,
    floor: Costs,
}

/// Measures ours and the floor in every round, and the slower peers in evenly spread rounds.
fn in_turns(ground: &Ground, zygote: &Zygote, peers: &mut [Peer], amounts: &Amounts) -> Result<InTurns> {
    let mut taken = InTurns::default();
    for _ in 0..WARM_UP {
        ground.run()?;
        ground.run_without_init()?;
        ground.run_forked(zygote)?;
        ground.run_floor()?;
    }
    let every = amounts.runs / amounts.peer_runs;
    for round in 0..amounts.runs {
        let InTurns { costs, .. } = &mut taken;
        // These come first: the peers of the last round have emptied the caches.
        let floor = costs.floor.of(|| ground.run_floor())?;
        let forked = costs.forked_run.of(|| ground.run_forked(zygote))?;
        // A pair, of which each is the first in every second round.
        let mut with_init = || costs.run.of(|| ground.run());
        let mut without_init = || costs.run_without_init.of(|| ground.run_without_init());
        let (laps, without_init) = if round % 2 == 0 {
            (with_init()?, without_init()?)
        } else {
            let first = without_init()?;
            (with_init()?, first)
        };
        taken.run.add(laps.iter().sum());
        taken.phases.add(laps);
        taken.run_without_init.add(without_init.iter().sum());
        taken.forked_run.add(forked.iter().sum());
        taken.floor.add(floor);
        if round % every == 0 {
            peers.iter_mut().for_each(Peer::measure);
        }
    }
    Ok(taken)
}

/// Runs per second when so many `threads` each do `runs` at the same time.
fn parallel(threads: usize, runs: usize, run: impl Fn() -> Result<()> + Sync) -> Result<f64> {
    let clock = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| (0..runs).try_for_each(|_| run()))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a run returns its errors"))
    })?;
    Ok((threads * runs) as f64 / clock.elapsed().as_secs_f64())
}

/// The sum of the proportional set sizes of gofer and sandbox while a workload sleeps (proc_pid_smaps_rollup(5)).
fn helpers_pss_kib(ground: &Ground) -> Result<u64> {
    let sleeping = ground.container(&["/bin/sleep", "60"]).build()?.create()?.start()?;
    let_helpers_rest();
    let size = helpers(&sleeping)?.into_iter().map(pss_kib).sum();
    sleeping.kill()?.delete()?;
    size
}

/// Helpers give back what they need only to work once they have had nothing to do for 50 ms.
#[expect(clippy::disallowed_methods, reason = "it is time itself that they wait for")]
fn let_helpers_rest() {
    std::thread::sleep(Duration::from_millis(100));
}

/// The pids of gofer and sandbox.
fn helpers(container: &Container<Running>) -> Result<[i32; 2]> {
    let gofer = container.info().gofer.as_ref().ok_or("the record names no gofer")?.pid;
    Ok([gofer, container.sandbox_pid()])
}

fn pss_kib(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line =
        text.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or_else(|| format!("{path}: no Pss"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

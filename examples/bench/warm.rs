//! What a clone of a Python that has imported its modules costs, beside a Python that starts and imports them.

use super::report::{Samples, line, rounded};
use super::{Result, THREADS, WARM_UP, parallel};
use cofferdam::pools::{Job, Pool};
use cofferdam::templates::{Ready, Template};
use cofferdam::{Container, ContainerBuilder, Running, StateRoot, Stdio};
use serde_json::{Value, json};
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const PYTHON: &str = "/usr/bin/python3";
/// The program of both kinds of container. With an argument, which only the template's has, it stops first. Then it writes
/// `n` if it has numpy and `x` if not, and waits.
const PROGRAM: &str = "import asyncio, json, os, signal, sqlite3, sys
try: import numpy
except ImportError: pass
if sys.argv[1:]: os.kill(os.getpid(), signal.SIGSTOP)
print('n' if 'numpy' in sys.modules else 'x', flush=True)
sys.stdin.read()";

/// Of both kinds of containers, `[warm, cold]`.
pub(super) struct Warm {
    numpy: bool,
    first_output: [Samples; 2],
    /// Of a clone that waits in a pool: from the job to its first output.
    pooled: Samples,
    /// Resident memory of the program, in KiB: one alone.
    resident: [u64; 2],
    /// The same, of so many at once, and each page counted by how many have it.
    alive: usize,
    proportional: [u64; 2],
    per_second: [f64; 2],
    /// Making a template of a program that waits for it.
    take: Samples,
}

/// `None` without a Python.
pub(super) fn measure(place: &Path, runs: usize, alive: usize) -> Result<Option<Warm>> {
    if !Path::new(PYTHON).exists() {
        return Ok(None);
    }
    let ground = Ground { state: StateRoot::open(place.join("warm"))?, made: AtomicUsize::new(0) };
    let (mut take, mut template) = (Samples::default(), ground.template(&mut Samples::default())?);
    for _ in 0..runs.div_ceil(10) {
        template = ground.template(&mut take)?;
    }
    let describe: [&(dyn Fn() -> ContainerBuilder + Sync); 2] =
        [&|| template.builder(ground.id()), &|| ground.python(&[])];
    let mut first_output = [Samples::default(), Samples::default()];
    let mut numpy = false;
    for round in 0..WARM_UP + runs {
        if round == WARM_UP {
            first_output = Default::default();
        }
        for (samples, describe) in first_output.iter_mut().zip(describe) {
            let (running, letter, took) = first_letter(describe())?;
            numpy = letter == b'n';
            samples.add(took);
            running.kill()?.delete()?;
        }
    }
    let pooled = pooled(template.builder(ground.id()), runs)?;
    let mut resident = [0; 2];
    let mut proportional = [0; 2];
    let mut per_second = [0.0; 2];
    for (kind, describe) in describe.iter().enumerate() {
        let containers: Vec<Container<Running>> =
            (0..alive).map(|_| Ok(first_letter(describe())?.0)).collect::<Result<_>>()?;
        resident[kind] = kib(&containers[0], "Rss:")?;
        let sizes = containers.iter().map(|container| kib(container, "Pss:"));
        proportional[kind] = sizes.sum::<Result<u64>>()? / alive as u64;
        for container in containers {
            container.kill()?.delete()?;
        }
        per_second[kind] = parallel(THREADS, runs.div_ceil(THREADS), || {
            first_letter(describe())?.0.kill()?.delete()?;
            Ok(())
        })?;
    }
    Ok(Some(Warm { numpy, first_output, pooled, resident, alive, proportional, per_second, take }))
}

struct Ground {
    state: StateRoot,
    made: AtomicUsize,
}

impl Ground {
    fn id(&self) -> String {
        format!("warm-{}-{}", std::process::id(), self.made.fetch_add(1, Ordering::Relaxed))
    }

    fn python(&self, arguments: &[&str]) -> ContainerBuilder {
        let arguments = [PYTHON, "-c", PROGRAM].into_iter().chain(arguments.iter().copied());
        // numpy's OpenBLAS starts a thread for each processor when it is loaded, unless this says that one is enough.
        let builder = ContainerBuilder::new().env("OPENBLAS_NUM_THREADS", "1");
        builder.id(self.id()).state_root(self.state.clone()).args(arguments)
    }

    fn template(&self, take: &mut Samples) -> Result<Template> {
        let running = self.python(&["template"]).build()?.create()?.start()?;
        // So that only the taking is measured.
        let stat = format!("/proc/{}/stat", running.init_pid());
        while !std::fs::read_to_string(&stat)?.contains(") T ") {
            std::thread::yield_now();
        }
        let clock = Instant::now();
        let template = running.into_template(Ready::Stopped)?;
        take.add(clock.elapsed());
        Ok(template)
    }
}

/// Creates a container, and reads a byte of its output: the time from the description to that byte.
fn first_letter(builder: ContainerBuilder) -> Result<(Container<Running>, u8, Duration)> {
    let clock = Instant::now();
    let builder = builder.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = builder.build()?.create()?.start()?;
    let mut stdout = running.take_stdout().ok_or("standard output is a pipe")?;
    let mut letter = [0];
    stdout.read_exact(&mut letter)?;
    Ok((running, letter[0], clock.elapsed()))
}

/// Takes clones out of a pool, each when the pool is full.
fn pooled(template: ContainerBuilder, runs: usize) -> Result<Samples> {
    let pool = Pool::new(template, 2)?;
    let mut samples = Samples::default();
    for _ in 0..runs {
        pool.wait_full(Duration::from_secs(60))?;
        let clock = Instant::now();
        let job = Job::of_template().stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = pool.take(job)?.into_container().start()?;
        running.take_stdout().ok_or("standard output is a pipe")?.read_exact(&mut [0])?;
        samples.add(clock.elapsed());
        running.kill()?.delete()?;
    }
    Ok(samples)
}

/// A line of proc_pid_smaps_rollup(5) about the program.
fn kib(container: &Container<Running>, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", container.init_pid()))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

impl Warm {
    /// The targets: their names, what was measured, and the bounds.
    pub(super) fn targets(&self) -> [(&'static str, f64, f64, &'static str); 5] {
        let [warm, cold] = &self.first_output;
        let share = |[warm, cold]: [u64; 2]| warm as f64 / cold as f64;
        [
            ("a clone of Python, to its first output", warm.median(), 15.0, "ms"),
            ("  the same, p95", warm.percentile(95), 25.0, "ms"),
            ("  the same, by a cold start", warm.median() / cold.median(), 0.05, "x"),
            ("  its resident memory, by a cold start's", share(self.resident), 0.4, "x"),
            ("making a template of it", self.take.median(), 100.0, "ms"),
        ]
    }

    pub(super) fn json(&self) -> Value {
        let [warm, cold] = &self.first_output;
        json!({
            "warm_numpy": self.numpy,
            "warm_first_output_ms": warm.json(),
            "warm_cold_first_output_ms": cold.json(),
            "warm_pooled_first_output_ms": self.pooled.json(),
            "warm_resident_kib": self.resident,
            "warm_alive": self.alive,
            "warm_proportional_kib": self.proportional,
            "warm_per_second": self.per_second.map(rounded),
            "warm_take_ms": self.take.json(),
        })
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let modules = if self.numpy { "numpy, json, sqlite3, asyncio" } else { "json, sqlite3, asyncio" };
        line(
            &mut text,
            format_args!("\nPython with {modules}: create to first output, memory of the program"),
        );
        line(
            &mut text,
            format_args!(
                "{:<22}{:>9}{:>9}{:>12}{:>18}{:>12}",
                "",
                "p50 ms",
                "p95 ms",
                "alone KiB",
                format!("each of {} KiB", self.alive),
                "per second"
            ),
        );
        for (kind, name) in ["clone", "cold"].into_iter().enumerate() {
            let samples = &self.first_output[kind];
            line(
                &mut text,
                format_args!(
                    "{name:<22}{:>9.2}{:>9.2}{:>12}{:>18}{:>12.1}",
                    samples.median(),
                    samples.percentile(95),
                    self.resident[kind],
                    self.proportional[kind],
                    self.per_second[kind]
                ),
            );
        }
        for (name, samples) in [("clone out of a pool", &self.pooled), ("taking the template", &self.take)] {
            let (median, late) = (samples.median(), samples.percentile(95));
            line(&mut text, format_args!("{name:<22}{median:>9.2}{late:>9.2}"));
        }
        text
    }
}

//! Runs snippets of Python, each in a container of its own: first with a Python that starts for each, then with clones of one
//! that has started and imported its modules.
//!
//! ```text
//! cargo run --example warm                                   # 100 snippets in both ways, with a progress bar
//! cargo run --example warm -- --snippets 20 --jobs 1 --modules json,decimal
//! ```
//!
//! The snippet is on standard input. `warm/warm.py` is what the prepared Python calls when it is ready: it stops there, and
//! each clone goes on there with other seeds. `warm/warm.h` does the same for programs in C. Both ways have to print the
//! same. The exit code is 0 if they do.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use clap::Parser;
use cofferdam::ContainerBuilder;
use cofferdam::templates::{Ready, Template};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The module that the prepared Python calls when it is ready: it stops there, and clones go on there.
const WARM: &str = include_str!("warm/warm.py");
const TIME: Duration = Duration::from_secs(60);

/// Runs snippets of Python in cold and in warm containers.
#[derive(Parser)]
struct Options {
    /// How many snippets
    #[arg(long, value_name = "N", default_value_t = 100)]
    snippets: usize,
    /// How many at a time: one for each processor, unless this says otherwise
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// The modules that every snippet needs
    #[arg(long, value_name = "NAMES", default_value = "asyncio,decimal,json,sqlite3")]
    modules: String,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let import = format!("import sys, {}", options.modules);
    let run = "exec(sys.stdin.read())";

    let clock = Instant::now();
    let cold_python = python("cold", &format!("{import}\n{run}"));
    let cold = Run::of("cold", &options, |number| cold_python.clone().id(id(number)))?;

    let program = format!("{WARM}\n{import}\nready()\n{run}");
    let (before, prepared) = (clock.elapsed(), python("template", &program).spawn()?);
    let template: Template = prepared.into_template(Ready::Stopped)?;
    let preparing = clock.elapsed() - before;
    let warm = Run::of("warm", &options, |number| template.builder(id(number)))?;

    println!("The template was ready after {} ms.", preparing.as_millis());
    for run in [&cold, &warm] {
        let per_second = options.snippets as f64 / run.took.as_secs_f64();
        println!("{}: half of them within {:>6.1} ms, {per_second:.1} per second", run.name, run.median());
    }
    let same = cold.outputs == warm.outputs;
    println!("{}", if same { "Both printed the same." } else { "They did not print the same." });
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn id(number: usize) -> String {
    format!("warm-{}-{number}", std::process::id())
}

fn python(name: &str, program: &str) -> ContainerBuilder {
    let id = format!("warm-{}-{name}", std::process::id());
    ContainerBuilder::new().id(id).timeout(TIME).args(["/usr/bin/python3", "-c", program])
}

/// All snippets, in one of the two ways.
struct Run {
    name: &'static str,
    took: Duration,
    /// From the description of the container to its end, in milliseconds.
    each: Vec<f64>,
    outputs: Vec<String>,
}

impl Run {
    fn of(
        name: &'static str,
        options: &Options,
        describe: impl Fn(usize) -> ContainerBuilder + Sync,
    ) -> Result<Self> {
        let jobs = options.jobs.map(usize::from);
        let jobs = jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
        let (next, clock) = (AtomicUsize::new(0), Instant::now());
        let done = Mutex::new(Vec::new());
        let work = || -> Result<()> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= options.snippets {
                    return Ok(());
                }
                let began = Instant::now();
                let output = describe(number).input(snippet(number)).output()?;
                if !output.exit.outcome.success() {
                    return Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)).into());
                }
                let took = began.elapsed().as_secs_f64() * 1e3;
                let mut done = done.lock().map_err(|_| "another job failed")?;
                done.push((number, took, String::from_utf8_lossy(&output.stdout).into_owned()));
                show(name, done.len(), options.snippets, clock.elapsed());
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a job panicked")?)
        })?;
        let took = clock.elapsed();
        let mut done = done.into_inner().map_err(|_| "a job failed")?;
        done.sort_by_key(|(number, ..)| *number);
        let (each, outputs) = done.into_iter().map(|(_, took, output)| (took, output)).unzip();
        Ok(Self { name, took, each, outputs })
    }

    fn median(&self) -> f64 {
        let mut sorted = self.each.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }
}

fn snippet(number: usize) -> String {
    format!(
        "import json\nprint(json.dumps({{'snippet': {number}, 'squares': sum(n * n for n in range({number}))}}))"
    )
}

/// The progress bar, on a terminal.
fn show(name: &str, done: usize, all: usize, took: Duration) {
    const WIDTH: usize = 40;
    if !std::io::stderr().is_terminal() {
        return;
    }
    let full = WIDTH * done / all;
    let end = if done == all { "\n" } else { "" };
    eprint!(
        "\r{name} [{}{}] {done:>4}/{all} {:>6.2} s{end}",
        "#".repeat(full),
        ".".repeat(WIDTH - full),
        took.as_secs_f64()
    );
}

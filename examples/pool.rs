//! Answers requests with a program that runs in a container of its own for each, taken from a pool.
//!
//! ```text
//! printf 'one\ntwo\n' | cargo run --example pool                       # upper case, a container for each line
//! printf 'one\ntwo\n' | cargo run --example pool -- --workers 2 rev   # any filter
//! ```
//!
//! Each line of standard input is the input of one container; what the program writes is printed in the order of the lines.
//! The containers are created while the program waits for requests, so that a request costs little more than the start of
//! its program. A summary goes to standard error. The exit code is 0 if every program ended with 0.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

#[path = "arguments/mod.rs"]
mod arguments;

use arguments::duration;
use clap::Parser;
use cofferdam::pools::{Job, Pool};
use cofferdam::{ContainerBuilder, Outcome, StateRoot, Stdio};
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Runs a program once for each line of standard input, each time in a container of its own.
#[derive(Parser)]
struct Options {
    /// How many containers wait for requests
    #[arg(long, value_name = "N", default_value_t = 8)]
    size: usize,
    /// How many requests are answered at the same time
    #[arg(long, value_name = "N", default_value_t = 4)]
    workers: usize,
    /// How long a program may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,
    /// Keep the records of the containers in this directory
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The program, and its arguments
    #[arg(default_values = ["tr", "a-z", "A-Z"], trailing_var_arg = true)]
    program: Vec<String>,
}

/// What became of one request.
struct Answer {
    text: String,
    outcome: Outcome,
    cold: bool,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let mut template = ContainerBuilder::new()
        .id(format!("pool-{}", std::process::id()))
        .args(&options.program)
        .timeout(options.timeout);
    if let Some(root) = &options.root {
        template = template.state_root(StateRoot::open(root)?);
    }
    let pool = Pool::new(template, options.size)?;
    let requests = std::io::read_to_string(std::io::stdin())?;
    let answers = answer_all(&pool, &requests.lines().collect::<Vec<_>>(), options.workers)?;
    for Answer { text, .. } in &answers {
        print!("{text}");
    }
    let (cold, failed) = (
        answers.iter().filter(|answer| answer.cold).count(),
        answers.iter().filter(|answer| !answer.outcome.success()).count(),
    );
    eprintln!("pool: {} requests, {cold} found no container waiting, {failed} failed", answers.len());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Answers each request on one of the `workers`. The answers are in the order of the requests.
fn answer_all(pool: &Pool, requests: &[&str], workers: usize) -> Result<Vec<Answer>> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Answer)>> {
        let mut answers = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(request) = requests.get(number) else { return Ok(answers) };
            answers.push((number, answer(pool, request)?));
        }
    };
    let mut answers = std::thread::scope(|scope| -> Result<Vec<_>> {
        let workers: Vec<_> = (0..workers.max(1)).map(|_| scope.spawn(work)).collect();
        let answered = workers.into_iter().map(|worker| worker.join().expect("a worker returns its errors"));
        Ok(answered.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    })?;
    answers.sort_by_key(|(number, _)| *number);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

fn answer(pool: &Pool, request: &str) -> Result<Answer> {
    let job = Job::of_template().input(format!("{request}\n")).stdout(Stdio::piped());
    let taken = pool.take(job)?;
    let cold = taken.is_cold();
    let mut created = taken.into_container();
    let stdout = created.take_stdout();
    let running = created.start()?;
    let mut text = String::new();
    if let Some(mut stdout) = stdout {
        stdout.read_to_string(&mut text)?;
    }
    let stopped = running.wait_stopped()?;
    let outcome = stopped.exit().outcome;
    stopped.delete()?;
    Ok(Answer { text, outcome, cold })
}

//! Judges a submission as a programming contest does: runs each test in a container of its own, and compares what the
//! submission writes with the answer.
//!
//! ```text
//! cargo run --example judge                                                   # five submissions, one for each verdict
//! cargo run --example judge -- --tests ./tests --time 1s --memory 64m -- ./solution
//! ```
//!
//! A test is a file `NAME.in`, and beside it `NAME.out` with the answer. The submission is a program of the host, which the
//! container sees as `/submission`. The judge prints a line for each test: the verdict, the CPU time and the peak memory.
//! The verdicts are `AC` accepted, `WA` wrong answer, `TLE`, `MLE` and `OLE` limit of time, memory or output exceeded, `RE`
//! run-time error. The exit code is 0 if every verdict is `AC`. If the caller may not limit memory by a cgroup, the judge
//! limits the address space of each process instead.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

#[path = "arguments/mod.rs"]
mod arguments;

use arguments::{duration, size};
use clap::Parser;
use cofferdam::builder::Resource;
use cofferdam::{ContainerBuilder, Outcome, Output, Signal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Judges a program by tests.
#[derive(Parser)]
struct Options {
    /// The directory with the tests
    #[arg(long, value_name = "DIR", requires = "program")]
    tests: Option<PathBuf>,
    /// How much CPU time a test may take
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    time: Duration,
    /// How much memory a test may use
    #[arg(long, value_name = "SIZE", default_value = "64m", value_parser = size)]
    memory: u64,
    /// The program, and its arguments
    program: Vec<String>,
}

/// Submissions for the test `1 2` -> `3`, in shell: what each of the verdicts looks like.
const DEMONSTRATION: [&str; 5] = [
    "read a b; echo $((a + b))",
    "read a b; echo $((a * b))",
    "while :; do :; done",
    "exec tail /dev/zero",
    "read a b; echo $((a + b)); kill -SEGV $$",
];

fn main() -> Result<ExitCode> {
    let accepted = judge(&Options::parse())?;
    Ok(if accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs all tests. Returns whether all are accepted.
fn judge(options: &Options) -> Result<bool> {
    let template = template(options)?;
    let mut accepted = true;
    let Some(directory) = &options.tests else {
        for submission in DEMONSTRATION {
            let verdict = verdict(template.clone().args(["sh", "-c", submission]), "1 2\n", "3\n", options)?;
            println!("{verdict}  {submission}");
        }
        return Ok(true);
    };
    let (program, arguments) = options.program.split_first().ok_or("no program")?;
    let template = template.bind_ro(program, "/submission").arg("/submission");
    let template = arguments.iter().fold(template, ContainerBuilder::arg);
    let mut tests: Vec<_> = std::fs::read_dir(directory)?.collect::<std::result::Result<_, _>>()?;
    tests.sort_by_key(std::fs::DirEntry::file_name);
    for input in
        tests.iter().map(std::fs::DirEntry::path).filter(|path| path.extension() == Some("in".as_ref()))
    {
        let (given, expected) =
            (std::fs::read_to_string(&input)?, std::fs::read_to_string(input.with_extension("out"))?);
        let verdict = verdict(template.clone(), &given, &expected, options)?;
        println!("{verdict}  {}", input.display());
        accepted &= verdict.starts_with("AC");
    }
    Ok(accepted)
}

/// The container that all tests have in common. Tries once whether this user may limit memory by a cgroup.
fn template(options: &Options) -> Result<ContainerBuilder> {
    // The verdict depends on CPU time. The limit of time by the clock ends programs that sleep.
    let base = ContainerBuilder::new().cpu_time(options.time).timeout(options.time * 3).output_limit(1 << 20);
    let limited = base.clone().memory_limit(options.memory).pids_limit(64);
    match limited.clone().args(["true"]).build() {
        Ok(_) => Ok(limited),
        Err(error) => {
            eprintln!("judge: each process's address space is limited instead: {error}");
            Ok(base.rlimit(Resource::AddressSpace, options.memory))
        }
    }
}

/// Runs one test. Returns the verdict, with what the submission used.
fn verdict(submission: ContainerBuilder, input: &str, expected: &str, options: &Options) -> Result<String> {
    let Output { exit, stdout, .. } = submission.input(input).output()?;
    let cpu = exit.user_time + exit.system_time;
    let peak = exit.memory_peak.unwrap_or(exit.max_rss);
    let same = String::from_utf8_lossy(&stdout).split_whitespace().eq(expected.split_whitespace());
    let verdict = match exit.outcome {
        Outcome::OutOfMemory => "MLE",
        Outcome::TooMuchOutput { .. } => "OLE",
        Outcome::TimedOut { .. } | Outcome::Signalled { signal: Signal::XCPU, .. } => "TLE",
        _ if cpu > options.time => "TLE",
        Outcome::Exited { code: 0 } if same => "AC",
        Outcome::Exited { code: 0 } => "WA",
        // If only the address space is limited, the kernel kills nothing: the program's allocation fails.
        Outcome::Exited { .. } if peak > options.memory / 4 * 3 => "MLE",
        _ => "RE",
    };
    Ok(format!("{verdict:<3} {:>6} ms {:>7} KiB", cpu.as_millis(), peak >> 10))
}

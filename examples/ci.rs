//! Runs the steps of a job in one container, with a directory of yours as its workspace.
//!
//! ```text
//! cargo run --example ci -- --workspace . 'make' 'make test' 'cp report.txt /out'
//! cargo run --example ci -- --workspace . --artifacts ./artifacts --timeout 10m 'cargo build' 'cp target/x /out'
//! ```
//!
//! The container sees the workspace as `/workspace`, writable. What the steps create there belongs to the owner of the
//! directory. The program copies what they put into `/out` to the directory of artifacts. Each line of output has the time
//! since the job began and the number of its step; on a terminal a bar shows the progress. The first step that fails ends
//! the job.
//!
//! The container ends with this program: Ctrl-C ends everything, and so does `kill -9`.

#![expect(clippy::print_stderr, reason = "a program for the terminal")]

#[path = "arguments/mod.rs"]
mod arguments;

use arguments::{duration, size};
use clap::Parser;
use cofferdam::builder::Bind;
use cofferdam::files::Transfer;
use cofferdam::{Container, ContainerBuilder, Exec, Outcome, Running, Stdio};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Runs the steps of a job in a container.
#[derive(Parser)]
#[command(after_help = "SIZE is in bytes, or with k, m or g; DURATION is in seconds, or with ms, s, m or h.")]
struct Options {
    /// The directory to work in
    #[arg(long, value_name = "DIR", default_value = ".")]
    workspace: PathBuf,
    /// Where to put what the steps leave in /out
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// How long a step may run
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    timeout: Duration,
    /// How much memory the job may use, if this user may limit it
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Shell command lines
    #[arg(required = true)]
    steps: Vec<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match job(&options) {
        Ok(Outcome::Exited { code: 0 }) => ExitCode::SUCCESS,
        Ok(outcome) => {
            eprintln!("ci: {outcome}");
            ExitCode::from(u8::try_from(outcome.shell_code()).unwrap_or(1))
        }
        Err(error) => {
            eprintln!("ci: {error}");
            ExitCode::from(125)
        }
    }
}

/// Runs the steps until one fails. Returns the outcome of the last.
fn job(options: &Options) -> Result<Outcome, Box<dyn std::error::Error>> {
    let mut builder = ContainerBuilder::new()
        .args(["sleep", "infinity"])
        .bind(Bind::new(&options.workspace, "/workspace").map_owner())
        .tmpfs("/out", 1 << 30)
        .env("HOME", "/tmp")
        .cwd("/workspace");
    if let Some(bytes) = options.memory {
        builder = builder.memory_limit(bytes).best_effort_limits();
    }
    let container = builder.spawn()?;
    let bar = ProgressBar::new(options.steps.len() as u64);
    bar.set_style(ProgressStyle::with_template("[{elapsed}] {bar:20} {pos}/{len} {wide_msg}")?);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let (began, mut outcome) = (Instant::now(), Outcome::Exited { code: 0 });
    for (number, step) in (1..).zip(&options.steps) {
        bar.set_message(step.clone());
        outcome = run(&container, step, options.timeout, |line| {
            bar.suspend(|| writeln!(stdout(), "{:>9.3} {number} | {line}", began.elapsed().as_secs_f64()))
        })?;
        if !outcome.success() {
            break;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if let Some(directory) = &options.artifacts {
        container.files()?.copy_out("/out", directory, &Transfer::up_to(1 << 30))?;
    }
    Ok(outcome)
}

/// Runs one step, and hands over its output line by line.
fn run(
    container: &Container<Running>,
    step: &str,
    timeout: Duration,
    print: impl Fn(&str) -> std::io::Result<()>,
) -> Result<Outcome, Box<dyn std::error::Error>> {
    let exec = Exec::new(["sh", "-ec", step]).stdout(Stdio::piped()).stderr(Stdio::piped()).timeout(timeout);
    let mut process = container.exec(exec)?;
    for line in process.take_lines() {
        print(&line?.text())?;
    }
    Ok(process.wait()?.outcome)
}

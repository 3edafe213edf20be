//! Keeps services running: starts each in a container, and restarts those that fail. The services go on if the supervisor
//! is killed, and the next supervisor takes them over.
//!
//! ```text
//! cargo run --example supervise -- web='python3 -m http.server' clock='while date; do sleep 1; done'
//! cargo run --example supervise -- --restarts 3 --log ./log --log-size 65536 once='exit 1'
//! cargo run --example supervise -- --stop web= clock=
//! ```
//!
//! The container of a service is called `supervise-NAME`. The exit code is 0 if every service succeeded in the end.
//! With `--log`, the output of a service is in `NAME.log`, and what was before in `NAME.log.1`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]
#![expect(clippy::disallowed_methods, reason = "a back-off waits for time to pass")]

mod log;

use clap::Parser;
use cofferdam::{AnyContainer, ContainerBuilder, ErrorKind, Outcome, StateRoot, Stdio};
use log::Log;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Keeps services running.
#[derive(Parser)]
struct Options {
    /// How often a service that fails is started again, after a pause that doubles each time
    #[arg(long, value_name = "N", default_value_t = 5)]
    restarts: u32,
    /// Append the output of services to files `NAME.log` in this directory
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
    /// The size of a log, above which it becomes `NAME.log.1` and a new one begins
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = clap::value_parser!(u64).range(1..))]
    log_size: u64,
    #[arg(long, help = "Stop the services instead")]
    stop: bool,
    /// The directory with the records of containers
    #[arg(long, value_name = "STATE_DIR")]
    root: Option<PathBuf>,
    #[arg(value_name = "NAME=COMMAND", required = true, value_parser = service)]
    services: Vec<Service>,
}

type Service = (String, String);

fn service(text: &str) -> std::result::Result<Service, String> {
    let (name, command) = text.split_once('=').ok_or("needs NAME=COMMAND")?;
    Ok((name.to_owned(), command.to_owned()))
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let root = options.root.as_ref().map_or_else(StateRoot::open_default, StateRoot::open)?;
    let all_well = std::thread::scope(|scope| {
        let (root, options) = (&root, &options);
        let one = |service| {
            scope.spawn(move || if options.stop { stop(root, service) } else { keep(root, service, options) })
        };
        let threads: Vec<_> = options.services.iter().map(one).collect();
        threads.into_iter().fold(true, |well, thread| {
            let ended = thread.join().expect("a service's thread does not panic");
            well & ended.inspect_err(|error| eprintln!("supervise: {error}")).unwrap_or(false)
        })
    });
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a service until it succeeds, or has failed too often. Returns whether it succeeded.
fn keep(root: &StateRoot, (name, command): &Service, options: &Options) -> Result<bool> {
    let id = format!("supervise-{name}");
    let mut failures = 0;
    loop {
        // Before the container, so that nothing of what it writes is lost.
        let log = options.log.as_ref().map(|at| Log::open(at, name, options.log_size)).transpose()?;
        // Take over the container of an earlier supervisor, or start one.
        let container = match AnyContainer::load(root, &id) {
            Err(error) if *error.kind() == ErrorKind::NotFound => {
                start(root, &id, command, log.as_ref()).inspect(|_| println!("{name}: started"))?
            }
            found => found.inspect(|found| println!("{name}: taken over, {}", found.status()))?,
        };
        let copying = log.map(Log::copy);
        let stopped = container.wait_stopped()?;
        let outcome = stopped.exit().outcome;
        stopped.delete()?;
        copying.map(|copying| copying.join().expect("the thread that copies does not panic")).transpose()?;
        println!("{name}: {outcome}");
        // Another supervisor has stopped it.
        let is_over = outcome.success() || matches!(outcome, Outcome::Killed { .. });
        if is_over || failures == options.restarts {
            return Ok(outcome.success());
        }
        std::thread::sleep(Duration::from_millis(100 << failures.min(10)));
        failures += 1;
    }
}

/// Starts a service in a container that outlives this program.
fn start(root: &StateRoot, id: &str, command: &str, log: Option<&Log>) -> Result<AnyContainer> {
    let builder = ContainerBuilder::new().id(id).replace().state_root(root.clone());
    let mut builder = builder.args(["sh", "-c", command]);
    if let Some(log) = log {
        let pipe = log.writer()?;
        builder = builder.stdout(Stdio::from(pipe.try_clone()?)).stderr(Stdio::from(pipe));
    }
    let mut container = builder.spawn()?;
    container.detach()?;
    Ok(container.into())
}

/// Stops a service. The supervisor that keeps it sees that it was stopped on purpose.
fn stop(root: &StateRoot, (name, _): &Service) -> Result<bool> {
    drop(AnyContainer::load(root, &format!("supervise-{name}"))?.stop(Duration::from_secs(10))?);
    Ok(true)
}

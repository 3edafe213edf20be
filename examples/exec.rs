//! Executes a program in a running container, like `docker exec`. It loads the container by its id, or starts one that
//! sleeps until the program has ended.
//!
//! ```text
//! cargo run --example exec -- sh -c 'id; ls /proc'
//! cargo run --example exec -- --id web --user 65534:65534 --cwd /tmp --env COLOUR=blue sh -c 'id; pwd; echo $COLOUR'
//! cargo run --example exec -- --tty bash
//! cargo run --example exec -- --timeout 1s sleep 60
//! cargo run --example exec -- --output-limit 1m yes
//! ```
//!
//! Options come before the program. It gets the standard streams of this program; with `--tty` it gets a new terminal,
//! and with `--output-limit` its output is collected and printed at its end. One line on stderr names its process, and
//! another one says how it ended.
//!
//! The exit code is that of the program, or 128 + n if signal n ended it; 127 if there is no such program, 126 if it
//! cannot be executed, and 125 if there is no container to execute it in.

#![expect(clippy::print_stderr, reason = "a program for the terminal")]

#[path = "arguments/mod.rs"]
mod arguments;
#[path = "terminal/mod.rs"]
mod terminal;

use arguments::{duration, size, user, variable};
use clap::Parser;
use cofferdam::processes::ProcessExit;
use cofferdam::{
    AnyContainer, Container, ContainerBuilder, Error, Exec, Outcome, Process, Pty, Running, StateRoot,
};
use rustix::termios::isatty;
use std::io::{Write, stderr, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use terminal::{RawMode, our_size};

/// Executes a program in a running container.
#[derive(Parser)]
#[command(after_help = "SIZE is in bytes, or with k, m or g; DURATION is in seconds, or with ms, s, m or h.")]
struct Options {
    /// The container (default: a new one on the host's system directories, which ends with the program)
    #[arg(long)]
    id: Option<String>,
    /// The directory with the records of containers
    #[arg(long, value_name = "STATE_DIR")]
    root: Option<PathBuf>,
    /// Run it as this user: UID:GID, a UID, or a name from the container's /etc/passwd
    #[arg(long, value_name = "UID:GID|NAME")]
    user: Option<String>,
    /// The directory to start in
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Add an environment variable to those of the container
    #[arg(long, value_name = "K=V", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Give it a terminal
    #[arg(long, conflicts_with = "output_limit")]
    tty: bool,
    /// Kill it if it runs longer
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// Collect its output, and kill it if it writes more than this
    #[arg(long, value_name = "SIZE", value_parser = size)]
    output_limit: Option<u64>,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true)]
    program: Vec<String>,
}

/// The code with which docker reports its own failures.
const OUR_FAULT: u8 = 125;

fn main() -> ExitCode {
    let options = Options::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { OUR_FAULT.into() } else { 0 })
    });
    match execute(&options) {
        Ok(exit) => {
            eprintln!("exec: {} after {:?} of CPU time", exit.outcome, exit.user_time + exit.system_time);
            ExitCode::from(u8::try_from(exit.outcome.shell_code()).unwrap_or(OUR_FAULT))
        }
        Err(error) => {
            eprintln!("exec: {error}");
            ExitCode::from(match error.downcast_ref().map(Error::kind) {
                Some(cofferdam::ErrorKind::ProgramNotFound) => 127,
                Some(cofferdam::ErrorKind::ProgramNotExecutable) => 126,
                _ => OUR_FAULT,
            })
        }
    }
}

fn execute(options: &Options) -> Result<ProcessExit, Box<dyn std::error::Error>> {
    let container = container(options)?;
    let exec = process(options);
    if let Some(limit) = options.output_limit {
        return collected(&container, exec.output_limit(limit));
    }
    if options.tty {
        let exec = match our_size() {
            Some(size) => exec.terminal_size(size),
            None => exec,
        };
        let mut process = introduced(container.exec(exec.terminal())?);
        let pty = process.take_pty().ok_or("there is no terminal")?;
        return on_a_terminal(&process, pty, options.timeout);
    }
    let process = introduced(container.exec(exec.inherit_stdio())?);
    Ok(end(&process, options.timeout)?)
}

/// Loads the container with that id, or starts one that ends when its value is dropped.
fn container(options: &Options) -> Result<Container<Running>, Box<dyn std::error::Error>> {
    let root = match &options.root {
        Some(directory) => StateRoot::open(directory)?,
        None => StateRoot::open_default()?,
    };
    if let Some(id) = &options.id {
        return Ok(AnyContainer::load(&root, id)?.try_into()?);
    }
    let sleeping = ContainerBuilder::new()
        .id(format!("exec-{}", std::process::id()))
        .args(["sleep", "infinity"])
        .state_root(root)
        .build()?;
    Ok(sleeping.create().map_err(Error::from)?.start().map_err(Error::from)?)
}

/// The process that the command line describes. Everything else is inherited from the container's configuration.
fn process(options: &Options) -> Exec {
    let mut exec = Exec::new(&options.program);
    if let Some(text) = &options.user {
        exec = match user(text) {
            Ok((uid, Some(gid))) => exec.user(uid, gid),
            Ok((_, None)) | Err(_) => exec.user_name(text),
        };
    }
    if let Some(directory) = &options.cwd {
        exec = exec.cwd(directory);
    }
    for (name, value) in &options.env {
        exec = exec.env(name, value);
    }
    if let Some(limit) = options.timeout {
        exec = exec.timeout(limit);
    }
    exec
}

fn introduced(process: Process) -> Process {
    match process.id() {
        0 => eprintln!("exec: it has ended already"),
        pid => eprintln!("exec: pid {} in the container, {pid} on the host", process.pid_inside()),
    }
    process
}

/// Waits for the process, and kills it after `limit`.
fn end(process: &Process, limit: Option<Duration>) -> Result<ProcessExit, Error> {
    let Some(limit) = limit else { return process.wait() };
    match process.wait_timeout(limit)? {
        Some(exit) => Ok(exit),
        None => {
            process.kill()?;
            let mut exit = process.wait()?;
            exit.outcome = Outcome::TimedOut { after: limit };
            Ok(exit)
        }
    }
}

fn collected(container: &Container<Running>, exec: Exec) -> Result<ProcessExit, Box<dyn std::error::Error>> {
    let output = container.exec_output(exec)?;
    stdout().write_all(&output.stdout)?;
    stderr().write_all(&output.stderr)?;
    if let Outcome::TooMuchOutput { .. } = output.exit.outcome {
        eprintln!("exec: it was {}", output.exit.outcome);
    }
    Ok(output.exit)
}

/// Copies between its terminal and ours until every process inside has closed that terminal. `terminal/relay.rs` does
/// this with one poll(2), and handles signals and resizes too.
fn on_a_terminal(
    process: &Process,
    pty: Pty,
    limit: Option<Duration>,
) -> Result<ProcessExit, Box<dyn std::error::Error>> {
    let (mut from_inside, mut to_inside) = (pty.try_clone()?, pty);
    let raw = isatty(stdin()).then(RawMode::enter).transpose()?;
    // This thread ends with the program: nothing interrupts its read of standard input.
    std::thread::spawn(move || std::io::copy(&mut stdin().lock(), &mut to_inside));
    let shown = std::thread::spawn(move || std::io::copy(&mut from_inside, &mut stdout()));
    let exit = end(process, limit)?;
    shown.join().map_err(|_| "the output could not be shown")??;
    drop(raw);
    Ok(exit)
}

//! Executes a program in a container that runs, like `docker exec`: in one that is loaded by its id, or in one that is
//! started for it and sleeps meanwhile.
//!
//! ```text
//! cargo run --example exec -- sh -c 'id; ls /proc'
//! cargo run --example exec -- --id web --user 65534:65534 --cwd /tmp --env COLOUR=blue sh -c 'id; pwd; echo $COLOUR'
//! cargo run --example exec -- --tty bash
//! cargo run --example exec -- --timeout 1s sleep 60
//! cargo run --example exec -- --output-limit 1m yes
//! ```
//!
//! Options come before the program. Its standard streams are this program's; with `--tty` it has a terminal of its own,
//! and with `--output-limit` its output is collected first. One line on stderr says which process it became, one how
//! that ended.
//!
//! The exit code is the program's, or 128 + n if signal n ended it; 127 if there is no such program, 126 if it cannot
//! be executed, 125 if there is no container to execute it in.

#![expect(clippy::print_stderr, reason = "a program for the terminal")]

#[path = "arguments/mod.rs"]
mod arguments;
#[path = "terminal/mod.rs"]
mod terminal;

use arguments::{duration, size, variable};
use clap::Parser;
use cofferdam::{
    AnyContainer, Container, ContainerBuilder, Error, Exec, Outcome, Process, ProcessExit, Pty, Running,
    StateRoot,
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
    /// The container; without it, one on the host's system directories that ends with the program
    #[arg(long)]
    id: Option<String>,
    /// Where containers are recorded
    #[arg(long, value_name = "STATE_DIR")]
    root: Option<PathBuf>,
    /// Who to be: ids, or a name that the container's /etc/passwd knows
    #[arg(long, value_name = "UID:GID|NAME")]
    user: Option<String>,
    /// The directory to start in
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// An environment variable besides the container's own
    #[arg(long, value_name = "K=V", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Give it a terminal
    #[arg(long, conflicts_with = "output_limit")]
    tty: bool,
    /// Kill it if it runs longer
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// Collect its output, and kill it if that gets longer
    #[arg(long, value_name = "SIZE", value_parser = size::<usize>)]
    output_limit: Option<usize>,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true)]
    program: Vec<String>,
}

/// What docker and runc exit with if they fail themselves.
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

/// The container with that id, or one that is destroyed with its value.
fn container(options: &Options) -> Result<Container<Running>, Box<dyn std::error::Error>> {
    let root = match &options.root {
        Some(directory) => StateRoot::open(directory)?,
        None => StateRoot::open_default()?,
    };
    if let Some(id) = &options.id {
        return Ok(AnyContainer::load(&root, id)?.try_into()?);
    }
    let sleeping = ContainerBuilder::new(format!("exec-{}", std::process::id()))
        .args(["sleep", "infinity"])
        .state_root(root)
        .build()?;
    Ok(sleeping.create().map_err(Error::from)?.start().map_err(Error::from)?)
}

/// The process that the command line describes. What it does not say is as it is for the container's first process.
fn process(options: &Options) -> Exec {
    let mut exec = Exec::new(&options.program);
    if let Some(user) = &options.user {
        let ids = user.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
        exec = match ids {
            Some((uid, gid)) => exec.user(uid, gid),
            None => exec.user_name(user),
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
    match process.pid() {
        0 => eprintln!("exec: it has ended already"),
        pid => eprintln!("exec: pid {} in the container, {pid} on the host", process.pid_inside()),
    }
    process
}

/// Waits for it, and kills it if it takes too long.
fn end(process: &Process, limit: Option<Duration>) -> Result<ProcessExit, Error> {
    let Some(limit) = limit else { return process.wait() };
    match process.wait_timeout(limit)? {
        Some(exit) => Ok(exit),
        None => {
            let mut exit = process.kill()?;
            exit.outcome = Outcome::TimedOut { after: limit };
            Ok(exit)
        }
    }
}

fn collected(container: &Container<Running>, exec: Exec) -> Result<ProcessExit, Box<dyn std::error::Error>> {
    let output = container.exec_output(exec)?;
    stdout().write_all(&output.stdout)?;
    stderr().write_all(&output.stderr)?;
    if output.truncated {
        eprintln!("exec: it wrote more than that, and was to be killed for it");
    }
    Ok(output.exit)
}

/// Is the wire between its terminal and ours until nobody inside has that terminal open. `terminal/wire.rs` does so
/// with one poll(2), which also sees signals and resizes.
fn on_a_terminal(
    process: &Process,
    pty: Pty,
    limit: Option<Duration>,
) -> Result<ProcessExit, Box<dyn std::error::Error>> {
    let (mut from_inside, mut to_inside) = (pty.try_clone()?, pty);
    let raw = isatty(stdin()).then(RawMode::enter).transpose()?;
    // Ends with this program: nothing else ends a read of standard input.
    std::thread::spawn(move || std::io::copy(&mut stdin().lock(), &mut to_inside));
    let shown = std::thread::spawn(move || std::io::copy(&mut from_inside, &mut stdout()));
    let exit = end(process, limit)?;
    shown.join().map_err(|_| "the output could not be shown")??;
    drop(raw);
    Ok(exit)
}

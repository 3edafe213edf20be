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
//!
//! With `--log`, a service writes into the named pipe `NAME.pipe`, which the supervisor copies to `NAME.log`. Before the log
//! becomes too large it is renamed to `NAME.log.1`. While no supervisor runs, the pipe keeps up to 64 KiB, and a service
//! that writes more waits for the next supervisor.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]
#![expect(
    clippy::disallowed_methods,
    reason = "a back-off waits for time to pass, and the log directory is the caller's"
)]

use clap::Parser;
use cofferdam::{AnyContainer, ContainerBuilder, ErrorKind, Outcome, StateRoot, Stdio};
use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
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
        let log =
            options.log.as_ref().map(|directory| Log::open(directory, name, options.log_size)).transpose()?;
        // Take over the container of an earlier supervisor, or start one.
        let container = match AnyContainer::load(root, &id) {
            Ok(found) => {
                println!("{name}: taken over, {}", found.status());
                found
            }
            Err(error) if *error.kind() == ErrorKind::NotFound => {
                start(root, &id, name, command, log.as_ref())?
            }
            Err(error) => return Err(error.into()),
        };
        let copying = log.map(|log| std::thread::spawn(|| log.copy()));
        let stopped = container.wait_stopped()?;
        let outcome = stopped.exit().outcome;
        stopped.delete()?;
        if let Some(copying) = copying {
            copying.join().expect("the thread that copies a log does not panic")?;
        }
        println!("{name}: {outcome}");
        // Another supervisor has stopped it.
        if outcome.success() || matches!(outcome, Outcome::Killed { .. }) {
            return Ok(outcome.success());
        }
        if failures == options.restarts {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(100 << failures.min(10)));
        failures += 1;
    }
}

/// Starts a service in a container that outlives this program.
fn start(root: &StateRoot, id: &str, name: &str, command: &str, log: Option<&Log>) -> Result<AnyContainer> {
    let mut builder =
        ContainerBuilder::new().id(id).replace().state_root(root.clone()).args(["sh", "-c", command]);
    if let Some(log) = log {
        let pipe = log.writer()?;
        builder = builder.stdout(Stdio::from(pipe.try_clone()?)).stderr(Stdio::from(pipe));
    }
    println!("{name}: started");
    let mut container = builder.spawn()?;
    container.detach()?;
    Ok(container.into())
}

/// The log of a service, which stays below a size.
struct Log {
    pipe: PathBuf,
    reader: File,
    path: PathBuf,
    size: u64,
}

impl Log {
    fn open(directory: &Path, name: &str, size: u64) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let pipe = directory.join(format!("{name}.pipe"));
        match mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Without O_NONBLOCK, open(2) would wait for a service.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let reader = OpenOptions::new().read(true).custom_flags(flags).open(&pipe)?;
        fcntl_setfl(&reader, OFlags::empty())?;
        Ok(Self { pipe, reader, path: directory.join(format!("{name}.log")), size })
    }

    /// The service's end of the pipe. The service holds it for reading, too: it gets no SIGPIPE while no supervisor runs.
    fn writer(&self) -> std::io::Result<File> {
        OpenOptions::new().read(true).write(true).open(&self.pipe)
    }

    /// Copies line by line until the service has ended.
    fn copy(self) -> std::io::Result<()> {
        let mut reader = BufReader::new(&self.reader);
        let mut line = Vec::new();
        // The parts of a long line fit into a log, and into memory.
        while reader.by_ref().take(self.size.min(64 << 10)).read_until(b'\n', &mut line)? > 0 {
            // Read on if the disk is full: a full pipe would stop the service.
            self.append(&line).unwrap_or_else(|error| eprintln!("{}: {error}", self.path.display()));
            line.clear();
        }
        Ok(())
    }

    fn append(&self, line: &[u8]) -> std::io::Result<()> {
        let open = || OpenOptions::new().append(true).create(true).open(&self.path);
        let mut file = open()?;
        if file.metadata()?.len() + line.len() as u64 > self.size {
            std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
            file = open()?;
        }
        file.write_all(line)
    }
}

/// Stops a service. The supervisor that keeps it sees that it was stopped on purpose.
fn stop(root: &StateRoot, (name, _): &Service) -> Result<bool> {
    drop(AnyContainer::load(root, &format!("supervise-{name}"))?.stop(Duration::from_secs(10))?);
    Ok(true)
}

//! Many containers from one thread: an event loop over epoll(7) starts jobs when slots become free, reads their output
//! and notices when they end. It needs nothing but descriptors.
//!
//! ```text
//! cargo run --example jobs
//! cargo run --example jobs -- --at-once 8 --timeout 2s --memory 64m 'make test' 'sleep 60' 'exit 3'
//! seq 100 | sed 's/.*/echo &/' | cargo run --example jobs -- --zygote -
//! ```
//!
//! Each job is a shell command line in its own container on the host's system directories. A table shows how each one
//! ended and what it used. The exit code is 0 if all jobs succeeded.
//!
//! A running container has a descriptor ([`AsFd`]) that becomes readable when the container has ended, and its pipes
//! are files, so any other event loop can take the place of this one. For tokio the crate has futures: see the example
//! `agent`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

#[path = "arguments/mod.rs"]
mod arguments;

use arguments::{duration, size};
use clap::Parser;
use cofferdam::{Container, ContainerBuilder, Error, Exit, Outcome, Running, StateRoot, Stdio, Zygote};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Runs jobs in containers, some at a time.
#[derive(Parser)]
#[command(after_help = "SIZE is in bytes, or with k, m or g; DURATION is in seconds, or with ms, s, m or h.")]
struct Options {
    /// How many run at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    at_once: u32,
    /// How long each may run
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    timeout: Duration,
    /// How much memory each may use
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Fork the helpers of all containers from one process, instead of executing a program for each
    #[arg(long)]
    zygote: bool,
    /// The directory with the records of containers
    #[arg(long, value_name = "STATE_DIR")]
    root: Option<PathBuf>,
    /// Shell command lines; `-` reads one from every line of standard input
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
}

/// The jobs of a run without arguments: one for each kind of end.
const DEMONSTRATION: [&str; 6] = [
    "echo all is well",
    "ls /nowhere",
    "sleep 60",
    "exit 3",
    "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo counted to $i",
    "sleep 0.3; echo slept",
];

/// How many bytes of a job's output are kept: the last ones.
const KEPT: usize = 4 << 10;

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("jobs: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all jobs and prints how they ended. Returns whether all of them succeeded.
fn run(options: Options) -> Result<bool, Box<dyn std::error::Error>> {
    let mut supervisor = Supervisor::new(&options)?;
    let mut waiting: VecDeque<_> = jobs(options.jobs)?.into_iter().enumerate().collect();
    let mut ended = BTreeMap::new();
    loop {
        while supervisor.running.len() < options.at_once as usize {
            let Some((number, script)) = waiting.pop_front() else { break };
            if let Err(error) = supervisor.start(number, &script) {
                let exit = Err(error.to_string());
                ended.insert(number, Ended { script, exit, said: String::new() });
            }
        }
        if supervisor.running.is_empty() {
            break;
        }
        ended.extend(supervisor.turn()?);
    }
    print!("{}", table(&ended));
    Ok(ended.values().all(|end| end.exit.as_ref().is_ok_and(|exit| exit.outcome.success())))
}

fn jobs(given: Vec<String>) -> std::io::Result<Vec<String>> {
    match given.as_slice() {
        [] => Ok(DEMONSTRATION.map(str::to_owned).to_vec()),
        [dash] if dash == "-" => std::io::stdin().lines().collect(),
        _ => Ok(given),
    }
}

/// The state of the event loop.
struct Supervisor {
    epoll: OwnedFd,
    running: BTreeMap<u64, Job>,
    root: StateRoot,
    timeout: Duration,
    memory: Option<u64>,
    zygote: Option<Zygote>,
}

/// A running job. Dropping it destroys its container.
struct Job {
    script: String,
    container: Container<Running>,
    output: Option<File>,
    tail: Vec<u8>,
}

/// The low bit of an event's data tells which descriptor of the job is ready.
const OUTPUT: u64 = 0;
const END: u64 = 1;

impl Supervisor {
    fn new(options: &Options) -> Result<Self, Box<dyn std::error::Error>> {
        let root = match &options.root {
            Some(directory) => StateRoot::open(directory)?,
            None => StateRoot::open_default()?,
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let (timeout, memory) = (options.timeout, options.memory);
        let zygote = options.zygote.then(Zygote::spawn).transpose()?;
        Ok(Self { epoll, running: BTreeMap::new(), root, timeout, memory, zygote })
    }

    fn start(&mut self, number: usize, script: &str) -> Result<(), Box<dyn std::error::Error>> {
        let mut builder = ContainerBuilder::new()
            .id(format!("jobs-{}-{number}", std::process::id()))
            .args(["sh", "-c", &format!("exec 2>&1; {script}")])
            .stdout(Stdio::piped())
            // The sandbox enforces the limit, so this loop needs no timer, and a busy loop delays nothing.
            .timeout(self.timeout)
            .state_root(self.root.clone());
        if let Some(bytes) = self.memory {
            builder = builder.memory_limit(bytes);
        }
        if let Some(zygote) = &self.zygote {
            builder = builder.zygote(zygote);
        }
        let mut created = builder.build()?.create().map_err(Error::from)?;
        let output = created.take_stdout().ok_or("no pipe")?;
        fcntl_setfl(&output, fcntl_getfl(&output)? | OFlags::NONBLOCK)?;
        let container = created.start().map_err(Error::from)?;
        let key = number as u64;
        self.watch(&output, key << 1 | OUTPUT)?;
        self.watch(&container, key << 1 | END)?;
        let job = Job { script: script.to_owned(), container, output: Some(output), tail: Vec::new() };
        self.running.insert(key, job);
        Ok(())
    }

    fn watch(&self, fd: &impl AsFd, data: u64) -> rustix::io::Result<()> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(data), epoll::EventFlags::IN)
    }

    /// Waits for events and handles them. Returns the jobs that have ended.
    fn turn(&mut self) -> Result<BTreeMap<usize, Ended>, Box<dyn std::error::Error>> {
        let mut events = Vec::with_capacity(64);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
            Err(rustix::io::Errno::INTR) => return Ok(BTreeMap::new()),
            count => count?,
        };
        let mut ended = BTreeMap::new();
        for event in &events {
            let (key, what) = (event.data.u64() >> 1, event.data.u64() & 1);
            // An earlier event of this round may have been the end of the job.
            let Some(job) = self.running.get_mut(&key) else { continue };
            job.read()?;
            if what == END
                && let Some(job) = self.running.remove(&key)
            {
                epoll::delete(&self.epoll, &job.container)?;
                ended.insert(usize::try_from(key)?, job.end());
            }
        }
        Ok(ended)
    }
}

impl Job {
    /// Reads the output so far, and keeps the end of it.
    fn read(&mut self) -> std::io::Result<()> {
        let mut chunk = [0; 16 << 10];
        while let Some(output) = &mut self.output {
            match output.read(&mut chunk) {
                // Closing the last descriptor of the pipe also removes it from epoll.
                Ok(0) => self.output = None,
                Ok(count) => {
                    self.tail.extend_from_slice(&chunk[..count]);
                    self.tail.drain(..self.tail.len().saturating_sub(KEPT));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads how the job ended, and deletes its container.
    fn end(self) -> Ended {
        let exit = self.container.wait_stopped().map_err(Error::from).and_then(|stopped| {
            let exit = stopped.exit().clone();
            stopped.delete()?;
            Ok(exit)
        });
        let text = String::from_utf8_lossy(&self.tail);
        let said = text.lines().next_back().unwrap_or_default().to_owned();
        Ended { script: self.script, exit: exit.map_err(|error| error.to_string()), said }
    }
}

/// How a job ended.
struct Ended {
    script: String,
    exit: Result<Exit, String>,
    /// The last line it wrote.
    said: String,
}

fn table(ended: &BTreeMap<usize, Ended>) -> String {
    let mut text =
        format!("{:<28}  {:<22} {:>6} {:>7} {:>9}  last line\n", "job", "end", "s", "cpu ms", "memory");
    let mut well = 0;
    for Ended { script, exit, said } in ended.values() {
        let script: String = script.chars().take(28).collect();
        text += &match exit {
            Err(error) => format!("{script:<28}  {error}\n"),
            Ok(exit) => {
                well += usize::from(exit.outcome == Outcome::Exited { code: 0 });
                let took = exit.started_at.zip(exit.finished_at);
                let took = took.and_then(|(start, end)| end.duration_since(start).ok()).unwrap_or_default();
                let cpu = (exit.user_time + exit.system_time).as_millis();
                let memory = exit.memory_peak.unwrap_or(exit.max_rss) >> 10;
                let (outcome, took) = (exit.outcome.to_string(), took.as_secs_f64());
                format!("{script:<28}  {outcome:<22} {took:>6.2} {cpu:>7} {memory:>5} KiB  {said}\n")
            }
        };
    }
    text + &format!("{well} of {} jobs did well\n", ended.len())
}

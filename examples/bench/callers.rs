//! Does a large caller pay for its size? Compares the same runs from two copies of this program, one small and one
//! large.

#![expect(clippy::disallowed_methods, reason = "starts copies of this program, not containers")]

use super::report::Samples;
use super::{Ground, Result, WARM_UP};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

const BIG_MIB: usize = 2048;
const BIG_THREADS: usize = 64;
const PAGE: usize = 4096;

/// The arguments of a copy.
#[derive(clap::Args)]
pub(super) struct Caller {
    rootfs: PathBuf,
    state: PathBuf,
    /// Touch this much memory first.
    mib: usize,
    /// Start this many threads first.
    threads: usize,
}

impl Caller {
    /// Runs one container for each line of standard input.
    pub(super) fn serve(&self) -> Result<()> {
        let memory = touched(self.mib << 20);
        for _ in 0..self.threads {
            std::thread::spawn(|| {
                loop {
                    std::thread::park();
                }
            });
        }
        let ground = Ground::new(self.rootfs.clone(), self.state.clone())?;
        for line in std::io::stdin().lines() {
            line?;
            let took: Duration = ground.run()?.iter().sum();
            let mut stdout = std::io::stdout();
            writeln!(stdout, "{}", took.as_nanos())?;
            stdout.flush()?;
        }
        drop(black_box(memory));
        Ok(())
    }
}

/// Allocates memory and writes to every page, so that the kernel has to provide it.
fn touched(bytes: usize) -> Vec<u8> {
    let mut memory = vec![0; bytes];
    memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    black_box(memory)
}

/// The median run of a large caller divided by that of a small one, measured in turns.
pub(super) fn ratio(ground: &Ground, runs: usize) -> Result<f64> {
    let mut small = Copy::start(ground, 0, 0)?;
    let mut big = Copy::start(ground, BIG_MIB, BIG_THREADS)?;
    for round in 0..WARM_UP + runs {
        if round == WARM_UP {
            (small.times, big.times) = Default::default();
        }
        small.measure()?;
        big.measure()?;
    }
    Ok(big.times.median() / small.times.median())
}

/// A running copy of this program. It ends when we close its standard input.
struct Copy {
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    process: Child,
    times: Samples,
}

impl Copy {
    fn start(ground: &Ground, mib: usize, threads: usize) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("caller")
            .arg(ground.rootfs())
            .arg(ground.state())
            .args([mib, threads].map(|n| n.to_string()));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let answers = BufReader::new(process.stdout.take().expect("asked for just above"));
        Ok(Self { requests: process.stdin.take(), answers, process, times: Samples::default() })
    }

    fn measure(&mut self) -> Result<()> {
        writeln!(self.requests.as_mut().expect("open until drop"))?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let nanoseconds = answer.trim().parse().map_err(|_| "a copy of the bench ended early")?;
        self.times.add(Duration::from_nanos(nanoseconds));
        Ok(())
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        drop(self.requests.take());
        let _ = self.process.wait();
    }
}

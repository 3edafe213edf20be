//! Runs code that an agent wrote, on a tokio runtime. Each session is a container that stays, and each snippet is a
//! process in it with limits of its own.
//!
//! ```text
//! cargo run --features tokio --example agent                        # two sessions, as a demonstration
//! cargo run --features tokio --example agent -- --time 2s --memory 64 <snippets
//! ```
//!
//! A line of standard input is `SESSION: SNIPPET`, and the snippet a shell command line. `SESSION: put FILE` copies a file
//! of the host into the session's `/tmp`, and `SESSION: get NAME` prints a file from there. Sessions run at the same time,
//! and the program prints their output as they write it. It kills a snippet that runs too long or needs too much memory,
//! and the session goes on. All sessions end with this program.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

#[path = "arguments/mod.rs"]
mod arguments;

use arguments::duration;
use clap::Parser;
use cofferdam::{Container, ContainerBuilder, Exec, Running, Stdio};
use std::collections::BTreeMap;
use std::io::{ErrorKind, IsTerminal, read_to_string, stdin};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;
use tokio::task::{JoinSet, spawn_blocking};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Runs snippets of code in sessions.
#[derive(Clone, Copy, Parser)]
struct Options {
    /// How long a snippet may run
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    time: Duration,
    /// How much memory a snippet may use, in MiB; needs a cgroup
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
}

const DEMONSTRATION: &str = "\
alice: echo 'I remember' > /tmp/note; echo written
bob: while :; do :; done
alice: cat /tmp/note
bob: echo still here; ls /tmp | wc -l
alice: get note";

fn main() -> Result {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(Options::parse()))
}

async fn serve(options: Options) -> Result {
    let input = if stdin().is_terminal() { DEMONSTRATION.to_owned() } else { read_to_string(stdin())? };
    let mut sessions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in input.lines().filter(|line| !line.trim().is_empty()) {
        let (name, snippet) = line.split_once(':').ok_or_else(|| format!("not SESSION: SNIPPET: {line}"))?;
        sessions.entry(name.trim().to_owned()).or_default().push(snippet.trim().to_owned());
    }
    let sessions = sessions.into_iter().map(|(name, snippets)| session(name, snippets, options));
    sessions.collect::<JoinSet<_>>().join_all().await.into_iter().collect()
}

async fn session(name: String, snippets: Vec<String>, options: Options) -> Result {
    // With accounting, the session has the cgroups that a snippet's limit of memory needs.
    let builder = ContainerBuilder::new().args(["sleep", "infinity"]).accounting();
    let container = Arc::new(builder.spawn_async().await?);
    for snippet in snippets {
        let done = match snippet.split_once(' ') {
            Some(("put", file)) => put(Arc::clone(&container), file.to_owned()).await,
            Some(("get", file)) => get(Arc::clone(&container), &name, file.to_owned()).await,
            _ => run(&container, &name, &snippet, options).await,
        };
        done.unwrap_or_else(|error| println!("{name} ! {error}"));
    }
    Ok(())
}

/// Runs one snippet, and shows what it writes while it runs.
async fn run(container: &Container<Running>, name: &str, snippet: &str, options: Options) -> Result {
    let exec = Exec::new(["sh", "-c", &format!("exec 2>&1; {snippet}")]).cwd("/tmp").stdout(Stdio::piped());
    let exec = options.memory.into_iter().fold(exec, |exec, mib| exec.memory_limit(mib << 20));
    let mut process = container.exec_async(exec.timeout(options.time)).await?;
    let output = Receiver::from_file(process.take_stdout().ok_or("no pipe")?)?;
    let mut chunk = [0; 4096];
    loop {
        output.readable().await?;
        match output.try_read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => show(name, '|', &chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    let outcome = process.wait_async().await?.outcome;
    if !outcome.success() {
        println!("{name} ! {outcome}");
    }
    Ok(())
}

async fn put(container: Arc<Container<Running>>, file: String) -> Result {
    let target = Path::new("/tmp").join(Path::new(&file).file_name().ok_or("no file name")?);
    // Reading a disk blocks, so it happens in a thread for that.
    let put = move || -> Result { Ok(container.files()?.write(&target, &std::fs::read(&file)?, 0o644)?) };
    spawn_blocking(put).await?
}

async fn get(container: Arc<Container<Running>>, name: &str, file: String) -> Result {
    let read = move || container.files()?.read(Path::new("/tmp").join(file), 1 << 20);
    let bytes = spawn_blocking(read).await??;
    show(name, '=', &bytes);
    Ok(())
}

fn show(name: &str, mark: char, bytes: &[u8]) {
    String::from_utf8_lossy(bytes).lines().for_each(|line| println!("{name} {mark} {line}"));
}

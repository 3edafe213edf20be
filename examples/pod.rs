//! A pod: three containers in one sandbox, which share the network but no files.
//!
//! ```text
//! cargo run --example pod
//! cargo run --example pod -- --root /tmp/pods
//! ```
//!
//! The first container sleeps and keeps the pod alive. The second is a web server; this program writes its page into it
//! from outside. The third reads that page over the loopback interface, which only members of the pod can reach. Then
//! this program lists the pod as any other program sees it, kills the first container, which ends the others, and
//! deletes the pod. Server and client are the host's busybox.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use clap::Parser;
use cofferdam::info::ProcessIdentity;
use cofferdam::{AnyContainer, ContainerBuilder, Error, Pod, StateRoot, Stdio};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Runs a pod of three containers.
#[derive(Parser)]
struct Options {
    /// The directory with the records of containers (default: a temporary one)
    #[arg(long, value_name = "STATE_DIR")]
    root: Option<PathBuf>,
}

/// httpd moves to the background once it listens, so the message comes after that.
const SERVER: &str = "busybox httpd -p 127.0.0.1:8080 -h /www && echo listening && exec sleep infinity";
const CLIENT: &str = "busybox wget -q -O - http://127.0.0.1:8080/index.html";
const PAGE: &str = "a page of the web server's own file system\n";

fn main() -> ExitCode {
    match pod(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pod: {error}");
            ExitCode::FAILURE
        }
    }
}

fn pod(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let root = StateRoot::open(options.root.as_deref().unwrap_or(temporary.path()))?;
    let name = |part: &str| format!("pod-{}{part}", std::process::id());

    // None is detached: if anything below fails, dropping the values ends the containers.
    let first = ContainerBuilder::new().id(name("")).args(["sleep", "infinity"]).state_root(root.clone());
    let first = first.build()?.create().map_err(Error::from)?.start().map_err(Error::from)?;
    let pod = first.pod();

    let server = pod.container(name("-web")).args(["sh", "-c", SERVER]).tmpfs("/www", 1 << 20);
    let server = server.stdout(Stdio::piped()).stderr(Stdio::inherit());
    let created = server.build()?.create().map_err(Error::from)?;
    // Its program has not started yet, but its files can already be written.
    created.files()?.write("/www/index.html", PAGE, 0o644)?;
    let mut running = created.start().map_err(Error::from)?;
    let mut said = String::new();
    BufReader::new(running.take_stdout().ok_or("no pipe")?).read_line(&mut said)?;
    println!("the server is {}", said.trim());

    // A member can run to its end and be deleted, like any other container.
    let client = pod.container(name("-client")).args(["sh", "-c", CLIENT]);
    let output = client.timeout(Duration::from_secs(30)).output()?;
    println!("the client got: {}", String::from_utf8_lossy(&output.stdout).trim_end());
    if !output.exit.outcome.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("the client {}: {}", output.exit.outcome, said.trim()).into());
    }

    println!("{:<20} {:<10} {:>10} {:>10}", "container", "status", "init", "sandbox");
    for container in Pod::load(&root, first.id().as_str())?.containers()? {
        let record = container.info();
        let pid = |process: &Option<ProcessIdentity>| process.as_ref().map_or(0, |it| it.pid);
        let (init, sandbox) = (pid(&record.init), pid(&record.sandbox));
        println!("{:<20} {:<10} {init:>10} {sandbox:>10}", container.id().as_str(), container.status());
    }

    let first = first.kill()?;
    println!("{} was killed; the web server: {}", first.id(), running.wait()?.outcome);
    pod.delete()?;
    println!("left: {} containers", AnyContainer::list(&root)?.len());
    Ok(())
}

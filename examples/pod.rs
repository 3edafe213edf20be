//! A pod: three containers in one sandbox, which share the network and nothing of their files.
//!
//! ```text
//! cargo run --example pod
//! cargo run --example pod -- --root /tmp/pods
//! ```
//!
//! The root container only sleeps and holds the pod together. The second is a web server, whose page is written into
//! it from outside; the third asks it through the loopback interface of the pod, which nobody else can reach. Then the
//! pod is listed as any other program sees it, ended by the end of its root container, and deleted. Server and client are the host's busybox.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use clap::Parser;
use cofferdam::{AnyContainer, ContainerBuilder, Error, Pod, ProcessIdentity, StateRoot, Stdio};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Runs a pod of three containers.
#[derive(Parser)]
struct Options {
    /// Where containers are recorded; a temporary directory by default
    #[arg(long, value_name = "STATE_DIR")]
    root: Option<PathBuf>,
}

/// busybox puts itself into the background when it listens: what is said after that is true.
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

    // Attached, as all that follow: should anything here fail, they end with their values.
    let first = ContainerBuilder::new(name("")).args(["sleep", "infinity"]).state_root(root.clone());
    let first = first.build()?.create().map_err(Error::from)?.start().map_err(Error::from)?;
    let pod = first.pod();

    let server = pod.container(name("-web")).args(["sh", "-c", SERVER]).tmpfs("/www", 1 << 20);
    let server = server.stdout(Stdio::piped()).stderr(Stdio::inherit());
    let created = server.build()?.create().map_err(Error::from)?;
    // There is nothing running in it yet, and its files can be got at.
    created.files()?.write("/www/index.html", PAGE, 0o644)?;
    let mut running = created.start().map_err(Error::from)?;
    let mut said = String::new();
    BufReader::new(running.take_stdout().ok_or("no pipe")?).read_line(&mut said)?;
    println!("the server is {}", said.trim());

    // A member that runs to its end and is gone, as any other container.
    let client = pod.container(name("-client")).args(["sh", "-c", CLIENT]);
    let output = client.timeout(Duration::from_secs(30)).output()?;
    println!("the client got: {}", String::from_utf8_lossy(&output.stdout).trim_end());
    if !output.exit.outcome.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("the client {}: {}", output.exit.outcome, said.trim()).into());
    }

    println!("{:<20} {:<10} {:>10} {:>10}", "container", "status", "init", "sandbox");
    for container in Pod::load(&root, first.id().as_str())?.containers()? {
        let record = container.record();
        let pid = |process: &Option<ProcessIdentity>| process.as_ref().map_or(0, |it| it.pid);
        let (init, sandbox) = (pid(&record.init), pid(&record.sandbox));
        println!("{:<20} {:<10} {init:>10} {sandbox:>10}", container.id().as_str(), container.status());
    }

    let first = first.kill()?;
    println!("{} was killed, and the web server {}", first.id(), running.wait()?.outcome);
    pod.delete()?;
    println!("left: {} containers", AnyContainer::list(&root)?.len());
    Ok(())
}

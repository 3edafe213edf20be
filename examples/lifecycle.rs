//! The life of a container, phase by phase: each transition with the type that it returns, and how another program sees
//! the same container at that time.
//!
//! ```text
//! cargo run --example lifecycle
//! ```
//!
//! Each step consumes the container and returns it in the type of its next phase, so the compiler rejects calls that
//! make no sense, such as `start` or `delete` on a running container. A program that learns the phase only at run time
//! matches on [`AnyContainer`].

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use cofferdam::info::Listed;
use cofferdam::typestate::Phase;
use cofferdam::{
    AnyContainer, Container, ContainerBuilder, Created, Creating, Error, ErrorKind, Running, Signal,
    StateRoot, Stdio, Stopped,
};
use std::io::{BufRead, BufReader, Lines};
use std::process::ExitCode;
use std::time::Duration;

/// Reports when it is ready and which signals arrive, and exits with code 3.
const PROGRAM: &str = r#"
    trap 'echo "SIGHUP: reading my configuration again"' HUP
    trap 'echo "SIGTERM: good bye"; exit 3' TERM
    echo "pid $$ on $(hostname) is ready"
    while true; do sleep 60 & wait; done
"#;

/// How long the program may take to end by itself before we kill it.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match lifecycle() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lifecycle: {error}");
            ExitCode::FAILURE
        }
    }
}

fn lifecycle() -> Result<(), Box<dyn std::error::Error>> {
    // A separate directory, so that the list below shows no other program's containers.
    let directory = tempfile::tempdir()?;
    let root = StateRoot::open(directory.path())?;

    let creating: Container<Creating> = ContainerBuilder::new()
        .id("demo")
        .args(["sh", "-c", PROGRAM])
        .hostname("cofferdam")
        .stdout(Stdio::piped())
        .state_root(root.clone())
        .build()?;
    step("build()", &creating);
    say("checked and planned; nothing exists on the host yet");

    let mut created: Container<Created> = creating.create()?;
    step("create()", &created);
    say(format!(
        "sandbox is pid {}, and pid {} waits to execute sh",
        created.sandbox_pid(),
        created.init_pid()
    ));
    let stdout = created.take_stdout().expect("asked for with Stdio::piped()");
    let mut output = BufReader::new(stdout).lines();
    look(&root)?;

    let running: Container<Running> = created.start()?;
    step("start()", &running);
    relay(&mut output)?;
    look(&root)?;
    say(format!("try_wait(): {:?}", running.try_wait()?));

    running.signal(Signal::HUP)?;
    step("signal(SIGHUP)", &running);
    relay(&mut output)?;

    running.signal(Signal::TERM)?;
    step("signal(SIGTERM)", &running);
    relay(&mut output)?;

    let stopped: Container<Stopped> = match running.wait_timeout(GRACE)? {
        Some(_) => running.wait_stopped()?,
        None => running.kill()?,
    };
    step("wait_stopped()", &stopped);
    say(format!("exit(): {}", stopped.exit().outcome));
    look(&root)?;

    let wrong = Container::<Running>::try_from(AnyContainer::load(&root, "demo")?);
    say(format!("as a Container<Running>: {}", wrong.expect_err("it is stopped")));

    stopped.delete()?;
    heading("delete()", "gone");
    look(&root)?;
    Ok(())
}

/// Prints the call and the type of the container that it returned.
fn step<P: Phase>(call: &str, _: &Container<P>) {
    let phase = std::any::type_name::<P>().rsplit("::").next().unwrap_or_default();
    heading(call, &format!("Container<{phase}>"));
}

fn heading(call: &str, left: &str) {
    println!("{call:<16} -> {left}");
}

fn say(what: impl std::fmt::Display) {
    println!("                   {what}");
}

/// Prints one line of the program's output.
fn relay(output: &mut Lines<impl BufRead>) -> std::io::Result<()> {
    if let Some(line) = output.next().transpose()? {
        say(format!("the program says: {line}"));
    }
    Ok(())
}

/// Prints what other programs see: the list, and the container loaded by its id.
fn look(root: &StateRoot) -> Result<(), Error> {
    let ids = AnyContainer::list(root)?.into_iter().map(|entry| match entry {
        Listed::Container(container) => format!("{} ({})", container.id(), container.status()),
        Listed::Damaged { id, error } => format!("{id} (damaged: {error})"),
    });
    say(format!("list(): [{}]", ids.collect::<Vec<_>>().join(", ")));
    match AnyContainer::load(root, "demo") {
        Ok(container) => say(format!("load(\"demo\"): {}", describe(&container))),
        Err(error) if *error.kind() == ErrorKind::NotFound => say(format!("load(\"demo\"): {error}")),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Matches all five phases; the compiler would reject a missing arm.
fn describe(container: &AnyContainer) -> String {
    match container {
        AnyContainer::Creating(_) => "its creation was never finished".into(),
        AnyContainer::Created(created) => format!("created, pid {} can be started", created.init_pid()),
        AnyContainer::Running(running) => format!("running as pid {}", running.init_pid()),
        AnyContainer::Paused(paused) => format!("paused, pid {} is frozen", paused.init_pid()),
        AnyContainer::Stopped(stopped) => format!("stopped, {}", stopped.exit().outcome),
    }
}

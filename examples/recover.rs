//! Cleans up after a program that crashed: loads every recorded container and decides by its phase.
//!
//! ```text
//! cargo run --example recover                        # crashes first, then recovers
//! cargo run --example recover -- --root /run/jobs    # recovers the containers recorded there
//! ```
//!
//! Without `--root` this program starts a copy of itself. The copy leaves containers in several phases, and SIGKILL
//! ends it while it creates one more. No destructor runs, so it leaves its records and those containers that it
//! detached.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]
#![expect(clippy::disallowed_methods, reason = "starts a copy of this program, which is no container")]

use clap::{Parser, Subcommand};
use cofferdam::builder::HookKind;
use cofferdam::info::Listed;
use cofferdam::oci_spec::runtime::{Hook, HookBuilder};
use cofferdam::{AnyContainer, ContainerBuilder, Error, StateRoot};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Recovers containers after a crash.
#[derive(Parser)]
struct Options {
    /// The directory with the records; all of its containers must be this program's
    #[arg(long, value_name = "STATE_DIR")]
    root: Option<PathBuf>,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What this program does when it starts itself.
#[derive(Subcommand)]
enum Role {
    /// Leave containers in STATE_DIR, and crash.
    #[command(hide = true)]
    Crash {
        #[arg(value_name = "STATE_DIR")]
        root: PathBuf,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match (options.role, options.root) {
        (Some(Role::Crash { root }), _) => StateRoot::open(root).map_err(Into::into).and_then(crash),
        (None, Some(root)) => StateRoot::open(root).map_err(Into::into).and_then(|root| recover(&root)),
        (None, None) => demonstrate(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("recover: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demonstrate() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let mut copy = Command::new(std::env::current_exe()?).arg("crash").arg(directory.path()).spawn()?;
    println!("the program that made the containers: {}", copy.wait()?);
    let root = StateRoot::open(directory.path())?;
    recover(&root)?;
    println!("left: {} containers", AnyContainer::list(&root)?.len());
    Ok(())
}

/// Decides about every container, and goes on with the next one after a failure.
fn recover(root: &StateRoot) -> Result<(), Box<dyn std::error::Error>> {
    let mut failed = 0;
    for listed in AnyContainer::list(root)? {
        let (id, done) = match listed {
            Listed::Container(container) => (container.id().to_string(), decide(*container)),
            // The record is unreadable, but the name is enough to find and remove what belongs to the container.
            Listed::Damaged { id, error } => {
                let gone = AnyContainer::delete_by_name(root, &id);
                (id, gone.map(|()| format!("damaged ({error}): deleted")))
            }
        };
        match done {
            Ok(done) => println!("{id}: {done}"),
            Err(error) => {
                failed += 1;
                eprintln!("{id}: {error}");
            }
        }
    }
    if failed > 0 { Err(format!("{failed} containers could not be recovered").into()) } else { Ok(()) }
}

/// Matches all five phases; the compiler would reject a missing arm.
fn decide(container: AnyContainer) -> Result<String, Error> {
    match container {
        // Its creator is dead, so it will never be finished. `delete` takes the lock, so it would wait for a creator
        // that is still alive.
        AnyContainer::Creating(creating) => {
            AnyContainer::from(creating).delete(true)?;
            Ok("half made: deleted".into())
        }
        // It could still be started. Only the application can know whether it should be.
        AnyContainer::Created(created) => {
            created.kill()?.delete()?;
            Ok("never started: deleted".into())
        }
        // The crash of its creator did not affect it. Wait for its end in the creator's place.
        AnyContainer::Running(running) => {
            let stopped = running.wait_stopped()?;
            let outcome = stopped.exit().outcome;
            stopped.delete()?;
            Ok(format!("was running, now {outcome}: deleted"))
        }
        // The program that paused it is dead, so it would never be resumed.
        AnyContainer::Paused(paused) => {
            paused.kill()?.delete()?;
            Ok("paused: killed and deleted".into())
        }
        // Its sandbox recorded how it ended.
        AnyContainer::Stopped(stopped) => {
            let outcome = stopped.exit().outcome;
            stopped.delete()?;
            Ok(format!("had ended, {outcome}: deleted"))
        }
    }
}

/// Creates containers that outlive this process, and is killed while it creates another one.
fn crash(root: StateRoot) -> Result<(), Box<dyn std::error::Error>> {
    let container = |name: &str, script: &str| {
        ContainerBuilder::new().id(name).args(["sh", "-c", script]).state_root(root.clone())
    };
    let create = |builder: ContainerBuilder| -> cofferdam::Result<cofferdam::Container<cofferdam::Created>> {
        let mut created = builder.build()?.create()?;
        created.detach()?;
        Ok(created)
    };

    // Dropping the value of a detached container leaves the container alone.
    drop(create(container("created", "true"))?);
    drop(create(container("running", "sleep 1; exit 7"))?.start().map_err(Error::from)?);
    create(container("stopped", "exit 3"))?.start().map_err(Error::from)?.wait()?;
    // This one is not detached, so it ends with this process, and its record says so.
    let attached = container("attached", "sleep 1000").build()?.create().map_err(Error::from)?;
    let _attached = attached.start().map_err(Error::from)?;
    let half_made = container("half-made", "true").hook(HookKind::CreateRuntime, murder()?).build()?.create();
    Err(format!("survived, with {half_made:?}").into())
}

/// A hook that kills this process after the container exists and before `create` returns.
fn murder() -> Result<Hook, Box<dyn std::error::Error>> {
    let args = ["sh".to_owned(), "-c".to_owned(), format!("kill -KILL {}", std::process::id())];
    Ok(HookBuilder::default().path("/bin/sh").args(args.to_vec()).build()?)
}

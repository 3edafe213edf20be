//! What to do with containers whose program crashed: everything that was recorded is loaded, and each phase decides.
//!
//! ```text
//! cargo run --example recover                        # crashes first, then recovers
//! cargo run --example recover -- --root /run/jobs    # recovers what is there
//! ```
//!
//! Without `--root` this program starts a copy of itself that creates containers, leaves them in every phase it can,
//! and is killed by SIGKILL while it creates one more. No destructor ran there and nobody cleaned up: what is left is
//! the records and the containers that were detached.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]
#![expect(clippy::disallowed_methods, reason = "starts a copy of this program, which is no container")]

use clap::{Parser, Subcommand};
use cofferdam::oci_spec::runtime::{Hook, HookBuilder};
use cofferdam::spec::HookKind;
use cofferdam::{AnyContainer, ContainerBuilder, Error, Listed, StateRoot};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Recovers containers after a crash.
#[derive(Parser)]
struct Options {
    /// Where the containers are recorded; all of them are taken for this program's
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

/// Decides about every container there is. One that cannot be dealt with does not keep the others from it.
fn recover(root: &StateRoot) -> Result<(), Box<dyn std::error::Error>> {
    let mut failed = 0;
    for listed in AnyContainer::list(root)? {
        let (id, done) = match listed {
            Listed::Container(container) => (container.id().to_string(), decide(*container)),
            // Nothing can be learnt from it. Its name is enough to remove what belongs to it.
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

/// The five phases are all there are: the compiler holds this against a missing one.
fn decide(container: AnyContainer) -> Result<String, Error> {
    match container {
        // Its creator is gone, so nobody will finish it. Deleting it takes its lock: if the creator is not gone after
        // all, it is waited for.
        AnyContainer::Creating(creating) => {
            AnyContainer::from(creating).delete(true)?;
            Ok("half made: deleted".into())
        }
        // It could be started now, if this program knew that it should be.
        AnyContainer::Created(created) => {
            created.kill()?.delete()?;
            Ok("never started: deleted".into())
        }
        // A crash of its creator did nothing to it. Its end is this program's now.
        AnyContainer::Running(running) => {
            let stopped = running.wait_stopped()?;
            let outcome = stopped.exit().outcome;
            stopped.delete()?;
            Ok(format!("was running, now {outcome}: deleted"))
        }
        // Whoever wanted to look at it is gone.
        AnyContainer::Paused(paused) => {
            paused.kill()?.delete()?;
            Ok("paused: killed and deleted".into())
        }
        // Its sandbox wrote down how it ended before anybody asked.
        AnyContainer::Stopped(stopped) => {
            let outcome = stopped.exit().outcome;
            stopped.delete()?;
            Ok(format!("had ended, {outcome}: deleted"))
        }
    }
}

/// Makes containers that outlive this program, and is killed in the middle of making another.
fn crash(root: StateRoot) -> Result<(), Box<dyn std::error::Error>> {
    let container = |name: &str, script: &str| {
        ContainerBuilder::new(name).args(["sh", "-c", script]).state_root(root.clone())
    };
    let create = |builder: ContainerBuilder| builder.build()?.create()?.detach().map_err(Error::from);

    // The value of a detached container is not what keeps it.
    drop(create(container("created", "true"))?);
    drop(create(container("running", "sleep 1; exit 7"))?.start().map_err(Error::from)?);
    create(container("stopped", "exit 3"))?.start().map_err(Error::from)?.wait()?;
    // Not detached: it would have ended with this program, and its record says so.
    let attached = container("attached", "sleep 1000").build()?.create().map_err(Error::from)?;
    let _attached = attached.start().map_err(Error::from)?;
    let half_made = container("half-made", "true").hook(HookKind::CreateRuntime, murder()?).build()?.create();
    Err(format!("survived, with {half_made:?}").into())
}

/// A hook that kills this process: it runs when everything exists and nothing is finished.
fn murder() -> Result<Hook, Box<dyn std::error::Error>> {
    let args = ["sh".to_owned(), "-c".to_owned(), format!("kill -KILL {}", std::process::id())];
    Ok(HookBuilder::default().path("/bin/sh").args(args.to_vec()).build()?)
}

//! The verbs kill, pause, resume and delete.

use super::failure::{Done, Failure};
use super::find;
use cofferdam::{AnyContainer, ErrorKind, Signal, StateRoot};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Kill {
    /// Signal every process of the container, not only the first
    #[arg(short, long)]
    all: bool,
    /// The container
    id: String,
    /// A number or a name
    #[arg(default_value = "SIGTERM")]
    signal: String,
}

impl Kill {
    pub(crate) fn obey(self, root: &StateRoot) -> Done {
        let container = find(root, &self.id)?;
        // Signal 0 only asks whether a signal could be sent (kill(2)).
        if self.signal == "0" {
            return match container {
                // With `--all`, a container without processes is no error.
                AnyContainer::Stopped(_) if self.all => Ok(ExitCode::SUCCESS),
                AnyContainer::Stopped(_) | AnyContainer::Creating(_) => Err(not_running()),
                _ => Ok(ExitCode::SUCCESS),
            };
        }
        let signal: Signal = self.signal.parse().map_err(|_| format!("unknown signal {:?}", self.signal))?;
        let sent = match container {
            AnyContainer::Stopped(_) if self.all => return Ok(ExitCode::SUCCESS),
            AnyContainer::Stopped(_) | AnyContainer::Creating(_) => return Err(not_running()),
            container if self.all => container.as_alive().and_then(|alive| alive.signal_all(signal)),
            container => container.as_alive().and_then(|alive| alive.signal(signal)),
        };
        match sent {
            Ok(()) => Ok(ExitCode::SUCCESS),
            // The container ended after we loaded it.
            Err(error) if matches!(error.kind(), ErrorKind::Ended | ErrorKind::NotFound) => {
                Err(not_running())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The error for a container without a running program, in the words that engines search for.
fn not_running() -> Failure {
    "container not running".into()
}

#[derive(clap::Args)]
pub(crate) struct Delete {
    /// Kill the container first; succeed if it does not exist
    #[arg(short, long)]
    force: bool,
    /// The container
    id: String,
}

impl Delete {
    pub(crate) fn obey(self, root: &StateRoot) -> Done {
        if self.force {
            // Delete by name, because the record may be unreadable.
            AnyContainer::delete_by_name(root, &self.id)?;
            return Ok(ExitCode::SUCCESS);
        }
        match find(root, &self.id)? {
            // runc deletes a container that was never started without `--force`.
            AnyContainer::Created(created) => created.kill()?.delete()?,
            AnyContainer::Stopped(stopped) => stopped.delete()?,
            AnyContainer::Creating(creating) => {
                AnyContainer::from(creating).delete(true).map_err(cofferdam::Error::from)?;
            }
            alive => {
                let status = alive.status();
                return Err(
                    format!("cannot delete container {} that is not stopped: {status}", self.id).into()
                );
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

pub(crate) fn pause(container: AnyContainer) -> Done {
    match container {
        AnyContainer::Running(running) => {
            let _ = running.pause()?;
            Ok(ExitCode::SUCCESS)
        }
        other => Err(format!("container not running: {}", other.status()).into()),
    }
}

pub(crate) fn resume(container: AnyContainer) -> Done {
    match container {
        AnyContainer::Paused(paused) => {
            let _ = paused.resume()?;
            Ok(ExitCode::SUCCESS)
        }
        other => Err(format!("container not paused: {}", other.status()).into()),
    }
}

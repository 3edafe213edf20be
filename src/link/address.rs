//! [`SandboxAddress`]: which container, and where its sandbox is. [`Ending`]: whether an operation failed because its
//! container has ended, and how the container ended.

use crate::cgroup;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::process::channel::wait_readable_until;
use crate::state::{Outcome, Record, RunDir, StateRoot};
use crate::wire::control::{Operation, Request};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::borrow::Cow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Which container, and where the control socket of its sandbox is.
#[derive(Clone, Debug)]
pub(crate) struct SandboxAddress {
    root: StateRoot,
    container: ContainerId,
    /// In a pod, the id of the root container.
    sandbox: ContainerId,
    cgroups: Vec<PathBuf>,
}

impl SandboxAddress {
    /// The address of the container that `record` describes.
    pub(crate) fn of(root: &StateRoot, record: &Record) -> Self {
        Self {
            root: root.clone(),
            container: record.id.clone(),
            sandbox: record.sandbox_id.clone(),
            cgroups: record.cgroups.clone(),
        }
    }

    /// The run directory of the sandbox, where the control socket is.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the container was deleted.
    pub(crate) fn run_dir(&self) -> Result<RunDir> {
        self.root.run_dir_of(&self.sandbox, &self.sandbox)
    }

    /// `operation` as a request about this container.
    pub(crate) fn request(&self, operation: Operation) -> Request {
        Request { container: Some(self.container.clone()), operation }
    }

    /// `step` came after the end of the container.
    pub(super) fn has_ended(&self, step: &'static str) -> Error {
        has_ended(&self.container, step, self.outcome())
    }

    /// Explains the `error` of a request to the sandbox. If `step` came after the end of the container, the error returned
    /// says how the container ended; else it is `error`. `ended` is readable if the container has ended.
    pub(super) fn explain(&self, ended: BorrowedFd<'_>, step: &'static str, error: Error) -> Error {
        let too_late = matches!(error.kind(), ErrorKind::Ended | ErrorKind::HelperDied);
        if too_late && is_near(ended).unwrap_or(false) { self.has_ended(step) } else { error }
    }

    /// Explains the `error` of a wait for a process of the container. If the sandbox is gone, so is the container.
    pub(crate) fn gone(&self, error: Error) -> Error {
        if *error.kind() == ErrorKind::HelperDied { self.has_ended("wait") } else { error }
    }

    /// How the container ended, by its exit record, else by the counters of its cgroups; `None` if it was deleted.
    fn outcome(&self) -> Option<Outcome> {
        match self.root.run_dir_of(&self.container, &self.sandbox).and_then(|run_dir| run_dir.exit_record()) {
            Ok(Some(record)) => Some(Outcome::of(&record)),
            Ok(None) => {
                let memory = cgroup::stats::read(&self.cgroups).ok().and_then(|stats| stats.memory);
                Some(Outcome::unrecorded(memory.and_then(|memory| memory.oom_kills)))
            }
            Err(_) => None,
        }
    }
}

/// How long to wait for the end of a container from which a process is gone. If all of them are killed together,
/// another can be noticed before the one whose end is the container's; and init is on its way out for as long as the
/// kernel ends the rest of its pid namespace.
const END_LIMIT: Duration = Duration::from_secs(1);

/// The end of a container, for a value that may outlive the container's own.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(super) address: SandboxAddress,
    /// Readable when the container has ended.
    pub(super) ended: OwnedFd,
}

impl Ending {
    /// Whether the container has ended, or does so at once.
    pub(crate) fn is_near(&self) -> Result<bool> {
        is_near(self.ended.as_fd())
    }

    /// `step` failed because the container has ended.
    pub(crate) fn error(&self, step: &'static str) -> Error {
        self.address.has_ended(step)
    }
}

/// `step` came after the end of the container `id`. Without an `outcome`, the container was deleted too.
pub(crate) fn has_ended(
    id: &ContainerId,
    step: impl Into<Cow<'static, str>>,
    outcome: Option<Outcome>,
) -> Error {
    let id = id.as_str();
    let problem = match outcome {
        Some(outcome) => format!("container {id:?} has ended: {}", outcome.sentence()),
        None => format!("container {id:?} has ended and was deleted"),
    };
    Error::new(ErrorKind::Ended, step, problem)
}

fn is_near(ended: BorrowedFd<'_>) -> Result<bool> {
    wait_readable_until(ended, Instant::now().checked_add(END_LIMIT))
}

//! The stages of a container, each with the data that exists in it and nowhere else.
//!
//! ```text
//!   Preparing --ready--> Created --execve--> Running <--pause, resume--> Paused
//!       |                   |                   |                          |
//!       +--failed--> Failed +----- init ends ---+--------------------------+--> Ended
//! ```

use super::client::{Client, failed};
use crate::error::{Error, ErrorKind};
use crate::process::Channel;
use crate::sandbox::files::Layers;
use crate::sandbox::namespaces::InitNamespaces;
use crate::wire::control::Reply;
use rustix::fd::{BorrowedFd, OwnedFd};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How far the container is, with the data that exists in that stage.
pub(super) enum Stage {
    /// Init assembles the root. `boot` is where the creator waits; `overlays` are paths below the root.
    Preparing { boot: Channel, overlays: Vec<PathBuf> },
    /// Creation failed, the creator knows why, and init is being killed.
    Failed,
    /// Init waits to execute the program. `starting` is the client whose start is under way.
    Created { ready: Ready, starting: Option<Client> },
    /// Init executed the program.
    Running { run: Run, pausing: Option<Pausing> },
    /// All processes are stopped; those in `stopped_before` were stopped before the pause.
    Paused { run: Run, stopped_before: BTreeSet<i32> },
    /// Init is gone; without [`Remains`], before it was ready.
    Ended(Option<Remains>),
}

/// What init handed over when it was ready.
pub(super) struct Ready {
    /// The container's own proc: an instance for its pid namespace that nothing inside can cover.
    pub(super) proc: OwnedFd,
    /// The container's root as it was when init was ready.
    pub(super) root: OwnedFd,
    pub(super) namespaces: InitNamespaces,
    /// Init's pid in its own pid namespace.
    pub(super) init_pid: i32,
    pub(super) layers: Layers,
    /// What was mounted later, by the kernel's numbers of mounts.
    pub(super) hot_mounts: Vec<u64>,
    pub(super) gofer_gone: bool,
}

/// A program that was executed.
pub(super) struct Run {
    pub(super) ready: Ready,
    pub(super) started_at_ms: u64,
    /// When its time is up; `None` without a limit, and when it was killed for that.
    pub(super) deadline: Option<Instant>,
}

/// What is kept of a container that has ended, to find processes that outlive it in a shared pid namespace.
pub(super) struct Remains {
    pub(super) proc: OwnedFd,
    pub(super) init_pid: i32,
    /// `None` when no process can be left: then its mounts can go.
    pub(super) namespaces: Option<InitNamespaces>,
}

/// Where to see the container's processes, and how to tell them from others.
#[derive(Clone, Copy)]
pub(super) struct ProcessView<'a> {
    pub(super) proc: BorrowedFd<'a>,
    pub(super) init_pid: i32,
    pub(super) namespaces: Option<&'a InitNamespaces>,
}

/// The creator's end of a pipe, by which an attached container notices the end of its creator.
pub(super) enum Lifeline {
    Watched(OwnedFd),
    /// The container is detached, or has ended.
    Released,
    /// The creator is gone.
    Cut,
}

/// A pause that is not complete.
pub(super) struct Pausing {
    pub(super) client: Client,
    pub(super) deadline: Instant,
    pub(super) next_look: Instant,
    pub(super) interval: Duration,
    pub(super) looks: u32,
    /// Processes of the sandbox that the container may see, and that are not the container's.
    pub(super) helpers: Vec<i32>,
    /// Processes that were stopped before, and stay so when the others go on.
    pub(super) stopped_before: BTreeSet<i32>,
}

impl Pausing {
    /// The container has ended meanwhile.
    pub(super) fn given_up(self) -> (Client, Reply) {
        (self.client, failed(&Error::new(ErrorKind::Ended, "pause", "the container has ended")))
    }
}

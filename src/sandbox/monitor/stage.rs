//! The stages of a container. Each variant holds the data that exists only in that stage.
//!
//! ```text
//!                        +- job -+
//!                        v       |
//!   Preparing --ready--> Created-+ --execve--> Running <--pause, resume--> Paused
//!       |  |                | ^                   |                          |
//!       |  +--> Restoring --|-+                   |                          |
//!       |  |      ^         |                     |                          |
//!       |  +--> Furnishing  |                     |                          |
//!       +--fails--> Failed -+------ init ends ----+--------------------------+--> Ended
//! ```

use super::client::{Client, Listener, failed};
use crate::error::{Error, ErrorKind};
use crate::plan::CloneFlags;
use crate::process::Channel;
use crate::sandbox::files::Layers;
use crate::sandbox::namespaces::InitNamespaces;
use crate::sandbox::restore::{Anteroom, Restoration, Restorer};
use crate::wire::control::Reply;
use rustix::fd::{BorrowedFd, OwnedFd};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How far the container is.
pub(super) enum Stage {
    /// Init assembles the root. The creator waits at the other end of `boot`. `overlays` says where init mounts the
    /// overlays, relative to the root: it hands over their layers without paths when it is ready. `restoration` is
    /// what follows then, if it is not to execute a program.
    Preparing { boot: Channel, overlays: Vec<PathBuf>, restoration: Option<Box<Restoration>> },
    /// CRIU makes PID 1, and init assembles the root beside that. The rest is as in `Restoring`, which follows.
    Furnishing { boot: Option<Channel>, overlays: Vec<PathBuf>, anteroom: Anteroom, restorer: Restorer },
    /// Init has assembled the root and left, and CRIU restores the processes. The creator still waits; `None` once it knows
    /// of a failure, and everything is being killed.
    Restoring { boot: Option<Channel>, ready: Ready, restorer: Restorer },
    /// Creation failed: the sandbox reported why to the creator and killed init. A method that moves data from one stage
    /// to the next also leaves this value here meanwhile.
    Failed,
    /// Init waits for a client to start the program, or to give it a job first. `pending` is what init does now; the
    /// sandbox answers the client that asked for it when init has done it or fails. `held` is CRIU, if the first process is a
    /// restored one: it stands still until CRIU lets it go.
    Created { ready: Ready, pending: Option<Pending>, held: Option<Restorer> },
    /// Init executed the program. `pausing` is set from a pause request until all processes have stopped.
    Running { run: Run, pausing: Option<Pausing> },
    /// All processes are stopped. Those in `stopped_before` were stopped before the pause, so resume leaves them stopped;
    /// it is empty where the freezer stopped the processes, because thawing leaves them stopped anyway.
    Paused { run: Run, stopped_before: BTreeSet<i32> },
    /// Init ended. `None` if it ended before it was ready.
    Ended(Option<Remains>),
}

/// What a client asked of an init that waits.
pub(super) enum Pending {
    /// To execute the program: the client is answered after `execve`.
    Start(Client),
    /// To take a job, which has this time limit. The connection is the one that the request brought.
    Job { answer: Channel, timeout: Option<Duration> },
}

/// What init handed over when it was ready.
pub(super) struct Ready {
    /// A proc instance for the container's pid namespace. The sandbox reads it through this descriptor, so no mount
    /// inside the container can hide it.
    pub(super) proc: OwnedFd,
    /// The container's root as it was when init was ready.
    pub(super) root: OwnedFd,
    /// The container's null device, open.
    pub(super) null: OwnedFd,
    pub(super) namespaces: InitNamespaces,
    /// Init's pid in its own pid namespace.
    pub(super) init_pid: i32,
    pub(super) layers: Layers,
    /// The mount ids of what clients mounted after creation. Clients can unmount these and nothing else.
    pub(super) hot_mounts: Vec<u64>,
    /// The sandbox has seen the gofer end, and stops watching it: that connection would wake every poll.
    pub(super) gofer_gone: bool,
}

/// What init hands over for the creator.
pub(super) struct Passed {
    /// The master of init's terminal. A copy in the sandbox would keep the line from hanging up.
    pub(super) terminal: Option<OwnedFd>,
    /// Of a filter that is loaded already. Init waits until it is taken.
    pub(super) listener: Option<Listener>,
}

/// What the plan says about the container as a whole.
pub(super) struct Traits {
    /// Namespaces of init that the sandbox enters when init is ready.
    pub(super) followed: CloneFlags,
    /// Those that the reaper enters then.
    pub(super) of_reaper: CloneFlags,
    /// Whether init is in a pid namespace below the sandbox's.
    pub(super) own_pids: bool,
    /// Whether init has a terminal.
    pub(super) terminal: bool,
    /// Whether it is the pause container of a pod, whose OOM score says nothing about the pod.
    pub(super) pause: bool,
    /// The user and group that the workload starts as.
    pub(super) ids: [u32; 2],
    pub(super) timeout: Option<Duration>,
}

/// What the sandbox keeps from `execve` until init ends.
pub(super) struct Run {
    pub(super) ready: Ready,
    pub(super) started_at_ms: u64,
    /// When the sandbox kills the container for running too long. `None` without a time limit, and after that kill.
    pub(super) deadline: Option<Instant>,
}

/// What the sandbox keeps of a container that has ended, to find processes that outlive it in a shared pid namespace.
pub(super) struct Remains {
    pub(super) proc: OwnedFd,
    pub(super) init_pid: i32,
    /// Tells the container's processes from others. `None` if none outlived init, because open namespaces would keep
    /// the container's mounts alive.
    pub(super) namespaces: Option<InitNamespaces>,
}

/// How to find the container's processes: list them in `proc`. In a shared pid namespace, init and the processes in its
/// `namespaces` are the container's.
#[derive(Clone, Copy)]
pub(super) struct ProcessView<'a> {
    pub(super) proc: BorrowedFd<'a>,
    pub(super) init_pid: i32,
    pub(super) namespaces: Option<&'a InitNamespaces>,
}

/// How the sandbox notices that the creator of an attached container ended: a pipe whose write end only the creator holds.
pub(super) enum Lifeline {
    /// The read end. Its hangup means that the creator ended, or dropped its container value. Also after the container's
    /// end: if the creator is gone before it deletes the container, the gofer removes the cgroups.
    Watched(OwnedFd),
    /// The sandbox does nothing when the creator ends: the container is detached, or it has ended, and the gofer removes its
    /// cgroups already or they stay as the evidence of its end.
    Released,
    /// The pipe hung up, and the sandbox killed the container.
    Cut,
}

/// A pause that is not complete: the sandbox looks again until all processes have stopped, or until `deadline`.
pub(super) struct Pausing {
    pub(super) client: Client,
    pub(super) deadline: Instant,
    pub(super) next_look: Instant,
    pub(super) interval: Duration,
    pub(super) looks: u32,
    /// Children of the sandbox that do its own work. In a shared pid namespace they are listed among the container's
    /// processes, and the pause must not stop them.
    pub(super) helpers: Vec<i32>,
    /// As in [`Stage::Paused`].
    pub(super) stopped_before: BTreeSet<i32>,
}

impl Pausing {
    /// Ends the pause because the container ended first. Returns the client and the reply for it.
    pub(super) fn given_up(self) -> (Client, Reply) {
        (self.client, failed(&Error::new(ErrorKind::Ended, "pause", "the container has ended")))
    }
}

//! The connections between the four processes of a creation, and what the helpers report over them.

use crate::error::{Error, ErrorKind, Result};
use crate::link::client;
use crate::process::donation::Received;
use crate::process::{Channel, Delivery};
use crate::state::{CONTROL_SOCKET, RunDir};
use crate::wire::boot::{GoferReport, SandboxReport};
use crate::wire::init::RootAssembled;
use rustix::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long creation may take. Only an image on a slow network file system takes that long.
pub(super) const CREATE_LIMIT: Duration = Duration::from_secs(120);

/// The connections between caller, gofer, sandbox and init, both ends of each. Of a pair for a helper, the first end is
/// the caller's.
pub(super) struct Sockets {
    pub(super) boot_gofer: (Channel, Channel),
    pub(super) boot_sandbox: (Channel, Channel),
    pub(super) mounts: (Channel, Channel),
    /// The helpers' end of the lifeline.
    pub(super) lifeline: OwnedFd,
    /// The creator's connection, and the listening socket for other clients. `None` in a pod, whose sandbox has both.
    pub(super) control: Option<((Channel, Channel), OwnedFd)>,
    pub(super) exit_record: OwnedFd,
    /// The caller's end and init's, if the caller runs hooks between the last mount and the pivot.
    pub(super) hooks: Option<(Channel, Channel)>,
}

impl Sockets {
    pub(super) fn open(run_dir: &RunDir, lifeline: OwnedFd, hooks: bool, own_sandbox: bool) -> Result<Self> {
        let control =
            || Ok::<_, Error>((Channel::pair()?, client::listen_in(run_dir.as_fd(), CONTROL_SOCKET)?));
        Ok(Self {
            boot_gofer: Channel::pair()?,
            boot_sandbox: Channel::pair()?,
            mounts: Channel::pair()?,
            lifeline,
            control: own_sandbox.then(control).transpose()?,
            exit_record: run_dir.create_exit_record()?,
            hooks: if hooks { Some(Channel::pair()?) } else { None },
        })
    }
}

/// Waits until init has assembled the root and waits for the hooks. Returns a pidfd of init; `None` if it died.
pub(super) fn await_assembled(init: &Channel) -> Result<Option<OwnedFd>> {
    match init.receive::<RootAssembled>(Some(Instant::now() + CREATE_LIMIT)) {
        Ok(report) => report.fds.take_only("init").map(Some),
        Err(error) if *error.kind() == ErrorKind::HelperDied => Ok(None),
        Err(error) => Err(error.during("init")),
    }
}

/// Waits until both helpers are ready. Returns what the sandbox hands over: init's pidfd, and the master of its
/// terminal if it has one.
///
/// Both always report: if one fails, the connection between them ends the other.
pub(super) fn await_ready(gofer: &Channel, sandbox: &Channel, deadline: Option<Instant>) -> Result<Received> {
    let init = hear_sandbox(sandbox, deadline).and_then(|report| match report.message {
        SandboxReport::Ready => Ok(report.fds),
        SandboxReport::Failed(failure) => Err(failure.into()),
        SandboxReport::Network => Err(misbehaved("the sandbox sent its network out of turn")),
    });
    // Receive the gofer's report in any case: a gofer that cannot send it gives up.
    let mounts = gofer.receive::<GoferReport>(deadline).map_err(|error| error.during("gofer"));
    let mounts = mounts.and_then(|report| match report.message {
        GoferReport::Ready => Ok(()),
        GoferReport::Failed(failure) => Err(failure.into()),
    });
    match (init, mounts) {
        (Ok(fds), Ok(())) => Ok(fds),
        // If the gofer failed, that made the sandbox fail, too.
        (Err(error), Err(cause)) if *cause.kind() == ErrorKind::HelperDied => Err(error),
        (_, Err(cause)) | (Err(cause), _) => Err(cause),
    }
}

pub(super) fn hear_sandbox(sandbox: &Channel, deadline: Option<Instant>) -> Result<Delivery<SandboxReport>> {
    sandbox.receive(deadline).map_err(|error| error.during("sandbox"))
}

pub(super) fn misbehaved(problem: &'static str) -> Error {
    Error::new(ErrorKind::PeerMisbehaved, "create", problem)
}

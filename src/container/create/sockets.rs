//! The connections between the four processes of a creation, and what the helpers report over them.

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::link::client;
use crate::process::Channel;
use crate::state::{CONTROL_SOCKET, RunDir};
use crate::wire::message::Report;
use rustix::fd::{AsFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use std::time::{Duration, Instant};

/// How long creation may take. Image file systems over a network are slow; nothing else comes near.
pub(super) const CREATE_LIMIT: Duration = Duration::from_secs(120);

/// The connections between the four processes, each end where it belongs.
pub(super) struct Sockets {
    pub(super) boot_gofer: (Channel, Channel),
    pub(super) boot_sandbox: (Channel, Channel),
    pub(super) mounts: (Channel, Channel),
    pub(super) lifeline: (OwnedFd, OwnedFd),
    /// Of a sandbox of its own: the creator's connection, and the socket for others.
    pub(super) control: Option<((Channel, Channel), OwnedFd)>,
    pub(super) exit_record: OwnedFd,
    /// Init's and the caller's, where hooks run between the last mount and the pivot.
    pub(super) hooks: Option<(Channel, Channel)>,
}

impl Sockets {
    pub(super) fn open(run_dir: &RunDir, hooks: bool, own_sandbox: bool) -> Result<Self> {
        let control =
            || Ok::<_, Error>((Channel::pair()?, client::listen_in(run_dir.as_fd(), CONTROL_SOCKET)?));
        Ok(Self {
            boot_gofer: Channel::pair()?,
            boot_sandbox: Channel::pair()?,
            mounts: Channel::pair()?,
            lifeline: pipe_with(PipeFlags::CLOEXEC).os(|| "pipe2()")?,
            control: own_sandbox.then(control).transpose()?,
            exit_record: run_dir.create_exit_record()?,
            hooks: if hooks { Some(Channel::pair()?) } else { None },
        })
    }
}

/// Waits until init stops for the hooks (true), or is gone (false).
pub(super) fn await_assembled(init: &Channel) -> Result<bool> {
    match init.receive::<Report>(Some(Instant::now() + CREATE_LIMIT)) {
        Ok(delivery) => Ok(delivery.message == Report::Assembled),
        Err(error) if *error.kind() == ErrorKind::HelperDied => Ok(false),
        Err(error) => Err(error.during("init")),
    }
}

/// Waits until both helpers are ready. Returns init's pidfd, and the master of its terminal.
///
/// Both always say something: one that fails takes the other along by the connection between them.
pub(super) fn await_ready(
    gofer: &Channel,
    sandbox: &Channel,
    deadline: Option<Instant>,
) -> Result<(OwnedFd, Option<OwnedFd>)> {
    let init = report(sandbox, "sandbox", deadline);
    // Its word is waited for also where the sandbox's is enough: a gofer that finds nobody to tell gives up.
    match (init, report(gofer, "gofer", deadline)) {
        (Ok(fds), Ok(_)) => {
            let mut fds = fds.into_iter();
            Ok((fds.next().ok_or_else(|| misbehaved("the sandbox sent no pidfd"))?, fds.next()))
        }
        // If the gofer knows why, that is why the sandbox failed too.
        (Err(error), Err(cause)) if *cause.kind() == ErrorKind::HelperDied => Err(error),
        (_, Err(cause)) | (Err(cause), _) => Err(cause),
    }
}

pub(super) fn report(
    helper: &Channel,
    name: &'static str,
    deadline: Option<Instant>,
) -> Result<Vec<OwnedFd>> {
    match helper.receive::<Report>(deadline) {
        Ok(delivery) => match delivery.message {
            Report::Ready { .. } | Report::Network | Report::Assembled => Ok(delivery.fds),
            Report::Failed(failure) => Err(failure.into()),
            Report::Listener => Err(misbehaved("a listener before the start")),
        },
        Err(error) => Err(error.during(name)),
    }
}

pub(super) fn misbehaved(problem: &'static str) -> Error {
    Error::new(ErrorKind::PeerMisbehaved, "create", problem)
}

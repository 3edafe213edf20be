//! The listener of a filter that notifies, on its way from a process to the client that started it.

use crate::process::donation::{NamedFd, Received};
use crate::wire::init::LISTENER_FDS;
use rustix::fd::{AsFd, OwnedFd};

/// The listener, and the connection over which the process waits. Dropping it ends the process.
pub(super) struct Listener([OwnedFd; 2]);

impl Listener {
    /// `None` for a wrong set of descriptors: closing them ends the process that sent them.
    pub(super) fn of(mut fds: Received) -> Option<Self> {
        let [listener, waiting] = LISTENER_FDS.map(|name| fds.take(name));
        fds.finish().ok()?;
        Some(Self([listener.ok()?, waiting.ok()?]))
    }

    /// As the client gets them.
    pub(super) fn named(&self) -> Vec<NamedFd<'_>> {
        LISTENER_FDS.into_iter().zip(self.0.iter().map(AsFd::as_fd)).collect()
    }
}

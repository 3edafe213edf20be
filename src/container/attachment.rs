//! [`DropGuard`]: what attaches a container to the value that made it.

use super::teardown;
use crate::error::{ErrorKind, Result};
use crate::process::{collect_later, reap};
use crate::state::{Found, StateRoot};
use rustix::fd::{AsFd, OwnedFd};

/// What ties a container to the value that made it: dropping the value destroys the container.
#[derive(Debug)]
pub(super) struct DropGuard {
    /// Our end of the lifeline: the sandbox watches the other one.
    _lifeline: OwnedFd,
    /// Where the record to undo is.
    root: StateRoot,
    found: Found,
    /// Which container of that name it is.
    created_at: u64,
    /// The children to collect; `None` once that is done.
    children: Option<Vec<OwnedFd>>,
    /// Whether the container is this value's to destroy, and not destroyed yet.
    holds: bool,
}

impl DropGuard {
    pub(super) fn new(
        lifeline: OwnedFd,
        root: StateRoot,
        found: Found,
        created_at: u64,
        children: Vec<OwnedFd>,
    ) -> Self {
        Self { _lifeline: lifeline, root, found, created_at, children: Some(children), holds: true }
    }

    /// Lets the container go. The children are collected when they end, at the next call into this crate after that.
    pub(super) fn cut(mut self) {
        self.holds = false;
        if let Some(children) = self.children.take() {
            collect_later(children);
        }
    }

    /// Destroys the container and collects its processes. What fails can be tried again.
    pub(super) fn destroy(&mut self) -> Result<()> {
        if !self.holds {
            return Ok(());
        }
        // By what this value holds first: a record that cannot be read must keep nothing alive.
        for child in self.children.iter().flatten() {
            let _ = rustix::process::pidfd_send_signal(child, rustix::process::Signal::KILL);
        }
        let lock = self.root.lock(&self.found);
        let destroyed = lock.and_then(|lock| teardown::destroy(lock, Some(self.created_at)));
        for child in self.children.take().iter().flatten() {
            reap(child.as_fd());
        }
        match destroyed {
            Err(error) if *error.kind() != ErrorKind::NotFound => Err(error),
            _ => {
                self.holds = false;
                Ok(())
            }
        }
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        // A destructor has nobody to tell; what is left keeps its record and can be deleted by id.
        if let Err(error) = self.destroy() {
            tracing::debug!(container = self.found.id(), %error, "destroy on drop");
        }
    }
}

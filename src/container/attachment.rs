//! [`DropGuard`]: what attaches a container to the value that made it.

use super::teardown;
use crate::error::{ErrorKind, Result};
use crate::helper::{collect_later, has_ended, reap};
use crate::process::channel::wait_readable_until;
use crate::state::{CreatorLock, Found, StateRoot};
use rustix::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long the gofer may take to end after it was killed, to be collected first.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Attaches a container to the value that made it: dropping the value destroys the container.
#[derive(Debug)]
pub(super) struct DropGuard {
    /// Our end of the lifeline. The sandbox watches the other end, and kills the container when ours closes. If the
    /// container has ended by then, the gofer removes its cgroups.
    _lifeline: OwnedFd,
    /// Tells other programs that we hold the container, so that a creation with the same id leaves it alone.
    _creator: CreatorLock,
    /// The directory of the record by which the container is destroyed.
    root: StateRoot,
    found: Found,
    /// Tells the container from a later one with the same id.
    created_at: u64,
    /// The helpers that are our children. `None` once they are collected.
    children: Option<Vec<OwnedFd>>,
    /// Whether this value still has to destroy the container.
    holds: bool,
}

impl DropGuard {
    pub(super) fn new(
        lifeline: OwnedFd,
        creator: CreatorLock,
        root: StateRoot,
        found: Found,
        created_at: u64,
        children: Vec<OwnedFd>,
    ) -> Self {
        Self {
            _lifeline: lifeline,
            _creator: creator,
            root,
            found,
            created_at,
            children: Some(children),
            holds: true,
        }
    }

    /// Lets the container go. After the helpers have ended, the next call that makes, loads or deletes a container
    /// collects them.
    pub(super) fn cut(mut self) {
        self.holds = false;
        if let Some(children) = self.children.take() {
            collect_later(children);
        }
    }

    /// Destroys the container and collects its helpers. Can be repeated if it fails.
    pub(super) fn destroy(&mut self) -> Result<()> {
        if !self.holds {
            return Ok(());
        }
        // Kill through our own pidfds first, so that an unreadable record cannot keep processes alive.
        for child in self.children.iter().flatten() {
            let _ = rustix::process::pidfd_send_signal(child, rustix::process::Signal::KILL);
        }
        self.collect_those_that_end();
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

    /// If the sandbox has ended, nothing keeps the gofer, which was killed, from ending now. Collects both before the
    /// record is looked at, so that there is nothing to look for. What does not end at once stays in `children`.
    fn collect_those_that_end(&mut self) {
        let Some(children) = &mut self.children else { return };
        if !children.first().is_some_and(|sandbox| has_ended(sandbox.as_fd())) {
            return;
        }
        let deadline = Instant::now() + AT_ONCE;
        children.retain(|child| {
            let ended = wait_readable_until(child.as_fd(), Some(deadline)).unwrap_or(false);
            if ended {
                reap(child.as_fd());
            }
            !ended
        });
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        // A destructor cannot return an error. What is left keeps its record, and can be deleted by its id.
        if let Err(error) = self.destroy() {
            tracing::debug!(container = self.found.id(), %error, "destroy on drop");
        }
    }
}

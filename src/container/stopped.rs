//! [`Stopped`]: everything has ended.

use super::failed::{Failed, Recovered};
use super::outcome::Exit;
use super::teardown;
use super::typestate::{AnyContainer, Container, Ended, Phase, Stopped};
use crate::error::{Error, ErrorKind, Result};

impl<P: Phase + ?Sized> Container<P> {
    /// How it ended.
    #[must_use]
    pub fn exit(&self) -> &Exit
    where
        P: Ended,
    {
        &self.phase.stopped().exit
    }
}

impl<P: Phase> Container<P> {
    /// Removes what is left of the container: helpers, cgroup, record. Runs its poststop hooks.
    ///
    /// # Errors
    /// [`ErrorKind::Incomplete`] naming what could not be removed. The record is then kept, and the call can be
    /// repeated. If another process has deleted the container, that is no error.
    pub fn delete(self) -> Result<(), Failed<Stopped>>
    where
        P: Ended,
    {
        let mut stopped = self.map(P::into_stopped);
        match stopped.delete_locked() {
            Ok(()) => Ok(()),
            Err(error) => Err(Failed::unchanged(error, stopped)),
        }
    }
}

impl Container<Stopped> {
    fn delete_locked(&mut self) -> Result<(), Error> {
        if let Some(tether) = self.core.tether.as_mut() {
            return tether.destroy();
        }
        let lock = self.core.root.lock(self.core.found()?);
        match lock.and_then(|lock| teardown::destroy(lock, Some(self.core.record.created_at))) {
            Err(error) if *error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

impl Failed<Stopped> {
    /// The container that could not be deleted completely.
    #[must_use]
    pub fn into_container(self) -> Option<AnyContainer> {
        match self.into_parts().1 {
            Recovered::Unchanged(container) => Some(container.into()),
            Recovered::Moved(container) => Some(container),
            Recovered::Gone => None,
        }
    }
}

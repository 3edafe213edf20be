//! [`Creating`]: configured and planned, with nothing on the host yet.

use super::create::blueprint::Blueprint;
use super::create::transaction::launch;
use super::failed::Failed;
use super::handle::Handle;
use super::teardown;
use super::typestate::{AnyContainer, Container, Creatable, Created, Creating, Phase};
use crate::error::Error;
use crate::helper::collect_ended;
use crate::state::Status;

impl<P: Phase> Container<P> {
    /// Claims the id and makes the container: its cgroup, its gofer and its sandbox. Init assembles the root, finds the
    /// program, and waits.
    ///
    /// # Errors
    /// * [`ErrorKind::AlreadyExists`](crate::ErrorKind::AlreadyExists) if the id is taken. If a killed program left a
    ///   container with the id that was attached to it, `create` deletes that first, with its poststop hooks; if it
    ///   cannot, that is the error.
    /// * [`ErrorKind::ProgramNotFound`](crate::ErrorKind::ProgramNotFound) and
    ///   [`ErrorKind::ProgramNotExecutable`](crate::ErrorKind::ProgramNotExecutable) if the program is missing in the
    ///   container's root or cannot be executed.
    /// * [`ErrorKind::InvalidSpec`](crate::ErrorKind::InvalidSpec) and
    ///   [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), which name the field.
    /// * [`ErrorKind::OutdatedZygote`](crate::ErrorKind::OutdatedZygote) and
    ///   [`ErrorKind::HelperDied`](crate::ErrorKind::HelperDied) with a [`Zygote`](crate::Zygote).
    /// * Otherwise the errno of the system call that failed.
    ///
    /// `create` then undoes what it made, leaves alone what existed before, and gives the container back unchanged.
    pub fn create(self) -> Result<Container<Created>, Failed<Creating>>
    where
        P: Creatable,
    {
        self.map(P::into_creating).create_now()
    }
}

impl Container<Creating> {
    fn create_now(mut self) -> Result<Container<Created>, Failed<Creating>> {
        collect_ended();
        if let Err(error) = self.phase.blueprint.check_image() {
            return Err(Failed::unchanged(error, self));
        }
        if self.core.found.is_some()
            && let Err(error) = self.undo_crashed_creation()
        {
            return match self
                .core
                .found
                .as_ref()
                .map(|found| AnyContainer::load_found(&self.core.root, found))
            {
                Some(Ok(moved)) if moved.status() != Status::Creating => Err(Failed::moved(error, moved)),
                _ => Err(Failed::unchanged(error, self)),
            };
        }
        match launch(&mut self.core, &mut self.phase.blueprint) {
            Ok((live, streams)) => Ok(Container { core: self.core, phase: Created { live, streams } }),
            Err(error) => Err(Failed::unchanged(self.phase.blueprint.names.explain(error), self)),
        }
    }

    /// Removes what a creator that died left of this container, with its record.
    fn undo_crashed_creation(&mut self) -> Result<(), Error> {
        let lock = self.core.root.lock(self.core.found()?)?;
        let record = lock.load()?;
        let actual = record.status();
        if actual != Status::Creating {
            let problem = format!("{:?} is {actual} already", record.id.as_str());
            return Err(Error::wrong_state(actual, "create", problem));
        }
        teardown::destroy(lock, None)?;
        self.core.found = None;
        Ok(())
    }

    pub(super) fn new(core: Handle, blueprint: Blueprint) -> Self {
        Self { core, phase: Creating { blueprint: Box::new(blueprint) } }
    }
}

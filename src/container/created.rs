//! [`Created`]: everything is in place, and the program has not run yet.

use super::any::AnyContainer;
use super::failed::Failed;
use super::live::seccomp_agent;
use super::oci;
use super::typestate::{Alive, Container, Created, HasStreams, Phase, Running, Startable, Stopped};
use crate::error::{Error, ErrorKind, Result};
use crate::process::console::Pty;
use crate::process::has_ended;
use crate::state::Status;
use crate::wire::control::Operation;
use std::fs::File;
use std::time::{Duration, Instant};

/// How long a sandbox may take to end when its init has.
const END_LIMIT: Duration = Duration::from_secs(10);

impl<P: Phase> Container<P> {
    /// Executes the program.
    ///
    /// # Errors
    /// [`ErrorKind::ProgramNotFound`], [`ErrorKind::ProgramNotExecutable`] or the errno of `execve` if the program
    /// cannot be executed after all (its interpreter is missing, for example): the container has then ended.
    /// [`ErrorKind::HookFailed`] if a startContainer hook failed; for a configuration of OCI 1.3 or later also if a
    /// poststart hook did, which before that is a warning to `tracing`. The container has then ended, too.
    /// [`ErrorKind::WrongState`] if another process started or ended it first.
    pub fn start(self) -> Result<Container<Running>, Failed<Created>>
    where
        P: Startable,
    {
        let mut created = self.map(P::into_created);
        match created.start_locked().and_then(|()| created.after_start()) {
            Ok(()) => {
                let Container { core, phase: Created { live, streams } } = created;
                Ok(Container { core, phase: Running { live, streams } })
            }
            Err(error) => {
                created.await_end_of_failed_start(&error);
                Err(created.recover(error))
            }
        }
    }
}

impl Container<Created> {
    /// Whatever init failed at, it ended with it, and the sandbox ends when it has written that down: only then does
    /// looking at the container show what became of it.
    fn await_end_of_failed_start(&self, error: &Error) {
        let refused = matches!(
            error.kind(),
            ErrorKind::WrongState { .. } | ErrorKind::NotFound | ErrorKind::InvalidInput
        );
        if !refused && self.core.record.status() == Status::Running {
            // Unless what failed was ours, a full disk or a time limit: then it runs, and nobody would know.
            let _ = self.phase.live.ask(Operation::Kill);
            let _ = self.phase.live.wait_until(Some(Instant::now() + END_LIMIT));
        }
    }

    fn start_locked(&mut self) -> Result<()> {
        let mut lock = self.core.lock_unchanged()?;
        let asked = self.phase.live.begin(Operation::Start)?;
        let asked = asked.allow(oci::before_program(&self.core.record)?);
        // Saved while the sandbox works. Should it fail, the container has ended, and no record says otherwise: a
        // status counts only as long as the sandbox lives.
        self.core.record.advance(Status::Running)?;
        let saved = lock.save(&mut self.core.record);
        // Init's failure comes first: it says more.
        let record = &self.core.record;
        let pid = self.phase.live.init_pid();
        asked.started(|handed| seccomp_agent::hand_over(record, Status::Created, pid, handed))?;
        saved
    }

    /// Poststart hooks, with no lock held: one may look at the container.
    fn after_start(&self) -> Result<()> {
        oci::poststart(&self.core.record)
    }
}

impl<P: Phase> Container<P> {
    /// The pid of the sandbox on the host: what the OCI state and the PID file call the container's pid, unless it is a
    /// further container in a pod.
    #[must_use]
    pub fn sandbox_pid(&self) -> i32
    where
        P: Alive,
    {
        self.phase.live().sandbox_pid()
    }

    /// The pid of the workload on the host; before start, of the process that will become it.
    #[must_use]
    pub fn init_pid(&self) -> i32
    where
        P: Alive,
    {
        self.phase.live().init_pid()
    }

    /// Kills every process of the container and waits until they are gone.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if the kernel does not get rid of them.
    pub fn kill(self) -> Result<Container<Stopped>, Failed<P>>
    where
        P: Alive,
    {
        super::running::kill(self)
    }

    /// Lets the container outlive this program and this value: from here on it belongs to whoever loads it by its id.
    ///
    /// # Errors
    /// The container comes back attached if its sandbox does not answer.
    pub fn detach(mut self) -> Result<Self, Failed<P>>
    where
        P: Alive,
    {
        if self.core.tether.is_none() {
            return Ok(self);
        }
        let cut = self.core.lock_unchanged().and_then(|mut lock| {
            match self.phase.live().ask(Operation::Detach) {
                Ok(_) => {}
                // It has ended, and nothing watches the lifeline any more: its record is what is left to whoever asks.
                Err(error) if *error.kind() == ErrorKind::Ended => {}
                Err(error) => return Err(error),
            }
            self.core.record.attached = false;
            lock.save(&mut self.core.record)
        });
        match cut {
            Ok(()) => {
                if let Some(tether) = self.core.tether.take() {
                    tether.cut();
                }
                Ok(self)
            }
            Err(error) => Err(self.recover(error)),
        }
    }

    /// What a failed transition leaves: the same container if its sandbox still stands, else what became of it.
    pub(super) fn recover(self, error: Error) -> Failed<P>
    where
        P: Alive,
    {
        let moved =
            matches!(error.kind(), ErrorKind::WrongState { .. } | ErrorKind::NotFound | ErrorKind::Ended)
                || has_ended(self.phase.live().ended());
        if !moved {
            return Failed::unchanged(error, self);
        }
        let Some(found) = self.core.found.clone() else { return Failed::unchanged(error, self) };
        let root = self.core.root.clone();
        // Our own hold on it moves along, so that an attached container is still undone with the value.
        let tether = self.core.tether;
        match AnyContainer::load_found(&root, &found) {
            Ok(container) => Failed::moved(error, container.with_tether(tether)),
            Err(_) => Failed::gone(error),
        }
    }

    /// The writing end of the workload's standard input, if it is a pipe and was not taken yet.
    pub fn take_stdin(&mut self) -> Option<File>
    where
        P: HasStreams,
    {
        self.phase.streams_mut().pipes[0].take()
    }

    /// The reading end of the workload's standard output, if it is a pipe and was not taken yet.
    pub fn take_stdout(&mut self) -> Option<File>
    where
        P: HasStreams,
    {
        self.phase.streams_mut().pipes[1].take()
    }

    /// The reading end of the workload's standard error, if it is a pipe and was not taken yet.
    pub fn take_stderr(&mut self) -> Option<File>
    where
        P: HasStreams,
    {
        self.phase.streams_mut().pipes[2].take()
    }

    /// The workload's terminal, if it was asked for with [`terminal`](super::ContainerBuilder::terminal) and not taken
    /// yet. One that is not taken stays with the container and hangs up with it.
    pub fn take_pty(&mut self) -> Option<Pty>
    where
        P: HasStreams,
    {
        self.phase.streams_mut().pty.take()
    }
}

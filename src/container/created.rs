//! [`Created`]: everything is in place, and the program has not run yet. Starting, detaching, and what a failed
//! transition gives back.

use super::failed::Failed;
use super::handle::explain_out_of_memory;
use super::oci;
use super::typestate::{
    Alive, AnyContainer, Container, Created, HasStreams, Phase, Running, Startable, Stopped,
};
use crate::error::{Error, ErrorKind, Result};
use crate::helper::has_ended;
use crate::link::kill_process;
use crate::process::Lines;
use crate::process::console::Pty;
use crate::state::Status;
use crate::wire::control::Operation;
use std::fs::File;
use std::time::{Duration, Instant};

/// How long a sandbox may take to end after its init.
const END_LIMIT: Duration = Duration::from_secs(10);

impl<P: Phase> Container<P> {
    /// Executes the program.
    ///
    /// # Errors
    /// * [`ErrorKind::ProgramNotFound`], [`ErrorKind::ProgramNotExecutable`] or the errno of `execve`, if the program
    ///   cannot be executed after all: its interpreter is missing, for example. The container has then ended.
    /// * [`ErrorKind::HookFailed`] if a startContainer hook failed. For a configuration of OCI 1.3 or later also if a
    ///   poststart hook failed; before 1.3 that is a warning to `tracing`. The container has then ended.
    /// * [`ErrorKind::WrongState`] if another process started or ended the container first.
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
                let error = explain_out_of_memory(error, &created.core.record, "start");
                created.await_end_of_failed_start(&error);
                Err(created.recover(error))
            }
        }
    }
}

impl Container<Created> {
    /// Waits for the sandbox to end. Init ended with its failure, and the sandbox writes the exit record before it
    /// ends: until then, loading the container would not show that it has ended.
    fn await_end_of_failed_start(&self, error: &Error) {
        let refused = matches!(
            error.kind(),
            ErrorKind::WrongState { .. } | ErrorKind::NotFound | ErrorKind::InvalidInput
        );
        if !refused && self.core.record.status() == Status::Running {
            // The failure may be on our side, such as a full disk or a time limit. Then the program runs: kill it.
            let _ = self.phase.live.ask(Operation::Kill);
            let _ = self.phase.live.wait_until(Some(Instant::now() + END_LIMIT));
        }
    }

    fn start_locked(&mut self) -> Result<()> {
        let mut lock = self.core.lock_unchanged()?;
        let asked = self.phase.live.begin(Operation::Start)?;
        let asked = asked.allow(oci::before_program(&self.core.record)?);
        // Save while the sandbox works. If the start fails, the container ends, and the saved status does not matter:
        // a status counts only while the sandbox lives.
        self.core.record.advance(Status::Running)?;
        let saved = lock.save(&mut self.core.record);
        // Report init's failure before a failed save, because it says more.
        let record = &self.core.record;
        let pid = self.phase.live.init_pid();
        asked.started(|handed| oci::hand_over_listener(record, Status::Created, pid, handed))?;
        tracing::debug!(container = %record.id, init = pid, "started");
        saved
    }

    /// Runs the poststart hooks, without the lock: a hook may load the container.
    fn after_start(&self) -> Result<()> {
        oci::poststart(&self.core.record)
    }
}

impl<P: Phase + ?Sized> Container<P> {
    /// The sandbox's pid on the host. It is in the PID file, because this process ends with the container's status. The
    /// PID file of a further container of a pod has [`init_pid`](Self::init_pid).
    #[must_use]
    pub fn sandbox_pid(&self) -> i32
    where
        P: Alive,
    {
        self.phase.live().sandbox_pid()
    }

    /// The pid on the host of the workload's first process, which executes the program; before `start`, of the process that
    /// will execute it. The OCI state has it as the container's pid. It is a child of the sandbox. Inside the container its
    /// pid is 2, and 1 without an [`init`](crate::ContainerBuilder::init); this is never the pid of that init.
    #[must_use]
    pub fn init_pid(&self) -> i32
    where
        P: Alive,
    {
        self.phase.live().init_pid()
    }
}

impl<P: Phase> Container<P> {
    /// Kills every process of the container and waits until they are gone.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if a process has not ended after ten seconds, because the kernel cannot interrupt it.
    pub fn kill(self) -> Result<Container<Stopped>, Failed<P>>
    where
        P: Alive,
    {
        super::running::kill(self)
    }

    /// What a failed transition gives back: the same container if its sandbox is still alive, else the container as it
    /// is now.
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
        // Pass the drop guard on, so that dropping the new value still destroys an attached container.
        let tether = self.core.tether;
        match AnyContainer::load_found(&root, &found) {
            Ok(container) => Failed::moved(error, container.with_tether(tether)),
            Err(_) => Failed::gone(error),
        }
    }
}

impl<P: Phase + ?Sized> Container<P> {
    /// Lets the container outlive this program and this value. Other programs can load it by its id. The value stays in its
    /// phase and can be used as before, but dropping it no longer destroys the container.
    ///
    /// # Errors
    /// The errno or [`ErrorKind::TimedOut`] if the sandbox does not answer: the container is then attached still.
    pub fn detach(&mut self) -> Result<()>
    where
        P: Alive,
    {
        if self.core.tether.is_none() {
            return Ok(());
        }
        let mut lock = self.core.lock_unchanged()?;
        match self.phase.live().ask(Operation::Detach) {
            Ok(_) => {}
            // The container has ended. Its record stays, and says how it ended. Its cgroups stay too, if no gofer is left
            // that would remove them when the lifeline closes.
            Err(error) if *error.kind() == ErrorKind::Ended => {
                let gofer = self.core.record.gofer.as_ref();
                gofer.map_or(Ok(()), |gofer| kill_process(gofer, &self.core.record))?;
            }
            Err(error) => return Err(error),
        }
        self.core.record.attached = false;
        lock.save(&mut self.core.record)?;
        if let Some(tether) = self.core.tether.take() {
            tether.cut();
        }
        Ok(())
    }

    /// Takes the writing end of the workload's standard input. `None` if it is no pipe, or was taken before.
    pub fn take_stdin(&mut self) -> Option<File>
    where
        P: HasStreams,
    {
        self.phase.streams_mut().pipes.take_stdin()
    }

    /// Takes the reading end of the workload's standard output. `None` if it is no pipe, or was taken before.
    pub fn take_stdout(&mut self) -> Option<File>
    where
        P: HasStreams,
    {
        self.phase.streams_mut().pipes.take_stdout()
    }

    /// Takes the reading end of the workload's standard error. `None` if it is no pipe, or was taken before.
    pub fn take_stderr(&mut self) -> Option<File>
    where
        P: HasStreams,
    {
        self.phase.streams_mut().pipes.take_stderr()
    }

    /// Takes both reading ends, and reads them line by line. A stream that is no pipe, or was taken before, has no lines.
    pub fn take_lines(&mut self) -> Lines
    where
        P: HasStreams,
    {
        Lines::new(self.take_stdout(), self.take_stderr())
    }

    /// Takes the caller's end of the workload's terminal. `None` without
    /// [`terminal`](super::ContainerBuilder::terminal), or if it was taken before. Dropping the container closes an end
    /// that was not taken, which hangs up the terminal.
    pub fn take_pty(&mut self) -> Option<Pty>
    where
        P: HasStreams,
    {
        self.phase.streams_mut().pty.take()
    }
}

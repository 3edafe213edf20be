//! What clients ask of an init that waits for the start: to take a job in place of its program, and to execute the program.
//!
//! ```text
//!   client                    sandbox                      init
//!      |-- Job, descriptors ---->|--- TakeJob, the same ---->|  take the streams, find the program
//!      |<--------- Done ---------|<--------- Taken ----------|  or Failed, and init ends
//!      |--------- Start -------->|---------- Start --------->|  shed privileges, execve
//!      |<--------- Done ---------|<------ end of file -------|  or Failed, and init ends
//! ```
//!
//! One at a time: the stage says what init does, and a request meanwhile is refused.

use super::client::{Client, Key, Listener, failed};
use super::container::ContainerState;
use super::event_loop::Monitor;
use super::exit;
use super::stage::{Pending, Ready, Run, Stage};
use crate::error::{Error, Result};
use crate::helper::Received;
use crate::process::{Channel, Delivery};
use crate::sandbox::reaper::Reaper;
use crate::sandbox::target::has_ended;
use crate::sandbox::template::write;
use crate::state::{Cause, Status};
use crate::wire::control::Reply;
use crate::wire::init::{InitRequest, JobReport, StartReport};
use std::time::{Duration, Instant};

impl Monitor {
    /// Hands the job that `fds` describe on to init. `answer` gets the reply when init has taken it.
    pub(super) fn give_job(
        &mut self,
        container: Key,
        answer: Channel,
        timeout: Option<Duration>,
        fds: Received,
    ) {
        if let Err((answer, error)) = self.container(container).give_job(answer, timeout, fds) {
            let _ = answer.send_now(&failed(&error), &[]);
        }
    }

    pub(super) fn start(&mut self, container: Key, client: Client) -> Option<Client> {
        let prepared = self.prepare_for_programs(container);
        let container = self.container(container);
        let Stage::Created { pending: pending @ None, held, .. } = &mut container.stage else {
            return client.reply(&failed(&container.not_in_phase("start")));
        };
        let mut begin = || match held {
            None => container.init.channel.send(&InitRequest::Start, &[]),
            Some(restorer) => restorer.release(),
        };
        match prepared.and_then(|()| begin()) {
            Ok(()) => {
                *pending = Some(Pending::Start(client));
                None
            }
            Err(error) => client.reply(&failed(&error)),
        }
    }

    /// Gets ready for the first program that runs in a created container: the workload, or a process of exec before it.
    pub(super) fn prepare_for_programs(&mut self, container: Key) -> Result<()> {
        // Wait for the reaper of the root container, too: this container may share its pid namespace.
        let keys = [self.root_key(), Some(container)];
        let concerned = self.containers.iter_mut().filter(|(key, _)| keys.contains(&Some(*key)));
        let mut reapers = concerned.filter_map(|(_, known)| known.init.reaper.as_mut());
        reapers.try_for_each(Reaper::await_program)?;
        // From its first instruction on, a program may use up the memory of the cgroup.
        self.container(container).init.cgroups.hide_sandbox()
    }
}

impl ContainerState {
    fn give_job(
        &mut self,
        answer: Channel,
        timeout: Option<Duration>,
        fds: Received,
    ) -> Result<(), (Channel, Error)> {
        if self.traits.terminal {
            return Err((answer, Error::unsupported("process.terminal", "a job has streams of its own")));
        }
        // The init of such a container waits with its filter loaded: it executes, whatever it is sent.
        if self.exec_config.filter.as_ref().is_some_and(|filter| filter.notify) {
            let why = "a filter that notifies is loaded before a job can be taken";
            return Err((answer, Error::unsupported("linux.seccomp", why)));
        }
        if self.visited {
            let problem = "another program has worked in the container already";
            return Err((answer, Error::wrong_state(Status::Created, "take", problem)));
        }
        if self.restored {
            let why = "its processes are restored ones";
            return Err((answer, Error::unsupported("take", why)));
        }
        let Stage::Created { pending: pending @ None, .. } = &mut self.stage else {
            return Err((answer, self.not_in_phase("take")));
        };
        // The sandbox keeps no copy of a stream: `fds` ends here.
        let fds = fds.into_named();
        let fds: Vec<_> = fds.iter().map(|(name, fd)| (name.as_str(), rustix::fd::AsFd::as_fd(fd))).collect();
        match self.init.channel.send(&InitRequest::TakeJob, &fds) {
            Ok(()) => {
                *pending = Some(Pending::Job { answer, timeout });
                Ok(())
            }
            Err(error) => Err((answer, error)),
        }
    }

    /// Init is readable while it does what a client asked for. Returns the client to go on serving, if one was answered.
    pub(super) fn hear_of_pending(&mut self, ready: Ready, pending: Pending) -> Option<Client> {
        match pending {
            Pending::Start(client) => self.hear_of_start(ready, client),
            Pending::Job { answer, timeout } => {
                let reply = self.hear_of_job();
                if reply == Reply::Done {
                    self.traits.timeout = timeout;
                }
                self.stage = Stage::Created { ready, pending: None, held: None };
                let _ = answer.send_now(&reply, &[]);
                None
            }
        }
    }

    fn hear_of_job(&self) -> Reply {
        match self.init.channel.receive_now::<JobReport>() {
            Ok(Delivery { message: JobReport::Taken, .. }) => Reply::Done,
            Ok(Delivery { message: JobReport::Failed(failure), .. }) => Reply::Failed(failure),
            Err(_) => failed(&has_ended(&self.id, "take")),
        }
    }

    fn hear_of_start(&mut self, ready: Ready, client: Client) -> Option<Client> {
        match self.init.channel.receive_now::<StartReport>() {
            Ok(Delivery { message: StartReport::Failed(failure), .. }) => {
                self.stage = Stage::Created { ready, pending: None, held: None };
                client.reply(&Reply::Failed(failure))
            }
            Ok(Delivery { message: StartReport::Listener, fds }) => {
                // The client hands the listener to the agent, and init waits for that over a connection of its own. If
                // the client is gone, that connection is closed here, and init ends.
                if let Some(listener) = Listener::of(fds) {
                    let _ = client.channel.send_now(&Reply::Listener, &listener.named());
                }
                self.stage = Stage::Created { ready, pending: Some(Pending::Start(client)), held: None };
                None
            }
            Err(_) => {
                let copied = match self.template.take() {
                    Some(template) => write(self.init.subject(&ready), template),
                    None => Ok(()),
                };
                if let Err(error) = copied {
                    self.stage = Stage::Created { ready, pending: None, held: None };
                    self.kill(Cause::Itself);
                    return client.reply(&failed(&error));
                }
                self.runs(ready, client)
            }
        }
    }

    /// The program runs.
    pub(super) fn runs(&mut self, ready: Ready, client: Client) -> Option<Client> {
        let started_at_ms = exit::now_ms();
        self.exit.started(started_at_ms);
        let deadline = self.traits.timeout.and_then(|limit| Instant::now().checked_add(limit));
        self.stage = Stage::Running { run: Run { ready, started_at_ms, deadline }, pausing: None };
        client.reply(&Reply::Done)
    }

    /// What init, which is gone, reported last of what it was asked for: the time if it executed the program, and the
    /// client to answer with the reply. Answers the client of a job itself.
    pub(super) fn last_report(&self, pending: Pending) -> (Option<u64>, Option<(Client, Reply)>) {
        let client = match pending {
            Pending::Start(client) => client,
            Pending::Job { answer, .. } => {
                let reply = match self.hear_of_job() {
                    Reply::Failed(failure) => Reply::Failed(failure),
                    _ => failed(&has_ended(&self.id, "take")),
                };
                let _ = answer.send_now(&reply, &[]);
                return (None, None);
            }
        };
        let (started_at_ms, reply) = match self.init.channel.receive_now::<StartReport>() {
            Ok(Delivery { message: StartReport::Failed(failure), .. }) => (None, Reply::Failed(failure)),
            Ok(Delivery { message: StartReport::Listener, .. }) => (None, Reply::Done),
            // It executed the program, which ended before the end of the connection was seen.
            Err(_) => {
                let now = exit::now_ms();
                self.exit.started(now);
                (Some(now), Reply::Done)
            }
        };
        (started_at_ms, Some((client, reply)))
    }
}

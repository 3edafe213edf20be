//! Templates of a container: writes its process down for a client.

use super::client::{Client, Key, failed};
use super::container::ContainerState;
use super::event_loop::Monitor;
use super::stage::{Ready, Stage};
use crate::error::{ErrorKind, Result};
use crate::helper;
use crate::process::Channel;
use crate::sandbox::init::Init;
use crate::sandbox::target::has_ended;
use crate::sandbox::template::{Captured, Subject, capture, refuse, refuse_listener};
use crate::state::Cause;
use crate::sys::tracing::detach as release;
use crate::wire::control::Reply;
use crate::wire::template::{DESCRIPTION, PAGES};
use rustix::fd::AsFd;

impl Monitor {
    /// Answers [`Operation::Template`](crate::wire::control::Operation::Template) on `connection`, and holds the process for
    /// as long as that is open.
    pub(super) fn write_down(&mut self, container: Key, connection: Channel, stopped: bool) {
        let state = self.container(container);
        match state.captured(stopped) {
            Ok(Some(Captured { description, pages, scratch, tmpfs })) => {
                let fds = [(DESCRIPTION, description.as_fd()), (PAGES, pages.as_fd())];
                let tmpfs = tmpfs.iter().map(|at| at.as_path().into()).collect();
                if connection.send_now(&Reply::Template { scratch, tmpfs }, &fds).is_err() {
                    // The client is gone.
                    return state.let_go();
                }
                self.add_client(Client::taking_template(connection, container));
            }
            Ok(None) => drop(connection.send_now(&Reply::NotStopped, &[])),
            Err(error) => {
                if *error.kind() == ErrorKind::TimedOut {
                    state.kill(Cause::Itself);
                }
                let _ = connection.send_now(&failed(&error), &[]);
            }
        }
    }
}

impl ContainerState {
    /// The client that has taken a template could not use it, or is gone: the process goes on.
    pub(super) fn let_go(&self) {
        // It fails for a process that has ended or is being killed.
        let _ = release(self.init.pid);
    }

    fn captured(&self, stopped: bool) -> Result<Option<Captured>> {
        if self.init_has_ended() {
            return Err(has_ended(&self.id, "into_template"));
        }
        let Stage::Running { run, pausing: None } = &self.stage else {
            return Err(self.not_in_phase("into_template"));
        };
        if self.exec_config.filter.as_ref().is_some_and(|filter| filter.notify) {
            return Err(refuse_listener());
        }
        if self.restored {
            let hint = "take the template of a container that executed its program itself";
            return Err(refuse("the container was restored from an image", hint));
        }
        if stopped && self.init.reaper.is_none() && run.ready.init_pid == 1 {
            let hint = "build it with init(true), or take it by Ready::Line";
            return Err(refuse("the kernel ignores a SIGSTOP that PID 1 sends itself", hint));
        }
        let (ready, ids) = (&run.ready, self.traits.ids);
        let others = || self.check_others(ready);
        let captured = capture(self.init.subject(ready), ids, stopped, &ready.layers, others);
        let is_over = || helper::has_ended(self.init.pidfd.as_fd());
        captured.map_err(|error| if is_over() { has_ended(&self.id, "into_template") } else { error })
    }

    /// Refuses more than one process.
    fn check_others(&self, ready: &Ready) -> Result<()> {
        let Some(other) = self.members(&[])?.find(|member| member.pid() != ready.init_pid) else {
            return Ok(());
        };
        let problem = format!("the container has another process, {}", other.pid());
        Err(refuse(problem, "wait for its end before the stop"))
    }
}

impl Init {
    /// Init as a template, or as a copy of one.
    pub(super) fn subject<'a>(&self, ready: &'a Ready) -> Subject<'a> {
        Subject { pid: self.pid, inside: ready.init_pid, proc: ready.proc.as_fd(), root: ready.root.as_fd() }
    }
}

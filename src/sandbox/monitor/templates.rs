//! Templates of a container: writes its process down for a client.

use super::client::failed;
use super::container::ContainerState;
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

impl ContainerState {
    /// Answers [`Operation::Template`](crate::wire::control::Operation::Template) on `connection`.
    pub(super) fn write_down(&mut self, connection: &Channel, stopped: bool) {
        match self.captured(stopped) {
            Ok(Some(Captured { description, pages })) => {
                let fds = [(DESCRIPTION, description.as_fd()), (PAGES, pages.as_fd())];
                if connection.send_now(&Reply::Template, &fds).is_err() {
                    // The client is gone, so the process goes on.
                    let _ = release(self.init.pid);
                }
            }
            Ok(None) => drop(connection.send_now(&Reply::NotStopped, &[])),
            Err(error) => {
                if *error.kind() == ErrorKind::TimedOut {
                    self.kill(Cause::Itself);
                }
                let _ = connection.send_now(&failed(&error), &[]);
            }
        }
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
        let captured =
            capture(self.init.subject(&run.ready), self.traits.ids, stopped, || self.check_files(&run.ready));
        let is_over = || helper::has_ended(self.init.pidfd.as_fd());
        captured.map_err(|error| if is_over() { has_ended(&self.id, "into_template") } else { error })
    }

    /// Refuses more than one process, and files that a copy would not find.
    fn check_files(&self, ready: &Ready) -> Result<()> {
        let others = self.members(&[])?.find(|member| member.pid() != ready.init_pid);
        if let Some(other) = others {
            let problem = format!("the container has another process, {}", other.pid());
            return Err(refuse(problem, "wait for its end before the stop"));
        }
        match ready.layers.changed() {
            Some(at) => {
                let problem = format!("there are changed files in the scratch of /{}", at.display());
                Err(refuse(problem, "make the changes in the clone, or in the rootfs"))
            }
            None => Ok(()),
        }
    }
}

impl Init {
    /// Init as a template, or as a copy of one.
    pub(super) fn subject<'a>(&self, ready: &'a Ready) -> Subject<'a> {
        Subject { pid: self.pid, inside: ready.init_pid, proc: ready.proc.as_fd(), root: ready.root.as_fd() }
    }
}

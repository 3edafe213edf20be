//! Images of a container: what the sandbox sees to while a client has CRIU write one.
//!
//! ```text
//!   client --Checkpoint + connection--> sandbox   may it be written down?
//!          <----------- Done ----------           from here on: no exec, no pause or resume, no change of mounts
//!          [CRIU; the files]
//!          ----- EndCheckpointed ----->           kills all, with the cause in the exit record
//!          <----------- Done ----------
//!          closes the connection: as before
//! ```
//!
//! The end of the client, too, closes the connection, so that nothing stays forbidden.

use super::client::{Client, ClientRole, Key, failed};
use super::event_loop::Monitor;
use super::stage::Stage;
use crate::error::{Error, ErrorKind, Result};
use crate::process::Channel;
use crate::state::Cause;
use crate::wire::control::{EndCheckpointed, Reply};

impl Monitor {
    /// Whether a client has an image of the container written, or takes a template.
    pub(super) fn is_being_written(&self, container: Key) -> bool {
        let writes = [ClientRole::Checkpoint(container), ClientRole::Template(container)];
        self.clients.iter().any(|(_, client)| writes.contains(&client.role))
    }

    /// Keeps the container as it is from now on, if it can be written down.
    pub(super) fn begin_image(&mut self, container: Key, connection: Channel) {
        let reply = self.check_for_image(container).map_or_else(|error| failed(&error), |()| Reply::Done);
        if connection.send_now(&reply, &[]).is_ok() && reply == Reply::Done {
            self.add_client(Client::making_image(connection, container));
        }
    }

    /// The client of an image says that it is whole, or is gone.
    pub(super) fn hear_of_image(&mut self, key: Key, client: Client, container: Key) {
        if client.channel.receive_now::<EndCheckpointed>().is_err() {
            // CRIU thaws a frozen container for the time of its dump, and may have been killed in it.
            return self.contained(container).freeze_again();
        }
        self.kill(container, Cause::Checkpointed);
        if let Some(client) = client.reply(&Reply::Done) {
            self.clients.push((key, client));
        }
    }

    /// Fails for what would not be in the image, or could not be restored.
    fn check_for_image(&self, container: Key) -> Result<()> {
        let refuse =
            |problem: String, hint: &'static str| Err(Error::unsupported("checkpoint", problem).hint(hint));
        let state = self.contained(container);
        let ready = match &state.stage {
            Stage::Running { run, pausing: None } | Stage::Paused { run, .. } if !state.init_has_ended() => {
                &run.ready
            }
            Stage::Running { pausing: Some(_), .. } if !state.init_has_ended() => {
                let problem = "the container is being paused";
                return Err(Error::new(ErrorKind::Os(libc::EBUSY), "checkpoint", problem));
            }
            _ => return Err(state.not_in_phase("checkpoint")),
        };
        if self.containers.len() > 1 || state.traits.pause {
            return refuse(
                "the containers of a pod share a sandbox".into(),
                "only a container by itself has an image",
            );
        }
        if state.shares_pids() {
            let problem =
                "it has no pid namespace of its own, so a restore could not give its processes their pids";
            return refuse(problem.into(), "make it with a new pid namespace");
        }
        match self.processes.count(container) {
            0 => {}
            count => {
                let problem = format!("{count} processes of exec are no part of what its program started");
                return refuse(problem, "wait for them, or end them");
            }
        }
        if !ready.hot_mounts.is_empty() || self.changes.are_under_way(container) {
            let problem =
                "it has mounts that came after its creation, which its configuration does not make again";
            return refuse(problem.into(), "unmount them first");
        }
        if matches!(state.stage, Stage::Paused { .. }) && state.freezer.is_none() {
            let problem =
                "without a cgroup it is paused by SIGSTOP, which its processes would have in the image";
            return refuse(problem.into(), "resume it first");
        }
        Ok(())
    }
}

//! The other containers of a pod: the sandbox makes them, forgets them, and ends them with the root container.

use super::client::root_has_ended;
use super::client::{Key, packed};
use super::container::ContainerState;
use super::event_loop::Monitor;
use crate::error::{Error, ErrorKind, Result};
use crate::helper::Received;
use crate::helper::spawn::read_plan;
use crate::plan::{CloneFlags, SandboxPlan, SealedSandbox};
use crate::process::Channel;
use crate::sandbox::init::Init;
use crate::state::Cause;
use crate::wire::boot::SandboxReport;
use crate::wire::control::Reply;

/// The most containers in one sandbox.
const MAX_CONTAINERS: usize = 512;

impl Monitor {
    /// Makes a container. Reports on `boot`, at once if that fails, else when init is ready or has failed.
    pub(super) fn launch(&mut self, boot: Channel, donated: Received) {
        let launched = self.fork_init(donated);
        match launched {
            Ok((plan, init, donated)) => {
                let shares_pids = !plan.namespaces.with_init.contains(CloneFlags::NEWPID);
                let undo = init.undo();
                // The creator learns of it by the end of `boot`.
                let Ok(container) = ContainerState::new(plan, init, boot, donated) else { return undo() };
                if shares_pids && let Some((_, root)) = self.containers.first_mut() {
                    root.lend_pids();
                }
                let key = self.next_key();
                self.containers.push((key, container));
                self.settle_oom_score();
            }
            Err(error) => {
                let _ = boot.send_now(&SandboxReport::Failed(packed(&error)), &[]);
            }
        }
    }

    fn fork_init(&mut self, mut donated: Received) -> Result<(SandboxPlan, Init, Received)> {
        let plan: SealedSandbox<'_> = read_plan(donated.take("plan")?)?;
        if self.containers.iter().any(|(_, known)| known.id == plan.id) {
            let problem = format!("{:?} is in this sandbox already", plan.id.as_str());
            return Err(Error::new(ErrorKind::AlreadyExists, "create", problem));
        }
        if self.containers.len() >= MAX_CONTAINERS {
            let problem = format!("the sandbox has {MAX_CONTAINERS} containers, which is the most");
            return Err(Error::new(ErrorKind::InvalidInput, "create", problem));
        }
        let root = self.containers.first().and_then(|(_, root)| root.target("create").ok());
        let root = root.ok_or_else(root_has_ended)?;
        let volumes = self.volumes.copies(&plan.volumes)?;
        let fork = || Init::fork_in_pod(&plan, root.namespaces.pids(), &volumes, &mut donated);
        // If root's init has ended and is not collected yet, no process can be born in its pid namespace.
        let not_forked = |error| if root.is_ending() { root_has_ended() } else { error };
        let init = self.score.lend(plan.init.oom_score_adj, fork).map_err(not_forked)?;
        Ok((plan.into_plan(), init, donated))
    }

    /// Forgets a container that has ended, and the ends of its executed processes.
    pub(super) fn forget(&mut self, key: Key) -> Result<Reply> {
        let container = self.container(key);
        if container.is_alive() {
            let problem = format!("{:?} has not ended", container.id.as_str());
            return Err(Error::new(ErrorKind::InvalidInput, "forget", problem));
        }
        self.containers.retain(|(known, _)| *known != key);
        self.processes.forget(key);
        self.settle_oom_score();
        Ok(Reply::Done)
    }

    /// The root container has ended, and the others end with it. Returns whether none is left.
    pub(super) fn end_pod(&mut self) -> bool {
        let mut left = false;
        for (_, container) in self.containers.iter_mut().filter(|(_, container)| container.is_alive()) {
            left = true;
            container.kill(Cause::PodEnded);
        }
        !left
    }
}

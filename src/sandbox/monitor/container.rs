//! One container of the sandbox: its init, its gofer, and the stage that it is in.

use super::client::Client;
use super::exit::{ExitRecorder, LeafKills};
use super::stage::{Lifeline, Pausing, ProcessView, Ready, Remains, Stage, Traits};
use crate::cgroup::{Freezer, OomWatch};
use crate::error::{Error, ErrorKind, Result};
use crate::helper::Received;
use crate::id::ContainerId;
use crate::plan::{CloneFlags, NamespacePlan, SandboxPlan};
use crate::process::Channel;
use crate::process::channel::wait_readable_until;
use crate::sandbox::init::Init;
use crate::sandbox::members::Held;
use crate::sandbox::oom_score::OomScore;
use crate::sandbox::reaper::{REAPER_PID, Reaper};
use crate::sandbox::restore::Restoration;
use crate::sandbox::target::{ExecConfig, ExecTarget, has_ended};
use crate::state::Cause;
use crate::sys::Usage;
use crate::wire::control::{InitPhase, SandboxEvent};
use crate::wire::init::EndedAttached;
use crate::wire::template::DESCRIPTION;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

/// A container, from the fork of its init until it is forgotten.
pub(in crate::sandbox) struct ContainerState {
    pub(super) id: ContainerId,
    pub(super) init: Init,
    pub(super) stage: Stage,
    pub(super) exec_config: ExecConfig,
    pub(super) traits: Traits,
    /// The description of the template whose copy the workload becomes.
    pub(super) template: Option<OwnedFd>,
    /// Whether another container of the pod has processes in its pid namespace.
    lends_pids: bool,
    /// Where all its processes can be stopped at once; `None` without such a cgroup.
    pub(super) freezer: Option<Freezer>,
    /// Reports OOM kills; `None` without a memory cgroup.
    pub(super) oom: Option<OomWatch>,
    pub(super) lifeline: Lifeline,
    /// The last thing that this process did to end init, and the signal that init got.
    pub(super) ended_by: Option<(Cause, i32)>,
    /// Whether a client has executed a process in it, looked into its files or changed its mounts.
    pub(super) visited: bool,
    /// Events that were not reported yet.
    pub(super) events: Vec<SandboxEvent>,
    /// How init ended, from then on until the reaper has ended too.
    pub(super) ending: Option<Option<Usage>>,
    /// Whether CRIU makes its processes.
    pub(super) restored: bool,
    pub(super) exit: ExitRecorder,
}

impl ContainerState {
    pub(in crate::sandbox) fn new(
        plan: SandboxPlan,
        init: Init,
        boot: Channel,
        mut donated: Received,
    ) -> Result<Self> {
        let of_reaper = plan.namespaces.of_reaper();
        let plan_restores = plan.init.restore.is_some();
        let NamespacePlan { with_init, followed, .. } = plan.namespaces;
        let state = Self {
            init,
            stage: Stage::Preparing {
                boot,
                restoration: Restoration::take(&plan.init, &mut donated).map(Box::new),
                overlays: plan.init.layers,
            },
            exec_config: ExecConfig {
                filter: plan.init.seccomp,
                namespaces: (with_init - CloneFlags::NEWPID - followed).bits(),
                oom_score_adj: plan.init.oom_score_adj,
                keep_groups: plan.keep_groups,
            },
            traits: Traits {
                followed,
                of_reaper,
                own_pids: with_init.contains(CloneFlags::NEWPID),
                terminal: plan.init.process.terminal.is_some(),
                pause: plan.pause,
                ids: [plan.init.process.user.uid, plan.init.process.user.gid],
                timeout: plan.timeout,
            },
            template: donated.take_optional(DESCRIPTION),
            lends_pids: false,
            freezer: Freezer::take(|name| donated.take_optional(name)),
            oom: OomWatch::take(|name| donated.take_optional(name)),
            lifeline: donated.take_optional("lifeline").map_or(Lifeline::Released, Lifeline::Watched),
            ended_by: None,
            visited: false,
            events: Vec::new(),
            ending: None,
            restored: plan_restores,
            exit: ExitRecorder::take(&plan.id, &mut donated)?,
            id: plan.id,
        };
        donated.finish()?;
        Ok(state)
    }

    /// The stage as clients see it.
    pub(super) fn phase(&self) -> InitPhase {
        match self.stage {
            Stage::Preparing { .. } | Stage::Furnishing { .. } | Stage::Restoring { .. } | Stage::Failed => {
                InitPhase::Preparing
            }
            Stage::Created { .. } => InitPhase::Created,
            Stage::Running { .. } => InitPhase::Running,
            Stage::Paused { .. } => InitPhase::Paused,
            Stage::Ended(_) => InitPhase::Ended,
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.stage, Stage::Ended(_))
    }

    pub(super) fn ready(&self) -> Option<&Ready> {
        match &self.stage {
            Stage::Created { ready, .. } => Some(ready),
            Stage::Running { run, .. } | Stage::Paused { run, .. } => Some(&run.ready),
            Stage::Preparing { .. }
            | Stage::Furnishing { .. }
            | Stage::Restoring { .. }
            | Stage::Failed
            | Stage::Ended(_) => None,
        }
    }

    pub(super) fn ready_mut(&mut self) -> Option<&mut Ready> {
        match &mut self.stage {
            Stage::Created { ready, .. } => Some(ready),
            Stage::Running { run, .. } | Stage::Paused { run, .. } => Some(&mut run.ready),
            Stage::Preparing { .. }
            | Stage::Furnishing { .. }
            | Stage::Restoring { .. }
            | Stage::Failed
            | Stage::Ended(_) => None,
        }
    }

    /// Where its processes are seen; `None` before init is ready.
    pub(super) fn view(&self) -> Option<ProcessView<'_>> {
        if let Stage::Ended(remains) = &self.stage {
            let Remains { proc, init_pid, namespaces } = remains.as_ref()?;
            return Some(ProcessView {
                proc: proc.as_fd(),
                init_pid: *init_pid,
                namespaces: namespaces.as_ref(),
            });
        }
        let Ready { proc, init_pid, namespaces, .. } = self.ready()?;
        Some(ProcessView { proc: proc.as_fd(), init_pid: *init_pid, namespaces: Some(namespaces) })
    }

    /// The container for work in it.
    pub(super) fn target(&self, step: &'static str) -> Result<ExecTarget<'_>> {
        if self.ending.is_some() {
            return Err(has_ended(&self.id, step));
        }
        let Ready { proc, root, null, namespaces, init_pid, hot_mounts, .. } =
            self.ready().ok_or_else(|| self.not_in_phase(step))?;
        Ok(ExecTarget {
            id: &self.id,
            init: self.init.pidfd.as_fd(),
            init_pid: *init_pid,
            proc: proc.as_fd(),
            root: root.as_fd(),
            null: null.as_fd(),
            namespaces,
            cgroups: &self.init.cgroups,
            exec_config: &self.exec_config,
            hot_mounts,
            reaper: self.reaper_pid().is_some(),
            killed: self.ended_by.is_some_and(|(_, signal)| signal == libc::SIGKILL),
        })
    }

    /// The container for another process.
    pub(super) fn exec_target(&self) -> Result<ExecTarget<'_>> {
        match &self.stage {
            Stage::Created { .. } | Stage::Running { pausing: None, .. } => self.target("exec"),
            // A process born in a frozen cgroup v2 does not run. The sandbox would wait for its fork, and never thaw it.
            Stage::Running { pausing: Some(_), .. } => {
                Err(Error::new(ErrorKind::InvalidInput, "exec", "the container is being paused"))
            }
            _ => Err(self.not_in_phase("exec")),
        }
    }

    /// Whether no process can be born in its pid namespace: before init is ready, and when it is on its way out.
    pub(super) fn is_ending(&self) -> bool {
        self.target("create").map_or(true, |target| target.is_ending())
    }

    /// Whether init has ended. Until the reaper has ended too, the container counts as alive.
    pub(super) fn init_has_ended(&self) -> bool {
        self.ending.is_some() || !self.is_alive()
    }

    /// PID 1, if it is none of the container's own processes.
    pub(super) fn reaper_pid(&self) -> Option<i32> {
        self.init.reaper.as_ref().filter(|reaper| reaper.is_inside()).map(|_| REAPER_PID)
    }

    /// Another container has processes in its pid namespace from now on.
    pub(super) fn lend_pids(&mut self) {
        self.lends_pids = true;
    }

    /// Whether others see the same pid namespace: another container's init, or the host.
    pub(super) fn shares_pids(&self) -> bool {
        !self.traits.own_pids || self.lends_pids
    }

    /// The OOM score that the sandbox has for its sake.
    pub(super) fn oom_score(&self) -> Option<i32> {
        self.exec_config.oom_score_adj.filter(|_| self.is_alive() && !self.traits.pause)
    }

    /// `step` is impossible: the container has ended, or it is too early or too late in its life for that.
    pub(super) fn not_in_phase(&self, step: &'static str) -> Error {
        if !self.is_alive() {
            return has_ended(&self.id, step);
        }
        let problem = format!("the container is {:?}", self.phase()).to_lowercase();
        Error::new(ErrorKind::InvalidInput, step, problem)
    }

    /// Where init may still send something, until it has executed the program; or CRIU in its place.
    pub(super) fn init_speaks(&self) -> Option<BorrowedFd<'_>> {
        match &self.stage {
            Stage::Restoring { boot: Some(_), restorer, .. }
            | Stage::Created { held: Some(restorer), .. } => Some(restorer.connection.as_fd()),
            Stage::Furnishing { boot: Some(_), anteroom, restorer, .. } if !anteroom.assembling => {
                Some(restorer.connection.as_fd())
            }
            Stage::Preparing { .. }
            | Stage::Furnishing { boot: Some(_), .. }
            | Stage::Created { pending: Some(_), .. } => Some(self.init.channel.as_fd()),
            _ => None,
        }
    }

    /// Whether the gofer's end means the container's. Not before create is done: until then init receives from the gofer,
    /// and notices its end.
    pub(super) fn watches_gofer(&self) -> bool {
        self.ready().is_some_and(|ready| !ready.gofer_gone)
    }

    /// Init is readable: it is ready, it failed, or `execve` closed the connection. Returns the client to go on serving, if
    /// one was answered. `pod_ends` is whether the root container, if it is another one, has ended or is about to.
    pub(super) fn hear_init(&mut self, pod_ends: bool, score: &OomScore) -> Option<Client> {
        match std::mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Preparing { boot, overlays, restoration: None } => {
                self.hear_of_creation(&boot, overlays, pod_ends);
                None
            }
            Stage::Preparing { boot, overlays, restoration: Some(restoration) } => {
                self.hear_of_room(boot, overlays, *restoration, score);
                None
            }
            Stage::Furnishing { boot: Some(boot), overlays, anteroom, restorer } => {
                self.hear_of_furnishing(boot, overlays, anteroom, restorer);
                None
            }
            Stage::Restoring { boot: Some(boot), ready, restorer } => {
                self.hear_of_restore(boot, ready, restorer);
                None
            }
            Stage::Created { ready, pending, held: Some(restorer) } => {
                self.hear_of_release(ready, pending, restorer)
            }
            Stage::Created { ready, pending: Some(pending), held: None } => {
                self.hear_of_pending(ready, pending)
            }
            other => {
                self.stage = other;
                None
            }
        }
    }

    pub(super) fn kill(&mut self, cause: Cause) {
        // If init has ended, the cause of its end stays, and the others are being killed already.
        if self.ending.is_none() {
            self.ended_by = Some((cause, libc::SIGKILL));
            // The end of CRIU would let the processes go that it restores: they end first.
            match &self.stage {
                Stage::Furnishing { restorer, .. } | Stage::Restoring { restorer, .. } => {
                    restorer.kill_first()
                }
                _ => {
                    let kill = rustix::process::Signal::KILL;
                    let _ = rustix::process::pidfd_send_signal(&self.init.pidfd, kill);
                }
            }
        }
        self.let_run();
        // Kill the reaper after init, so that this signal is what ended init. Do not wait for init's end in between: init
        // may be in an uninterruptible system call.
        self.init.reaper.iter().for_each(Reaper::kill);
    }

    /// The lifeline was cut.
    pub(super) fn lose_caller(&mut self) {
        if self.is_alive() {
            self.lifeline = Lifeline::Cut;
            self.kill(Cause::LifelineCut);
        } else if let Lifeline::Watched(_) = self.lifeline {
            self.leave_nothing();
        }
    }

    /// Whether the creator is gone, noticed or not: the container may have been killed for another reason just before.
    fn has_lost_caller(&self) -> bool {
        match &self.lifeline {
            Lifeline::Watched(lifeline) => {
                wait_readable_until(lifeline.as_fd(), Some(Instant::now())).unwrap_or(false)
            }
            Lifeline::Released => false,
            Lifeline::Cut => true,
        }
    }

    /// When its time is up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            _ if self.ending.is_some() => None,
            Stage::Running { run, .. } | Stage::Paused { run, .. } => run.deadline,
            Stage::Furnishing { restorer, .. }
            | Stage::Restoring { restorer, .. }
            | Stage::Created { held: Some(restorer), .. } => restorer.next_look(),
            _ => None,
        }
    }

    pub(super) fn time_out(&mut self) {
        match &mut self.stage {
            Stage::Running { run, .. } | Stage::Paused { run, .. } => run.deadline = None,
            _ => return self.look_at_restore(),
        }
        let limit = self.traits.timeout.unwrap_or_default();
        self.kill(Cause::TimedOut { after_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX) });
    }

    /// After the end of init: collects it, and ends everything else in its pid namespace, as the kernel does when a PID 1
    /// ends. Returns false if the reaper is yet to end. `cause` is set if the container ends with its pod.
    pub(super) fn init_ended(&mut self, cause: Option<Cause>, held: &mut Held) -> bool {
        // If the reaper ended first, the kernel has killed init.
        let lost =
            || self.reaper_pid().is_some() && self.view().is_some_and(|view| Reaper::is_ending(view.proc));
        match cause {
            Some(cause) => self.ended_by = Some((cause, libc::SIGKILL)),
            None if self.ended_by.is_none_or(|(_, signal)| signal != libc::SIGKILL) && lost() => {
                self.ended_by = Some((Cause::ReaperLost, libc::SIGKILL));
            }
            None => {}
        }
        // On cgroup v1, a frozen process does not end.
        if self.is_stopping() {
            self.let_run();
        }
        // Kill before init is collected: after that, a process still inside could get init's pid.
        self.init.reaper.iter().for_each(Reaper::kill);
        self.ending = Some(match self.restored {
            true => self.collect_restored(held),
            false => held.collect(self.init.pid, self.view().map(|view| (view.proc, view.init_pid))),
        });
        self.init.reaper.is_none()
    }

    /// After the end of init and the reaper: writes the exit record, before any client learns of the end. Returns how init
    /// ended, and the client whose request the end answers.
    pub(super) fn end(&mut self, leaf_kills: LeafKills) -> (Option<Usage>, Option<Client>) {
        self.init.reaper.iter().for_each(Reaper::collect);
        let usage: Option<Usage> = self.ending.flatten();
        // Leave the cgroup of the container's own processes, because others may now kill what is in it and remove it.
        let _ = self.init.cgroups.hide_sandbox();
        let (ready, started_at_ms, answer) = match std::mem::replace(&mut self.stage, Stage::Ended(None)) {
            Stage::Preparing { .. }
            | Stage::Furnishing { .. }
            | Stage::Restoring { .. }
            | Stage::Failed
            | Stage::Ended(_) => (None, None, None),
            Stage::Created { ready, pending: None, .. } => (Some(ready), None, None),
            Stage::Created { ready, pending: Some(pending), .. } => {
                let (started_at_ms, answer) = self.last_report(pending);
                (Some(ready), started_at_ms, answer)
            }
            Stage::Running { run, pausing } => {
                let answer = pausing.map(Pausing::given_up);
                (Some(run.ready), Some(run.started_at_ms), answer)
            }
            Stage::Paused { run, .. } => (Some(run.ready), Some(run.started_at_ms), None),
        };
        let remains = |Ready { proc, init_pid, namespaces, .. }| Remains {
            proc,
            init_pid,
            namespaces: Some(namespaces),
        };
        self.stage = Stage::Ended(ready.map(remains));
        let recorded = self.exit.ended(usage, started_at_ms, self.ended_by, leaf_kills);
        // The kernel counts before it notifies: without this look, an OOM kill that ends init would be reported too late.
        self.look_for_oom();
        self.events.push(SandboxEvent::Ended);
        if !recorded {
            // Without a record, the cgroups are the only evidence of how it ended.
            self.lifeline = Lifeline::Released;
        } else if self.has_lost_caller() {
            self.leave_nothing();
        }
        let survivors =
            self.shares_pids() && self.members(&[]).map_or(true, |mut left| left.next().is_some());
        if let Stage::Ended(Some(remains)) = &mut self.stage
            && !survivors
        {
            remains.namespaces = None;
        }
        (usage, answer.and_then(|(client, reply)| client.reply(&reply)))
    }

    /// How many of its processes the OOM killer has killed; `None` without a memory cgroup.
    pub(super) fn oom_kills(&self) -> Option<u64> {
        self.exit.oom_kills()
    }

    /// Whether the kernel has killed for memory since the last look: then it is an event.
    pub(super) fn look_for_oom(&mut self) {
        if self.oom.as_mut().is_some_and(OomWatch::happened) {
            self.events.push(SandboxEvent::OutOfMemory);
        }
    }

    /// Does what the creator, who is gone, would do: ends processes that outlive init in a pid namespace that is not their
    /// own, and has the gofer remove the cgroups.
    fn leave_nothing(&mut self) {
        if let Some(freezer) = &self.freezer {
            let _ = freezer.kill();
        }
        self.leave_cgroups();
        self.lifeline = Lifeline::Released;
    }

    /// The sandbox is about to end. If the container is attached still, the gofer waits for the end of its creator.
    pub(super) fn leave_to_gofer(&self) {
        if let Lifeline::Watched(_) = self.lifeline {
            self.leave_cgroups();
        }
    }

    fn leave_cgroups(&self) {
        // If the gofer is gone, the cgroups stay until the record is deleted.
        let _ = self.init.gofer.send_now(&EndedAttached {}, &[]);
    }
}

//! Pausing and resuming a container: by its freezer, or, where it has none, by stopping its processes one by one.
//!
//! ```text
//!   running --freeze--> (look again, soon, whether all have stopped) --> paused --thaw--> running
//!                              deadline: thaw, and an error
//! ```
//!
//! The freezer stops all processes at once, and nothing inside can notice. SIGSTOP is the weaker way: a parent inside sees
//! that its child stopped, and system calls that slept may return early. Either way nothing inside runs until it is
//! resumed: the processes that could send SIGCONT are stopped too.

use super::client::{Client, failed};
use super::container::ContainerState;
use super::stage::{Pausing, Stage};
use crate::error::{Error, ErrorKind, Result};
use crate::sandbox::target::has_ended;
use crate::wire::control::{Reply, SandboxEvent};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long pausing may take. Only a process that the kernel cannot interrupt comes near.
const PAUSE_LIMIT: Duration = Duration::from_secs(10);
/// The first time between looks, doubled with each: the processes need about a fifth of a millisecond.
const FIRST_LOOK: Duration = crate::cgroup::RECHECK;
const LAST_LOOK: Duration = Duration::from_millis(10);
/// How long the sandbox waits, and answers no client, until the processes stand still.
const HOLD_LIMIT: Duration = Duration::from_millis(200);

/// After how many looks the sandbox starts freezing anew.
const LOOKS_OF_ONE_TRY: u32 = 8;

impl ContainerState {
    /// Begins to pause. The client is answered when all processes have stopped, or cannot be stopped.
    pub(super) fn pause(&mut self, client: Client, helpers: Vec<i32>) -> Option<Client> {
        let stopped_before = match self.begin_to_pause(&helpers) {
            Ok(stopped) => stopped,
            Err(error) => return client.reply(&failed(&error)),
        };
        let now = Instant::now();
        if let Stage::Running { pausing, .. } = &mut self.stage {
            *pausing = Some(Pausing {
                client,
                deadline: now + PAUSE_LIMIT,
                next_look: now + FIRST_LOOK,
                interval: FIRST_LOOK,
                looks: 0,
                helpers,
                stopped_before,
            });
        }
        self.look_whether_paused(now)
    }

    /// The pause that is not complete, if there is one.
    pub(super) fn pausing(&self) -> Option<&Pausing> {
        match &self.stage {
            Stage::Running { pausing, .. } if !self.init_has_ended() => pausing.as_ref(),
            _ => None,
        }
    }

    /// Whether its processes are stopped, or are being stopped.
    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.stage, Stage::Paused { .. } | Stage::Running { pausing: Some(_), .. })
    }

    /// Calls `act` while the container's processes stand still, so that none of them starts another meanwhile. Where they
    /// cannot be frozen in [`HOLD_LIMIT`], `act` is called all the same. One that is paused, or is being paused, stays so.
    pub(super) fn hold_still(&self, act: impl FnOnce()) {
        let Some(freezer) = self.freezer.as_ref().filter(|_| !self.is_stopping()) else { return act() };
        let _ = freezer.freeze_within(HOLD_LIMIT);
        act();
        let _ = freezer.thaw();
    }

    /// Freezes a paused container again, where another process may have let it run.
    pub(super) fn freeze_again(&self) {
        let killed = self.ended_by.is_some_and(|(_, signal)| signal == libc::SIGKILL);
        if let (Stage::Paused { .. }, Some(freezer), false) = (&self.stage, &self.freezer, killed) {
            let _ = freezer.freeze_within(HOLD_LIMIT);
        }
    }

    /// Returns the processes that are stopped already, where that matters.
    fn begin_to_pause(&self, helpers: &[i32]) -> Result<BTreeSet<i32>> {
        let refuse = |phase: &str| {
            let problem = format!("the container is {phase}, not running");
            Err(Error::new(ErrorKind::InvalidInput, "pause", problem))
        };
        match &self.stage {
            Stage::Running { .. } if self.init_has_ended() => return Err(has_ended(&self.id, "pause")),
            Stage::Running { pausing: None, .. } => {}
            Stage::Running { pausing: Some(_), .. } => return refuse("paused"),
            Stage::Ended(_) => return Err(has_ended(&self.id, "pause")),
            _ => return refuse(&format!("{:?}", self.phase()).to_lowercase()),
        }
        if let Some(freezer) = &self.freezer {
            return freezer.freeze().map(|()| BTreeSet::new());
        }
        let stopped = self.members(helpers)?.filter(|member| member.is_stopped()).map(|member| member.pid());
        Ok(stopped.collect())
    }

    /// Looks whether all processes have stopped, if it is time to. Returns the client that is answered.
    pub(super) fn look_whether_paused(&mut self, now: Instant) -> Option<Client> {
        let stopped = self.has_stopped(self.pausing()?);
        let Stage::Running { run, pausing: Some(mut pausing) } =
            std::mem::replace(&mut self.stage, Stage::Failed)
        else {
            unreachable!("only a running container is being paused");
        };
        let failure = match stopped {
            Ok(true) => {
                self.stage = Stage::Paused { run, stopped_before: pausing.stopped_before };
                self.events.push(SandboxEvent::Paused);
                return pausing.client.reply(&Reply::Done);
            }
            Ok(false) if now < pausing.deadline => {
                if pausing.next_look <= now {
                    pausing.looks += 1;
                    pausing.next_look = now + pausing.interval;
                    pausing.interval = (pausing.interval * 2).min(LAST_LOOK);
                }
                self.stage = Stage::Running { run, pausing: Some(pausing) };
                return None;
            }
            Ok(false) => Error::new(ErrorKind::TimedOut, "pause", "not all of its processes can be stopped")
                .hint("is one in state D?"),
            Err(error) => error,
        };
        self.stage = Stage::Running { run, pausing: None };
        let _ = self.set_free(&pausing.stopped_before);
        pausing.client.reply(&failed(&failure))
    }

    fn has_stopped(&self, pausing: &Pausing) -> Result<bool> {
        if let Some(freezer) = &self.freezer {
            let frozen = freezer.frozen()?;
            if !frozen && pausing.next_look <= Instant::now() {
                // cgroup v1 misses a process that was born at the wrong moment, and never looks for it again. Freezing once
                // more finds it; sometimes only thawing before that does.
                if pausing.looks % LOOKS_OF_ONE_TRY == LOOKS_OF_ONE_TRY - 1 {
                    freezer.thaw()?;
                }
                freezer.freeze()?;
            }
            return Ok(frozen);
        }
        let mut all = true;
        for member in
            self.members(&pausing.helpers)?.filter(|member| member.is_running() && !member.is_stopped())
        {
            member.signal(libc::SIGSTOP)?;
            // A process that sleeps in the kernel where no signal wakes it, as a parent does until its vfork(2) child has
            // executed, stops when it comes back, before it runs another instruction of its own.
            all &= member.is_uninterruptible();
        }
        Ok(all)
    }

    pub(super) fn resume(&mut self) -> Result<Reply> {
        if !self.is_alive() {
            return Err(has_ended(&self.id, "resume"));
        }
        let Stage::Paused { stopped_before, .. } = &self.stage else {
            let problem = format!("the container is {:?}, not paused", self.phase()).to_lowercase();
            return Err(Error::new(ErrorKind::InvalidInput, "resume", problem));
        };
        self.set_free(stopped_before)?;
        if let Stage::Paused { run, .. } = std::mem::replace(&mut self.stage, Stage::Failed) {
            self.stage = Stage::Running { run, pausing: None };
        }
        self.events.push(SandboxEvent::Resumed);
        Ok(Reply::Done)
    }

    /// Undoes a pause, complete or not, before the container is killed: on cgroup v1, a frozen process does not act on
    /// SIGKILL.
    pub(super) fn let_run(&self) {
        let none = BTreeSet::new();
        let stopped_before = match &self.stage {
            Stage::Paused { stopped_before, .. } => stopped_before,
            Stage::Running { pausing: Some(pausing), .. } => &pausing.stopped_before,
            _ if self.freezer.is_some() => &none,
            _ => return,
        };
        let _ = self.set_free(stopped_before);
    }

    fn set_free(&self, stopped_before: &BTreeSet<i32>) -> Result<()> {
        if let Some(freezer) = &self.freezer {
            return freezer.thaw();
        }
        for member in self.members(&[])?.filter(|member| !stopped_before.contains(&member.pid())) {
            member.signal(libc::SIGCONT)?;
        }
        Ok(())
    }
}

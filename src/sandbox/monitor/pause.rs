//! Pausing and resuming a container: by its freezer, or where it has none by stopping its processes one by one.
//!
//! ```text
//!   running --freeze--> (asked again, soon, whether all have stopped) --> paused --thaw--> running
//!                              deadline: thaw, and an error
//! ```
//!
//! The freezer stops all at once and nothing inside can tell. SIGSTOP is the weaker way: a parent inside sees that its
//! child stopped, and calls that were asleep may return early. Either way nothing inside runs until it is resumed: who
//! could send SIGCONT is stopped too.

use super::client::Client;
use super::container::ContainerState;
use super::serve::failed;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::control::{InitPhase, Reply, SandboxEvent};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long pausing may take. Only a process that the kernel cannot interrupt comes near.
const PAUSE_LIMIT: Duration = Duration::from_secs(10);
/// The first time between looks, doubled with each: the processes need about a fifth of a millisecond.
const FIRST_LOOK: Duration = crate::cgroup::RECHECK;
const LAST_LOOK: Duration = Duration::from_millis(10);

/// After how many looks freezing is begun anew.
const LOOKS_OF_ONE_TRY: u32 = 8;

/// A pause that is not complete.
pub(super) struct Pausing {
    client: Client,
    deadline: Instant,
    pub(super) next_look: Instant,
    interval: Duration,
    looks: u32,
    /// Processes of ours that the container may see, and that are none of its.
    helpers: Vec<i32>,
}

impl ContainerState {
    /// Begins to pause. The client is answered when all processes have stopped, or cannot be stopped.
    pub(super) fn pause(&mut self, client: Client, helpers: Vec<i32>) -> Option<Client> {
        if let Err(error) = self.begin_to_pause(&helpers) {
            return client.reply(&failed(&error));
        }
        let now = Instant::now();
        self.pausing = Some(Pausing {
            client,
            deadline: now + PAUSE_LIMIT,
            next_look: now + FIRST_LOOK,
            interval: FIRST_LOOK,
            looks: 0,
            helpers,
        });
        self.look_whether_paused(now)
    }

    /// Whether a pause was begun and is not complete.
    pub(in crate::sandbox) fn is_pausing(&self) -> bool {
        self.pausing.is_some()
    }

    fn begin_to_pause(&mut self, helpers: &[i32]) -> Result<()> {
        if self.phase != InitPhase::Running || self.pausing.is_some() {
            let phase = if self.pausing.is_some() { InitPhase::Paused } else { self.phase };
            let problem = format!("the container is {phase:?}, not running").to_lowercase();
            return Err(Error::new(ErrorKind::InvalidInput, "pause", problem));
        }
        if let Some(freezer) = &self.freezer {
            return freezer.freeze();
        }
        // Who is stopped already stays so when the others go on.
        let stopped = self.members(helpers)?.filter(|member| member.is_stopped()).map(|member| member.pid());
        self.stopped_before = stopped.collect();
        Ok(())
    }

    /// Looks whether all have stopped, if it is time to. Returns the client that is answered.
    pub(super) fn look_whether_paused(&mut self, now: Instant) -> Option<Client> {
        let mut pausing = self.pausing.take()?;
        let stopped = self.has_stopped(&pausing);
        match stopped {
            Ok(true) => {
                self.phase = InitPhase::Paused;
                self.news.push(SandboxEvent::Paused);
                pausing.client.reply(&Reply::Done)
            }
            Ok(false) if now < pausing.deadline => {
                if pausing.next_look <= now {
                    pausing.looks += 1;
                    pausing.next_look = now + pausing.interval;
                    pausing.interval = (pausing.interval * 2).min(LAST_LOOK);
                }
                self.pausing = Some(pausing);
                None
            }
            Ok(false) => {
                self.let_run();
                let error =
                    Error::new(ErrorKind::TimedOut, "pause", "not all of its processes can be stopped");
                pausing.client.reply(&failed(&error.hint("is one in state D?")))
            }
            Err(error) => {
                self.let_run();
                pausing.client.reply(&failed(&error))
            }
        }
    }

    /// It has ended meanwhile.
    pub(super) fn give_up_pausing(&mut self) -> Option<Client> {
        let error = Error::new(ErrorKind::Ended, "pause", "the container has ended");
        self.pausing.take()?.client.reply(&failed(&error))
    }

    fn has_stopped(&self, pausing: &Pausing) -> Result<bool> {
        if let Some(freezer) = &self.freezer {
            let frozen = freezer.frozen()?;
            if !frozen && pausing.next_look <= Instant::now() {
                // cgroup v1 misses a process that was born in the wrong moment, and does not look for it again: it has to
                // be told anew, and now and then to begin anew.
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
            // One that sleeps in the kernel where no signal wakes it, as a parent does until its vfork(2) child has
            // executed, stops when it comes back, before it runs another instruction of its own.
            all &= member.is_uninterruptible();
        }
        Ok(all)
    }

    pub(super) fn resume(&mut self) -> Result<Reply> {
        if self.phase != InitPhase::Paused {
            let problem = format!("the container is {:?}, not paused", self.phase).to_lowercase();
            return Err(Error::new(ErrorKind::InvalidInput, "resume", problem));
        }
        self.set_free()?;
        self.phase = InitPhase::Running;
        self.news.push(SandboxEvent::Resumed);
        Ok(Reply::Done)
    }

    /// Undoes a pause, complete or not, of what is going to be killed or cannot be paused: what is frozen on cgroup v1
    /// does not act on SIGKILL.
    pub(super) fn let_run(&mut self) {
        if self.phase == InitPhase::Paused || self.pausing.is_some() || self.freezer.is_some() {
            let _ = self.set_free();
        }
    }

    fn set_free(&mut self) -> Result<()> {
        if let Some(freezer) = &self.freezer {
            return freezer.thaw();
        }
        let stopped_before: BTreeSet<i32> = std::mem::take(&mut self.stopped_before);
        for member in self.members(&[])?.filter(|member| !stopped_before.contains(&member.pid())) {
            member.signal(libc::SIGCONT)?;
        }
        Ok(())
    }
}

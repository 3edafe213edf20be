//! A container whose processes are restored: CRIU in place of init until they run.
//!
//! ```text
//!   Preparing --init has made room--> Restoring --complete, and compared--> Created, held --start--> Running
//! ```
//!
//! The container's first process, whose end is its end, is init until it has made room, then CRIU, then the restored one.

use super::client::{Client, failed, packed};
use super::container::ContainerState;
use super::stage::{Pending, Ready, Stage};
use crate::error::{Actor, Error, ErrorKind, RemoteFailure, Result};
use crate::helper::Received;
use crate::process::{Channel, Delivery};
use crate::sandbox::members::Held;
use crate::sandbox::namespaces;
use crate::sandbox::oom_score::OomScore;
use crate::sandbox::restore::{Place, Progress, Restoration, Restorer, find_restored};
use crate::state::Cause;
use crate::sys::{self, Usage};
use crate::wire::boot::SandboxReport;
use crate::wire::init::InitReport;
use rustix::fd::AsFd;
use rustix::process::Signal;
use std::path::PathBuf;

impl ContainerState {
    /// Init has assembled the root and leaves, or has failed.
    pub(super) fn hear_of_room(
        &mut self,
        boot: Channel,
        overlays: Vec<PathBuf>,
        restoration: Restoration,
        score: &OomScore,
    ) {
        let failure = match self.init.channel.receive_now::<InitReport>() {
            Ok(Delivery { message: InitReport::Ready { .. }, fds }) => {
                match self.fork_criu(overlays, restoration, fds, score) {
                    Ok((ready, restorer)) => {
                        self.stage = Stage::Restoring { boot: Some(boot), ready, restorer };
                        return;
                    }
                    Err(error) => packed(&error),
                }
            }
            Ok(Delivery { message: InitReport::Failed(failure), .. }) => failure,
            Err(_) => {
                let died = Error::new(ErrorKind::HelperDied, "init", "ended before it was ready");
                RemoteFailure::pack(Actor::Init, &died)
            }
        };
        self.fail_to_create(&boot, failure);
    }

    fn fork_criu(
        &mut self,
        overlays: Vec<PathBuf>,
        restoration: Restoration,
        mut handles: Received,
        score: &OomScore,
    ) -> Result<(Ready, Restorer)> {
        let cgroup = handles.duplicate(namespaces::CGROUP_NAMESPACE)?;
        let cgroup = cgroup.filter(|_| self.exec_config.namespaces & CLONE_NEWCGROUP != 0);
        let (ready, _) = self.take_handles(restoration.init_pid(), overlays, &mut handles)?;
        // It has sent everything. Its pid is free when it is collected.
        let _ = rustix::process::pidfd_send_signal(&self.init.pidfd, Signal::KILL);
        let _ = sys::wait_pidfd(self.init.pidfd.as_fd());
        if let Some(reaper) = &mut self.init.reaper {
            reaper.await_program()?;
        }
        let place = Place {
            namespaces: &ready.namespaces,
            cgroup_namespace: cgroup.as_ref().map(AsFd::as_fd),
            cgroups: &self.init.cgroups,
            null: ready.null.as_fd(),
            score,
            oom_score_adj: self.exec_config.oom_score_adj,
        };
        let restorer = Restorer::fork(restoration, &mut handles, &place)?;
        handles.finish()?;
        self.init.pidfd = restorer.pidfd()?;
        Ok((ready, restorer))
    }

    /// CRIU says something before every process is complete.
    pub(super) fn hear_of_restore(&mut self, boot: Channel, ready: Ready, mut restorer: Restorer) {
        let heard = restorer.hear(ready.proc.as_fd());
        let held = heard.and_then(|progress| match progress {
            Progress::Continues => Ok(false),
            Progress::Complete => {
                self.init.pidfd = find_restored(&ready.namespaces, ready.init_pid)?;
                Ok(true)
            }
            Progress::Released => {
                Err(Error::new(ErrorKind::PeerMisbehaved, "criu restore", "it did not wait"))
            }
        });
        match held {
            Ok(false) => self.stage = Stage::Restoring { boot: Some(boot), ready, restorer },
            Ok(true) => {
                restorer.hold();
                self.stage = Stage::Created { ready, pending: None, held: Some(restorer) };
                self.init.cgroups.show_sandbox();
                let _ = boot.send_now(&SandboxReport::Ready, &[("init", self.init.pidfd.as_fd())]);
            }
            Err(error) => {
                self.stage = Stage::Restoring { boot: Some(boot), ready, restorer };
                self.give_up(&error);
            }
        }
    }

    /// CRIU says something when every process is complete: that it has let them go, if a client asked for that.
    pub(super) fn hear_of_release(
        &mut self,
        ready: Ready,
        pending: Option<Pending>,
        restorer: Restorer,
    ) -> Option<Client> {
        match (restorer.hear(ready.proc.as_fd()), pending) {
            (Ok(Progress::Released), Some(Pending::Start(client))) => self.runs(ready, client),
            (Ok(Progress::Continues), pending) => {
                self.stage = Stage::Created { ready, pending, held: Some(restorer) };
                None
            }
            (heard, pending) => {
                let error = heard.err().unwrap_or_else(|| {
                    Error::new(ErrorKind::PeerMisbehaved, "criu restore", "it let the processes go too early")
                });
                self.stage = Stage::Created { ready, pending: None, held: Some(restorer) };
                self.kill(Cause::Itself);
                match pending {
                    Some(Pending::Start(client)) => client.reply(&failed(&error)),
                    _ => None,
                }
            }
        }
    }

    /// CRIU is too late.
    pub(super) fn give_up_restore(&mut self) {
        match &mut self.stage {
            Stage::Restoring { restorer, .. } => {
                let error = restorer.late();
                self.give_up(&error);
            }
            Stage::Created { held: Some(restorer), .. } => {
                restorer.hold();
                self.kill(Cause::Itself);
            }
            _ => {}
        }
    }

    fn give_up(&mut self, error: &Error) {
        if let Stage::Restoring { boot, .. } = &mut self.stage
            && let Some(boot) = boot.take()
        {
            self.fail_to_create(&boot, packed(error));
        }
    }

    fn fail_to_create(&mut self, boot: &Channel, failure: RemoteFailure) {
        let _ = boot.send_now(&SandboxReport::Failed(failure), &[]);
        self.kill(Cause::Itself);
    }

    /// CRIU's pid in the container, while it is there.
    pub(super) fn restorer_pid(&self) -> Option<i32> {
        match &self.stage {
            Stage::Restoring { restorer, .. } | Stage::Created { held: Some(restorer), .. } => {
                Some(restorer.pid_inside())
            }
            _ => None,
        }
    }

    /// Collects the container's first process, which has ended. Its reaper has been killed, and with it all others.
    pub(super) fn collect_restored(&mut self, held: &mut Held) -> Option<Usage> {
        match std::mem::replace(&mut self.stage, Stage::Failed) {
            // CRIU itself has ended. The sandbox may be the parent of a restored process by now.
            Stage::Restoring { boot, restorer, .. } => {
                if let Some(boot) = boot {
                    let _ = boot.send_now(&SandboxReport::Failed(packed(&restorer.ended())), &[]);
                }
                restorer.collect();
            }
            Stage::Created { ready, pending, held: Some(restorer) } => {
                // It traces the others until then.
                restorer.collect();
                self.stage = Stage::Created { ready, pending, held: None };
            }
            other => self.stage = other,
        }
        let inside = self.view().map(|view| (view.proc, view.init_pid));
        let usage = held.collect_by_pidfd(self.init.pidfd.as_fd(), inside);
        // A zombie would keep the reaper from ending.
        if let (Stage::Failed, Some(reaper)) = (&self.stage, &self.init.reaper) {
            while sys::wait_any_but(reaper.pid()) {}
        }
        usage
    }
}

/// Of clone(2).
const CLONE_NEWCGROUP: u32 = libc::CLONE_NEWCGROUP.cast_unsigned();

//! A container whose processes are restored: CRIU in place of init until they run.
//!
//! ```text
//!   Preparing --init has made room--> Restoring --complete, and compared--> Created, held --start--> Running
//!       |                                 ^
//!       +--the first one is PID 1---> Furnishing
//! ```
//!
//! The container's first process, whose end is its end, is init until it has made room, then CRIU, then the restored one.

use super::client::{Client, failed, packed};
use super::container::ContainerState;
use super::stage::{Pending, Ready, Stage};
use crate::error::{Actor, Error, ErrorKind, OsContext, RemoteFailure, Result};
use crate::helper::Received;
use crate::process::{Channel, Delivery};
use crate::sandbox::members::Held;
use crate::sandbox::namespaces;
use crate::sandbox::oom_score::OomScore;
use crate::sandbox::reaper::Reaper;
use crate::sandbox::restore::{Anteroom, Place, Progress, Restoration, Restorer, find_restored, misbehaved};
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
            Ok(Delivery { message: InitReport::Anteroom, fds }) => {
                match self.fork_criu_above(restoration, fds, score) {
                    Ok((anteroom, restorer)) => {
                        self.stage = Stage::Furnishing { boot: Some(boot), overlays, anteroom, restorer };
                        return;
                    }
                    Err(error) => packed(&error),
                }
            }
            Ok(Delivery { message: InitReport::Failed(failure), .. }) => failure,
            Err(_) => init_died(),
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
        let root = ready.root.try_clone().os(|| "fcntl(F_DUPFD_CLOEXEC, root)")?;
        let restorer = Restorer::fork(restoration, &mut handles, &place, Some(root))?;
        handles.finish()?;
        self.init.pidfd = restorer.pidfd()?;
        Ok((ready, restorer))
    }

    /// Forks CRIU in the anteroom of an init that stays.
    fn fork_criu_above(
        &mut self,
        restoration: Restoration,
        mut handles: Received,
        score: &OomScore,
    ) -> Result<(Anteroom, Restorer)> {
        let anteroom = Anteroom::take(&mut handles)?;
        let cgroup = handles.take_optional(namespaces::CGROUP_NAMESPACE);
        let place = Place {
            namespaces: &anteroom.namespaces,
            cgroup_namespace: cgroup.as_ref().map(AsFd::as_fd),
            cgroups: &self.init.cgroups,
            null: anteroom.null.as_fd(),
            score,
            oom_score_adj: self.exec_config.oom_score_adj,
        };
        let restorer = Restorer::fork(restoration, &mut handles, &place, None)?;
        handles.finish()?;
        let channel = self.init.channel.as_fd().try_clone_to_owned().os(|| "fcntl(F_DUPFD_CLOEXEC, init)")?;
        let init = std::mem::replace(&mut self.init.pidfd, restorer.pidfd()?);
        self.init.reaper = Some(Reaper::above(self.init.pid, init, channel.into()));
        Ok((anteroom, restorer))
    }

    /// CRIU says something before the root is there; or init, which assembles it.
    pub(super) fn hear_of_furnishing(
        &mut self,
        boot: Channel,
        overlays: Vec<PathBuf>,
        mut anteroom: Anteroom,
        mut restorer: Restorer,
    ) {
        if anteroom.assembling {
            return self.hear_of_root(boot, overlays, anteroom, restorer);
        }
        let heard = restorer.hear().and_then(|progress| match progress {
            Progress::Continues => Ok(()),
            Progress::First(pid) => anteroom.meet_first(&mut restorer, pid),
            Progress::Namespaces => anteroom.assemble(&restorer, &self.init.channel),
            Progress::Complete | Progress::Released => Err(misbehaved("it did not wait for the root")),
        });
        self.stage = Stage::Furnishing { boot: Some(boot), overlays, anteroom, restorer };
        if let Err(error) = heard {
            self.give_up(packed(&error));
        }
    }

    fn hear_of_root(
        &mut self,
        boot: Channel,
        overlays: Vec<PathBuf>,
        anteroom: Anteroom,
        restorer: Restorer,
    ) {
        let failure = match self.init.channel.receive_now::<InitReport>() {
            Ok(Delivery { message: InitReport::Ready { pid }, mut fds }) => {
                let taken = self.take_handles(pid, overlays, &mut fds).and_then(|(ready, _)| {
                    fds.finish()?;
                    anteroom.check_proc(ready.proc.as_fd())?;
                    restorer.go_on()?;
                    Ok(ready)
                });
                match taken {
                    Ok(ready) => {
                        self.stage = Stage::Restoring { boot: Some(boot), ready, restorer };
                        return;
                    }
                    Err(error) => packed(&error),
                }
            }
            Ok(Delivery { message: InitReport::Failed(failure), .. }) => failure,
            Ok(_) => packed(&misbehaved("init has handed over something else than a root")),
            Err(_) => init_died(),
        };
        self.stage = Stage::Furnishing { boot: Some(boot), overlays: Vec::new(), anteroom, restorer };
        self.give_up(failure);
    }

    /// CRIU says something before every process is complete.
    pub(super) fn hear_of_restore(&mut self, boot: Channel, ready: Ready, mut restorer: Restorer) {
        let heard = restorer.hear();
        let held = heard.and_then(|progress| match progress {
            Progress::Continues => Ok(false),
            Progress::Complete => {
                restorer.check(ready.proc.as_fd())?;
                self.init.pidfd = find_restored(&ready.namespaces, ready.init_pid)?;
                Ok(true)
            }
            Progress::First(_) | Progress::Namespaces | Progress::Released => {
                Err(misbehaved("it did not wait"))
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
                self.give_up(packed(&error));
            }
        }
    }

    /// CRIU says something when every process is complete: that it has let them go, if a client asked for that.
    pub(super) fn hear_of_release(
        &mut self,
        ready: Ready,
        pending: Option<Pending>,
        mut restorer: Restorer,
    ) -> Option<Client> {
        match (restorer.hear(), pending) {
            (Ok(Progress::Released), Some(Pending::Start(client))) => self.runs(ready, client),
            (Ok(Progress::Continues), pending) => {
                self.stage = Stage::Created { ready, pending, held: Some(restorer) };
                None
            }
            (heard, pending) => {
                let error = heard.err().unwrap_or_else(|| misbehaved("it let the processes go too early"));
                self.stage = Stage::Created { ready, pending: None, held: Some(restorer) };
                self.kill(Cause::Itself);
                match pending {
                    Some(Pending::Start(client)) => client.reply(&failed(&error)),
                    _ => None,
                }
            }
        }
    }

    /// It is time to look at CRIU, and at the process that it makes.
    pub(super) fn look_at_restore(&mut self) {
        let looked = match &mut self.stage {
            Stage::Furnishing { restorer, .. }
            | Stage::Restoring { restorer, .. }
            | Stage::Created { held: Some(restorer), .. } => restorer.look(),
            _ => Ok(()),
        };
        match (looked, &mut self.stage) {
            (Err(_), Stage::Created { held: Some(restorer), .. }) => {
                restorer.hold();
                self.kill(Cause::Itself);
            }
            (Err(error), _) => self.give_up(packed(&error)),
            (Ok(()), _) => {}
        }
    }

    fn give_up(&mut self, failure: RemoteFailure) {
        if let Stage::Furnishing { boot, .. } | Stage::Restoring { boot, .. } = &mut self.stage
            && let Some(boot) = boot.take()
        {
            self.fail_to_create(&boot, failure);
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
                restorer.pid_inside()
            }
            _ => None,
        }
    }

    /// Collects the container's first process, which has ended. Its reaper has been killed, and with it all others.
    pub(super) fn collect_restored(&mut self, held: &mut Held) -> Option<Usage> {
        match std::mem::replace(&mut self.stage, Stage::Failed) {
            // CRIU itself has ended. The sandbox may be the parent of a restored process by now.
            Stage::Furnishing { boot, restorer, .. } | Stage::Restoring { boot, restorer, .. } => {
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

fn init_died() -> RemoteFailure {
    let died = Error::new(ErrorKind::HelperDied, "init", "ended before it was ready");
    RemoteFailure::pack(Actor::Init, &died)
}

/// Of clone(2).
const CLONE_NEWCGROUP: u32 = libc::CLONE_NEWCGROUP.cast_unsigned();

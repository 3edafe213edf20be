//! Changes of a container's mounts that are under way.

use super::client::{Key, packed};
use super::container::ContainerState;
use crate::error::{Error, ErrorKind, Result};
use crate::process::Channel;
use crate::sandbox::members::Held;
use crate::sandbox::mounts::{MountChild, MountWork};
use crate::sandbox::oom_score::OomScore;
use crate::sandbox::target::ExecTarget;
use crate::wire::control::MountReply;
use crate::wire::init::MountReport;
use rustix::fd::OwnedFd;
use rustix::process::Signal;

/// The most changes of one container at once, and the most mounts that the sandbox remembers of it.
const MAX_CHANGES: usize = 16;
const MAX_MOUNTS: usize = 1024;

/// The changes of all containers.
#[derive(Default)]
pub(super) struct MountChanges(Vec<(Key, MountChange)>);

struct MountChange {
    container: Key,
    child: MountChild,
    /// The connection of the client that asked for it.
    client: Channel,
}

impl MountChanges {
    /// Forks a process for `work` in the container behind `target`.
    pub(super) fn fork(
        &self,
        container: Key,
        target: &ExecTarget<'_>,
        work: &MountWork,
        score: &OomScore,
    ) -> Result<MountChild> {
        let changes = self.of(container).count();
        let mounts = target.hot_mounts.len();
        if changes >= MAX_CHANGES || (mounts >= MAX_MOUNTS && matches!(work, MountWork::Mount { .. })) {
            let problem = format!("{changes} changes are under way and {mounts} mounts are there: too many");
            return Err(Error::new(ErrorKind::Os(libc::EUSERS), "mount", problem));
        }
        score.lend(target.exec_config.oom_score_adj, || MountChild::fork(target, work))
    }

    /// Whether one of the container's is not complete.
    pub(super) fn are_under_way(&self, container: Key) -> bool {
        self.of(container).next().is_some()
    }

    pub(super) fn add(&mut self, key: Key, container: Key, child: MountChild, client: Channel) {
        self.0.push((key, MountChange { container, child, client }));
    }

    /// A change has ended: done or failed.
    pub(super) fn end(&mut self, key: Key, containers: &mut [(Key, ContainerState)], held: &mut Held) {
        let Some(place) = self.0.iter().position(|(known, _)| *known == key) else { return };
        let (_, MountChange { container, child, client }) = self.0.swap_remove(place);
        let _ = held.collect(child.pid, None);
        let report = child.channel.receive_now::<MountReport>();
        // The container may have ended meanwhile, or be forgotten, and its mounts with it.
        let found = containers.iter_mut().find(|(known, _)| *known == container);
        let ready = found.and_then(|(_, container)| container.ready_mut());
        let reply = match (report.map(|report| report.message), ready) {
            (Ok(MountReport::Mounted { id }), Some(ready)) => {
                ready.hot_mounts.push(id);
                MountReply::Done
            }
            (Ok(MountReport::Unmounted { id }), Some(ready)) => {
                ready.hot_mounts.retain(|known| *known != id);
                MountReply::Done
            }
            (Ok(MountReport::Failed(failure)), _) => MountReply::Failed(failure),
            _ => {
                let error = Error::new(ErrorKind::Ended, "mount", "the container has ended");
                MountReply::Failed(packed(&error))
            }
        };
        // If the client is gone by now, there is nothing left to do.
        let _ = client.send_now(&reply, &[]);
    }

    /// Ends the changes of a container that has ended.
    pub(super) fn give_up(&self, container: Key) {
        for change in self.of(container) {
            let _ = rustix::process::pidfd_send_signal(&change.child.pidfd, Signal::KILL);
        }
    }

    /// Readable when a change has ended.
    pub(super) fn pidfds(&self) -> impl Iterator<Item = (Key, &OwnedFd)> {
        self.0.iter().map(|(key, change)| (*key, &change.child.pidfd))
    }

    /// The pids of the processes that change mounts, as the sandbox counts.
    pub(super) fn pids(&self) -> impl Iterator<Item = i32> {
        self.0.iter().map(|(_, change)| change.child.pid.as_raw_nonzero().get())
    }

    fn of(&self, container: Key) -> impl Iterator<Item = &MountChange> {
        self.0.iter().map(|(_, change)| change).filter(move |change| change.container == container)
    }
}

//! Changes of a container's mounts that are under way.

use super::client::{Key, packed};
use super::event_loop::Monitor;
use crate::error::{Error, ErrorKind, Result};
use crate::helper::Received;
use crate::helper::spawn::read_plan;
use crate::plan::TreeStep;
use crate::process::Channel;
use crate::sandbox::mounts::{MountChild, MountWork};
use crate::sys;
use crate::wire::control::MountReply;
use crate::wire::init::MountReport;

/// The most changes of one container at once, and the most mounts that it remembers.
const MAX_CHANGES: usize = 16;
const MAX_MOUNTS: usize = 1024;

/// One change.
pub(super) struct MountChange {
    container: Key,
    pub(super) child: MountChild,
    /// The connection of the client that asked for it.
    client: Channel,
}

impl Monitor {
    /// Mounts what `fds` describe: the step, and the connection of the gofer that hands the mount over.
    pub(super) fn mount(&mut self, container: Key, client: Channel, fds: Received) {
        let work = read_work(fds);
        self.change_mounts(container, client, work);
    }

    pub(super) fn change_mounts(&mut self, container: Key, client: Channel, work: Result<MountWork>) {
        match work.and_then(|work| self.fork_change(container, &work)) {
            Ok(child) => {
                let key = self.next_key();
                self.changes.push((key, MountChange { container, child, client }));
            }
            Err(error) => answer(&client, &MountReply::Failed(packed(&error))),
        }
    }

    fn fork_change(&mut self, container: Key, work: &MountWork) -> Result<MountChild> {
        let changes = self.changes.iter().filter(|(_, change)| change.container == container).count();
        let target = self.contained(container).target("mount")?;
        let mounts = target.hot_mounts.len();
        if changes >= MAX_CHANGES || (mounts >= MAX_MOUNTS && matches!(work, MountWork::Mount { .. })) {
            let problem = format!("{changes} changes are under way and {mounts} mounts are there: too many");
            return Err(Error::new(ErrorKind::Os(libc::EUSERS), "mount", problem));
        }
        self.score.lend(target.exec_config.oom_score_adj, || MountChild::fork(&target, work))
    }

    /// A change has ended: done or failed.
    pub(super) fn end_change(&mut self, key: Key) {
        let Some(place) = self.changes.iter().position(|(known, _)| *known == key) else { return };
        let (_, MountChange { container, child, client }) = self.changes.swap_remove(place);
        let _ = sys::wait4(child.pid);
        let report = child.channel.receive_now::<MountReport>();
        // The container may have ended meanwhile, or be forgotten, and its mounts with it.
        let found = self.containers.iter_mut().find(|(known, _)| *known == container);
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
        answer(&client, &reply);
    }

    /// Ends the changes of a container that has ended.
    pub(super) fn give_up_changes(&self, container: Key) {
        for (_, change) in self.changes.iter().filter(|(_, change)| change.container == container) {
            let _ = rustix::process::pidfd_send_signal(&change.child.pidfd, rustix::process::Signal::KILL);
        }
    }
}

fn read_work(mut fds: Received) -> Result<MountWork> {
    let step = read_plan::<TreeStep>(fds.take("step")?)?;
    let gofer = fds.take_optional("gofer").map(Channel::from);
    fds.finish()?;
    Ok(MountWork::Mount { step, gofer })
}

/// If the client is gone by now, there is nothing left to do.
fn answer(client: &Channel, reply: &MountReply) {
    let _ = client.send_now(reply, &[]);
}

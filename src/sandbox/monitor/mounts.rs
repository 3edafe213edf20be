//! Changes of a container's mounts that are under way, and what becomes of them.

use super::{Key, Monitor, packed};
use crate::error::{Actor, Error, ErrorKind, Result};
use crate::helper::Received;
use crate::helper::spawn::read_plan;
use crate::plan::TreeStep;
use crate::process::Channel;
use crate::sandbox::mounts::{Forked, Work};
use crate::sys;
use crate::wire::control::MountReply;
use crate::wire::init::MountReport;

/// The most changes of one container at once, and the most mounts that it remembers.
const MAX_CHANGES: usize = 16;
const MAX_MOUNTS: usize = 1024;

/// One change.
pub(super) struct Change {
    container: Key,
    pub(super) forked: Forked,
    /// Who asked for it.
    client: Channel,
}

impl Monitor {
    /// Mounts what `fds` describe: the step, and the connection of the gofer that hands the mount over.
    pub(super) fn mount(&mut self, container: Key, client: Channel, fds: Received) {
        let work = read_work(fds);
        self.change_mounts(container, client, work);
    }

    pub(super) fn change_mounts(&mut self, container: Key, client: Channel, work: Result<Work>) {
        match work.and_then(|work| self.fork_change(container, &work)) {
            Ok(forked) => {
                let key = self.next_key();
                self.changes.push((key, Change { container, forked, client }));
            }
            Err(error) => answer(&client, &MountReply::Failed(packed(Actor::Sandbox, &error))),
        }
    }

    fn fork_change(&mut self, container: Key, work: &Work) -> Result<Forked> {
        let changes = self.changes.iter().filter(|(_, change)| change.container == container).count();
        let contained = self.contained(container);
        let mounts = contained.hot_mounts.len();
        if changes >= MAX_CHANGES || (mounts >= MAX_MOUNTS && matches!(work, Work::Mount { .. })) {
            let problem = format!("{changes} changes are under way and {mounts} mounts are there: too many");
            return Err(Error::new(ErrorKind::Os(libc::EUSERS), "mount", problem));
        }
        self.score.lend(contained.rules.oom_score_adj, || Forked::new(contained, work))
    }

    /// A change has come to its end.
    pub(super) fn end_change(&mut self, key: Key) {
        let Some(place) = self.changes.iter().position(|(known, _)| *known == key) else { return };
        let (_, Change { container, forked, client }) = self.changes.swap_remove(place);
        let _ = sys::wait4(forked.pid);
        let report = forked.channel.receive_now::<MountReport>();
        // Forgotten meanwhile, its mounts with it.
        let contained = self.containers.iter_mut().find(|(known, _)| *known == container);
        let reply = match (report.map(|report| report.message), contained) {
            (Ok(MountReport::Mounted { id }), Some((_, contained))) => {
                contained.hot_mounts.push(id);
                MountReply::Done
            }
            (Ok(MountReport::Unmounted { id }), Some((_, contained))) => {
                contained.hot_mounts.retain(|known| *known != id);
                MountReply::Done
            }
            (Ok(MountReport::Failed(failure)), _) => MountReply::Failed(failure),
            _ => {
                let error = Error::new(ErrorKind::Ended, "mount", "the container has ended");
                MountReply::Failed(packed(Actor::Sandbox, &error))
            }
        };
        answer(&client, &reply);
    }

    /// Ends the changes of a container that has ended.
    pub(super) fn give_up_changes(&self, container: Key) {
        for (_, change) in self.changes.iter().filter(|(_, change)| change.container == container) {
            let _ = rustix::process::pidfd_send_signal(&change.forked.pidfd, rustix::process::Signal::KILL);
        }
    }
}

fn read_work(mut fds: Received) -> Result<Work> {
    let step = read_plan::<TreeStep>(fds.take("step")?)?;
    let gofer = fds.take_optional("gofer").map(Channel::from);
    fds.finish()?;
    Ok(Work::Mount { step, gofer })
}

/// A client that is gone by now knows no more than that.
fn answer(client: &Channel, reply: &MountReply) {
    let _ = client.send_now(reply, &[]);
}

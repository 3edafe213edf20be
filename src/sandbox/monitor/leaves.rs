//! The own cgroups of executed processes that have ended, until the last process in each has ended, too.
//!
//! ```text
//!   the process ends --none left--> the gofer removes the cgroup
//!           |                                   ^
//!           +--one left--> wait for its end ----+
//!                              deadline: kill all
//! ```

use super::client::Key;
use super::container::ContainerState;
use super::exit::LeafKills;
use crate::cgroup::ExecLeaf;
use crate::wire::init::LeafEmpty;
use rustix::fd::OwnedFd;
use std::collections::BTreeMap;
use std::time::Instant;

#[derive(Default)]
pub(super) struct Leaves {
    left: Vec<(Key, LeftLeaf)>,
    /// Kills in those that are gone, by container.
    kills: BTreeMap<Key, LeafKills>,
}

/// A cgroup in which a process left others behind.
struct LeftLeaf {
    container: Key,
    leaf: ExecLeaf,
    /// When the time of the process is up that left them.
    deadline: Option<Instant>,
    /// One of those in it.
    member: OwnedFd,
}

impl Leaves {
    /// Its process has ended.
    pub(super) fn add(
        &mut self,
        key: Key,
        container: Key,
        leaf: ExecLeaf,
        deadline: Option<Instant>,
        containers: &[(Key, ContainerState)],
    ) {
        let Some(member) = leaf.member() else {
            count(self.kills.entry(container).or_default(), &leaf);
            // If the gofer is gone, the cgroup goes with the container's.
            if let Some(container) = find(containers, container) {
                let _ = container.init.gofer.send_now(&LeafEmpty { number: leaf.number() }, &[]);
            }
            return;
        };
        self.left.push((key, LeftLeaf { container, leaf, deadline, member }));
    }

    pub(super) fn left_behind(&self) -> impl Iterator<Item = (Key, &OwnedFd)> {
        self.left.iter().map(|(key, left)| (*key, &left.member))
    }

    /// The member that it waited for has ended.
    pub(super) fn look(&mut self, key: Key, containers: &[(Key, ContainerState)]) {
        let Some(place) = self.left.iter().position(|(known, _)| *known == key) else { return };
        let (_, LeftLeaf { container, leaf, deadline, .. }) = self.left.swap_remove(place);
        self.add(key, container, leaf, deadline, containers);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.left.iter().filter_map(|(_, left)| left.deadline).min()
    }

    /// Kills what is left of those whose time is up.
    pub(super) fn look_at_the_clock(&mut self, now: Instant, containers: &[(Key, ContainerState)]) {
        for (_, left) in &mut self.left {
            if left.deadline.is_some_and(|deadline| deadline <= now) {
                left.deadline = None;
                if let Some(container) = find(containers, left.container) {
                    kill(&left.leaf, container);
                }
            }
        }
    }

    /// What the OOM killer did in these, and in those of processes that are still `running`.
    pub(super) fn kills<'a>(
        &'a self,
        container: Key,
        running: impl Iterator<Item = &'a ExecLeaf>,
    ) -> LeafKills {
        let left = self.left.iter().filter(|(_, left)| left.container == container);
        let mut kills = self.kills.get(&container).copied().unwrap_or_default();
        left.map(|(_, left)| &left.leaf).chain(running).for_each(|leaf| count(&mut kills, leaf));
        kills
    }

    /// Forgets those of a container that has ended.
    pub(super) fn give_up(&mut self, container: Key) {
        self.left.retain(|(_, left)| left.container != container);
        self.kills.remove(&container);
    }
}

/// Kills everything in a cgroup of the container. Ignores a failure: what is left ends with the container at the latest.
pub(super) fn kill(leaf: &ExecLeaf, container: &ContainerState) {
    match leaf.kills_at_once() {
        true => drop(leaf.kill()),
        false => container.hold_still(|| drop(leaf.kill())),
    }
}

fn count(kills: &mut LeafKills, leaf: &ExecLeaf) {
    let counted = leaf.oom_kills().unwrap_or(0);
    match leaf.counts_above() {
        true => kills.above += counted,
        false => kills.beside += counted,
    }
}

fn find(containers: &[(Key, ContainerState)], key: Key) -> Option<&ContainerState> {
    containers.iter().find(|(known, _)| *known == key).map(|(_, container)| container)
}

//! Ends a process of the container together with everything that it started.
//!
//! An executed process has no cgroup of its own, so the kernel has no name for this set. The sandbox looks its members up
//! in the container's proc: each process whose parent is a member, and each process in a session that a member made. A
//! process that has left its session and then lost its parent, as daemon(3) makes one, is no member.
//!
//! The sandbox stops all members before it kills the first. A stopped member can neither start another process nor lose
//! its children, so the lookups come to an end, and no member gets away between two of them.

use super::members;
use super::members::Member;
use crate::error::Result;
use rustix::fd::BorrowedFd;
use std::collections::{BTreeMap, BTreeSet};

/// How often to look for members that are not stopped yet. Each look stops all that it finds, and only processes that
/// were started meanwhile make another look necessary.
const LOOKS: usize = 64;

/// Kills the process `root` and its offspring. Pids are those of `proc`.
///
/// The sandbox must not have collected `root` yet: until then no other process can have its pid.
pub(super) fn kill(proc: BorrowedFd<'_>, root: i32) -> Result<()> {
    let mut offspring = Offspring::default();
    for signal in [libc::SIGSTOP, libc::SIGKILL] {
        // Kill the youngest first: if the end of a parent orphans a process group with a stopped member, the kernel
        // sends SIGCONT to the group (setpgid(2)).
        if signal == libc::SIGKILL {
            for process in offspring.known.iter().rev() {
                process.signal(proc, signal)?;
            }
        }
        for _ in 0..LOOKS {
            let all: Vec<_> = members::all(proc)?.filter_map(|member| Seen::of(&member)).collect();
            let found = offspring.add(root, &all);
            if found.is_empty() {
                break;
            }
            for process in found {
                process.signal(proc, signal)?;
            }
        }
    }
    Ok(())
}

/// A process, as it was seen in one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    pid: i32,
    parent: i32,
    session: i32,
    /// Tells it from a later process with the same pid.
    started_at: u64,
}

impl Seen {
    fn of(member: &Member) -> Option<Self> {
        let stat = member.stat()?;
        Some(Self { pid: member.pid(), parent: stat.ppid, session: stat.session, started_at: stat.starttime })
    }

    fn signal(self, proc: BorrowedFd<'_>, number: i32) -> Result<()> {
        match members::find(proc, self.pid)? {
            Some(member) if Self::of(&member).is_some_and(|now| now.started_at == self.started_at) => {
                member.signal(number)
            }
            _ => Ok(()),
        }
    }
}

/// The members found so far.
#[derive(Default)]
struct Offspring {
    /// Parents before their children.
    known: Vec<Seen>,
    /// When each of them started, by pid.
    starts: BTreeMap<i32, u64>,
    sessions: BTreeSet<i32>,
}

impl Offspring {
    /// Adds the members among `all` that are not known yet, and returns them.
    fn add(&mut self, root: i32, all: &[Seen]) -> Vec<Seen> {
        let now: BTreeMap<i32, u64> = all.iter().map(|process| (process.pid, process.started_at)).collect();
        let before = self.known.len();
        loop {
            let in_this_pass = self.known.len();
            for process in all {
                let is_known =
                    |pid: i32| self.starts.get(&pid).is_some_and(|start| now.get(&pid) == Some(start));
                let belongs = process.pid == root
                    || is_known(process.parent)
                    || self.sessions.contains(&process.session);
                if !belongs || is_known(process.pid) {
                    continue;
                }
                // The root starts others only after setsid(2). Until then its session is not its own; every other
                // member is in the root's session or in one that a member made.
                if process.pid != root || process.session == root {
                    self.sessions.insert(process.session);
                }
                self.known.push(*process);
                self.starts.insert(process.pid, process.started_at);
            }
            // A child may be listed before its parent: repeat until a pass adds nothing.
            if self.known.len() == in_this_pass {
                return self.known[before..].to_vec();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pid: i32, parent: i32, session: i32) -> Seen {
        Seen { pid, parent, session, started_at: 7 }
    }

    fn pids(found: &[Seen]) -> Vec<i32> {
        found.iter().map(|process| process.pid).collect()
    }

    #[test]
    fn children_of_children_and_orphans_of_the_session_belong_and_others_do_not() {
        let all = [
            seen(1, 0, 1),
            seen(2, 1, 1),   // the workload's own
            seen(8, 9, 8),   // grandchild, listed before its parent, with a session of its own
            seen(9, 10, 10), // child
            seen(10, 0, 10), // the root
            seen(11, 1, 10), // an orphan that kept the session
            seen(12, 1, 8),  // an orphan in the grandchild's session
            seen(13, 1, 13), // left both: a daemon
            seen(20, 0, 20), // another executed process
        ];
        let mut offspring = Offspring::default();
        assert_eq!(pids(&offspring.add(10, &all)), [10, 11, 9, 8, 12]);
        assert_eq!(offspring.add(10, &all), []);
        let mut later = all.to_vec();
        later.push(seen(30, 12, 30));
        assert_eq!(pids(&offspring.add(10, &later)), [30], "only what is new");
    }

    #[test]
    fn a_root_without_a_session_yet_has_no_offspring_and_a_pid_is_not_enough() {
        let mut offspring = Offspring::default();
        assert_eq!(pids(&offspring.add(10, &[seen(1, 0, 1), seen(5, 1, 0), seen(10, 0, 0)])), [10]);
        // Another process has the number of a member that is gone.
        let all = [seen(10, 0, 10), seen(11, 10, 10)];
        assert_eq!(pids(&offspring.add(10, &all)), [11]);
        let reused = Seen { started_at: 9, ..seen(11, 1, 1) };
        assert_eq!(offspring.add(10, &[seen(10, 0, 10), reused, seen(12, 11, 1)]), []);
    }
}

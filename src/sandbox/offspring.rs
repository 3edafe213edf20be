//! Ends a process of the container together with everything that it started.
//!
//! The kernel has no name for that set where the process has no cgroup of its own, so it is looked up: each process whose
//! parent is in the set, and each process of a session that a member of the set made. To belong to neither, a process has
//! to leave its session and lose its parent before, as daemon(3) does.
//!
//! First the set is stopped, and only then killed: a member that is stopped can neither start another process nor lose
//! its children, so the lookups come to an end, and nothing gets away between them.

use super::members;
use super::members::Member;
use crate::error::Result;
use rustix::fd::BorrowedFd;
use std::collections::{BTreeMap, BTreeSet};

/// How often to look for members that are not stopped yet. Each look stops all that it finds, so one more is needed only
/// for what was started meanwhile.
const LOOKS: usize = 64;

/// Kills the process `root` and its offspring. Pids are those of `proc`.
///
/// `root` still has to be there, if only as a zombie, so that its pid is no other process's.
pub(super) fn kill(proc: BorrowedFd<'_>, root: i32) -> Result<()> {
    let mut offspring = Offspring::default();
    for signal in [libc::SIGSTOP, libc::SIGKILL] {
        // What is stopped is killed youngest first: the end of a parent would wake a stopped process group (SIGCONT,
        // credentials(7) on orphaned groups).
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

/// What was found so far.
#[derive(Default)]
struct Offspring {
    /// Parents before their children.
    known: Vec<Seen>,
    /// When each of them started, by pid.
    starts: BTreeMap<i32, u64>,
    sessions: BTreeSet<i32>,
}

impl Offspring {
    /// Adds those of `all` that belong to it, and returns them.
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
                // The root leads a session of its own from the moment when it can start others. Theirs are this one, or
                // were made by one of them.
                if process.pid != root || process.session == root {
                    self.sessions.insert(process.session);
                }
                self.known.push(*process);
                self.starts.insert(process.pid, process.started_at);
            }
            // A parent may be listed after its child, so until nothing is added.
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

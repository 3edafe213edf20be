//! The processes executed in containers, from their fork until a client has received their end.

use super::client::{Key, Listener, packed};
use super::container::ContainerState;
use super::exit::LeafKills;
use super::leaves;
use super::leaves::Leaves;
use crate::error::{Actor, Error, ErrorKind, RemoteFailure};
use crate::process::Channel;
use crate::process::Delivery;
use crate::process::channel::wait_readable_until;
use crate::sandbox::exec;
use crate::sandbox::exec::ExecChild;
use crate::sandbox::members::Held;
use crate::sandbox::offspring;
use crate::wire::control::{ExecReply, KillTree, ProcessEnd, ProcessEnded, WaitReply};
use crate::wire::init::{ExecHello, ExecReport};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::Signal;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many ends are kept for a `WaitProcess` that may still come. The end of a process whose client still listens is not
/// kept.
const MAX_UNCLAIMED: usize = 1024;

/// How long a new process may take to join its cgroups. The kernel may wait for an RCU grace period, and stops the whole
/// machine.
const JOIN_LIMIT: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Processes {
    pub(super) running: Vec<(Key, ExecedProcess)>,
    /// Ends that no client has received, the oldest first.
    unclaimed: VecDeque<(Key, i32, ProcessEnd)>,
    leaves: Leaves,
}

/// A process that has not ended.
pub(super) struct ExecedProcess {
    container: Key,
    pub(super) child: ExecChild,
    /// How many of the container's processes the OOM killer had killed before this one was there.
    oom_kills_before: Option<u64>,
    /// Whether it has sent the listener of its filter.
    listens: bool,
    /// Its pid in the container, from its own report.
    pid_inside: Option<i32>,
    /// Whether it may still send something: until the program is executed.
    pub(super) speaks: bool,
    /// The client that asked for it, as long as it listens.
    pub(super) client: Option<Channel>,
    /// Other clients that wait for its end.
    waiting: Vec<Channel>,
    /// The master of its terminal, until the client gets it with `Started`: then the client alone has it.
    terminal: Option<OwnedFd>,
    /// When its time is up. `None` without a limit, and after that.
    deadline: Option<Instant>,
    timed_out: bool,
    /// Why it was not executed. Reported when it is gone, so that a client that knows no longer finds it.
    failure: Option<ExecFailure>,
}

impl Processes {
    pub(super) fn add(
        &mut self,
        key: Key,
        container: Key,
        child: ExecChild,
        oom_kills_before: Option<u64>,
        client: Channel,
    ) {
        let deadline = child.timeout.and_then(|limit| Instant::now().checked_add(limit));
        let process = ExecedProcess {
            container,
            deadline,
            timed_out: false,
            child,
            oom_kills_before,
            listens: false,
            pid_inside: None,
            speaks: true,
            client: Some(client),
            waiting: Vec::new(),
            terminal: None,
            failure: None,
        };
        self.running.push((key, process));
    }

    /// Reports the end of the process with this pid in the container on `connection`; gives that back if there is none.
    pub(super) fn wait(&mut self, container: Key, pid: i32, connection: Channel) -> Result<(), Channel> {
        let running = self.running.iter_mut().map(|(_, process)| process);
        if let Some(process) = running.into_iter().find(|process| process.is(container, pid)) {
            process.waiting.push(connection);
            return Ok(());
        }
        let place = self.unclaimed.iter().position(|(of, ended, _)| (*of, *ended) == (container, pid));
        // "First wait gives the status, the entry is then gone": unless it did not arrive.
        match place.and_then(|place| self.unclaimed.remove(place)) {
            Some((_, _, end)) => match connection.send_now(&WaitReply::Ended(end), &[]) {
                Ok(()) => Ok(()),
                Err(_) => {
                    self.unclaimed.push_back((container, pid, end));
                    Ok(())
                }
            },
            None => Err(connection),
        }
    }

    /// How many processes that were executed in the container have not ended.
    pub(super) fn count(&self, container: Key) -> usize {
        self.running.iter().filter(|(_, process)| process.container == container).count()
    }

    /// Waits until no process of the container is on its way into the cgroups.
    pub(super) fn await_joined(&mut self, container: Key) {
        let deadline = Instant::now() + JOIN_LIMIT;
        for (_, process) in self.running.iter_mut().filter(|(_, process)| process.container == container) {
            while process.speaks && process.pid_inside.is_none() {
                match wait_readable_until(process.child.channel.as_fd(), Some(deadline)) {
                    Ok(true) => drop(process.hear()),
                    _ => return,
                }
            }
        }
    }

    /// The processes that others left behind in their cgroups, one of each cgroup.
    pub(super) fn left_behind(&self) -> impl Iterator<Item = (Key, &OwnedFd)> {
        self.leaves.left_behind()
    }

    /// A process that was left behind has ended.
    pub(super) fn look_at_leaf(&mut self, key: Key, containers: &[(Key, ContainerState)]) {
        self.leaves.look(key, containers);
    }

    /// What the OOM killer did in the own cgroups of the container's processes.
    pub(super) fn leaf_kills(&self, container: Key) -> LeafKills {
        let running = self.running.iter().filter(|(_, process)| process.container == container);
        self.leaves.kills(container, running.filter_map(|(_, process)| process.child.leaf.as_ref()))
    }

    /// The container has ended: its cgroups are removed as a whole.
    pub(super) fn give_up_leaves(&mut self, container: Key) {
        self.leaves.give_up(container);
    }

    /// Its channel is readable: a report, or end of file because `execve` closed the channel.
    pub(super) fn hear(&mut self, key: Key) {
        if let Some((_, process)) = self.running.iter_mut().find(|(known, _)| *known == key) {
            process.hear();
        }
    }

    /// Its client asks to kill the tree, or is gone. If it is gone, kills an attached process; `wait_pid` can still ask for
    /// the end of another one.
    pub(super) fn hear_client(&mut self, key: Key, containers: &[(Key, ContainerState)]) {
        let Some((_, process)) = self.running.iter_mut().find(|(known, _)| *known == key) else { return };
        match process.client.as_ref().map(Channel::receive_now::<KillTree>) {
            Some(Ok(_)) => process.kill_tree(containers),
            _ => process.lose_client(),
        }
    }

    /// When the next process runs out of time.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let running = self.running.iter().filter_map(|(_, process)| process.deadline);
        running.chain(self.leaves.deadline()).min()
    }

    /// Kills the processes whose time is up, with everything that they started.
    pub(super) fn look_at_the_clock(&mut self, now: Instant, containers: &[(Key, ContainerState)]) {
        for (_, process) in &mut self.running {
            if process.deadline.is_some_and(|deadline| deadline <= now) {
                process.deadline = None;
                process.timed_out = true;
                process.kill_tree(containers);
            }
        }
        self.leaves.look_at_the_clock(now, containers);
    }

    /// It has ended: collects it and reports that. Returns its container if the kernel has killed it for its own memory
    /// limit and only this sees that.
    pub(super) fn end(
        &mut self,
        key: Key,
        containers: &[(Key, ContainerState)],
        held: &mut Held,
    ) -> Option<Key> {
        let place = self.running.iter().position(|(known, _)| *known == key)?;
        let (_, mut process) = self.running.swap_remove(place);
        // Receive its last reports first.
        let mut executed = !process.speaks;
        while process.speaks {
            executed = process.hear();
        }
        let container = containers.iter().find(|(known, _)| *known == process.container);
        let container = container.map(|(_, container)| container);
        let proc = container.and_then(ContainerState::view).map(|view| view.proc);
        let collected = held.collect(process.child.pid, proc.zip(process.pid_inside));
        let leaf = process.child.leaf.take();
        let leaf_kills = leaf.as_ref().map(|leaf| (leaf.oom_kills(), leaf.counts_above()));
        // Before a client learns of the end, and looks.
        if let Some(leaf) = leaf {
            self.leaves.add(key, process.container, leaf, process.deadline, containers);
        }
        let usage = collected?;
        let container_ends = container.is_none_or(ContainerState::is_ending);
        let killed = usage.signal.is_some_and(|(signal, _)| signal == libc::SIGKILL);
        let timed_out = process.child.timeout.filter(|_| process.timed_out && killed);
        if let Some(failure) = process.failure {
            let failure = match failure {
                ExecFailure::Reported(failure) => failure,
                ExecFailure::Died => match timed_out {
                    Some(limit) => too_slow(limit),
                    None if leaf_kills.is_some_and(|(kills, _)| kills > Some(0)) => {
                        RemoteFailure::pack(Actor::Init, &exec::too_little_memory())
                    }
                    None => died(container_ends),
                },
            };
            if let Some(client) = process.client {
                let _ = client.send_now(&ExecReply::Failed(failure), &[]);
            }
            return None;
        }
        // The kernel counts before it kills. If the container ends, its other processes get a SIGKILL with it.
        let for_memory = match leaf_kills {
            Some((Some(kills), _)) => kills > 0,
            _ => {
                container.and_then(|known| self.oom_kills(process.container, known))
                    > process.oom_kills_before
            }
        };
        let out_of_memory = killed && for_memory && !container_ends;
        let end = ProcessEnd {
            code: usage.code,
            signal: usage.signal,
            user_us: usage.user_us,
            system_us: usage.system_us,
            max_rss_kib: usage.max_rss_kib,
            out_of_memory,
            timed_out,
        };
        let client = process.client.iter().map(|client| client.send_now(&ProcessEnded(end), &[]));
        let waiting = process.waiting.iter().map(|waiting| waiting.send_now(&WaitReply::Ended(end), &[]));
        let told = client.chain(waiting).filter(Result::is_ok).count();
        if let (true, 0, Some(pid)) = (executed, told, process.pid_inside) {
            if self.unclaimed.len() == MAX_UNCLAIMED {
                self.unclaimed.pop_front();
            }
            self.unclaimed.push_back((process.container, pid, end));
        }
        let unseen = leaf_kills.is_some_and(|(kills, above)| kills > Some(0) && !above);
        unseen.then_some(process.container)
    }

    /// How many processes of the container the OOM killer has killed, without those in cgroups of their own; `None`
    /// without a memory cgroup.
    pub(super) fn oom_kills(&self, key: Key, container: &ContainerState) -> Option<u64> {
        container.oom_kills().map(|kills| kills.saturating_sub(self.leaf_kills(key).above))
    }

    /// Forgets the ends of a container's processes.
    pub(super) fn forget(&mut self, container: Key) {
        self.unclaimed.retain(|(of, _, _)| *of != container);
    }
}

/// Why a process did not execute its program.
enum ExecFailure {
    /// It reported the reason.
    Reported(RemoteFailure),
    /// It died before it could report one.
    Died,
}

fn died(with_its_container: bool) -> RemoteFailure {
    let error = match with_its_container {
        true => Error::new(ErrorKind::Ended, "exec", "the container has ended"),
        false => Error::new(ErrorKind::HelperDied, "exec", "the process ended before it was ready"),
    };
    RemoteFailure::pack(Actor::Init, &error)
}

fn too_slow(limit: Duration) -> RemoteFailure {
    let problem = format!("its program was not executed within {limit:?}");
    RemoteFailure::pack(Actor::Init, &Error::new(ErrorKind::TimedOut, "exec", problem))
}

/// For a client that could not be given its process: it has to know that the program had its effects.
fn not_handed_over(error: &Error, is_killed: bool) -> RemoteFailure {
    let fate = if is_killed { "was executed, and then killed" } else { "was executed, and runs" };
    let problem = format!("the program {fate}, because its pidfd could not be handed over: {error}");
    RemoteFailure::pack(Actor::Sandbox, &Error::new(error.kind().clone(), "exec", problem))
}

impl ExecedProcess {
    fn is(&self, container: Key, pid: i32) -> bool {
        self.container == container && self.pid_inside == Some(pid)
    }

    /// Kills it and everything that it started.
    fn kill_tree(&self, containers: &[(Key, ContainerState)]) {
        let container =
            containers.iter().find(|(key, _)| *key == self.container).map(|(_, container)| container);
        let view = container.and_then(ContainerState::view);
        if let (Some(container), Some(leaf)) = (container, &self.child.leaf) {
            leaves::kill(leaf, container);
        } else if let (Some(container), Some(view), Some(pid)) = (container, view, self.pid_inside) {
            // What forks as fast as it is looked up has to stand still for that. Ignore a failure: processes that cannot
            // be looked up end with the container at the latest.
            container.hold_still(|| drop(offspring::kill(view.proc, pid)));
        }
        // Kill the process itself in any case: it may not have reported its pid yet, or the lookup may have failed.
        let _ = rustix::process::pidfd_send_signal(&self.child.pidfd, Signal::KILL);
    }

    fn lose_client(&mut self) {
        self.client = None;
        if self.child.attached {
            // If it has ended already, it is about to be collected.
            let _ = rustix::process::pidfd_send_signal(&self.child.pidfd, Signal::KILL);
        }
    }

    /// Takes one message. Returns whether it means that the program was executed.
    fn hear(&mut self) -> bool {
        if self.pid_inside.is_none() {
            match self.child.channel.receive_now::<ExecHello>() {
                Ok(hello) => self.pid_inside = Some(hello.message.pid),
                Err(_) => self.fail(ExecFailure::Died),
            }
            return false;
        }
        match self.child.channel.receive_now::<ExecReport>() {
            Ok(Delivery { message: ExecReport::Failed(failure), .. }) => {
                self.fail(ExecFailure::Reported(failure));
            }
            Ok(Delivery { message: ExecReport::Terminal, fds }) if self.terminal.is_none() => {
                self.terminal = fds.take_only("terminal").ok();
            }
            Ok(Delivery { message: ExecReport::Listener, fds }) if !self.listens => {
                self.listens = true;
                // Without a client the descriptors are closed here, and the process ends.
                if let Some(client) = &self.client
                    && let Some(listener) = Listener::of(fds)
                {
                    let mut fds = listener.named();
                    fds.push(("pidfd", self.child.pidfd.as_fd()));
                    let _ = client.send_now(&ExecReply::Listener, &fds);
                }
            }
            // Each report comes once at most. A process that may trace can send more in its place, without end.
            Ok(_) => {
                let problem = "a report came twice";
                self.give_up(&Error::new(ErrorKind::PeerMisbehaved, "exec", problem));
            }
            // It has ended, and another process has a copy of its end.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => self.fail(ExecFailure::Died),
            // What it sent did not arrive, or is no report: without its terminal it is of no use.
            Err(error) if *error.kind() != ErrorKind::HelperDied => self.give_up(&error),
            Err(_) => {
                self.speaks = false;
                let terminal = self.terminal.take();
                let mut fds = vec![("pidfd", self.child.pidfd.as_fd())];
                fds.extend(terminal.as_ref().map(|terminal| ("terminal", terminal.as_fd())));
                if let Some(client) = &self.client
                    && let Err(error) = client.send_now(&ExecReply::Started, &fds)
                {
                    // A message without descriptors may arrive where this one did not.
                    let failure = not_handed_over(&error, self.child.attached);
                    let _ = client.send_now(&ExecReply::Failed(failure), &[]);
                    self.lose_client();
                }
                return true;
            }
        }
        false
    }

    /// Ends it, because nothing that it says can be believed.
    fn give_up(&mut self, error: &Error) {
        let _ = rustix::process::pidfd_send_signal(&self.child.pidfd, Signal::KILL);
        self.fail(ExecFailure::Reported(packed(error)));
    }

    fn fail(&mut self, failure: ExecFailure) {
        self.speaks = false;
        self.failure = Some(failure);
    }
}

//! The processes executed in running containers, from their fork until a client has received their end.

use super::client::{Key, Listener};
use super::container::ContainerState;
use crate::error::{Actor, Error, ErrorKind, RemoteFailure};
use crate::process::Channel;
use crate::process::Delivery;
use crate::sandbox::exec::ExecChild;
use crate::sandbox::offspring;
use crate::sys;
use crate::wire::control::{ExecReply, KillTree, ProcessEnd, ProcessEnded, WaitReply};
use crate::wire::init::{ExecHello, ExecReport};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::Signal;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many ends are kept for a `WaitProcess` that may still come. The end of a process whose client still listens is not
/// kept.
const MAX_UNCLAIMED: usize = 1024;

#[derive(Default)]
pub(super) struct Processes {
    pub(super) running: Vec<(Key, ExecedProcess)>,
    /// Ends that no client has received, the oldest first.
    unclaimed: VecDeque<(Key, i32, ProcessEnd)>,
}

/// A process that has not ended.
pub(super) struct ExecedProcess {
    container: Key,
    pub(super) child: ExecChild,
    /// How many of the container's processes the OOM killer had killed before this one was there.
    oom_kills_before: Option<u64>,
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
        self.running.iter().filter_map(|(_, process)| process.deadline).min()
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
    }

    /// It has ended: collects it and reports that. `container_ends` tells whether its container has ended or is about
    /// to: if so, a process that died before it was ready died with it. `oom_kills` is what the container's memory cgroup
    /// counts now.
    pub(super) fn end(
        &mut self,
        key: Key,
        container_ends: impl Fn(Key) -> bool,
        oom_kills: impl FnOnce(Key) -> Option<u64>,
    ) {
        let Some(place) = self.running.iter().position(|(known, _)| *known == key) else { return };
        let (_, mut process) = self.running.swap_remove(place);
        // Receive its last reports first.
        let mut executed = !process.speaks;
        while process.speaks {
            executed = process.hear();
        }
        let Ok(usage) = sys::wait4(process.child.pid) else { return };
        let killed = usage.signal.is_some_and(|(signal, _)| signal == libc::SIGKILL);
        let timed_out = process.child.timeout.filter(|_| process.timed_out && killed);
        if let Some(failure) = process.failure {
            let failure = match failure {
                ExecFailure::Reported(failure) => failure,
                ExecFailure::Died => match timed_out {
                    Some(limit) => too_slow(limit),
                    None => died(container_ends(process.container)),
                },
            };
            if let Some(client) = process.client {
                let _ = client.send_now(&ExecReply::Failed(failure), &[]);
            }
            return;
        }
        // The kernel counts before it kills. If the container ends, its other processes get a SIGKILL with it.
        let out_of_memory = matches!(usage.signal, Some((libc::SIGKILL, _)))
            && oom_kills(process.container) > process.oom_kills_before
            && !container_ends(process.container);
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

impl ExecedProcess {
    fn is(&self, container: Key, pid: i32) -> bool {
        self.container == container && self.pid_inside == Some(pid)
    }

    /// Kills it and everything that it started.
    fn kill_tree(&self, containers: &[(Key, ContainerState)]) {
        let container =
            containers.iter().find(|(key, _)| *key == self.container).map(|(_, container)| container);
        let view = container.and_then(ContainerState::view);
        if let (Some(container), Some(view), Some(pid)) = (container, view, self.pid_inside) {
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
            Ok(Delivery { message: ExecReport::Terminal, fds }) => {
                self.terminal = fds.take_only("terminal").ok();
            }
            Ok(Delivery { message: ExecReport::Listener, fds }) => {
                // Without a client the descriptors are closed here, and the process ends.
                if let Some(client) = &self.client
                    && let Some(listener) = Listener::of(fds)
                {
                    let mut fds = listener.named();
                    fds.push(("pidfd", self.child.pidfd.as_fd()));
                    let _ = client.send(&ExecReply::Listener, &fds);
                }
            }
            Err(_) => {
                self.speaks = false;
                let terminal = self.terminal.take();
                let mut fds = vec![("pidfd", self.child.pidfd.as_fd())];
                fds.extend(terminal.as_ref().map(|terminal| ("terminal", terminal.as_fd())));
                if let Some(client) = &self.client
                    && client.send_now(&ExecReply::Started, &fds).is_err()
                {
                    self.lose_client();
                }
                return true;
            }
        }
        false
    }

    fn fail(&mut self, failure: ExecFailure) {
        self.speaks = false;
        self.failure = Some(failure);
    }
}

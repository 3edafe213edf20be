//! The processes executed in running containers: from their fork to whoever waits for their end.

use super::listener::Listener;
use super::{Key, packed};
use crate::error::{Actor, Error, ErrorKind, RemoteFailure};
use crate::process::Channel;
use crate::process::Delivery;
use crate::sandbox::exec::Forked;
use crate::sys;
use crate::wire::control::{ExecReply, ProcessEnd, ProcessEnded, WaitReply};
use crate::wire::init::{ExecHello, ExecReport};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::Signal;
use std::collections::VecDeque;

/// How many ends are kept for a `WaitProcess` that may still come. A process whose client is there to hear of it takes
/// no place here.
const MAX_UNCLAIMED: usize = 1024;

/// All of them.
#[derive(Default)]
pub(super) struct Processes {
    pub(super) running: Vec<(Key, Process)>,
    /// Ends that nobody was there to hear of, the oldest first.
    unclaimed: VecDeque<(Key, i32, ProcessEnd)>,
}

/// One that has not ended.
pub(super) struct Process {
    container: Key,
    pub(super) forked: Forked,
    /// Its pid as the container counts, from itself.
    pid_inside: Option<i32>,
    /// Whether its channel has more to say: until it is executed.
    pub(super) speaks: bool,
    /// Who asked for it, as long as it listens.
    pub(super) client: Option<Channel>,
    /// Who else waits for its end.
    waiting: Vec<Channel>,
    /// The master of its terminal, until it is told that it was executed: the client's alone then.
    terminal: Option<OwnedFd>,
    /// Why it was not executed. Told when it is gone, so that nobody who knows finds it there.
    failure: Option<RemoteFailure>,
}

impl Processes {
    pub(super) fn add(&mut self, key: Key, container: Key, forked: Forked, client: Channel) {
        let process = Process {
            container,
            forked,
            pid_inside: None,
            speaks: true,
            client: Some(client),
            waiting: Vec::new(),
            terminal: None,
            failure: None,
        };
        self.running.push((key, process));
    }

    /// Has `connection` told of the end of the process that the container calls `pid`; gives it back if there is none.
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

    /// Its channel is readable: it said who it is, it failed, or it is gone from sight into `execve`.
    pub(super) fn hear(&mut self, key: Key) {
        if let Some((_, process)) = self.running.iter_mut().find(|(known, _)| *known == key) {
            process.hear();
        }
    }

    /// Its client is gone: its end will be kept. One that is attached ends now.
    pub(super) fn lose_client(&mut self, key: Key) {
        if let Some((_, process)) = self.running.iter_mut().find(|(known, _)| *known == key) {
            process.lose_client();
        }
    }

    /// It has ended: collects it and tells.
    pub(super) fn end(&mut self, key: Key) {
        let Some(place) = self.running.iter().position(|(known, _)| *known == key) else { return };
        let (_, mut process) = self.running.swap_remove(place);
        // What it said last may not have been heard yet.
        let mut executed = !process.speaks;
        while process.speaks {
            executed = process.hear();
        }
        let Ok(usage) = sys::wait4(process.forked.pid) else { return };
        if let Some(failure) = process.failure {
            if let Some(client) = process.client {
                let _ = client.send_now(&ExecReply::Failed(failure), &[]);
            }
            return;
        }
        let end = ProcessEnd {
            code: usage.code,
            signal: usage.signal,
            user_us: usage.user_us,
            system_us: usage.system_us,
            max_rss_kib: usage.max_rss_kib,
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

impl Process {
    fn is(&self, container: Key, pid: i32) -> bool {
        self.container == container && self.pid_inside == Some(pid)
    }

    fn lose_client(&mut self) {
        self.client = None;
        if self.forked.attached {
            // Ended already: then it is about to be collected.
            let _ = rustix::process::pidfd_send_signal(&self.forked.pidfd, Signal::KILL);
        }
    }

    /// Takes one message. Returns whether it means that the program was executed.
    fn hear(&mut self) -> bool {
        if self.pid_inside.is_none() {
            match self.forked.channel.receive_now::<ExecHello>() {
                Ok(hello) => self.pid_inside = Some(hello.message.pid),
                Err(_) => {
                    let died =
                        Error::new(ErrorKind::HelperDied, "exec", "the process ended before it was ready");
                    self.fail(packed(Actor::Init, &died));
                }
            }
            return false;
        }
        match self.forked.channel.receive_now::<ExecReport>() {
            Ok(Delivery { message: ExecReport::Failed(failure), .. }) => self.fail(failure),
            Ok(Delivery { message: ExecReport::Terminal, fds }) => {
                self.terminal = fds.take_only("terminal").ok();
            }
            Ok(Delivery { message: ExecReport::Listener, fds }) => {
                // Without a client the descriptors are closed here, and the process ends.
                if let Some(client) = &self.client
                    && let Some(listener) = Listener::of(fds)
                {
                    let mut fds = listener.named();
                    fds.push(("pidfd", self.forked.pidfd.as_fd()));
                    let _ = client.send(&ExecReply::Listener, &fds);
                }
            }
            Err(_) => {
                self.speaks = false;
                let terminal = self.terminal.take();
                let mut fds = vec![("pidfd", self.forked.pidfd.as_fd())];
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

    fn fail(&mut self, failure: RemoteFailure) {
        self.speaks = false;
        self.failure = Some(failure);
    }
}

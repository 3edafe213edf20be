//! The sandbox's loop: one thread, one poll(2), no timer but the ones a person asked for.
//!
//! ```text
//!   signalfd          signals sent to this process are meant for the root container's init
//!   control socket    connections of clients, one request at a time, one reply each
//!   each container    init's channel    ready (create is done), failed, or end of file (the program was executed)
//!                     init's pidfd      the end: exit record, replies; of the root container: _exit with its status
//!                     lifeline          its creator is gone: kill, and have the gofer remove the cgroups
//!                     gofer             it is gone: kill
//!   each process      its channel, its pidfd, the client that asked for it
//! ```
//!
//! What lives here: waiting, and handing what happened to the part that knows what it means. [`container`] is one
//! container, [`processes`] what was executed later, [`serve`] the requests, [`signals`] who gets which signal.

mod client;
mod container;
pub(super) mod exit;
mod listener;
pub(super) mod members;
pub(super) mod membership;
mod mounts;
mod news;
pub(super) mod oom_score;
mod pause;
mod pod;
mod processes;
mod serve;
mod signals;
mod user_log;

pub(super) use container::ContainerState;

use crate::error::{Actor, Error, OsContext, RemoteFailure, Result};
use crate::process::Channel;
use crate::sandbox::Common;
use crate::sandbox::files::Workers;
use crate::sandbox::volumes::Volumes;
use crate::state::Cause;
use crate::sys::Usage;
use crate::wire::control::SignalTarget;
use client::{Client, Role};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use oom_score::OomScore;
use processes::Processes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Names a container, a process or a client for as long as the sandbox lives: what happened to one that is gone by the
/// time it is looked at happens to nobody.
type Key = u64;

pub(super) struct Monitor {
    /// The root container first.
    containers: Vec<(Key, ContainerState)>,
    processes: Processes,
    files: Workers,
    changes: Vec<(Key, mounts::Change)>,
    clients: Vec<(Key, Client)>,
    listener: OwnedFd,
    signals: SignalFd,
    score: OomScore,
    volumes: Volumes,
    /// How the root container's init ended, from then on until the others have ended too.
    ending: Option<Option<Usage>>,
    last_key: Key,
}

/// What poll(2) watches.
#[derive(Clone, Copy, Debug)]
enum Source {
    Signals,
    Listener,
    InitSpoke(Key),
    InitEnded(Key),
    Lifeline(Key),
    Oom(Key),
    Gofer(Key),
    FileWorkerEnded,
    ChangeEnded(Key),
    ProcessSpoke(Key),
    ProcessEnded(Key),
    ProcessClient(Key),
    Client(Key),
}

impl Monitor {
    pub(super) fn new(
        root: ContainerState,
        common: Common,
        listener: OwnedFd,
        creator: Channel,
    ) -> Result<Self> {
        let Common { score, volumes } = common;
        let forwarded = signals::forwarded();
        forwarded.thread_block().os(|| "sigprocmask(SIG_BLOCK)")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        score.settle(root.oom_score().into_iter());
        Ok(Self {
            containers: vec![(0, root)],
            processes: Processes::default(),
            files: Workers::default(),
            changes: Vec::new(),
            clients: vec![(1, Client::creator(creator))],
            listener,
            signals: SignalFd::with_flags(&forwarded, flags).os(|| "signalfd()")?,
            score,
            volumes,
            ending: None,
            last_key: 1,
        })
    }

    /// Serves until the root container's init is gone. Returns the exit status of this process.
    pub(super) fn run(mut self) -> i32 {
        loop {
            for source in self.wait() {
                self.handle(source);
            }
            self.look_at_the_clock();
            self.tell();
            if let Some(usage) = self.ending
                && self.end_pod()
            {
                return exit::code_of(usage);
            }
        }
    }

    /// What happened, in the order it has to be looked at: what a process said comes before its end.
    fn wait(&self) -> Vec<Source> {
        let mut watched = vec![
            (Source::Signals, PollFd::new(&self.signals, PollFlags::IN)),
            (Source::Listener, PollFd::new(&self.listener, PollFlags::IN)),
        ];
        for (key, process) in &self.processes.running {
            if process.speaks {
                watched
                    .push((Source::ProcessSpoke(*key), PollFd::new(&process.forked.channel, PollFlags::IN)));
            }
            watched.push((Source::ProcessEnded(*key), PollFd::new(&process.forked.pidfd, PollFlags::IN)));
            if let Some(client) = &process.client {
                watched.push((Source::ProcessClient(*key), PollFd::new(client, PollFlags::empty())));
            }
        }
        for (key, container) in self.containers.iter().filter(|(_, container)| container.is_alive()) {
            if container.init_speaks() {
                watched.push((Source::InitSpoke(*key), PollFd::new(&container.init.channel, PollFlags::IN)));
            }
            watched.push((Source::InitEnded(*key), PollFd::new(&container.init.pidfd, PollFlags::IN)));
            if let Some(oom) = &container.oom {
                watched.push((Source::Oom(*key), PollFd::new(oom, oom.interest())));
            }
            if let Some(lifeline) = &container.lifeline {
                watched.push((Source::Lifeline(*key), PollFd::new(lifeline, PollFlags::IN)));
            }
            if container.watches_gofer() {
                watched.push((Source::Gofer(*key), PollFd::new(&container.init.gofer, PollFlags::empty())));
            }
        }
        let workers = self.files.pidfds().map(|pidfd| PollFd::new(pidfd, PollFlags::IN));
        watched.extend(workers.map(|pidfd| (Source::FileWorkerEnded, pidfd)));
        for (key, change) in &self.changes {
            watched.push((Source::ChangeEnded(*key), PollFd::new(&change.forked.pidfd, PollFlags::IN)));
        }
        for (key, client) in &self.clients {
            let events = if client.role == Role::Control { PollFlags::IN } else { PollFlags::empty() };
            watched.push((Source::Client(*key), PollFd::new(&client.channel, events)));
        }
        let (sources, mut fds): (Vec<Source>, Vec<PollFd<'_>>) = watched.into_iter().unzip();
        if poll(&mut fds, self.time_left().as_ref()).is_err() {
            return Vec::new();
        }
        let happened = sources.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        happened.map(|(source, _)| source).collect()
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Signals => self.forward_signals(),
            Source::Listener => self.accept(),
            Source::InitSpoke(key) => {
                let answered = self.container(key).hear_init();
                answered.into_iter().for_each(|client| self.add_client(client));
            }
            Source::InitEnded(key) => self.end(key),
            Source::Lifeline(key) => self.container(key).lose_caller(),
            Source::Oom(key) => self.hear_of_oom(key),
            Source::Gofer(key) => {
                // Without it nobody could reach the container's files any more.
                self.container(key).gofer_gone = true;
                self.kill(key, Cause::GoferLost);
            }
            Source::FileWorkerEnded => self.files.reap(),
            Source::ChangeEnded(key) => self.end_change(key),
            Source::ProcessSpoke(key) => self.processes.hear(key),
            Source::ProcessEnded(key) => self.processes.end(key),
            Source::ProcessClient(key) => self.processes.lose_client(key),
            Source::Client(key) => self.serve(key),
        }
    }

    /// Init is gone, and with it its container.
    fn end(&mut self, key: Key) {
        let root = self.root_key() == Some(key);
        if !root && self.containers.first().is_some_and(|(_, root)| root.is_ending()) {
            self.container(key).circumstances.ended_by = Some((Cause::PodEnded, libc::SIGKILL));
        }
        let (usage, answered) = self.container(key).end();
        self.files.end(key);
        self.give_up_changes(key);
        self.settle_oom_score();
        answered.into_iter().for_each(|client| self.add_client(client));
        self.tell();
        let ends_with_it = [Role::Watch(key), Role::SandboxEvent(key)];
        self.clients.retain(|(_, client)| !ends_with_it.contains(&client.role));
        if root {
            self.ending = Some(usage);
        }
    }

    fn kill(&mut self, key: Key, cause: Cause) {
        self.container(key).kill(cause);
    }

    /// After a container came or went.
    fn settle_oom_score(&self) {
        self.score.settle(self.containers.iter().filter_map(|(_, container)| container.oom_score()));
    }

    fn forward_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            // Gone already, or not allowed: whoever sent it learns from the container's end, as with any process.
            if let Some((_, root)) = self.containers.first_mut() {
                let _ = root.signal_target(number, SignalTarget::Init, &[]);
            }
        }
    }

    fn look_at_the_clock(&mut self) {
        let now = Instant::now();
        let mut answered = Vec::new();
        for (_, container) in &mut self.containers {
            if container.deadline.is_some_and(|deadline| deadline <= now) {
                container.time_out();
            }
            if container.pausing.is_some() {
                answered.extend(container.look_whether_paused(now));
            }
        }
        answered.into_iter().for_each(|client| self.add_client(client));
        self.clients.retain(|(_, client)| client.deadline.is_none_or(|deadline| deadline > now));
    }

    fn time_left(&self) -> Option<Timespec> {
        let clients = self.clients.iter().filter_map(|(_, client)| client.deadline);
        let containers = self.containers.iter().filter_map(|(_, container)| container.deadline);
        let pausing = self.containers.iter().filter_map(|(_, container)| container.pausing.as_ref());
        let next = clients.chain(containers).chain(pausing.map(|pausing| pausing.next_look)).min()?;
        // Rounded up: waking just before the deadline would spin.
        let left = next.saturating_duration_since(Instant::now()) + Duration::from_micros(100);
        let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        Some(Timespec { tv_sec: seconds, tv_nsec: left.subsec_nanos().into() })
    }

    /// The pids of children of this process that are nobody's workload.
    fn helpers(&self) -> Vec<i32> {
        let changes = self.changes.iter().map(|(_, change)| change.forked.pid.as_raw_nonzero().get());
        self.files.pids().into_iter().chain(changes).collect()
    }

    /// The container with this key, which is never forgotten while anything names it.
    fn container(&mut self, key: Key) -> &mut ContainerState {
        let found = self.containers.iter_mut().find(|(known, _)| *known == key);
        &mut found.expect("keys are looked up where they are taken from").1
    }

    /// As [`container`](Self::container), to look at.
    fn contained(&self, key: Key) -> &ContainerState {
        let found = self.containers.iter().find(|(known, _)| *known == key);
        &found.expect("keys are looked up where they are taken from").1
    }

    fn root_key(&self) -> Option<Key> {
        self.containers.first().map(|(key, _)| *key)
    }

    fn next_key(&mut self) -> Key {
        self.last_key += 1;
        self.last_key
    }

    fn add_client(&mut self, client: Client) {
        let key = self.next_key();
        self.clients.push((key, client));
    }

    fn take_client(&mut self, key: Key) -> Option<Client> {
        let place = self.clients.iter().position(|(known, _)| *known == key)?;
        Some(self.clients.swap_remove(place).1)
    }
}

/// An error on its way to another process.
fn packed(actor: Actor, error: &Error) -> RemoteFailure {
    RemoteFailure::pack(actor, error)
}

//! The loop: waits for everything at once, and hands what happened on.

use super::client::{Client, ClientRole, Key};
use super::container::ContainerState;
use super::exit;
use super::mounts::MountChanges;
use super::processes::Processes;
use super::stage::Lifeline;
use crate::error::{OsContext, Result};
use crate::process::Channel;
use crate::process::channel::{IDLE_AFTER, timespec};
use crate::sandbox::files::Workers;
use crate::sandbox::members::Held;
use crate::sandbox::oom_score::OomScore;
use crate::sandbox::volumes::Volumes;
use crate::state::Cause;
use crate::sys::{self, Usage};
use crate::wire::control::{InitPhase, SandboxEvent, SignalTarget};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Everything that the sandbox holds.
pub(in crate::sandbox) struct Monitor {
    /// The root container first.
    pub(super) containers: Vec<(Key, ContainerState)>,
    pub(super) processes: Processes,
    pub(super) files: Workers,
    pub(super) changes: MountChanges,
    pub(super) clients: Vec<(Key, Client)>,
    pub(super) listener: OwnedFd,
    /// Until then it accepts no client, because there was no descriptor for one.
    pub(super) accept_again: Option<Instant>,
    signals: SignalFd,
    pub(super) score: OomScore,
    pub(super) volumes: Volumes,
    /// The claim of the container's range of host ids, which ends with this process.
    _ids: Option<OwnedFd>,
    held: Held,
    /// How the root container's init ended, from then on until the others have ended too.
    ending: Option<Option<Usage>>,
    last_key: Key,
}

/// What poll(2) watches.
#[derive(Clone, Copy, Debug)]
enum Watched {
    Signals,
    Listener,
    InitSpoke(Key),
    InitEnded(Key),
    ReaperEnded(Key),
    Lifeline(Key),
    Oom(Key),
    Gofer(Key),
    FileWorkerEnded,
    ChangeEnded(Key),
    ProcessSpoke(Key),
    ProcessEnded(Key),
    ProcessClient(Key),
    LeafMemberEnded(Key),
    Client(Key),
}

impl Monitor {
    pub(in crate::sandbox) fn new(
        root: ContainerState,
        score: OomScore,
        volumes: Volumes,
        ids: Option<OwnedFd>,
        listener: OwnedFd,
        creator: Channel,
    ) -> Result<Self> {
        let forwarded = forwarded();
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        score.settle(root.oom_score().into_iter());
        Ok(Self {
            containers: vec![(0, root)],
            processes: Processes::default(),
            files: Workers::default(),
            changes: MountChanges::default(),
            clients: vec![(1, Client::creator(creator))],
            listener,
            accept_again: None,
            signals: SignalFd::with_flags(&forwarded, flags).os(|| "signalfd()")?,
            score,
            volumes,
            _ids: ids,
            held: Held::default(),
            ending: None,
            last_key: 1,
        })
    }

    /// Serves until the root container's init is gone. Returns the exit status of this process.
    pub(in crate::sandbox) fn run(mut self) -> i32 {
        let mut rests = false;
        loop {
            let happened = self.wait(rests);
            if !happened.is_empty() {
                rests = false;
            } else if !rests && self.may_rest() {
                sys::trim_heap();
                sys::forget_code();
                rests = true;
            }
            for source in happened {
                self.handle(source);
            }
            self.look_at_the_clock();
            self.report_events();
            if let Some(usage) = self.ending
                && self.end_pod()
            {
                self.containers.iter().for_each(|(_, container)| container.leave_to_gofer());
                return exit::code_of(usage);
            }
        }
    }

    /// Whether it gives its code back when nothing happens for a while. Not before the start, for
    /// which a caller waits.
    fn may_rest(&self) -> bool {
        let starts = |phase| matches!(phase, InitPhase::Preparing | InitPhase::Created);
        !self.containers.iter().any(|(_, container)| starts(container.phase()))
    }

    /// Waits; for [`IDLE_AFTER`] at most, unless it `rests` or may not. Returns what happened, in the order to handle it:
    /// the reports of a process come before its end.
    fn wait(&self, rests: bool) -> Vec<Watched> {
        let mut watched = vec![(Watched::Signals, PollFd::new(&self.signals, PollFlags::IN))];
        for (key, process) in &self.processes.running {
            if process.speaks {
                watched
                    .push((Watched::ProcessSpoke(*key), PollFd::new(&process.child.channel, PollFlags::IN)));
            }
            // Before its end: what it started is still killed, if the client asked for that before it ended.
            if let Some(client) = &process.client {
                watched.push((Watched::ProcessClient(*key), PollFd::new(client, PollFlags::IN)));
            }
            watched.push((Watched::ProcessEnded(*key), PollFd::new(&process.child.pidfd, PollFlags::IN)));
        }
        let members = self.processes.left_behind();
        watched.extend(
            members.map(|(key, member)| (Watched::LeafMemberEnded(key), PollFd::new(member, PollFlags::IN))),
        );
        for (key, container) in self.containers.iter().filter(|(_, container)| container.is_alive()) {
            if let Some(speaks) = container.init_speaks() {
                watched.push((Watched::InitSpoke(*key), PollFd::from_borrowed_fd(speaks, PollFlags::IN)));
            }
            watched.push(match &container.init.reaper {
                Some(reaper) if container.init_has_ended() => {
                    (Watched::ReaperEnded(*key), PollFd::new(&reaper.pidfd, PollFlags::IN))
                }
                _ => (Watched::InitEnded(*key), PollFd::new(&container.init.pidfd, PollFlags::IN)),
            });
            if let Some(oom) = &container.oom {
                watched.push((Watched::Oom(*key), PollFd::new(oom, oom.interest())));
            }
            if container.watches_gofer() {
                watched.push((Watched::Gofer(*key), PollFd::new(&container.init.gofer, PollFlags::empty())));
            }
        }
        for (key, container) in &self.containers {
            if let Lifeline::Watched(lifeline) = &container.lifeline {
                watched.push((Watched::Lifeline(*key), PollFd::new(lifeline, PollFlags::IN)));
            }
        }
        let workers = self.files.pidfds().map(|pidfd| PollFd::new(pidfd, PollFlags::IN));
        watched.extend(workers.map(|pidfd| (Watched::FileWorkerEnded, pidfd)));
        let changes = self.changes.pidfds();
        watched.extend(
            changes.map(|(key, pidfd)| (Watched::ChangeEnded(key), PollFd::new(pidfd, PollFlags::IN))),
        );
        for (key, client) in &self.clients {
            let speaks = matches!(client.role, ClientRole::Control | ClientRole::Checkpoint(_));
            let events = if speaks { PollFlags::IN } else { PollFlags::empty() };
            watched.push((Watched::Client(*key), PollFd::new(&client.channel, events)));
        }
        // Last: clients that hung up are forgotten first, so that they do not count against a new one.
        if self.accept_again.is_none() {
            watched.push((Watched::Listener, PollFd::new(&self.listener, PollFlags::IN)));
        }
        let (sources, mut fds): (Vec<Watched>, Vec<PollFd<'_>>) = watched.into_iter().unzip();
        let left = match self.time_left() {
            left if rests || !self.may_rest() => left,
            left => Some(left.map_or(IDLE_AFTER, |left| left.min(IDLE_AFTER))),
        };
        if poll(&mut fds, left.map(timespec).as_ref()).is_err() {
            return Vec::new();
        }
        let happened = sources.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        happened.map(|(source, _)| source).collect()
    }

    fn handle(&mut self, source: Watched) {
        match source {
            Watched::Signals => self.forward_signals(),
            Watched::Listener => self.accept(),
            Watched::InitSpoke(key) => {
                let pod_ends = self.pod_ends(key);
                let found = self.containers.iter_mut().find(|(known, _)| *known == key);
                let (_, container) = found.expect("keys are looked up where they are taken from");
                let answered = container.hear_init(pod_ends, &self.score);
                answered.into_iter().for_each(|client| self.add_client(client));
            }
            Watched::InitEnded(key) => {
                let cause = self.pod_ends(key).then_some(Cause::PodEnded);
                if with_key(&mut self.containers, key).init_ended(cause, &mut self.held) {
                    self.end(key);
                }
            }
            Watched::ReaperEnded(key) => self.end(key),
            Watched::Lifeline(key) => self.container(key).lose_caller(),
            Watched::Oom(key) => self.container(key).look_for_oom(),
            Watched::Gofer(key) => {
                let container = self.container(key);
                if let Some(ready) = container.ready_mut() {
                    ready.gofer_gone = true;
                }
                container.kill(Cause::GoferLost);
            }
            Watched::FileWorkerEnded => self.files.reap(),
            Watched::ChangeEnded(key) => {
                self.changes.end(key, &mut self.containers, &mut self.held);
            }
            Watched::ProcessSpoke(key) => self.processes.hear(key),
            Watched::ProcessEnded(key) => {
                if let Some(out_of_memory) = self.processes.end(key, &self.containers, &mut self.held) {
                    self.container(out_of_memory).events.push(SandboxEvent::OutOfMemory);
                }
            }
            Watched::LeafMemberEnded(key) => self.processes.look_at_leaf(key, &self.containers),
            Watched::ProcessClient(key) => self.processes.hear_client(key, &self.containers),
            Watched::Client(key) => self.serve(key),
        }
    }

    /// Init and what ended with it are gone: the container has ended.
    fn end(&mut self, key: Key) {
        let root = self.root_key() == Some(key);
        let leaf_kills = self.processes.leaf_kills(key);
        let (usage, answered) = self.container(key).end(leaf_kills);
        self.processes.give_up_leaves(key);
        self.files.end(key);
        self.changes.give_up(key);
        self.settle_oom_score();
        answered.into_iter().for_each(|client| self.add_client(client));
        self.report_events();
        let ends_with_it = [
            ClientRole::Watch(key),
            ClientRole::Events(key),
            ClientRole::Checkpoint(key),
            ClientRole::Template(key),
        ];
        self.clients.retain(|(_, client)| !ends_with_it.contains(&client.role));
        if root {
            self.ending = Some(usage);
        }
    }

    /// Whether the root container ends while this other one still exists.
    fn pod_ends(&self, key: Key) -> bool {
        self.containers.first().is_some_and(|(root_key, root)| *root_key != key && root.is_ending())
    }

    pub(super) fn kill(&mut self, key: Key, cause: Cause) {
        self.container(key).kill(cause);
    }

    /// After a container came or went.
    pub(super) fn settle_oom_score(&self) {
        self.score.settle(self.containers.iter().filter_map(|(_, container)| container.oom_score()));
    }

    /// Sends events to the clients that listen. A client that does not read loses an event, and the connection with it.
    fn report_events(&mut self) {
        for (key, container) in &mut self.containers {
            let events = std::mem::take(&mut container.events);
            if events.is_empty() {
                continue;
            }
            self.clients.retain(|(_, client)| {
                client.role != ClientRole::Events(*key)
                    || events.iter().all(|event| client.channel.send_now(event, &[]).is_ok())
            });
        }
    }

    fn forward_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            // If init is gone, the sender learns it from the end of the sandbox, as with any process.
            if let Some((_, root)) = self.containers.first_mut() {
                let _ = root.signal_target(number, SignalTarget::Init, &[]);
            }
        }
    }

    fn look_at_the_clock(&mut self) {
        self.held.look_again();
        let now = Instant::now();
        let mut answered = Vec::new();
        for (_, container) in &mut self.containers {
            if container.deadline().is_some_and(|deadline| deadline <= now) {
                container.time_out();
            }
            answered.extend(container.look_whether_paused(now));
        }
        answered.into_iter().for_each(|client| self.add_client(client));
        self.processes.look_at_the_clock(now, &self.containers);
        self.clients.retain(|(_, client)| client.deadline.is_none_or(|deadline| deadline > now));
        self.accept_again = self.accept_again.filter(|again| *again > now);
    }

    fn time_left(&self) -> Option<Duration> {
        let clients = self.clients.iter().filter_map(|(_, client)| client.deadline);
        let containers = self.containers.iter().filter_map(|(_, container)| container.deadline());
        let pausing = self.containers.iter().filter_map(|(_, container)| container.pausing());
        let containers =
            containers.chain(self.processes.deadline()).chain(self.accept_again).chain(self.held.next_look());
        let next = clients.chain(containers).chain(pausing.map(|pausing| pausing.next_look)).min()?;
        // Round up: waking just before the deadline would spin.
        Some(next.saturating_duration_since(Instant::now()) + Duration::from_micros(100))
    }

    /// The pids of children of the sandbox that belong to no workload.
    pub(super) fn helpers(&self) -> Vec<i32> {
        self.files.pids().into_iter().chain(self.changes.pids()).collect()
    }

    /// The container with this key. A container is not forgotten while an event of it is being handled.
    pub(super) fn container(&mut self, key: Key) -> &mut ContainerState {
        with_key(&mut self.containers, key)
    }

    /// As [`container`](Self::container), shared.
    pub(super) fn contained(&self, key: Key) -> &ContainerState {
        let found = self.containers.iter().find(|(known, _)| *known == key);
        &found.expect("keys are looked up where they are taken from").1
    }

    pub(super) fn root_key(&self) -> Option<Key> {
        self.containers.first().map(|(key, _)| *key)
    }

    pub(super) fn next_key(&mut self) -> Key {
        self.last_key += 1;
        self.last_key
    }

    pub(super) fn add_client(&mut self, client: Client) {
        let key = self.next_key();
        self.clients.push((key, client));
    }

    pub(super) fn take_client(&mut self, key: Key) -> Option<Client> {
        let place = self.clients.iter().position(|(known, _)| *known == key)?;
        Some(self.clients.swap_remove(place).1)
    }
}

/// The signals that the sandbox passes on to init: everything that a person or a supervisor sends.
fn forwarded() -> SigSet {
    [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGCONT,
        Signal::SIGWINCH,
    ]
    .into_iter()
    .collect()
}

/// The container with this key, for a caller that needs another part of the monitor, too.
fn with_key(containers: &mut [(Key, ContainerState)], key: Key) -> &mut ContainerState {
    let found = containers.iter_mut().find(|(known, _)| *known == key);
    &mut found.expect("keys are looked up where they are taken from").1
}

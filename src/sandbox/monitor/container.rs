//! One container of the sandbox: its init, its gofer, and everything that is known about how it stands.

use super::client::Client;
use super::exit;
use super::exit::ExitEvidence;
use super::listener::Listener;
use super::members;
use super::members::Member;
use super::pause::Pausing;
use super::user_log::UserLog;
use crate::cgroup::{EVIDENCE_OOM, EVIDENCE_PEAK, Freezer, OomEvidence, OomWatch};
use crate::error::{Actor, Error, ErrorKind, Result};
use crate::helper::Received;
use crate::id::ContainerId;
use crate::plan::{CloneFlags, NamespacePlan, SandboxPlan};
use crate::process::Channel;
use crate::process::channel::{Delivery, wait_readable_until};
use crate::sandbox::files::Layers;
use crate::sandbox::init::Init;
use crate::sandbox::namespaces;
use crate::sandbox::namespaces::InitNamespaces;
use crate::seccomp::Filter;
use crate::state::Cause;
use crate::sys::{self, Usage};
use crate::wire::boot::SandboxReport;
use crate::wire::control::{InitPhase, Reply, SandboxEvent};
use crate::wire::init::{CallerGone, InitReport, StartReport};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A container, from the fork of its init until it is forgotten.
pub(in crate::sandbox) struct ContainerState {
    pub(super) id: ContainerId,
    pub(in crate::sandbox) init: Init,
    pub(in crate::sandbox) phase: InitPhase,
    /// The container's own proc, from init: an instance for its pid namespace that nothing inside can cover.
    pub(in crate::sandbox) proc: Option<OwnedFd>,
    /// The container's root as it was when init was ready, from init.
    root: Option<OwnedFd>,
    /// What was mounted into it later, by the kernel's numbers for mounts.
    pub(in crate::sandbox) hot_mounts: Vec<u64>,
    /// What its overlays are made of.
    pub(super) layers: Layers,
    /// Init's pid in its own pid namespace.
    pub(super) init_pid_inside: i32,
    /// Whether there are other containers in the sandbox.
    pub(super) in_pod: bool,
    /// Where all its processes can be stopped at once.
    pub(super) freezer: Option<Freezer>,
    /// A pause that is not complete.
    pub(super) pausing: Option<Pausing>,
    /// Who was stopped before a pause without a freezer.
    pub(super) stopped_before: BTreeSet<i32>,
    /// Tells of kills for memory.
    pub(super) oom: Option<OomWatch>,
    /// What has happened and was not told yet.
    pub(super) news: Vec<SandboxEvent>,
    /// Its own, from init: by the mount namespace its processes are told from others in a shared pid namespace.
    pub(in crate::sandbox) namespaces: Option<InitNamespaces>,
    /// Who waits to hear that it is created.
    pub(super) boot: Option<Channel>,
    /// The client that waits for `Start` to be answered.
    pub(super) starting: Option<Client>,
    pub(super) lifeline: Option<OwnedFd>,
    /// Whether the lifeline was cut.
    caller_gone: bool,
    pub(super) gofer_gone: bool,
    pub(super) deadline: Option<Instant>,
    pub(super) circumstances: ExitEvidence,
    /// What every process executed in it gets.
    pub(in crate::sandbox) rules: ExecConfig,
    timeout: Option<Duration>,
    exit_record: OwnedFd,
    user_log: Option<UserLog>,
    memory: Option<(OwnedFd, Option<OwnedFd>)>,
}

/// What the container's plan says about every process in it.
#[derive(Clone, Debug)]
pub(in crate::sandbox) struct ExecConfig {
    pub(in crate::sandbox) filter: Option<Filter>,
    /// Namespaces that init has and the sandbox has not: `CLONE_NEW*`.
    pub(in crate::sandbox) namespaces: u32,
    /// Namespaces of init's that the sandbox enters when init is ready.
    followed: CloneFlags,
    /// Whether init is in a pid namespace below the sandbox's.
    pub(in crate::sandbox) own_pids: bool,
    /// Whether init has a terminal.
    terminal: bool,
    pub(in crate::sandbox) oom_score_adj: Option<i32>,
    /// Whether that says nothing of what the pod is worth.
    pause: bool,
}

impl ContainerState {
    pub(in crate::sandbox) fn new(
        plan: SandboxPlan,
        init: Init,
        boot: Channel,
        donated: &mut Received,
    ) -> Result<Self> {
        let memory =
            donated.take_optional(EVIDENCE_OOM).map(|oom| (oom, donated.take_optional(EVIDENCE_PEAK)));
        let NamespacePlan { with_init, followed, .. } = plan.namespaces;
        let user_log = donated.take_optional("user-log").map(|to| UserLog::new(to, &plan.id));
        Ok(Self {
            id: plan.id,
            init,
            phase: InitPhase::Preparing,
            proc: None,
            root: None,
            hot_mounts: Vec::new(),
            layers: Layers::new(plan.init.layers),
            init_pid_inside: 0,
            in_pod: false,
            freezer: Freezer::take(|name| donated.take_optional(name)),
            pausing: None,
            stopped_before: BTreeSet::new(),
            oom: OomWatch::take(|name| donated.take_optional(name)),
            news: Vec::new(),
            namespaces: None,
            boot: Some(boot),
            starting: None,
            lifeline: donated.take_optional("lifeline"),
            caller_gone: false,
            gofer_gone: false,
            deadline: None,
            circumstances: ExitEvidence::default(),
            rules: ExecConfig {
                filter: plan.init.seccomp,
                namespaces: (with_init - CloneFlags::NEWPID - followed).bits(),
                followed,
                own_pids: with_init.contains(CloneFlags::NEWPID),
                terminal: plan.init.process.terminal.is_some(),
                oom_score_adj: plan.init.oom_score_adj,
                pause: plan.pause,
            },
            timeout: plan.timeout,
            exit_record: donated.take("exit")?,
            user_log,
            memory,
        })
    }

    fn find_init(&self) -> Option<Member> {
        members::find(self.proc.as_ref()?.as_fd(), self.init_pid_inside).ok()?
    }

    /// Another container's processes are about to share its pid namespace.
    pub(super) fn share_pids(&mut self) {
        self.in_pod = true;
    }

    /// Whether init is on its way out: in the kernel, waiting for the rest of its pid namespace.
    pub(in crate::sandbox) fn is_ending(&self) -> bool {
        let alive = self.phase != InitPhase::Ended && !self.circumstances.killed_by_us();
        !alive || self.find_init().is_none_or(|init| init.is_exiting())
    }

    /// Whether it got as far as waiting for its start, and has not ended since.
    pub(super) fn is_created(&self) -> bool {
        matches!(self.phase, InitPhase::Created | InitPhase::Running | InitPhase::Paused)
    }

    /// The OOM score that the sandbox has for its sake.
    pub(super) fn oom_score(&self) -> Option<i32> {
        self.rules.oom_score_adj.filter(|_| self.is_alive() && !self.rules.pause)
    }

    /// Why `step` cannot be taken: it has ended, or it is too early or too late in its life for that.
    pub(in crate::sandbox) fn not_in_phase(&self, step: &'static str) -> Error {
        if !self.is_alive() {
            return self.has_ended(step);
        }
        let problem = format!("the container is {:?}", self.phase).to_lowercase();
        Error::new(ErrorKind::InvalidInput, step, problem)
    }

    pub(in crate::sandbox) fn has_ended(&self, step: &'static str) -> Error {
        let problem = format!("container {:?} has ended", self.id.as_str());
        Error::new(ErrorKind::Ended, step, problem)
    }

    pub(super) fn is_alive(&self) -> bool {
        self.phase != InitPhase::Ended
    }

    /// Init is readable: it is ready, it failed, or `execve` closed the connection. The client to go on serving, if one
    /// was answered.
    pub(super) fn hear_init(&mut self) -> Option<Client> {
        if let Some(boot) = self.boot.take() {
            self.hear_of_creation(&boot);
            return None;
        }
        match self.init.channel.receive_now::<StartReport>() {
            Ok(Delivery { message: StartReport::Failed(failure), .. }) => {
                self.answer_start(&Reply::Failed(failure))
            }
            Ok(Delivery { message: StartReport::Listener, fds }) => {
                // The client hands the listener to the agent, and init waits for that over a connection of its own. If
                // the client is gone, that connection is closed here, and init ends.
                if let Some(client) = &self.starting
                    && let Some(listener) = Listener::of(fds)
                {
                    let _ = client.channel.send(&Reply::Listener, &listener.named());
                }
                None
            }
            Err(_) => {
                self.phase = InitPhase::Running;
                self.note_start();
                self.deadline = self.timeout.and_then(|limit| Instant::now().checked_add(limit));
                let client = self.answer_start(&Reply::Done);
                sys::trim_heap();
                sys::forget_code();
                client
            }
        }
    }

    fn hear_of_creation(&mut self, boot: &Channel) {
        let failure = match self.init.channel.receive_now::<InitReport>() {
            Ok(Delivery { message: InitReport::Ready { pid }, fds }) => match self.take_over(pid, fds) {
                Ok(terminal) => {
                    self.phase = InitPhase::Created;
                    let mut passed = vec![("init", self.init.pidfd.as_fd())];
                    passed.extend(terminal.as_ref().map(|terminal| ("terminal", terminal.as_fd())));
                    // A caller that is gone by now cut the lifeline too.
                    let _ = boot.send_now(&SandboxReport::Ready, &passed);
                    return;
                }
                Err(error) => super::packed(Actor::Sandbox, &error),
            },
            Ok(Delivery { message: InitReport::Failed(failure), .. }) => failure,
            Err(_) => {
                let died = Error::new(ErrorKind::HelperDied, "init", "ended before it was ready");
                super::packed(Actor::Init, &died)
            }
        };
        let _ = boot.send_now(&SandboxReport::Failed(failure), &[]);
        self.kill(Cause::Itself);
    }

    /// Takes what init hands over when it is ready, and goes where it is. Returns the master of its terminal, which is the
    /// caller's alone from here on.
    fn take_over(&mut self, pid: i32, mut handles: Received) -> Result<Option<OwnedFd>> {
        let root = handles.take("root")?;
        namespaces::follow(self.rules.followed, &mut handles, root.as_fd())?;
        self.proc = Some(handles.take("proc")?);
        self.namespaces = Some(InitNamespaces::take(&mut handles)?);
        self.root = Some(root);
        let terminal = self.rules.terminal.then(|| handles.take("terminal")).transpose()?;
        self.layers.take(&mut handles)?;
        self.init_pid_inside = pid;
        handles.finish()?;
        Ok(terminal)
    }

    /// Answers with the container's own proc, and which of the `helpers` are seen in it.
    pub(super) fn hand_over_proc(&self, client: &Client, helpers: &[i32]) -> Result<()> {
        let Some(proc) = &self.proc else {
            return Err(Error::new(ErrorKind::InvalidInput, "processes", "there are none yet"));
        };
        let helpers = self.helpers_inside(helpers);
        client.channel.send_now(&Reply::Processes { helpers }, &[("proc", proc.as_fd())])
    }

    /// The container's root, to work in.
    pub(in crate::sandbox) fn root(&self, step: &'static str) -> Result<BorrowedFd<'_>> {
        match &self.root {
            Some(root) if self.is_alive() => Ok(root.as_fd()),
            _ => Err(self.not_in_phase(step)),
        }
    }

    /// Whether init still has something to say: until it has executed the program.
    pub(super) fn init_speaks(&self) -> bool {
        self.phase == InitPhase::Preparing || (self.phase == InitPhase::Created && self.starting.is_some())
    }

    /// Whether the gofer's end means the container's. Not before create is done: until then what comes from the gofer
    /// is init's, and so is its end.
    pub(super) fn watches_gofer(&self) -> bool {
        !self.gofer_gone && matches!(self.phase, InitPhase::Created | InitPhase::Running | InitPhase::Paused)
    }

    fn answer_start(&mut self, reply: &Reply) -> Option<Client> {
        self.starting.take()?.reply(reply)
    }

    pub(super) fn kill(&mut self, cause: Cause) {
        self.circumstances.ended_by = Some((cause, libc::SIGKILL));
        let _ = rustix::process::pidfd_send_signal(&self.init.pidfd, rustix::process::Signal::KILL);
        self.let_run();
    }

    /// The lifeline was cut.
    pub(super) fn lose_caller(&mut self) {
        self.lifeline = None;
        self.caller_gone = true;
        self.kill(Cause::LifelineCut);
    }

    /// Whether its caller is gone, noticed or not: it may have been killed for another reason a moment before.
    fn has_lost_caller(&self) -> bool {
        let hung_up = |lifeline: &OwnedFd| wait_readable_until(lifeline.as_fd(), Some(Instant::now()));
        self.caller_gone || self.lifeline.as_ref().is_some_and(|lifeline| hung_up(lifeline).unwrap_or(false))
    }

    pub(super) fn time_out(&mut self) {
        self.deadline = None;
        let after_ms = self.timeout.map_or(0, |limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        self.kill(Cause::TimedOut { after_ms });
    }

    fn note_start(&mut self) {
        let now = exit::now_ms();
        self.circumstances.started_at_ms = Some(now);
        if let Some(log) = &self.user_log {
            log.started(now);
        }
    }

    /// Init is gone. The record first: whoever is told can read it. Returns init's end and the client that is answered
    /// by it.
    pub(super) fn end(&mut self) -> (Option<Usage>, Option<Client>) {
        let usage: Option<Usage> = sys::wait4(self.init.pid).ok();
        let mut answered = None;
        // A program that ended before its connection's end was seen did run.
        if self.starting.is_some() && self.phase == InitPhase::Created {
            match self.init.channel.receive_now::<StartReport>() {
                Ok(Delivery { message: StartReport::Failed(failure), .. }) => {
                    answered = self.answer_start(&Reply::Failed(failure));
                }
                Ok(Delivery { message: StartReport::Listener, .. }) => {}
                Err(_) => self.note_start(),
            }
        }
        if let Some((oom, peak)) = &self.memory {
            self.circumstances.memory = OomEvidence::read(oom.as_fd(), peak.as_ref().map(AsFd::as_fd)).ok();
        }
        let record = exit::conclude(usage, &self.circumstances, exit::now_ms());
        // Nobody to tell if it fails: the record then says nothing, and readers report that the sandbox was lost.
        let recorded = rustix::io::pwrite(&self.exit_record, &record.encode(), 0).is_ok();
        if let Some(log) = &self.user_log {
            log.ended(&record);
        }
        self.phase = InitPhase::Ended;
        // The counter is ahead of its notification: without a look of our own, a kill that ends init is told of too late.
        self.look_for_oom();
        self.news.push(SandboxEvent::Ended);
        // Without a record the cgroups are all there is to tell how it ended.
        if recorded && self.has_lost_caller() {
            self.leave_nothing();
        }
        // Where nobody is left to be told from others, its mounts can go.
        if !self.shares_pids() || self.members(&[]).is_ok_and(|mut members| members.next().is_none()) {
            self.namespaces = None;
        }
        self.lifeline = None;
        self.deadline = None;
        self.root = None;
        self.layers = Layers::default();
        let answered = self.answer_start(&Reply::Done).or(answered).or_else(|| self.give_up_pausing());
        (usage, answered)
    }

    /// Ends what outlives init, in a pid namespace that is not its own, and has the gofer remove the cgroups: nobody is
    /// there to do either.
    fn leave_nothing(&self) {
        if let Some(freezer) = &self.freezer {
            let _ = freezer.kill();
        }
        // A gofer that is gone leaves them to whoever deletes the record.
        let _ = self.init.gofer.send_now(&CallerGone {}, &[]);
    }
}

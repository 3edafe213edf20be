//! The sandbox's loop: one thread, one poll(2), no timer but the ones a person asked for.
//!
//! ```text
//!   boot channel      ready / failed to the caller, then closed
//!   init's channel    ready (create is done), failed, or end of file (the program was executed)
//!   init's pidfd      the end: exit record, replies, _exit with its status
//!   lifeline          the creator is gone: kill
//!   gofer             it is gone: kill
//!   control socket    one connection per client, one request at a time, one reply each
//!   signalfd          signals sent to this process are meant for init
//! ```

use super::exit::{self, Circumstances};
use super::init::Init;
use super::resolve;
use crate::cgroup::{EVIDENCE_OOM, EVIDENCE_PEAK, OomEvidence};
use crate::error::{Actor, Error, ErrorKind, OsContext, RemoteFailure, Result};
use crate::plan::SandboxPlan;
use crate::process::{Channel, Received};
use crate::protocol::message::{InitPhase, Order, Reply, Report, Request};
use crate::state::Cause;
use crate::sys::{self, Usage};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{SocketFlags, accept_with};
use rustix::process::Pid;
use std::io::Read;
use std::time::{Duration, Instant};

/// The most clients at once. The socket is reachable by its owner only; the cap bounds what a broken one can hold.
const MAX_CONNECTIONS: usize = 64;
/// How long a connected client may say nothing.
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// The line of `/proc/PID/status` with the signals that have handlers.
const CAUGHT: &str = "SigCgt:";
/// The line with the ignored ones.
const IGNORED: &str = "SigIgn:";

/// One client.
struct Connection {
    channel: Channel,
    /// When it is dropped if it says nothing; the creator's own connection has no deadline.
    deadline: Option<Instant>,
}

pub(super) struct Monitor {
    init: Init,
    phase: InitPhase,
    /// The container's own proc, from init.
    proc: Option<OwnedFd>,
    listener: OwnedFd,
    lifeline: Option<OwnedFd>,
    gofer_gone: bool,
    exit_record: OwnedFd,
    memory: Option<(OwnedFd, Option<OwnedFd>)>,
    signals: SignalFd,
    connections: Vec<Connection>,
    /// The client that waits for `Start` to be answered.
    starting: Option<Connection>,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    circumstances: Circumstances,
}

/// What one turn of the loop found, by value, so that handling may change the lists that were polled.
#[derive(Default)]
struct Turn {
    init_ended: bool,
    init_spoke: bool,
    lifeline_cut: bool,
    gofer_gone: bool,
    signalled: bool,
    connecting: bool,
    speaking: Vec<usize>,
}

impl Monitor {
    pub(super) fn new(plan: &SandboxPlan, init: Init, mut donated: Received) -> Result<Self> {
        let forwarded = forwarded_signals();
        forwarded.thread_block().os(|| "sigprocmask(SIG_BLOCK)")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let creator = Channel::from(donated.take("creator")?);
        let memory =
            donated.take_optional(EVIDENCE_OOM).map(|oom| (oom, donated.take_optional(EVIDENCE_PEAK)));
        Ok(Self {
            init,
            phase: InitPhase::Preparing,
            proc: None,
            listener: donated.take("control")?,
            lifeline: donated.take_optional("lifeline"),
            gofer_gone: false,
            exit_record: donated.take("exit")?,
            memory,
            signals: SignalFd::with_flags(&forwarded, flags).os(|| "signalfd()")?,
            connections: vec![Connection { channel: creator, deadline: None }],
            starting: None,
            timeout: plan.timeout,
            deadline: None,
            circumstances: Circumstances::default(),
        })
    }

    /// Serves until init is gone. Returns the exit status of this process.
    pub(super) fn run(mut self, boot: Channel) -> i32 {
        let mut boot = Some(boot);
        loop {
            let turn = self.wait();
            if turn.init_spoke {
                self.hear_init(&mut boot);
            }
            if turn.init_ended {
                return self.end();
            }
            if turn.lifeline_cut {
                self.lifeline = None;
                self.kill(Cause::LifelineCut);
            }
            if turn.gofer_gone {
                // Without it nobody could reach the container's files any more.
                self.gofer_gone = true;
                self.kill(Cause::GoferLost);
            }
            if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.deadline = None;
                let after_ms =
                    self.timeout.map_or(0, |limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
                self.kill(Cause::TimedOut { after_ms });
            }
            if turn.signalled {
                self.forward_signals();
            }
            self.serve(turn.speaking);
            if turn.connecting {
                self.accept();
            }
        }
    }

    fn wait(&self) -> Turn {
        let mut fds = vec![
            PollFd::new(&self.init.pidfd, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        let speaks = self.phase == InitPhase::Preparing || self.starting.is_some();
        if speaks {
            fds.push(PollFd::new(&self.init.channel, PollFlags::IN));
        }
        if let Some(lifeline) = &self.lifeline {
            fds.push(PollFd::new(lifeline, PollFlags::IN));
        }
        // Not before create is done: until then what comes from the gofer is init's, and so is its end.
        let watched = self.phase != InitPhase::Preparing && !self.gofer_gone;
        if watched {
            fds.push(PollFd::new(&self.init.gofer, PollFlags::empty()));
        }
        let clients = fds.len();
        fds.extend(self.connections.iter().map(|client| PollFd::new(&client.channel, PollFlags::IN)));
        let timeout = self.time_left();
        if poll(&mut fds, timeout.as_ref()).is_err() {
            return Turn::default();
        }
        let ready = |index: usize| !fds[index].revents().is_empty();
        Turn {
            init_ended: ready(0),
            signalled: ready(1),
            connecting: ready(2),
            init_spoke: speaks && ready(3),
            lifeline_cut: self.lifeline.is_some() && ready(clients - 1 - usize::from(watched)),
            gofer_gone: watched && ready(clients - 1),
            speaking: (clients..fds.len())
                .filter(|index| ready(*index))
                .map(|index| index - clients)
                .collect(),
        }
    }

    fn time_left(&self) -> Option<Timespec> {
        let clients = self.connections.iter().filter_map(|client| client.deadline);
        let next = clients.chain(self.deadline).min()?;
        // Rounded up: waking just before the deadline would spin.
        let left = next.saturating_duration_since(Instant::now()) + Duration::from_micros(100);
        let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        Some(Timespec { tv_sec: seconds, tv_nsec: left.subsec_nanos().into() })
    }

    /// Ready, failed, or gone from sight into `execve`.
    fn hear_init(&mut self, boot: &mut Option<Channel>) {
        let heard = self.init.channel.receive_now::<Report>();
        match (heard, boot.take()) {
            (Ok(ready), Some(boot)) if ready.message == Report::Ready => {
                self.proc = ready.fds.into_iter().next();
                self.phase = InitPhase::Created;
                // A caller that is gone by now cut the lifeline too.
                let _ = boot.send(&Report::Ready, &[self.init.pidfd.as_fd()]);
            }
            (Ok(other), Some(boot)) => {
                let _ = boot.send(&other.message, &[]);
                self.kill(Cause::Itself);
            }
            (Err(_), Some(boot)) => {
                let died = Error::new(ErrorKind::HelperDied, "init", "ended before it was ready");
                let _ = boot.send(&Report::Failed(RemoteFailure::pack(Actor::Init, &died)), &[]);
                self.kill(Cause::Itself);
            }
            (Ok(other), None) => {
                let reply = match other.message {
                    Report::Failed(failure) => Reply::Failed(failure),
                    Report::Ready => return,
                };
                self.answer_start(&reply);
            }
            (Err(_), None) => {
                self.phase = InitPhase::Running;
                self.circumstances.started_at_ms = Some(exit::now_ms());
                self.deadline = self.timeout.and_then(|limit| Instant::now().checked_add(limit));
                self.answer_start(&Reply::Done);
                sys::trim_heap();
            }
        }
    }

    fn answer_start(&mut self, reply: &Reply) {
        if let Some(client) = self.starting.take()
            && client.channel.send(reply, &[]).is_ok()
        {
            self.connections.push(client);
        }
    }

    fn kill(&mut self, cause: Cause) {
        self.circumstances.ended_by = Some((cause, libc::SIGKILL));
        let _ = rustix::process::pidfd_send_signal(&self.init.pidfd, rustix::process::Signal::KILL);
    }

    /// Sends `number` to init. The kernel drops what PID 1 has no handler for; here such a signal does what it would
    /// do to any other process.
    fn signal(&mut self, number: i32) -> Result<()> {
        let signal = rustix::process::Signal::from_named_raw(number);
        let deliver = match self.disposition(number) {
            Disposition::Handled => number,
            Disposition::Default if ends_by_default(number) => libc::SIGKILL,
            Disposition::Default => number,
        };
        if ends_by_default(number) {
            self.circumstances.ended_by = Some((Cause::Requested { signal: number }, deliver));
        }
        let sent = match signal {
            _ if deliver == libc::SIGKILL => {
                rustix::process::pidfd_send_signal(&self.init.pidfd, rustix::process::Signal::KILL)
            }
            Some(signal) => rustix::process::pidfd_send_signal(&self.init.pidfd, signal),
            None => sys::pidfd_send_raw(self.init.pidfd.as_fd(), number),
        };
        sent.os(|| format!("pidfd_send_signal(init, {number})"))
    }

    fn disposition(&self, number: i32) -> Disposition {
        if number == libc::SIGKILL || number == libc::SIGSTOP {
            return Disposition::Handled;
        }
        let Some(status) = self.proc.as_ref().and_then(|proc| self.read_status(proc)) else {
            return Disposition::Default;
        };
        let mask = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            u64::from_str_radix(line.trim(), 16).unwrap_or_default()
        };
        let bit = 1_u64 << (number - 1);
        if (mask(CAUGHT) | mask(IGNORED)) & bit != 0 { Disposition::Handled } else { Disposition::Default }
    }

    fn read_status(&self, proc: &OwnedFd) -> Option<String> {
        // Init is PID 1 of the proc it mounted, unless the container shares a pid namespace.
        let file = resolve::open_status(proc.as_fd(), "1/status").ok()?;
        let mut text = String::new();
        std::fs::File::from(file).take(16 << 10).read_to_string(&mut text).ok()?;
        Some(text)
    }

    fn forward_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            if (1..=64).contains(&number) {
                // Gone already, or not allowed: whoever sent it learns from the container's end, as with any process.
                let _ = self.signal(number);
            }
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC;
        let Ok(socket) = accept_with(&self.listener, flags) else { return };
        // Everybody inside the container has a pid here; a peer from outside has none that we can see. Not through
        // rustix: its type for a peer's pid has no place for that 0.
        let peer = getsockopt(&socket, PeerCredentials);
        let outside = peer.is_ok_and(|peer| rustix::process::getpid() != Pid::INIT || peer.pid() == 0);
        if outside && self.connections.len() < MAX_CONNECTIONS {
            let deadline = Some(Instant::now() + IDLE_LIMIT);
            self.connections.push(Connection { channel: socket.into(), deadline });
        }
    }

    fn serve(&mut self, speaking: Vec<usize>) {
        // From the back, so that removing one does not move those still to come.
        for index in speaking.into_iter().rev() {
            let client = self.connections.swap_remove(index);
            if let Some(client) = self.serve_one(client) {
                self.connections.push(client);
            }
        }
        let now = Instant::now();
        self.connections.retain(|client| client.deadline.is_none_or(|deadline| deadline > now));
    }

    /// Answers one request. `None` if the client is done, broken, or waits elsewhere.
    fn serve_one(&mut self, mut client: Connection) -> Option<Connection> {
        let request = client.channel.receive_now::<Request>().ok()?.message;
        client.deadline = client.deadline.map(|_| Instant::now() + IDLE_LIMIT);
        let reply = match request {
            Request::Start if self.phase == InitPhase::Created && self.starting.is_none() => {
                return match self.init.channel.send(&Order {}, &[]) {
                    Ok(()) => {
                        self.starting = Some(client);
                        None
                    }
                    Err(error) => client.reply(&failed(&error)),
                };
            }
            Request::Start => failed(&Error::new(
                ErrorKind::InvalidInput,
                "start",
                format!("the container is {:?}, not created", self.phase).to_lowercase(),
            )),
            Request::Signal { number } if (1..=64).contains(&number) => match self.signal(number) {
                Ok(()) => Reply::Done,
                Err(error) => failed(&error),
            },
            Request::Signal { number } => {
                failed(&Error::new(ErrorKind::InvalidInput, "signal", format!("{number} is not a signal")))
            }
            Request::Kill => {
                self.kill(Cause::Requested { signal: libc::SIGKILL });
                Reply::Done
            }
            Request::Detach => {
                self.lifeline = None;
                Reply::Done
            }
            Request::Query => Reply::State { phase: self.phase },
        };
        client.reply(&reply)
    }

    /// Init is gone. The record first: whoever is told can read it.
    fn end(mut self) -> i32 {
        let usage: Option<Usage> = sys::wait4(self.init.pid).ok();
        // A program that ended before its connection's end was seen did run.
        if self.starting.is_some() && self.phase == InitPhase::Created {
            match self.init.channel.receive_now::<Report>() {
                Ok(report) => {
                    if let Report::Failed(failure) = report.message {
                        self.answer_start(&Reply::Failed(failure));
                    }
                }
                Err(_) => self.circumstances.started_at_ms = Some(exit::now_ms()),
            }
        }
        if let Some((oom, peak)) = &self.memory {
            self.circumstances.memory = OomEvidence::read(oom.as_fd(), peak.as_ref().map(AsFd::as_fd)).ok();
        }
        let record = exit::conclude(usage, &self.circumstances, exit::now_ms());
        // Nobody to tell if it fails: the record then says nothing, and readers report that the sandbox was lost.
        let _ = rustix::io::pwrite(&self.exit_record, &record.encode(), 0);
        self.phase = InitPhase::Ended;
        self.answer_start(&Reply::Done);
        exit::code_of(usage)
    }
}

impl Connection {
    fn reply(self, reply: &Reply) -> Option<Self> {
        self.channel.send(reply, &[]).ok().map(|()| self)
    }
}

fn failed(error: &Error) -> Reply {
    Reply::Failed(RemoteFailure::pack(Actor::Sandbox, error))
}

/// What init does about a signal.
enum Disposition {
    /// It has a handler or ignores it: the kernel delivers.
    Handled,
    /// Neither: to a PID 1 the kernel does nothing.
    Default,
}

/// Whether the default action of a signal ends a process (signal(7), "Term" and "Core").
fn ends_by_default(number: i32) -> bool {
    !matches!(
        number,
        libc::SIGCHLD
            | libc::SIGURG
            | libc::SIGWINCH
            | libc::SIGCONT
            | libc::SIGSTOP
            | libc::SIGTSTP
            | libc::SIGTTIN
            | libc::SIGTTOU
    )
}

/// What is passed on to init when it is sent to this process: everything a person or a supervisor sends.
fn forwarded_signals() -> SigSet {
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

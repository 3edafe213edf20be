//! What a container value holds besides its phase: the record, the processes, the caller's ends of the streams.

use super::live::pod::PodSandbox;
use super::{Exit, teardown};
use crate::error::{Error, ErrorKind, Result};
use crate::helper::spawn::reap;
use crate::link::client;
use crate::link::client::PendingReply;
use crate::process::channel::wait_readable_until;
use crate::process::console::Pty;
use crate::process::{Channel, boot_id};
use crate::state::{CONTROL_SOCKET, Found, Record, RunDir, StateLock, StateRoot};
use crate::wire::message::{InitPhase, Operation, Reply, Request};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::borrow::Borrow;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

/// Where the container is on disk, and its record as last seen.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) root: StateRoot,
    pub(super) record: Box<Record>,
    /// `None` until the id is claimed.
    pub(super) found: Option<Found>,
    /// What ties the container to this value; `None` if it is loaded or detached.
    pub(super) tether: Option<DropGuard>,
}

impl Handle {
    pub(super) fn found(&self) -> Result<&Found> {
        self.found.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "container",
                format!("{:?} was not created yet", self.record.id.as_str()),
            )
        })
    }

    /// Takes the lock and makes sure that nobody changed the container since this value last saw it.
    pub(super) fn lock_unchanged(&mut self) -> Result<StateLock> {
        let lock = self.root.lock(self.found()?)?;
        let now = lock.load()?;
        if now.generation() == self.record.generation() && now.created_at == self.record.created_at {
            return Ok(lock);
        }
        let actual = teardown::observe(&now)?;
        let problem = format!("{:?} was changed by another process and is {actual} now", now.id.as_str());
        *self.record = now;
        Err(Error::wrong_state(actual, "container", problem))
    }

    /// The run directory of its sandbox, where the control socket is: in a pod, the root container's.
    pub(super) fn sandbox_run_dir(&self) -> Result<RunDir> {
        if self.record.sandbox_id == self.record.id {
            return self.root.run_dir(self.found()?);
        }
        self.root.run_dir(&self.root.find(self.record.sandbox_id.as_str())?)
    }

    /// How it ended.
    pub(super) fn exit(&self) -> Result<Exit> {
        read_exit(&self.root, self.found()?, &self.record.cgroups)
    }
}

/// How a container ended: by its record, which the sandbox writes, else by what its cgroups counted. Of one that was
/// deleted meanwhile by somebody else neither is left.
pub(super) fn read_exit(root: &StateRoot, found: &Found, cgroups: &[PathBuf]) -> Result<Exit> {
    match root.run_dir(found).and_then(|run_dir| run_dir.exit_record()) {
        Ok(Some(record)) => Ok(Exit::recorded(&record)),
        Err(error) if *error.kind() != ErrorKind::NotFound => Err(error),
        Ok(None) | Err(_) => Ok(Exit::unrecorded(crate::cgroup::stats::read(cgroups)?.memory)),
    }
}

/// The caller's ends of what the workload reads and writes.
#[derive(Debug, Default)]
pub struct Streams {
    /// Of streams that are pipes: stdin, stdout, stderr.
    pub(super) pipes: [Option<File>; 3],
    /// Of its terminal.
    pub(super) pty: Option<Pty>,
}

/// The processes of a container that was seen alive.
#[derive(Debug)]
pub struct SandboxLink {
    /// The process whose end is the container's: the sandbox, or in a pod its init.
    pub(super) pidfd: OwnedFd,
    /// In a pod, a connection that ends when the sandbox has written down how the container ended.
    pub(super) watch: Option<OwnedFd>,
    pub(super) sandbox_pid: i32,
    pub(super) init_pid: i32,
    pub(super) control: Control,
}

/// How to reach the sandbox.
#[derive(Debug)]
pub(super) enum Control {
    /// The connection made at create.
    Creator(Channel),
    /// A new connection for each request.
    ByName,
}

/// A connection, ours for good or for one request.
pub(super) enum Connection<'a> {
    Creator(&'a Channel),
    Own(Channel),
}

impl Borrow<Channel> for Connection<'_> {
    fn borrow(&self) -> &Channel {
        match self {
            Self::Creator(channel) => channel,
            Self::Own(channel) => channel,
        }
    }
}

impl SandboxLink {
    /// Readable when the container has ended and its record says how.
    pub(super) fn ended(&self) -> BorrowedFd<'_> {
        self.watch.as_ref().unwrap_or(&self.pidfd).as_fd()
    }

    /// Asks the sandbox.
    pub(super) fn ask(&self, core: &Handle, operation: Operation) -> Result<Reply> {
        self.begin(core, operation)?.reply()
    }

    /// Asks the sandbox, and leaves the reply for later.
    pub(super) fn begin(&self, core: &Handle, operation: Operation) -> Result<PendingReply<Connection<'_>>> {
        client::begin(self.line(core)?, &Request { container: Some(core.record.id.clone()), operation })
    }

    /// Asks the sandbox for something that is answered on a connection of its own: returns our end of it. The other
    /// end goes along, and `fds` after it.
    pub(super) fn connect(
        &self,
        core: &Handle,
        operation: Operation,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Channel> {
        let (ours, theirs) = Channel::pair()?;
        let fds: Vec<_> = std::iter::once(theirs.as_fd()).chain(fds.iter().copied()).collect();
        let request = Request { container: Some(core.record.id.clone()), operation };
        let line = self.line(core)?;
        let channel: &Channel = line.borrow();
        channel.send(&request, &fds).map_err(Error::from_sandbox)?;
        Ok(ours)
    }

    fn line(&self, core: &Handle) -> Result<Connection<'_>> {
        Ok(match &self.control {
            Control::Creator(channel) => Connection::Creator(channel),
            Control::ByName => {
                Connection::Own(client::connect_in(core.sandbox_run_dir()?.as_fd(), CONTROL_SOCKET)?)
            }
        })
    }

    /// Waits until the sandbox has ended, until `deadline` if there is one. Whether it has.
    pub(super) fn wait_until(&self, deadline: Option<Instant>) -> Result<bool> {
        wait_readable_until(self.ended(), deadline)
    }
}

/// What ties a container to the value that made it: dropping the value destroys the container.
#[derive(Debug)]
pub(super) struct DropGuard {
    /// Our end of the lifeline: the sandbox watches the other one.
    _lifeline: OwnedFd,
    /// Where the record to undo is.
    root: StateRoot,
    found: Found,
    /// Which container of that name it is.
    created_at: u64,
    /// The children to collect; `None` once that is done.
    children: Option<Vec<OwnedFd>>,
    /// Whether the container is this value's to destroy, and not destroyed yet.
    holds: bool,
}

impl DropGuard {
    pub(super) fn new(lifeline: OwnedFd, core: &Handle, found: Found, children: Vec<OwnedFd>) -> Self {
        let (root, created_at) = (core.root.clone(), core.record.created_at);
        Self { _lifeline: lifeline, root, found, created_at, children: Some(children), holds: true }
    }

    /// Lets the container go. The children are collected when they end, at the next call into this crate after that.
    pub(super) fn cut(mut self) {
        self.holds = false;
        if let Some(children) = self.children.take() {
            collect_later(children);
        }
    }

    /// Destroys the container and collects its processes. What fails can be tried again.
    pub(super) fn destroy(&mut self) -> Result<()> {
        if !self.holds {
            return Ok(());
        }
        // By what this value holds first: a record that cannot be read must keep nothing alive.
        for child in self.children.iter().flatten() {
            let _ = rustix::process::pidfd_send_signal(child, rustix::process::Signal::KILL);
        }
        let lock = self.root.lock(&self.found);
        let destroyed = lock.and_then(|lock| teardown::destroy(lock, Some(self.created_at)));
        for child in self.children.take().iter().flatten() {
            reap(child.as_fd());
        }
        match destroyed {
            Err(error) if *error.kind() != ErrorKind::NotFound => Err(error),
            _ => {
                self.holds = false;
                Ok(())
            }
        }
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        // A destructor has nobody to tell; what is left keeps its record and can be deleted by id.
        if let Err(error) = self.destroy() {
            tracing::debug!(container = self.found.id(), %error, "destroy on drop");
        }
    }
}

/// Children of detached containers whose end nobody waits for.
static LEFT_BEHIND: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

fn collect_later(children: Vec<OwnedFd>) {
    let mut left = LEFT_BEHIND.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    left.extend(children);
}

/// Collects what has ended of the containers this program let go of, so that they are no zombies of the caller's.
pub(super) fn collect_ended_children() {
    let Ok(mut left) = LEFT_BEHIND.try_lock() else { return };
    left.retain(|child| {
        let ended = has_ended(child.as_fd());
        if ended {
            reap(child.as_fd());
        }
        !ended
    });
}

/// Whether the process behind `pidfd` has ended.
pub(super) fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    wait_readable_until(pidfd, Some(Instant::now())).unwrap_or(false)
}

/// The processes of a container found on disk, if they are alive.
pub(super) fn find_live(root: &StateRoot, record: &Record) -> Result<Option<SandboxLink>> {
    if record.boot_id != boot_id()? {
        return Ok(None);
    }
    let Some(identity) = &record.sandbox else { return Ok(None) };
    let Some(sandbox) = identity.pidfd(&record.boot_id)? else { return Ok(None) };
    if !identity.is_alive(&record.boot_id)? {
        return Ok(None);
    }
    let init_pid = record.init.as_ref().map_or(0, |init| init.pid);
    if record.sandbox_id != record.id {
        return find_live_in_pod(root, record, identity.pid);
    }
    Ok(Some(SandboxLink {
        pidfd: sandbox,
        watch: None,
        sandbox_pid: identity.pid,
        init_pid,
        control: Control::ByName,
    }))
}

/// As [`find_live`]: the sandbox stands, and knows about the container.
fn find_live_in_pod(root: &StateRoot, record: &Record, sandbox_pid: i32) -> Result<Option<SandboxLink>> {
    let Some(init) = &record.init else { return Ok(None) };
    let gone = |error: Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::Ended | ErrorKind::WrongState { .. } => Ok(None),
        _ => Err(error),
    };
    let seat = match PodSandbox::find(root, &record.sandbox_id) {
        Ok(seat) => seat,
        Err(error) => return gone(error),
    };
    let query = Request { container: Some(record.id.clone()), operation: Operation::Query };
    let asked = seat.connect().and_then(|channel| client::begin(channel, &query)?.reply());
    match asked {
        Ok(Reply::State { phase: InitPhase::Ended }) => return Ok(None),
        Ok(_) => {}
        Err(error) => return gone(error),
    }
    let Some(pidfd) = init.pidfd(&record.boot_id)? else { return Ok(None) };
    let watch = match seat.watch(&record.id) {
        Ok(watch) => Some(watch),
        Err(error) => return gone(error),
    };
    Ok(Some(SandboxLink { pidfd, watch, sandbox_pid, init_pid: init.pid, control: Control::ByName }))
}

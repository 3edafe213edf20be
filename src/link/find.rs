//! From a record to the live processes that it names.

use super::address::SandboxAddress;
use super::client;
use super::pod::{PodSandbox, check_is_root};
use super::sandbox::SandboxLink;
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::id::ContainerId;
use crate::process::channel::wait_readable_until;
use crate::process::{SeenFrom, boot_id};
use crate::state::{CONTROL_SOCKET, Record, StateRoot, Status};
use crate::wire::control::{InitPhase, Operation, Reply};
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// The status of a container as the kernel has it: the recorded one, or `Stopped` if its sandbox is gone.
pub(crate) fn observe(record: &Record) -> Result<Status> {
    let recorded = record.status();
    if recorded == Status::Stopped {
        return Ok(recorded);
    }
    let holds = match (reach(record)?, &record.sandbox) {
        (Reach::OtherBoot, _) => false,
        _ if recorded == Status::Creating => true,
        (_, None) => false,
        (Reach::Here, Some(sandbox)) => sandbox.is_alive(&record.boot_id)? && !ends_with_init(record)?,
        // A pod's sandbox outlives the container.
        (Reach::Elsewhere, Some(_)) if record.sandbox_id != record.id && listens(record)? => {
            return Err(elsewhere(record));
        }
        (Reach::Elsewhere, Some(_)) => listens(record)?,
    };
    Ok(if holds { recorded } else { Status::Stopped })
}

/// Whether the container of this sandbox has ended with its init. The sandbox then ends as soon as the exit record is
/// written. Until then its own liveness would contradict a program that saw the process of the container's state end.
fn ends_with_init(record: &Record) -> Result<bool> {
    /// In this time a sandbox ends that is not held up.
    const LIMIT: Duration = Duration::from_secs(2);
    let (Some(init), Some(sandbox)) = (&record.init, &record.sandbox) else { return Ok(false) };
    // The sandbox of a pod goes on.
    if record.sandbox_id != record.id || init.is_alive(&record.boot_id)? {
        return Ok(false);
    }
    match sandbox.pidfd(&record.boot_id)? {
        Some(sandbox) => wait_readable_until(sandbox.as_fd(), Some(Instant::now() + LIMIT)),
        None => Ok(true),
    }
}

/// What the pids and start times in a record mean to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nothing: they are of another boot, and every process of that has ended.
    OtherBoot,
    /// The processes that they meant when they were recorded.
    Here,
    /// Other processes, or none: this process is in another pid or time namespace. Only the sandbox's socket leads to the
    /// container, because its path means the same.
    Elsewhere,
}

pub(crate) fn reach(record: &Record) -> Result<Reach> {
    Ok(if record.boot_id != boot_id()? {
        Reach::OtherBoot
    } else if record.seen_from == SeenFrom::here()? {
        Reach::Here
    } else {
        Reach::Elsewhere
    })
}

/// The flags to open a run directory, whose socket is then reached through it.
pub(super) const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Whether the container's sandbox takes connections, which it does as long as it lives.
fn listens(record: &Record) -> Result<bool> {
    let Some(run_dir) = record.control_socket.parent() else { return Ok(false) };
    let directory = match rustix::fs::open(run_dir, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(false),
        opened => opened.os(|| format!("open({run_dir:?}, O_DIRECTORY)"))?,
    };
    match client::connect_in(directory.as_fd(), CONTROL_SOCKET) {
        Err(error) if *error.kind() == ErrorKind::Ended => Ok(false),
        connected => connected.map(|_| true),
    }
}

fn elsewhere(record: &Record) -> Error {
    let why = format!(
        "container {:?} runs, and was created in another one than this process is in: its pids mean other processes here",
        record.id.as_str()
    );
    Error::unsupported("pid and time namespace", why)
        .hint("use it from there; to delete it by force is possible from here")
}

/// The processes of a recorded container, if they are alive.
pub(crate) fn find_live(root: &StateRoot, record: &Record) -> Result<Option<SandboxLink>> {
    match reach(record)? {
        Reach::OtherBoot => return Ok(None),
        Reach::Elsewhere if record.sandbox.is_some() && listens(record)? => return Err(elsewhere(record)),
        Reach::Elsewhere => return Ok(None),
        Reach::Here => {}
    }
    let Some(identity) = &record.sandbox else { return Ok(None) };
    let Some(sandbox) = identity.pidfd(&record.boot_id)? else { return Ok(None) };
    if !identity.is_alive(&record.boot_id)? {
        return Ok(None);
    }
    if record.sandbox_id != record.id {
        return find_live_in_pod(root, record, identity.pid);
    }
    if ends_with_init(record)? {
        return Ok(None);
    }
    let init_pid = record.init.as_ref().map_or(0, |init| init.pid);
    Ok(Some(SandboxLink::new(SandboxAddress::of(root, record), sandbox, identity.pid, init_pid)))
}

/// As [`find_live`], for a further container of a pod: the sandbox is alive and has to know the container.
fn find_live_in_pod(root: &StateRoot, record: &Record, sandbox_pid: i32) -> Result<Option<SandboxLink>> {
    let Some(init) = &record.init else { return Ok(None) };
    let gone = |error: Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::Ended | ErrorKind::WrongState { .. } => Ok(None),
        _ => Err(error),
    };
    let pod = match find_pod_sandbox(root, &record.sandbox_id) {
        Ok(pod) => pod,
        Err(error) => return gone(error),
    };
    let address = SandboxAddress::of(root, record);
    let query = address.request(Operation::Query);
    match pod.connect().and_then(|channel| client::begin(channel, &query)?.reply()) {
        Ok(Reply::State { phase: InitPhase::Ended }) => return Ok(None),
        Ok(_) => {}
        Err(error) => return gone(error),
    }
    let Some(pidfd) = init.pidfd(&record.boot_id)? else { return Ok(None) };
    match pod.watch(&record.id) {
        Ok(watch) => Ok(Some(SandboxLink::new(address, pidfd, sandbox_pid, init.pid).in_pod(watch))),
        Err(error) => gone(error),
    }
}

/// The sandbox of the root container `pod`, for a further container.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is no such container, [`ErrorKind::WrongState`] if its sandbox is not alive,
/// [`ErrorKind::InvalidInput`] if it is itself in another container's sandbox.
pub(crate) fn find_pod_sandbox(root: &StateRoot, pod: &ContainerId) -> Result<PodSandbox> {
    let missing = || {
        let problem = format!("there is no container {:?} whose sandbox could be joined", pod.as_str());
        Error::new(ErrorKind::NotFound, "pod", problem)
    };
    let found = root.find(pod.as_str()).map_err(|_| missing())?;
    let record = root.read(&found)?;
    check_is_root(&record)?;
    let actual = observe(&record)?;
    if reach(&record)? == Reach::Elsewhere {
        return Err(elsewhere(&record));
    }
    match (actual, record.sandbox) {
        (Status::Created | Status::Running | Status::Paused, Some(sandbox)) => {
            Ok(PodSandbox::new(root, found, record, sandbox))
        }
        _ => {
            let problem = format!("{:?} is {actual}, its sandbox cannot be joined", pod.as_str());
            Err(Error::wrong_state(actual, "pod", problem))
        }
    }
}

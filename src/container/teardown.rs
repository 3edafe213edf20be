//! Undoing a container, from its record alone: safe on a half-created one, and again on one that is half undone.
//!
//! The order is processes, helpers, mounts, cgroup, poststop hooks, state. The mounts need no step of their own: they
//! live in mount namespaces that end with the processes. Every step is tried; what fails is reported together, and the
//! record stays until nothing is left.

use super::hooks;
use crate::cgroup;
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::host;
use crate::id::ContainerId;
use crate::link::client;
use crate::process::channel::wait_readable;
use crate::process::{Channel, ProcessIdentity, boot_id};
use crate::state::{CONTROL_SOCKET, Record, StateLock, Status};
use crate::wire::message::{Operation, Request};
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// How long killed processes may take to go. Only one that the kernel cannot interrupt comes near.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Kills and removes everything the record names, then the record. With `created_at`, only if it is the container of
/// that moment: the one that a handle means may be gone, and its name another's by now.
pub(super) fn destroy(mut lock: StateLock, created_at: Option<u64>) -> Result<()> {
    let mut record = match lock.load() {
        // The record goes first: a removal that failed after that has this much left to do.
        Err(error) if *error.kind() == ErrorKind::NotFound => return lock.remove(),
        loaded => loaded?,
    };
    if created_at.is_some_and(|created_at| created_at != record.created_at) {
        let problem = format!("{:?} is another container by now", record.id.as_str());
        return Err(Error::new(ErrorKind::NotFound, "destroy", problem));
    }
    let mut left = Vec::new();
    if record.boot_id == boot_id()? {
        let in_pod = record.sandbox_id != record.id;
        // Once more, because it takes descriptors and memory, which may have been short for a moment.
        if in_pod && let Err(error) = leave_pod(&record).or_else(|_| leave_pod(&record)) {
            left.push(error.during("pod").to_string());
        }
        // The sandbox first: as PID 1 of its namespace it takes everything inside along. A pod's is not ours to end.
        let sandbox = if in_pod { &None } else { &record.sandbox };
        let processes = [("sandbox", sandbox), ("init", &record.init), ("gofer", &record.gofer)];
        for (name, identity) in processes {
            if let Some(Err(error)) = identity.as_ref().map(|identity| kill(identity, &record)) {
                left.push(error.during(name).to_string());
            }
        }
        if !record.cgroups.is_empty()
            && let Err(error) =
                cgroup::destroy(&record.cgroups).and_then(|()| cgroup::prune(&record.cgroup_ancestors))
        {
            left.push(error.during("cgroup").to_string());
        }
        if let Some(Err(error)) = record.scope.as_ref().map(cgroup::systemd::remove) {
            left.push(error.during("scope").to_string());
        }
    }
    super::handle::collect_ended_children();
    if left.is_empty() {
        hooks::poststop(&mut lock, &mut record);
        return lock.remove();
    }
    let step = format!("destroy {:?}", record.id.as_str());
    Err(Error::new(ErrorKind::Incomplete, step, left.join("; ")).hint("the record is kept: delete it again"))
}

/// Has the sandbox of a pod end every process of the container, and forget it.
fn leave_pod(record: &Record) -> Result<()> {
    let (Some(sandbox), Some(run_dir)) = (&record.sandbox, record.control_socket.parent()) else {
        return Ok(());
    };
    if !sandbox.is_alive(&record.boot_id)? {
        return Ok(());
    }
    let request = |operation| Request { container: Some(record.id.clone()), operation };
    let leave = || -> Result<()> {
        let directory = rustix::fs::open(run_dir, DIRECTORY, Mode::empty())
            .os(|| format!("open({run_dir:?}, O_DIRECTORY)"))?;
        let line = client::connect_in(directory.as_fd(), CONTROL_SOCKET)?;
        let deadline = Instant::now() + KILL_LIMIT;
        let (ended, theirs) = Channel::pair()?;
        line.send(&request(Operation::Watch), &[theirs.as_fd()]).map_err(Error::from_sandbox)?;
        drop(theirs);
        client::begin(&line, &request(Operation::Kill))?.reply()?;
        wait_readable(ended.as_fd(), deadline)?;
        crate::container::live::signals::kill_all(deadline, ended.as_fd(), |operation| {
            client::begin(&line, &request(operation))?.reply()
        })?;
        client::begin(&line, &request(Operation::Forget))?.reply().map(drop)
    };
    match leave() {
        // Forgotten before, never known, or gone with the whole pod.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Ended) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        left => left,
    }
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn kill(identity: &ProcessIdentity, record: &Record) -> Result<()> {
    let Some(pidfd) = identity.pidfd(&record.boot_id)? else { return Ok(()) };
    // Gone between the two calls is what we want.
    let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
    // A sandbox ends when everything inside has, and what is frozen on cgroup v1 does not.
    cgroup::thaw(&record.cgroups);
    wait_readable(pidfd.as_fd(), Instant::now() + KILL_LIMIT)
}

/// Ends a container whose record cannot be read: its sandbox is reached by its socket, and takes all inside along.
pub(super) fn kill_by_socket(lock: &StateLock) -> Result<()> {
    let gone = |error: Error| match error.kind() {
        ErrorKind::Ended | ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    };
    let sandbox = match lock.run_dir().and_then(|run_dir| client::connect_in(run_dir.as_fd(), CONTROL_SOCKET))
    {
        Ok(sandbox) => sandbox,
        Err(error) => return gone(error),
    };
    match client::begin(&sandbox, &Request { container: None, operation: Operation::Kill })
        .and_then(client::PendingReply::reply)
    {
        // Its end of the connection closes with it.
        Ok(_) => wait_readable(sandbox.as_fd(), Instant::now() + KILL_LIMIT),
        Err(error) => gone(error),
    }
}

/// Removes the cgroups of a container whose record cannot be read and whose processes were killed, as far as they are
/// where a container of this name has them.
pub(super) fn remove_default_cgroups(id: &str) {
    let places = ContainerId::new(id).and_then(|id| {
        let layout = host::cgroup_layout()?;
        Ok(crate::plan::cgroup::default_places(&id, &layout))
    });
    cgroup::remove_when_empty(&places.unwrap_or_default());
}

/// The status of a container as the kernel has it: what the record says, unless its sandbox is gone.
pub(super) fn observe(record: &Record) -> Result<Status> {
    let recorded = record.status();
    if recorded == Status::Stopped || record.boot_id != boot_id()? {
        return Ok(Status::Stopped);
    }
    let alive = match &record.sandbox {
        Some(sandbox) => sandbox.is_alive(&record.boot_id)?,
        None => false,
    };
    Ok(match recorded {
        Status::Creating => Status::Creating,
        _ if alive => recorded,
        _ => Status::Stopped,
    })
}

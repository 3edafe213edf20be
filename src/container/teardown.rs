//! Undoes a container by its record alone. It works on a container that is half created or half removed, and can be
//! repeated.
//!
//! The order is processes, helpers, mounts, cgroup, poststop hooks, record. Mounts need no step: they are in mount
//! namespaces, which end with the processes. Every step is tried and all failures are reported together. The record
//! stays until nothing else is left.

use super::oci;
use crate::cgroup;
use crate::error::{Error, ErrorKind, Result};
use crate::helper::collect_ended;
use crate::host;
use crate::id::ContainerId;
use crate::link::{Reach, kill_by_socket, kill_process, leave_pod, reach};
use crate::state::{StateLock, StateRoot};

/// Kills and removes everything that the record names, then the record itself. With `created_at`, only if the container
/// was created at that moment: another one may have the id by now.
pub(super) fn destroy(mut lock: StateLock, created_at: Option<u64>) -> Result<()> {
    let mut record = match lock.load() {
        // An earlier removal failed after it had removed the record: remove the rest.
        Err(error) if *error.kind() == ErrorKind::NotFound => return lock.remove(),
        loaded => loaded?,
    };
    if created_at.is_some_and(|created_at| created_at != record.created_at) {
        let problem = format!("{:?} is another container by now", record.id.as_str());
        return Err(Error::new(ErrorKind::NotFound, "destroy", problem));
    }
    let mut left = Vec::new();
    let reach = reach(&record)?;
    if reach != Reach::OtherBoot {
        let in_pod = record.sandbox_id != record.id;
        // Try twice: leaving a pod needs descriptors and memory, which may be short for a moment.
        if in_pod && let Err(error) = leave_pod(&record).or_else(|_| leave_pod(&record)) {
            left.push(error.during("pod").to_string());
        }
        // From another pid namespace only the socket leads to the sandbox. Init and gofer end with it.
        if reach == Reach::Elsewhere
            && !in_pod
            && let Err(error) = kill_by_socket(&lock)
        {
            left.push(error.during("sandbox").to_string());
        }
        // The sandbox first: it is PID 1 of its namespace, so everything inside ends with it. A pod's sandbox stays.
        let sandbox = if in_pod { &None } else { &record.sandbox };
        let processes = [("sandbox", sandbox), ("init", &record.init), ("gofer", &record.gofer)];
        for (name, identity) in processes.into_iter().filter(|_| reach == Reach::Here) {
            if let Some(Err(error)) = identity.as_ref().map(|identity| kill_process(identity, &record)) {
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
    collect_ended();
    if left.is_empty() {
        oci::poststop(&mut lock, &mut record);
        tracing::debug!(container = %record.id, "deleted");
        return lock.remove();
    }
    let step = format!("destroy {:?}", record.id.as_str());
    Err(Error::new(ErrorKind::Incomplete, step, left.join("; ")).hint("the record is kept: delete it again"))
}

/// Removes the cgroups at the default paths of the container `id`. For a container whose record cannot be read, after
/// its processes were killed.
///
/// # Errors
/// [`ErrorKind::Incomplete`] if killed processes are still there.
pub(super) fn remove_default_cgroups(root: &StateRoot, id: &str) -> Result<()> {
    let places = ContainerId::new(id).and_then(|id| {
        let layout = host::cgroup_layout()?;
        Ok(crate::plan::cgroup::default_places(root.qualify(&id), &layout))
    });
    cgroup::remove_when_empty(&places.unwrap_or_default())
}

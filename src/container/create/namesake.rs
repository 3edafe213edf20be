//! The container that already has the id of a new one.
//!
//! ```text
//!   its creator was killed              -> garbage: removed, as by delete
//!   it has ended, and `replace` is set  -> removed
//!   anything else                       -> the claim refuses the id
//! ```
//!
//! If the creator of an attached container is gone, the container has ended or is about to: its sandbox kills it when the
//! lifeline closes. No program is left that would delete it, so without this the id would stay taken for ever.

use crate::container::teardown;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::link::observe;
use crate::state::{Claim, Record, StateLock, StateRoot, Status};

/// Claims the id of `record`. If another container has it that this program may remove, removes that first.
///
/// Two programs may do this at once. The lock lets one remove the old container, and the claim gives the id to one.
pub(super) fn claim(root: &StateRoot, record: &Record, replace: bool) -> Result<Claim> {
    let claim = || root.claim(&record.id, &record.sandbox_id);
    let claimed = match claim() {
        Err(error) if *error.kind() == ErrorKind::AlreadyExists && make_room(root, &record.id, replace)? => {
            claim()
        }
        claimed => claimed,
    };
    claimed.map_err(|error| explain(error, root, &record.id))
}

/// Returns whether the id may be free now. Does not wait for the lock: the program that holds it creates or deletes the
/// container.
fn make_room(root: &StateRoot, id: &ContainerId, replace: bool) -> Result<bool> {
    match remove(root, id, replace) {
        // Another program has deleted it meanwhile.
        Err(error) if *error.kind() == ErrorKind::NotFound => Ok(true),
        // The container of a damaged record may live, and only `delete_by_name` finds its processes.
        Err(error) if *error.kind() == ErrorKind::Stale => Ok(false),
        removed => removed.map_err(|error| error.during("replace")),
    }
}

/// Removes the containers whose ids are `id`, a hyphen and more, and that were attached to a program that is gone. What
/// cannot be removed keeps its record.
pub(in crate::container) fn remove_abandoned(root: &StateRoot, id: &ContainerId) {
    let beginning = format!("{id}-");
    let records = root.list().unwrap_or_default().into_iter().filter_map(std::result::Result::ok);
    for record in records.filter(|record| record.attached && record.id.as_str().starts_with(&beginning)) {
        if let Err(error) = remove(root, &record.id, false) {
            tracing::debug!(container = %record.id, %error, "remove an abandoned member");
        }
    }
}

fn remove(root: &StateRoot, id: &ContainerId, replace: bool) -> Result<bool> {
    let Some(lock) = root.try_lock(&root.find(id.as_str())?)? else { return Ok(false) };
    let record = lock.load()?;
    let may_go = is_abandoned(&lock, &record)? || (replace && observe(&record)? == Status::Stopped);
    if may_go {
        teardown::destroy(lock, None)?;
    }
    Ok(may_go)
}

/// Whether the container was attached to a program that is gone.
fn is_abandoned(lock: &StateLock, record: &Record) -> Result<bool> {
    Ok(record.attached && !lock.run_dir()?.has_creator()?)
}

/// Says of a refused claim what the container that has the id does, and what frees the id.
fn explain(error: Error, root: &StateRoot, id: &ContainerId) -> Error {
    if *error.kind() != ErrorKind::AlreadyExists {
        return error;
    }
    let status =
        root.find(id.as_str()).and_then(|found| root.read(&found)).and_then(|record| observe(&record));
    match status {
        Ok(Status::Stopped) => error.hint("it has ended: delete it, or call `replace`"),
        Ok(status) => error.hint(format!("it is {status}")),
        // Busy, damaged, or gone by now: the error says what is known.
        Err(_) => error,
    }
}

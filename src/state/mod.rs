//! What this crate keeps on disk: one record per container, in one directory per user.
//!
//! ```text
//! ROOT/                                  0700, /run/cofferdam or $XDG_RUNTIME_DIR/cofferdam
//!   CONTAINER_sandbox:SANDBOX.state      the record: JSON, replaced as a whole by rename
//!   CONTAINER_sandbox:SANDBOX.lock       flock: held by the process that changes the container
//!   CONTAINER_sandbox:SANDBOX.run/       0700; flock: held by the creator as long as the container is attached to it
//!     control.sock                       the sandbox's socket
//!     exit                               the exit record, written by the sandbox
//! /run/cofferdam.ids                     root's, whatever ROOT: a lock on each range of host ids that a container has
//!
//!   free --claim--> claimed --commit--> a record --(lock, load, save)*--> a record --remove--> free
//!     \                \
//!      \                +--drop, crash--> free
//!       +--> AlreadyExists
//! ```
//!
//! `record`, `status`, `exit`, `outcome` and `name` are pure: types, their text form and the table of transitions. The
//! other files touch the disk, always relative to an open descriptor: `root` opens the directory and reads records,
//! `lock` saves and removes them, `claim` takes an id for a new container, `id_claim` takes host ids for it, and `store` has
//! the operations on the whole directory.
//!
//! A record is a hint and kernel objects are the truth: nothing here decides whether a container is alive.
//! [`ProcessIdentity`](crate::process::ProcessIdentity) does that.

mod claim;
mod directory;
mod exit;
mod flock;
mod id_claim;
mod lock;
mod name;
mod outcome;
mod record;
mod root;
mod run_dir;
mod status;
mod store;

pub use claim::Claim;
pub use exit::{Cause, ExitRecord, WaitStatus};
pub(crate) use id_claim::IdClaim;
pub use lock::StateLock;
pub use outcome::Outcome;
#[cfg(any(test, fuzzing))]
pub(crate) use record::sealed;
pub use record::{RawSpec, Record};
pub use root::{Found, StateRoot};
#[cfg(test)]
use run_dir::EXIT_RECORD;
pub use run_dir::{CONTROL_SOCKET, CreatorLock, RunDir};
pub use status::Status;

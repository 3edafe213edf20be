//! What outlives a call: one record per container, in one directory per user.
//!
//! ```text
//! ROOT/                                  0700, /run/cofferdam or $XDG_RUNTIME_DIR/cofferdam
//!   CONTAINER_sandbox:SANDBOX.state      the record: JSON, replaced as a whole by rename
//!   CONTAINER_sandbox:SANDBOX.lock       flock: held by whoever moves the container
//!   CONTAINER_sandbox:SANDBOX.run/       0700
//!     control.sock                       the sandbox's socket
//!     exit                               the exit record, written by the sandbox
//!
//!   free --claim--> claimed --commit--> a record --(lock, load, save)*--> a record --remove--> free
//!     \                \
//!      \                +--drop, crash--> free
//!       +--> AlreadyExists
//! ```
//!
//! `record`, `exit`, `name` and `digest` are pure: types, their text form and the transition table. `store`, `claim`,
//! `lock`, `run_dir` and `directory` are the only code that touches the disk, always relative to a held fd. A record is a
//! hint and kernel objects are the truth: nothing here decides whether a container lives, see
//! [`ProcessIdentity`](crate::process::ProcessIdentity) for that.

mod claim;
mod digest;
mod directory;
mod exit;
mod lock;
mod name;
mod record;
mod run_dir;
mod store;

pub use crate::host::facts::{Manager, ScopeUnit};
pub use claim::Claim;
pub use exit::{Cause, EndRequest, ExitRecord, MAX_EXIT_RECORD_BYTES, WaitStatus};
pub use lock::StateLock;
#[cfg(any(test, fuzzing))]
pub(crate) use record::sealed;
pub use record::{MAX_RECORD_BYTES, RECORD_VERSION, RawSpec, Record, Status};
pub use run_dir::{CONTROL_SOCKET, EXIT_RECORD, RunDir};
pub use store::{Damaged, Found, StateRoot};

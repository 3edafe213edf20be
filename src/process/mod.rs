//! Processes of ours: making them, naming them, talking to them.
//!
//! [`spawn`] starts a helper from any caller without touching the caller; [`donation`] names the descriptors it gets;
//! [`image`] is what it executes; [`channel`] carries frames; [`identity`] tells one process from the next that gets
//! its number; [`stdio`] is what the workload reads and writes; [`forward`] passes the caller's signals on; [`further`] is what it gets besides; [`stand_in`] waits in place of a process in a
//! container; [`user_log`] is where lines about the workload go; [`zygote`] forks helpers for callers who need many.

pub(crate) mod channel;
pub(crate) mod donation;
mod forward;
mod further;
pub(crate) mod identity;
mod image;
pub(crate) mod signal;
pub(crate) mod spawn;
pub(crate) mod stand_in;
pub(crate) mod stdio;
mod user_log;
pub(crate) mod zygote;

pub(crate) use channel::{Channel, Delivery};
pub(crate) use donation::{Donations, Received};
pub use forward::ForwardSignals;
pub(crate) use further::{FURTHER, FurtherFds, OpenFds};
pub use identity::ProcessIdentity;
pub(crate) use identity::boot_id;
pub use signal::Signal;
pub(crate) use spawn::Child;
pub use stdio::Stdio;
pub use user_log::UserLog;
pub(crate) use zygote::Spawner;
pub use zygote::Zygote;

//! Connections to processes, their identity, and their standard streams.
//!
//! [`channel`] carries frames, and descriptors by the names that [`donation`] gives them; [`identity`] tells one process
//! from the next that gets its number; [`stdio`] is what the workload reads and writes, [`console`] its terminal;
//! [`collect`] reads what it writes to pipes, [`lines`] line by line; [`memory`] holds bytes that no process can change;
//! [`lease`] opens files that others may hold up; [`user_log`] is where lines about the workload go.

pub(crate) mod channel;
mod collect;
pub(crate) mod console;
pub(crate) mod donation;
pub(crate) mod identity;
pub(crate) mod lease;
mod lines;
pub(crate) mod memory;
pub(crate) mod signal;
pub(crate) mod stdio;
mod user_log;

pub(crate) use channel::{Channel, Delivery};
#[cfg(feature = "tokio")]
pub(crate) use collect::Collector;
pub(crate) use collect::{Collected, DEFAULT_OUTPUT_LIMIT, collect};
pub use identity::ProcessIdentity;
pub(crate) use identity::{SeenFrom, boot_id};
pub use lines::{Line, Lines, OutputStream};
pub use signal::Signal;
pub use stdio::Stdio;
pub use user_log::UserLog;

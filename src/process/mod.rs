//! Connections to processes, their identity, and their standard streams.
//!
//! [`channel`] carries frames, and descriptors by the names that [`donation`] gives them; [`identity`] tells one process
//! from the next that gets its number; [`stdio`] is what the workload reads and writes, [`console`] its terminal;
//! [`forward`] forwards the caller's signals; [`reaper`] collects children that have ended; [`user_log`] is where lines
//! about the workload go.

pub(crate) mod channel;
pub(crate) mod console;
pub(crate) mod donation;
mod forward;
pub(crate) mod identity;
mod reaper;
pub(crate) mod signal;
pub(crate) mod stdio;
mod user_log;

pub(crate) use channel::{Channel, Delivery};
pub use forward::ForwardSignals;
pub use identity::ProcessIdentity;
pub(crate) use identity::boot_id;
pub(crate) use reaper::{collect_ended, collect_later, has_ended, reap};
pub use signal::Signal;
pub use stdio::Stdio;
pub use user_log::UserLog;

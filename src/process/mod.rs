//! Processes of this program and of the workload, seen from outside: who they are and whether they still run.

mod identity;

pub use identity::{ProcessIdentity, boot_id};

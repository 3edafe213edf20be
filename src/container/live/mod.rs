//! What can be done with a container while it lives: a file for each subject.

pub(super) mod copy;
pub(super) mod events;
pub(super) mod exec;
pub(super) mod files;
mod mounts;
pub(super) mod pod;
pub(super) mod process;
pub(super) mod processes;
pub(super) mod seccomp_agent;
pub(super) mod signals;
mod update;

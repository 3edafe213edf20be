//! What can be done with a container while it lives: a file for each subject.

pub(super) mod copy;
pub(super) mod events;
pub(super) mod exec;
mod exec_proxy;
pub(super) mod files;
mod forward;
mod mounts;
pub(super) mod pod;
pub(super) mod processes;
pub(super) mod seccomp_agent;
pub(super) mod signals;
pub(super) mod stats;
mod update;

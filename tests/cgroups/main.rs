//! Limits, statistics, the freezer and the OOM score: what the kernel's cgroups say about a container.

mod bombs;
mod exec_limits;
#[path = "../kit/mod.rs"]
mod kit;
mod limits;
mod oom_score;
mod pause;
mod stats;
mod systemd;
mod update;

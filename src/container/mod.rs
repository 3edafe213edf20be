//! Containers, one type for each phase of their life.
//!
//! ```text
//!   ContainerBuilder --build--> Creating --create--> Created --start--> Running --wait_stopped, kill, stop--> Stopped
//!                                                       |               |    ^                                 |
//!                                                       |             pause resume                           delete
//!                                                       |               v    |
//!                                                       |               Paused --kill, stop--> Stopped
//!                                                       +-------- kill --------> Stopped
//! ```
//!
//! A phase type says what *this program* did; the kernel may have moved on since, and the workload may have ended. So
//! every transition takes the container's lock, reads its record again, compares, acts, saves and unlocks. Transitions
//! consume the container; if one fails, [`Failed`] gives it back.

mod any;
#[cfg(feature = "tokio")]
mod asynchronous;
mod attachment;
mod configured;
mod created;
mod creating;
mod explanation;
mod failed;
mod handle;
mod host_report;
mod info;
mod oci;
mod outcome;
mod paused;
mod running;
mod stopped;
mod teardown;
mod template;
mod typestate;

/// [`ContainerBuilder`]: a container described in Rust, or read from an OCI bundle.
///
/// Both become the same: an OCI configuration and a few extras that it has no field for, which go through one
/// validation and one plan. Nothing here changes the host. Each file has the methods for one subject; `build` ends the
/// description.
mod builder {
    pub(super) mod bind;
    mod build;
    mod bundle;
    mod default_limits;
    pub(super) mod default_spec;
    pub(super) mod description;
    pub(super) mod limits;
    pub(super) mod names;
    mod not_built;
    mod pod;
    mod privileges;
    pub(super) mod process;
    mod restore;
    pub(super) mod root;
}

/// Makes a container, all or nothing: a `blueprint` is decided beforehand, and a `transaction` carries it out.
mod create {
    pub(super) mod blueprint;
    mod host_ids;
    mod id_maps;
    mod join_first;
    pub(super) mod namesake;
    pub(super) mod restore_source;
    mod sockets;
    pub(super) mod transaction;
    mod weakened;
}

/// What a program can do with a container while it lives: a file for each subject.
mod live {
    mod checkpoint;
    pub(super) mod copy;
    pub(super) mod events;
    pub(super) mod exec;
    mod exec_limits;
    mod file_worker;
    pub(super) mod files;
    pub(super) mod forward;
    mod image_facts;
    pub(super) mod kept_files;
    mod mounts;
    pub(super) mod pod;
    pub(super) mod process;
    pub(super) mod processes;
    mod signals;
    mod update;
}

/// Containers that are created before there is a job for them.
mod pools {
    pub(super) mod job;
    mod member;
    pub(super) mod pool;
}

pub use crate::cgroup::stats::{
    CpuStats, HugetlbStats, IoStats, MemoryStats, PidsStats, Pressure, RdmaStats, Stall, Stalls, Stats,
};
pub use crate::wire::files::{Change, ChangeKind, Entry, FileKind, Metadata};
pub use builder::bind::Bind;
pub use builder::description::ContainerBuilder;
pub use builder::limits::IoLimit;
pub use builder::root::Rootfs;
pub use explanation::{Explanation, Layer};
pub use failed::{Failed, FailedAny, Recovered, WrongPhase};
pub use host_report::{Feature, HostReport, Missing};
pub use info::{Info, Listed};
pub use live::copy::{Copied, Skipped, Transfer};
pub use live::events::{Event, Events};
pub use live::exec::Exec;
pub use live::files::Files;
pub use live::forward::ForwardSignals;
pub use live::pod::Pod;
pub use live::process::{Process, ProcessOutput};
pub use live::processes::ProcessInfo;
#[cfg(any(test, fuzzing))]
pub(crate) use live::processes::{OVERFLOW_UID, UidMap, split_command_line, terminal_name};
pub use oci::{OciState, check_config, default_seccomp, parse_process};
pub use outcome::{Exit, Outcome, Output, ProcessExit};
pub use pools::job::Job;
pub use pools::pool::{Pool, Taken};
pub use template::{FailedTemplate, Ready, Template};
pub use typestate::{
    Alive, AnyContainer, Built, Container, Creatable, Created, Creating, Ended, Enterable, Executed,
    HasFiles, HasStreams, Pausable, Paused, Phase, Resumable, Running, Startable, Started, Stopped,
};

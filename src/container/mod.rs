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
mod attachment;
mod builder;
mod configured;
mod create;
mod created;
mod creating;
mod failed;
mod handle;
mod info;
mod live;
mod oci;
mod outcome;
mod paused;
mod running;
mod stopped;
mod teardown;
mod typestate;

pub use crate::cgroup::stats::{
    CpuStats, HugetlbStats, IoStats, MemoryStats, PidsStats, Pressure, RdmaStats, Stall, Stalls, Stats,
};
pub use crate::wire::files::{Change, ChangeKind, Entry, FileKind, Metadata};
pub use builder::{ContainerBuilder, IoLimit, Rootfs};
pub use failed::{Failed, FailedAny, Recovered, WrongPhase};
pub use info::{Info, Listed};
pub use live::copy::{Copied, Skipped, Transfer};
pub use live::events::{Event, Events};
pub use live::exec::Exec;
pub use live::files::Files;
pub use live::pod::Pod;
pub use live::process::{Process, ProcessOutput};
pub use live::processes::ProcessInfo;
pub use oci::{OciState, check_config, default_seccomp};
pub use outcome::{Exit, Outcome, Output, ProcessExit};
pub use typestate::{
    Alive, AnyContainer, Container, Creatable, Created, Creating, Ended, Executed, HasStreams, Paused, Phase,
    Resumable, Running, Startable, Started, Stopped,
};

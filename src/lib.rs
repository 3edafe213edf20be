//! cofferdam

mod cgroup;
mod container;
mod entry;
pub mod error;
#[doc(hidden)]
pub mod floor;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod gofer;
mod host;
mod id;
mod plan;
mod process;
mod protocol;
mod sandbox;
pub mod seccomp;
pub mod spec;
pub mod state;
#[expect(unsafe_code, reason = "the one place for it; every block names its invariant")]
mod sys;

pub use container::*;
pub use error::{Error, ErrorKind, Result};
pub use id::ContainerId;
pub use oci_spec;
pub use process::{ProcessIdentity, Signal, Stdio};
pub use state::{StateRoot, Status};

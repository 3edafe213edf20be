//! How the caller's executable becomes a helper: gofer, sandbox, hook runner, proxy of an executed process, or zygote.
//!
//! [`spawn`] starts one from any caller without touching the caller; [`image`] is what it executes; [`entry`] recognises
//! it before `main`; [`extra_fds`] are the descriptors that go on to the workload;
//! [`exec_proxy`] lives in place of a process in a container; [`zygote`] forks helpers for callers that need many.

pub(crate) mod entry;
pub(crate) mod exec_proxy;
mod extra_fds;
mod image;
pub(crate) mod spawn;
pub(crate) mod zygote;

pub(crate) use crate::process::donation::{Donations, Received};
pub(crate) use extra_fds::{ExtraFds, OpenFds, extra_fd_name};
pub(crate) use spawn::Child;
pub(crate) use zygote::Spawner;
pub use zygote::Zygote;

//! How the caller's executable becomes a helper: gofer, sandbox, hook runner, proxy of an executed process, or zygote.
//!
//! [`spawn`] starts a helper from any caller and changes nothing in the caller; [`image`] is the file that the helper
//! executes; [`entry`] recognises a helper before `main` and calls its function; [`child`] kills and collects
//! children. [`extra_fds`] are the descriptors that the workload gets. [`exec_proxy`] is a process on the host that
//! lives as long as one in a container; [`zygote`] forks helpers for callers that make many containers.

mod child;
pub(crate) mod entry;
pub(crate) mod exec_proxy;
mod extra_fds;
mod image;
mod program;
pub(crate) mod spawn;
pub(crate) mod zygote;

pub(crate) use crate::process::donation::{Donations, Received};
pub use crate::sys::HelperAllocator;
pub(crate) use child::{Child, collect_ended, collect_later, has_ended, reap};
pub(crate) use extra_fds::{ExtraFds, OpenFds, extra_fd_name};
pub use program::Helper;
pub(crate) use zygote::Spawner;
pub use zygote::Zygote;

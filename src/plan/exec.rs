//! A further process in a running container.

use super::ProcessPlan;
use crate::spec::ExecCpuAffinity;
use serde::{Deserialize, Serialize};

/// The process, and what it is given besides its standard streams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExecPlan {
    pub(crate) process: ProcessPlan,
    /// The numbers its further descriptors get, in the order in which they are sent.
    pub(crate) further_fds: Vec<i32>,
    /// The name of its user, to be looked up in the container's `/etc/passwd`: it decides the ids and groups then.
    pub(crate) user_name: Option<String>,
    /// Whether it is killed when nobody listens for its end any more.
    pub(crate) attached: bool,
    /// The processors it runs on, before and after it joins the container's cgroups.
    pub(crate) affinity: ExecCpuAffinity,
}

//! A further process in a running container.

use super::{ProcessPlan, may_set_groups};
use crate::error::Result;
use crate::host::facts::SecurityModules;
use crate::spec::{ExecCpuAffinity, NamespaceSource, Process, ValidSpec};
use serde::{Deserialize, Serialize};

/// The process, and what it is given besides its standard streams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExecPlan {
    pub(crate) process: ProcessPlan,
    /// The numbers its further descriptors get, in the order in which they are sent.
    pub(crate) extra_fd_numbers: Vec<i32>,
    /// The name of its user, to be looked up in the container's `/etc/passwd`: it decides the ids and groups then.
    pub(crate) user_name: Option<String>,
    /// Whether it is killed when nobody listens for its end any more.
    pub(crate) attached: bool,
    /// The processors it runs on, before and after it joins the container's cgroups.
    pub(crate) affinity: ExecCpuAffinity,
}

impl ExecPlan {
    /// `process` in the container that `spec` describes, with its standard streams and nothing else. Fails where the host
    /// has not the security modules of its labels.
    pub(crate) fn new(process: &Process, spec: &ValidSpec, lsms: SecurityModules) -> Result<Self> {
        lsms.check_labels(process)?;
        let new_user = spec.namespaces.user == NamespaceSource::New;
        Ok(Self {
            process: ProcessPlan::new(process, spec, may_set_groups(new_user, &spec.id_maps)),
            extra_fd_numbers: Vec::new(),
            user_name: None,
            attached: false,
            affinity: process.exec_cpu_affinity.clone(),
        })
    }
}

//! What one process of the container becomes: the part that init and every executed process have in common.

use crate::spec::{
    self, Capabilities, ConsoleSize, IoPriority, MemoryPolicy, Personality, Rlimit, Scheduler, User,
    ValidSpec,
};
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::path::PathBuf;

/// A process of the workload, from its arguments to its powers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessPlan {
    pub(crate) argv: Vec<CString>,
    pub(crate) envp: Vec<CString>,
    pub(crate) cwd: PathBuf,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) user: User,
    pub(crate) may_set_groups: bool,
    pub(crate) capabilities: Capabilities,
    pub(crate) no_new_privileges: bool,
    pub(crate) io_priority: Option<IoPriority>,
    pub(crate) scheduler: Option<Scheduler>,
    pub(crate) memory_policy: Option<MemoryPolicy>,
    pub(crate) personality: Option<Personality>,
    pub(crate) apparmor_profile: Option<String>,
    pub(crate) selinux_label: Option<String>,
    /// A terminal in place of the standard streams.
    pub(crate) terminal: Option<TerminalPlan>,
}

/// The terminal of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TerminalPlan {
    /// The size it starts with.
    pub(crate) size: Option<ConsoleSize>,
}

impl ProcessPlan {
    /// `process` in the container that `spec` describes.
    pub(crate) fn new(process: &spec::Process, spec: &ValidSpec, may_set_groups: bool) -> Self {
        Self {
            argv: process.args.clone(),
            envp: process.env.clone(),
            cwd: process.cwd.clone(),
            rlimits: process.rlimits.clone(),
            user: process.user.clone(),
            may_set_groups,
            capabilities: process.capabilities,
            no_new_privileges: process.no_new_privileges,
            io_priority: process.io_priority,
            scheduler: process.scheduler,
            memory_policy: spec.memory_policy.clone(),
            personality: spec.personality,
            apparmor_profile: process.apparmor_profile.clone(),
            selinux_label: process.selinux_label.clone(),
            terminal: process.terminal.then_some(TerminalPlan { size: process.console_size }),
        }
    }
}

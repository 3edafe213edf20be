//! Plans with what becomes known only while a container is made.
//!
//! A plan never changes once it is made. What it cannot contain, such as the directory the gofer works in or the numbers
//! of descriptors opened at the last moment, goes through one call of `resolve`, and only the sealed result travels to
//! another process.

use super::gofer::GoferPlan;
use super::process::ExecPlan;
use super::sandbox::SandboxPlan;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::Deref;
use std::path::PathBuf;

/// What a gofer needs to know beyond its plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GoferFacts {
    /// An empty directory of the container's, on which the gofer attaches the scratch memory in its own mount namespace.
    /// Not used by a gofer without overlays.
    pub(crate) staging: PathBuf,
    /// The container's cgroups, which the gofer removes if the caller is killed.
    pub(crate) cgroups: Vec<PathBuf>,
    /// The directories that were made on the way to them, the deepest first.
    pub(crate) cgroup_ancestors: Vec<PathBuf>,
}

/// What a sandbox needs to know beyond its plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SandboxFacts {
    /// The numbers that the workload's extra descriptors get, in the order in which they are donated.
    pub(crate) extra_fd_numbers: Vec<i32>,
    /// The container's OCI state (OCI runtime.md, "State"), if init has hooks to run: init adds its pid and the status.
    pub(crate) hook_state: serde_json::Map<String, serde_json::Value>,
}

/// The gofer's work, as the gofer receives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SealedGofer<'a> {
    plan: Cow<'a, GoferPlan>,
    pub(crate) facts: GoferFacts,
}

/// The sandbox's work, as the sandbox receives it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SealedSandbox<'a> {
    plan: Cow<'a, SandboxPlan>,
    pub(crate) facts: SandboxFacts,
}

/// A further process, as the sandbox receives it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SealedExec<'a> {
    plan: Cow<'a, ExecPlan>,
    /// The numbers that the process's extra descriptors get, in the order in which they are sent.
    pub(crate) extra_fd_numbers: Vec<i32>,
}

impl GoferPlan {
    /// Adds what is known now.
    pub(crate) fn resolve(&self, facts: GoferFacts) -> SealedGofer<'_> {
        SealedGofer { plan: Cow::Borrowed(self), facts }
    }
}

impl SandboxPlan {
    /// Adds what is known now.
    pub(crate) fn resolve(&self, facts: SandboxFacts) -> SealedSandbox<'_> {
        SealedSandbox { plan: Cow::Borrowed(self), facts }
    }
}

impl ExecPlan {
    /// Adds what is known now.
    pub(crate) fn resolve(&self, extra_fd_numbers: Vec<i32>) -> SealedExec<'_> {
        SealedExec { plan: Cow::Borrowed(self), extra_fd_numbers }
    }
}

impl SealedSandbox<'_> {
    /// The plan alone, when init has taken what it needs.
    pub(crate) fn into_plan(self) -> SandboxPlan {
        self.plan.into_owned()
    }
}

impl SealedExec<'_> {
    /// The plan, and the numbers of the extra descriptors.
    pub(crate) fn into_parts(self) -> (ExecPlan, Vec<i32>) {
        (self.plan.into_owned(), self.extra_fd_numbers)
    }
}

impl Deref for SealedGofer<'_> {
    type Target = GoferPlan;

    fn deref(&self) -> &GoferPlan {
        &self.plan
    }
}

impl Deref for SealedSandbox<'_> {
    type Target = SandboxPlan;

    fn deref(&self) -> &SandboxPlan {
        &self.plan
    }
}

impl Deref for SealedExec<'_> {
    type Target = ExecPlan;

    fn deref(&self) -> &ExecPlan {
        &self.plan
    }
}

//! Plans together with facts that the caller learns only while it makes the container.
//!
//! A plan never changes after it is made. The caller adds the facts, such as the directory that the gofer works in or
//! the numbers of descriptors that it opened last, in one call of `resolve`, and sends only the sealed result to
//! another process.

use super::gofer::GoferPlan;
use super::process::{ExecPlan, JobPlan};
use super::sandbox::SandboxPlan;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::Deref;
use std::path::PathBuf;

/// The facts that a gofer needs besides its plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GoferFacts {
    /// An empty directory of the container, on which the gofer attaches the scratch memory in its own mount namespace.
    /// Not used by a gofer without overlays.
    pub(crate) staging: PathBuf,
    /// The container's cgroups, which the gofer removes if the caller is killed.
    pub(crate) cgroups: Vec<PathBuf>,
    /// The directories above them that the caller made, the deepest first.
    pub(crate) cgroup_ancestors: Vec<PathBuf>,
}

/// The facts that a sandbox needs besides its plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SandboxFacts {
    pub(crate) descriptors: Descriptors,
    /// The container's OCI state (OCI runtime.md, "State"), if init has hooks to run: init adds its pid and the status.
    pub(crate) hook_state: serde_json::Map<String, serde_json::Value>,
}

/// The descriptors of a process of the workload, besides the standard streams that it is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Descriptors {
    /// The numbers that its extra descriptors get, in the order in which it is given them.
    pub(crate) given: Vec<i32>,
    /// The numbers, also of standard streams, at which it opens a device of the container's own; and the minor number of
    /// the device (Linux admin-guide/devices.txt, "1 char").
    pub(crate) devices: Vec<(i32, u32)>,
}

impl Descriptors {
    /// All but the standard streams.
    pub(crate) fn extra(&self) -> impl Iterator<Item = i32> {
        let devices = self.devices.iter().map(|(number, _)| *number).filter(|number| *number > 2);
        self.given.iter().copied().chain(devices)
    }

    /// The first number that has no meaning for the program, nor has any above it.
    pub(crate) fn first_free(&self) -> i32 {
        self.extra().fold(2, i32::max) + 1
    }
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
    pub(crate) descriptors: Descriptors,
    /// The number in the name of the process's own cgroup, if it has one.
    pub(crate) leaf: Option<u64>,
}

/// A job, as the init of a created container receives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SealedJob<'a> {
    plan: Cow<'a, JobPlan>,
    /// The devices among the standard streams.
    pub(crate) descriptors: Descriptors,
}

impl GoferPlan {
    /// Adds the facts.
    pub(crate) fn resolve(&self, facts: GoferFacts) -> SealedGofer<'_> {
        SealedGofer { plan: Cow::Borrowed(self), facts }
    }
}

impl SandboxPlan {
    /// Adds the facts.
    pub(crate) fn resolve(&self, facts: SandboxFacts) -> SealedSandbox<'_> {
        SealedSandbox { plan: Cow::Borrowed(self), facts }
    }
}

impl ExecPlan {
    /// Adds the descriptors, and the number of the cgroup.
    pub(crate) fn resolve(&self, descriptors: Descriptors, leaf: Option<u64>) -> SealedExec<'_> {
        SealedExec { plan: Cow::Borrowed(self), descriptors, leaf }
    }
}

impl JobPlan {
    /// Adds the descriptors.
    pub(crate) fn resolve(&self, descriptors: Descriptors) -> SealedJob<'_> {
        SealedJob { plan: Cow::Borrowed(self), descriptors }
    }
}

impl SealedSandbox<'_> {
    /// The plan without the facts, which only init needs.
    pub(crate) fn into_plan(self) -> SandboxPlan {
        self.plan.into_owned()
    }
}

impl SealedExec<'_> {
    /// The plan, and the descriptors.
    pub(crate) fn into_parts(self) -> (ExecPlan, Descriptors) {
        (self.plan.into_owned(), self.descriptors)
    }
}

impl SealedJob<'_> {
    /// The plan, and the descriptors.
    pub(crate) fn into_parts(self) -> (JobPlan, Descriptors) {
        (self.plan.into_owned(), self.descriptors)
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

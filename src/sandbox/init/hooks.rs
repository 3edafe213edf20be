//! Init's hooks, at two points: when the root is assembled and not entered, and before the program.
//!
//! ```text
//!   caller                          init
//!      |<------ RootAssembled ---------|  the last mount is in place
//!      |  prestart, createRuntime      |
//!      |------- HooksDone ------------>|
//!      |                               |  createContainer: a program of the host, in the container's namespaces
//!      |                               |  pivot ... start
//!      |                               |  startContainer: a program of the container, as the workload will be
//! ```
//!
//! A startContainer hook is a program of the image and not trusted. So its process takes the very steps to execve(2) that
//! init takes: it has the workload's identity, capabilities, filter, limits, labels and working directory, and, if the hook
//! has none of its own, the workload's environment. It has no descriptors besides its standard streams.
//!
//! Where hooks of the runtime namespace run, the root is attached at its path on the host until the pivot: a hook that
//! enters the mount namespace of the pid in its state, and mounts something below that path, mounts it into the container.
//!
//! Init and the caller have a connection of their own for this, so the sandbox goes on serving.

use super::attributes::{Labels, Peak};
use super::become_workload;
use super::become_workload::ExecRequest;
use super::program::Program;
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::helper::Received;
use crate::hooks::{HookIo, execute_on_host, named, run_one};
use crate::plan::{InitHooks, ProcessPlan};
use crate::process::Channel;
use crate::spec::{Hook, HookKind};
use crate::weaken::{Rule, leaves_out};
use crate::wire::init::{HooksDone, RootAssembled};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::{PidfdFlags, pidfd_open};

/// What init needs for its hooks; nothing where there are none.
pub(in crate::sandbox) struct HookPoints<'a> {
    plan: &'a InitHooks,
    state: &'a serde_json::Map<String, serde_json::Value>,
    caller: Option<Channel>,
}

impl<'a> HookPoints<'a> {
    pub(in crate::sandbox) fn take(
        plan: &'a InitHooks,
        state: &'a serde_json::Map<String, serde_json::Value>,
        donated: &mut Received,
    ) -> Result<Self> {
        Ok(Self { plan, state, caller: donated.take_optional("hooks").map(Channel::from) })
    }

    /// The descriptors that it has open.
    pub(in crate::sandbox) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.caller.iter().map(AsFd::as_fd)
    }

    /// Between the last mount and the pivot: "after the runtime environment has been created [...] but before the
    /// `pivot_root`" - OCI config.md.
    ///
    /// The standard output of hooks is `null`.
    pub(in crate::sandbox) fn before_pivot(&self, root: BorrowedFd<'_>, null: BorrowedFd<'_>) -> Result<()> {
        if !self.plan.at_create {
            return Ok(());
        }
        let missing =
            || Error::new(ErrorKind::PeerMisbehaved, "hooks", "no connection to the caller was given");
        let caller = self.caller.as_ref().ok_or_else(missing)?;
        let own = rustix::process::getpid();
        let own = pidfd_open(own, PidfdFlags::empty()).os(|| "pidfd_open(init)")?;
        caller.send(&RootAssembled {}, &[("init", own.as_fd())])?;
        drop(own);
        // If its hooks failed, the caller closes the connection and kills us.
        caller.receive::<HooksDone>(None).map_err(|error| error.during("hooks"))?;
        // As working directory, because `/` is still the host's root.
        let execute = |hook: &Hook| execute_on_host(hook, root);
        self.run(HookKind::CreateContainer, &self.plan.create_container, "creating", (&execute, null))
    }

    /// "The `startContainer` hooks MUST be called before the user-specified process is executed as part of the `start`
    /// operation" - OCI config.md.
    ///
    /// `workload` is what this process will become. `labels` opens the files for its labels in the hook's process.
    pub(in crate::sandbox) fn before_execve(
        &self,
        workload: &ExecRequest<'_>,
        labels: &dyn Fn() -> Result<Labels>,
        null: BorrowedFd<'_>,
    ) -> Result<()> {
        let execute = |hook: &Hook| match labels() {
            Ok(labels) => execute_as(workload, hook, &labels),
            Err(error) => error,
        };
        self.run(HookKind::StartContainer, &self.plan.start_container, "created", (&execute, null))
    }

    fn run(
        &self,
        kind: HookKind,
        hooks: &[Hook],
        status: &str,
        (execute, null): (&dyn Fn(&Hook) -> Error, BorrowedFd<'_>),
    ) -> Result<()> {
        if hooks.is_empty() {
            return Ok(());
        }
        let around = HookIo { execute, null, watched: None };
        let mut state = self.state.clone();
        // "For hooks executed in the container namespace, it is the pid as seen by the container." - OCI runtime.md
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        state.insert("pid".into(), pid.into());
        state.insert("status".into(), status.into());
        named(kind, hooks).try_for_each(|named| run_one(&named, &state, &around))
    }
}

/// Becomes a hook that is a program of the image, in all else as the workload. Returns only what went wrong.
fn execute_as(workload: &ExecRequest<'_>, hook: &Hook, labels: &Labels) -> Error {
    if leaves_out(Rule::ImageHooks)
        && let Ok(root) = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
    {
        return execute_on_host(hook, root.as_fd());
    }
    let environment = hook.envp().unwrap_or_else(|| workload.program.environment.clone());
    let program = Program { path: hook.c_path(), environment };
    let plan = ProcessPlan { argv: hook.argv(), ..workload.plan.clone() };
    become_workload::execute(&ExecRequest {
        plan: &plan,
        program: &program,
        labels,
        peak: &Peak::open_inside(3),
        keep: &[],
        template: None,
        is_hook: true,
        ..*workload
    })
}

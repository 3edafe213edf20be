//! Hooks: programs that the configuration wants run at fixed points of the lifecycle.
//!
//! This module runs them. When they run is decided by the caller (prestart, createRuntime, poststart, poststop) and by init
//! (createContainer, startContainer).
//!
//! ```text
//!   caller --round: hooks, state--> runner --fork, execve--> a hook, one after the other
//!          <--- Failed, Done ------
//! ```
//!
//! A helper runs the hooks of the runtime namespace, one helper for each round, as a child of the caller and parent of the
//! hooks. So no hook is a child of the caller: a caller that ignores SIGCHLD or collects every child takes no exit status
//! away, a caller with 8 GiB of memory does not copy its page tables, and none of its descriptors, signal dispositions or
//! variables reaches a hook. Init is single-threaded and runs its hooks itself, by [`run_one`].
//!
//! # The rules: OCI runtime specification 1.2
//!
//! runtime.md, "Lifecycle":
//!
//! * Steps 3 to 5: "If any `prestart` hook fails, the runtime MUST generate an error, stop the container, and continue
//!   the lifecycle at step 12"; likewise `createRuntime` and `createContainer`.
//! * Step 7: "If any `startContainer` hook fails, the runtime MUST generate an error, stop the container, and continue
//!   the lifecycle at step 12". Here the container is given back stopped, and deleting it is its owner's step.
//! * Step 9: "If any `poststart` hook fails, the runtime MUST log a warning, but the remaining hooks and lifecycle
//!   continue as if the hook had succeeded". For a configuration that names 1.3 or later, its rule: an error, and
//!   the container is stopped.
//! * Step 12: "The container MUST be destroyed by undoing the steps performed during create phase (step 2)."
//! * Step 13: "The `poststop` hooks MUST be invoked by the runtime. If any `poststop` hook fails, the runtime MUST log
//!   a warning, but the remaining hooks and lifecycle continue as if the hook had succeeded."
//!
//! Step 12 leads to step 13: poststop hooks run for every container whose environment was complete (step 2), so also
//! for one that a hook of its creation ended, and not for one that failed before any hook could run.
//!
//! config.md, "POSIX-platform Hooks": "The state of the container MUST be passed to hooks over stdin"; "`timeout` (int,
//! OPTIONAL) is the number of seconds before aborting the hook". runtime.md, "State", of `pid`: "For hooks executed in
//! the runtime namespace, it is the pid as seen by the runtime. For hooks executed in the container namespace, it is
//! the pid as seen by the container."

mod one;

pub(crate) use one::{HookIo, HookState, NamedHook, execute_on_host, run_one};

use crate::error::{Actor, Error, OsContext, RemoteFailure, Result};
use crate::helper::reap;
use crate::helper::spawn::{Reexec, Start, read_plan, seal_plan, spawn};
use crate::helper::{Donations, Received};
use crate::process::Channel;
use crate::spec::{Hook, HookKind};
use crate::sys;
use crate::wire::boot::RunnerReport;
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How much longer than the hooks the runner may take, to start and stop them and to report failures.
const RUNNER_MARGIN: Duration = Duration::from_secs(30);

/// `argv[0]` of the runner, as `ps` shows it.
pub(crate) const RUNNER: &str = "cofferdam-hooks";

/// Hooks to run one after the other.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Round {
    hooks: Vec<NamedHook>,
    state: HookState,
    /// Their working directory; `/` if it is gone.
    cwd: PathBuf,
    on_failure: OnFailure,
}

/// What a failure means for the rest of the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OnFailure {
    /// Skip the remaining hooks. A hook that is running is killed when the caller ends.
    Stop,
    /// Run the remaining hooks, which clean up, even after the end of the caller.
    GoOn,
}

impl Round {
    pub(crate) fn new(state: HookState, cwd: PathBuf, on_failure: OnFailure) -> Self {
        Self { hooks: Vec::new(), state, cwd, on_failure }
    }

    /// Adds the hooks of one kind.
    pub(crate) fn with(mut self, kind: HookKind, hooks: &[Hook]) -> Self {
        self.hooks.extend(named(kind, hooks));
        self
    }

    /// Runs them, in a helper. Returns what failed; with [`OnFailure::Stop`], at most one thing.
    pub(crate) fn run(&self, reexec: Reexec) -> Result<Vec<Error>> {
        if self.hooks.is_empty() {
            return Ok(Vec::new());
        }
        let (ours, theirs) = Channel::pair()?;
        let plan = seal_plan(self)?;
        let mut donations = Donations::default();
        donations.give("boot", &theirs);
        donations.give("plan", &plan);
        let runner = spawn(reexec, &Start::of(RUNNER), &donations)?;
        drop((plan, theirs));
        let failures = collect(&ours, self.limit());
        if failures.is_err() {
            runner.destroy();
        } else {
            reap(runner.pidfd());
        }
        failures
    }

    /// The time limit for the round; `None` if a hook has none.
    fn limit(&self) -> Option<Duration> {
        time_limit(self.hooks.iter().map(|named| &named.hook)).map(|limit| limit + RUNNER_MARGIN)
    }
}

/// The hooks of one kind with their names.
pub(crate) fn named(kind: HookKind, hooks: &[Hook]) -> impl Iterator<Item = NamedHook> {
    let name = move |index| format!("hooks.{}[{index}]", kind.key());
    hooks.iter().enumerate().map(move |(index, hook)| NamedHook { field: name(index), hook: hook.clone() })
}

/// How long these hooks may take together; `None` if one of them may take forever.
pub(crate) fn time_limit<'a>(mut hooks: impl Iterator<Item = &'a Hook>) -> Option<Duration> {
    hooks.try_fold(Duration::ZERO, |sum, hook| Some(sum.saturating_add(hook.timeout?)))
}

fn collect(runner: &Channel, limit: Option<Duration>) -> Result<Vec<Error>> {
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    let mut failures = Vec::new();
    loop {
        let report = runner.receive::<RunnerReport>(deadline).map_err(|error| error.during("hooks"))?;
        match report.message {
            RunnerReport::Failed(failure) => failures.push(failure.into()),
            RunnerReport::Done => return Ok(failures),
        }
    }
}

/// The runner's whole life, entered from the constructor.
pub(crate) fn serve(mut donated: Received) {
    let Ok(caller) = donated.take("boot").map(Channel::from) else { return };
    let tell = |error| caller.send(&RunnerReport::Failed(RemoteFailure::pack(Actor::Hooks, &error)), &[]);
    let done = prepare(&mut donated).and_then(|round| {
        let null = rustix::stdio::stdout();
        let watched = (round.on_failure == OnFailure::Stop).then(|| caller.as_fd());
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let cwd =
            rustix::fs::open(&round.cwd, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let cwd = cwd.or(root).os(|| "open(\"/\", O_PATH)")?;
        for named in &round.hooks {
            let execute = |hook: &Hook| execute_on_host(hook, cwd.as_fd());
            if let Err(error) = run_one(named, &round.state, &HookIo { execute: &execute, null, watched }) {
                let _ = tell(error);
                if round.on_failure == OnFailure::Stop {
                    break;
                }
            }
        }
        Ok(())
    });
    if let Err(error) = done {
        let _ = tell(error);
    }
    let _ = caller.send(&RunnerReport::Done, &[]);
}

fn prepare(donated: &mut Received) -> Result<Round> {
    // Each hook unblocks them.
    sys::reset_dispositions();
    sys::block_signals();
    // Leave the caller's session: a Ctrl-C there is for the caller, and the runner notices the caller's end.
    rustix::process::setsid().os(|| "setsid()")?;
    rustix::thread::set_name(c"cofferdam-hooks").os(|| "prctl(PR_SET_NAME)")?;
    read_plan(donated.take("plan")?)
}

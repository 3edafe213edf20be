//! Hooks: programs that the configuration wants run at fixed points of the lifecycle.
//!
//! What lives here: running them, and what that takes. What may not: when, which is the caller's business (prestart,
//! createRuntime, poststart, poststop) and init's (createContainer, startContainer).
//!
//! ```text
//!   caller --round: hooks, state--> runner --fork, execve--> a hook, one after the other
//!          <--- what failed, end --
//! ```
//!
//! The hooks of the runtime namespace are run by a helper of ours, one for each round, which is the caller's child and
//! the hooks' parent. So no hook ever is a child of the caller's: a caller that ignores SIGCHLD or collects every child
//! itself takes no exit status away, one that holds 8 GiB does not copy its page tables, and none of its descriptors,
//! signal dispositions or variables reaches a hook. Init is single-threaded and runs its hooks itself, by [`run_one`].
//!
//! # The rules that are followed: OCI runtime specification 1.2
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

pub(crate) use one::{HookIo, HookState, NamedHook, run_one};

use crate::error::{Actor, Error, OsContext, RemoteFailure, Result};
use crate::helper::spawn::{Reexec, Start, read_plan, seal_plan, spawn};
use crate::helper::{Donations, Received};
use crate::process::{Channel, reap};
use crate::spec::{Hook, HookKind};
use crate::sys;
use crate::wire::boot::RunnerReport;
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How much longer than the hooks the runner may take: it starts them and stops them, and writes down what failed.
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
    /// Nothing more is run. What is being made is also given up when the caller ends.
    Stop,
    /// The remaining ones are run, whatever becomes of the caller: they clean up.
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
        let runner = spawn(reexec, &Start { name: RUNNER, namespaces: 0, cgroup: None }, &donations)?;
        drop((plan, theirs));
        let failures = collect(&ours, self.limit());
        if failures.is_err() {
            runner.destroy();
        } else {
            reap(runner.pidfd());
        }
        failures
    }

    /// How long all of it may take; `None` if a hook may take forever.
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
            let surroundings = HookIo { cwd: cwd.as_fd(), null, watched };
            if let Err(error) = run_one(named, &round.state, &surroundings) {
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
    sys::reset_signals();
    // A Ctrl-C in the caller's terminal is the caller's: what it means for the hooks, its end tells.
    rustix::process::setsid().os(|| "setsid()")?;
    rustix::thread::set_name(c"cofferdam-hooks").os(|| "prctl(PR_SET_NAME)")?;
    read_plan(donated.take("plan")?)
}

//! [`Member`]: a created container that waits for a job, and what its host looked like when it was made.
//!
//! ```text
//!   template --make--> Member --is_unchanged--> give(job) --> Container<Created>
//!                         |           |            |
//!                         |           no           +-- lost, or the job is wrong
//!                         v           v            v
//!                      dropped: destroyed, as every attached container
//! ```

use super::job::Job;
use crate::cgroup::{Snapshot, watched_files};
use crate::container::ContainerBuilder;
use crate::container::builder::names::FieldNames;
use crate::container::handle::{Streams, explain_out_of_memory};
use crate::container::typestate::{Container, Created, Creating};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::helper::has_ended;
use crate::helper::spawn::seal_plan;
use crate::link::client::REPLY_LIMIT;
use crate::plan::{Descriptors, JobPlan};
use crate::process::channel::wait_readable_until;
use crate::process::stdio::{OpenedStdio, StreamEnd};
use crate::process::{Channel, ProcessIdentity};
use crate::spec::{IdMaps, ValidProcess};
use crate::state::{RawSpec, StateRoot};
use crate::wire::control::{Operation, Reply};
use crate::wire::init::JOB_PLAN;
use oci_spec::runtime::Spec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::time::{Duration, Instant};

/// A container that waits for its job.
#[derive(Debug)]
pub(super) struct Member {
    container: Container<Created>,
    host: HostState,
    /// The configuration in its record.
    spec: Spec,
    id_maps: IdMaps,
    pipe_owner: (u32, u32),
    /// The template's own limit.
    timeout: Option<Duration>,
    is_clone: bool,
    names: FieldNames,
}

/// Why a member did not take a job.
pub(super) enum NotGiven {
    /// The job cannot be what it asks for. Nothing was sent: the member is as it was.
    Invalid(Box<Member>, Error),
    /// The member is gone, about to go, or held by another program: another one may take the job.
    Lost(Box<Member>, Error),
    /// The job failed in the member, which is destroyed.
    Failed(Error),
}

impl Member {
    /// Makes a member of `template`.
    ///
    /// # Errors
    /// As build and create, and [`ErrorKind::InvalidInput`] if the template has what only a job can have.
    pub(super) fn make(template: ContainerBuilder) -> Result<Self> {
        let creating = template.build()?;
        check(&creating)?;
        let blueprint = &creating.phase.blueprint;
        let spec = creating.core.record.spec.parse()?;
        let (id_maps, pipe_owner) = (blueprint.plan.id_maps.clone(), blueprint.plan.pipe_owner);
        let (timeout, names) = (blueprint.extras.timeout, blueprint.names.clone());
        let is_clone = blueprint.extras.template.is_some();
        let files = watched_files(&blueprint.plan.cgroup);
        let container = creating.create()?;
        let host = HostState::look(&container, &files)?;
        Ok(Self { container, host, spec, id_maps, pipe_owner, timeout, is_clone, names })
    }

    pub(super) fn id(&self) -> &str {
        self.container.id().as_str()
    }

    pub(super) fn state_root(&self) -> &StateRoot {
        &self.container.core.root
    }

    /// Whether it still is what was made: its processes are there and free to run, its cgroups say what they said, and its
    /// mounts are untouched.
    pub(super) fn is_unchanged(&self) -> bool {
        !has_ended(self.container.phase.live.ended()) && self.host.is_current()
    }

    /// Gives it the job, and hands it out.
    pub(super) fn give(mut self, job: &Job) -> Result<Container<Created>, NotGiven> {
        let given = match self.prepare(job) {
            Ok(given) => given,
            Err(error) => return Err(NotGiven::Invalid(Box::new(self), error)),
        };
        match self.hand_over(given) {
            Ok(streams) => {
                self.container.phase.streams = streams;
                Ok(self.container)
            }
            Err(error) if is_loss(&error) => {
                let error = explain_out_of_memory(error, &self.container.core.record, "job");
                Err(NotGiven::Lost(Box::new(self), error))
            }
            Err(error) => Err(NotGiven::Failed(error)),
        }
    }

    /// Validates the job by the rules for the process of a configuration, and opens its streams.
    fn prepare(&self, job: &Job) -> Result<Prepared> {
        if self.is_clone {
            job.check_for_clone()?;
        }
        let mut process = self.spec.process().clone().unwrap_or_default();
        job.apply(&mut process);
        let valid =
            ValidProcess::for_job(&process, &self.id_maps).map_err(|error| self.names.explain(error))?;
        let [stdin, stdout, stderr] = &job.stdio;
        let streams = OpenedStdio::open([stdin, stdout, stderr], self.pipe_owner)?;
        let devices = (0..).zip(&streams.workload).filter_map(|(number, end)| Some((number, end.device()?)));
        let descriptors = Descriptors { given: Vec::new(), devices: devices.collect() };
        let plan = seal_plan(&JobPlan::new(&valid).resolve(descriptors))?;
        let mut spec = self.spec.clone();
        spec.set_process(Some(process));
        Ok(Prepared {
            spec: RawSpec::from_spec(&spec)?,
            plan,
            streams,
            timeout: job.timeout.or(self.timeout),
        })
    }

    /// Sends the job to init and records it. Returns the caller's ends of its streams.
    fn hand_over(&mut self, job: Prepared) -> Result<Streams> {
        let Prepared { spec, plan, streams: OpenedStdio { workload, caller }, timeout } = job;
        let core = &mut self.container.core;
        let live = &self.container.phase.live;
        let mut lock = core.lock_unchanged()?;
        let mut fds = vec![(JOB_PLAN, plan.as_fd())];
        let given = workload.iter().map(StreamEnd::given);
        fds.extend(
            ["stdin", "stdout", "stderr"].into_iter().zip(given).filter_map(|(name, fd)| Some((name, fd?))),
        );
        let answer = live.connect(Operation::Job { timeout }, &fds)?;
        // Meanwhile init looks for the program.
        core.record.spec = spec;
        if let Some(extras) = core.record.extras.as_object_mut() {
            let timeout = serde_json::to_value(timeout).unwrap_or_default();
            extras.insert("timeout".into(), timeout);
        }
        let saved = lock.save(&mut core.record);
        let reply = self.await_answer(&answer)?;
        match reply {
            Reply::Done => saved.map(|()| Streams { pipes: caller, pty: None }),
            Reply::Failed(failure) => Err(failure.into()),
            _ => Err(Error::new(ErrorKind::PeerMisbehaved, "take", "the sandbox sent another answer")),
        }
    }

    /// The sandbox's answer. A member that another program has stopped since it was checked would answer when it pleases
    /// that program: it is given up at the next look.
    fn await_answer(&self, answer: &Channel) -> Result<Reply> {
        let deadline = Instant::now() + REPLY_LIMIT;
        while !wait_readable_until(answer.as_fd(), Some(deadline.min(Instant::now() + LOOK_AGAIN)))? {
            if !self.host.is_current() {
                let problem = "the member was changed while it took the job";
                return Err(Error::new(ErrorKind::Stale, "take", problem));
            }
            if Instant::now() >= deadline {
                let problem = format!("no answer in {REPLY_LIMIT:?}");
                return Err(Error::new(ErrorKind::TimedOut, "take", problem));
            }
        }
        Ok(answer.receive::<Reply>(Some(deadline)).map_err(Error::gone_means_ended)?.message)
    }
}

/// How long a member may take for an answer until it is looked at again. It answers in less than a millisecond, unless a
/// disk is slow.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A job that is valid for one member, with its streams open.
struct Prepared {
    spec: RawSpec,
    plan: OwnedFd,
    streams: OpenedStdio,
    timeout: Option<Duration>,
}

/// Refuses a template with what a job brings, or that a process cannot have before its job is known.
fn check(template: &Container<Creating>) -> Result<()> {
    let refuse =
        |problem: &str, hint: &str| Err(Error::new(ErrorKind::InvalidInput, "Pool::new", problem).hint(hint));
    let blueprint = &template.phase.blueprint;
    let init = &blueprint.plan.sandbox.init;
    if init.process.terminal.is_some() {
        return refuse("the template has a terminal", "a job has streams: `Job::stdin`, `stdout`, `stderr`");
    }
    if !blueprint.stdio.iter().all(crate::process::Stdio::is_null) {
        return refuse("the template has streams", "each job has its own: `Job::stdin`, `stdout`, `stderr`");
    }
    if template.core.record.pid_file.is_some() {
        return refuse("the template has a PID file", "its containers would all write it");
    }
    if init.seccomp.as_ref().is_some_and(|filter| filter.notify) {
        return refuse("the template's filter notifies", "such a filter is loaded before a job is known");
    }
    Ok(())
}

/// Whether `error` says that the member went away or was changed, and nothing about the job.
fn is_loss(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Ended
            | ErrorKind::HelperDied
            | ErrorKind::NotFound
            | ErrorKind::WrongState { .. }
            | ErrorKind::Stale
            | ErrorKind::TimedOut
            | ErrorKind::PeerMisbehaved
    )
}

/// What must not change while a member waits, besides its record, whose generation the lock compares.
#[derive(Debug)]
struct HostState {
    /// Sandbox, gofer and init.
    processes: Vec<ProcessIdentity>,
    cgroups: Snapshot,
    /// The mount table of init's namespace. The kernel reports on it each change since it was opened (proc_pid_mounts(5)).
    mounts: OwnedFd,
}

impl HostState {
    fn look(container: &Container<Created>, cgroup_files: &[std::path::PathBuf]) -> Result<Self> {
        let record = container.record();
        let init = container.phase.live.init_pid();
        let table = format!("/proc/{init}/mounts");
        let mounts = rustix::fs::open(&table, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .os(|| format!("open({table:?})"))?;
        Ok(Self {
            processes: [record.sandbox, record.gofer, record.init].into_iter().flatten().collect(),
            cgroups: Snapshot::take(cgroup_files, init)?,
            mounts,
        })
    }

    fn is_current(&self) -> bool {
        let free = |process: &ProcessIdentity| process.is_free().unwrap_or(false);
        self.has_its_mounts() && self.processes.iter().all(free) && self.cgroups.is_current()
    }

    fn has_its_mounts(&self) -> bool {
        let mut table = [PollFd::new(&self.mounts, PollFlags::PRI)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut table, Some(&now)).is_ok_and(|_| !table[0].revents().contains(PollFlags::PRI))
    }
}

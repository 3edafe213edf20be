//! The methods of [`Exec`] that choose the cgroup of one executed process and what it starts: one of its own with limits, or
//! an existing one below the container's.

use super::exec::Exec;
use crate::cgroup::{NewLeaf, Split, SubCgroups};
use crate::container::builder::description::NO_LIMIT;
use crate::container::builder::limits::{cpu_quota, signed};
use crate::container::handle::Handle;
use crate::error::{Error, ErrorKind, Result};
use crate::link::SandboxLink;
use crate::link::client::START_LIMIT;
use crate::plan::cgroup;
use crate::spec::Resources;
use crate::wire::control::{Operation, Reply};
use rustix::fd::AsFd;
use std::path::PathBuf;
use std::time::Instant;

impl Exec {
    /// The most memory that the process and what it starts may use together, in bytes, as
    /// [`ContainerBuilder::memory_limit`](crate::ContainerBuilder::memory_limit) limits the container. If they need more,
    /// the kernel kills one of them, and the container and its other processes go on. The outcome of the process, if the
    /// kernel killed that, is [`OutOfMemory`](crate::Outcome::OutOfMemory). 0 is refused.
    ///
    /// With any of these limits the process gets a cgroup of its own below the container's, whose limits hold, too. All
    /// that it starts is in there, also a daemon, so that [`timeout`](Self::timeout) and
    /// [`Process::kill_tree`](crate::Process::kill_tree) end all of it. The cgroup is removed when the last process in it
    /// has ended.
    ///
    /// `exec` fails with [`Unsupported`](crate::ErrorKind::Unsupported) where the container has no cgroup with the
    /// controller, which it gets by a limit of the same kind, or by
    /// [`accounting`](crate::ContainerBuilder::accounting).
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.refuse_zero("memory_limit", bytes);
        self.limits.memory.limit = Some(signed(bytes));
        self
    }

    /// The most tasks (processes and threads) that the process and what it starts may be at one time: with 1, it can
    /// start no other. At the limit fork(2) fails with `EAGAIN`. 0 is refused. The rest is as for
    /// [`memory_limit`](Self::memory_limit).
    pub fn pids_limit(mut self, tasks: u64) -> Self {
        self.refuse_zero("pids_limit", tasks);
        self.limits.pids_limit = Some(tasks);
        self
    }

    /// The most CPU time that the process and what it starts may use together, in CPUs: 0.5 is half the time of one, and
    /// 0.01 is the least that the kernel can give. The rest is as for [`memory_limit`](Self::memory_limit).
    pub fn cpu_limit(mut self, cpus: f64) -> Self {
        match cpu_quota(cpus) {
            Ok((quota, period)) => {
                (self.limits.cpu.quota, self.limits.cpu.period) = (Some(quota), Some(period));
            }
            Err(problem) => self.refuse("cpu_limit", problem, NO_LIMIT),
        }
        self
    }

    /// Executes the process in an existing cgroup below the container's own, in every hierarchy in which the container has
    /// one. `path` begins at the container's own cgroup, as the container sees it: `job` and `/job` are the same, and `/`
    /// is the container's own, in which the process is anyway.
    ///
    /// For cgroups that the container made for itself, or that were made for it. The process keeps the limits of the
    /// container and gets those of the cgroup besides. It does not go with
    /// [limits of its own](Self::memory_limit).
    ///
    /// # Errors
    /// [`exec`](crate::Container::exec) refuses a path that leads out of the container's cgroup, and a cgroup that is
    /// frozen ([`InvalidInput`](ErrorKind::InvalidInput)), or is not there ([`NotFound`](ErrorKind::NotFound)).
    pub fn cgroup(mut self, path: impl Into<PathBuf>) -> Self {
        self.cgroups.push((None, path.into()));
        self
    }

    /// As [`cgroup`](Self::cgroup), but only in the cgroup v1 hierarchy of `controller`, for example `memory`. Can be called
    /// for several controllers.
    ///
    /// # Errors
    /// As there; also for a controller of which the container has no cgroup
    /// ([`InvalidInput`](ErrorKind::InvalidInput)).
    pub fn controller_cgroup(mut self, controller: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.cgroups.push((Some(controller.into()), path.into()));
        self
    }

    /// Opens the cgroups of [`cgroup`](Self::cgroup).
    pub(super) fn open_cgroups(&self, core: &Handle) -> Result<SubCgroups> {
        if !self.cgroups.is_empty() && self.limits != Resources::default() {
            let problem = "a process with limits has a cgroup of its own";
            return Err(Error::new(ErrorKind::InvalidInput, "Exec::cgroup", problem));
        }
        SubCgroups::open(&core.record.cgroups, &self.cgroups)
    }

    fn refuse_zero(&mut self, method: &'static str, amount: u64) {
        if amount == 0 {
            self.refuse(method, "must not be 0", NO_LIMIT);
        }
    }

    /// Makes the cgroup of the process, if it has limits.
    pub(super) fn make_leaf(&self, core: &Handle, live: &SandboxLink) -> Result<Option<NewLeaf>> {
        if self.limits == Resources::default() {
            return Ok(None);
        }
        let limits = cgroup::for_exec(&self.limits, |controller| match controller {
            "memory" => "Exec::memory_limit",
            "pids" => "Exec::pids_limit",
            _ => "Exec::cpu_limit",
        })?;
        let split = |split: Split| {
            let operation = Operation::SplitCgroup { enable: split.enable.clone() };
            let fds = [
                ("dir", split.dir.as_fd()),
                ("join", split.join.as_fd()),
                ("control", split.control.as_fd()),
            ];
            let channel = live.connect(operation, &fds)?;
            let reply = channel.receive::<Reply>(Some(Instant::now() + START_LIMIT));
            match reply.map_err(|error| live.explain("exec", error))?.message {
                Reply::Failed(failure) => Err(live.explain("exec", failure.into())),
                _ => Ok(()),
            }
        };
        NewLeaf::make(&core.record.cgroups, &limits, split).map(Some).map_err(with_advice)
    }
}

/// Says how a container gets the cgroups that these limits need.
fn with_advice(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Unsupported { .. } => {
            error.hint("build the container with a limit of the same kind, or with `accounting()`")
        }
        _ => error,
    }
}

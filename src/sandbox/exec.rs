//! Further processes in a running container.
//!
//! ```text
//!   sandbox                    between                       the process
//!      |-- clone(VM, VFORK) -->|  enter pid and mount namespaces, close all it must not have
//!      |                       |------ clone(PARENT) -------->|  parent: the sandbox
//!      |<--------------------- Hello (its pid) ---------------|
//!      |                                                      |  join cgroups and their namespace, find the program,
//!      |<-------- Ready (terminal), if it has one -------------|  shed privileges, execve
//!      |<--------------------- end of file -------------------|  executed; or Failed
//! ```

use super::init::attributes;
use super::init::attributes::Labels;
use super::init::become_workload;
use super::init::become_workload::ExecRequest;
use super::init::console::Console;
use super::init::{accounts, program};
use super::monitor::ContainerState;
use super::monitor::oom_score::OomScore;
use crate::error::{Actor, Error, ErrorKind, OsContext, RemoteFailure, Result};
use crate::helper::spawn::read_plan;
use crate::helper::{Received, extra_fd_name};
use crate::plan::{ExecPlan, SealedExec};
use crate::process::Channel;
use crate::sys::{self, Inside};
use crate::wire::control::InitPhase;
use crate::wire::frame;
use crate::wire::init::{ExecHello, ExecReport};
use nix::sched::{CloneFlags, setns};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Pid, PidfdFlags};

/// A process on its way to `execve`.
pub(super) struct Forked {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    /// It sends [`ExecHello`], then [`ExecReport`]s; `execve` closes it.
    pub(super) channel: Channel,
    /// Whether it is killed when who asked for it is gone.
    pub(super) attached: bool,
}

impl Forked {
    /// Forks the process that `fds` describe: plan, stdin, stdout, stderr, then the plan's further descriptors.
    pub(super) fn new(container: &ContainerState, score: &OomScore, mut fds: Received) -> Result<Self> {
        if container.phase != InitPhase::Running {
            return Err(container.not_in_phase("exec"));
        }
        // What is born in a frozen cgroup v2 does not run, and we wait until it has forked: we would never thaw it.
        if container.is_pausing() {
            return Err(Error::new(ErrorKind::InvalidInput, "exec", "the container is being paused"));
        }
        let plan: SealedExec<'_> = read_plan(fds.take("plan")?)?;
        let stdio = [fds.take("stdin")?, fds.take("stdout")?, fds.take("stderr")?];
        let numbers = plan.extra_fd_numbers.iter();
        let extra_fds: Vec<_> =
            numbers.map(|number| fds.take(&extra_fd_name(*number))).collect::<Result<_>>()?;
        fds.finish()?;
        let (channel, theirs) = Channel::pair()?;
        let attached = plan.options.attached;

        let init = container.init.pidfd.as_fd();
        let mut keep = vec![theirs.as_fd(), init];
        keep.extend(stdio.iter().chain(&extra_fds).map(AsFd::as_fd));
        keep.extend(container.init.cgroups.fds());
        if Labels::asked_for(&plan.process) {
            keep.extend(container.proc.as_ref().map(AsFd::as_fd));
        }
        let how = Inside {
            beside: Some(init),
            joins: container.rules.namespaces & CloneFlags::CLONE_NEWNS.bits().cast_unsigned(),
            namespaces: 0,
            cgroup: container.init.cgroups.directory(),
            keep: &keep,
        };
        let enter = |born_in_cgroup| {
            // Out of the way of the numbers that the plan gives a meaning.
            let above = plan.extra_fd_numbers.iter().fold(2, |most, number| most.max(*number)) + 1;
            let Ok(parent) = rustix::io::fcntl_dupfd_cloexec(&theirs, above).map(Channel::from) else {
                return;
            };
            let (plan, numbers) = plan.into_parts();
            if let Err(error) = run(container, plan, &numbers, &parent, &stdio, &extra_fds, born_in_cgroup) {
                let _ = parent.send(&ExecReport::Failed(RemoteFailure::pack(Actor::Init, &error)), &[]);
            }
        };
        let forked =
            score.lend(container.rules.oom_score_adj, || sys::fork_inside(&how, enter).os(|| "clone3(exec)"));
        let pid = forked.map_err(|error| match container.is_ending() {
            // Ended, or about to, and not collected yet: then its pid namespace takes no process any more.
            true => container.has_ended("exec"),
            false => error,
        })?;
        // Ours, and not collected: the number is its own.
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).os(|| "pidfd_open(exec)")?;
        Ok(Self { pid, pidfd, channel, attached })
    }
}

/// The new process. Returns only what went wrong.
fn run(
    container: &ContainerState,
    plan: ExecPlan,
    numbers: &[i32],
    parent: &Channel,
    stdio: &[OwnedFd; 3],
    extra_fds: &[OwnedFd],
    born_in_cgroup: bool,
) -> Result<()> {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    parent.send(&ExecHello { pid }, &[])?;
    sys::unblock_signals();
    rustix::process::setsid().os(|| "setsid()")?;
    rustix::thread::set_name(c"cofferdam-exec").os(|| "prctl(PR_SET_NAME)")?;
    attributes::run_on(plan.affinity.initial.as_ref(), "process.execCPUAffinity.initial")?;
    container.init.cgroups.join(born_in_cgroup)?;
    attributes::run_on(plan.affinity.last.as_ref(), "process.execCPUAffinity.final")?;
    let namespaces = CloneFlags::from_bits_retain(container.rules.namespaces.cast_signed());
    let namespaces = namespaces - CloneFlags::CLONE_NEWNS;
    if !namespaces.is_empty() {
        match setns(&container.init.pidfd, namespaces) {
            Err(nix::Error::ESRCH) => return Err(container.has_ended("exec")),
            result => result.os(|| format!("setns(init, {namespaces:?})"))?,
        }
    }
    rustix::process::chdir("/").os(|| "chdir(\"/\")")?;
    let [stdin, stdout, stderr] = stdio;
    rustix::stdio::dup2_stdin(stdin).os(|| "dup2(stdin)")?;
    rustix::stdio::dup2_stdout(stdout).os(|| "dup2(stdout)")?;
    rustix::stdio::dup2_stderr(stderr).os(|| "dup2(stderr)")?;
    let process = match &plan.options.user_name {
        Some(name) => {
            let user = accounts::look_up(name, &plan.process.user)?;
            plan.process.run_as(user)
        }
        None => plan.process,
    };
    let program = program::find(&process)?;
    become_workload::prepare(&process)?;
    if let Some(terminal) = &process.terminal {
        let master = Console::of_this_process(terminal, process.user.uid, false)?;
        parent.send(&ExecReport::Terminal, &[("terminal", master.as_fd())])?;
    }
    let labels = Labels::open(&process, container.proc.as_ref().map(AsFd::as_fd), numbers)?;
    become_workload::place(extra_fds, numbers)?;
    Err(become_workload::execute(&ExecRequest {
        plan: &process,
        filter: container.rules.filter.as_ref(),
        program: &program,
        labels: &labels,
        keep: numbers,
        parent,
        listener_report: |names| frame::encode(names, &ExecReport::Listener),
    }))
}

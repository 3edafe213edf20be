//! Starts further processes in a live container.
//!
//! The sandbox does not fork the process itself: privileged processes inside could look into the child, which would have
//! all of the sandbox's descriptors. It starts a process between the two, which closes them before the child exists: see
//! [`fork_inside`](sys::fork_inside()).
//!
//! ```text
//!   sandbox                    between                       the process
//!      |-- clone(VM, VFORK) -->|  enter pid and mount namespaces, close what the process must not have
//!      |                       |------ clone(PARENT) -------->|  parent: the sandbox
//!      |                                                      |  join cgroups
//!      |<------------------- ExecHello (its pid) -------------|
//!      |                                                      |  enter init's other namespaces
//!      |                                                      |  take stdio, find the user and the program
//!      |<-------- ExecReport::Terminal, if it has one --------|  open the terminal
//!      |                                                      |  shed privileges, execve
//!      |<------- end of file: executed; or else Failed -------|
//! ```

use super::init::STREAMS;
use super::init::attributes;
use super::init::attributes::{Labels, Peak};
use super::init::become_workload;
use super::init::become_workload::{ExecRequest, ListenerReport};
use super::init::console::Console;
use super::init::{accounts, program};
use super::members;
use super::oom_score::OomScore;
use super::own_device::OwnDevices;
use super::target::ExecTarget;
use crate::cgroup::{ExecJoin, ExecLeaf};
use crate::error::{Actor, Error, ErrorKind, OsContext, RemoteFailure, Result};
use crate::helper::spawn::read_plan;
use crate::helper::{Received, extra_fd_name};
use crate::plan::{Descriptors, ExecPlan, SealedExec};
use crate::process::Channel;
use crate::spec::Origin;
use crate::sys::{self, Inside};
use crate::wire::frame;
use crate::wire::init::{ExecHello, ExecReport};
use nix::sched::{CloneFlags, setns};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::Pid;
use std::time::Duration;

/// A process on its way to `execve`.
pub(super) struct ExecChild {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    /// The process sends [`ExecHello`], then [`ExecReport`]s, over this. `execve` closes its end.
    pub(super) channel: Channel,
    /// Whether the sandbox kills it when the client that asked for it disconnects.
    pub(super) attached: bool,
    /// How long it may run.
    pub(super) timeout: Option<Duration>,
    /// Its own cgroup, if it has one.
    pub(super) leaf: Option<ExecLeaf>,
}

impl ExecChild {
    /// Forks the process that `fds` describe: `plan`, `stdin`, `stdout`, `stderr`, and the plan's extra descriptors.
    /// Returns once the process exists, which then reports over [`channel`](Self::channel) whether its program runs.
    pub(super) fn fork(target: &ExecTarget<'_>, score: &OomScore, mut fds: Received) -> Result<Self> {
        let plan: SealedExec<'_> = read_plan(fds.take("plan")?)?;
        let stdio = STREAMS.map(|name| fds.take_optional(name));
        let numbers = plan.descriptors.given.iter();
        let extra_fds: Vec<_> =
            numbers.map(|number| fds.take(&extra_fd_name(*number))).collect::<Result<_>>()?;
        let below = ExecJoin::take(&mut fds);
        let leaf = plan.leaf.map(|number| ExecLeaf::take(number, &below, &mut fds)).transpose()?;
        fds.finish()?;
        let (channel, theirs) = Channel::pair()?;
        let (attached, timeout) = (plan.options.attached, plan.options.timeout);

        let mut keep = vec![theirs.as_fd(), target.init];
        keep.extend(stdio.iter().flatten().chain(&extra_fds).map(AsFd::as_fd));
        if !plan.descriptors.devices.is_empty() {
            keep.push(target.null);
        }
        keep.extend(target.cgroups.fds(Some(&below)));
        if Labels::asked_for(&plan.process) {
            keep.push(target.proc);
        }
        let how = Inside {
            beside: Some(target.init),
            joins: target.exec_config.namespaces & CloneFlags::CLONE_NEWNS.bits().cast_unsigned(),
            namespaces: 0,
            cgroup: target.cgroups.directory(Some(&below)),
            streams: theirs.as_fd(),
            keep: &keep,
        };
        let enter = |born_in_cgroup| {
            // Move the channel above the extra descriptors' numbers: `place` puts those descriptors there later, over
            // what is open.
            let above = plan.descriptors.first_free();
            let Ok(parent) = rustix::io::fcntl_dupfd_cloexec(&theirs, above).map(Channel::from) else {
                return;
            };
            let (plan, descriptors) = plan.into_parts();
            let fds = Fds { descriptors: &descriptors, stdio: &stdio, extra: &extra_fds };
            let ran = join(target, &plan, &parent, born_in_cgroup, &below)
                .and_then(|()| run(target, plan, &fds, &parent));
            if let Err(error) = ran {
                let _ = parent.send(&ExecReport::Failed(RemoteFailure::pack(Actor::Init, &error)), &[]);
            }
        };
        // The child inherits the score, which it could not set itself.
        let forked = score
            .lend(target.exec_config.oom_score_adj, || sys::fork_inside(&how, enter).os(|| "clone3(exec)"));
        let pid = forked.map_err(|error| match target.is_ending() {
            // Once init is ending, every fork into its pid namespace fails: report the end, not the errno.
            true => target.has_ended("exec"),
            false if leaf.is_some() && error.raw_os_error() == Some(libc::ENOMEM) => too_little_memory(),
            false => error,
        })?;
        // The child has its own copies. This makes room for the pidfd.
        drop((theirs, stdio, extra_fds, below));
        let pidfd = members::hold_child(pid, "exec")?;
        Ok(Self { pid, pidfd, channel, attached, timeout, leaf })
    }
}

/// The process did not get as far as its program, because of its own limit.
pub(super) fn too_little_memory() -> Error {
    let problem = "its limit is too little to start the program in";
    Error::new(ErrorKind::InvalidInput, "Exec::memory_limit", problem)
}

/// The first steps in the new process: it joins the cgroups, and greets the sandbox. In this order, so that every process
/// that the sandbox has heard of is where it belongs.
fn join(
    target: &ExecTarget<'_>,
    plan: &ExecPlan,
    parent: &Channel,
    born_in_cgroup: bool,
    below: &ExecJoin,
) -> Result<()> {
    // `initial` holds until the cgroups are joined, `final` from then on.
    let joined = attributes::run_on(plan.affinity.initial.as_ref(), "process.execCPUAffinity.initial")
        .and_then(|()| target.cgroups.join(born_in_cgroup, Some(below)));
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    parent.send(&ExecHello { pid }, &[]).and(joined)
}

/// The descriptors that the process becomes the workload with.
struct Fds<'a> {
    descriptors: &'a Descriptors,
    stdio: &'a [Option<OwnedFd>; 3],
    extra: &'a [OwnedFd],
}

/// Runs in the new process until `execve`. Returns only if a step fails.
fn run(target: &ExecTarget<'_>, plan: ExecPlan, fds: &Fds<'_>, parent: &Channel) -> Result<()> {
    sys::unblock_signals();
    rustix::process::setsid().os(|| "setsid()")?;
    rustix::thread::set_name(c"cofferdam-exec").os(|| "prctl(PR_SET_NAME)")?;
    attributes::run_on(plan.affinity.last.as_ref(), "process.execCPUAffinity.final")?;
    let namespaces = CloneFlags::from_bits_retain(target.exec_config.namespaces.cast_signed());
    // The process between has entered the mount namespace already.
    let namespaces = namespaces - CloneFlags::CLONE_NEWNS;
    if !namespaces.is_empty() {
        match setns(target.init, namespaces) {
            Err(nix::Error::ESRCH) => return Err(target.has_ended("exec")),
            result => result.os(|| format!("setns(init, {namespaces:?})"))?,
        }
    }
    rustix::process::chdir("/").os(|| "chdir(\"/\")")?;
    become_workload::take_streams(fds.stdio)?;
    let wanted = &fds.descriptors.devices;
    let devices = OwnDevices::of_own_root(wanted, target.null)?;
    devices.become_streams(wanted)?;
    let process = match &plan.options.user {
        Some(account) => {
            let mut user = accounts::look_up(account, &plan.process.user)?;
            if plan.options.keeps_groups {
                user.additional_gids.clone_from(&plan.process.user.additional_gids);
            }
            user.check_found(Origin::Exec, &plan.options.id_maps)?;
            plan.process.run_as(user)
        }
        None => plan.process,
    };
    let program = program::find(&process, None)?;
    become_workload::prepare(&process)?;
    if let Some(terminal) = &process.terminal {
        let master = Console::of_this_process(terminal, process.user.uid, false)?;
        parent.send(&ExecReport::Terminal, &[("terminal", master.as_fd())])?;
    }
    let above = fds.descriptors.first_free();
    let labels = Labels::open(&process, target.proc, above)?;
    let peak = Peak::open_inside(above);
    let given = fds.descriptors.given.iter().copied().zip(fds.extra.iter().map(AsFd::as_fd));
    become_workload::place(&given.chain(devices.extra(wanted)).collect::<Vec<_>>(), above)?;
    Err(become_workload::execute(&ExecRequest {
        plan: &process,
        filter: target.exec_config.filter.as_ref(),
        program: &program,
        labels: &labels,
        peak: &peak,
        keep_groups: target.exec_config.keep_groups,
        keep: &fds.descriptors.extra().collect::<Vec<_>>(),
        template: None,
        is_hook: false,
        parent,
        listener_report: ListenerReport {
            frame: &|names| frame::encode(names, &ExecReport::Listener),
            at_create: None,
        },
    }))
}

//! Init: forked from the sandbox at create, turned into the workload at start.
//!
//! ```text
//!   sandbox                         init
//!      |---------- fork ------------->|  own pid and cgroup namespace
//!      |------- network ------------>|  made meanwhile; joined when sysfs needs it, or last
//!      |                              |  assemble the root
//!      |                              |  (hooks: Assembled to the caller, Order back; createContainer hooks)
//!      |                              |  pivot, find the program
//!      |<------ Ready (proc) ---------|  or Failed
//!      |------- Order (start) ------->|
//!      |                              |  (startContainer hooks) shed privileges, execve
//!      |<------ end of file ----------|  executed; or Failed
//! ```

use super::hooks::Turns;
use super::membership::Membership;
use super::{become_workload, namespaces, program, tree};
use crate::error::{Actor, OsContext, RemoteFailure, Result};
use crate::plan::{InitPlan, SandboxPlan};
use crate::process::{Channel, Received};
use crate::protocol::message::{Order, Report};
use crate::sys::{self, Forked};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::Pid;

/// Init as its parent holds it.
pub(super) struct Init {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    pub(super) channel: Channel,
    /// Our end of the gofer's connection: as long as it is open, the gofer stays; when its end closes, it is gone.
    pub(super) gofer: Channel,
    /// Where its processes belong.
    pub(super) cgroups: Membership,
}

impl Init {
    pub(super) fn fork(plan: &SandboxPlan, donated: &mut Received) -> Result<Self> {
        let gofer = Channel::from(donated.take("gofer")?);
        let stdio = [donated.take("stdin")?, donated.take("stdout")?, donated.take("stderr")?];
        let cgroups = Membership::take(donated);
        let hooks = Turns::take(&plan.init.hooks, donated)?;
        let (channel, theirs) = Channel::pair()?;
        let namespaces = plan.namespaces.with_init.bits();
        // Born in its cgroup, which saves the move; only who may write there can do that, and a user namespace may not.
        let mut born = cgroups.directory().is_some();
        let mut forked = sys::fork(namespaces, cgroups.directory());
        if let (true, Err(Errno::ACCESS | Errno::PERM)) = (born, &forked) {
            born = false;
            forked = sys::fork(namespaces, None);
        }
        match forked.os(|| "clone3(init)")? {
            Forked::Parent { pid, pidfd } => {
                if plan.namespaces.network {
                    let network = namespaces::make_network()?;
                    channel.send(&Order {}, &[network.as_fd()])?;
                }
                Ok(Self { pid, pidfd, channel, gofer, cgroups })
            }
            Forked::Child => {
                drop(channel);
                let network = plan.namespaces.network.then_some(&theirs);
                run(&plan.init, &theirs, network, gofer, stdio, (&cgroups, born), &hooks)
            }
        }
    }
}

/// The new process. Never returns to the sandbox's code.
fn run(
    plan: &InitPlan,
    parent: &Channel,
    network: Option<&Channel>,
    gofer: Channel,
    stdio: [OwnedFd; 3],
    cgroups: (&Membership, bool),
    hooks: &Turns<'_>,
) -> ! {
    let fail = |error| -> ! {
        let _ = parent.send(&Report::Failed(RemoteFailure::pack(Actor::Init, &error)), &[]);
        sys::exit_now(1)
    };
    let ready = Report::Ready { pid: rustix::process::getpid().as_raw_nonzero().get() };
    let program = match prepare(plan, network, &gofer, stdio, cgroups, hooks) {
        Ok((program, proc)) => match parent.send(&ready, &[proc.as_fd()]) {
            Ok(()) => program,
            Err(_) => sys::exit_now(1),
        },
        Err(error) => fail(error),
    };
    drop(gofer);
    // No order but the end of the connection: the sandbox is gone, and we are about to be.
    if parent.receive::<Order>(None).is_err() {
        sys::exit_now(1);
    }
    if let Err(error) = hooks.before_execve() {
        fail(error);
    }
    fail(become_workload::execute(&plan.process, plan.seccomp.as_ref(), &program, &[]))
}

/// Everything of create: returns the program to execute and a handle on the container's own `/proc`.
fn prepare(
    plan: &InitPlan,
    network: Option<&Channel>,
    gofer: &Channel,
    [stdin, stdout, stderr]: [OwnedFd; 3],
    cgroups: (&Membership, bool),
    hooks: &Turns<'_>,
) -> Result<(program::Program, OwnedFd)> {
    // Forked with the sandbox's dispositions, which are the defaults.
    sys::unblock_signals();
    rustix::process::setsid().os(|| "setsid()")?;
    rustix::thread::set_name(c"cofferdam-init").os(|| "prctl(PR_SET_NAME)")?;
    rustix::stdio::dup2_stdin(stdin).os(|| "dup2(stdin)")?;
    rustix::stdio::dup2_stdout(stdout).os(|| "dup2(stdout)")?;
    rustix::stdio::dup2_stderr(stderr).os(|| "dup2(stderr)")?;
    let (cgroups, born) = cgroups;
    cgroups.join(born)?;
    rustix::process::umask(rustix::fs::Mode::empty());

    let (root, proc) = tree::assemble(plan, gofer, network)?;
    tree::write_kernel_settings(plan, proc.as_fd())?;
    hooks.before_pivot(root.as_fd())?;
    tree::enter(root)?;
    let program = program::find(&plan.process)?;
    Ok((program, proc))
}

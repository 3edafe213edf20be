//! The gofer: the only process that opens host paths.
//!
//! ```text
//!   caller --plan, start--> gofer --detached mounts--> init (in the sandbox)
//!                             |  <---LeafEmpty----  sandbox, when an executed process with a cgroup of its own has ended
//!                             +- removes that
//!                             |  <-EndedAttached--  sandbox, when the container has ended and was not detached
//!                             |  <---lifeline-----  caller, when it is gone
//!                             +- removes the container's cgroups
//! ```
//!
//! It resolves every source of the plan to a *detached* mount, sets the mount's attributes, and hands it over by descriptor:
//! the sandbox never sees a host path. Then the gofer gives up every privilege and stays only as long as the sandbox does.
//!
//! It has one more task: if the caller was killed, with an attached container or after the end of one, the container's
//! cgroups would stay until its record is deleted, and the sandbox cannot remove them, because it is in them. So the gofer
//! opens their directories before it gives up its privileges, and holds the lifeline, as the sandbox does. It treats the
//! sandbox as hostile: what a message can name is the number of a cgroup below these, which is removed only if it is empty.
//! Every other message has the gofer wait until the lifeline closes, and then remove these cgroups themselves once they are
//! empty. A container that is detached, or whose caller lives, keeps its cgroups until it is deleted: `delete` kills the
//! gofer.

mod confine;
mod mounts;

use crate::cgroup::Remover;
use crate::error::{Actor, ErrorKind, OsContext, RemoteFailure, Result};
use crate::helper::Received;
use crate::helper::spawn::read_plan;
use crate::plan::{GoferPlan, SealedGofer};
use crate::process::channel::wait_readable_until;
use crate::process::{Channel, Delivery};
use crate::spec::RootfsPropagation;
use crate::sys;
use crate::weaken::{Rule, leaves_out};
use crate::wire::boot::{GoferReport, GoferStart};
use crate::wire::frame::MAX_FDS;
use crate::wire::init::{LeafEmpty, MountBatch, MountBatchItem, lower_name, mount_name, upper_name};
use mounts::{Layers, MountFactory};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};

/// The gofer's whole life, entered from the constructor.
pub(crate) fn serve(mut donated: Received) {
    let Ok(caller) = donated.take("boot").map(Channel::from) else { return };
    let lifeline = donated.take_optional("lifeline");
    match prepare(&caller, &mut donated) {
        Ok((sandbox, cgroups)) => {
            // If the caller is gone by now, the sandbox will notice and say so.
            let _ = caller.send(&GoferReport::Ready, &[]);
            drop(caller);
            if sandbox.is_idle() {
                sys::forget_code();
            }
            match cgroups.zip(lifeline) {
                Some((cgroups, lifeline)) => remove_as_asked(&sandbox, lifeline.as_fd(), &cgroups),
                None => drop(sandbox.wait_for_message()),
            }
        }
        Err(error) => {
            let _ = caller.send(&GoferReport::Failed(RemoteFailure::pack(Actor::Gofer, &error)), &[]);
        }
    }
}

/// Removes the cgroup of each executed process that has ended. Any other message means that the container has ended, and
/// that nothing else removes its cgroups if the caller is gone: then removes all of them. Returns after that, or when the
/// sandbox is gone without such a message.
fn remove_as_asked(sandbox: &Channel, lifeline: BorrowedFd<'_>, cgroups: &Remover) {
    loop {
        match sandbox.receive::<LeafEmpty>(None) {
            Ok(Delivery { message: LeafEmpty { number }, .. }) => cgroups.remove_exec_leaf(number),
            Err(error) if *error.kind() == ErrorKind::HelperDied => return,
            Err(_) => {
                if wait_readable_until(lifeline, None).unwrap_or(false) {
                    cgroups.remove_when_empty();
                }
                return;
            }
        }
    }
}

/// Hands over every mount and gives up every privilege. Returns the connection whose end means that the sandbox is gone, and
/// the cgroups to remove if it asks for that.
fn prepare(caller: &Channel, donated: &mut Received) -> Result<(Channel, Option<Remover>)> {
    sys::block_signals();
    // Leave the caller's session: a Ctrl-C there is for the caller, and the gofer notices the caller's end.
    rustix::process::setsid().os(|| "setsid()")?;
    let plan: SealedGofer<'_> = read_plan(donated.take("plan")?)?;
    if let Some(score) = plan.oom_score_adj {
        set_oom_score(score)?;
    }
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .os(|| "prctl(PR_SET_DUMPABLE, 0)")?;
    rustix::thread::set_name(c"cofferdam-gofer").os(|| "prctl(PR_SET_NAME)")?;
    let init = Channel::from(donated.take("init")?);

    let mut fds = caller.receive::<GoferStart>(None)?.fds;
    let user_namespace = fds.take_optional("user-namespace");
    fds.finish()?;
    isolate(&plan, user_namespace.as_ref())?;
    let mut factory = MountFactory::new(&plan, user_namespace);
    if plan.propagation == RootfsPropagation::Shared {
        factory.take_binds_and_separate()?;
    }
    let mut batch = Batch::default();
    for (index, item) in plan.items.iter().enumerate() {
        let (kind, mount) = factory.make(item)?;
        batch.items.push(kind);
        if let Some(mount) = mount {
            batch.add(&init, mount_name(index), mount)?;
        }
    }
    for (overlay, Layers { upper, lower }) in factory.into_layers().into_iter().enumerate() {
        batch.add(&init, upper_name(overlay), upper)?;
        batch.add(&init, lower_name(overlay), lower)?;
    }
    batch.send(&init, true)?;
    let cgroups = match plan.facts.cgroups.as_slice() {
        [] => None,
        leaves => Some(Remover::open(leaves, &plan.facts.cgroup_ancestors)?),
    };
    drop(plan);
    if !leaves_out(Rule::HostMounts) {
        confine::leave_the_hosts_mounts()?;
    }
    // Before the filter, which does not allow all that a libc may do for it.
    sys::trim_heap();
    if leaves_out(Rule::GoferFilter) {
        return Ok((init, cgroups));
    }
    let cgroups = confine::give_up_everything_but(cgroups)?;
    Ok((init, cgroups))
}

/// Call this while the process can be dumped: after that, the file belongs to the host's root.
fn set_oom_score(score: i32) -> Result<()> {
    let path = "/proc/self/oom_score_adj";
    let step = || format!("write({path:?}, \"{score}\")");
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).os(step)?;
    let written = rustix::io::write(&file, score.to_string().as_bytes()).os(step);
    written.map(drop).map_err(|error| error.during("process.oomScoreAdj"))
}

/// Leaves the caller's mount, ipc and uts namespaces; enters the sandbox's user namespace where the kernel allows mounting
/// only there.
fn isolate(plan: &GoferPlan, user_namespace: Option<&OwnedFd>) -> Result<()> {
    if let (true, Some(namespace)) = (plan.join_user_namespace, user_namespace) {
        setns(namespace, CloneFlags::CLONE_NEWUSER).os(|| "setns(sandbox, CLONE_NEWUSER)")?;
    }
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)
        .os(|| "unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS)")?;
    // Mounts here must not reach the host. Mounts of the host may reach us, if the plan passes them on.
    let root = mounts::open_path(std::path::Path::new("/"))?;
    let propagation = match plan.propagation {
        RootfsPropagation::Slave => libc::MS_SLAVE,
        // Separated later, when the binds are taken.
        RootfsPropagation::Shared => return Ok(()),
        RootfsPropagation::Private | RootfsPropagation::Unbindable => libc::MS_PRIVATE,
    };
    sys::set_propagation(root.as_fd(), propagation, true)
        .os(|| "mount_setattr(\"/\", AT_RECURSIVE, propagation)")
}

/// Mounts on their way to init.
#[derive(Default)]
struct Batch {
    items: Vec<MountBatchItem>,
    mounts: Vec<(String, OwnedFd)>,
}

impl Batch {
    /// Adds a descriptor. A frame that is full goes off first.
    fn add(&mut self, init: &Channel, name: String, mount: OwnedFd) -> Result<()> {
        self.mounts.push((name, mount));
        if self.mounts.len() < MAX_FDS { Ok(()) } else { self.send(init, false) }
    }

    fn send(&mut self, init: &Channel, last: bool) -> Result<()> {
        let Self { items, mounts } = std::mem::take(self);
        let fds: Vec<_> = mounts.iter().map(|(name, mount)| (name.as_str(), mount.as_fd())).collect();
        init.send(&MountBatch { items, last }, &fds)
    }
}

//! Init: forked from the sandbox at create, turned into the workload at start.
//!
//! ```text
//!   sandbox                         init
//!      |---------- fork ------------->|  own pid and cgroup namespace
//!      |------- JoinNetwork -------->|  made meanwhile; joined when sysfs needs it, or last
//!      |                              |  assemble the root
//!      |                              |  (hooks: RootAssembled to the caller, HooksDone back; createContainer hooks)
//!      |                              |  pivot, find the program
//!      |                              |  (take the root along to an existing mount namespace)
//!      |<------ Ready (handles) ------|  or Failed
//!      |    (TakeJob, descriptors --->|  other program and streams; Taken or Failed back)
//!      |----------- Start ----------->|
//!      |                              |  (startContainer hooks) shed privileges, execve
//!      |<------ end of file ----------|  execve closed it; or Failed
//! ```

pub(super) mod accounts;
mod anteroom;
pub(super) mod attributes;
pub(super) mod become_workload;
pub(super) mod console;
mod copy_up;
mod empty_root;
pub(super) mod file_systems;
mod given;
mod handed;
mod hooks;
pub(super) mod program;
pub(super) mod room;
pub(super) mod tree;

use super::cgroups::ContainerCgroups;
use super::members;
use super::namespaces;
use super::namespaces::Existing;
use super::own_device;
use super::own_device::OwnDevices;
use super::reaper;
use super::reaper::{Reaper, ReaperSetup};
use crate::error::{Actor, Error, OsContext, RemoteFailure, Result};
use crate::helper::Received;
use crate::helper::spawn::read_plan;
use crate::plan::{CloneFlags, NamespacePlan, ProcessPlan, SealedJob, SealedSandbox};
use crate::process::stdio::NULL;
use crate::process::{Channel, Delivery};
use crate::spec::NamespaceKind;
use crate::sys::{self, Forked, Inside};
use crate::wire::frame;
use crate::wire::init::{
    InitReport, InitRequest, JOB_PLAN, JobReport, JoinNetwork, StartReport, lower_name, upper_name,
};
use attributes::{Labels, Peak};
use become_workload::{ExecRequest, ListenerReport};
use console::Console;
use empty_root::EmptyRoot;
use given::Given;
use handed::Handed;
use nix::sched::{CloneFlags as Unshare, unshare};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use std::borrow::Cow;
use std::cell::Cell;
use tree::{Assembled, Entered};

pub(super) use given::STREAMS;

/// Init as its parent holds it.
pub(super) struct Init {
    /// Of the process that was forked. Restored processes have another first one, of which only the pidfd is known.
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    pub(super) channel: Channel,
    /// Our end of the gofer's connection. The gofer stays as long as this is open; if the other end closes, it is gone.
    pub(super) gofer: Channel,
    /// The cgroups of the container's processes.
    pub(super) cgroups: ContainerCgroups,
    /// PID 1, where init itself is not.
    pub(super) reaper: Option<Reaper>,
}

impl Init {
    /// What kills it with its reaper, and collects both.
    pub(super) fn undo(&self) -> impl FnOnce() + use<> {
        let children = [Some(self.pid), self.reaper.as_ref().map(Reaper::pid)];
        move || children.into_iter().flatten().for_each(members::end_child)
    }

    /// Forks the init of another container of a pod. It is born in `pids`, the root container's pid namespace, or in a new
    /// one, and has nothing open that is not the container's.
    pub(super) fn fork_in_pod(
        plan: &SealedSandbox<'_>,
        pids: BorrowedFd<'_>,
        volumes: &[OwnedFd],
        donated: &mut Received,
    ) -> Result<Self> {
        let given = Given::take(plan, ContainerCgroups::take_in_pod(donated), donated)?;
        let (channel, theirs) = Channel::pair()?;
        let keep = given.keep(&theirs, volumes);
        let own_pids = plan.namespaces.with_init.contains(CloneFlags::NEWPID);
        let how = Inside {
            streams: theirs.as_fd(),
            beside: (!own_pids).then_some(pids),
            joins: 0,
            namespaces: (plan.namespaces.with_init - CloneFlags::NEWCGROUP).bits(),
            cgroup: given.cgroups.directory(None),
            keep: &keep,
        };
        let enter = |born| {
            let first =
                First { plan, parent: &theirs, network: None, mounts: None, volumes, given: &given, born };
            // The pod's mounts are still visible from here, and must not change.
            if let Err(error) = namespaces::separate_mounts() {
                first.fail(&error);
            }
            first.run();
        };
        let (pid, reaper) = fork_inside(plan, &how, enter, |_| None)?;
        // Init has a copy. This makes room for its pidfd.
        drop(theirs);
        let pidfd = members::hold_child(pid, "init")
            .inspect_err(|_| reaper.iter().map(Reaper::pid).for_each(members::end_child))?;
        let Given { gofer, cgroups, .. } = given;
        Ok(Self { pid, pidfd, channel, gofer, cgroups, reaper })
    }

    /// Forks the init of the root container, which enters the `existing` namespaces.
    pub(super) fn fork(
        plan: &SealedSandbox<'_>,
        existing: &Existing,
        volumes: &[OwnedFd],
        donated: &mut Received,
    ) -> Result<Self> {
        let given = Given::take(plan, ContainerCgroups::take(donated), donated)?;
        let (channel, theirs) = Channel::pair()?;
        let run = |born| -> ! {
            let network = plan.namespaces.network.then_some(&theirs);
            let mounts = existing.mounts.as_ref();
            First { plan, parent: &theirs, network, mounts, volumes, given: &given, born }.run()
        };
        let namespaces = (plan.namespaces.with_init - CloneFlags::NEWCGROUP).bits();
        let cgroup = given.cgroups.directory(None);
        let executes_first = reaper::can_execute_first(&plan.namespaces);
        let (pid, pidfd, mut reaper) = if existing.pids.is_some() || plan.reaper && !executes_first {
            let mut keep = given.keep(&theirs, volumes);
            keep.extend(existing.mounts.as_ref().map(AsFd::as_fd));
            let pids = existing.pids.as_ref().map(AsFd::as_fd);
            let streams = theirs.as_fd();
            let how = Inside { beside: pids, joins: 0, namespaces, cgroup, streams, keep: &keep };
            let refused = |errno| match errno {
                Errno::INVAL | Errno::PERM if pids.is_some() => {
                    Some(namespaces::cannot_join(plan, NamespaceKind::Pid, errno.into()))
                }
                _ => None,
            };
            let (pid, reaper) = fork_inside(plan, &how, |born| run(born), refused)?;
            (pid, members::hold_child(pid, "init")?, reaper)
        } else {
            let inside = plan.reaper.then(namespaces::children_in_new_pids).transpose()?;
            let reaper = inside.is_some().then(|| Reaper::spawn(&plan.namespaces)).transpose()?;
            let namespaces =
                if reaper.is_some() { namespaces & !CloneFlags::NEWPID.bits() } else { namespaces };
            // Birth in its cgroup saves the move. The kernel refuses it to a process that may not write there, as in a
            // user namespace, and where the limit of tasks leaves no room.
            let mut born = cgroup.is_some();
            let mut forked = sys::fork(namespaces, cgroup);
            if let (true, Err(Errno::ACCESS | Errno::PERM | Errno::AGAIN)) = (born, &forked) {
                born = false;
                // The fork that was refused has used up the number 2, which init has beside a reaper: ask for it.
                forked = match &reaper {
                    Some(_) => sys::fork_as(2, namespaces).or_else(|_| sys::fork(namespaces, None)),
                    None => sys::fork(namespaces, None),
                };
            }
            let undo = |_: &_| reaper.iter().map(Reaper::pid).for_each(members::end_child);
            match forked.os(|| "clone3(init)").inspect_err(undo)? {
                Forked::Parent { pid, pidfd } => {
                    let back = inside.map_or(Ok(()), namespaces::children_in);
                    back.inspect_err(undo)?;
                    (pid, pidfd, reaper)
                }
                Forked::Child => {
                    drop(channel);
                    // A process of exec may look into this one before the start, and the sandbox has much open.
                    let mut keep = given.keep(&theirs, volumes);
                    keep.extend(existing.mounts.as_ref().map(AsFd::as_fd));
                    if sys::close_all_but(&keep).is_err() {
                        sys::exit_now(1);
                    }
                    run(born)
                }
            }
        };
        if plan.namespaces.network {
            let network = namespaces::make_network()?;
            channel.send(&JoinNetwork {}, &[("network", network.as_fd())])?;
            if let Some(reaper) = &mut reaper {
                reaper.keep_network(network);
            }
        }
        let Given { gofer, cgroups, .. } = given;
        Ok(Self { pid, pidfd, channel, gofer, cgroups, reaper })
    }
}

/// Init, and the reaper if the plan has one.
type ForkedInit = (Pid, Option<Reaper>);

/// Forks init beside other processes, and the reaper before it if the plan has one. Returns the error of `refused`, if it
/// has one for the errno of the fork.
fn fork_inside(
    plan: &SealedSandbox<'_>,
    how: &Inside<'_>,
    enter: impl FnOnce(bool),
    refused: impl Fn(Errno) -> Option<Error>,
) -> Result<ForkedInit> {
    let explain = |errno| match refused(errno) {
        Some(error) => error,
        None => Err::<(), _>(errno).os(|| "clone3(init)").expect_err("it is one"),
    };
    if !plan.reaper {
        return Ok((sys::fork_inside(how, enter).map_err(explain)?, None));
    }
    let reaper = ReaperSetup::new()?;
    let (first, pid) = sys::fork_two_inside(how, || reaper.run(), enter).map_err(explain)?;
    let reaper = reaper.forked(first).inspect_err(|_| members::end_child(pid))?;
    Ok((pid, Some(reaper)))
}

/// What init hands to the sandbox when it is ready, by name.
type Handles = Vec<(String, OwnedFd)>;

/// Puts into an empty root what CRIU needs there.
type Furnish<'a> = &'a mut dyn FnMut(&EmptyRoot) -> Result<()>;

/// What init found at create, for start.
struct Workload<'a> {
    process: Cow<'a, ProcessPlan>,
    program: program::Program,
    labels: Labels,
    peak: Peak,
    /// For its extra descriptors.
    devices: OwnDevices,
    /// For the hooks.
    null: OwnedFd,
}

impl Workload<'_> {
    /// Takes the job that `fds` describe: another program, found in the root by the same rules, and other streams. A clone's
    /// program is the one `instead`.
    fn take_job(&mut self, mut fds: Received, instead: Option<&str>) -> Result<()> {
        let (plan, descriptors) = read_plan::<SealedJob<'_>>(fds.take(JOB_PLAN)?)?.into_parts();
        let stdio = STREAMS.map(|name| fds.take_optional(name));
        fds.finish()?;
        become_workload::take_streams(&stdio)?;
        let devices = OwnDevices::of_own_root(&descriptors.devices, self.null.as_fd())?;
        devices.become_streams(&descriptors.devices)?;
        let process = self.process.to_mut();
        process.execute_instead(plan);
        self.program = program::find(process, instead)?;
        Ok(())
    }
}

/// What the new process works with.
struct First<'a> {
    plan: &'a SealedSandbox<'a>,
    parent: &'a Channel,
    /// The connection from which it gets the network namespace, if it joins one.
    network: Option<&'a Channel>,
    /// The mount namespace that it enters when its root is complete, if it does not stay where it is.
    mounts: Option<&'a OwnedFd>,
    volumes: &'a [OwnedFd],
    given: &'a Given<'a>,
    /// Whether it was born in its v2 cgroup.
    born: bool,
}

impl First<'_> {
    /// The new process. Never returns to the sandbox's code.
    fn run(&self) -> ! {
        let ready = InitReport::Ready { pid: rustix::process::getpid().as_raw_nonzero().get() };
        if let Some(restore) = &self.plan.init.restore {
            match self.plan.reaper {
                true => self.make_room(restore, &ready),
                false => self.make_anteroom(restore),
            }
        }
        let (mut workload, handles) = self.prepare().unwrap_or_else(|error| self.fail(&error));
        // Above the numbers that the plan gives a meaning: one of them may be the connection's.
        let above = self.plan.facts.descriptors.first_free();
        let Ok(parent) = rustix::io::fcntl_dupfd_cloexec(self.parent, above).map(Channel::from) else {
            sys::exit_now(1)
        };
        let mut named: Vec<_> = handles.iter().map(|(name, fd)| (name.as_str(), fd.as_fd())).collect();
        named.push(("null", workload.null.as_fd()));
        let error = if self.has_listener_at_create() {
            // Its agent gets the listener before create returns: so this process becomes the workload but for execve now,
            // and the report that it is ready comes with the listener.
            let sent = Cell::new(false);
            let report = ListenerReport {
                frame: &|names| frame::encode(names, &ready),
                at_create: Some((&named, &sent)),
            };
            let error = self.become_workload(&parent, &workload, report);
            if !sent.get() {
                self.fail(&error);
            }
            error
        } else {
            if self.parent.send(&ready, &named).is_err() {
                sys::exit_now(1);
            }
            // What the sandbox has now must not be open twice.
            drop(handles);
            self.await_start(&mut workload);
            let report = ListenerReport {
                frame: &|names| frame::encode(names, &StartReport::Listener),
                at_create: None,
            };
            self.become_workload(&parent, &workload, report)
        };
        let _ = parent.send(&StartReport::Failed(RemoteFailure::pack(Actor::Init, &error)), &[]);
        sys::exit_now(1)
    }

    /// Waits until the sandbox says to start, and takes the jobs that it sends until then.
    fn await_start(&self, workload: &mut Workload<'_>) {
        loop {
            let fds = match self.parent.receive::<InitRequest>(None) {
                Ok(Delivery { message: InitRequest::Start, .. }) => return,
                Ok(Delivery { message: InitRequest::TakeJob, fds }) => fds,
                // The sandbox is gone, and the kernel is about to kill us too. It asks only a restored PID 1's init to
                // assemble.
                Ok(Delivery { message: InitRequest::Assemble, .. }) | Err(_) => sys::exit_now(1),
            };
            let taken = workload.take_job(fds, self.plan.init.program.as_deref());
            let report = match &taken {
                Ok(()) => JobReport::Taken,
                Err(error) => JobReport::Failed(RemoteFailure::pack(Actor::Init, error)),
            };
            // A job that was taken in part leaves nothing that could be started.
            if self.parent.send(&report, &[]).is_err() || taken.is_err() {
                sys::exit_now(1);
            }
        }
    }

    /// Not if hooks follow that are programs of the image: with the filter loaded, this process could not fork them.
    fn has_listener_at_create(&self) -> bool {
        let plan = &self.plan.init;
        plan.seccomp.as_ref().is_some_and(|filter| filter.notify) && plan.hooks.start_container.is_empty()
    }

    /// Becomes the workload, after the hooks that are due before. Returns only what went wrong.
    fn become_workload(
        &self,
        parent: &Channel,
        workload: &Workload<'_>,
        listener_report: ListenerReport<'_>,
    ) -> Error {
        let Workload { process, program, labels, peak, devices, null } = workload;
        let (plan, descriptors) = (&self.plan.init, &self.plan.facts.descriptors);
        let numbers: Vec<i32> = descriptors.extra().collect();
        let workload = ExecRequest {
            plan: process,
            filter: plan.seccomp.as_ref(),
            program,
            labels,
            peak,
            keep_groups: self.plan.keep_groups,
            keep: &numbers,
            template: self.given.pages.as_ref().map(AsFd::as_fd),
            is_hook: false,
            parent,
            listener_report,
        };
        let labels_of_hook = || labels.of_this_process(process);
        let hooks = self.given.hooks.before_execve(&workload, &labels_of_hook, null.as_fd());
        let given = descriptors.given.iter().copied().zip(self.given.extra_fds.iter().map(AsFd::as_fd));
        let extra: Vec<_> = given.chain(devices.extra(&descriptors.devices)).collect();
        match hooks.and_then(|()| become_workload::place(&extra, descriptors.first_free())) {
            Ok(()) => become_workload::execute(&workload),
            Err(error) => error,
        }
    }

    fn fail(&self, error: &Error) -> ! {
        let _ = self.parent.send(&InitReport::Failed(RemoteFailure::pack(Actor::Init, error)), &[]);
        sys::exit_now(1)
    }

    /// The first half of create: assembles the root and enters it.
    fn enter_root(&self) -> Result<Entered> {
        self.begin()?;
        self.complete_root(handed::receive(&self.given.gofer)?, self.network, None)
    }

    /// What comes before the root: streams, session, cgroups.
    fn begin(&self) -> Result<()> {
        let (plan, given) = (&self.plan.init, self.given);
        // The dispositions are the sandbox's, which are the defaults.
        sys::unblock_signals();
        rustix::process::setsid().os(|| "setsid()")?;
        rustix::thread::set_name(c"cofferdam-init").os(|| "prctl(PR_SET_NAME)")?;
        become_workload::take_streams(&given.stdio)?;
        given.cgroups.join(self.born, None)?;
        // After joining: the kernel grants only processors of the cpuset that this process is in.
        attributes::run_on(plan.processors.as_ref(), "linux.resources.cpu.cpus")?;
        if self.plan.namespaces.with_init.contains(CloneFlags::NEWCGROUP) {
            // After joining: the namespace's root is the cgroup of this process (cgroup_namespaces(7)).
            unshare(Unshare::CLONE_NEWCGROUP).os(|| "unshare(CLONE_NEWCGROUP)")?;
        }
        rustix::process::umask(Mode::empty());
        Ok(())
    }

    /// Assembles the root and enters it, or leaves it in an empty root, which it enters after it has given it to `furnish`.
    fn complete_root(
        &self,
        handed: Handed,
        network: Option<&Channel>,
        furnish: Option<Furnish<'_>>,
    ) -> Result<Entered> {
        let (plan, given) = (&self.plan.init, self.given);
        let wanted = &self.plan.facts.descriptors.devices;
        let mut empty = None;
        let mut make_place = || empty.insert(EmptyRoot::make()?).place();
        let make_place: Option<&mut dyn FnMut() -> Result<OwnedFd>> =
            if furnish.is_some() { Some(&mut make_place) } else { None };
        let Assembled { root, shown, proc, layers, read_only } =
            tree::assemble(plan, handed, network, self.volumes, make_place)?;
        attributes::write_kernel_settings(plan, proc.as_fd())?;
        let devices = OwnDevices::of_new_root(wanted, root.as_fd())?;
        devices.become_streams(wanted)?;
        // For hooks, and for processes that start when the container may have changed its /dev.
        let null = own_device::of_new_root(root.as_fd(), NULL)?;
        given.hooks.before_pivot(root.as_fd(), null.as_fd())?;
        match furnish {
            None => tree::enter(root.as_fd(), plan.rootfs_propagation)?,
            Some(furnish) => {
                // Not before the hooks that expect the root at its path on the host: they would find this one in place of
                // the host's.
                let empty = empty.map_or_else(EmptyRoot::make, Ok)?;
                furnish(&empty)?;
                empty.enter_with(shown.then_some(root.as_fd()))?;
            }
        }
        Ok(Entered { root, proc, layers, read_only, devices, null })
    }

    /// Everything of create. Returns what start needs, and what the sandbox gets: see [`InitReport::Ready`].
    fn prepare(&self) -> Result<(Workload<'_>, Handles)> {
        let Entered { root, proc, layers, read_only, devices, null } = self.enter_root()?;
        self.unpack(root.as_fd())?;
        let plan = &self.plan.init;
        let process = match &plan.account {
            Some((account, maps)) => {
                let user = accounts::find_workload(account, &plan.process.user, maps)?;
                Cow::Owned(plan.process.clone().run_as(user))
            }
            None => Cow::Borrowed(&plan.process),
        };
        let program = program::find(&process, plan.program.as_deref())?;
        become_workload::prepare(&process)?;
        // Last, so that no step that can fail has it open.
        let owner = process.user.uid;
        let terminal = process.terminal.as_ref();
        let terminal =
            terminal.map(|terminal| Console::of_this_process(terminal, owner, true)).transpose()?;
        // After the terminal, which is the last mount.
        tree::make_read_only(read_only)?;
        if let Some(mounts) = self.mounts {
            tree::take_along(&self.plan.namespaces.mount, mounts.as_fd())?;
        }
        let above = self.plan.facts.descriptors.first_free();
        let labels = Labels::open(&process, proc.as_fd(), above)?;
        let peak = Peak::open(proc.as_fd(), above);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open("/", flags, Mode::empty()).os(|| "open(\"/\", O_PATH)")?;
        let mut handles = self.handles(root, proc, layers)?;
        handles.extend(terminal.map(|terminal| ("terminal".to_owned(), terminal)));
        Ok((Workload { process, program, labels, peak, devices, null }, handles))
    }

    /// What the sandbox gets of every container.
    fn handles(&self, root: OwnedFd, proc: OwnedFd, layers: Vec<[OwnedFd; 2]>) -> Result<Handles> {
        let NamespacePlan { followed, .. } = self.plan.namespaces;
        let entered = if self.plan.reaper { followed | self.plan.namespaces.of_reaper() } else { followed };
        let mut handles: Handles = namespaces::of_this_process(proc.as_fd(), entered)?;
        handles.extend([("proc".to_owned(), proc), ("root".to_owned(), root)]);
        for (overlay, [upper, lower]) in layers.into_iter().enumerate() {
            handles.extend([(upper_name(overlay), upper), (lower_name(overlay), lower)]);
        }
        Ok(handles)
    }
}

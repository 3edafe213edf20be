//! The namespaces that the sandbox makes or joins, and their first settings.

use crate::error::{Error, OsContext, Result};
use crate::helper::Received;
use crate::plan::{BecomeRoot, CloneFlags, SandboxPlan};
use crate::spec::{NamespaceKind, NamespaceSource, TimeOffset};
use crate::sys;
use nix::sched;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::path::Path;

/// Existing namespaces that init enters, and the sandbox does not.
pub(super) struct Existing {
    /// The container enters it when its root is complete; `None` if it stays in the one that the sandbox made.
    pub(super) mounts: Option<OwnedFd>,
    /// Init is born in it. The sandbox does not join it, because then all its children would be born there: the others do not
    /// belong there, and the pids that they report would be of that namespace.
    pub(super) pids: Option<OwnedFd>,
}

/// Joins and makes the namespaces, and returns those that only init enters. A new user namespace need not be mapped yet.
pub(super) fn make(plan: &SandboxPlan) -> Result<Existing> {
    let mut pids = None;
    for (kind, path) in &plan.namespaces.join {
        let namespace = open(path)?;
        if *kind == NamespaceKind::Pid {
            pids = Some(namespace);
            continue;
        }
        if *kind == NamespaceKind::User && !plan.keep_groups {
            // Before setns(2): this process may be privileged here, and the namespace may deny setgroups(2).
            drop_groups()?;
        }
        sched::setns(namespace, clone_flag(*kind)).map_err(|errno| cannot_join(plan, *kind, errno.into()))?;
    }
    let mounts = existing_mounts(&plan.namespaces.mount).map(open).transpose()?;
    let flags = plan.namespaces.by_sandbox;
    sched::unshare(sched::CloneFlags::from_bits_retain(flags.bits() as i32))
        .os(|| format!("unshare({flags:?})"))?;

    // No mount here may reach the host. Slave, so that the host's unmounts still reach us.
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .os(|| "open(\"/\", O_PATH)")?;
    sys::set_propagation(root.as_fd(), libc::MS_SLAVE, true)
        .os(|| "mount_setattr(\"/\", AT_RECURSIVE, MS_SLAVE)")?;
    // Also in a joined namespace: a configuration that joins one and sets a name asks for that.
    if let Some(name) = &plan.hostname {
        nix::unistd::sethostname(name)
            .os(|| format!("sethostname({name:?})"))
            .map_err(|error| error.during("hostname"))?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes())
            .os(|| format!("setdomainname({name:?})"))
            .map_err(|error| error.during("domainname"))?;
    }
    set_clocks(&plan.time_offsets)?;
    Ok(Existing { mounts, pids })
}

/// The path of an existing mount namespace, while this process is still in the caller's.
fn existing_mounts(source: &NamespaceSource) -> Option<&Path> {
    match source {
        NamespaceSource::New => None,
        NamespaceSource::Inherit => Some(Path::new("/proc/self/ns/mnt")),
        NamespaceSource::Path(path) => Some(path),
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).os(|| format!("open({path:?})"))
}

/// The error of joining the namespace of this kind by its path in the configuration.
pub(super) fn cannot_join(plan: &SandboxPlan, kind: NamespaceKind, errno: std::io::Error) -> Error {
    let joined = plan.namespaces.join.iter().find(|(joined, _)| *joined == kind);
    let path = joined.map(|(_, path)| path.display().to_string()).unwrap_or_default();
    Error::spec(
        "config.json",
        "linux.namespaces",
        format!("{path}: cannot join this {kind:?} namespace: {errno}"),
    )
}

/// Sets the clocks of the new time namespace. The kernel allows that until a process is in it; this process is not in it, its
/// children will be (time_namespaces(7)).
fn set_clocks(offsets: &[TimeOffset]) -> Result<()> {
    if offsets.is_empty() {
        return Ok(());
    }
    let path = "/proc/self/timens_offsets";
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .os(|| format!("open({path:?})"))?;
    offsets.iter().try_for_each(|TimeOffset { clock, seconds, nanoseconds }| {
        let line = format!("{} {seconds} {nanoseconds}\n", clock.as_str());
        rustix::io::write(&file, line.as_bytes())
            .map(drop)
            .os(|| format!("write({path:?}, {line:?})"))
            .map_err(|error| error.during(format!("linux.timeOffsets.{}", clock.as_str())))
    })
}

/// Makes the copy of the pod's mounts private, with which the init of another container is born.
pub(super) fn separate_mounts() -> Result<()> {
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .os(|| "open(\"/\", O_PATH)")?;
    sys::set_propagation(root.as_fd(), libc::MS_PRIVATE, true)
        .os(|| "mount_setattr(\"/\", AT_RECURSIVE, MS_PRIVATE)")
}

/// Makes a pid namespace in which the children of this process start from now on. Returns the one in which they started
/// before, for [`children_in`].
pub(super) fn children_in_new_pids() -> Result<OwnedFd> {
    let before = open(Path::new("/proc/self/ns/pid_for_children"))?;
    sched::unshare(sched::CloneFlags::CLONE_NEWPID).os(|| "unshare(CLONE_NEWPID)")?;
    Ok(before)
}

/// Has the children of this process start in this pid namespace.
pub(super) fn children_in(pids: OwnedFd) -> Result<()> {
    sched::setns(pids, sched::CloneFlags::CLONE_NEWPID).os(|| "setns(CLONE_NEWPID)")
}

/// Makes the network namespace, brings its loopback interface up, and returns it for init to join.
pub(super) fn make_network() -> Result<OwnedFd> {
    sched::unshare(sched::CloneFlags::CLONE_NEWNET).os(|| "unshare(CLONE_NEWNET)")?;
    sys::bring_loopback_up().os(|| "ioctl(SIOCSIFFLAGS, \"lo\", IFF_UP)")?;
    open(Path::new("/proc/thread-self/ns/net"))
}

/// Joins the network namespace that the sandbox made.
pub(super) fn join_network(namespace: OwnedFd) -> Result<()> {
    sched::setns(namespace, sched::CloneFlags::CLONE_NEWNET).os(|| "setns(CLONE_NEWNET)")
}

/// Enters an existing mount namespace, with a root that is not part of it.
pub(super) fn enter_mounts(
    source: &NamespaceSource,
    namespace: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
) -> Result<()> {
    sched::setns(namespace, sched::CloneFlags::CLONE_NEWNS).map_err(|errno| {
        let problem = match source {
            NamespaceSource::Path(path) => {
                format!("{}: cannot join this Mount namespace: {errno}", path.display())
            }
            _ => format!("cannot join the caller's mount namespace: {errno}"),
        };
        Error::spec("config.json", "linux.namespaces", problem)
    })?;
    change_root(root)
}

/// In init: its own namespaces by the names under which the sandbox gets them. First the two that the sandbox keeps, then
/// its cgroup namespace if the sandbox or the reaper enters that (`entered`). Init opens them itself, through a proc in
/// which it is, because the kernel need not let the sandbox look into init.
pub(super) fn of_this_process(proc: BorrowedFd<'_>, entered: CloneFlags) -> Result<Vec<(String, OwnedFd)>> {
    let kept = [(MOUNT_NAMESPACE, "mnt"), (PID_NAMESPACE, "pid")];
    let cgroup = entered.contains(CloneFlags::NEWCGROUP).then_some((CGROUP_NAMESPACE, "cgroup"));
    kept.into_iter().chain(cgroup).map(|(name, file)| Ok((name.to_owned(), own(proc, file)?))).collect()
}

/// The numbers of this process's namespaces by their files in `/proc/PID/ns`, through a proc that shows it: what a process
/// of the same container has there, too. A kind that this kernel does not have is left out.
pub(super) fn all_of_this_process(proc: BorrowedFd<'_>) -> Result<Vec<(String, OwnedFd)>> {
    let files = ["user", "net", "ipc", "uts", "cgroup", "time"];
    let named = files.into_iter().map(|file| match own(proc, file) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        namespace => Ok(Some((format!("{OWN}{file}"), namespace?))),
    });
    named.filter_map(Result::transpose).collect()
}

/// The prefix of the names under which [`all_of_this_process`] returns them.
pub(super) const OWN: &str = "own-";

/// This process's own namespace that is called `name` in namespaces(7), through a proc that shows it.
fn own(proc: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let path = format!("self/ns/{name}");
    rustix::fs::openat(proc, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .os(|| format!("openat(proc, {path:?})"))
}

/// In the sandbox and the reaper: enters these namespaces of init, which is ready, and with its mount namespace its root.
/// Not by init's pidfd: in a user namespace that was joined, the kernel lets no process look into one that was executed
/// outside. The mount namespace comes last: after it, the root is the container's.
pub(super) fn follow(cgroup: Option<BorrowedFd<'_>>, mount: Option<[BorrowedFd<'_>; 2]>) -> Result<()> {
    if let Some(cgroup) = cgroup {
        sched::setns(cgroup, sched::CloneFlags::CLONE_NEWCGROUP).os(|| "setns(init, CLONE_NEWCGROUP)")?;
    }
    let Some([mount, root]) = mount else { return Ok(()) };
    sched::setns(mount, sched::CloneFlags::CLONE_NEWNS).os(|| "setns(init, CLONE_NEWNS)")?;
    change_root(root)
}

pub(super) const MOUNT_NAMESPACE: &str = "mount-namespace";
const PID_NAMESPACE: &str = "pid-namespace";
pub(super) const CGROUP_NAMESPACE: &str = "cgroup-namespace";

/// Init's mount and pid namespaces, as the sandbox keeps them.
pub(super) struct InitNamespaces {
    mount: OwnedFd,
    /// The inode number of the mount namespace. The kernel does not reuse it while the namespace is held.
    mount_number: u64,
    pids: OwnedFd,
}

impl InitNamespaces {
    /// Takes them from init's handles.
    pub(super) fn take(handles: &mut Received) -> Result<Self> {
        let (mount, pids) = (handles.take(MOUNT_NAMESPACE)?, handles.take(PID_NAMESPACE)?);
        let mount_number = rustix::fs::fstat(&mount).os(|| "fstat(mount namespace)")?.st_ino;
        Ok(Self { mount, mount_number, pids })
    }

    /// For setns(2).
    pub(super) fn mount(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }

    /// For setns(2).
    pub(super) fn pids(&self) -> BorrowedFd<'_> {
        self.pids.as_fd()
    }

    /// Tells the processes of a container from others in a shared pid namespace.
    pub(super) fn mount_number(&self) -> u64 {
        self.mount_number
    }
}

fn change_root(root: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(root).os(|| "fchdir(rootfs)")?;
    rustix::process::chroot(".").os(|| "chroot(\".\")")
}

/// Takes on the sandbox's identity in its user namespace, which is mapped by now.
pub(super) fn settle(plan: &SandboxPlan) -> Result<()> {
    match plan.become_root {
        BecomeRoot::Never => {}
        BecomeRoot::Always => become_root_of_user_namespace(plan.keep_groups)?,
        // Where 0 is not mapped, keep the ids.
        BecomeRoot::WhereMapped => match become_root_of_user_namespace(plan.keep_groups) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            result => result?,
        },
    }
    // Before any process of the workload exists, so that nothing inside can trace or read this process. Not earlier: the
    // files under /proc/PID, such as the id maps, belong to the caller only while a process can be dumped.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .os(|| "prctl(PR_SET_DUMPABLE, 0)")
}

/// Sets the limits of the new user namespace, whose root this process is by now, and raises this process's own limit of open
/// files to what it may have: it counts when this process passes descriptors on, and the workload's is lower.
pub(super) fn limit(plan: &SandboxPlan) -> Result<()> {
    for (file, most) in &plan.namespace_limits {
        let path = format!("/proc/sys/user/{file}");
        let opened = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        // A kernel may lack the file, and an outer container may show /proc/sys read-only.
        if let Ok(opened) = opened {
            rustix::io::write(opened, most.to_string().as_bytes())
                .os(|| format!("write({path:?}, {most})"))?;
        }
    }
    if plan.raises_open_files {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).os(|| "setrlimit(RLIMIT_NOFILE)")?;
    }
    Ok(())
}

/// Enters the user and the mount namespace of a container that has ended, with its root, as the root of its user namespace
/// where that has one.
pub(super) fn enter_remains(user: BorrowedFd<'_>, mount: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Result<()> {
    let own = rustix::fs::stat("/proc/self/ns/user").os(|| "stat(\"/proc/self/ns/user\")")?;
    let its = rustix::fs::fstat(user).os(|| "fstat(user namespace)")?;
    // The kernel lets no process enter the user namespace that it is in.
    if (own.st_dev, own.st_ino) != (its.st_dev, its.st_ino) {
        sched::setns(user, sched::CloneFlags::CLONE_NEWUSER).os(|| "setns(CLONE_NEWUSER)")?;
        match become_root_of_user_namespace(false) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            result => result?,
        }
    }
    follow(None, Some([mount, root]))
}

/// Takes uid 0 and gid 0 of the new user namespace, and drops the caller's groups where the kernel allows that.
fn become_root_of_user_namespace(keep_groups: bool) -> Result<()> {
    let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    if !keep_groups {
        drop_groups()?;
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid).os(|| "setresgid(0, 0, 0)")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).os(|| "setresuid(0, 0, 0)")
}

/// Drops the caller's supplementary groups. They stay if the kernel denies this: to an unprivileged process, and to every
/// process if the gid map was written without privilege (user_namespaces(7)).
fn drop_groups() -> Result<()> {
    match rustix::thread::set_thread_groups(&[]) {
        Err(Errno::PERM) => Ok(()),
        result => result.os(|| "setgroups([])"),
    }
}

fn clone_flag(kind: NamespaceKind) -> sched::CloneFlags {
    sched::CloneFlags::from_bits_retain(CloneFlags::of(kind).bits().cast_signed())
}

//! What a process sets for itself besides its privileges: scheduling, memory policy, personality, the labels of security
//! modules, which take effect with `execve`, and the peak of its memory, which the program takes over.

use crate::error::{OsContext, Result};
use crate::plan::{InitPlan, ProcessPlan};
use crate::sandbox::resolve;
use crate::spec::{NumberSet, Scheduler};
use crate::sys::{self, SchedAttr};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC};
use rustix::io::Errno;

/// Labels, and the files to write them to, which are opened while this process still has a proc of ours.
#[derive(Default)]
pub(in crate::sandbox) struct Labels {
    /// Field, file, and text of each.
    labels: Vec<(&'static str, OwnedFd, String)>,
    /// That proc, if there are labels.
    proc: Option<OwnedFd>,
}

impl Labels {
    /// Whether `plan` has labels.
    pub(in crate::sandbox) fn asked_for(plan: &ProcessPlan) -> bool {
        plan.apparmor_profile.is_some() || plan.selinux_label.is_some()
    }

    /// Opens the files for the labels of `plan` in `proc`, which must be an instance for this process's pid namespace, at
    /// numbers from `above` on.
    pub(in crate::sandbox) fn open(plan: &ProcessPlan, proc: BorrowedFd<'_>, above: i32) -> Result<Self> {
        // AppArmor has its own directory since Linux 5.8; the files above it belong to the first module.
        let apparmor = plan.apparmor_profile.iter().map(|profile| {
            (
                "process.apparmorProfile",
                ["attr/apparmor/exec", "attr/exec"].as_slice(),
                format!("exec {profile}"),
            )
        });
        let selinux = plan
            .selinux_label
            .iter()
            .map(|label| ("process.selinuxLabel", ["attr/exec"].as_slice(), label.clone()));
        let open = |(field, files, text): (&'static str, &[&str], String)| {
            let mut files = files.iter().map(|file| format!("thread-self/{file}"));
            let first = files.next().unwrap_or_default();
            let file = match (resolve::open_setting(proc, &first), files.next()) {
                (Err(Errno::NOENT), Some(second)) => resolve::open_setting(proc, &second),
                (file, _) => file,
            };
            // Above the numbers that the plan gives a meaning.
            let file = file.and_then(|file| rustix::io::fcntl_dupfd_cloexec(file, above));
            let file = file.os(|| format!("open(\"/proc/{first}\")")).map_err(|error| error.during(field))?;
            Ok((field, file, text))
        };
        let labels: Vec<_> = apparmor.chain(selinux).map(open).collect::<Result<_>>()?;
        let copy = || rustix::io::fcntl_dupfd_cloexec(proc, above).os(|| "fcntl(F_DUPFD_CLOEXEC)");
        let proc = if labels.is_empty() { None } else { Some(copy()?) };
        Ok(Self { labels, proc })
    }

    /// The same labels for this process, which the process that opened these has forked: a process may change only its own.
    pub(in crate::sandbox) fn of_this_process(&self, plan: &ProcessPlan) -> Result<Self> {
        self.proc.as_ref().map_or_else(|| Ok(Self::default()), |proc| Self::open(plan, proc.as_fd(), 3))
    }

    /// Makes the next `execve` change to these labels.
    pub(in crate::sandbox) fn write(&self) -> Result<()> {
        self.labels.iter().try_for_each(|(field, file, text)| {
            rustix::io::write(file, text.as_bytes())
                .map(drop)
                .os(|| format!("write(\"/proc/thread-self/attr/exec\", {text:?})"))
                .map_err(|error| error.during(*field))
        })
    }
}

/// Sets everything that `plan` has, while this process still has the privileges and no filter.
pub(in crate::sandbox) fn take(plan: &ProcessPlan) -> Result<()> {
    if let Some(priority) = plan.io_priority {
        sys::set_io_priority(priority.0)
            .os(|| format!("ioprio_set(IOPRIO_WHO_PROCESS, 0, {:#x})", priority.0))
            .map_err(|error| error.during("process.ioPriority"))?;
    }
    if let Some(asked) = plan.scheduler {
        let while_waiting = if forks_nothing(asked) { sys::RESET_ON_FORK } else { 0 };
        set_scheduler(Scheduler { flags: asked.flags | while_waiting, ..asked })?;
    }
    if let Some(policy) = &plan.memory_policy {
        sys::set_memory_policy(policy.mode, &policy.nodes.0)
            .os(|| format!("set_mempolicy({:#x})", policy.mode))
            .map_err(|error| error.during("linux.memoryPolicy"))?;
    }
    if let Some(personality) = plan.personality {
        sys::set_personality(personality.0)
            .os(|| format!("personality({:#x})", personality.0))
            .map_err(|error| error.during("linux.personality"))?;
    }
    Ok(())
}

/// Sets what [`take`] could not set because this process still had hooks to fork. The kernel does not check the bandwidth
/// again: it was admitted then.
pub(in crate::sandbox) fn settle(plan: &ProcessPlan) -> Result<()> {
    match plan.scheduler {
        Some(asked) if forks_nothing(asked) => set_scheduler(asked),
        _ => Ok(()),
    }
}

/// Whether a process that is scheduled like this cannot fork: under `SCHED_DEADLINE` fork(2) fails, unless the child gets the
/// default scheduling (sched(7)).
fn forks_nothing(asked: Scheduler) -> bool {
    asked.policy == sys::SCHED_DEADLINE && asked.flags & sys::RESET_ON_FORK == 0
}

fn set_scheduler(asked: Scheduler) -> Result<()> {
    let attr = SchedAttr {
        policy: asked.policy,
        flags: asked.flags,
        nice: asked.nice,
        priority: asked.priority,
        runtime: asked.runtime,
        deadline: asked.deadline,
        period: asked.period,
        ..SchedAttr::default()
    };
    sys::set_scheduler(&attr).os(|| "sched_setattr()").map_err(|error| error.during("process.scheduler"))
}

/// Restricts this process to `processors`, if there are any.
pub(in crate::sandbox) fn run_on(processors: Option<&NumberSet>, field: &'static str) -> Result<()> {
    let Some(processors) = processors else { return Ok(()) };
    sys::set_affinity(&processors.0).os(|| "sched_setaffinity()").map_err(|error| error.during(field))
}

/// `linux.sysctl`, through the container's own proc.
pub(in crate::sandbox) fn write_kernel_settings(plan: &InitPlan, proc: BorrowedFd<'_>) -> Result<()> {
    for (key, value) in &plan.sysctl {
        if key == "kernel.domainname" {
            // In a user namespace the file is the host's root's to write; the call is not.
            rustix::system::setdomainname(value.as_bytes())
                .os(|| format!("setdomainname({value:?})"))
                .map_err(|error| error.during(format!("linux.sysctl[{key}]")))?;
            continue;
        }
        let path = format!("sys/{}", key.replace('.', "/"));
        write_setting(proc, &path, value).map_err(|error| error.during(format!("linux.sysctl[{key}]")))?;
    }
    Ok(())
}

pub(super) fn write_setting(proc: BorrowedFd<'_>, path: &str, value: &str) -> Result<()> {
    let file = resolve::open_setting(proc, path).os(|| format!("open(\"/proc/{path}\")"))?;
    rustix::io::write(file, value.as_bytes()).os(|| format!("write(\"/proc/{path}\", {value:?})")).map(drop)
}

/// The peak of resident memory, to be forgotten right before execve(2).
///
/// `ru_maxrss` of getrusage(2) counts from the birth of the process, not from execve(2). A process of ours that becomes
/// the workload has several megabytes resident, most of them code, so every small program would seem to need as much. So
/// the process gives back what the kernel can read again, and has the kernel forget the peak (proc_pid_clear_refs(5)).
/// It keeps its heap and its relocated constants, which often are less than a megabyte.
///
/// Without the file, as in a joined user namespace whose root may not open it, the peak stays.
pub(in crate::sandbox) struct Peak(Option<OwnedFd>);

impl Peak {
    /// Opens the file in `proc`, an instance for this process's pid namespace, at a number from `above` on.
    pub(in crate::sandbox) fn open(proc: BorrowedFd<'_>, above: i32) -> Self {
        // The link leads to the process that opens it, and no mount on the way is crossed.
        let file = resolve::open_setting(proc, "self/clear_refs");
        Self(file.and_then(|file| rustix::io::fcntl_dupfd_cloexec(file, above)).ok())
    }

    /// As [`open`](Self::open), for a process in a container that has no proc of ours.
    pub(in crate::sandbox) fn open_inside(above: i32) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open("/proc", flags, Mode::empty()) {
            Ok(proc) if is_root_of_proc(proc.as_fd()) => Self::open(proc.as_fd(), above),
            _ => Self(None),
        }
    }

    /// The file: see [`Execution::forget_peak`](crate::sys::Execution::forget_peak).
    pub(in crate::sandbox) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }
}

/// The container may have mounted anything at `/proc`, a part of a proc file system too.
fn is_root_of_proc(directory: BorrowedFd<'_>) -> bool {
    /// `PROC_ROOT_INO`, which is part of the kernel's interface (linux/proc_ns.h).
    const ROOT: u64 = 1;
    rustix::fs::fstatfs(directory).is_ok_and(|fs| fs.f_type == PROC_SUPER_MAGIC)
        && rustix::fs::fstat(directory).is_ok_and(|root| root.st_ino == ROOT)
}

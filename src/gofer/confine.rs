//! Confines the gofer once it has handed over its mounts: it can wait, remove its container's cgroups, and nothing else.

use crate::cgroup::Remover;
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::seccomp;
use crate::sys::{self, NewMount};
use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus,
};
use rustix::fd::AsFd;
use rustix::mount::UnmountFlags;
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::path::Path;

/// The system calls to wait, to manage memory, and to exit. None of them opens, connects, signals or creates anything.
const ALLOWED: [&str; 18] = [
    "read",
    "write",
    "close",
    "poll",
    "ppoll",
    "recvmsg",
    "sendmsg",
    "futex",
    "brk",
    "mmap",
    "munmap",
    "mremap",
    "madvise",
    "rt_sigreturn",
    "rt_sigprocmask",
    "restart_syscall",
    "exit",
    "exit_group",
];

/// The system calls to remove cgroups: to see how long the message is that asks for it, to list the processes in them, to
/// wait for their end (which gives no right over them), and to measure time. Landlock limits what can be opened and
/// removed; a kernel without Landlock gets none of these calls.
const ALLOWED_TO_REMOVE: [&str; 9] = [
    "recvfrom",
    "openat2",
    "getdents64",
    "pread64",
    "unlinkat",
    "pidfd_open",
    "sched_yield",
    "getpid",
    "clock_gettime",
];

/// Leaves all mounts of the host for an empty file system: what the host unmounts must not stay mounted, and its disk busy,
/// in this process's copy. Descriptors that are open here stay good.
pub(super) fn leave_the_hosts_mounts() -> Result<()> {
    let empty = NewMount::open("tmpfs")?;
    empty.set("nr_inodes", "1")?;
    let empty = empty.mount(libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC)?;
    sys::attach_at(empty.as_fd(), Path::new("/")).os(|| "move_mount(tmpfs, \"/\")")?;
    rustix::process::fchdir(&empty).os(|| "fchdir(tmpfs)")?;
    // The old root ends up on top of the new one, and is taken off with all that is mounted below it.
    rustix::process::pivot_root(".", ".").os(|| "pivot_root(\".\", \".\")")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).os(|| "umount2(\".\", MNT_DETACH)")?;
    rustix::process::chdir("/").os(|| "chdir(\"/\")")
}

/// Gives up every capability, the right to gain any, the file system except `cgroups`, and every system call except those to
/// wait and to remove them. Returns the cgroups that can still be removed.
///
/// Landlock still allows removing directories below the parents of these cgroups, in theory also another empty cgroup there,
/// and reading below the cgroups themselves. Where a parent is the top of a hierarchy, in which not even its owner may remove
/// anything, root's gofer keeps `CAP_DAC_OVERRIDE`: within these bounds it only means that the other empty cgroup may belong
/// to any user.
pub(super) fn give_up_everything_but(cgroups: Option<Remover>) -> Result<Option<Remover>> {
    rustix::thread::set_no_new_privs(true).os(|| "prctl(PR_SET_NO_NEW_PRIVS)")?;
    let confined = give_up_the_file_system_but(cgroups.as_ref()).map_err(|error| {
        Error::new(ErrorKind::Os(libc::EINVAL), "landlock_restrict_self", error.to_string())
    })?;
    // Without Landlock there is only the filter, which cannot tell directories apart.
    let cgroups = cgroups.filter(|_| confined);
    give_up_capabilities_but_for(cgroups.as_ref())?;
    let filter = seccomp::compile(&seccomp::helper_profile(&calls(cgroups.is_some())))?;
    // Never freed: that may be a system call, and the filter may forbid it.
    let program = filter.program().leak();
    sys::load_seccomp(program, filter.flags).map(drop).os(|| "seccomp(SECCOMP_SET_MODE_FILTER)")?;
    Ok(cgroups)
}

fn give_up_capabilities_but_for(cgroups: Option<&Remover>) -> Result<()> {
    let (none, takes) = (CapabilitySet::empty(), cgroups.map_or(Ok(false), Remover::takes_capability)?);
    let kept = match takes {
        true => rustix::thread::capabilities(None).os(|| "capget()")?.permitted & CapabilitySet::DAC_OVERRIDE,
        false => none,
    };
    rustix::thread::clear_ambient_capability_set().os(|| "prctl(PR_CAP_AMBIENT_CLEAR_ALL)")?;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: none };
    rustix::thread::set_capabilities(None, sets).os(|| format!("capset({kept:?})"))
}

/// The system calls that are left.
fn calls(to_remove: bool) -> Vec<&'static str> {
    let more = if to_remove { ALLOWED_TO_REMOVE.as_slice() } else { &[] };
    ALLOWED.iter().chain(more).copied().collect()
}

/// Returns whether the kernel has Landlock: without it, the crate goes on without this layer.
fn give_up_the_file_system_but(cgroups: Option<&Remover>) -> std::result::Result<bool, RulesetError> {
    let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(ABI::V5))?.create()?;
    if let Some(cgroups) = cgroups {
        let parents = cgroups.parents().map(|dir| (dir, BitFlags::from(AccessFs::RemoveDir)));
        let leaves = cgroups.leaves().map(|dir| (dir, AccessFs::ReadDir | AccessFs::ReadFile));
        for (dir, access) in parents.chain(leaves) {
            ruleset = ruleset.add_rule(PathBeneath::new(dir, access))?;
        }
    }
    Ok(ruleset.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;
    use crate::host::cgroups::{UnifiedHierarchy, V1Hierarchy};
    use crate::skip::note_skip;
    use rustix::fs::{Mode, OFlags, ResolveFlags};
    use rustix::io::Errno;
    use std::path::PathBuf;

    #[test]
    fn the_filter_of_a_waiting_gofer_compiles_with_and_without_cgroups() {
        for to_remove in [true, false] {
            seccomp::compile(&seccomp::helper_profile(&calls(to_remove))).unwrap();
        }
    }

    #[test]
    fn without_cgroups_a_waiting_gofer_opens_and_removes_nothing() {
        let calls = calls(false);
        assert!(ALLOWED_TO_REMOVE.iter().all(|call| !calls.contains(call)));
    }

    /// A new cgroup, where the caller may make one.
    fn make_cgroup(name: &str) -> Option<PathBuf> {
        let layout = host::cgroups_for(None).unwrap();
        let v1 = layout.v1.iter().filter(|hierarchy| hierarchy.has("freezer")).map(V1Hierarchy::own_dir);
        let v2 = layout.unified.iter().flat_map(UnifiedHierarchy::point_dirs);
        v1.chain(v2).find_map(|dir| {
            let cgroup = dir.join(format!("cofferdam-test-confine-{}-{name}", std::process::id()));
            std::fs::create_dir(&cgroup).is_ok().then_some(cgroup)
        })
    }

    fn open_procs(cgroup: &Path, flags: OFlags) -> rustix::io::Result<()> {
        let path = cgroup.join("cgroup.procs");
        rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), ResolveFlags::empty()).map(drop)
    }

    #[test]
    fn a_waiting_gofer_removes_its_containers_cgroup_and_reads_no_other() {
        let (Some(own), Some(other)) = (make_cgroup("own"), make_cgroup("other")) else {
            return note_skip("the caller may make no cgroup");
        };
        for below in ["nested", "nested/deeper"] {
            std::fs::create_dir(own.join(below)).unwrap();
        }
        let remover = Remover::open(std::slice::from_ref(&own), &[]).unwrap();
        let (results, seen) = std::sync::mpsc::channel();
        let (mine, others) = (own.clone(), other.clone());
        // Landlock, capabilities and the filter belong to the thread. This one cannot even end any more.
        std::thread::spawn(move || {
            let opened = give_up_everything_but(Some(remover)).unwrap().map(|left| {
                let opened = [
                    open_procs(&mine, OFlags::RDONLY),
                    open_procs(&mine, OFlags::WRONLY),
                    open_procs(&others, OFlags::RDONLY),
                ];
                left.remove_when_empty();
                opened
            });
            results.send(opened).unwrap();
            loop {
                std::thread::park();
            }
        });
        let opened = seen.recv().unwrap();
        let stayed = [own.exists(), other.exists()];
        crate::cgroup::destroy(&[own, other]).unwrap();
        match opened {
            Some(opened) => assert_eq!(opened, [Ok(()), Err(Errno::ACCESS), Err(Errno::ACCESS)]),
            None => return note_skip("this kernel has no Landlock"),
        }
        assert_eq!(stayed, [false, true]);
    }
}

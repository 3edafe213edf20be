//! Mounts into a container that exists already, and their end.
//!
//! ```text
//!   client --Mount + step + gofer's connection--> sandbox --fork--> a child: enters the container's mount namespace,
//!      ^                                            |  ^            attaches what the gofer handed it, or a tmpfs
//!      +----------------- Reply --------------------+  +------------ MountReport, and ends
//! ```
//!
//! The child is a copy of the sandbox in the sandbox's pid namespace: nothing inside sees it, and the sandbox's loop
//! never waits for a path that the container controls. The sandbox remembers such mounts by the kernel's numbers, and only
//! these can be unmounted: not a mount of the configuration, and not one that covers secrets.

use super::init::tree;
use super::namespaces::InitNamespaces;
use super::resolve;
use super::target::ExecTarget;
use crate::error::{Actor, Error, ErrorKind, OsContext, RemoteFailure, Result};
use crate::plan::{TreeStep, relative_to_root};
use crate::process::Channel;
use crate::sys;
use crate::wire::init::MountReport;
use nix::sched::{CloneFlags, setns};
use resolve::ParentAndName;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::process::Pid;
use std::path::{Path, PathBuf};

/// As many links as the kernel follows in one path.
const MAX_LINKS: usize = 40;

/// A change of the mounts.
pub(super) enum MountWork {
    Mount { step: TreeStep, gofer: Option<Channel> },
    Unmount { destination: PathBuf },
}

/// The child, as the sandbox holds it.
pub(super) struct MountChild {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    pub(super) channel: Channel,
}

impl MountChild {
    /// Forks a child that does `work` in the container.
    pub(super) fn fork(target: &ExecTarget<'_>, work: &MountWork) -> Result<Self> {
        let (channel, theirs) = Channel::pair()?;
        match sys::fork(0, None).os(|| "clone3(mount)")? {
            sys::Forked::Parent { pid, pidfd } => Ok(Self { pid, pidfd, channel }),
            sys::Forked::Child => {
                let report = run(target, work, &theirs);
                let report = report
                    .unwrap_or_else(|error| MountReport::Failed(RemoteFailure::pack(Actor::Sandbox, &error)));
                let _ = theirs.send(&report, &[]);
                sys::exit_now(0)
            }
        }
    }
}

/// The child.
fn run(target: &ExecTarget<'_>, work: &MountWork, parent: &Channel) -> Result<MountReport> {
    let root = target.root;
    // The sandbox itself is in the mount namespace of the root container.
    let of_its_own = CloneFlags::from_bits_retain(target.exec_config.namespaces.cast_signed());
    let entered = of_its_own.contains(CloneFlags::CLONE_NEWNS).then_some(target.namespaces);
    let mut keep = vec![parent.as_fd(), root];
    keep.extend(entered.map(InitNamespaces::mount));
    if let MountWork::Mount { gofer: Some(gofer), .. } = work {
        keep.push(gofer.as_fd());
    }
    sys::close_all_but(&keep).os(|| "close_range()")?;
    rustix::thread::set_name(c"cofferdam-mount").os(|| "prctl(PR_SET_NAME)")?;
    // Where the sandbox has no pid namespace of its own, the kernel does not end its children with it.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .os(|| "prctl(PR_SET_PDEATHSIG)")?;
    rustix::process::umask(Mode::empty());
    if let Some(namespaces) = entered {
        setns(namespaces.mount(), CloneFlags::CLONE_NEWNS).os(|| "setns(container, CLONE_NEWNS)")?;
    }
    match work {
        MountWork::Mount { step, gofer } => {
            let mount = tree::attach_further(root, step, gofer.as_ref());
            let mount = mount.map_err(|error| match error.kind() {
                ErrorKind::Os(_) => error.during(step.field.clone()),
                _ => error,
            })?;
            Ok(MountReport::Mounted { id: id_of(mount.as_fd())? })
        }
        MountWork::Unmount { destination } => {
            unmount(root, destination, target.hot_mounts).map(|id| MountReport::Unmounted { id })
        }
    }
}

/// Unmounts the mount at `destination` if it is one of `known`. Files that are open in it stay open.
fn unmount(root: BorrowedFd<'_>, destination: &Path, known: &[u64]) -> Result<u64> {
    let step = || format!("unmount {destination:?}");
    let unknown = |problem: &str| Err(Error::new(ErrorKind::NotFound, step(), problem));
    let place = match follow(root, &relative_to_root(destination)) {
        Ok(place) => place,
        Err(Errno::NOENT | Errno::NOTDIR) => return unknown("there is nothing"),
        Err(errno) => return Err(errno).os(step),
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::openat(&place.parent, &place.name, flags, Mode::empty()).os(step)?;
    let id = id_of(found.as_fd())?;
    if !known.contains(&id) {
        return unknown("what is there was not mounted into the existing container");
    }
    // By its name in the opened directory, not by a path through /proc, which here is the container's. A mount point
    // cannot be renamed or removed, so the name still leads to this mount, unless a privileged process inside mounted over
    // it: then this takes away that process's mount.
    rustix::process::fchdir(&place.parent).os(step)?;
    rustix::mount::unmount(&place.name, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).os(step)?;
    Ok(id)
}

/// The directory and name that `path` leads to below `root`, after every symlink.
fn follow(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<ParentAndName> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let place = resolve::place(root, &path)?;
        let stat = rustix::fs::statat(&place.parent, &place.name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Ok(place);
        }
        let link = rustix::fs::readlinkat(&place.parent, &place.name, Vec::new())?;
        let link = Path::new(std::ffi::OsStr::new(link.to_str().map_err(|_| Errno::ILSEQ)?)).to_owned();
        path = match link.strip_prefix("/") {
            Ok(absolute) => absolute.to_owned(),
            Err(_) => path.parent().unwrap_or(Path::new("")).join(link),
        };
    }
    Err(Errno::LOOP)
}

/// The kernel's number of the mount that `at` is on. Since Linux 6.8 it is unique (statx(2), `STATX_MNT_ID_UNIQUE`);
/// before, the kernel reuses it for another mount.
fn id_of(at: BorrowedFd<'_>) -> Result<u64> {
    // KERNEL(6.8): before, the kernel fills in only the second of the two.
    let unique = StatxFlags::from_bits_retain(0x4000);
    let wanted = unique | StatxFlags::MNT_ID;
    rustix::fs::statx(at, "", AtFlags::EMPTY_PATH, wanted).os(|| "statx(mount)").map(|stat| stat.stx_mnt_id)
}

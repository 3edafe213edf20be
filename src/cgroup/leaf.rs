//! The cgroup of one executed process that has limits of its own: a leaf below the cgroup of the container's own processes.
//!
//! ```text
//!   v2                                          v1, in each hierarchy with one of the limits
//!   <name>/container          no process        <name>/container          the other processes (memory, pids)
//!   <name>/container/init     the others        <name>/container/exec-N   the process and what it starts
//!   <name>/container/exec-N   the process       <name>/exec-N             the same, for the other controllers
//!                             and what it
//!                             starts
//! ```
//!
//! A container that never executes such a process has neither. On v2 the first one makes `init`, because a cgroup that
//! gives controllers to its children holds no process itself ("No Internal Process Constraint" - kernel:
//! admin-guide/cgroup-v2): the sandbox moves the container's processes there, while they stand still.
//!
//! The caller makes the leaf and sets its limits ([`NewLeaf`]), because it has the paths. The sandbox lists and kills the
//! processes inside ([`ExecLeaf`]), and asks the gofer to remove it.

use super::dir::{CgroupDir, CgroupVersion, v1, v2};
use super::group::{apply, inherit};
use super::join;
use super::join::{ExecJoin, JOIN_V1, JOIN_V2};
use super::members::{Members, listed};
use super::oom::OomEvidence;
use super::update::LimitDirs;
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::plan::cgroup::{CONTAINER_INIT, ControllerUpdate, PlannedWrite, exec_leaf_name};
use crate::process::donation::Received;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use std::path::PathBuf;

/// Name of the leaf's directory, in v1 of any one of several.
const DIR: &str = "leaf-dir";
/// Name of `cgroup.kill`.
const KILL: &str = "leaf-kill";
/// Name of the file with the OOM killer's counter.
const OOM: &str = "leaf-oom";

/// A leaf that the caller has made. Dropping this removes it, unless a process [runs](Self::keep) in it.
#[derive(Debug)]
pub(crate) struct NewLeaf {
    number: u64,
    limited: LimitDirs,
    fds: Vec<(String, OwnedFd)>,
    kept: bool,
}

/// What the sandbox needs to move a container's processes into [`CONTAINER_INIT`] (v2).
#[derive(Debug)]
pub(crate) struct Split {
    /// What to enable for the children of the container's own cgroup: `+controller` for each.
    pub(crate) enable: String,
    /// The directory of [`CONTAINER_INIT`].
    pub(crate) dir: OwnedFd,
    /// Its `cgroup.procs`.
    pub(crate) join: OwnedFd,
    /// `cgroup.subtree_control` of the container's own cgroup.
    pub(crate) control: OwnedFd,
}

impl NewLeaf {
    /// Makes a leaf with these limits below the recorded `cgroups` of a container. `split` has the sandbox make room for
    /// it, where that is necessary.
    ///
    /// # Errors
    /// As [`LimitDirs::write`], and those of `split`.
    pub(crate) fn make(
        cgroups: &[PathBuf],
        limits: &[ControllerUpdate],
        mut split: impl FnMut(Split) -> Result<()>,
    ) -> Result<Self> {
        let mut leaf =
            Self { number: random()?, limited: LimitDirs::open(cgroups)?, fds: Vec::new(), kept: false };
        // Several controllers can share a hierarchy. Look for all of them before anything is made.
        let mut places: Vec<(&CgroupDir, Vec<&ControllerUpdate>, Vec<&PlannedWrite>)> = Vec::new();
        for limit in limits {
            let (dir, writes) = leaf.limited.place(limit)?;
            let dir = dir.exact();
            match places.iter_mut().find(|(known, ..)| known.path() == dir.path()) {
                Some((_, limits, all)) => {
                    limits.push(limit);
                    all.extend(writes);
                }
                None => places.push((dir, vec![limit], writes.iter().collect())),
            }
        }
        for (parent, limits, writes) in &places {
            let during = |error: Error| error.during(limits[0].field.clone());
            if parent.version() == CgroupVersion::V2
                && let Some(needed) = Split::needed(parent, limits).map_err(during)?
            {
                split(needed)?;
            }
            let fds = enter(parent, leaf.number, writes).map_err(during)?;
            // In a hybrid layout the v2 directory is the one to start in.
            let of_v2 = parent.version() == CgroupVersion::V2;
            let known = |fds: &[(String, OwnedFd)], name: &str| fds.iter().any(|(known, _)| known == name);
            for (name, fd) in fds {
                let twice = known(&leaf.fds, &name);
                if twice && of_v2 {
                    leaf.fds.retain(|(known, _)| *known != name);
                }
                if !twice || of_v2 {
                    let name = if name == JOIN_V1 { format!("{name}-{}", leaf.fds.len()) } else { name };
                    leaf.fds.push((name, fd));
                }
            }
        }
        Ok(leaf)
    }

    /// Part of its name.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The descriptors that the sandbox needs, by name.
    pub(crate) fn fds(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.fds.iter().map(|(name, fd)| (name.as_str(), fd.as_fd()))
    }

    /// Closes the descriptors, which the sandbox has got.
    pub(crate) fn handed_over(mut self) -> Self {
        self.fds.clear();
        self
    }

    /// A process runs in it: the sandbox has it removed after that.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NewLeaf {
    fn drop(&mut self) {
        if !self.kept {
            // One that was not made is gone, and one with a process in it stays for the sandbox.
            let name = exec_leaf_name(self.number);
            self.limited.0.iter().for_each(|dir| drop(dir.exact().remove(name.as_ref())));
        }
    }
}

/// Makes the leaf in one hierarchy, and returns the descriptors for the sandbox.
fn enter(parent: &CgroupDir, number: u64, writes: &[&PlannedWrite]) -> Result<Vec<(String, OwnedFd)>> {
    let name = exec_leaf_name(number);
    if !parent.make(name.as_ref())? {
        let problem = format!("{:?} exists", parent.path().join(name));
        return Err(Error::new(ErrorKind::AlreadyExists, "create cgroup", problem));
    }
    let dir = parent.child(name.as_ref())?;
    // A v1 cpuset takes a process only after both have a value.
    if parent.version() == CgroupVersion::V1 && parent.has("cpuset.cpus")? {
        ["cpuset.cpus", "cpuset.mems"].iter().try_for_each(|file| inherit(file, parent, &dir))?;
    }
    writes.iter().try_for_each(|write| apply(write, parent, &dir))?;
    let mut fds = vec![(DIR.into(), dir.duplicate()?)];
    let oom = match dir.version() {
        CgroupVersion::V1 => {
            fds.push((JOIN_V1.into(), dir.open_write(v1::JOIN)?));
            v1::OOM
        }
        CgroupVersion::V2 => {
            give_as(parent, &dir);
            fds.push((join::DIR.into(), dir.duplicate()?));
            fds.push((JOIN_V2.into(), dir.open_write(v2::JOIN)?));
            // KERNEL(5.14): cgroup.kill
            fds.extend(dir.open_write("cgroup.kill").ok().map(|kill| (KILL.into(), kill)));
            v2::OOM
        }
    };
    fds.extend(dir.open_read(oom).ok().map(|oom| (OOM.into(), oom)));
    Ok(fds)
}

/// Gives `cgroup.procs` to the user that has the parent's, so that the sandbox can start processes in it.
fn give_as(parent: &CgroupDir, dir: &CgroupDir) {
    let given = parent.owner(v2::JOIN).and_then(|owner| dir.give(v2::JOIN, owner));
    given.unwrap_or_else(|error| tracing::debug!(%error, "processes will move into their cgroup"));
}

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty()).os(|| "getrandom(8 bytes)")?;
    Ok(u64::from_ne_bytes(bytes))
}

impl Split {
    /// `None` if the container's own cgroup `dir` gives its children all controllers that the limits need.
    fn needed(dir: &CgroupDir, limits: &[&ControllerUpdate]) -> Result<Option<Self>> {
        let control = "cgroup.subtree_control";
        let enabled = dir.read(control)?;
        let is_on = |name: &str| enabled.split_ascii_whitespace().any(|on| on == name);
        let missing = limits.iter().filter(|limit| !is_on(&limit.controller));
        let enable: Vec<_> = missing.map(|limit| format!("+{}", limit.controller)).collect();
        if enable.is_empty() {
            return Ok(None);
        }
        dir.make(CONTAINER_INIT.as_ref())?;
        let init = dir.child(CONTAINER_INIT.as_ref())?;
        give_as(dir, &init);
        Ok(Some(Self {
            enable: enable.join(" "),
            dir: init.duplicate()?,
            join: init.open_write(v2::JOIN)?,
            control: dir.open_write(control)?,
        }))
    }

    /// Moves the processes of the cgroup `from` into [`CONTAINER_INIT`], and enables the controllers. Call it while the
    /// processes stand still. Whether the caller may move them was decided when `join` was opened.
    ///
    /// # Errors
    /// The errno of write(2): `EBUSY` if a process cannot be moved.
    pub(crate) fn carry_out(&self, from: BorrowedFd<'_>) -> Result<()> {
        /// Each look moves all that it finds.
        const LOOKS: usize = 64;
        for look in 1.. {
            for pid in listed(from)? {
                match rustix::io::write(&self.join, pid.to_string().as_bytes()) {
                    Ok(_) | Err(Errno::SRCH) => {}
                    Err(errno) => return Err(errno).os(|| format!("write(cgroup.procs, \"{pid}\")")),
                }
            }
            let step = || format!("write(cgroup.subtree_control, {:?})", self.enable);
            match rustix::io::write(&self.control, self.enable.as_bytes()) {
                Err(Errno::BUSY) if look < LOOKS => {}
                enabled => return enabled.map(drop).os(step),
            }
        }
        Ok(())
    }
}

/// The leaf of an executed process, as the sandbox has it.
#[derive(Debug)]
pub(crate) struct ExecLeaf {
    number: u64,
    members: Members,
    kill: Option<OwnedFd>,
    oom: Option<OwnedFd>,
    is_v2: bool,
}

impl ExecLeaf {
    /// Takes the descriptors of the leaf with this number, which its process joins by `join`.
    ///
    /// # Errors
    /// [`ErrorKind::PeerMisbehaved`] without a directory.
    pub(crate) fn take(number: u64, join: &ExecJoin, fds: &mut Received) -> Result<Self> {
        Ok(Self {
            number,
            members: Members(fds.take(DIR)?),
            kill: fds.take_optional(KILL),
            oom: fds.take_optional(OOM),
            is_v2: join.directory().is_some(),
        })
    }

    /// Part of its name.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// A pidfd of one of the processes in it; `None` if there is none.
    pub(crate) fn member(&self) -> Option<OwnedFd> {
        self.members.one().ok().flatten()
    }

    /// Whether [`kill`](Self::kill) kills also processes that are being forked. Otherwise they have to stand still.
    pub(crate) fn kills_at_once(&self) -> bool {
        self.kill.is_some()
    }

    /// Sends SIGKILL to every process in it.
    ///
    /// # Errors
    /// The system call that failed.
    pub(crate) fn kill(&self) -> Result<()> {
        match &self.kill {
            Some(kill) => rustix::io::write(kill, b"1").map(drop).os(|| "write(cgroup.kill, \"1\")"),
            None => self.members.kill_each(),
        }
    }

    /// How many of its processes the OOM killer has killed; `None` without a memory controller.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        OomEvidence::read(self.oom.as_ref()?.as_fd(), None).ok().map(|evidence| evidence.oom_kills)
    }

    /// Whether the container's own cgroup counts [these](Self::oom_kills), too: v1 counts a kill in one cgroup only.
    pub(crate) fn counts_above(&self) -> bool {
        self.is_v2
    }
}

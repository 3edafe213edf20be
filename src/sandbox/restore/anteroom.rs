//! The sandbox's half of a restore in which CRIU makes PID 1; `sandbox::init::anteroom` has the other.

use super::{First, Restorer, find_restored, misbehaved};
use crate::error::{OsContext, Result};
use crate::helper::Received;
use crate::process::Channel;
use crate::sandbox::members;
use crate::sandbox::namespaces::InitNamespaces;
use crate::wire::init::{FIRST_PROCESS, InitRequest};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::PROC_SUPER_MAGIC;
use std::time::Instant;

/// Where CRIU begins: what init handed over before CRIU was there, so that no image has a part in it.
pub(in crate::sandbox) struct Anteroom {
    pub(in crate::sandbox) namespaces: InitNamespaces,
    pub(in crate::sandbox) null: OwnedFd,
    proc: OwnedFd,
    /// The inode number of the pid namespace that CRIU has made.
    pids: Option<u64>,
    /// Init assembles the root, and CRIU waits.
    pub(in crate::sandbox) assembling: bool,
}

impl Anteroom {
    pub(in crate::sandbox) fn take(handles: &mut Received) -> Result<Self> {
        Ok(Self {
            namespaces: InitNamespaces::take(handles)?,
            null: handles.take("null")?,
            proc: handles.take("proc")?,
            pids: None,
            assembling: false,
        })
    }

    /// CRIU says that it has made PID 1, and that this is its pid.
    pub(in crate::sandbox) fn meet_first(&mut self, restorer: &mut Restorer, pid: i32) -> Result<()> {
        let stranger = || misbehaved("its first process has no pid namespace of its own");
        let pidfd = find_restored(&self.namespaces, pid)?;
        let member = members::find(self.proc.as_fd(), pid)?.ok_or_else(stranger)?;
        let own = rustix::fs::fstat(self.namespaces.pids()).os(|| "fstat(pid namespace)")?.st_ino;
        let pids = member.namespace("pid").filter(|pids| *pids != own).ok_or_else(stranger)?;
        restorer.first = Some(First { pidfd, member, next_look: Instant::now() });
        restorer.posture.expect_pids(pids);
        self.pids = Some(pids);
        restorer.go_on()
    }

    /// Has init assemble the root in the namespaces of PID 1.
    pub(in crate::sandbox) fn assemble(&mut self, restorer: &Restorer, init: &Channel) -> Result<()> {
        let first = restorer.first.as_ref().filter(|_| !self.assembling);
        let first = first.ok_or_else(|| misbehaved("it has no first process"))?;
        self.assembling = true;
        init.send(&InitRequest::Assemble, &[(FIRST_PROCESS, first.pidfd.as_fd())])
    }

    /// Fails unless this is a proc of the pid namespace that CRIU has made. Whatever CRIU had become by then could look into
    /// the process that has mounted it.
    pub(in crate::sandbox) fn check_proc(&self, proc: BorrowedFd<'_>) -> Result<()> {
        let is_proc = rustix::fs::fstatfs(proc).os(|| "fstatfs(proc)")?.f_type == PROC_SUPER_MAGIC;
        let first = members::find(proc, 1)?.and_then(|first| first.namespace("pid"));
        match is_proc && first.is_some() && first == self.pids {
            true => Ok(()),
            false => Err(misbehaved("the proc is not that of its first process")),
        }
    }
}

//! [`KeptFiles`]: what the creator's value keeps of a container, so that its files can be reached after its end.
//!
//! A mount namespace lives as long as a process is in it or a descriptor of it is open, and its mounts with it. So the
//! value needs no process and no mount of its own, and the kernel cleans up when the descriptors close, whatever happens
//! to this program.

use super::file_worker::FileWorker;
use crate::error::{Error, ErrorKind, Result};
use crate::helper::Donations;
use crate::helper::entry::{FILES, reexec};
use crate::helper::spawn::{Start, seal_plan, spawn};
use crate::link::{SandboxLink, user_namespace_of};
use crate::process::Channel;
use crate::state::{IdClaim, Record};
use crate::wire::control::{Operation, Reply};
use crate::wire::files::Bytes;
use rustix::fd::OwnedFd;

/// The namespaces, the root and the layers of a container.
#[derive(Debug)]
pub(in crate::container) struct KeptFiles {
    user: OwnedFd,
    /// Where the overlays are, relative to the root.
    overlays: Vec<Bytes>,
    /// `root`, `mount-namespace`, and the layers of the overlays.
    fds: Vec<(String, OwnedFd)>,
    /// The range of host ids, which workers have after the end of the container.
    _ids: Option<IdClaim>,
}

impl KeptFiles {
    /// Asks the sandbox of a live container for them.
    pub(in crate::container) fn of(
        live: &SandboxLink,
        record: &Record,
        ids: Option<IdClaim>,
    ) -> Result<Self> {
        let sandbox = record.sandbox.ok_or_else(|| Error::new(ErrorKind::Ended, "files", "no sandbox"))?;
        let user = user_namespace_of(sandbox, &record.boot_id)?;
        let answer = live.begin(Operation::Root)?.delivery()?;
        match answer.message {
            Reply::Root { overlays } => Ok(Self { user, overlays, fds: answer.fds.into_named(), _ids: ids }),
            Reply::Failed(failure) => Err(failure.into()),
            other => Err(Error::new(ErrorKind::PeerMisbehaved, "files", format!("{other:?} is no answer"))),
        }
    }

    /// Starts a worker of this program's.
    pub(super) fn worker(&self) -> Result<FileWorker> {
        let (ours, theirs) = Channel::pair()?;
        let overlays = seal_plan(&self.overlays)?;
        let mut donations = Donations::default();
        donations.give("connection", &theirs);
        donations.give("overlays", &overlays);
        donations.give("user-namespace", &self.user);
        for (name, fd) in &self.fds {
            donations.give(name.as_str(), fd);
        }
        let start = Start::of(FILES);
        FileWorker::of(ours, spawn(reexec()?, &start, &donations)?)
    }
}

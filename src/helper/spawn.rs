//! Starting a helper.

use super::entry::constructor_is_linked;
use super::{Donations, image};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::process::reap;
use crate::process::stdio::dev_null;
use crate::sys;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Signal};
use serde::{Serialize, de::DeserializeOwned};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;

/// The largest plan a helper reads: a configuration of the largest size, planned.
const MAX_PLAN: u64 = 64 << 20;

/// A child process, by pidfd. Dropping it leaves the process alone; whoever started it decides.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Child {
    pub(crate) fn new(pid: Pid, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(crate) fn into_pidfd(self) -> OwnedFd {
        self.pidfd
    }

    /// Kills and collects it. Used where something went wrong half-way.
    pub(crate) fn destroy(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        reap(self.pidfd());
    }
}

/// How a helper is started, besides what it is given.
pub(crate) struct Start<'a> {
    /// `argv[0]`.
    pub(crate) name: &'a str,
    /// `CLONE_NEW*`.
    pub(crate) namespaces: u32,
    /// A cgroup v2 directory to be born in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
}

/// Executes the image as the helper `start.name`, with `donations` as its only descriptors.
pub(crate) fn spawn(start: &Start<'_>, donations: &Donations<'_>) -> Result<Child> {
    if !constructor_is_linked() {
        return Err(Error::unsupported(
            "re-execution",
            "the constructor of this crate did not run in this program",
        )
        .hint("link the crate into the main executable"));
    }
    let name = CString::new(start.name).expect("helper names are literals without NUL");
    let list = donations.argument();
    let library_path = library_path();
    let environment: Vec<&CStr> = library_path.iter().map(CString::as_c_str).collect();
    let helper = sys::Helper {
        image: image::image()?,
        argv: &[&name, &list],
        envp: &environment,
        null: dev_null()?,
        donated: donations.fds(),
        namespaces: start.namespaces,
        cgroup: start.cgroup,
    };
    let (pid, pidfd) = sys::spawn_helper(&helper)
        .map_err(|error| (error.call, error.errno))
        .or_else(|(call, errno)| Err(errno).os(|| format!("spawn {}: {call}", start.name)))?;
    Ok(Child { pid, pidfd })
}

/// The one variable a helper inherits: without it, a program started by a loader with extra directories could not be
/// executed again.
fn library_path() -> Option<CString> {
    let value = std::env::var_os("LD_LIBRARY_PATH")?;
    CString::new([b"LD_LIBRARY_PATH=".as_slice(), &value.into_vec()].concat()).ok()
}

/// Puts `plan` into sealed memory, to be donated: as large as it needs to be, and unchangeable once given.
pub(crate) fn seal_plan<P: Serialize>(plan: &P) -> Result<OwnedFd> {
    let bytes = serde_json::to_vec(plan)
        .map_err(|error| Error::new(ErrorKind::InvalidInput, "serialize plan", error.to_string()))?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = File::from(rustix::fs::memfd_create("cofferdam-plan", flags).os(|| "memfd_create(plan)")?);
    memory.write_all_at(&bytes, 0).os(|| "write(plan)")?;
    image::seal(memory.as_fd())?;
    Ok(memory.into())
}

/// Reads a plan out of donated memory. Anything else a read could wait for, or find changed: only sealed memory is read.
pub(crate) fn read_plan<P: DeserializeOwned>(memory: OwnedFd) -> Result<P> {
    if !image::is_sealed(memory.as_fd()) {
        return Err(Error::new(ErrorKind::PeerMisbehaved, "read plan", "it is not in sealed memory"));
    }
    let mut bytes = Vec::new();
    File::from(memory).take(MAX_PLAN).read_to_end(&mut bytes).os(|| "read(plan)")?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::new(ErrorKind::PeerMisbehaved, "read plan", error.to_string()))
}

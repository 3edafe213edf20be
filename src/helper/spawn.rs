//! Starting a helper.

use super::{Child, Donations, image};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::process::memory;
use crate::process::stdio::dev_null;
use crate::sys;
use crate::weaken;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use serde::{Serialize, de::DeserializeOwned};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;

/// The most bytes of a plan that a helper reads. The plan of a configuration of the largest size is shorter.
const MAX_PLAN: usize = 64 << 20;

/// Proof that a new process which executes the image becomes a helper: either this program runs this crate's constructor,
/// or a [`Helper`](super::Helper) was installed. [`entry::reexec`](super::entry::reexec) gives it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reexec(());

impl Reexec {
    /// For [`entry`](super::entry) alone, which has the constructor.
    pub(super) fn proven() -> Self {
        Self(())
    }
}

/// What a helper is started as.
pub(crate) struct Start<'a> {
    /// `argv[0]`.
    pub(crate) name: &'a str,
    /// `CLONE_NEW*`.
    pub(crate) namespaces: u32,
    /// The cgroup v2 directory to start in; `None` for the caller's cgroup.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// Namespaces that it joins before it is in a new user namespace, each with its `CLONE_NEW*`.
    pub(crate) joins: &'a [(i32, BorrowedFd<'a>)],
}

impl<'a> Start<'a> {
    /// In the caller's namespaces and cgroup.
    pub(crate) fn of(name: &'a str) -> Self {
        Self { name, namespaces: 0, cgroup: None, joins: &[] }
    }
}

/// Executes the helpers' program as the helper `start.name`, with `donations` as its only descriptors.
pub(crate) fn spawn(_: Reexec, start: &Start<'_>, donations: &Donations<'_>) -> Result<Child> {
    let name = CString::new(start.name).expect("helper names are literals without NUL");
    let list = donations.argument();
    let environment = [library_path(), weaken::inherited()];
    let environment: Vec<&CStr> = environment.iter().flatten().map(CString::as_c_str).collect();
    let helper = sys::Helper {
        image: image::image()?,
        argv: &[&name, &list],
        envp: &environment,
        null: dev_null()?,
        donated: donations.fds(),
        namespaces: start.namespaces,
        cgroup: start.cgroup,
        joins: start.joins,
    };
    let (pid, pidfd) = sys::spawn_helper(&helper)
        .map_err(|error| (error.call, error.errno))
        .or_else(|(call, errno)| Err(errno).os(|| format!("spawn {}: {call}", start.name)))?;
    Ok(Child::new(pid, pidfd))
}

/// The one variable that a helper inherits. If this program needs it to find its libraries, so does the helper.
fn library_path() -> Option<CString> {
    let value = std::env::var_os("LD_LIBRARY_PATH")?;
    CString::new([b"LD_LIBRARY_PATH=".as_slice(), &value.into_vec()].concat()).ok()
}

/// Writes `plan` into sealed memory, for donation: no process can change it afterwards.
pub(crate) fn seal_plan<P: Serialize>(plan: &P) -> Result<OwnedFd> {
    let bytes = serde_json::to_vec(plan)
        .map_err(|error| Error::new(ErrorKind::InvalidInput, "serialize plan", error.to_string()))?;
    memory::sealed("cofferdam-plan", &bytes)
}

/// Reads a plan out of donated memory. Reads only sealed memory: a read of another file could block, or see a change.
pub(crate) fn read_plan<P: DeserializeOwned>(memory: OwnedFd) -> Result<P> {
    if !memory::is_sealed(memory.as_fd()) {
        return Err(Error::new(ErrorKind::PeerMisbehaved, "read plan", "it is not in sealed memory"));
    }
    let size = rustix::fs::fstat(&memory).os(|| "fstat(plan)")?.st_size;
    let mut bytes = vec![0; usize::try_from(size).unwrap_or_default().min(MAX_PLAN)];
    // Not from a position: other processes may read the same memory, and have the same one.
    File::from(memory).read_exact_at(&mut bytes, 0).os(|| "read(plan)")?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::new(ErrorKind::PeerMisbehaved, "read plan", error.to_string()))
}

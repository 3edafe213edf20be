//! The OOM score that init is born with: the sandbox takes it on, forks, and goes back to its own.
//!
//! Init cannot set it: the file belongs to the host's root once a process cannot be dumped, which none of the
//! container's may be.

use crate::error::{OsContext, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};

const FILE: &str = "/proc/self/oom_score_adj";

/// A score in use, and the one to go back to.
pub(super) struct Lent {
    file: OwnedFd,
    own: Vec<u8>,
}

impl Lent {
    /// Takes on `score`.
    pub(super) fn lend(score: i32) -> Result<Self> {
        let file = rustix::fs::open(FILE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .os(|| format!("open({FILE:?})"))?;
        let mut own = vec![0; 16];
        let length = rustix::io::read(&file, own.as_mut_slice()).os(|| format!("read({FILE:?})"))?;
        own.truncate(length);
        let lent = Self { file, own };
        lent.write(score.to_string().as_bytes())?;
        Ok(lent)
    }

    /// Goes back. Needs no privilege: what was raised without one may be lowered again (proc_pid_oom_score_adj(5)).
    pub(super) fn take_back(self) -> Result<()> {
        self.write(&self.own)
    }

    fn write(&self, score: &[u8]) -> Result<()> {
        rustix::io::write(&self.file, score)
            .os(|| format!("write({FILE:?}, {:?})", String::from_utf8_lossy(score)))
            .map(drop)
            .map_err(|error| error.during("process.oomScoreAdj"))
    }
}

//! The OOM score that the container's processes are born with: the sandbox takes it on, forks, and goes back to its own.
//!
//! They cannot set it themselves: the file belongs to the host's root once a process cannot be dumped, which none of the
//! container's may be. So it is opened before that, and kept.

use crate::error::{OsContext, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};

const FILE: &str = "/proc/self/oom_score_adj";

/// This process's score.
pub(super) struct OomScore {
    file: OwnedFd,
}

impl OomScore {
    pub(super) fn open() -> Result<Self> {
        let file = rustix::fs::open(FILE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .os(|| format!("open({FILE:?})"))?;
        Ok(Self { file })
    }

    /// Does `work`, a fork, with `score`; with the own one if `None`.
    ///
    /// Going back needs no privilege: what was raised without one may be lowered again (proc_pid_oom_score_adj(5)).
    pub(super) fn lend<T>(&self, score: Option<i32>, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(score) = score else { return work() };
        let mut own = [0; 16];
        let length = rustix::io::pread(&self.file, &mut own, 0).os(|| format!("read({FILE:?})"))?;
        self.write(score.to_string().as_bytes())?;
        let result = work();
        self.write(&own[..length])?;
        result
    }

    fn write(&self, score: &[u8]) -> Result<()> {
        rustix::io::pwrite(&self.file, score, 0)
            .os(|| format!("write({FILE:?}, {:?})", String::from_utf8_lossy(score)))
            .map(drop)
            .map_err(|error| error.during("process.oomScoreAdj"))
    }
}

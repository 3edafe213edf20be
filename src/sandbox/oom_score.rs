//! The OOM scores: the sandbox's own, and the one that each container's processes are born with.
//!
//! The sandbox has the lowest score that one of its containers asks for, so that the OOM killer does not take it before any
//! of them. To fork a process of a container, it takes on that container's score (or the one that it started with, if the
//! configuration has none) and then goes back to its own. The new process could not set its score itself: it cannot be
//! dumped, and then the file belongs to the host's root. For the same reason the sandbox opens its own file early.

use crate::error::{Error, ErrorKind, OsContext, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};

const FILE: &str = "/proc/self/oom_score_adj";

/// This process's score.
pub(super) struct OomScore {
    file: OwnedFd,
    /// The score that it started with: its caller's.
    inherited: i32,
}

impl OomScore {
    pub(super) fn open() -> Result<Self> {
        let file = rustix::fs::open(FILE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .os(|| format!("open({FILE:?})"))?;
        Ok(Self { inherited: read(&file)?, file })
    }

    /// Takes on the lowest of these scores of containers; the inherited one if there are none.
    ///
    /// A process without `CAP_SYS_RESOURCE` may not go below the lowest value that a process with it has set
    /// (proc_pid_oom_score_adj(5)). Where the wanted score is lower than that, it stays at the inherited one.
    pub(super) fn settle(&self, scores: impl Iterator<Item = i32>) {
        let wanted = scores.min().unwrap_or(self.inherited);
        let unchanged = read(&self.file).is_ok_and(|own| own == wanted);
        if !unchanged && self.write(wanted).is_err() {
            // The score is only advice to the kernel: everything else works with another one.
            let _ = self.write(self.inherited);
        }
    }

    /// Does `work`, a fork, with the `score` of a container.
    ///
    /// Going back needs no privilege: a process may lower again what it raised (proc_pid_oom_score_adj(5)).
    pub(super) fn lend<T>(&self, score: Option<i32>, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let (own, score) = (read(&self.file)?, score.unwrap_or(self.inherited));
        if own == score {
            return work();
        }
        self.write(score)?;
        let result = work();
        self.write(own)?;
        result
    }

    fn write(&self, score: i32) -> Result<()> {
        rustix::io::pwrite(&self.file, score.to_string().as_bytes(), 0)
            .os(|| format!("write({FILE:?}, \"{score}\")"))
            .map(drop)
            .map_err(|error| error.during("process.oomScoreAdj"))
    }
}

fn read(file: &OwnedFd) -> Result<i32> {
    let mut text = [0; 16];
    let step = || format!("read({FILE:?})");
    let length = rustix::io::pread(file, &mut text, 0).os(step)?;
    let number = std::str::from_utf8(&text[..length]).ok().and_then(|text| text.trim_end().parse().ok());
    number.ok_or_else(|| Error::new(ErrorKind::Os(libc::EINVAL), step(), "is no number"))
}

//! The OOM scores: the sandbox's own, and the one that each container's processes are born with.
//!
//! The sandbox's is the lowest that one of its containers asks for, so that it is not taken before any of them. That of
//! a container, or the one this process started with where its configuration names none, it takes on to fork, and goes
//! back to its own: the new process could not set it itself, because the file belongs to the host's root once a process
//! cannot be dumped, which none of the container's may be. For the same reason the file is opened before that, and kept.

use crate::error::{Error, ErrorKind, OsContext, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};

const FILE: &str = "/proc/self/oom_score_adj";

/// This process's score.
pub(super) struct OomScore {
    file: OwnedFd,
    /// The one it was started with: its caller's.
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
    /// Where that is lower than this process may go (without `CAP_SYS_RESOURCE`: lower than it was ever set to by
    /// somebody with it, proc_pid_oom_score_adj(5)), it stays at the inherited one.
    pub(super) fn settle(&self, scores: impl Iterator<Item = i32>) {
        let wanted = scores.min().unwrap_or(self.inherited);
        let unchanged = read(&self.file).is_ok_and(|own| own == wanted);
        if !unchanged && self.write(wanted).is_err() {
            // A score is an advice: with another one everything else still works.
            let _ = self.write(self.inherited);
        }
    }

    /// Does `work`, a fork, with the `score` of a container.
    ///
    /// Going back needs no privilege: what was raised without one may be lowered again (proc_pid_oom_score_adj(5)).
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

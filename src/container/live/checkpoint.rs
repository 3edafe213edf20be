//! Images of containers that live: [`Container::snapshot`] and [`Container::checkpoint`].
//!
//! ```text
//!   this process                                    sandbox                 CRIU
//!     lock of the record
//!     Checkpoint ---------------------------------> keeps the container as it is
//!     dump ----------------------------------------------------------------> stops the processes, writes them down
//!     <-------------------------------------------------------- post-dump
//!     the layers, by a file worker
//!     snapshot:   go on ---------------------------------------------------> lets them run
//!                 the manifest
//!     checkpoint: the manifest
//!                 EndCheckpointed ----------------> kills them
//! ```
//!
//! The manifest is what makes the directory an image, so a checkpoint kills nothing before there is a whole one.

use super::image_facts::{ImageFacts, check_caller};
use crate::container::handle::Handle;
use crate::container::{Container, Executed, Failed, Phase, Stopped};
use crate::criu::{After, Criu, Dump};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::image::NewImage;
use crate::link::{Ending, KILL_LIMIT, SandboxLink, observe, stuck};
use crate::process::Channel;
use crate::state::{Record, StateLock, Status};
use crate::sys::ProcStat;
use crate::wire::control::{EndCheckpointed, Operation, Reply};
use rustix::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// How long the sandbox may take for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

impl<P: Phase + ?Sized> Container<P> {
    /// Writes an [image](crate::checkpoint::Image) of the container into `directory`, and lets the container go on: running,
    /// or paused.
    ///
    /// `directory` must be empty or not be there; it gets the mode 0700, because it will have the memory of the container.
    /// The processes stand still until CRIU and this crate have written all but the manifest. Meanwhile the container can be
    /// signalled and killed, and nothing else: [`exec`](Self::exec), [`pause`](Container::pause), [`mount`](Self::mount)
    /// and their like fail with `EBUSY`, and [`delete`](crate::AnyContainer::delete) waits. What is written when this fails,
    /// is removed; a program that is killed leaves a directory without a manifest, which is no image.
    ///
    /// A paused container stays as it is, but for one thing: a process in the middle of starting another (vfork(2),
    /// posix_spawn(3)) runs until it has.
    ///
    /// [The manual](crate::manual::checkpoint) says what an image has, and what keeps a container from having one.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a caller that is not root of the host, for what cannot be in an image (processes of
    /// exec, TCP connections, file locks, a file of the host as a standard stream, ...), and with what CRIU said where it
    /// cannot; `ENOTEMPTY`, `ENOSPC` and other errnos of writing the image; [`ErrorKind::Ended`] if the container ends
    /// before all is written; [`ErrorKind::HelperDied`] if CRIU is killed: the container goes
    /// on, unless CRIU had a process of it run its own code at that moment, which can be the end of that process.
    pub fn snapshot(&self, criu: &Criu, directory: impl AsRef<Path>) -> Result<()>
    where
        P: Executed,
    {
        write(&self.core, self.phase.live(), self.phase.status(), criu, directory.as_ref(), Then::GoOn)
    }
}

impl<P: Phase> Container<P> {
    /// Writes an [image](crate::checkpoint::Image) as [`snapshot`](Self::snapshot) does, and ends the container with
    /// [`Outcome::Checkpointed`](crate::Outcome::Checkpointed). It is killed when the image is whole, without having run on.
    /// If another process kills it in that moment, its outcome says so, and the image is whole all the same.
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot); the container comes back and goes on. [`ErrorKind::TimedOut`] if there is an image,
    /// and a process has not ended ten seconds after it was killed.
    pub fn checkpoint(self, criu: &Criu, directory: impl AsRef<Path>) -> Result<Container<Stopped>, Failed<P>>
    where
        P: Executed,
    {
        let (live, phase) = (self.phase.live(), self.phase.status());
        let written = write(&self.core, live, phase, criu, directory.as_ref(), Then::End);
        let ended = written.and_then(|()| live.wait_until(Some(Instant::now() + KILL_LIMIT)));
        let exit = ended.and_then(|ended| match ended {
            true => self.core.exit(),
            false => Err(stuck(
                "checkpoint",
                "there is an image, and its processes are still there",
                live.sandbox_pid(),
            )),
        });
        match exit {
            Ok(exit) => Ok(self.into_stopped(exit)),
            Err(error) => Err(self.recover(error)),
        }
    }
}

/// What becomes of the container when its image is written.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    GoOn,
    End,
}

fn write(
    core: &Handle,
    live: &SandboxLink,
    phase: Status,
    criu: &Criu,
    path: &Path,
    then: Then,
) -> Result<()> {
    check_caller()?;
    live.check_alive("checkpoint")?;
    let (_lock, record) = lock_in_phase(core, phase)?;
    let written = keep_still(live).and_then(|held| {
        let facts = ImageFacts::of(&record, live, phase)?;
        write_still(live, &record, &facts, &held, criu, path, then)
    });
    // What CRIU says of processes that end while it looks at them is not the reason.
    written.map_err(|error| match ends(live) {
        Ok(Some(ending)) => ending.error("checkpoint").because(error),
        _ => error,
    })
}

/// The end of the container, if it has come or is coming.
fn ends(live: &SandboxLink) -> Result<Option<Ending>> {
    let stat = std::fs::read(format!("/proc/{}/stat", live.init_pid())).ok();
    let lives = stat
        .and_then(|stat| ProcStat::parse(&stat))
        .is_some_and(|stat| !stat.is_dead() && !stat.is_exiting());
    if lives {
        return Ok(None);
    }
    let ending = live.ending()?;
    Ok(ending.is_near()?.then_some(ending))
}

/// Writes the image of a container that the sandbox keeps as it is.
fn write_still(
    live: &SandboxLink,
    record: &Record,
    facts: &ImageFacts,
    sandbox: &Channel,
    criu: &Criu,
    path: &Path,
    then: Then,
) -> Result<()> {
    let mut image = NewImage::create(path)?;
    let images = image.criu().try_clone_to_owned().os(|| "fcntl(F_DUPFD_CLOEXEC)")?;
    let dump =
        Dump { pid: live.init_pid(), external: &facts.external, frozen_by: facts.frozen_by.as_deref() };
    let mut made_at = SystemTime::UNIX_EPOCH;
    let mut committed = false;
    criu.dump(&dump, images.as_fd(), || {
        made_at = SystemTime::now();
        facts.check_tree(live)?;
        facts.write_layers(live, &mut image)?;
        if then == Then::GoOn {
            return Ok(After::Running);
        }
        image.finish(facts.describe(record, criu), record.spec.text(), made_at)?;
        sandbox.send(&EndCheckpointed {}, &[])?;
        committed = true;
        // The image is whole, and the sandbox has been told: whatever becomes of the answer, the image stays.
        let _ = sandbox.receive::<Reply>(Some(Instant::now() + ANSWER_LIMIT));
        Ok(After::Killed)
    })?;
    if !committed {
        image.finish(facts.describe(record, criu), record.spec.text(), made_at)?;
    }
    image.keep();
    Ok(())
}

/// Has the sandbox keep the container as it is, for as long as the connection is open.
fn keep_still(live: &SandboxLink) -> Result<Channel> {
    let channel = live.connect(Operation::Checkpoint, &[])?;
    let answer = channel.receive::<Reply>(Some(Instant::now() + ANSWER_LIMIT));
    match answer.map_err(|error| live.explain("checkpoint", error))?.message {
        Reply::Done => Ok(channel),
        Reply::Failed(failure) => Err(failure.into()),
        other => Err(Error::new(ErrorKind::PeerMisbehaved, "checkpoint", format!("{other:?} is no answer"))),
    }
}

/// Takes the lock, and returns the record as it is now.
fn lock_in_phase(core: &Handle, phase: Status) -> Result<(StateLock, Record)> {
    let lock = core.root.lock(core.found()?)?;
    let now = lock.load()?;
    let actual = observe(&now)?;
    match now.created_at == core.record.created_at {
        true if actual == phase => Ok((lock, now)),
        true if actual == Status::Stopped => Err(core.has_ended("checkpoint")),
        _ => {
            let problem = format!("{:?} was changed by another process and is {actual} now", now.id.as_str());
            Err(Error::wrong_state(actual, "checkpoint", problem))
        }
    }
}

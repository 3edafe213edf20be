//! [`Handle`]: what every container value holds besides its phase, the caller's ends of the streams, and what a clone is
//! made from.

use super::attachment::DropGuard;
use super::configured::{Cache, Configured};
use super::live::kept_files::KeptFiles;
use super::outcome::Exit;
use crate::cgroup::stats::MemoryStats;
use crate::error::{Error, ErrorKind, Result};
use crate::helper::OpenFds;
use crate::link::{has_ended, observe};
use crate::plan::{Descriptors, Extras};
use crate::process::console::Pty;
use crate::process::stdio::{CallerPipes, StreamEnd};
use crate::state::{Found, Record, StateLock, StateRoot, Status};
use crate::wire::init::layer_name;
use crate::wire::template::{DESCRIPTION, PAGES};
use rustix::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the container is on disk, and its record as this value last saw it.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) root: StateRoot,
    pub(super) record: Box<Record>,
    /// The record's files. `None` until the id is claimed.
    pub(super) found: Option<Found>,
    /// Destroys the container when the value is dropped. `None` if it was loaded or detached.
    pub(super) tether: Option<DropGuard>,
    /// What is kept of its files beyond its end.
    pub(super) kept: Option<KeptFiles>,
    /// The configuration of the record, parsed.
    pub(super) configured: Cache,
}

impl Handle {
    /// Of a container that is not tied to this value.
    pub(super) fn new(root: StateRoot, record: Record, found: Option<Found>) -> Self {
        Self { root, record: Box::new(record), found, tether: None, kept: None, configured: Cache::default() }
    }

    /// The configuration that the record has now, parsed and validated.
    pub(super) fn configured(&self) -> Result<Arc<Configured>> {
        self.configured.of(&self.record)
    }

    pub(super) fn found(&self) -> Result<&Found> {
        self.found.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "container",
                format!("{:?} was not created yet", self.record.id.as_str()),
            )
        })
    }

    /// Takes the lock, and fails if another process has changed the container since this value last saw its record.
    pub(super) fn lock_unchanged(&mut self) -> Result<StateLock> {
        let lock = self.root.lock(self.found()?)?;
        let now = lock.load()?;
        if now.generation() == self.record.generation() && now.created_at == self.record.created_at {
            return Ok(lock);
        }
        let actual = observe(&now)?;
        if actual == Status::Stopped {
            return Err(self.has_ended("container"));
        }
        let problem = format!("{:?} was changed by another process and is {actual} now", now.id.as_str());
        *self.record = now;
        Err(Error::wrong_state(actual, "container", problem))
    }

    /// `step` came after the end.
    pub(super) fn has_ended(&self, step: &'static str) -> Error {
        has_ended(&self.record.id, step, self.exit().ok().map(|exit| exit.outcome))
    }

    /// How it ended.
    pub(super) fn exit(&self) -> Result<Exit> {
        read_exit(&self.root, self.found()?, &self.record.cgroups)
    }
}

/// How a container ended: by the exit record, which the sandbox writes, else by the counters of its cgroups. If another
/// process has deleted the container, both are gone and the exit is unknown.
pub(super) fn read_exit(root: &StateRoot, found: &Found, cgroups: &[PathBuf]) -> Result<Exit> {
    match root.run_dir(found).and_then(|run_dir| run_dir.exit_record()) {
        Ok(Some(record)) => Ok(Exit::recorded(&record)),
        Err(error) if *error.kind() != ErrorKind::NotFound => Err(error),
        Ok(None) | Err(_) => Ok(Exit::unrecorded(crate::cgroup::stats::read(cgroups)?.memory)),
    }
}

/// Replaces `error` by one that says that the memory limit is too little, if a process of the container died before the
/// program ran and had used up the memory. The error begins with `step`.
pub(super) fn explain_out_of_memory(error: Error, record: &Record, step: &'static str) -> Error {
    let died = matches!(error.kind(), ErrorKind::HelperDied | ErrorKind::Ended);
    if !died && error.raw_os_error() != Some(libc::ENOMEM) {
        return error;
    }
    let memory = crate::cgroup::stats::read(&record.cgroups).ok().and_then(|stats| stats.memory);
    let used_up = |memory: &MemoryStats, limit| {
        // A process whose allocation fails may end by itself before the kernel kills it.
        memory.oom_kills.is_some_and(|kills| kills > 0) || memory.peak.is_some_and(|peak| peak >= limit)
    };
    match memory.and_then(|memory| memory.limit.map(|limit| (limit, used_up(&memory, limit)))) {
        Some((limit, true)) => {
            let problem = format!("{limit} bytes are too little to start the program in");
            Error::spec(step, "linux.resources.memory.limit", problem).because(error)
        }
        Some((limit, _)) if !died => error.hint(format!("the memory limit is {limit} bytes")),
        _ => error,
    }
}

/// The caller's ends of what the workload reads and writes.
#[derive(Debug, Default)]
pub struct Streams {
    pub(super) pipes: CallerPipes,
    /// The end of the terminal, if there is one.
    pub(super) pty: Option<Pty>,
}

/// The descriptors of a process of the workload, besides the standard streams that it is given.
pub(super) fn descriptors_of(streams: &[StreamEnd; 3], extra: &OpenFds<'_>) -> Descriptors {
    let devices = (0..).zip(streams).filter_map(|(number, stream)| Some((number, stream.device()?)));
    Descriptors {
        given: extra.numbers.clone(),
        devices: devices.chain(extra.devices.iter().copied()).collect(),
    }
}

/// What a template consists of, as the builder of a clone and the sandbox have it, all of it sealed. The memory is freed
/// with the last copy of this value and the last clone.
#[derive(Clone, Debug)]
pub(super) struct TemplateMemory(Arc<Sealed>);

#[derive(Debug)]
struct Sealed {
    description: OwnedFd,
    pages: OwnedFd,
    /// Archives of its files, each with the tmpfs that it belongs to; `None` for the scratch.
    files: Vec<(Option<PathBuf>, OwnedFd)>,
}

impl TemplateMemory {
    pub(super) fn new(description: OwnedFd, pages: OwnedFd, files: Vec<(Option<PathBuf>, OwnedFd)>) -> Self {
        Self(Arc::new(Sealed { description, pages, files }))
    }

    /// The descriptors, by the names under which the sandbox takes them.
    pub(super) fn fds(&self) -> impl Iterator<Item = (String, &OwnedFd)> {
        let files = self.0.files.iter().enumerate().map(|(number, (_, file))| (layer_name(number), file));
        let memory = [(DESCRIPTION, &self.0.description), (PAGES, &self.0.pages)];
        memory.into_iter().map(|(name, fd)| (name.to_owned(), fd)).chain(files)
    }

    /// What init unpacks, as the plan of a clone has it.
    pub(super) fn archives(&self) -> Vec<Option<PathBuf>> {
        self.0.files.iter().map(|(tmpfs, _)| tmpfs.clone()).collect()
    }
}

/// What the record of a container says beyond its configuration.
pub(super) fn extras_of(record: &Record) -> Result<Extras> {
    serde_json::from_value(record.extras.clone())
        .map_err(|error| Error::new(ErrorKind::Stale, "record", format!("extras: {error}")))
}

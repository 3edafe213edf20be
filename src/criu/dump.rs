//! One dump: a tree of processes into a directory, for a restore inside a container that exists.
//!
//! ```text
//!   this process                        criu swrk
//!     DUMP ------------------------------> stops the tree (ptrace(2)), writes it down
//!     <------------------------ post-dump  the tree stands still
//!     [what else belongs into the image]
//!     go on -----------------------------> lets the tree run
//!     <------------------------- response
//! ```
//!
//! CRIU never kills the tree. If this process dies, CRIU ends at the next notification, and if CRIU dies, the kernel lets the
//! tree go on. Only a process that CRIU has step through code of its own at that moment may die of it.

use super::image::{namespaces_of, with_own_namespaces, without_mounts};
use super::messages::{Options, Request, RequestType};
use super::program::{Criu, unsuitable};
use super::worker::{Answer, Worker};
use crate::error::{Error, ErrorKind, OsContext, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// CRIU ends a dump of its own accord after ten seconds in which it cannot freeze the tree; writing takes as long as the
/// disk.
const DUMP_LIMIT: Duration = Duration::from_secs(600);
/// The most bytes of an image with one entry.
const MAX_ENTRY: u64 = 64 << 10;
/// The open files of all processes, and the most bytes of that: some million files.
const FILES: &str = "files.img";
const MAX_FILES: u64 = 256 << 20;
/// The largest deleted file that CRIU takes along, in bytes: the most that the option can say.
const MAX_DELETED: u32 = u32::MAX;
/// `criu_cg_mode`, IGNORE: cgroups are the container's.
const IGNORE_CGROUPS: i32 = 0;
/// `criu_network_lock_method`, SKIP: the network is the container's.
const LOCK_NOTHING: i32 = 3;
/// The notification after everything is written, while the tree still stands.
const POST_DUMP: &str = "post-dump";
/// Files about the dump itself, which no restore reads.
const STATISTICS: &str = "stats-dump";

/// The files of the objects of an ipc namespace. A restored process is in the one that its configuration makes.
const IPC_OBJECTS: [&str; 3] = ["ipcns-shm-", "ipcns-msg-", "ipcns-sem-"];
/// The length of a file of CRIU's without an entry.
const EMPTY: u64 = 8;

/// What CRIU says of something that it does not dump, and what this crate says.
const REFUSALS: [(&str, &str, &str); 8] = [
    ("Can't get 1:16 opt", "this CRIU dumps no IP socket on Linux 6.16 and later", "try a later CRIU"),
    ("In-flight connection", "a process has a TCP connection, which does not travel", "close it first"),
    ("Connected TCP socket", "a process has a TCP connection, which does not travel", "close it first"),
    ("file locks are hold", "a process holds a file lock, which does not travel", "release it first"),
    ("Can't lookup mount=", "a process has a file open that is outside the container", "close it first"),
    ("External socket is used", "a socket is connected to a process outside the container", "close it first"),
    ("half of stream unix", "a socket is connected to a process outside the container", "close it first"),
    ("io_uring", "a process uses io_uring(7), which CRIU does not dump", "close it first"),
];

/// Something outside the tree that the image only refers to.
pub(crate) enum External {
    /// The network namespace with this inode number.
    Network(u64),
    /// The pid namespace with this inode number, which has a process that is not dumped: PID 1.
    Pids(u64),
    /// What is mounted at this path in the container.
    Mount(String),
}

impl External {
    /// CRIU's options `--external` for all of them.
    pub(crate) fn options(all: &[Self]) -> Vec<String> {
        all.iter().enumerate().map(|(number, external)| external.option(number)).collect()
    }

    /// As CRIU's option `--external`. The label has to be unique: CRIU takes two mounts with one label for one.
    fn option(&self, number: usize) -> String {
        match self {
            Self::Network(inode) => format!("net[{inode}]:network"),
            Self::Pids(inode) => format!("pid[{inode}]:pids"),
            Self::Mount(path) => format!("mnt[{path}]:mount-{number}"),
        }
    }
}

/// What to dump.
pub(crate) struct Dump<'a> {
    /// The root of the tree, in this process's pid namespace.
    pub(crate) pid: i32,
    pub(crate) external: &'a [External],
    /// The cgroup whose freezer has stopped the tree already; `None` for a tree that runs.
    pub(crate) frozen_by: Option<&'a Path>,
}

impl Dump<'_> {
    /// Whether PID 1 of the tree's pid namespace is in the tree.
    fn owns_pids(&self) -> bool {
        !self.external.iter().any(|external| matches!(external, External::Pids(_)))
    }
}

/// How the tree goes on after a dump.
pub(crate) enum After {
    /// As before.
    Running,
    /// It is being killed: nothing is left for CRIU to do.
    Killed,
}

impl Criu {
    /// Dumps into the empty directory `images`, and calls `while_stopped` when that is done and the tree still stands. If
    /// that fails, the tree goes on, and so does it if CRIU fails.
    pub(crate) fn dump(
        &self,
        dump: &Dump<'_>,
        images: BorrowedFd<'_>,
        while_stopped: impl FnOnce() -> Result<After>,
    ) -> Result<()> {
        let deadline = Instant::now() + DUMP_LIMIT;
        let worker = Worker::start(self.path()).map_err(|error| unsuitable(self.path(), &error))?;
        let mut answer =
            worker.ask(&Request::of(RequestType::Dump, Some(options(dump, images))), deadline)?;
        let mut while_stopped = Some(while_stopped);
        let mut failure = None;
        let ended = loop {
            match answer {
                Answer::Response(response) if response.kind == RequestType::Notify as i32 => {
                    let name = response.notification.and_then(|notification| notification.name);
                    let act = while_stopped.take_if(|_| name.as_deref() == Some(POST_DUMP));
                    let go_on = match act.map(|act| join(images, dump.owns_pids()).and_then(|()| act())) {
                        Some(Ok(After::Killed)) => return Ok(()),
                        Some(Err(error)) => {
                            failure = Some(error);
                            false
                        }
                        Some(Ok(After::Running)) | None => true,
                    };
                    answer = worker.ask(&Request::answer(go_on), deadline)?;
                }
                Answer::Response(response) if response.success => break worker.wait(deadline),
                Answer::Response(response) => break Err(refused(&response.error.unwrap_or_default())),
                Answer::Hangup(said) => {
                    let problem = if said.is_empty() { "it ended in the middle of a dump" } else { &said };
                    break Err(Error::new(ErrorKind::HelperDied, "criu", problem));
                }
            }
        };
        // CRIU has let the tree go on by now. What it says of a dump that was called off is not the reason.
        match failure {
            Some(error) => Err(error),
            None if while_stopped.is_some() && ended.is_ok() => {
                Err(Error::new(ErrorKind::PeerMisbehaved, "criu", "it did not say that the tree was stopped"))
            }
            None => ended.and_then(|()| remove_statistics(images)),
        }
    }
}

fn options(dump: &Dump<'_>, images: BorrowedFd<'_>) -> Options {
    Options {
        images_dir_fd: images.as_raw_fd(),
        pid: Some(dump.pid),
        leave_running: Some(true),
        log_level: Some(1),
        log_to_stderr: Some(true),
        notifications: Some(true),
        cgroups: Some(IGNORE_CGROUPS),
        external: External::options(dump.external),
        freezer: dump.frozen_by.map(|path| path.to_string_lossy().into_owned()),
        network_lock: Some(LOCK_NOTHING),
        link_deleted: Some(true),
        max_deleted: Some(MAX_DELETED),
        ..Options::default()
    }
}

/// Why CRIU did not dump the tree, from what it wrote.
fn refused(said: &str) -> Error {
    if said.contains("No space left on device") {
        return Error::new(ErrorKind::Os(libc::ENOSPC), "checkpoint", "no space is left for the image");
    }
    match REFUSALS.iter().find(|(words, ..)| said.contains(words)) {
        Some((_, problem, hint)) => {
            Error::unsupported("checkpoint", format!("{problem}: {said}")).hint(*hint)
        }
        None if said.is_empty() => Error::unsupported("checkpoint", "CRIU failed, and did not say why"),
        None => Error::unsupported("checkpoint", format!("CRIU said: {said}")),
    }
}

/// Lets every process of the images stay in the namespaces that CRIU is in at the restore.
fn join(images: BorrowedFd<'_>, owns_pids: bool) -> Result<()> {
    let inventory = read(images, "inventory.img", MAX_ENTRY)?;
    let mut first = None;
    for entry in Dir::read_from(images).os(|| "getdents(images)")? {
        let entry = entry.os(|| "getdents(images)")?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if IPC_OBJECTS.iter().any(|kind| name.starts_with(kind)) && size(images, name)? > EMPTY {
            let problem = "it has System V shared memory, semaphores or message queues, which do not travel";
            return Err(Error::unsupported("checkpoint", problem).hint("remove them first: see ipcrm(1)"));
        }
        if name.starts_with("ids-") {
            let ids = read(images, name, MAX_ENTRY)?;
            let namespaces = namespaces_of(&ids)?;
            if *first.get_or_insert(namespaces_of(&ids)?) != namespaces {
                let problem = "a process has namespaces of its own, besides those of the container";
                return Err(Error::unsupported("checkpoint", problem));
            }
            let joined = with_own_namespaces(&ids, &inventory, owns_pids)?;
            replace(images, name, &joined)?;
        }
    }
    replace(images, FILES, &without_mounts(&read(images, FILES, MAX_FILES)?)?)
}

fn replace(images: BorrowedFd<'_>, name: &str, content: &[u8]) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW;
    File::from(open(images, name, flags)?).write_all(content).os(|| format!("write({name:?})"))
}

fn remove_statistics(images: BorrowedFd<'_>) -> Result<()> {
    match rustix::fs::unlinkat(images, STATISTICS, AtFlags::empty()) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        removed => removed.os(|| format!("unlinkat({STATISTICS:?})")),
    }
}

fn read(images: BorrowedFd<'_>, name: &str, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::from(open(images, name, OFlags::RDONLY | OFlags::NOFOLLOW)?);
    file.take(limit).read_to_end(&mut bytes).os(|| format!("read({name:?})"))?;
    Ok(bytes)
}

fn size(images: BorrowedFd<'_>, name: &str) -> Result<u64> {
    let stat =
        rustix::fs::statat(images, name, AtFlags::SYMLINK_NOFOLLOW).os(|| format!("fstatat({name:?})"))?;
    Ok(u64::try_from(stat.st_size).unwrap_or_default())
}

fn open(images: BorrowedFd<'_>, name: &str, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::openat(images.as_fd(), name, flags | OFlags::CLOEXEC, Mode::empty())
        .os(|| format!("openat({name:?})"))
}

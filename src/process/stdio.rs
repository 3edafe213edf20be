//! Where the workload's standard streams go.

use super::memory;
use crate::error::{OsContext, Result};
use crate::weaken::{Rule, leaves_out};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::sync::{Mutex, OnceLock, PoisonError};

/// One standard stream of the workload, like [`std::process::Stdio`] for commands.
///
/// Only the workload gets it: no process of this crate keeps a copy open, so the other end of a pipe sees the end of
/// the file when the workload ends.
#[derive(Debug, Default)]
pub struct Stdio(StdioSource);

#[derive(Debug, Default)]
enum StdioSource {
    #[default]
    Null,
    Inherit,
    Piped,
    Fd(OwnedFd),
    /// Standard input only.
    Bytes(Vec<u8>),
}

impl Stdio {
    /// `/dev/null`, the default: the container's own, opened anew.
    #[must_use]
    pub fn null() -> Self {
        Self(StdioSource::Null)
    }

    /// The caller's own stream. If that is `/dev/null`, `/dev/zero`, `/dev/full`, `/dev/random` or `/dev/urandom` of the
    /// host, the workload gets the same device of the container instead: it could change the mode of the host's. The workload
    /// can change the position and the flags of the caller's stream, such as `O_NONBLOCK`.
    #[must_use]
    pub fn inherit() -> Self {
        Self(StdioSource::Inherit)
    }

    /// A new pipe; the caller's end is taken from the created container (`take_stdin`, `take_stdout`, `take_stderr`).
    /// It belongs to the workload's user, if the caller is privileged.
    #[must_use]
    pub fn piped() -> Self {
        Self(StdioSource::Piped)
    }

    /// This descriptor: a file, a socket, a pipe, a terminal. Of a pipe(2) the mode changes (fchmod(2)), so that the
    /// workload can open it again as `/dev/stdout`, as shells do for `>/dev/stdout`, whatever its user is. For a file
    /// or a terminal that depends on its own mode and owner, which stay. Instead of a device of the host, the workload
    /// gets the container's, as by [`inherit`](Self::inherit).
    #[must_use]
    pub fn fd(fd: impl Into<OwnedFd>) -> Self {
        Self(StdioSource::Fd(fd.into()))
    }
}

impl Stdio {
    /// These bytes and then the end of the file, as standard input.
    ///
    /// They are in memory that the workload can only read, and not in a pipe: no thread has to feed them, however many
    /// they are, and they are all there also for a container that outlives its caller.
    pub(crate) fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(StdioSource::Bytes(bytes.into()))
    }

    /// Makes a pipe `/dev/null`, for a caller that takes no end of it.
    pub(crate) fn unless_piped(&mut self) {
        if matches!(self.0, StdioSource::Piped) {
            *self = Self::null();
        }
    }

    /// Whether this is `/dev/null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.0, StdioSource::Null)
    }

    /// The same for another container; `None` if it is a descriptor, which only one container can have.
    pub(crate) fn for_another(&self) -> Option<Self> {
        Some(Self(match &self.0 {
            StdioSource::Null => StdioSource::Null,
            StdioSource::Inherit => StdioSource::Inherit,
            StdioSource::Piped => StdioSource::Piped,
            StdioSource::Bytes(bytes) => StdioSource::Bytes(bytes.clone()),
            StdioSource::Fd(_) => return None,
        }))
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Self {
        Self::fd(file)
    }
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Self {
        Self::fd(fd)
    }
}

/// The three streams, opened: the workload's ends, and the caller's ends of those that are pipes.
#[derive(Debug)]
pub(crate) struct OpenedStdio {
    pub(crate) workload: [StreamEnd; 3],
    pub(crate) caller: CallerPipes,
}

/// The caller's ends of the streams that are pipes, until the program takes them.
#[derive(Debug, Default)]
pub(crate) struct CallerPipes {
    /// Several threads may wait for the end of the reader, and each closes this first.
    stdin: Mutex<Option<File>>,
    outputs: [Option<File>; 2],
}

impl CallerPipes {
    pub(crate) fn take_stdin(&mut self) -> Option<File> {
        self.stdin.get_mut().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn take_stdout(&mut self) -> Option<File> {
        self.outputs[0].take()
    }

    pub(crate) fn take_stderr(&mut self) -> Option<File> {
        self.outputs[1].take()
    }

    /// Closes a standard input that the caller did not take: a workload that reads it to the end would never end.
    pub(crate) fn close_stdin(&self) {
        drop(self.stdin.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// The workload's end of a stream: owned if it was made here or given, borrowed if it is one of this process's own.
#[derive(Debug)]
pub(crate) enum StreamEnd {
    Owned(OwnedFd),
    Borrowed(BorrowedFd<'static>),
    /// The container's own device, which the workload's process opens: see [`memory_device`].
    Device(u32),
}

impl StreamEnd {
    /// What the workload is given.
    pub(crate) fn given(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Owned(fd) => Some(fd.as_fd()),
            Self::Borrowed(fd) => Some(*fd),
            Self::Device(_) => None,
        }
    }

    /// What the workload's process opens.
    pub(crate) fn device(&self) -> Option<u32> {
        match self {
            Self::Device(minor) => Some(*minor),
            _ => None,
        }
    }
}

impl OpenedStdio {
    /// Opens stdin, stdout and stderr, so that the workload can [reopen](let_reopen) those that are pipes. A pipe made
    /// here belongs to `owner` (host ids), the user that gets it, where the caller may give files away. The owner of a
    /// stream that was given or inherited stays.
    pub(crate) fn open(wanted: [&Stdio; 3], owner: (u32, u32)) -> Result<Self> {
        let mut caller = [None, None, None];
        let mut open = |index: usize| -> Result<StreamEnd> {
            let end = match &wanted[index].0 {
                StdioSource::Null => return Ok(StreamEnd::Device(NULL)),
                StdioSource::Inherit => StreamEnd::Borrowed(match index {
                    0 => rustix::stdio::stdin(),
                    1 => rustix::stdio::stdout(),
                    _ => rustix::stdio::stderr(),
                }),
                StdioSource::Fd(fd) => {
                    StreamEnd::Owned(rustix::io::fcntl_dupfd_cloexec(fd, 3).os(|| "fcntl(F_DUPFD)")?)
                }
                StdioSource::Bytes(bytes) => StreamEnd::Owned(memory::sealed("cofferdam-input", bytes)?),
                StdioSource::Piped => {
                    let (read, write) = pipe_with(PipeFlags::CLOEXEC).os(|| "pipe2()")?;
                    let (theirs, ours) = if index == 0 { (read, write) } else { (write, read) };
                    let (uid, gid) = owner;
                    let uid = rustix::fs::Uid::from_raw(uid);
                    let gid = rustix::fs::Gid::from_raw(gid);
                    // Ignore a failure: an unprivileged caller may not give files away. Its pipe keeps the caller's
                    // ids, and the mode lets the workload in.
                    let _ = rustix::fs::fchown(&theirs, Some(uid), Some(gid));
                    caller[index] = Some(File::from(ours));
                    StreamEnd::Owned(theirs)
                }
            };
            let Some(fd) = end.given() else { return Ok(end) };
            if let Some(device) = memory_device(fd)? {
                return Ok(StreamEnd::Device(device));
            }
            let_reopen(fd)?;
            Ok(end)
        };
        let workload = [open(0)?, open(1)?, open(2)?];
        let [stdin, stdout, stderr] = caller;
        let caller = CallerPipes { stdin: Mutex::new(stdin), outputs: [stdout, stderr] };
        Ok(Self { workload, caller })
    }
}

/// The minor number of the null device (null(4)).
pub(crate) const NULL: u32 = 3;

/// The memory devices that every container has of its own, by name and minor number: null(4), full(4), random(4).
pub(crate) const MEMORY_DEVICES: [(&str, u32); 5] =
    [("null", NULL), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)];

/// The minor number of this device, if it is one of [`MEMORY_DEVICES`]. A descriptor of the host's must not reach a
/// workload: with the host's uid 0 it could change the mode and the owner of the host's device by fchmod(2).
pub(crate) fn memory_device(file: BorrowedFd<'_>) -> Result<Option<u32>> {
    const MEMORY: u32 = 1;
    let stat = rustix::fs::fstat(file).os(|| "fstat(stream)")?;
    let minor = rustix::fs::minor(stat.st_rdev);
    let is_one = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && rustix::fs::major(stat.st_rdev) == MEMORY
        && MEMORY_DEVICES.iter().any(|(_, known)| *known == minor);
    Ok((is_one && !leaves_out(Rule::OwnDevices)).then_some(minor))
}

/// If `end` is an end of a pipe, lets every user that has it open it again, in the direction that it has:
/// `echo >/dev/stdout` is an open(2) of `/proc/self/fd/1`, for which the kernel checks the pipe's mode and owner. A new
/// pipe has mode 0600, and the workload may have other ids than its owner, also ones that it takes later (su(1)).
///
/// This changes the mode and not the owner, because only a caller with `CAP_CHOWN` can give a pipe away. A pipe has no
/// path, so the mode admits only processes that can use the descriptor anyway. The reader of a pipe may not write to it.
pub(crate) fn let_reopen(end: BorrowedFd<'_>) -> Result<()> {
    // A FIFO that has a path in a file system stays as it is: its mode holds for users of the host, too.
    if rustix::fs::fstatfs(end).os(|| "fstatfs(stream)")?.f_type as u64 != PIPEFS_MAGIC {
        return Ok(());
    }
    let flags = rustix::fs::fcntl_getfl(end).os(|| "fcntl(stream, F_GETFL)")?;
    let bits = match flags & OFlags::RWMODE {
        OFlags::RDONLY => 0o444,
        OFlags::WRONLY => 0o222,
        _ => 0o666,
    };
    let mode = rustix::fs::fstat(end).os(|| "fstat(stream)")?.st_mode & 0o7777;
    if mode | bits != mode {
        // Ignore a failure: the pipe of another user keeps its mode, if the caller is unprivileged.
        let _ = rustix::fs::fchmod(end, Mode::from_raw_mode(mode | bits));
    }
    Ok(())
}

/// `PIPEFS_MAGIC` (statfs(2)).
const PIPEFS_MAGIC: u64 = 0x5049_5045;

/// The host's `/dev/null`, opened once per process: for helpers, which are not the workload.
pub(crate) fn dev_null() -> Result<BorrowedFd<'static>> {
    static NULL: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(null) = NULL.get() {
        return Ok(null.as_fd());
    }
    let opened = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .os(|| "open(\"/dev/null\")")?;
    Ok(NULL.get_or_init(|| opened).as_fd())
}

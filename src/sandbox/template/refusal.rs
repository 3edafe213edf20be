//! What cannot be copied, by name, and what the workload could do about it.

use super::{Subject, ended, read};
use crate::error::{Error, OsContext, Result};
use crate::sandbox::files::is_empty;
use crate::sys::{ProcStat, StatusText, open_below};
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};

/// The field of every refusal.
pub(super) const TEMPLATE: &str = "into_template";

pub(in crate::sandbox) fn refuse(what: impl Into<String>, hint: &'static str) -> Error {
    Error::unsupported(TEMPLATE, what.into()).hint(hint)
}

/// Refuses a process by what its `status` says.
pub(super) fn check_status(status: StatusText<'_>, ids: [u32; 2]) -> Result<()> {
    for (line, id) in ["Uid", "Gid"].into_iter().zip(ids) {
        // Real, effective, saved and that for files. A copy begins with the rights of its configuration.
        if (0..4).any(|which| status.number(line, which) != Some(id)) {
            let problem = "the process has other ids than those that it started with";
            return Err(refuse(problem, "change them in the clone, or start as that user"));
        }
    }
    if status.number("Threads", 0) != Some(1) {
        let hint = "stop before the program starts threads, or end them first";
        return Err(refuse("the process has more than one thread", hint));
    }
    if status.number("TracerPid", 0).is_some_and(|pid| pid != 0) {
        return Err(refuse("a debugger traces the process", "detach it"));
    }
    let pending = (status.signals("SigPnd") | status.signals("ShdPnd")) & !STOPS;
    if pending & (1 << (libc::SIGKILL - 1)) != 0 {
        return Err(ended(TEMPLATE));
    }
    if pending != 0 {
        let problem = format!("signal {} is pending", pending.trailing_zeros() + 1);
        return Err(refuse(problem, "unblock and handle it first"));
    }
    Ok(())
}

/// SIGSTOP and SIGCONT say nothing to a process that is stopped.
const STOPS: u64 = 1 << (libc::SIGSTOP - 1) | 1 << (libc::SIGCONT - 1);

/// Refuses open files other than the standard streams.
pub(super) fn check_descriptors(subject: Subject<'_>) -> Result<()> {
    let step = || "getdents64(proc/fd)";
    let path = format!("{}/fd", subject.inside);
    let directory = open_below(subject.proc, &path, OFlags::DIRECTORY).os(step)?;
    for entry in Dir::read_from(&directory).os(step)? {
        let entry = entry.os(step)?;
        let name = entry.file_name();
        let Some(number) = name.to_str().ok().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let target = rustix::fs::readlinkat(&directory, name, Vec::new()).unwrap_or_default();
        // Such as userfaultfd(2) and io_uring: as a standard stream it would be another object in the clone.
        if number > 2 || target.to_bytes().starts_with(b"anon_inode:") {
            let problem =
                format!("descriptor {} is open: {}", name.to_string_lossy(), target.to_string_lossy());
            return Err(refuse(problem, "close it before the stop, and open it again in the clone"));
        }
    }
    Ok(())
}

/// Refuses timers of timer_create(2).
pub(super) fn check_timers(subject: Subject<'_>) -> Result<()> {
    // Without CONFIG_CHECKPOINT_RESTORE the file is missing, and so is what `write` needs.
    if read(subject, "timers", 64)?.is_empty() {
        return Ok(());
    }
    Err(refuse("the process has a timer", "delete it with timer_delete() before the stop"))
}

/// Refuses what a clone would not find: other processes' work is refused elsewhere, this is about files in memory.
pub(super) fn check_tmpfs(subject: Subject<'_>) -> Result<()> {
    const MOST: u64 = 4 << 20;
    let mounts = read(subject, "mountinfo", MOST)?;
    let mounts: Vec<Mount<'_>> = mounts.split(|byte| *byte == b'\n').filter_map(Mount::of).collect();
    for &Mount { id, point, .. } in mounts.iter().filter(|mount| mount.is_memory && !is_device(mount.point)) {
        let inside = [point, b"/".as_slice()].concat();
        if point == b"/" || mounts.iter().any(|other| other.point.starts_with(&inside)) {
            continue;
        }
        // What is mounted is in the cache, and so is the way to it: nothing here waits for a filesystem of the process.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::CACHED;
        let opened = rustix::fs::openat2(subject.root, point, flags, Mode::empty(), resolve);
        let found = opened.and_then(|found| {
            let (how, what) = (AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::MNT_ID);
            rustix::fs::statx(&found, "", how, what | StatxFlags::TYPE).map(|stat| (found, stat))
        });
        let is_known = match found {
            // A file is of the configuration.
            Ok((_, stat)) if stat.stx_mnt_id == id && !is_directory(&stat) => true,
            Ok((directory, stat)) => stat.stx_mnt_id == id && is_empty(directory.as_fd()),
            Err(_) => false,
        };
        if !is_known {
            let problem = format!("there are files in {}", String::from_utf8_lossy(point));
            return Err(refuse(problem, "remove them before the stop, and make them in the clone"));
        }
    }
    Ok(())
}

fn is_directory(stat: &Statx) -> bool {
    FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory
}

/// A line of proc_pid_mountinfo(5).
struct Mount<'a> {
    id: u64,
    point: &'a [u8],
    /// Whether it is memory that may be written.
    is_memory: bool,
}

impl<'a> Mount<'a> {
    fn of(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let (point, options) = (fields.nth(3)?, fields.next()?);
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        Some(Self { id, point, is_memory: kind == b"tmpfs" && !options.starts_with(b"ro") })
    }
}

/// `/dev` is made by create, in a copy too; but not what is in its memory for programs.
fn is_device(point: &[u8]) -> bool {
    point == b"/dev" || point.starts_with(b"/dev/") && point != b"/dev/shm"
}

/// The state of proc_pid_stat(5).
pub(super) fn stat(subject: Subject<'_>) -> Result<(ProcStat, Vec<u64>)> {
    const MOST: u64 = 4096;
    let text = read(subject, "stat", MOST)?;
    let tail = text.iter().rposition(|byte| *byte == b')').map_or(&[][..], |at| &text[at + 1..]);
    let fields = String::from_utf8_lossy(tail);
    let numbers = fields.split_ascii_whitespace().map(|field| field.parse().unwrap_or_default()).collect();
    let parsed =
        ProcStat::parse(&text).ok_or_else(|| refuse("proc says nothing of the process", "has it ended?"))?;
    Ok((parsed, numbers))
}

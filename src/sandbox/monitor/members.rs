//! The processes of a container, seen through its own proc: an instance of procfs for its pid namespace, mounted by
//! init before anything of the image ran, and reached by descriptor.
//!
//! A pid is only a number until it is held: each process is opened as its directory in proc first, and everything is
//! asked of that, signals included (pidfd_send_signal(2) takes such a directory).

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::sandbox::namespaces;
use crate::sys;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;

/// The most read of one file. `status` and `stat` are below two pages.
const MAX_FILE: u64 = 16 << 10;

/// One process.
pub(in crate::sandbox) struct Member {
    pid: i32,
    directory: OwnedFd,
}

/// The namespaces in which a container's processes are, as init says of itself. Nobody has to look into init for them,
/// which the kernel need not allow: before it executes, init has the memory of the sandbox.
pub(in crate::sandbox) struct Namespaces {
    mount: OwnedFd,
    /// By which it is recognised: no other's as long as it is held.
    mount_number: u64,
    pids: OwnedFd,
}

impl Namespaces {
    /// In init: opens its own, through the container's proc.
    pub(in crate::sandbox) fn of_this_process(proc: BorrowedFd<'_>) -> Result<[OwnedFd; 2]> {
        Ok([namespaces::own(proc, "mnt")?, namespaces::own(proc, "pid")?])
    }

    /// In the sandbox: what init opened.
    pub(in crate::sandbox) fn receive((mount, pids): (OwnedFd, OwnedFd)) -> Result<Self> {
        let mount_number = rustix::fs::fstat(&mount).os(|| "fstat(mount namespace)")?.st_ino;
        Ok(Self { mount, mount_number, pids })
    }

    /// For setns(2).
    pub(in crate::sandbox) fn mount(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }

    /// For setns(2).
    pub(in crate::sandbox) fn pids(&self) -> BorrowedFd<'_> {
        self.pids.as_fd()
    }
}

/// Every process there is at the moment, one at a time: of each only the directory is held, and only while it is looked
/// at.
pub(in crate::sandbox) fn all(proc: BorrowedFd<'_>) -> Result<impl Iterator<Item = Member>> {
    let step = || "getdents64(proc)";
    let directory = open(proc, ".", OFlags::RDONLY | OFlags::DIRECTORY).os(step)?;
    let mut pids = Vec::new();
    for entry in Dir::read_from(&directory).os(step)? {
        let entry = entry.os(step)?;
        pids.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok(pids.into_iter().filter_map(move |pid| find(directory.as_fd(), pid).ok().flatten()))
}

/// The process with this number, if there is one.
pub(in crate::sandbox) fn find(proc: BorrowedFd<'_>, pid: i32) -> Result<Option<Member>> {
    if pid <= 0 {
        return Err(Error::new(ErrorKind::InvalidInput, "process", format!("{pid} is not a pid")));
    }
    match open(proc, &pid.to_string(), OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(directory) => Ok(Some(Member { pid, directory })),
        Err(Errno::NOENT | Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno).os(|| format!("openat2(proc, \"{pid}\")")),
    }
}

/// This process's own number in `proc`; `None` where it is not seen.
pub(in crate::sandbox) fn own_pid(proc: BorrowedFd<'_>) -> Option<i32> {
    rustix::fs::readlinkat(proc, "self", Vec::new()).ok()?.to_str().ok()?.parse().ok()
}

impl Member {
    /// Its number, as the container counts.
    pub(in crate::sandbox) fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal. One that has ended meanwhile is past caring.
    pub(in crate::sandbox) fn signal(&self, number: i32) -> Result<()> {
        match sys::pidfd_send_raw(self.directory.as_fd(), number) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno).os(|| format!("pidfd_send_signal({}, {number})", self.pid)),
        }
    }

    /// Whether it still runs: a zombie does not.
    pub(in crate::sandbox) fn is_running(&self) -> bool {
        self.stat().is_some_and(|stat| !matches!(stat.state, b'Z' | b'X' | b'x'))
    }

    /// Whether a signal or a tracer has stopped it.
    pub(in crate::sandbox) fn is_stopped(&self) -> bool {
        self.stat().is_some_and(|stat| matches!(stat.state, b'T' | b't'))
    }

    /// Whether it sleeps in the kernel, and no signal wakes it.
    pub(in crate::sandbox) fn is_uninterruptible(&self) -> bool {
        self.stat().is_some_and(|stat| stat.state == b'D')
    }

    /// Whether it is on its way out, though perhaps not gone yet.
    pub(in crate::sandbox) fn is_exiting(&self) -> bool {
        /// `PF_EXITING` of the kernel's sched.h.
        const EXITING: u32 = 0x4;
        self.stat().is_none_or(|stat| stat.flags & EXITING != 0)
    }

    pub(in crate::sandbox) fn process_group(&self) -> Option<i32> {
        self.stat().map(|stat| stat.group)
    }

    /// The foreground process group of its controlling terminal.
    pub(in crate::sandbox) fn foreground_group(&self) -> Result<i32> {
        match self.stat() {
            Some(Stat { terminal, foreground, .. }) if terminal != 0 && foreground > 0 => Ok(foreground),
            Some(_) => {
                let problem = format!("process {} has no terminal with a foreground process group", self.pid);
                Err(Error::new(ErrorKind::InvalidInput, "signal foreground", problem))
            }
            None => {
                let problem = format!("process {} has ended", self.pid);
                Err(Error::new(ErrorKind::NotFound, "signal foreground", problem))
            }
        }
    }

    /// Whether it is in the same mount namespace.
    pub(in crate::sandbox) fn is_in(&self, namespaces: &Namespaces) -> bool {
        self.mount_namespace() == Some(namespaces.mount_number)
    }

    /// The inode number of its mount namespace.
    fn mount_namespace(&self) -> Option<u64> {
        let link = rustix::fs::readlinkat(&self.directory, "ns/mnt", Vec::new()).ok()?;
        link.to_str().ok()?.strip_prefix("mnt:[")?.strip_suffix(']')?.parse().ok()
    }

    fn stat(&self) -> Option<Stat> {
        Stat::parse(&read(self.directory.as_fd(), "stat")?)
    }
}

/// `/proc/PID/status` of a process.
pub(in crate::sandbox) fn status(proc: BorrowedFd<'_>, pid: i32) -> Option<String> {
    let member = find(proc, pid).ok()??;
    read(member.directory.as_fd(), "status").map(|text| String::from_utf8_lossy(&text).into_owned())
}

fn read(directory: BorrowedFd<'_>, name: &str) -> Option<Vec<u8>> {
    let file = open(directory, name, OFlags::RDONLY).ok()?;
    let mut bytes = Vec::new();
    File::from(file).take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn open(at: BorrowedFd<'_>, name: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(at, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Fields 3, 5, 7, 8 and 9 of proc_pid_stat(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: u8,
    group: i32,
    terminal: i32,
    foreground: i32,
    flags: u32,
}

impl Stat {
    fn parse(line: &[u8]) -> Option<Self> {
        // The command name may hold anything, so the fields are counted from its last parenthesis.
        let name_end = line.iter().rposition(|byte| *byte == b')')?;
        let mut fields = std::str::from_utf8(&line[name_end + 1..]).ok()?.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let group = fields.nth(1)?.parse().ok()?;
        let terminal = fields.nth(1)?.parse().ok()?;
        let foreground = fields.next()?.parse().ok()?;
        let flags = fields.next()?.parse().ok()?;
        Some(Self { state, group, terminal, foreground, flags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_cannot_forge_a_process_group() {
        let line = b"7 (sh) S 1 1 1) R 1 7 7 34816 9 4194304 0";
        let expected = Stat { state: b'R', group: 7, terminal: 34816, foreground: 9, flags: 4194304 };
        assert_eq!(Stat::parse(line), Some(expected));
        assert_eq!(Stat::parse(b"7 (sh"), None);
    }
}

//! The processes of a container, seen through its own proc: an instance of procfs for its pid namespace, mounted by
//! init before anything of the image ran, and reached by descriptor.
//!
//! The kernel may give a pid to another process at any time. So the sandbox opens the directory of each process in proc
//! first, and does everything through that, signals included (pidfd_send_signal(2) takes such a directory).

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::sandbox::namespaces::InitNamespaces;
use crate::sys::{self, ProcStat, Usage, open_below, read_below};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Dir, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::time::{Duration, Instant};

/// The most read of one file. `status` and `stat` are below two pages.
const MAX_FILE: u64 = 16 << 10;

/// One process.
pub(super) struct Member {
    pid: i32,
    directory: OwnedFd,
}

/// Every process at the moment, one at a time, so that only one directory is open.
pub(super) fn all(proc: BorrowedFd<'_>) -> Result<impl Iterator<Item = Member>> {
    let step = || "getdents64(proc)";
    let directory = open_below(proc, ".", OFlags::DIRECTORY).os(step)?;
    let mut pids = Vec::new();
    for entry in Dir::read_from(&directory).os(step)? {
        let entry = entry.os(step)?;
        pids.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok(pids.into_iter().filter_map(move |pid| find(directory.as_fd(), pid).ok().flatten()))
}

/// The process with this number, if there is one.
pub(super) fn find(proc: BorrowedFd<'_>, pid: i32) -> Result<Option<Member>> {
    if pid <= 0 {
        return Err(Error::new(ErrorKind::InvalidInput, "process", format!("{pid} is not a pid")));
    }
    match open_below(proc, &pid.to_string(), OFlags::DIRECTORY) {
        Ok(directory) => Ok(Some(Member { pid, directory })),
        Err(Errno::NOENT | Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno).os(|| format!("openat2(proc, \"{pid}\")")),
    }
}

/// This process's own pid in `proc`; `None` if it is not visible there.
pub(super) fn own_pid(proc: BorrowedFd<'_>) -> Option<i32> {
    rustix::fs::readlinkat(proc, "self", Vec::new()).ok()?.to_str().ok()?.parse().ok()
}

impl Member {
    /// Its pid in the container.
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal. Succeeds if the process has ended meanwhile.
    pub(super) fn signal(&self, number: i32) -> Result<()> {
        match sys::pidfd_send_raw(self.directory.as_fd(), number) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno).os(|| format!("pidfd_send_signal({}, {number})", self.pid)),
        }
    }

    /// Whether it still runs, and is no zombie.
    pub(super) fn is_running(&self) -> bool {
        self.stat().is_some_and(|stat| !matches!(stat.state, 'Z' | 'X' | 'x'))
    }

    /// Whether a signal or a tracer has stopped it.
    pub(super) fn is_stopped(&self) -> bool {
        self.stat().is_some_and(|stat| matches!(stat.state, 'T' | 't'))
    }

    /// Whether it sleeps in the kernel, and no signal wakes it.
    pub(super) fn is_uninterruptible(&self) -> bool {
        self.stat().is_some_and(|stat| stat.state == 'D')
    }

    /// Whether it is exiting, though perhaps not gone yet.
    pub(super) fn is_exiting(&self) -> bool {
        self.stat().is_none_or(|stat| stat.is_exiting())
    }

    /// How it ended, if it has and this process may know: what `stat` says, which is all but the memory that it used.
    pub(super) fn ended(&self) -> Option<Usage> {
        let stat = self.stat().filter(ProcStat::is_dead)?;
        // Without the right to look into the process, its status there is 0, and this link cannot be read. Of all that
        // needs that right, a process that has ended keeps this.
        rustix::fs::readlinkat(&self.directory, "ns/user", Vec::new()).ok()?;
        let micros = |own: u64, of_children: i64| {
            (own + of_children.unsigned_abs()) * 1_000_000 / rustix::param::clock_ticks_per_second()
        };
        Some(Usage {
            user_us: micros(stat.utime, stat.cutime),
            system_us: micros(stat.stime, stat.cstime),
            ..Usage::of(stat.exit_code?)
        })
    }

    pub(super) fn process_group(&self) -> Option<i32> {
        self.stat().map(|stat| stat.pgrp)
    }

    /// The foreground process group of its controlling terminal.
    pub(super) fn foreground_group(&self) -> Result<i32> {
        match self.stat() {
            Some(stat) if stat.tty_nr != 0 && stat.tpgid > 0 => Ok(stat.tpgid),
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
    pub(super) fn is_in(&self, namespaces: &InitNamespaces) -> bool {
        self.mount_namespace() == Some(namespaces.mount_number())
    }

    /// The inode number of its mount namespace.
    fn mount_namespace(&self) -> Option<u64> {
        self.namespace("mnt")
    }

    /// The inode number of its namespace that is called `name` in namespaces(7).
    pub(super) fn namespace(&self, name: &str) -> Option<u64> {
        let link = rustix::fs::readlinkat(&self.directory, format!("ns/{name}"), Vec::new()).ok()?;
        link.to_str().ok()?.strip_prefix(name)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
    }

    /// Its `limits` (proc_pid_limits(5)).
    pub(super) fn limits(&self) -> Option<String> {
        let text = read_below(self.directory.as_fd(), "limits", MAX_FILE).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// `status` (proc_pid_status(5)) of each of its threads; `None` unless every one can be read.
    pub(super) fn threads(&self) -> Option<Vec<String>> {
        let tasks = open_below(self.directory.as_fd(), "task", OFlags::DIRECTORY).ok()?;
        let mut threads = Vec::new();
        for entry in Dir::read_from(&tasks).ok()? {
            let entry = entry.ok()?;
            let name = entry.file_name().to_str().ok()?;
            if name != "." && name != ".." {
                let text = read_below(tasks.as_fd(), &format!("{name}/status"), MAX_FILE).ok()?;
                threads.push(String::from_utf8_lossy(&text).into_owned());
            }
        }
        Some(threads).filter(|threads| !threads.is_empty())
    }

    pub(super) fn stat(&self) -> Option<ProcStat> {
        ProcStat::parse(&read_below(self.directory.as_fd(), "stat", MAX_FILE).ok()?)
    }
}

/// `/proc/PID/status` of a process.
pub(super) fn status(proc: BorrowedFd<'_>, pid: i32) -> Option<String> {
    let member = find(proc, pid).ok()??;
    let text = read_below(member.directory.as_fd(), "status", MAX_FILE).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// A pidfd of the child `pid`, right after its fork, which the sandbox has not collected, so that the pid still is the
/// child's. Without a pidfd nothing would notice the child's end: if there is none, kills and collects the child: a zombie
/// keeps its pid namespace alive, and the container would never end. Close a descriptor first that is not needed after the
/// fork: then this fails only if the whole host has no more.
pub(super) fn hold_child(pid: Pid, name: &str) -> Result<OwnedFd> {
    let held = pidfd_open(pid, PidfdFlags::empty()).os(|| format!("pidfd_open({name})"));
    held.inspect_err(|_| end_child(pid))
}

/// Kills the child, and collects it.
pub(super) fn end_child(pid: Pid) {
    let _ = kill_process(pid, Signal::KILL);
    let _ = sys::wait4(pid);
}

/// How long to wait before the next look at [`Held`]. Nothing is readable when a tracer lets go, and a pid namespace ends
/// only when all in it are collected.
const PAUSE: Duration = Duration::from_millis(20);

/// Children that have ended, and that a tracer keeps from being collected.
///
/// If a process traces another one that is not its child, the end is reported to the tracer first, and to the parent when
/// the tracer has collected it (ptrace(2), "Death under ptrace"). A workload that may trace can take a process of exec, or
/// in a pod with one pid namespace another container's init, and then never wait for it. So nothing here waits: how such
/// a child ended is in its `stat` file, and it is collected when the tracer has let go or is gone.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Held {
    pids: Vec<Pid>,
    /// Those of which only a pidfd is known.
    pidfds: Vec<OwnedFd>,
}

impl Held {
    /// Collects a child that has ended, or has it collected later. `inside` is the container's proc, and the child's pid
    /// there. `None` if nothing tells how it ended.
    pub(in crate::sandbox) fn collect(
        &mut self,
        child: Pid,
        inside: Option<(BorrowedFd<'_>, i32)>,
    ) -> Option<Usage> {
        match sys::wait4_now(child) {
            Ok(Some(usage)) => Some(usage),
            Ok(None) => {
                self.pids.push(child);
                let (proc, pid) = inside?;
                find(proc, pid).ok()??.ended()
            }
            Err(_) => None,
        }
    }

    /// As [`collect`](Self::collect), for a child of which only a pidfd is known.
    pub(in crate::sandbox) fn collect_by_pidfd(
        &mut self,
        child: BorrowedFd<'_>,
        inside: Option<(BorrowedFd<'_>, i32)>,
    ) -> Option<Usage> {
        match sys::wait_pidfd_now(child) {
            Ok(Some(usage)) => Some(usage),
            Ok(None) => {
                self.pidfds.extend(child.try_clone_to_owned());
                let (proc, pid) = inside?;
                find(proc, pid).ok()??.ended()
            }
            Err(_) => None,
        }
    }

    /// Collects those that no tracer holds any more.
    pub(in crate::sandbox) fn look_again(&mut self) {
        self.pids.retain(|child| matches!(sys::wait4_now(*child), Ok(None)));
        self.pidfds.retain(|child| matches!(sys::wait_pidfd_now(child.as_fd()), Ok(None)));
    }

    /// When to look again.
    pub(in crate::sandbox) fn next_look(&self) -> Option<Instant> {
        (!self.pids.is_empty() || !self.pidfds.is_empty()).then(|| Instant::now() + PAUSE)
    }
}

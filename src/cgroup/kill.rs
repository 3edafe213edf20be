//! Ends the processes of a cgroup, or waits for their end, on v1 and v2.
//!
//! Waits for the kernel's own events (pidfds, `cgroup.events`) until a deadline, and never sleeps.

use super::dir::{CgroupDir, CgroupVersion, read_text, v1, v2};
use crate::error::{Error, ErrorKind, OsContext, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How the processes end that are still in a cgroup.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum End {
    /// We kill them.
    Killed,
    /// They end without us.
    ByItself,
}

/// Waits until no process is in `dir`; on v2 also until none is below it.
pub(super) fn empty(dir: &CgroupDir, deadline: Instant, end: End) -> Result<()> {
    let emptied = match (end, dir.version()) {
        (End::Killed, CgroupVersion::V1) => kill_v1(dir, deadline),
        (End::Killed, CgroupVersion::V2) => kill_v2(dir, deadline),
        (End::ByItself, CgroupVersion::V1) => end_listed(dir, deadline, End::ByItself),
        (End::ByItself, CgroupVersion::V2) => await_empty(dir, deadline),
    };
    gone_is_none(emptied).map(drop)
}

/// Kills every process of this v1 cgroup, not of those below it.
fn kill_v1(dir: &CgroupDir, deadline: Instant) -> Result<()> {
    // Only one of these files exists, in the hierarchy of its controller. Without the first, killing has to be faster
    // than forking.
    let _ = dir.write("pids.max", "0");
    // On v1 alone, a frozen task does not act on SIGKILL until it is thawed.
    let _ = dir.write(v1::FREEZER, "THAWED");
    end_listed(dir, deadline, End::Killed)
}

/// Kills every process of this v2 cgroup and of those below it.
fn kill_v2(dir: &CgroupDir, deadline: Instant) -> Result<()> {
    // KERNEL(5.14): cgroup.kill, which no fork escapes. Before, and in a threaded cgroup: one by one.
    if dir.write("cgroup.kill", "1").is_err() {
        return end_listed(dir, deadline, End::Killed);
    }
    await_empty(dir, deadline)
}

/// Waits until no process is in this v2 cgroup and in those below it.
fn await_empty(dir: &CgroupDir, deadline: Instant) -> Result<()> {
    let events = dir.open_read(v2::EVENTS)?;
    let step = || format!("read({:?})", dir.path().join(v2::EVENTS));
    // The kernel raises POLLPRI when the text changes after it was last read, so this order cannot miss a change.
    while read_text(events.as_fd()).os(step)?.lines().any(|line| line == "populated 1") {
        poll_until(&mut [PollFd::new(&events, PollFlags::PRI)], deadline)?;
    }
    Ok(())
}

/// How long to wait for the end of processes that this one has no pid for.
const OUTER_LIMIT: Duration = Duration::from_millis(500);
const RECHECK_OUTER: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// Waits until no process is listed in `cgroup.procs` of `dir`.
///
/// A pid can be reused until a pidfd holds it, so each is opened first and then looked up *again*. If the number is still
/// listed after its pidfd was opened, the pidfd refers to that process, or the process has ended and the signal has no
/// effect.
fn end_listed(dir: &CgroupDir, deadline: Instant, end: End) -> Result<()> {
    let patience = deadline.min(Instant::now() + OUTER_LIMIT);
    loop {
        let mut held: Vec<(i32, OwnedFd)> = Vec::new();
        let members = listed(dir)?;
        // The kernel lists a process of an outer pid namespace as 0, and has no event for its end on v1. One that was killed
        // through its sandbox is about to end.
        if members.contains(&0) && Instant::now() < patience {
            let _ = rustix::event::poll(&mut [], Some(&RECHECK_OUTER));
            continue;
        }
        for pid in members {
            let refuse =
                |why: &str| Err(Error::new(ErrorKind::Incomplete, "kill", format!("{:?} {why}", dir.path())));
            if pid == std::process::id().cast_signed() {
                return refuse("holds the calling process itself");
            }
            let Some(handle) = Pid::from_raw(pid) else {
                return refuse("holds a process of an outer pid namespace");
            };
            match rustix::process::pidfd_open(handle, PidfdFlags::empty()) {
                Ok(pidfd) => held.push((pid, pidfd)),
                Err(Errno::SRCH) => {}
                // The usual limit is 1024 descriptors: kill the processes held so far, then come back for the rest.
                Err(Errno::MFILE | Errno::NFILE) if !held.is_empty() => break,
                Err(errno) => return Err(errno).os(|| format!("pidfd_open({pid})")),
            }
        }
        if held.is_empty() && listed(dir)?.is_empty() {
            return Ok(());
        }
        let members = listed(dir)?;
        held.retain(|(pid, _)| members.contains(pid));
        for (pid, pidfd) in held.iter().filter(|_| end == End::Killed) {
            match rustix::process::pidfd_send_signal(pidfd, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(errno).os(|| format!("pidfd_send_signal({pid}, SIGKILL)")),
            }
        }
        for (pid, pidfd) in &held {
            poll_until(&mut [PollFd::new(pidfd, PollFlags::IN)], deadline)
                .map_err(|error| error.during(format!("process {pid} in {:?}", dir.path())))?;
        }
        check(deadline, dir.path())?;
    }
}

/// The processes in `dir` for which a SIGKILL waits: they do nothing any more but end, once they can.
pub(super) fn killed_in(dir: &CgroupDir) -> Result<BTreeSet<i32>> {
    let waits = |line: &str| {
        let mask = line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask >> (libc::SIGKILL - 1) & 1 == 1)
    };
    let is_killed = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        status.is_ok_and(|status| status.lines().any(waits))
    };
    Ok(listed(dir)?.into_iter().filter(is_killed).collect())
}

pub(super) fn listed(dir: &CgroupDir) -> Result<BTreeSet<i32>> {
    // ENODEV: the cgroup was removed while we held it, so no process is in it.
    match gone_is_none(dir.read("cgroup.procs"))? {
        Some(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        None => Ok(BTreeSet::new()),
    }
}

/// Waits for an event on `fds` until `deadline`.
fn poll_until(fds: &mut [PollFd<'_>], deadline: Instant) -> Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match rustix::event::poll(fds, Some(&timeout)) {
            Ok(0) => {
                return Err(Error::new(ErrorKind::TimedOut, "poll", "killed processes are still there"));
            }
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).os(|| "poll(cgroup)"),
        }
    }
}

/// Fails after `deadline`.
pub(super) fn check(deadline: Instant, path: &Path) -> Result<()> {
    if Instant::now() < deadline {
        return Ok(());
    }
    Err(Error::new(ErrorKind::TimedOut, "remove cgroup", format!("{path:?} is still in use")))
}

/// `None` if the file or the whole cgroup is gone.
pub(super) fn gone_is_none<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(None),
        Err(error) => Err(error),
    }
}

//! The identity of a process, which stays right when the kernel gives its pid to another.
//!
//! What lives here: the identity that a record keeps, and its two uses later: to find out whether the process is alive,
//! and to get a pidfd. What may not: signals and waiting, which need only the pidfd.
//!
//! A pid alone names the process that has this number at the moment. Pid and start time name one process of one boot,
//! and the boot id names the boot. Pid and start time are as seen from the caller's pid and time namespaces, so they have
//! meaning only for callers that share them: a record has a [`SeenFrom`] beside them.

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::sys::ProcStat;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

/// One process of one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProcessIdentity {
    /// The process id in the caller's pid namespace.
    pub pid: i32,
    /// When it started, in clock ticks since boot: field 22 of proc_pid_stat(5).
    pub start_time: u64,
}

impl ProcessIdentity {
    /// The identity of the process that has `pid` now; `None` if there is none, or if it is a zombie.
    ///
    /// Only the parent of a process, as long as it has not collected it, can be sure that `pid` still names it.
    ///
    /// # Errors
    /// [`ErrorKind::Os`] when `/proc` cannot be read.
    pub fn of(pid: i32) -> Result<Option<Self>> {
        let alive = read_stat(pid)?.filter(|stat| !stat.is_dead());
        Ok(alive.map(|stat| Self { pid, start_time: stat.starttime }))
    }

    /// Whether this very process still runs. `boot_id` is the boot in which it was recorded. A zombie does not run, and
    /// neither does a process that is exiting but cannot end yet, such as the first process of a pid namespace in which
    /// another is frozen.
    ///
    /// # Errors
    /// [`ErrorKind::Os`] when `/proc` cannot be read.
    pub fn is_alive(&self, boot_id: &str) -> Result<bool> {
        if boot_id != self::boot_id()? {
            return Ok(false);
        }
        let stat = read_stat(self.pid)?;
        Ok(stat.is_some_and(|stat| {
            let is_ending = stat.is_exiting() && stat.num_threads <= 1;
            stat.starttime == self.start_time && !stat.is_dead() && !is_ending
        }))
    }

    /// Whether this very process runs or waits by itself: it is alive, and neither a signal nor a tracer has stopped it.
    pub(crate) fn is_free(&self) -> Result<bool> {
        let stat = read_stat(self.pid)?;
        Ok(stat.is_some_and(|stat| {
            stat.starttime == self.start_time && !stat.is_dead() && !matches!(stat.state, 'T' | 't')
        }))
    }

    /// A pidfd of this very process, for signals and waits; `None` when it is gone or from another boot.
    ///
    /// # Errors
    /// [`ErrorKind::Os`] when pidfd_open(2) or `/proc` fails.
    pub fn pidfd(&self, boot_id: &str) -> Result<Option<OwnedFd>> {
        if self.pid <= 0 || boot_id != self::boot_id()? {
            return Ok(None);
        }
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(None);
        };
        let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            // EINVAL, ENOENT: the number now belongs to a thread.
            Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno).os(|| format!("pidfd_open({})", self.pid)),
        };
        // Compare after the open: the pidfd names one process for good, whatever happens to the number.
        Ok((Self::of(self.pid)? == Some(*self)).then_some(pidfd))
    }
}

/// The namespaces in which pids and start times were read, by their inode numbers (namespaces(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SeenFrom {
    /// The pid namespace.
    pub pid_namespace: u64,
    /// The time namespace; 0 on a kernel without them.
    pub time_namespace: u64,
}

impl SeenFrom {
    /// The namespaces of this process.
    ///
    /// # Errors
    /// [`ErrorKind::Os`] when `/proc` cannot be read.
    pub(crate) fn here() -> Result<Self> {
        let inode = |name: &str| match rustix::fs::stat(format!("/proc/self/ns/{name}")) {
            Err(Errno::NOENT) => Ok(0),
            found => found.map(|stat| stat.st_ino).os(|| format!("stat(\"/proc/self/ns/{name}\")")),
        };
        Ok(Self { pid_namespace: inode("pid")?, time_namespace: inode("time")? })
    }
}

/// The id of this boot of the kernel, as in random(4).
///
/// # Errors
/// [`ErrorKind::Os`] when `/proc` cannot be read.
pub(crate) fn boot_id() -> Result<&'static str> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    if let Some(id) = BOOT_ID.get() {
        return Ok(id);
    }
    let bytes = read_small(PATH).os(|| format!("read({PATH:?})"))?;
    let id = String::from_utf8_lossy(bytes.trim_ascii()).into_owned();
    Ok(BOOT_ID.get_or_init(|| id))
}

/// One open and one read: these files are much shorter than a page, and the kernel formats them as a whole.
fn read_small(path: &str) -> rustix::io::Result<Vec<u8>> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())?;
    let mut buffer = vec![0; 2048];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(&file, buffer.as_mut_slice()))?;
    buffer.truncate(length);
    Ok(buffer)
}

/// The `stat` of the process that has `pid` now; `None` if there is none.
fn read_stat(pid: i32) -> Result<Option<ProcStat>> {
    if pid <= 0 {
        return Ok(None);
    }
    let path = format!("/proc/{pid}/stat");
    let stat = match read_small(&path) {
        Ok(stat) => stat,
        // ESRCH: its parent collected it between open and read.
        Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
        Err(errno) => return Err(errno).os(|| format!("read({path:?})")),
    };
    match ProcStat::parse(&stat) {
        Some(stat) => Ok(Some(stat)),
        None => Err(Error::new(ErrorKind::Os(libc::EIO), path, "not in the format of proc_pid_stat(5)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_pid() -> i32 {
        rustix::process::getpid().as_raw_nonzero().get()
    }

    #[test]
    fn this_process_is_alive_and_has_a_pidfd() {
        let me = ProcessIdentity::of(own_pid()).unwrap().unwrap();
        assert!(me.start_time > 0);
        assert!(me.is_alive(boot_id().unwrap()).unwrap());
        assert!(me.pidfd(boot_id().unwrap()).unwrap().is_some());
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let me = ProcessIdentity::of(own_pid()).unwrap().unwrap();
        let earlier = ProcessIdentity { start_time: me.start_time - 1, ..me };
        assert!(!earlier.is_alive(boot_id().unwrap()).unwrap());
        assert!(earlier.pidfd(boot_id().unwrap()).unwrap().is_none());
    }

    #[test]
    fn a_process_of_another_boot_is_dead() {
        let me = ProcessIdentity::of(own_pid()).unwrap().unwrap();
        assert!(!me.is_alive("f00").unwrap());
        assert!(me.pidfd("f00").unwrap().is_none());
    }

    #[test]
    fn numbers_that_are_no_pid_name_no_process() {
        for pid in [0, -1, i32::MIN, i32::MAX] {
            assert_eq!(ProcessIdentity::of(pid).unwrap(), None);
            let none = ProcessIdentity { pid, start_time: 1 };
            assert!(none.pidfd(boot_id().unwrap()).unwrap().is_none());
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs a child that is a zombie for certain")]
    fn a_zombie_is_dead_before_it_is_reaped() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(Pid::from_raw(pid).unwrap()), options).unwrap();
        assert_eq!(ProcessIdentity::of(pid).unwrap(), None);
        child.wait().unwrap();
    }
}

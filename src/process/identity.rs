//! Who a process is, in a way that survives the reuse of its number.
//!
//! What lives here: the identity a record keeps, and the two questions asked of it later (does it live, give me a
//! pidfd). What may not: signals and waiting, which work on the pidfd.
//!
//! A pid alone names whatever runs under that number today. Pid and start time name one process of one boot, and the
//! boot id names the boot. All three are as seen from the caller's pid and time namespaces: a record is only
//! meaningful to callers that share them.

use crate::error::{Error, ErrorKind, OsContext, Result};
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
    /// The identity of the process that has `pid` now; `None` where there is none, or only its zombie.
    ///
    /// Only the parent of a process, before it reaps it, can be sure that this is the process it means.
    ///
    /// # Errors
    /// [`ErrorKind::Os`] when `/proc` cannot be read.
    pub fn of(pid: i32) -> Result<Option<Self>> {
        let alive = read_stat(pid)?.filter(|stat| !stat.is_dead());
        Ok(alive.map(|stat| Self { pid, start_time: stat.start_time }))
    }

    /// Whether this very process still runs. `boot_id` is the boot it was recorded in; neither a zombie runs nor one
    /// that the kernel keeps from ending, such as the first process of a pid namespace with something frozen in it.
    ///
    /// # Errors
    /// [`ErrorKind::Os`] when `/proc` cannot be read.
    pub fn is_alive(&self, boot_id: &str) -> Result<bool> {
        if boot_id != self::boot_id()? {
            return Ok(false);
        }
        let stat = read_stat(self.pid)?;
        Ok(stat
            .is_some_and(|stat| stat.start_time == self.start_time && !stat.is_dead() && !stat.is_ending()))
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
        // Checked after the open: from here on the fd can no longer come to mean another process.
        Ok((Self::of(self.pid)? == Some(*self)).then_some(pidfd))
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

/// One open and one read: these files are far below a page and the kernel formats them whole.
fn read_small(path: &str) -> rustix::io::Result<Vec<u8>> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())?;
    let mut buffer = vec![0; 2048];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(&file, buffer.as_mut_slice()))?;
    buffer.truncate(length);
    Ok(buffer)
}

/// What the kernel says of the process that has `pid` now; `None` where there is none.
fn read_stat(pid: i32) -> Result<Option<Stat>> {
    if pid <= 0 {
        return Ok(None);
    }
    let path = format!("/proc/{pid}/stat");
    let stat = match read_small(&path) {
        Ok(stat) => stat,
        // ESRCH: it was reaped between open and read.
        Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
        Err(errno) => return Err(errno).os(|| format!("read({path:?})")),
    };
    match Stat::parse(&stat) {
        Some(stat) => Ok(Some(stat)),
        None => Err(Error::new(ErrorKind::Os(libc::EIO), path, "not in the format of proc_pid_stat(5)")),
    }
}

/// The four fields of proc_pid_stat(5) that tell a process from its successor and the living from the dead.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: u8,
    flags: u32,
    threads: u64,
    start_time: u64,
}

impl Stat {
    fn parse(line: &[u8]) -> Option<Self> {
        // Field 2 is the command name in parentheses. It may itself hold spaces and parentheses, so the fields are
        // counted from the last one.
        let name_end = line.iter().rposition(|byte| *byte == b')')?;
        let mut fields = std::str::from_utf8(&line[name_end + 1..]).ok()?.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?; // field 3
        let flags = fields.nth(5)?.parse().ok()?; // field 9
        let threads = fields.nth(10)?.parse().ok()?; // field 20
        let start_time = fields.nth(1)?.parse().ok()?; // field 22
        Some(Self { state, flags, threads, start_time })
    }

    /// On its way out in the kernel: it runs no instruction of its own any more.
    fn is_ending(&self) -> bool {
        /// `PF_EXITING` of the kernel's sched.h.
        const EXITING: u32 = 0x4;
        self.flags & EXITING != 0 && self.threads <= 1
    }

    /// A zombie with more than one thread is a live process whose first thread ended.
    fn is_dead(&self) -> bool {
        matches!(self.state, b'X' | b'x') || (self.state == b'Z' && self.threads <= 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    fn numbers_that_are_no_pid_are_nobody() {
        for pid in [0, -1, i32::MIN, i32::MAX] {
            assert_eq!(ProcessIdentity::of(pid).unwrap(), None);
            let nobody = ProcessIdentity { pid, start_time: 1 };
            assert!(nobody.pidfd(boot_id().unwrap()).unwrap().is_none());
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

    #[test]
    fn a_command_name_cannot_forge_fields() {
        let tail = "1 7 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 3 0 4242 0 0";
        for name in ["cat", "a) Z 1 1", "))) (", "x y"] {
            let stat = Stat::parse(format!("7 ({name}) S {tail}\n").as_bytes()).unwrap();
            assert_eq!(stat, Stat { state: b'S', flags: 4_194_304, threads: 3, start_time: 4242 });
        }
        let leaderless = Stat::parse(format!("7 (x) Z {tail}").as_bytes()).unwrap();
        assert!(!leaderless.is_dead());
        assert!(Stat { threads: 1, ..leaderless }.is_dead());
        assert_eq!(Stat::parse(b"7 (x) S 1 7"), None);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Stat::parse(&line);
        }
    }
}

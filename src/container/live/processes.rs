//! The process table of a container, read from its own proc file system.
//!
//! The sandbox sends a descriptor of that file system, and the caller reads from it. The sandbox does not read itself,
//! because the kernel copies a command line out of the memory of its process: a workload can make that memory slow,
//! with a mapping of a file on its own FUSE, and would hold up the sandbox and all its other callers. Here it holds up
//! only the caller that asked.

use crate::container::{Alive, Container, Phase};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::link::SandboxLink;
use crate::sys::{ProcStat, StatusText, open_below, read_below};
use crate::wire::control::{Operation, Reply};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Dir, OFlags, readlinkat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::time::{Duration, SystemTime};

/// The most bytes to read of a file with fixed fields. `status` is the longest; every field that is needed comes
/// before its lists of groups and CPUs.
const MAX_FILE: u64 = 16 << 10;
/// The most bytes to read of a command line: as many as the kernel itself returned before 4.2.
const MAX_COMMAND_LINE: u64 = 4 << 10;

/// One process of a container, as [`Container::processes`] found it.
///
/// Pids are those of the container's pid namespace, and the user id is that of its user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessInfo {
    /// The effective user id; 65534 if the container's user namespace does not map it.
    pub uid: u32,
    /// The pid. The first process of a container with a pid namespace of its own is 2; without an
    /// [init](crate::ContainerBuilder::init) it is 1.
    pub pid: i32,
    /// The pid on the host (in the caller's pid namespace). `None` is possible for a process that began or ended
    /// during the listing.
    pub host_pid: Option<i32>,
    /// The parent's pid; 0 if the parent is outside the container, as for the first process and for processes of
    /// [`exec`](Container::exec), and 1 for an orphan.
    pub ppid: i32,
    /// The process group; 0 if its leader is outside the container.
    pub pgid: i32,
    /// The session; 0 if its leader is outside the container.
    pub sid: i32,
    /// The number of threads.
    pub threads: u32,
    /// The controlling terminal, `pts/N`, or `?` if there is none.
    pub tty: String,
    /// When it started, to a hundredth of a second.
    pub started_at: SystemTime,
    /// The CPU time that all its threads used, in user and in kernel mode.
    pub cpu_time: Duration,
    /// Its state: `R`unning, `S`leeping, in `D`isk sleep, s`T`opped, `t`raced, `I`dle (proc_pid_stat(5)).
    pub state: char,
    /// The file name of its program, or the name it gave itself (prctl(2), `PR_SET_NAME`): at most 15 bytes.
    pub name: String,
    /// The first 4096 bytes of its command line; empty if it has none.
    ///
    /// A process can change its name and command line. This crate replaces bytes that are not UTF-8 and keeps control
    /// characters: escape them before you print them to a terminal.
    pub args: Vec<String>,
}

impl ProcessInfo {
    /// The command line as one string; without one, the name in brackets, as ps(1) prints it.
    #[must_use]
    pub fn command(&self) -> String {
        if self.args.is_empty() { format!("[{}]", self.name) } else { self.args.join(" ") }
    }
}

impl<P: Phase + ?Sized> Container<P> {
    /// The container's processes, sorted by pid, without zombies.
    ///
    /// Before the start, init is one of them, and its program is the caller's: init waits to become the workload.
    ///
    /// They are read one after the other, so the table is no snapshot, unless the container is paused. What a workload
    /// mounts over its own `/proc` hides no process.
    ///
    /// # Errors
    /// [`ErrorKind::Ended`] if the container has ended, or the system call that failed.
    pub fn processes(&self) -> Result<Vec<ProcessInfo>>
    where
        P: Alive,
    {
        list(self.phase.live())
    }
}

/// The processes of the container behind `live`.
pub(super) fn list(live: &SandboxLink) -> Result<Vec<ProcessInfo>> {
    let answer = live.begin(Operation::Processes)?.delivery()?;
    let Reply::Processes { helpers } = answer.message else {
        return Err(Error::new(ErrorKind::PeerMisbehaved, "processes", "the sandbox sent no descriptor"));
    };
    let proc = answer.fds.take_only("proc")?;
    let table = ProcessTable::open(&proc, live, helpers).and_then(|table| table.read());
    // The sandbox of a pod goes on. Afterwards, because the container may end while its processes are read.
    live.check_alive("processes")?;
    table.map_err(|error| live.explain("processes", error))
}

/// A container's proc file system, and what is needed to read it as the container would.
struct ProcessTable<'a> {
    proc: &'a OwnedFd,
    /// Which processes to list.
    members: Members,
    /// Helpers of this crate, if the pid namespace shows them: they share init's mount namespace, and are not part of
    /// the workload.
    helpers: Vec<i32>,
    /// The id map of its user namespace; `None` if the caller is in the same one.
    uids: Option<UidMap>,
    /// The pids on the host, by those in the container.
    host_pids: HostPids,
    /// When the kernel booted.
    boot: SystemTime,
    ticks_per_second: u64,
}

/// Which of the processes in a pid namespace are the container's.
enum Members {
    /// All: no other container is in the namespace.
    All,
    /// Those in init's mount namespace, by the link in `/proc/PID/ns`.
    OfMountNamespace(Option<CString>),
}

/// The pids on the host.
enum HostPids {
    /// The container shares the caller's pid namespace.
    Same,
    /// By pid in the container.
    Known(BTreeMap<i32, i32>),
}

impl<'a> ProcessTable<'a> {
    fn open(proc: &'a OwnedFd, live: &SandboxLink, helpers: Vec<i32>) -> Result<Self> {
        let gone = || Error::new(ErrorKind::Ended, "processes", "the container has ended");
        let inits = pids_of(live.init_pid()).ok_or_else(gone)?;
        let init = *inits.last().ok_or_else(gone)?;
        let members = match init {
            1 => Members::All,
            // A pid namespace of its own, whose PID 1 is none of its processes.
            _ if helpers.contains(&1) => Members::All,
            _ => Members::OfMountNamespace(namespace(proc.as_fd(), init, "mnt")),
        };
        let own_user = readlinkat(CWD, "/proc/self/ns/user", Vec::new()).ok();
        let shares_user = own_user.is_some() && own_user == namespace(proc.as_fd(), init, "user");
        let uids = if shares_user {
            None
        } else {
            let map =
                read_below(proc.as_fd(), &format!("{init}/uid_map"), MAX_FILE).os(|| "read(uid_map)")?;
            Some(UidMap::parse(&String::from_utf8_lossy(&map)))
        };
        let host_pids = match inits.len() {
            1 => HostPids::Same,
            depth => HostPids::Known(host_pids_below(live.sandbox_pid(), depth - 1)),
        };
        Ok(Self {
            proc,
            members,
            helpers,
            uids,
            host_pids,
            boot: boot_time(),
            ticks_per_second: rustix::param::clock_ticks_per_second().max(1),
        })
    }

    fn read(&self) -> Result<Vec<ProcessInfo>> {
        let directory =
            open_below(self.proc.as_fd(), ".", OFlags::DIRECTORY).os(|| "openat2(proc, \".\")")?;
        let mut pids: Vec<i32> = Vec::new();
        for entry in Dir::read_from(&directory).os(|| "open(proc)")? {
            let entry = entry.os(|| "getdents64(proc)")?;
            pids.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()));
        }
        pids.sort_unstable();
        let mut table = Vec::with_capacity(pids.len());
        for pid in pids {
            match self.process(pid) {
                Ok(process) => table.extend(process),
                // The process has ended since the directory was read.
                Err(Errno::NOENT | Errno::SRCH) => {}
                Err(errno) => return Err(errno).os(|| format!("read(proc/{pid})")),
            }
        }
        Ok(table)
    }

    /// The process `pid`; `None` if it is a zombie, or not the container's, or if its `stat` cannot be parsed.
    fn process(&self, pid: i32) -> Result<Option<ProcessInfo>, Errno> {
        let proc = self.proc.as_fd();
        if !self.belongs(pid) {
            return Ok(None);
        }
        let Some(stat) = ProcStat::parse(&read_below(proc, &format!("{pid}/stat"), MAX_FILE)?) else {
            return Ok(None);
        };
        if stat.is_dead() {
            return Ok(None);
        }
        let status = read_below(proc, &format!("{pid}/status"), MAX_FILE)?;
        let uid = StatusText(&String::from_utf8_lossy(&status)).number("Uid", 1).unwrap_or(OVERFLOW_UID);
        let command_line = read_below(proc, &format!("{pid}/cmdline"), MAX_COMMAND_LINE)?;
        Ok(Some(ProcessInfo {
            uid: self.uids.as_ref().map_or(uid, |uids| uids.inside(uid)),
            pid,
            host_pid: match &self.host_pids {
                HostPids::Same => Some(pid),
                HostPids::Known(known) => known.get(&pid).copied(),
            },
            ppid: stat.ppid,
            pgid: stat.pgrp,
            sid: stat.session,
            threads: u32::try_from(stat.num_threads).unwrap_or_default(),
            tty: terminal_name(stat.tty_nr.cast_unsigned()),
            started_at: self.boot + self.duration(stat.starttime),
            cpu_time: self.duration(stat.utime.saturating_add(stat.stime)),
            state: stat.state,
            name: stat.comm.clone(),
            args: split_command_line(&command_line),
        }))
    }

    /// Whether `pid` is the container's. If several containers share the pid namespace, the mount namespace decides; a
    /// process that made itself another mount namespace is then not listed.
    fn belongs(&self, pid: i32) -> bool {
        match &self.members {
            _ if self.helpers.contains(&pid) => false,
            Members::All => true,
            Members::OfMountNamespace(inits) => {
                inits.is_some() && namespace(self.proc.as_fd(), pid, "mnt") == *inits
            }
        }
    }

    fn duration(&self, ticks: u64) -> Duration {
        let (seconds, rest) = (ticks / self.ticks_per_second, ticks % self.ticks_per_second);
        Duration::from_secs(seconds)
            + Duration::from_secs(rest) / u32::try_from(self.ticks_per_second).unwrap_or(1)
    }
}

/// The text of the link to the namespace `kind` of `pid`; `None` if we may not read it.
fn namespace(proc: BorrowedFd<'_>, pid: i32, kind: &str) -> Option<CString> {
    let directory = open_below(proc, &format!("{pid}/ns"), OFlags::DIRECTORY).ok()?;
    readlinkat(&directory, kind, Vec::new()).ok()
}

/// The pids of a process of the host, from the caller's pid namespace inwards (proc_pid_status(5), `NSpid`).
fn pids_of(host_pid: i32) -> Option<Vec<i32>> {
    let status = read_host(&format!("/proc/{host_pid}/status"))?;
    Some(StatusText(&status).pids().collect())
}

/// Every descendant of `ancestor`: its pid in the namespace `depth` levels further in, and its pid in ours.
fn host_pids_below(ancestor: i32, depth: usize) -> BTreeMap<i32, i32> {
    let mut found = BTreeMap::new();
    let mut to_visit = vec![ancestor];
    while let Some(parent) = to_visit.pop() {
        let threads = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        for thread in threads {
            let Some(children) = read_host(&thread.path().join("children").to_string_lossy()) else {
                continue;
            };
            for child in children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()) {
                if let Some(inside) = pids_of(child).as_ref().and_then(|pids| pids.get(depth)) {
                    // A process that is found again was reparented meanwhile, and its children are already in the list.
                    if found.insert(*inside, child).is_none() {
                        to_visit.push(child);
                    }
                }
            }
        }
    }
    found
}

fn read_host(path: &str) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_HOST_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The most bytes to read of a file of the host's `/proc`: a list of children has no limit of its own.
const MAX_HOST_FILE: u64 = 1 << 20;

/// The moment that start times count from.
fn boot_time() -> SystemTime {
    let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(since_boot.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(since_boot.tv_nsec).unwrap_or_default();
    SystemTime::now() - Duration::new(seconds, nanos)
}

/// What the kernel shows in place of an id that is not mapped (user_namespaces(7)).
pub(crate) const OVERFLOW_UID: u32 = 65534;

/// `/proc/PID/uid_map`: in each line the first id inside, the first id outside, and the number of ids.
pub(crate) struct UidMap(Vec<[u32; 3]>);

impl UidMap {
    pub(crate) fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse);
            let mut next = || numbers.next()?.ok();
            Some([next()?, next()?, next()?])
        };
        Self(text.lines().filter_map(line).collect())
    }

    pub(crate) fn inside(&self, outside: u32) -> u32 {
        let place = self.0.iter().find_map(|[first, lower, count]| {
            let offset = outside.checked_sub(*lower).filter(|offset| offset < count)?;
            first.checked_add(offset)
        });
        place.unwrap_or(OVERFLOW_UID)
    }
}

/// `pts/N` for the terminals of a devpts (majors 136 to 143, Linux admin-guide/devices.txt), else `?`.
pub(crate) fn terminal_name(device: u32) -> String {
    let major = device >> 8 & 0xfff;
    let minor = device & 0xff | device >> 12 & 0xf_ff00;
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => "?".to_owned(),
    }
}

/// Splits at NULs, with which each argument ends unless the process has overwritten them.
pub(crate) fn split_command_line(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn terminals_are_named_as_the_container_sees_them() {
        assert_eq!(terminal_name(0), "?");
        assert_eq!(terminal_name(34816), "pts/0");
        assert_eq!(terminal_name(136 << 8 | 255), "pts/255");
        assert_eq!(terminal_name(0x0010_8800), "pts/256");
        assert_eq!(terminal_name(4 << 8 | 1), "?");
    }

    #[test]
    fn ids_are_the_containers() {
        let map = UidMap::parse("         0     100000       1000\n      1000      65534          1\n");
        assert_eq!(map.inside(100_000), 0);
        assert_eq!(map.inside(100_999), 999);
        assert_eq!(map.inside(65_534), 1000);
        assert_eq!(map.inside(0), OVERFLOW_UID);
        assert_eq!(map.inside(101_000), OVERFLOW_UID);
        assert_eq!(UidMap::parse("0 0 4294967295\n").inside(1234), 1234);
    }

    #[test]
    fn command_lines_are_split_at_the_bytes_that_end_arguments() {
        assert_eq!(split_command_line(b"sh\0-c\0\0a b\0"), ["sh", "-c", "", "a b"]);
        assert_eq!(split_command_line(b"title without an end"), ["title without an end"]);
        assert_eq!(split_command_line(b""), Vec::<String>::new());
        assert_eq!(split_command_line(b"\0"), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), tty in any::<u32>()) {
            let text = String::from_utf8_lossy(&bytes);
            let _ = UidMap::parse(&text).inside(tty);
            let _ = (split_command_line(&bytes), terminal_name(tty));
        }
    }
}

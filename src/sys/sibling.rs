//! What a zygote does: it forks siblings, and gives them their names.

use super::clone::{CLONE_INTO_CGROUP, CloneArgs, Forked, forked};
use super::last_errno;
use super::procstat::ProcStat;
use rustix::fd::{AsRawFd, BorrowedFd, RawFd};
use rustix::io::Errno;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, Ordering};

/// A page of memory, shared by way of a file, with the pid of the sibling that was forked last: 0 while there is none.
pub(crate) struct SharedPid(NonNull<AtomicI32>);

impl SharedPid {
    /// mmap(2) of `file`, which is at least as long as a pid. Stays mapped as long as the process lives.
    pub(crate) fn map(file: BorrowedFd<'_>) -> Result<Self, Errno> {
        const LENGTH: usize = size_of::<i32>();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses, of which nothing is borrowed yet.
        let page = unsafe {
            libc::mmap(std::ptr::null_mut(), LENGTH, access, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if page == libc::MAP_FAILED {
            return Err(last_errno());
        }
        NonNull::new(page.cast()).map(Self).ok_or(Errno::NOMEM)
    }

    fn forget(&mut self) {
        // SAFETY: mapped for as long as this process lives, and aligned, being the start of a page.
        unsafe { self.0.as_ref() }.store(0, Ordering::SeqCst);
    }

    /// munmap(2): what was forked has no part in it.
    fn unmap(&mut self) {
        // SAFETY: the mapping made by `map`; in a fork, which never forks siblings, nobody looks at it again.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<i32>()) };
    }
}

/// `clone3` as a fork whose child is not this process's but its parent's: `CLONE_PARENT`. Before anybody sees the
/// child, the kernel writes its pid to `newest`.
///
/// Only for the zygote, which is single-threaded: the copy goes on running ordinary Rust.
pub(crate) fn fork_sibling(
    namespaces: u32,
    cgroup: Option<BorrowedFd<'_>>,
    newest: &mut SharedPid,
) -> Result<Forked, Errno> {
    newest.forget();
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_PIDFD | libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID;
    let mut args = CloneArgs {
        flags: flags as u64 | u64::from(namespaces),
        pidfd: &raw mut pidfd as u64,
        parent_tid: newest.0.as_ptr() as u64,
        // The exit signal is that of this process, as CLONE_PARENT wants it.
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has its own copy of memory and stack; the zygote never starts a thread, so no
    // lock is held by a thread that does not exist in the copy. Both numbers that the kernel writes have their place.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    if pid == 0 {
        newest.unmap();
    }
    forked(pid, pidfd)
}

/// The memory that `/proc/PID/cmdline` shows (proc_pid_cmdline(5)): what this process was executed with.
pub(crate) struct ArgumentArea {
    start: NonNull<u8>,
    length: usize,
}

impl ArgumentArea {
    /// Where it is, says proc_pid_stat(5): `arg_start` and `arg_end`.
    pub(crate) fn of_this_process() -> Result<Self, Errno> {
        let text = std::fs::read("/proc/self/stat");
        let text = text.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let stat = ProcStat::parse(&text).ok_or(Errno::INVAL)?;
        let (start, end) = stat.arg_start.zip(stat.arg_end).ok_or(Errno::INVAL)?;
        let number = |address| usize::try_from(address).map_err(|_| Errno::INVAL);
        let (start, end) = (number(start)?, number(end)?);
        let start = NonNull::new(std::ptr::with_exposed_provenance_mut(start)).ok_or(Errno::INVAL)?;
        Ok(Self { start, length: end.saturating_sub(start.addr().get()) })
    }

    /// Puts `name` in the place of all arguments, cut off where it does not fit.
    pub(crate) fn overwrite(&mut self, name: &str) {
        // The last byte stays zero: else the kernel would go on into the environment.
        let length = name.len().min(self.length.saturating_sub(1));
        // SAFETY: the kernel put the arguments there at execve, writable, for as long as this memory lives. Nobody
        // holds a reference: `std::env::args` copies, and what it finds afterwards is as zero-terminated as before.
        unsafe { self.start.write_bytes(0, self.length) };
        // SAFETY: as above, and `length` bytes fit.
        unsafe { self.start.copy_from_nonoverlapping(NonNull::from(name.as_bytes()).cast(), length) };
    }
}

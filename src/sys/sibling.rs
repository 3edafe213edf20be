//! What only the zygote does: it forks siblings, and renames itself in them.

use super::clone::{CloneArgs, Forked, forked};
use super::last_errno;
use super::procstat::ProcStat;
use rustix::fd::{AsRawFd, BorrowedFd, RawFd};
use rustix::io::Errno;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, Ordering};

/// A shared mapping of a file, where the kernel writes the pid of the sibling that was forked last; 0 before that.
pub(crate) struct SharedPid(NonNull<AtomicI32>);

impl SharedPid {
    /// mmap(2) of `file`, which must be at least as long as a pid. It stays mapped for the life of the process.
    pub(crate) fn map(file: BorrowedFd<'_>) -> Result<Self, Errno> {
        const LENGTH: usize = size_of::<i32>();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses the address of this new mapping, so it overlaps no memory in use.
        let page = unsafe {
            libc::mmap(std::ptr::null_mut(), LENGTH, access, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if page == libc::MAP_FAILED {
            return Err(last_errno());
        }
        NonNull::new(page.cast()).map(Self).ok_or(Errno::NOMEM)
    }

    fn forget(&mut self) {
        // SAFETY: `map` made the mapping, and only `unmap`, in a fork, ends it. The start of a page is aligned.
        unsafe { self.0.as_ref() }.store(0, Ordering::SeqCst);
    }

    /// munmap(2), in a fork, which must not write to the file.
    fn unmap(&mut self) {
        // SAFETY: `map` made this mapping, and a fork never forks siblings, so it does not use the mapping again.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<i32>()) };
    }
}

/// `clone3` as a fork whose child has this process's parent as its parent: `CLONE_PARENT`. The kernel writes the
/// child's pid to `newest` before any process can see the child.
///
/// Only for the zygote, which is single-threaded, as [`fork`](super::fork) says.
pub(crate) fn fork_sibling(
    namespaces: u32,
    cgroup: Option<BorrowedFd<'_>>,
    newest: &mut SharedPid,
) -> Result<Forked, Errno> {
    newest.forget();
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_PIDFD | libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID;
    let args = CloneArgs {
        flags: flags as u64 | u64::from(namespaces),
        pidfd: &raw mut pidfd as u64,
        parent_tid: newest.0.as_ptr() as u64,
        // No exit signal: with CLONE_PARENT the child has that of this process.
        ..CloneArgs::default()
    }
    .into_cgroup(cgroup);
    // SAFETY: without CLONE_VM the child has its own copy of memory and stack. The zygote never starts a thread, so no
    // other thread holds a lock. `pidfd` and the mapping of `newest`, which the kernel writes to, are valid across the
    // call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    if pid == 0 {
        newest.unmap();
    }
    forked(pid, pidfd)
}

/// The memory that `/proc/PID/cmdline` shows (proc_pid_cmdline(5)): the arguments this process was executed with.
pub(crate) struct ArgumentArea {
    start: NonNull<u8>,
    length: usize,
}

impl ArgumentArea {
    /// Finds it by `arg_start` and `arg_end` of proc_pid_stat(5).
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

    /// Replaces all arguments by `name`, cut to the space there is.
    pub(crate) fn overwrite(&mut self, name: &str) {
        // The last byte stays zero: if it did not, the kernel would show the environment as well.
        let length = name.len().min(self.length.saturating_sub(1));
        // SAFETY: the kernel put the arguments there at execve, writable, for the life of this process. No Rust
        // reference points there: `std::env::args` copies, and the area is still zero-terminated if it copies again.
        unsafe { self.start.write_bytes(0, self.length) };
        // SAFETY: as above; `length` is at most the length of the area.
        unsafe { self.start.copy_from_nonoverlapping(NonNull::from(name.as_bytes()).cast(), length) };
    }
}

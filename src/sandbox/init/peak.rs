//! What a program that is executed takes over from the process that executes it: the peak of resident memory.
//!
//! `ru_maxrss` of getrusage(2) counts from the birth of the process, not from execve(2). A process of ours that becomes
//! the workload has several megabytes resident, most of them code, so every small program would seem to need as much. So
//! the process, right before execve, gives back what the kernel can read again, and has the kernel forget the peak
//! (proc_pid_clear_refs(5)). It keeps its heap and its relocated constants, which often are less than a megabyte.

use crate::sandbox::resolve;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC};

/// The peak of this process, to be forgotten. Without the file, as in a joined user namespace whose root may not open it,
/// the peak stays.
pub(in crate::sandbox) struct Peak(Option<OwnedFd>);

impl Peak {
    /// Opens the file in `proc`, an instance for this process's pid namespace, at a number from `above` on.
    pub(in crate::sandbox) fn open(proc: BorrowedFd<'_>, above: i32) -> Self {
        // The link leads to the process that opens it, and no mount on the way is crossed.
        let file = resolve::open_setting(proc, "self/clear_refs");
        Self(file.and_then(|file| rustix::io::fcntl_dupfd_cloexec(file, above)).ok())
    }

    /// As [`open`](Self::open), for a process in a container that has no proc of ours.
    pub(in crate::sandbox) fn open_inside(above: i32) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open("/proc", flags, Mode::empty()) {
            Ok(proc) if is_root_of_proc(proc.as_fd()) => Self::open(proc.as_fd(), above),
            _ => Self(None),
        }
    }

    /// The file: see [`Execution::forget_peak`](crate::sys::Execution::forget_peak).
    pub(in crate::sandbox) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }
}

/// The container may have mounted anything at `/proc`, a part of a proc file system too.
fn is_root_of_proc(directory: BorrowedFd<'_>) -> bool {
    /// `PROC_ROOT_INO`, which is part of the kernel's interface (linux/proc_ns.h).
    const ROOT: u64 = 1;
    rustix::fs::fstatfs(directory).is_ok_and(|fs| fs.f_type == PROC_SUPER_MAGIC)
        && rustix::fs::fstat(directory).is_ok_and(|root| root.st_ino == ROOT)
}

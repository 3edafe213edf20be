//! How the kernel schedules this process: policy, processors, memory nodes, I/O priority; and its personality.

use super::check;
use rustix::io::Errno;

/// `struct sched_attr` (sched_setattr(2)), its first version.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SchedAttr {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
}

/// A policy (linux/sched.h).
pub(crate) const SCHED_DEADLINE: u32 = libc::SCHED_DEADLINE.cast_unsigned();

/// `SCHED_FLAG_RESET_ON_FORK` (linux/sched.h): children start with the default policy.
pub(crate) const RESET_ON_FORK: u64 = 1;

/// sched_setattr(2) on this thread. This function fills in `size`.
pub(crate) fn set_scheduler(attr: &SchedAttr) -> Result<(), Errno> {
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..*attr };
    // SAFETY: `attr` has the size that its field gives, and lives across the call, which only reads it.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) })
}

/// ioprio_set(2) on this thread.
pub(crate) fn set_io_priority(priority: u16) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: the call takes integers only.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, i32::from(priority)) })
}

/// sched_setaffinity(2) on this thread: bit N of word N / 64 is processor N.
pub(crate) fn set_affinity(processors: &[u64]) -> Result<(), Errno> {
    let bytes = size_of_val(processors);
    // SAFETY: the mask is `bytes` long and lives across the call, which only reads it.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, bytes, processors.as_ptr()) })
}

/// set_mempolicy(2) on this thread: bit N of word N / 64 is node N.
pub(crate) fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<(), Errno> {
    // One more than there are bits, because the kernel reads `maxnode - 1` of them.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let nodes = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the kernel reads `bits - 1` bits at `nodes`, which the slice has; none if the pointer is null.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes, bits) })
}

/// personality(2).
pub(crate) fn set_personality(personality: u32) -> Result<(), Errno> {
    // SAFETY: the call takes integers only.
    check(unsafe { libc::personality(personality.into()) })
}

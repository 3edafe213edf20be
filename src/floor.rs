//! The least that Linux needs for a container: the yardstick of `examples/bench.rs` for this crate.
//!
//! One `clone3` into the namespaces of the builder's default, id maps, the mounts of the builder's default made with
//! mount(2), `pivot_root`, `execve`, wait. Straight-line code for trusted input only: it resolves no path, checks
//! nothing, drops no privilege, keeps no record and is no sandbox. It uses none of the crate's own machinery, so the
//! difference between the two is what that machinery costs.

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::host::DEFAULT_NAMESPACES;
use crate::sys::{self, Forked, MountAttr};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A device of the host, and its path in the new root.
const DEVICES: [(&CStr, &CStr); 6] = [
    (c"/dev/null", c"dev/null"),
    (c"/dev/zero", c"dev/zero"),
    (c"/dev/full", c"dev/full"),
    (c"/dev/random", c"dev/random"),
    (c"/dev/urandom", c"dev/urandom"),
    (c"/dev/tty", c"dev/tty"),
];
const MASKED_FILES: [&CStr; 9] = [
    c"proc/config.gz",
    c"proc/interrupts",
    c"proc/kcore",
    c"proc/key-users",
    c"proc/keys",
    c"proc/latency_stats",
    c"proc/timer_list",
    c"proc/timer_stats",
    c"proc/sched_debug",
];
const MASKED_DIRECTORIES: [&CStr; 5] =
    [c"proc/acpi", c"proc/asound", c"proc/scsi", c"sys/devices/virtual/powercap", c"sys/firmware"];
const READ_ONLY: [&CStr; 5] = [c"proc/bus", c"proc/fs", c"proc/irq", c"proc/sys", c"proc/sysrq-trigger"];

/// Runs `program`, a path inside `rootfs`, without arguments, and returns its exit code.
///
/// Only for a program that has no other thread at the moment, because the copy made by `clone3` goes on in Rust.
///
/// # Errors
/// The system call of this process that failed. If one of the new process fails, its errno is the exit code.
pub fn run(rootfs: &Path, program: &Path) -> Result<i32> {
    let text = |path: &Path| {
        CString::new(path.as_os_str().as_bytes()).map_err(|_| {
            Error::new(ErrorKind::InvalidInput, "floor", format!("{path:?} contains a zero byte"))
        })
    };
    let (rootfs, program) = (text(rootfs)?, text(program)?);
    let argv = [program.clone()];
    let (mapped, map) = pipe_with(PipeFlags::CLOEXEC).os(|| "pipe2()")?;
    match sys::fork(DEFAULT_NAMESPACES as u32, None).os(|| "clone3()")? {
        Forked::Child => {
            drop(map);
            let errno = match enter(mapped, &rootfs) {
                Ok(()) => sys::Execution::new(&program, &argv, &[]).execute().1,
                Err(errno) => errno,
            };
            sys::exit_now(errno.raw_os_error())
        }
        Forked::Parent { pid, pidfd } => {
            map_ids(pid.as_raw_nonzero().get())?;
            drop(map);
            let status = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
            let status = status.os(|| "waitid()")?;
            Ok(status.and_then(|status| status.exit_status()).unwrap_or(-1))
        }
    }
}

/// Writes the maps that [`ContainerBuilder`](crate::ContainerBuilder) chooses for a caller without subordinate ids.
fn map_ids(pid: i32) -> Result<()> {
    let maps = crate::host::probe(crate::host::Needs::default())?.default_id_maps();
    let write = |name: &str, text: String| {
        let path = format!("/proc/{pid}/{name}");
        let file =
            rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).os(|| path.clone())?;
        rustix::io::write(file, text.as_bytes()).os(|| format!("write({path:?}, {text:?})")).map(drop)
    };
    let (uid, gid) = (maps.uids[0], maps.gids[0]);
    if uid.size == 1 {
        write("setgroups", "deny".into())?;
    }
    write("uid_map", format!("0 {} {}", uid.host, uid.size))?;
    write("gid_map", format!("0 {} {}", gid.host, gid.size))
}

/// In the new process: everything between the id maps and `execve`.
fn enter(mapped: OwnedFd, rootfs: &CStr) -> Result<(), Errno> {
    // The read ends when the parent has written the maps and closed its end.
    rustix::io::read(&mapped, &mut [0_u8; 1])?;
    rustix::thread::set_thread_res_gid(rustix::fs::Gid::ROOT, rustix::fs::Gid::ROOT, rustix::fs::Gid::ROOT)?;
    rustix::thread::set_thread_res_uid(rustix::fs::Uid::ROOT, rustix::fs::Uid::ROOT, rustix::fs::Uid::ROOT)?;

    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change(c"/", slave)?;
    rustix::mount::mount_bind(rootfs, rootfs)?;
    rustix::process::chdir(rootfs)?;

    let (nosuid, noexec, nodev) = (MountFlags::NOSUID, MountFlags::NOEXEC, MountFlags::NODEV);
    let strict = nosuid | noexec | nodev;
    mount(c"proc", c"proc", strict, None)?;
    mount(c"tmpfs", c"dev", nosuid, Some(c"mode=755,size=65536k"))?;
    for (device, place) in DEVICES {
        rustix::fs::openat(CWD, place, OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC, Mode::empty())?;
        rustix::mount::mount_bind(device, place)?;
    }
    for directory in [c"dev/pts", c"dev/shm", c"dev/mqueue"] {
        rustix::fs::mkdirat(CWD, directory, Mode::from_raw_mode(0o755))?;
    }
    mount(c"devpts", c"dev/pts", nosuid | noexec, Some(c"newinstance,ptmxmode=0666,mode=0620"))?;
    mount(c"tmpfs", c"dev/shm", strict, Some(c"mode=1777,size=65536k"))?;
    mount(c"mqueue", c"dev/mqueue", strict, None)?;
    mount(c"sysfs", c"sys", strict | MountFlags::RDONLY, None)?;
    mount(c"tmpfs", c"tmp", nosuid | nodev, Some(c"mode=1777"))?;

    for path in MASKED_FILES {
        if_exists(rustix::mount::mount_bind(c"/dev/null", path))?;
    }
    for path in MASKED_DIRECTORIES {
        if_exists(mount(c"tmpfs", path, strict | MountFlags::RDONLY, Some(c"nr_inodes=1,size=4k")))?;
    }
    let read_only = MountAttr::change(libc::MOUNT_ATTR_RDONLY, 0);
    for path in READ_ONLY {
        if_exists(rustix::mount::mount_bind_recursive(path, path))?;
        if let Ok(mount) = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            sys::mount_setattr(mount.as_fd(), &read_only, true)?;
        }
    }
    let root = rustix::fs::open(c".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    sys::mount_setattr(root.as_fd(), &read_only, false)?;

    rustix::process::pivot_root(c".", c".")?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")
}

fn mount(kind: &CStr, at: &CStr, flags: MountFlags, options: Option<&CStr>) -> Result<(), Errno> {
    rustix::mount::mount(kind, at, kind, flags, options)
}

/// Not every kernel has every masked path.
fn if_exists(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        other => other,
    }
}

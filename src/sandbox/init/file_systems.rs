//! New file systems of the container: each a detached mount with its parameters and attributes.

use super::copy_up;
use crate::error::{OsContext, Result};
use crate::plan::TreeStep;
use crate::sandbox::resolve;
use crate::spec::MountAttrs;
use crate::sys::{self, NewMount, StatusText, clone_tree};
use crate::weaken::{Rule, leaves_out};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};

/// A proc of this process's pid namespace.
pub(super) fn new_proc(step: Option<&TreeStep>, options: &[String], set: MountAttrs) -> Result<OwnedFd> {
    let name = step.and_then(|step| step.name.as_deref());
    named("proc", name, options, set).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => error.hint("the kernel refuses where parts of the host's /proc are hidden"),
        _ => error,
    })
}

/// A proc through which to look at the container's processes, where its configuration mounts none.
pub(super) fn unseen_proc() -> Result<OwnedFd> {
    let refused = match new_proc(None, &[], MountAttrs::NOSUID | MountAttrs::NODEV | MountAttrs::NOEXEC) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => error,
        made => return made,
    };
    // Root of a user namespace may make none for a pid namespace of the host's; but then the one that this process sees
    // from its old root is the right one. One number says so: "the first is the ID in the PID namespace of the procfs
    // mount", the last in the process's own (proc_pid_status(5)).
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if StatusText(&status).pids().count() != 1 {
        return Err(refused);
    }
    let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .os(|| "open(\"/proc\", O_PATH)")?;
    // With the mounts in it: the kernel refuses a copy that would uncover what they hide.
    let own = clone_tree(proc.as_fd(), true).os(|| "open_tree(\"/proc\", OPEN_TREE_CLONE|AT_RECURSIVE)")?;
    sys::set_propagation(own.as_fd(), libc::MS_PRIVATE, true)
        .os(|| "mount_setattr(proc, AT_RECURSIVE, MS_PRIVATE)")?;
    Ok(own)
}

/// The tmpfs of `step`, writable; with `copy_up`, filled with a copy of the directory at its place below `root`.
pub(super) fn new_tmpfs(
    root: BorrowedFd<'_>,
    step: &TreeStep,
    options: &[String],
    copy_up: bool,
) -> Result<OwnedFd> {
    let mut options = options.to_vec();
    // Take the mode of the covered directory, as runc does: it may keep other users out, and the kernel's default lets
    // all in.
    if !options.iter().any(|option| option.starts_with("mode="))
        && let Ok(covered) = resolve::open(root, &step.at)
    {
        let covered = rustix::fs::fstat(&covered).os(|| format!("fstat({:?})", step.at))?;
        options.push(format!("mode={:o}", covered.st_mode & 0o7777));
    }
    let mount = new_of(step, "tmpfs", &options, step.set - MountAttrs::RDONLY)?;
    if copy_up {
        copy_up::copy_up(root, &step.at, mount.as_fd())?;
    }
    Ok(mount)
}

/// A new instance of a file system, detached, with its attributes set.
pub(in crate::sandbox) fn new_fs(kind: &str, options: &[String], set: MountAttrs) -> Result<OwnedFd> {
    named(kind, None, options, set)
}

/// As [`new_fs`], under the name of the step.
pub(super) fn new_of(step: &TreeStep, kind: &str, options: &[String], set: MountAttrs) -> Result<OwnedFd> {
    named(kind, step.name.as_deref(), options, set)
}

fn named(kind: &str, name: Option<&str>, options: &[String], set: MountAttrs) -> Result<OwnedFd> {
    let new = NewMount::open(kind)?;
    // What the first column of mount(8) shows; without it, "none".
    new.set("source", name.unwrap_or(kind))?;
    let kept = |option: &&String| !(option.starts_with("max=") && leaves_out(Rule::Terminals));
    options.iter().filter(kept).try_for_each(|option| new.option(option))?;
    new.mount(if leaves_out(Rule::MountAttributes) { 0 } else { set.bits() })
}

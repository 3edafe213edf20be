//! Helpers keep no mount of the host: a disk that the host unmounts is free while containers run.

use crate::kit::{Stage, is_root, skip, stage, start};
use cofferdam::{Exec, Zygote};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::inotify;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use std::path::Path;
use std::time::Duration;

/// The mounts that a process has below its root, as mountinfo(5).
fn mounts_of(pid: i32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_waiting_gofer_has_an_empty_read_only_root_and_no_other_mount() {
    let stage = stage!();
    let running = start(stage.busybox_shell("gofer", "sleep 1000"));
    let mounts = mounts_of(running.info().gofer.as_ref().unwrap().pid);
    assert_eq!(mounts.len(), 1, "{mounts:#?}");
    assert!(mounts[0].contains(" / / ro,nodev,noexec") && mounts[0].contains("- tmpfs"), "{mounts:?}");
    // The sandbox is in the workload's mount namespace.
    let of_workload = mounts_of(running.init_pid());
    assert_eq!(mounts_of(running.sandbox_pid()), of_workload);
    running.kill().unwrap().delete().unwrap();
}

/// A file system of this thread's own mount namespace, which no other test can copy.
fn mount_a_disk(at: &Path) -> std::os::fd::OwnedFd {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    mount("disk", at, "tmpfs", MountFlags::empty(), c"size=64k").unwrap();
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
    // IN_UNMOUNT comes when the last mount of the file system is gone (inotify(7)). The watch itself holds none.
    inotify::add_watch(&watch, at, inotify::WatchFlags::CREATE).unwrap();
    watch
}

/// Mounts a disk, makes containers by `make`, and unmounts the disk while they run.
fn is_free_while<T>(stage: &Stage, make: impl FnOnce() -> T) -> T {
    let disk = stage.open_directory("disk");
    let watch = mount_a_disk(&disk);
    let made = make();
    unmount(&disk, UnmountFlags::empty()).unwrap();
    assert!(
        crate::kit::is_readable_within(&watch, Duration::from_secs(10)),
        "a helper keeps the disk mounted"
    );
    made
}

#[test]
fn a_disk_that_the_host_unmounts_is_free_while_a_container_runs() {
    let stage = stage!();
    if !is_root() {
        skip!("only root mounts a disk");
    }
    let (running, process, files) = is_free_while(&stage, || {
        let running = start(stage.busybox_shell("running", "sleep 1000"));
        let process = running.exec(Exec::new(["sleep", "1000"])).unwrap();
        let files = running.files().unwrap();
        (running, process, files)
    });
    drop((process, files));
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_disk_is_free_while_a_zygote_and_a_created_container_wait() {
    let stage = stage!();
    if !is_root() {
        skip!("only root mounts a disk");
    }
    let (zygote, created) = is_free_while(&stage, || {
        let zygote = Zygote::spawn().unwrap();
        let created =
            stage.busybox_shell("created", "true").zygote(&zygote).build().unwrap().create().unwrap();
        (zygote, created)
    });
    assert!(created.start().unwrap().wait().unwrap().outcome.success());
    drop(zygote);
}

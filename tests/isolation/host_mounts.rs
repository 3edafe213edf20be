//! Helpers keep no mount of the host: a disk that the host unmounts is free while containers run, and no mount namespace
//! that a container can enter shows the host's.

#![expect(unsafe_code, reason = "no crate here has the ioctls of mount namespaces")]

use crate::kit::caller::say;
use crate::kit::{Stage, is_root, skip, stage, start};
use cofferdam::oci_spec::runtime::Capability;
use cofferdam::{Exec, Zygote};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::inotify;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::Path;
use std::time::Duration;

/// Set in a container: this executable enters every mount namespace that the kernel gives it, and says what it finds at
/// the path in this variable.
const WALK: &str = "COFFERDAM_TEST_WALK";

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

/// `struct mnt_ns_info` (linux/nsfs.h).
#[repr(C)]
struct MountNamespaceInfo {
    size: u32,
    mounts: u32,
    id: u64,
}

/// The mount namespace after or before `namespace` of those that this process may administer (`NS_MNT_GET_NEXT` and
/// `NS_MNT_GET_PREV`, linux/nsfs.h).
fn neighbour(namespace: &File, is_next: bool) -> Result<File, Errno> {
    let mut info = MountNamespaceInfo { size: size_of::<MountNamespaceInfo>() as u32, mounts: 0, id: 0 };
    let request = rustix::ioctl::opcode::read::<MountNamespaceInfo>(0xb7, if is_next { 11 } else { 12 });
    // SAFETY: the kernel writes as many bytes as `size` says.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), request as _, &raw mut info) };
    match fd {
        // SAFETY: the kernel has made this descriptor for us.
        0.. => Ok(unsafe { File::from_raw_fd(fd) }),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap()),
    }
}

/// Does what the environment asks of this process. Returns whether it asked for anything.
fn walked() -> bool {
    let Some(canary) = std::env::var_os(WALK) else { return false };
    // setns(2) moves no thread that shares its directory with another.
    unshare(CloneFlags::CLONE_FS).unwrap();
    let own = File::open("/proc/thread-self/ns/mnt").unwrap();
    let pids = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("ns/mnt"));
    let mut found: Vec<File> = pids.filter_map(|path| File::open(path).ok()).collect();
    for is_next in [true, false] {
        let mut last = own.try_clone().unwrap();
        let end = loop {
            match neighbour(&last, is_next) {
                Ok(next) => found.push(std::mem::replace(&mut last, next)),
                Err(end) => break end,
            }
        };
        found.push(last);
        say(format!("end {}", end.raw_os_error()));
    }
    for namespace in found {
        match setns(&namespace, CloneFlags::CLONE_NEWNS) {
            Ok(()) => {
                say(format!("entered {:?}", Path::new(&canary).metadata().err().map(|error| error.kind())))
            }
            Err(errno) => say(format!("refused {errno:?}")),
        }
    }
    true
}

#[test]
fn no_mount_namespace_that_a_privileged_workload_finds_is_the_hosts() {
    if walked() {
        return;
    }
    let stage = stage!();
    // What says that it is not there says so of its directory, too, which no user but this one may enter.
    let canary = stage.path().join("canary");
    File::create(&canary).unwrap();
    let test = std::thread::current().name().unwrap().to_owned();
    let builder = stage
        .container("walker")
        .bind_ro(std::env::current_exe().unwrap(), "/tmp/test")
        .env(WALK, canary.to_str().unwrap())
        .args(["/tmp/test", "--exact", &test, "--nocapture", "--test-threads=1"])
        .grant_capabilities([Capability::SysAdmin, Capability::SysChroot].into())
        .seccomp(None);
    let said = crate::kit::stdout_of(builder);
    let said: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("caller: ")).collect();
    let ends: Vec<i32> = said
        .iter()
        .filter_map(|line| line.strip_prefix("end "))
        .map(|errno| errno.parse().unwrap())
        .collect();
    let entered: Vec<_> = said.iter().filter_map(|line| line.strip_prefix("entered ")).collect();
    assert!(!entered.is_empty(), "the workload may enter its own");
    assert!(entered.iter().all(|seen| *seen == "Some(NotFound)"), "{said:?}");
    if ends.contains(&libc::ENOTTY) {
        skip!("this kernel finds no mount namespaces without a process (Linux 6.12)");
    }
    // Kernels that let only a process of the first user and pid namespace ask say EPERM.
    assert!(
        ends.len() == 2 && ends.iter().all(|errno| [libc::ENOENT, libc::EPERM].contains(errno)),
        "{said:?}"
    );
}

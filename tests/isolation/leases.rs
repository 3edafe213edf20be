//! Leases on files that a container shares (fcntl(2), `F_SETLEASE`): a default container takes none, and one that another
//! process holds stops no operation for longer than its own limit. The kernel gives the holder 45 s.

#![expect(clippy::disallowed_methods, reason = "tests write plain files of their own")]
#![expect(unsafe_code, reason = "no safe crate takes leases")]
#![expect(clippy::multiple_unsafe_ops_per_block, reason = "two commands of one purpose")]

use crate::kit::limits::own_cgroups;
use crate::kit::{Stage, is_root, skip, stage, start};
use cofferdam::files::Transfer;
use cofferdam::{Error, Exec, Outcome, Rootfs};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longer than the limit of any open here, and far shorter than a lease holds.
const SOON: Duration = Duration::from_secs(15);

/// A write lease on a file, until the value is dropped. This process never lets go of it when the kernel asks.
struct Lease(#[expect(dead_code, reason = "the lease ends when the file is closed")] File);

impl Lease {
    fn take(path: &Path) -> std::io::Result<Self> {
        const F_SETSIG: libc::c_int = 10;
        let file = File::open(path)?;
        // The signal that asks for the lease would end this process; SIGURG is ignored unless a program handles it.
        // SAFETY: both commands take a number and no pointer, and `file` is open.
        let taken = unsafe {
            libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG);
            libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK)
        };
        if taken == 0 { Ok(Self(file)) } else { Err(std::io::Error::last_os_error()) }
    }

    /// Fails if the kernel allows no leases on this file system.
    fn of(stage: &Stage, path: &str, text: &str) -> std::io::Result<Self> {
        let path = stage.busybox().join(path);
        std::fs::write(&path, text)?;
        Self::take(&path)
    }
}

macro_rules! lease {
    ($taken:expr) => {
        match $taken {
            Ok(lease) => lease,
            Err(error) => skip!("this file system has no leases: {error}"),
        }
    };
}

/// That an operation failed soon after `begun` because of a lease, and says so.
fn refused_soon<T: std::fmt::Debug>(begun: Instant, result: Result<T, Error>) {
    let error = result.unwrap_err();
    assert!(begun.elapsed() < SOON, "after {:?}: {error}", begun.elapsed());
    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN), "{error}");
    assert!(error.to_string().contains("holds a lease"), "{error}");
}

#[test]
fn create_and_exec_name_the_lease_on_the_images_users() {
    let stage = stage!();
    let rootfs = stage.busybox();
    let running = start(stage.busybox_shell("running", "sleep 1000"));
    let lease = lease!(Lease::of(&stage, "etc/passwd", "root:x:0:0::/root:/bin/sh\n"));

    let begun = Instant::now();
    let peer = stage.container("peer").rootfs(Rootfs::directory(&rootfs)).args(["true"]);
    refused_soon(begun, peer.clone().build().unwrap().create().map_err(Error::from));
    let begun = Instant::now();
    refused_soon(begun, running.exec(Exec::new(["true"])).map(drop));
    let begun = Instant::now();
    refused_soon(begun, running.exec(Exec::new(["true"]).env("HOME", "/").user_name("root")).map(drop));
    // What does not read the file is not concerned.
    let begun = Instant::now();
    assert!(running.exec(Exec::new(["true"]).env("HOME", "/")).unwrap().wait().unwrap().outcome.success());
    assert!(begun.elapsed() < SOON);

    drop(lease);
    assert!(peer.run().unwrap().outcome.success());
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_deadline_holds_for_a_program_that_is_leased() {
    let stage = stage!();
    let program = stage.busybox().join("bin/leased");
    std::fs::copy("/bin/busybox", &program).unwrap();
    let running = start(stage.busybox_shell("running", "sleep 1000"));
    let _lease = lease!(Lease::take(&program));
    let limit = Duration::from_millis(500);
    let leased = || Exec::new(["/bin/leased", "true"]).timeout(limit);
    let begun = Instant::now();
    let exit = running.exec(leased()).unwrap().wait().unwrap();
    assert!(begun.elapsed() < SOON, "after {:?}", begun.elapsed());
    assert_eq!(exit.outcome, Outcome::TimedOut { after: limit });
    let begun = Instant::now();
    let output = running.exec_output(leased()).unwrap();
    assert!(begun.elapsed() < SOON, "after {:?}", begun.elapsed());
    assert_eq!(output.exit.outcome, Outcome::TimedOut { after: limit });
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn file_work_names_the_lease() {
    let stage = stage!();
    let running = start(stage.busybox_shell("running", "sleep 1000"));
    let _lease = lease!(Lease::of(&stage, "etc/leased", "text"));
    let files = running.files().unwrap();
    let begun = Instant::now();
    refused_soon(begun, files.read("/etc/leased", 1024));
    let begun = Instant::now();
    refused_soon(
        begun,
        files.copy_out("/etc/leased", stage.path().join("copy"), &Transfer::up_to(1024)).map(drop),
    );
    assert_eq!(files.stat("/etc/leased").unwrap().size, 4, "a look opens nothing");
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_leased_control_file_of_a_cgroup_is_named() {
    let stage = stage!();
    if !is_root() {
        skip!("only the owner of a control file can lease it");
    }
    let running = start(stage.busybox_shell("running", "sleep 1000").memory_limit(64 << 20));
    let usage = ["memory.usage_in_bytes", "memory.current"];
    let cgroups = own_cgroups(&running);
    let mut files = cgroups.iter().flat_map(|cgroup| usage.map(|file| cgroup.join(file)));
    let Some(file) = files.find(|file| file.exists()) else { skip!("no memory controller") };
    let lease = lease!(Lease::take(&file));
    let begun = Instant::now();
    refused_soon(begun, running.stats());
    drop(lease);
    running.stats().unwrap();
    running.kill().unwrap().delete().unwrap();
}

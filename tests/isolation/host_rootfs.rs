//! The host's own directories as the root, on hosts with other layouts, which a thread makes in its own mount namespace.

#![expect(clippy::disallowed_methods, reason = "tests make plain files of their own")]

use crate::kit::{Stage, is_root, skip, stage, stdout_of};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Does `work` in a thread with a mount namespace of its own, in which `etc` is at `/etc`, and `/run` is empty but for
/// `/run/resolve/stub` with a name server.
fn on_a_host_with(stage: &Stage, etc: &Path, work: impl FnOnce() + Send) {
    // The crate opens /dev/null once for all containers. Have it do so here: the one of the thread's namespace ends with
    // the thread, and the witness would report it.
    assert!(stage.container("first").args(["true"]).run().unwrap().outcome.success());
    let new_host = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        mount("run", "/run", "tmpfs", MountFlags::empty(), c"mode=755").unwrap();
        mount_bind(etc, "/etc").unwrap();
        std::fs::create_dir("/run/resolve").unwrap();
        std::fs::write("/run/resolve/stub", "nameserver 127.0.0.53").unwrap();
        std::fs::set_permissions("/run/resolve/stub", PermissionsExt::from_mode(0o666)).unwrap();
        std::fs::write("/run/resolve/other", "a secret of a service").unwrap();
        work();
    };
    // The namespace ends with the thread.
    std::thread::scope(|scope| scope.spawn(new_host).join()).expect("it passes");
}

/// A directory for `/etc` in which `resolv.conf` leads to `to`.
fn etc(stage: &Stage, to: &str) -> std::path::PathBuf {
    let etc = stage.path().join("etc");
    std::fs::create_dir(&etc).unwrap();
    std::fs::set_permissions(&etc, PermissionsExt::from_mode(0o755)).unwrap();
    symlink(to, etc.join("resolv.conf")).unwrap();
    etc
}

#[test]
fn the_name_servers_of_the_host_are_shown_with_its_network_wherever_their_file_is() {
    let stage = stage!();
    if !is_root() {
        skip!("another user cannot mount for the host");
    }
    on_a_host_with(&stage, &etc(&stage, "../run/resolve/stub"), || {
        let look = "cat /etc/resolv.conf; echo; cd /run; find . -type f; touch resolve/stub 2>&1; true";
        let seen = stdout_of(stage.shell("shared", look).host_network());
        let mut lines = seen.lines();
        assert_eq!((lines.next(), lines.next()), (Some("nameserver 127.0.0.53"), Some("./resolve/stub")));
        assert!(lines.next().is_some_and(|line| line.ends_with("Read-only file system")), "{seen}");
        assert_eq!(lines.next(), None, "nothing else of /run: {seen}");
        // Without the host's network the file is not shown.
        assert_eq!(stdout_of(stage.shell("own", "find /run -type f")), "");
        // A bundle shows it, too.
        let bundle = stage.path().join("bundle");
        stage.shell("template", "cat /etc/resolv.conf").host_network().to_bundle(&bundle).unwrap();
        let ids = |builder: cofferdam::ContainerBuilder| builder.without_user_namespace();
        assert_eq!(stdout_of(ids(stage.bundled("bundled", &bundle).unwrap())), "nameserver 127.0.0.53");
    });
}

#[test]
fn a_link_to_no_file_is_shown_as_it_is() {
    let stage = stage!();
    if !is_root() {
        skip!("another user cannot mount for the host");
    }
    on_a_host_with(&stage, &etc(&stage, "/run/nowhere/stub"), || {
        let look = "readlink /etc/resolv.conf; cat /etc/resolv.conf 2>/dev/null; ls -A /run";
        assert_eq!(stdout_of(stage.shell("dangling", look).host_network()), "/run/nowhere/stub");
    });
}

//! Writable binds: the owners of files, as the container sees them and on the host.

#![expect(clippy::disallowed_methods, reason = "tests read and make plain files of their own")]

use crate::kit::{Stage, inside, is_root, skip, stage, start, stdout_of};
use cofferdam::builder::{Bind, IdMap};
use cofferdam::{ContainerBuilder, ErrorKind};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// A user of the host.
const ANN: (u32, u32) = (1000, 1001);
/// The uid on the host of root in a container of root.
const CONTAINER: u32 = 1_878_982_656;

/// A directory of `owner` that holds a file which only its owner reads.
fn directory(stage: &Stage, name: &str, owner: (u32, u32), mode: u32) -> PathBuf {
    let path = stage.path().join(name);
    std::fs::create_dir(&path).unwrap();
    let file = path.join("private");
    std::fs::write(&file, "private").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    for path in [&file, &path] {
        chown(path, Some(owner.0), Some(owner.1)).unwrap();
    }
    path
}

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let metadata = path.as_ref().metadata().unwrap();
    (metadata.uid(), metadata.gid())
}

/// Whether the file system of the tests can be id-mapped. Notes a skip if not.
fn can_map(stage: &Stage) -> bool {
    let place = directory(stage, "probe", ANN, 0o755);
    let built = stage.container("probe").args(["true"]).bind(Bind::new(place, "/mnt").map_owner()).output();
    match built {
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported { .. }) => {
            crate::kit::note_skip(&format!("no id-mapped mounts here: {error}"));
            false
        }
        built => built.unwrap().exit.outcome.success(),
    }
}

/// The error of `create`, which has to be `Unsupported`.
fn refusal(builder: ContainerBuilder) -> String {
    let failed = builder.args(["true"]).build().unwrap().create().unwrap_err();
    assert!(matches!(failed.error().kind(), ErrorKind::Unsupported { .. }), "{failed}");
    failed.to_string()
}

#[test]
fn the_owner_of_a_writable_bind_is_the_containers_user_and_owns_what_it_makes() {
    let stage = stage!();
    if !is_root() {
        skip!("another user cannot give files away");
    }
    if !can_map(&stage) {
        return;
    }
    let script = "cat /mnt/private && echo made >/mnt/made && stat -c %u:%g /mnt/private /mnt/made";
    for uid in [0, 1000] {
        let place = directory(&stage, &format!("of-ann-{uid}"), ANN, 0o750);
        let builder = stage.busybox_shell(&format!("user-{uid}"), script).user(uid, uid);
        let seen = stdout_of(builder.bind_rw(&place, "/mnt"));
        assert_eq!(seen, format!("private{uid}:{uid}\n{uid}:{uid}"));
        assert_eq!(owner(place.join("made")), ANN);
    }
    // Bind a single file into a container that runs.
    let place = directory(&stage, "late", ANN, 0o700);
    let running = start(stage.busybox_shell("late", "sleep 1000").scratch(None));
    running.mount_bind_rw(place.join("private"), "/late").unwrap();
    assert_eq!(
        inside::output(&running, "echo more >>/late; cat /late; stat -c %u /late"),
        "privatemore\n0\n"
    );
    running.kill().unwrap().delete().unwrap();
    assert_eq!(owner(place.join("private")), ANN);
}

#[test]
fn other_users_of_the_container_keep_their_ids_in_it() {
    let stage = stage!();
    if !is_root() {
        skip!("another user cannot give files away");
    }
    if !can_map(&stage) {
        return;
    }
    let place = directory(&stage, "shared", ANN, 0o777);
    let running = start(stage.busybox_shell("shared", "sleep 1000").bind_rw(&place, "/mnt"));
    let exec = cofferdam::Exec::new(["touch", "/mnt/of-another"]).user(7, 8);
    assert!(running.exec_output(exec).unwrap().exit.outcome.success());
    assert_eq!(inside::output(&running, "touch /mnt/of-the-user; stat -c %u:%g /mnt/of-another"), "7:8\n");
    running.kill().unwrap().delete().unwrap();
    assert_eq!(owner(place.join("of-another")), (CONTAINER + 7, CONTAINER + 8));
    assert_eq!(owner(place.join("of-the-user")), ANN);
    // An owner that the container has an id for appears as that id, and not as the user.
    let place = directory(&stage, "of-a-database", (CONTAINER + 999, CONTAINER + 999), 0o700);
    let seen = stdout_of(stage.busybox_shell("database", "stat -c %u:%g /mnt").bind_rw(&place, "/mnt"));
    assert_eq!(seen, "999:999");
}

#[test]
fn nothing_is_made_as_the_hosts_root_unless_asked_for_by_name() {
    let stage = stage!();
    if !is_root() {
        let said = refusal(stage.container("usr").bind_rw("/usr", "/mnt"));
        assert!(said.contains("/usr: belongs to another user") && said.contains("Bind::keep_ids"), "{said}");
        return;
    }
    let closed = directory(&stage, "closed", (0, 0), 0o755);
    let said = refusal(stage.container("closed").bind_rw(&closed, "/mnt"));
    assert!(said.contains("belongs to the host's root") && said.contains("Bind::map_owner"), "{said}");
    let make = "echo made >/mnt/made && stat -c %u:%g /mnt";
    let open = directory(&stage, "open", (0, 0), 0o777);
    assert_eq!(stdout_of(stage.busybox_shell("open", make).bind_rw(&open, "/mnt")), "65534:65534");
    assert_eq!(owner(open.join("made")), (CONTAINER, CONTAINER));
    if !can_map(&stage) {
        return;
    }
    let group = directory(&stage, "group", (ANN.0, 0), 0o755);
    assert_eq!(stdout_of(stage.busybox_shell("group", make).bind_rw(&group, "/mnt")), "0:65534");
    assert_eq!(owner(group.join("made")), (ANN.0, CONTAINER), "nor as the group of the host's root");
    let asked = stage.busybox_shell("asked", make).bind(Bind::new(&closed, "/mnt").map_owner());
    assert_eq!(stdout_of(asked), "0:0");
    assert_eq!(owner(closed.join("made")), (0, 0));
}

#[test]
fn ids_are_kept_or_mapped_as_asked() {
    let stage = stage!();
    if !is_root() {
        skip!("another user cannot give files away");
    }
    let place = directory(&stage, "place", ANN, 0o755);
    let bind = || Bind::new(&place, "/mnt");
    let ids = "stat -c %u:%g /mnt/private; cat /mnt/private 2>&1; touch /mnt/made 2>&1; true";
    let seen = stdout_of(stage.busybox_shell("kept", ids).bind(bind().keep_ids()));
    assert_eq!(seen.matches("Permission denied").count(), 2, "{seen}");
    assert!(seen.starts_with("65534:65534"), "{seen}");
    let seen = stdout_of(stage.busybox_shell("read-only", ids).bind(bind().read_only()));
    assert!(seen.starts_with("65534:65534") && seen.contains("Read-only file system"), "{seen}");
    if !can_map(&stage) {
        return;
    }
    let seen = stdout_of(stage.busybox_shell("owner", ids).bind(bind().read_only().map_owner()));
    assert!(seen.starts_with("0:0\nprivate") && seen.contains("Read-only file system"), "{seen}");
    let maps = [IdMap { container: 7, host: ANN.0, size: 2 }];
    let seen = stdout_of(stage.busybox_shell("mapped", ids).user(7, 8).bind(bind().map(maps)));
    assert_eq!(seen, "7:8\nprivate");
    assert_eq!(owner(place.join("made")), ANN);
    let host = stage.busybox_shell("host", "stat -c %u:%g /mnt/private; touch /mnt/of-the-host");
    assert_eq!(stdout_of(host.without_user_namespace().bind(bind().map_owner())), "0:0");
    assert_eq!(owner(place.join("of-the-host")), ANN);
    let far = [IdMap { container: 65_535, host: ANN.0, size: 2 }];
    let refused = stage.container("far").args(["true"]).bind(bind().map(far)).build().unwrap_err();
    assert!(refused.to_string().starts_with("Bind::map: "), "{refused}");
}

#[test]
fn a_file_system_that_cannot_map_ids_is_refused_with_the_way_to_bind_it() {
    let stage = stage!();
    if !is_root() {
        skip!("only root mounts a file system");
    }
    let disk = directory(&stage, "disk", (0, 0), 0o755);
    // In a mount namespace of this thread, which no other test copies.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    // ramfs has no FS_ALLOW_IDMAP (mount_setattr(2)).
    mount("none", &disk, "ramfs", MountFlags::empty(), None).unwrap();
    chown(&disk, Some(ANN.0), Some(ANN.1)).unwrap();
    let hint = "Bind::keep_ids binds it as it is on the disk";
    for (name, bind) in
        [("usual", Bind::new(&disk, "/mnt")), ("read-only", Bind::new(&disk, "/mnt").read_only().map_owner())]
    {
        let said = refusal(stage.container(name).bind(bind));
        let expected = format!("{}: the file system cannot map ids: Invalid argument", disk.display());
        assert!(said.contains(&expected) && said.contains(hint), "{said}");
    }
    // Every user may write there: the default is to bind it as it is.
    let script = "echo made >/mnt/made; stat -c %u:%g /mnt";
    std::fs::set_permissions(&disk, PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!(stdout_of(stage.busybox_shell("open", script).bind_rw(&disk, "/mnt")), "65534:65534");
    let made = owner(disk.join("made"));
    assert_eq!(made.0, made.1);
    assert_ne!(made, ANN);
    // As it is on the disk, for the user of the host that owns it.
    std::fs::set_permissions(&disk, PermissionsExt::from_mode(0o700)).unwrap();
    let kept = || Bind::new(&disk, "/mnt").keep_ids();
    let of_ann = stage.busybox_shell("kept", script).without_user_namespace().user(ANN.0, ANN.1);
    assert_eq!(stdout_of(of_ann.bind(kept())), format!("{}:{}", ANN.0, ANN.1));
    let other = stage.busybox_shell("other", "stat -c %u:%g /mnt; ls /mnt 2>&1; true").bind(kept());
    let seen = stdout_of(other);
    assert!(seen.starts_with("65534:65534\n") && seen.contains("Permission denied"), "{seen}");
    unmount(&disk, UnmountFlags::empty()).unwrap();
}

#[test]
fn a_caller_owns_what_its_container_makes_in_a_directory_of_its_own() {
    let stage = stage!();
    let place = stage.path().join("own");
    std::fs::create_dir(&place).unwrap();
    let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let own = Bind::new(&place, "/mnt");
    // As root the owner is the host's root, which only `map_owner` maps.
    let own = if is_root() { own.map_owner() } else { own };
    let builder = stage.busybox_shell("own", "touch /mnt/made && stat -c %u:%g /mnt/made").bind(own);
    match builder.output() {
        Err(error) if is_root() => skip!("no id-mapped mounts here: {error}"),
        output => assert_eq!(output.unwrap().stdout, b"0:0\n"),
    }
    assert_eq!(owner(place.join("made")), ids);
}

//! Containers in a mount namespace that is not new: the caller's own, or another's. Nothing of them is mounted there.

use crate::kit::bundle::add_mount;
use crate::kit::inside::output;
use crate::kit::unshared::Unshared;
use crate::kit::{Stage, await_end, is_root, skip, stage, start, stdout_of, write_script};
use cofferdam::builder::HookKind;
use cofferdam::oci_spec::runtime::HookBuilder;
use cofferdam::{Container, ContainerBuilder, ErrorKind, Exec, Outcome, Running};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Why these tests are root's.
const SKIPPED: &str = "another user has no powers in a mount namespace that was there before";

/// A container without a user namespace, whose `/tmp` is in memory: `shape`d, and its configuration edited.
fn shaped(
    stage: &Stage,
    name: &str,
    script: &str,
    shape: impl FnOnce(ContainerBuilder) -> ContainerBuilder,
    edit: impl FnOnce(&mut Value),
) -> ContainerBuilder {
    let builder = stage.busybox_shell("template", script).without_user_namespace().tmpfs("/tmp", 1 << 20);
    let bundle = stage.write_bundle(&format!("bundle of {name}"), shape(builder), edit);
    stage.bundled(name, &bundle).unwrap()
}

/// One in the caller's mount namespace.
fn inherited(stage: &Stage, name: &str, script: &str) -> ContainerBuilder {
    shaped(stage, name, script, |builder| builder, inherit)
}

fn inherit(config: &mut Value) {
    namespaces(config).retain(|namespace| namespace["type"] != "mount");
}

fn join(config: &mut Value, kind: &str, path: PathBuf) {
    namespaces(config).retain(|namespace| namespace["type"] != kind);
    namespaces(config).push(json!({"type": kind, "path": path}));
}

fn namespaces(config: &mut Value) -> &mut Vec<Value> {
    config["linux"]["namespaces"].as_array_mut().expect("namespaces")
}

fn own_mounts() -> String {
    mounts_of(std::process::id())
}

fn mounts_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap()
}

/// Its first process, and the one whose pid is the container's to the world.
fn assert_in_namespace_of(container: &Container<Running>, pid: u32) {
    let namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    for own in [container.init_pid(), container.sandbox_pid()] {
        assert_eq!(namespace(own.unsigned_abs()), namespace(pid));
    }
}

#[test]
fn in_the_callers_mount_namespace_nothing_is_mounted_for_the_container() {
    let stage = stage!();
    if !is_root() {
        skip!("{SKIPPED}");
    }
    let before = own_mounts();
    let running = start(inherited(&stage, "inherited", "exec sleep 1000"));
    assert_in_namespace_of(&running, std::process::id());
    assert_eq!(own_mounts(), before, "while it runs");
    // None of the namespace's is below what the container sees as its root.
    assert_eq!(output(&running, "cat /proc/self/mountinfo; pwd"), "/\n");
    running.kill().unwrap().delete().unwrap();
    assert_eq!(own_mounts(), before, "after its end");
}

#[test]
fn in_the_mount_namespace_with_a_path_nothing_is_mounted_for_the_container() {
    let stage = stage!();
    if !is_root() {
        skip!("{SKIPPED}");
    }
    let other = Unshared::new(&["--mount"]);
    let look = || (own_mounts(), mounts_of(other.pid()));
    let before = look();
    let container = shaped(
        &stage,
        "joined",
        "exec sleep 1000",
        |builder| builder,
        |config| {
            join(config, "mount", other.path("mnt"));
        },
    );
    let running = start(container);
    assert_in_namespace_of(&running, other.pid());
    assert_eq!(look(), before, "while it runs");
    assert_eq!(output(&running, "cat /proc/self/mountinfo; pwd"), "/\n");
    running.kill().unwrap().delete().unwrap();
    assert_eq!(look(), before, "after its end");
}

#[test]
fn a_mount_namespace_is_entered_from_the_user_namespace_that_it_belongs_to() {
    let stage = stage!();
    if !is_root() {
        skip!("{SKIPPED}");
    }
    stage.open_to_everybody();
    let other = Unshared::new(&["--mount", "--user", "--map-root-user"]);
    let before = mounts_of(other.pid());
    let container = shaped(
        &stage,
        "both",
        "exec sleep 1000",
        |builder| builder,
        |config| {
            join(config, "user", other.path("user"));
            join(config, "mount", other.path("mnt"));
        },
    );
    let running = start(container);
    assert_in_namespace_of(&running, other.pid());
    assert_eq!(output(&running, "id -u; pwd"), "0\n/\n");
    assert_eq!(mounts_of(other.pid()), before);
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn exec_files_and_terminals_are_in_the_containers_root() {
    let stage = stage!();
    if !is_root() {
        skip!("{SKIPPED}");
    }
    let running = start(inherited(&stage, "entered", "exec sleep 1000"));
    let files = running.files().unwrap();
    files.write("/tmp/written", "by a client", 0o644).unwrap();
    assert_eq!(output(&running, "cat /tmp/written; echo inside >/tmp/file"), "by a client");
    assert_eq!(files.read("/tmp/file", 100).unwrap(), b"inside\n");
    drop(files);
    // In the mount, not in what it covers.
    assert_eq!(std::fs::read_dir(stage.busybox().join("tmp")).unwrap().count(), 0);
    assert_eq!(running.processes().unwrap().len(), 1);
    let mut process = running.exec(Exec::new(["test", "-t", "0"]).terminal()).unwrap();
    let pty = process.take_pty();
    assert!(process.wait().unwrap().outcome.success());
    drop(pty);
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn the_terminal_of_such_a_container_is_its_dev_console() {
    let stage = stage!();
    if !is_root() {
        skip!("{SKIPPED}");
    }
    let mut running = start(inherited(&stage, "console", "exec sleep 1000").terminal());
    let pty = running.take_pty();
    let same = "test -c /dev/console && test $(stat -c %t:%T /dev/console) = $(stat -c %t:%T /dev/pts/0)";
    assert_eq!(output(&running, same), "");
    drop(pty);
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn what_a_hook_leaves_in_the_root_comes_along() {
    let stage = stage!();
    if !is_root() {
        skip!("{SKIPPED}");
    }
    let before = own_mounts();
    let script = stage.path().join("hook");
    write_script(&script, "#!/bin/sh\necho hello >./tmp/file\n");
    let hook =
        HookBuilder::default().path(script).env(vec!["PATH=/usr/bin:/bin".to_owned()]).build().unwrap();
    let builder = inherited(&stage, "hooked", "cat /tmp/file").hook(HookKind::CreateContainer, hook);
    assert_eq!(stdout_of(builder), "hello");
    assert_eq!(own_mounts(), before);
}

#[test]
fn a_set_user_id_file_raises_nothing() {
    let stage = stage!();
    if !is_root() {
        skip!("{SKIPPED}");
    }
    // Of busybox's applets the one that says whether it was raised.
    let program = stage.busybox().join("bin/su");
    std::fs::copy(stage.busybox().join("bin/busybox"), &program).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o4755)).unwrap();
    let said = |name: &str, edit: fn(&mut Value)| {
        let shape = |builder: ContainerBuilder| builder.user(1000, 1000).allow_new_privileges();
        stdout_of(shaped(&stage, name, "/bin/su nobody-there 2>&1 || true", shape, edit))
    };
    assert_eq!(said("own", |_| {}), "su: unknown user nobody-there");
    assert_eq!(said("inherited", inherit), "su: must be suid to work properly");
}

#[test]
fn nothing_more_is_mounted_into_it_and_no_further_container_joins_its_sandbox() {
    let stage = stage!();
    if !is_root() {
        skip!("{SKIPPED}");
    }
    let running = start(inherited(&stage, "alone", "exec sleep 1000"));
    let error = running.mount_tmpfs("/root", 4096).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unsupported { feature: "mount".into() });
    assert_eq!(*running.unmount("/tmp").unwrap_err().kind(), ErrorKind::NotFound);
    let further = running.pod().container(stage.id("further")).without_user_namespace().args(["true"]);
    let failed = further.build().unwrap().create().unwrap_err();
    assert_eq!(*failed.error().kind(), ErrorKind::Unsupported { feature: "pod".into() }, "{failed}");
    drop(failed);
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_killed_sandbox_leaves_no_mount_and_no_process() {
    let stage = stage!();
    if !is_root() {
        skip!("{SKIPPED}");
    }
    let before = own_mounts();
    let running = start(inherited(&stage, "killed", "sleep 1000 & exec sleep 1000"));
    let init = running.init_pid();
    kill_process(Pid::from_raw(running.sandbox_pid()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(running.wait().unwrap().outcome, Outcome::Lost);
    await_end(init);
    running.wait_stopped().unwrap().delete().unwrap();
    assert_eq!(own_mounts(), before);
}

#[test]
fn what_cannot_be_had_there_is_refused_by_its_field() {
    let stage = stage!();
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
    let with_user = |config: &mut Value| {
        namespaces(config).push(json!({"type": "user"}));
        config["linux"]["uidMappings"] = ids.clone();
        config["linux"]["gidMappings"] = ids.clone();
    };
    let mut number = 0;
    let mut refused = |field: &str, why: &str, edit: &dyn Fn(&mut Value)| {
        number += 1;
        let edit = |config: &mut Value| {
            inherit(config);
            edit(config);
        };
        let builder = shaped(&stage, &format!("refused-{number}"), "true", |builder| builder, edit);
        let error = builder.build().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Unsupported { feature: field.into() }, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    };
    refused("linux.namespaces", "from another user namespace", &with_user);
    refused("linux.namespaces", "from a new user namespace", &|config| {
        with_user(config);
        join(config, "mount", "/proc/self/ns/mnt".into());
    });
    refused("linux.namespaces", "from the others", &|config| {
        namespaces(config).retain(|namespace| namespace["type"] != "pid");
    });
    for propagation in ["slave", "rshared", "unbindable"] {
        refused("linux.rootfsPropagation", "nothing propagates", &|config| {
            config["linux"]["rootfsPropagation"] = json!(propagation);
        });
        refused("mounts[0].options", "nothing propagates", &|config| {
            config["mounts"] = json!([]);
            add_mount(config, json!({"destination": "/tmp", "type": "tmpfs", "options": [propagation]}));
        });
    }
}

#[test]
fn a_namespace_of_another_type_is_refused_when_it_is_entered() {
    let stage = stage!();
    if !is_root() {
        skip!("{SKIPPED}");
    }
    let edit = |config: &mut Value| join(config, "mount", "/proc/self/ns/net".into());
    let container = shaped(&stage, "wrong", "true", |builder| builder, edit);
    let failed = container.build().unwrap().create().unwrap_err();
    assert_eq!(*failed.error().kind(), ErrorKind::InvalidSpec { path: "linux.namespaces".into() });
    assert!(failed.to_string().contains("/proc/self/ns/net: cannot join this Mount namespace"), "{failed}");
}

//! Containers in a mount namespace that is not new: the caller's own, or another's. Nothing of them is mounted there.

#![expect(clippy::disallowed_methods, reason = "tests write bundles, and look at the host with plain tools")]

mod common;

use cofferdam::oci_spec::runtime::HookBuilder;
use cofferdam::spec::HookKind;
use cofferdam::{Container, ContainerBuilder, ErrorKind, Exec, Outcome, Running};
use common::{Stage, await_end, is_root, skip, stdout_of, write_script};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A bundle of busybox in the caller's mount namespace, with namespaces of its own for all but that and users; edited.
fn builder(stage: &Stage, script: &str, edit: impl FnOnce(&mut Value)) -> ContainerBuilder {
    let kinds = ["pid", "network", "ipc", "uts", "cgroup"];
    let namespaces: Vec<_> = kinds.iter().map(|kind| json!({"type": kind})).collect();
    let mut config = json!({
        "ociVersion": "1.2.0",
        "process": {"args": ["sh", "-c", script], "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "root": {"path": stage.busybox()},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
        ],
        "linux": {"namespaces": namespaces},
    });
    edit(&mut config);
    let bundle = tempfile::Builder::new().prefix("bundle").tempdir_in(stage.path()).unwrap().keep();
    std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    let id = stage.id(bundle.file_name().unwrap().to_str().unwrap());
    ContainerBuilder::from_bundle(id.replace('.', ""), bundle).unwrap().state_root(stage.root().clone())
}

fn start(builder: ContainerBuilder) -> Container<Running> {
    builder.build().unwrap().create().unwrap().start().unwrap()
}

fn output(container: &Container<Running>, script: &str) -> String {
    let output = container.exec_output(Exec::new(["sh", "-c", script])).unwrap();
    assert!(output.exit.outcome.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn mounts_of(process: &str) -> String {
    std::fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap()
}

fn namespace_of(process: &str) -> PathBuf {
    std::fs::read_link(format!("/proc/{process}/ns/mnt")).unwrap()
}

/// A program of the host's with a mount namespace of its own, until this is dropped.
struct Other(Child);

impl Other {
    fn new(options: &[&str]) -> Self {
        let mut unshare = Command::new("unshare");
        unshare
            .args(options)
            .args(["--mount", "sh", "-c", "echo; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = unshare.spawn().expect("unshare(1)");
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).expect("it has begun");
        Self(child)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn in_the_callers_mount_namespace_nothing_is_mounted_for_the_container() {
    let stage = Stage::new();
    if !is_root() {
        skip!("another user has no powers in the caller's mount namespace");
    }
    let before = mounts_of("self");
    let running = start(builder(&stage, "echo mine >/tmp/file; exec sleep 1000", |_| {}));
    for pid in [running.sandbox_pid(), running.init_pid()] {
        assert_eq!(namespace_of(&pid.to_string()), namespace_of("self"));
    }
    assert_eq!(mounts_of("self"), before, "while it runs");
    // None of them is below what the container sees as its root.
    assert_eq!(
        output(&running, "cat /proc/self/mountinfo; pwd; ls /"),
        "/\nbin\ndev\netc\nproc\nroot\nsys\ntmp\n"
    );
    running.kill().unwrap().delete().unwrap();
    assert_eq!(mounts_of("self"), before, "after its end");
}

#[test]
fn in_the_mount_namespace_with_a_path_nothing_is_mounted_for_the_container() {
    let stage = Stage::new();
    if !is_root() {
        skip!("another user has no powers in the namespaces of others");
    }
    let other = Other::new(&[]);
    let (before, own) = (mounts_of(&other.pid()), mounts_of("self"));
    let running = start(builder(&stage, "exec sleep 1000", |config| {
        let path = format!("/proc/{}/ns/mnt", other.pid());
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "mount", "path": path}));
    }));
    for pid in [running.sandbox_pid(), running.init_pid()] {
        assert_eq!(namespace_of(&pid.to_string()), namespace_of(&other.pid()));
    }
    assert_eq!(output(&running, "cat /proc/1/comm; ls /tmp"), "sleep\n");
    assert_eq!((mounts_of(&other.pid()), mounts_of("self")), (before.clone(), own.clone()), "while it runs");
    running.kill().unwrap().delete().unwrap();
    assert_eq!((mounts_of(&other.pid()), mounts_of("self")), (before, own), "after its end");
}

#[test]
fn a_mount_namespace_is_entered_from_the_user_namespace_that_it_belongs_to() {
    let stage = Stage::new();
    if !is_root() {
        skip!("another user has no powers in the namespaces of others");
    }
    let other = Other::new(&["--user", "--map-root-user"]);
    let before = mounts_of(&other.pid());
    let running = start(builder(&stage, "exec sleep 1000", |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "network");
        for (kind, file) in [("user", "user"), ("mount", "mnt")] {
            namespaces.push(json!({"type": kind, "path": format!("/proc/{}/ns/{file}", other.pid())}));
        }
    }));
    for pid in [running.sandbox_pid(), running.init_pid()] {
        assert_eq!(namespace_of(&pid.to_string()), namespace_of(&other.pid()));
    }
    assert_eq!(output(&running, "id -u; cat /proc/1/comm"), "0\nsleep\n");
    assert_eq!(mounts_of(&other.pid()), before);
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn exec_files_and_terminals_are_in_the_containers_root() {
    let stage = Stage::new();
    if !is_root() {
        skip!("another user has no powers in the caller's mount namespace");
    }
    let running = start(builder(&stage, "echo first >/tmp/file; exec sleep 1000", |_| {}));
    let files = running.files().unwrap();
    // In memory, so that it is the mount's and not what the mount covers.
    files.write("/tmp/written", "by a client", 0o644).unwrap();
    assert_eq!(output(&running, "cat /tmp/written; echo second >/tmp/file"), "by a client");
    assert_eq!(files.read("/tmp/file", 100).unwrap(), b"second\n");
    assert!(!stage.busybox().join("tmp/written").exists());
    drop(files);
    let commands: Vec<_> = running.processes().unwrap().iter().map(|process| process.command()).collect();
    assert_eq!(commands, ["sleep 1000"]);
    let mut process = running.exec(Exec::new(["test", "-t", "0"]).terminal()).unwrap();
    let pty = process.take_pty();
    assert!(process.wait().unwrap().outcome.success());
    drop(pty);
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn the_terminal_of_such_a_container_is_its_dev_console() {
    let stage = Stage::new();
    if !is_root() {
        skip!("another user has no powers in the caller's mount namespace");
    }
    let script =
        "stat -c %t:%T /dev/console >/tmp/console; stat -c %t:%T /dev/pts/0 >/tmp/pty; exec sleep 1000";
    let mut running = start(builder(&stage, script, |_| {}).terminal());
    let pty = running.take_pty();
    assert!(pty.is_some());
    let compare = "until test -s /tmp/pty; do sync; done; test \"$(cat /tmp/console)\" = \"$(cat /tmp/pty)\"";
    assert_eq!(output(&running, compare), "");
    drop(pty);
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn what_a_hook_mounts_into_the_root_comes_along() {
    let stage = Stage::new();
    if !is_root() {
        skip!("another user has no powers in the caller's mount namespace");
    }
    let before = mounts_of("self");
    let script = stage.path().join("hook");
    write_script(&script, "#!/bin/sh\nmount -t tmpfs hook ./root && echo hello >./root/file\n");
    let hook =
        HookBuilder::default().path(script).env(vec!["PATH=/usr/bin:/bin".to_owned()]).build().unwrap();
    let builder = builder(&stage, "cat /root/file", |_| {}).hook(HookKind::CreateContainer, hook);
    assert_eq!(stdout_of(builder), "hello");
    assert_eq!(mounts_of("self"), before);
}

#[test]
fn a_set_user_id_file_raises_nothing_and_nothing_is_mounted_inside() {
    let stage = Stage::new();
    if !is_root() {
        skip!("another user has no powers in the caller's mount namespace");
    }
    let program = stage.busybox().join("bin/su");
    std::fs::copy(stage.busybox().join("bin/busybox"), &program).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o4755)).unwrap();
    // Of busybox's applets the one that says whether it was raised.
    let said = |mount: bool| {
        stdout_of(builder(&stage, "/bin/su nobody-there 2>&1 || true", |config| {
            config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            config["process"]["noNewPrivileges"] = json!(false);
            if mount {
                config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "mount"}));
            }
        }))
    };
    assert_eq!(said(true), "su: unknown user nobody-there");
    assert_eq!(said(false), "su: must be suid to work properly");

    let running = start(builder(&stage, "exec sleep 1000", |_| {}));
    let error = running.mount_tmpfs("/root", 4096).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unsupported { feature: "mount".into() });
    assert_eq!(*running.unmount("/tmp").unwrap_err().kind(), ErrorKind::NotFound);
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn no_further_container_joins_a_sandbox_without_mounts_of_its_own() {
    let stage = Stage::new();
    if !is_root() {
        skip!("another user has no powers in the caller's mount namespace");
    }
    let root = start(builder(&stage, "exec sleep 1000", |_| {}));
    let further = root.pod().container(stage.id("further")).without_user_namespace().args(["true"]);
    let failed = further.build().unwrap().create().unwrap_err();
    assert_eq!(*failed.error().kind(), ErrorKind::Unsupported { feature: "pod".into() }, "{failed}");
    drop(failed);
    root.kill().unwrap().delete().unwrap();
}

#[test]
fn a_sandbox_that_is_killed_leaves_nothing_mounted_and_nobody_running() {
    let stage = Stage::new();
    if !is_root() {
        skip!("another user has no powers in the caller's mount namespace");
    }
    let before = mounts_of("self");
    let running = start(builder(&stage, "sleep 1000 & exec sleep 1000", |_| {}));
    let (sandbox, init) = (running.sandbox_pid(), running.init_pid());
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(sandbox).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    assert_eq!(running.wait().unwrap().outcome, Outcome::Lost);
    await_end(init);
    running.wait_stopped().unwrap().delete().unwrap();
    assert_eq!(mounts_of("self"), before);
}

#[test]
fn what_cannot_be_had_there_is_refused_by_its_field() {
    let stage = Stage::new();
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
    let kinds = |kinds: &[&str]| -> Value { kinds.iter().map(|kind| json!({"type": kind})).collect() };
    let path = json!({"type": "mount", "path": "/proc/self/ns/mnt"});
    let with_user = |config: &mut Value| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        config["linux"]["uidMappings"] = ids.clone();
        config["linux"]["gidMappings"] = ids.clone();
    };
    let refused = |field: &str, why: &str, edit: &dyn Fn(&mut Value)| {
        let error = builder(&stage, "true", edit).build().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Unsupported { feature: field.into() }, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    };
    refused("linux.namespaces", "from another user namespace", &with_user);
    refused("linux.namespaces", "from a new user namespace", &|config| {
        with_user(config);
        config["linux"]["namespaces"].as_array_mut().unwrap().push(path.clone());
    });
    refused("linux.namespaces", "from theirs", &|config| {
        config["linux"]["namespaces"] = kinds(&["network", "ipc", "uts"]);
    });
    for propagation in ["slave", "rshared", "unbindable"] {
        refused("linux.rootfsPropagation", "nothing propagates", &|config| {
            config["linux"]["rootfsPropagation"] = json!(propagation);
        });
        refused("mounts[2].options", "nothing propagates", &|config| {
            config["mounts"][2]["options"] = json!([propagation]);
        });
    }
}

#[test]
fn a_namespace_of_another_type_is_refused_when_it_is_entered() {
    let stage = Stage::new();
    if !is_root() {
        skip!("another user has no powers in the caller's mount namespace");
    }
    let container = builder(&stage, "true", |config| {
        let other = json!({"type": "mount", "path": "/proc/self/ns/net"});
        config["linux"]["namespaces"].as_array_mut().unwrap().push(other);
    });
    let failed = container.build().unwrap().create().unwrap_err();
    assert_eq!(*failed.error().kind(), ErrorKind::InvalidSpec { path: "linux.namespaces".into() });
    assert!(failed.to_string().contains("/proc/self/ns/net: cannot join this Mount namespace"), "{failed}");
}

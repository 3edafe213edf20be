//! Rules of the container layer that no other file's subject is: the table of all of them is in `semantics.rs`.

#![expect(clippy::disallowed_methods, reason = "tests read and write plain files of their own")]

use crate::kit::{Stage, is_root, skip, stage, stdout_of, write_script};
use cofferdam::{AnyContainer, ContainerBuilder, Created, Creating, ErrorKind, Outcome, Rootfs, Status};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long what takes milliseconds may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A bundle on busybox that runs `script`, its configuration edited.
fn bundle(stage: &Stage, name: &str, script: &str, edit: impl FnOnce(&mut Value)) -> ContainerBuilder {
    let bundle = stage.write_bundle(&format!("bundle-{name}"), stage.busybox_shell(name, script), edit);
    stage.bundled(name, &bundle).unwrap()
}

fn own_namespace(kind: &str) -> PathBuf {
    std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap()
}

#[test]
fn run_leaves_nothing_whatever_fails() {
    let stage = stage!();
    write_script(&stage.busybox().join("bin/script"), "#!/no/such/interpreter\n");
    let on = |args: &[&str]| {
        stage.container("run").rootfs(Rootfs::directory(stage.busybox())).args(args.iter().copied())
    };
    let nothing = |what: &str| {
        assert!(AnyContainer::list(stage.root()).unwrap().is_empty(), "{what}");
        assert!(stage.changes().is_empty(), "{what}: {:?}", stage.changes());
    };
    for (what, builder, expected) in [
        ("build", on(&["true"]).cwd("relative"), ErrorKind::InvalidSpec { path: "process.cwd".into() }),
        ("create", on(&["no-such-program"]), ErrorKind::ProgramNotFound),
        ("start", on(&["script"]), ErrorKind::ProgramNotFound),
    ] {
        let error = builder.run().unwrap_err();
        assert_eq!(*error.kind(), expected, "{what}: {error}");
        nothing(what);
    }
    for (what, builder, expected) in [
        ("success", on(&["true"]), Outcome::Exited { code: 0 }),
        ("exit code", on(&["false"]), Outcome::Exited { code: 1 }),
        (
            "time limit",
            on(&["sleep", "1000"]).timeout(Duration::from_millis(50)),
            Outcome::TimedOut { after: Duration::from_millis(50) },
        ),
    ] {
        assert_eq!(builder.run().unwrap().outcome, expected);
        nothing(what);
    }
    // `run` does not destroy a container of that id which it did not make.
    let other = on(&["sleep", "1000"]).build().unwrap().create().unwrap();
    assert_eq!(*on(&["true"]).run().unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(other.try_wait().unwrap(), None);
    other.kill().unwrap().delete().unwrap();
}

#[test]
fn a_wait_blocks_no_other_operation() {
    let stage = stage!();
    let created = stage.container("waited").args(["sleep", "1000"]).build().unwrap().create().unwrap();
    let id = created.id().to_string();
    std::thread::scope(|scope| {
        let waits = || AnyContainer::load(stage.root(), &id).unwrap().wait().unwrap().outcome;
        let waiting = [scope.spawn(waits), scope.spawn(waits)];
        // Each takes the lock. Whether the waits have begun is not to be known; some will have.
        let mut running = created.start().unwrap();
        running.detach().unwrap();
        let stopped = running.kill().unwrap();
        let outcome = stopped.exit().outcome;
        for waiting in waiting {
            assert_eq!(waiting.join().unwrap(), outcome);
        }
        stopped.delete().unwrap();
    });
}

#[test]
fn what_is_dead_is_stopped_also_if_it_was_paused() {
    let stage = stage!();
    let running = stage.container("dead").args(["sleep", "1000"]).build().unwrap().create().unwrap();
    let running = running.start().unwrap();
    let id = running.id().to_string();
    let load = || AnyContainer::load(stage.root(), &id).unwrap();
    let paused = running.pause().unwrap();
    let loaded = load();
    assert_eq!(loaded.status(), Status::Paused);
    let stopped = paused.kill().unwrap();
    assert_eq!(load().info().status, Status::Paused);
    assert_eq!(load().status(), Status::Stopped);
    stopped.delete().unwrap();
    assert_eq!(loaded.wait().unwrap().outcome, Outcome::Lost, "no process is left that could report it");
}

#[test]
fn the_state_has_all_that_oci_asks_for() {
    let stage = stage!();
    let builder = stage.container("state").args(["sleep", "1000"]).annotation("org.example.key", "value");
    let mut any = AnyContainer::from(builder.build().unwrap());
    for status in ["creating", "created", "running", "stopped"] {
        let state = serde_json::to_value(any.oci_state().unwrap()).unwrap();
        let expected = json!({
            "ociVersion": state["ociVersion"],
            "id": stage.id("state"),
            "status": status,
            "pid": any.as_alive().map_or(0, |alive| alive.init_pid()),
            "bundle": any.info().bundle,
            "annotations": { "org.example.key": "value" },
        });
        assert_eq!(state, expected);
        assert!(state["ociVersion"].as_str().unwrap().starts_with("1."), "{state}");
        any = match any.status() {
            Status::Creating => any.into_phase::<Creating>().unwrap().create().unwrap().into(),
            Status::Created => any.into_phase::<Created>().unwrap().start().unwrap().into(),
            Status::Running => any.kill().unwrap().into(),
            _ => break,
        };
    }
    any.delete(false).unwrap();
}

#[test]
fn a_namespace_that_a_configuration_leaves_out_is_the_runtimes() {
    if !is_root() {
        skip!("only root may mount a sysfs of the host's network");
    }
    let stage = stage!();
    for (kind, link) in [("network", "net"), ("uts", "uts"), ("ipc", "ipc")] {
        let script = format!("readlink /proc/self/ns/{link}");
        let own = own_namespace(link);
        let isolated = bundle(&stage, &format!("all-{link}"), &script, |_| {});
        assert_ne!(Path::new(&stdout_of(isolated)), own, "{kind}");
        let shared = bundle(&stage, link, &script, |config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != kind);
            let linux = config["linux"].as_object_mut().unwrap();
            // Without one of its own, a user namespace may not do these to the host's.
            linux["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "user");
            linux.remove("uidMappings");
            linux.remove("gidMappings");
            if kind == "uts" {
                config.as_object_mut().unwrap().remove("hostname");
            }
        });
        assert_eq!(Path::new(&stdout_of(shared)), own, "{kind}");
    }
}

#[test]
fn a_mount_of_no_type_is_a_bind_if_its_options_say_so() {
    let stage = stage!();
    let shown = stage.open_directory("shown");
    std::fs::write(shown.join("file"), "bound\n").unwrap();
    for (name, kind) in [("none", json!("none")), ("empty", json!("")), ("absent", Value::Null)] {
        let builder = bundle(&stage, name, "cat /tmp/m/file", |config| {
            let mut mount = json!({"destination": "/tmp/m", "source": shown, "options": ["rbind", "ro"]});
            if !kind.is_null() {
                mount["type"] = kind;
            }
            config["mounts"].as_array_mut().unwrap().push(mount);
        });
        assert_eq!(stdout_of(builder), "bound", "{name}");
    }
}

#[test]
fn the_search_path_skips_directories_and_what_may_not_be_executed() {
    let stage = stage!();
    let rootfs = stage.busybox();
    for directory in ["a/prog", "b", "c"] {
        std::fs::create_dir_all(rootfs.join(directory)).unwrap();
    }
    std::fs::write(rootfs.join("b/prog"), "#!/bin/sh\necho wrong\n").unwrap();
    write_script(&rootfs.join("c/prog"), "#!/bin/sh\necho right\n");
    let builder = |path: &str| {
        stage.container("path").rootfs(Rootfs::directory(&rootfs)).args(["prog"]).env("PATH", path)
    };
    assert_eq!(stdout_of(builder("/a:/b:/no:/c:/bin")), "right");
    assert_eq!(*builder("/a:/b").run().unwrap_err().kind(), ErrorKind::ProgramNotExecutable);
    assert_eq!(*builder("/no").run().unwrap_err().kind(), ErrorKind::ProgramNotFound);
}

#[test]
fn the_hosts_own_root_can_be_the_rootfs_read_only() {
    if !is_root() {
        skip!("what is mounted below the host's root belongs to its root");
    }
    let stage = stage!();
    let builder = stage.container("whole").rootfs(Rootfs::directory("/")).idmapped_rootfs(false);
    let builder = builder.without_user_namespace().args(["sh", "-c", "touch /x 2>/dev/null || ls -d /usr"]);
    assert_eq!(stdout_of(builder), "/usr");
    assert!(!Path::new("/x").exists());
}

#[test]
fn the_root_propagates_as_asked() {
    let stage = stage!();
    for (word, shared) in [
        ("private", false),
        ("rprivate", false),
        ("slave", false),
        ("rslave", false),
        ("shared", true),
        ("rshared", true),
        ("unbindable", false),
    ] {
        let builder = bundle(&stage, word, "cat /proc/self/mountinfo", |config| {
            config["linux"]["rootfsPropagation"] = json!(word);
        });
        let mounts = stdout_of(builder);
        let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect("a root");
        assert_eq!(root.contains(" shared:"), shared, "{word}: {root}");
        assert_eq!(root.contains(" unbindable"), word == "unbindable", "{word}: {root}");
        let follows_the_host = word.contains("slave") && host_is_shared(&stage.busybox());
        assert_eq!(root.contains(" master:"), follows_the_host, "{word}: {root}");
    }
}

/// Whether the host passes on what is mounted below `path`.
fn host_is_shared(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let on_the_way = mounts.lines().filter(|line| path.starts_with(line.split(' ').nth(4).unwrap()));
    let nearest = on_the_way.max_by_key(|line| line.split(' ').nth(4).map(str::len)).expect("a root");
    nearest.contains(" shared:") || nearest.contains(" master:")
}

#[test]
fn a_wait_is_over_when_everything_has_died() {
    let stage = stage!();
    let script = "sleep 1000 & sleep 1000 & exit 7";
    let running = stage.shell("died", script).build().unwrap().create().unwrap().start().unwrap();
    for _ in 0..2 {
        let exit = running.wait_timeout(PATIENCE).unwrap().expect("it ends");
        assert_eq!(exit.outcome, Outcome::Exited { code: 7 });
        let loaded = AnyContainer::load(stage.root(), running.id().as_str()).unwrap();
        assert_eq!(loaded.wait().unwrap(), exit, "from any handle");
    }
    running.wait_stopped().unwrap().delete().unwrap();
}

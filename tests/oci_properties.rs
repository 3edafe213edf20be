//! Properties of the OCI runtime specification, each asked for in a bundle and looked at from inside a real container.

#![expect(clippy::disallowed_methods, reason = "tests write bundles, and look at the host with plain tools")]

mod common;

use cofferdam::{Container, ContainerBuilder, Error, ErrorKind, Exec, Running};
use common::{Stage, is_root, line_of, skip, stdout_of};
use serde_json::{Value, json};
use std::path::PathBuf;

/// A bundle of busybox that runs `script` with its own namespaces but that of users, where the caller may do without;
/// then edited.
fn bundle(stage: &Stage, script: &str, edit: impl FnOnce(&mut Value)) -> PathBuf {
    let mut kinds = vec!["mount", "pid", "network", "ipc", "uts"];
    let mut linux = json!({});
    if !is_root() {
        kinds.push("user");
        let ids = |own: u32| json!([{"containerID": 0, "hostID": own, "size": 1}]);
        linux["uidMappings"] = ids(rustix::process::geteuid().as_raw());
        linux["gidMappings"] = ids(rustix::process::getegid().as_raw());
    }
    linux["namespaces"] = kinds.iter().map(|kind| json!({"type": kind})).collect();
    let mut config = json!({
        "ociVersion": "1.2.0",
        "process": {"args": ["sh", "-c", script], "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0},
                    "noNewPrivileges": true},
        "root": {"path": stage.busybox()},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": linux,
    });
    edit(&mut config);
    let bundle = tempfile::Builder::new().prefix("bundle").tempdir_in(stage.path()).unwrap().keep();
    std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    bundle
}

fn builder(stage: &Stage, script: &str, edit: impl FnOnce(&mut Value)) -> ContainerBuilder {
    let bundle = bundle(stage, script, edit);
    let id = stage.id(bundle.file_name().unwrap().to_str().unwrap());
    ContainerBuilder::from_bundle(id.replace('.', ""), bundle).unwrap().state_root(stage.root().clone())
}

/// What a container of the edited bundle writes.
fn seen(stage: &Stage, script: &str, edit: impl FnOnce(&mut Value)) -> String {
    stdout_of(builder(stage, script, edit))
}

/// Why the edited bundle is not run.
fn refusal(stage: &Stage, edit: impl FnOnce(&mut Value)) -> Error {
    let bundle = bundle(stage, "true", edit);
    let built = ContainerBuilder::from_bundle(stage.id("refused"), bundle)
        .and_then(|builder| builder.state_root(stage.root().clone()).output());
    built.expect_err("it is refused")
}

fn unsupported(feature: &str) -> ErrorKind {
    ErrorKind::Unsupported { feature: feature.into() }
}

/// A container that goes on until it is killed.
fn sleeping(stage: &Stage, edit: impl FnOnce(&mut Value)) -> Container<Running> {
    builder(stage, "sleep 1000", edit).build().unwrap().create().unwrap().start().unwrap()
}

/// What a further process in it writes.
fn exec(container: &Container<Running>, script: &str) -> String {
    let output = container.exec_output(Exec::new(["sh", "-c", script])).unwrap();
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn end(container: Container<Running>) {
    container.stop(std::time::Duration::ZERO).unwrap().delete().unwrap();
}

/// Field `number`, as proc_pid_stat(5) counts, of the file's text.
fn stat_field(stat: &str, number: usize) -> &str {
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(number - 3).unwrap()
}

#[test]
fn a_scheduling_policy_and_a_nice_value_are_the_processs() {
    let stage = Stage::new();
    let stat = seen(&stage, "cat /proc/self/stat", |config| {
        config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 7});
    });
    assert_eq!((stat_field(&stat, 41), stat_field(&stat, 19)), ("3", "7"));

    let container = sleeping(&stage, |config| {
        config["process"]["scheduler"] = json!({"policy": "SCHED_IDLE"});
    });
    assert_eq!(stat_field(&exec(&container, "cat /proc/1/stat"), 41), "5");
    assert_eq!(stat_field(&exec(&container, "cat /proc/self/stat"), 41), "5", "of an executed process, too");
    end(container);
}

#[test]
fn a_real_time_policy_is_applied_or_refused_by_name() {
    let stage = Stage::new();
    let ask = |config: &mut Value| {
        config["process"]["scheduler"] =
            json!({"policy": "SCHED_RR", "priority": 10, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    };
    if is_root() {
        // The shell's own entry: its children do not inherit the policy.
        let stat =
            seen(&stage, "read -r stat </proc/self/stat; echo \"$stat\"; cat /proc/self/stat; true", ask);
        let mut lines = stat.lines();
        let shell = lines.next().unwrap();
        assert_eq!((stat_field(shell, 41), stat_field(shell, 40)), ("2", "10"));
        assert_eq!(stat_field(lines.next().unwrap(), 41), "0");
    } else {
        let error = refusal(&stage, ask);
        assert_eq!(error.step(), "init: process.scheduler", "{error}");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
    }
}

#[test]
fn an_io_priority_is_the_processs() {
    let stage = Stage::new();
    let container = sleeping(&stage, |config| {
        config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    });
    assert_eq!(io_priority(container.init_pid()), 2 << 13 | 6);
    end(container);
    let ask = |config: &mut Value| {
        config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_RT", "priority": 0});
    };
    if is_root() {
        let container = sleeping(&stage, ask);
        assert_eq!(io_priority(container.init_pid()), 1 << 13);
        end(container);
    } else {
        assert_eq!(refusal(&stage, ask).step(), "init: process.ioPriority");
    }
}

#[expect(unsafe_code, reason = "no crate here has ioprio_get(2)")]
fn io_priority(pid: i32) -> i64 {
    // SAFETY: integers only.
    unsafe { libc::syscall(libc::SYS_ioprio_get, 1, pid) }
}

#[test]
fn an_executed_process_runs_on_the_processors_of_its_affinity_and_init_does_not() {
    let stage = Stage::new();
    let allowed = common::status_line("self", "Cpus_allowed_list");
    let container = sleeping(&stage, |config| {
        config["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    });
    let of = |file| line_of(&exec(&container, &format!("cat {file}")), "Cpus_allowed_list");
    assert_eq!(of("/proc/self/status"), "0");
    assert_eq!(of("/proc/1/status"), allowed);
    end(container);
}

#[test]
fn a_personality_is_the_machine_the_process_sees() {
    let stage = Stage::new();
    let container = sleeping(&stage, |config| {
        config["linux"]["personality"] = json!({"domain": "LINUX32"});
    });
    assert_eq!(exec(&container, "cat /proc/1/personality"), "00000008");
    assert_eq!(exec(&container, "cat /proc/self/personality"), "00000008");
    end(container);
}

#[test]
fn a_memory_policy_is_the_processs() {
    let stage = Stage::new();
    let maps = seen(&stage, "cat /proc/self/numa_maps", |config| {
        config["linux"]["memoryPolicy"] =
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
    });
    assert!(maps.lines().all(|line| line.contains(" bind=static:0")), "{maps}");
    let error = refusal(&stage, |config| {
        config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "1000"});
    });
    assert_eq!(error.step(), "init: linux.memoryPolicy", "{error}");
}

#[test]
fn labels_are_refused_where_their_module_is_not_enabled() {
    let stage = Stage::new();
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap();
    let apparmor = std::path::Path::new("/sys/module/apparmor").exists();
    for (section, name, module, enabled) in [
        ("process", "apparmorProfile", "AppArmor", apparmor),
        ("process", "selinuxLabel", "SELinux", filesystems.contains("selinuxfs")),
        ("linux", "mountLabel", "SELinux", filesystems.contains("selinuxfs")),
    ] {
        if enabled {
            skip!("{module} is enabled here, and what its policy says is the administrator's");
        }
        let error = refusal(&stage, |config| config[section][name] = json!("some_label"));
        assert_eq!(*error.kind(), unsupported(&format!("{section}.{name}")));
        assert_eq!(error.to_string(), format!("{section}.{name}: {module} is not enabled on this host"));
    }
}

#[test]
fn the_clocks_of_a_time_namespace_are_ahead_by_their_offsets() {
    let stage = Stage::new();
    let host: f64 = uptime(&std::fs::read_to_string("/proc/uptime").unwrap());
    let script = "cat /proc/uptime; cat /proc/self/timens_offsets";
    let container = sleeping(&stage, |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        config["linux"]["timeOffsets"] =
            json!({"boottime": {"secs": 1_000_000, "nanosecs": 5}, "monotonic": {"secs": 2000}});
    });
    for pid in ["1", "self"] {
        let offsets = exec(&container, &format!("cat /proc/{pid}/timens_offsets"));
        let words: Vec<_> = offsets.split_whitespace().collect();
        assert_eq!(words, ["monotonic", "2000", "0", "boottime", "1000000", "5"], "{pid}");
    }
    let inside = uptime(&exec(&container, script));
    assert!((1_000_000.0..1_000_100.0).contains(&(inside - host)), "{inside} {host}");
    // Another container joins it by its path.
    if is_root() {
        let path = format!("/proc/{}/ns/time", container.init_pid());
        let joined = builder(&stage, script, |config| {
            let kinds = config["linux"]["namespaces"].as_array_mut().unwrap();
            kinds.push(json!({"type": "time", "path": path}));
        });
        let joined = uptime(&stdout_of(joined));
        assert!((joined - inside).abs() < 100.0, "{joined} {inside}");
    }
    end(container);
}

fn uptime(text: &str) -> f64 {
    text.split_whitespace().next().unwrap().parse().unwrap()
}

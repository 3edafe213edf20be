//! `linux.resources.devices`: which devices open inside, whatever nodes are made there.

#![expect(clippy::disallowed_methods, reason = "tests write bundles, and look at the host with plain tools")]

use crate::kit::{Stage, is_root, skip, stage, start, stdout_of};
use cofferdam::oci_spec::runtime::{Capabilities, Capability};
use cofferdam::{Container, ContainerBuilder, ErrorKind, Exec, Running};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Makes a node, opens it for reading and for writing, and prints which of the two the kernel allowed.
const TRY: &str = r#"
    try() {
        busybox mknod /dev/tried $1 $2 $3 || return
        said="$1 $2:$3"
        (: </dev/tried) 2>/tmp/why && said="$said r" || grep -q 'Operation not permitted' /tmp/why || said="$said r?"
        (: >/dev/tried) 2>/tmp/why && said="$said w" || grep -q 'Operation not permitted' /tmp/why || said="$said w?"
        rm /dev/tried
        echo "$said"
    }
"#;

/// A bundle of busybox that can make nodes, for want of a user namespace, and has these device rules.
fn container(stage: &Stage, name: &str, script: &str, rules: Value) -> cofferdam::Result<ContainerBuilder> {
    let namespaces: Value =
        ["mount", "pid", "network", "ipc", "uts"].map(|kind| json!({"type": kind})).into();
    container_with(stage, name, script, json!({"namespaces": namespaces, "resources": {"devices": rules}}))
}

fn container_with(
    stage: &Stage,
    name: &str,
    script: &str,
    linux: Value,
) -> cofferdam::Result<ContainerBuilder> {
    let capabilities = json!(["CAP_MKNOD"]);
    let config = json!({
        "ociVersion": "1.2.0",
        "process": {"args": ["sh", "-c", format!("{TRY}{script}")], "env": ["PATH=/bin"], "cwd": "/",
                    "user": {"uid": 0, "gid": 0}, "noNewPrivileges": true,
                    "capabilities": {"bounding": capabilities, "permitted": capabilities, "effective": capabilities}},
        "root": {"path": stage.busybox()},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                   {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}],
        "linux": linux,
    });
    let bundle = stage.path().join(format!("bundle-{name}"));
    std::fs::create_dir(&bundle).unwrap();
    std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    stage.bundled(name, &bundle)
}

/// The container's directory in the `devices` hierarchy of v1.
fn v1_directory(container: &Container<Running>) -> Option<PathBuf> {
    let mut places = container.info().cgroups.into_iter();
    places.find(|place| place.join("devices.list").exists())
}

fn has_v1_devices() -> bool {
    let hierarchies = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    hierarchies
        .lines()
        .filter_map(|line| line.split(':').nth(1))
        .any(|names| names.split(',').any(|name| name == "devices"))
}

/// What every engine says first, then what is allowed of it.
fn deny_all_but(allowed: impl IntoIterator<Item = Value>) -> Value {
    std::iter::once(json!({"allow": false, "access": "rwm"})).chain(allowed).collect()
}

#[test]
fn only_devices_on_the_list_open_though_nodes_of_any_can_be_made() {
    let stage = stage!();
    if !is_root() {
        skip!("only root has containers that can make nodes");
    }
    let rules = deny_all_but([
        json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "w"}),
        json!({"allow": true, "type": "b", "major": 7, "access": "rw"}),
        json!({"allow": false, "type": "b", "major": 7, "access": "rw"}),
    ]);
    // The null device is every container's. The kernel's log is only to be written to. Loop devices were taken back.
    let script = "try c 1 3; try c 1 11; try c 10 1; try b 7 0";
    let container = start(container(&stage, "list", "sleep 1000", rules).unwrap());
    let exec = |script: &str| {
        let output = container.exec_output(Exec::new(["sh", "-c", &format!("{TRY}{script}")])).unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    assert_eq!(exec(script), "c 1:3 r w\nc 1:11 w\nc 10:1\nb 7:0\n");
    if let Some(place) = v1_directory(&container) {
        let list = std::fs::read_to_string(place.join("devices.list")).unwrap();
        let mut list: Vec<&str> = list.lines().collect();
        list.sort_unstable();
        let default =
            ["b *:* m", "c *:* m", "c 136:* rwm", "c 1:11 wm", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm"];
        assert_eq!(list[..7], default);
        assert_eq!(list[7..], ["c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:1 rwm", "c 5:2 rwm"]);
    }
    container.kill().unwrap().delete().unwrap();
    assert_eq!(stage.changes(), Vec::<String>::new());
}

#[test]
fn a_program_that_opens_every_device_gets_those_of_its_rules_and_no_other() {
    let stage = stage!();
    if !is_root() {
        skip!("only root has containers that can make nodes");
    }
    // The memory devices, the consoles, the terminals' own, the miscellaneous, and disks of three kinds.
    let sweep = "for kind in 'c 1' 'c 4' 'c 5' 'c 10' 'b 7' 'b 8' 'b 254'; do
        for minor in 0 1 2 3 4 5 6 7 8 9 10 11; do try $kind $minor; done; done";
    let seen = stdout_of(container(&stage, "every", sweep, deny_all_but([])).unwrap());
    assert_eq!(seen.lines().count(), 7 * 12, "{seen}");
    // Both directions alike, but for what the device itself says of it.
    let (opened, refused): (Vec<&str>, Vec<&str>) = seen.lines().partition(|line| line.contains(" r"));
    let opened: Vec<String> = opened.iter().map(|line| line[..5].trim_end().to_owned()).collect();
    // null, zero, full, random, urandom; tty, console, ptmx.
    assert_eq!(opened, ["c 1:3", "c 1:5", "c 1:7", "c 1:8", "c 1:9", "c 5:0", "c 5:1", "c 5:2"], "{seen}");
    assert!(refused.iter().all(|line| !line.contains('w')), "{seen}");
}

#[test]
fn the_rules_bind_the_first_instruction_and_the_nodes_of_the_configuration() {
    let stage = stage!();
    if !is_root() {
        skip!("only root has containers that can make nodes");
    }
    let namespaces: Value =
        ["mount", "pid", "network", "ipc", "uts"].map(|kind| json!({"type": kind})).into();
    let linux = json!({
        "namespaces": namespaces,
        "devices": [{"path": "/dev/log-of-kernel", "type": "c", "major": 1, "minor": 11}],
        "resources": {"devices": deny_all_but([])},
    });
    let script = "try c 1 5; (: >/dev/log-of-kernel) 2>&1; echo x >/dev/null && echo null";
    let seen = stdout_of(container_with(&stage, "first", script, linux).unwrap());
    let denied = "sh: can't create /dev/log-of-kernel: Operation not permitted";
    assert_eq!(seen.lines().collect::<Vec<_>>()[..3], ["c 1:5 r w", denied, "null"], "{seen}");
}

#[test]
fn an_exception_from_an_exception_is_enforced_or_refused_by_name() {
    let stage = stage!();
    if !is_root() {
        skip!("only root has containers that can make nodes");
    }
    let rules = deny_all_but([
        json!({"allow": true, "type": "c", "major": 1, "access": "rw"}),
        json!({"allow": false, "type": "c", "major": 1, "minor": 11, "access": "r"}),
    ]);
    let built = container(&stage, "hole", "try c 1 3; try c 1 11", rules);
    if has_v1_devices() {
        let error = built.unwrap().build().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Unsupported { feature: "linux.resources.devices".into() });
        let message = "linux.resources.devices: cgroup v1 cannot allow \"c 1:*\" but deny \"c 1:11\" of it";
        assert!(error.to_string().starts_with(message), "{error}");
        assert_eq!(stage.changes(), Vec::<String>::new());
    } else {
        assert_eq!(stdout_of(built.unwrap()), "c 1:3 r w\nc 1:11 w");
    }
}

#[test]
fn what_is_denied_can_be_listed_instead() {
    let stage = stage!();
    if !is_root() {
        skip!("only root has containers that can make nodes");
    }
    let rules = json!([
        {"allow": true, "access": "rwm"},
        {"allow": false, "type": "c", "major": 1, "minor": 11, "access": "r"},
    ]);
    let container = start(container(&stage, "denied", "sleep 1000", rules).unwrap());
    let script = format!("{TRY}try c 1 11; try c 10 1");
    let output = container.exec_output(Exec::new(["sh", "-c", &script])).unwrap();
    // No driver has the other one: that is not a matter of permission.
    assert_eq!(String::from_utf8_lossy(&output.stdout), "c 1:11 w\nc 10:1 r? w?\n");
    container.kill().unwrap().delete().unwrap();
}

#[test]
fn rules_that_deny_nothing_cost_no_cgroup() {
    let stage = stage!();
    if !is_root() {
        skip!("only root has containers that can make nodes");
    }
    let rules = json!([{"allow": false, "access": "rwm"}, {"allow": true, "access": "rwm"}]);
    let container = start(container(&stage, "anything", "sleep 1000", rules).unwrap());
    assert_eq!(v1_directory(&container), None);
    container.kill().unwrap().delete().unwrap();
    let container = start(stage.container("none").args(["sleep", "1000"]));
    assert_eq!(v1_directory(&container), None, "nor does a container without rules");
    container.kill().unwrap().delete().unwrap();
}

/// Makes nodes and opens them, with the capability for it.
fn maker() -> Exec {
    Exec::new(["sh", "-c", &format!("{TRY}try c 1 3; try c 1 11")]).capabilities([Capability::Mknod].into())
}

/// A container that may open no device but those of every `/dev`, and can make none.
fn without_nodes(stage: &Stage, name: &str) -> ContainerBuilder {
    let container = container(stage, name, "sleep 1000", deny_all_but([])).unwrap();
    container.grant_capabilities(Capabilities::new())
}

#[test]
fn a_process_that_could_make_nodes_is_executed_where_the_rules_are_enforced() {
    let stage = stage!();
    if !is_root() {
        skip!("only root has containers that can make nodes");
    }
    let enforced = start(without_nodes(&stage, "enforced"));
    let output = enforced.exec_output(maker()).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "c 1:3 r w\nc 1:11\n");
    enforced.kill().unwrap().delete().unwrap();
}

#[test]
fn a_process_that_could_make_nodes_is_refused_where_the_rules_are_not_enforced() {
    let stage = stage!();
    if !is_root() {
        skip!("only root has containers that can make nodes");
    }
    if !has_v1_devices() {
        skip!("no v1 hierarchy has devices: root can always enforce rules");
    }
    // Its cgroup is another's, so it does without: it can make no node.
    let occupied = Occupied::new(&stage.id("occupied"));
    let left_alone = start(without_nodes(&stage, "left").cgroups_path(&occupied.path));
    let error = left_alone.exec_output(maker()).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unsupported { feature: "process.capabilities".into() }, "{error}");
    let output = left_alone.exec_output(maker().capabilities(Capabilities::new())).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    left_alone.kill().unwrap().delete().unwrap();
}

/// A cgroup of this test's own with a process in it, in the hierarchy of the devices.
struct Occupied {
    path: PathBuf,
    directory: PathBuf,
    process: std::process::Child,
}

impl Occupied {
    fn new(name: &str) -> Self {
        let directory = PathBuf::from("/sys/fs/cgroup/devices").join(name);
        std::fs::create_dir(&directory).unwrap();
        let process = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        std::fs::write(directory.join("cgroup.procs"), process.id().to_string()).unwrap();
        Self { path: PathBuf::from("/").join(name), directory, process }
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::fs::remove_dir(&self.directory).unwrap();
    }
}

#[test]
fn in_a_user_namespace_no_node_can_be_made_and_rules_are_no_error() {
    let stage = stage!();
    let root = is_root();
    let ids = |own: u32| json!([{"containerID": 0, "hostID": if root { 700_000 } else { own }, "size": 1}]);
    let namespaces: Value =
        ["mount", "pid", "network", "ipc", "uts", "user"].map(|kind| json!({"type": kind})).into();
    let linux = json!({
        "namespaces": namespaces,
        "uidMappings": ids(rustix::process::geteuid().as_raw()),
        "gidMappings": ids(rustix::process::getegid().as_raw()),
        "resources": {"devices": deny_all_but([])},
    });
    use std::os::unix::fs::PermissionsExt;
    for directory in [stage.path(), &stage.busybox()] {
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let script = "busybox mknod /dev/tried c 1 3 2>&1; echo x >/dev/null && head -c 1 /dev/zero | wc -c";
    let seen = stdout_of(container_with(&stage, "inside", script, linux).unwrap());
    assert_eq!(seen, "mknod: /dev/tried: Operation not permitted\n1");
}

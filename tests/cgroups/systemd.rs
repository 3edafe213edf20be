//! Containers in scopes of systemd's, made by a real manager.
//!
//! Each test has a world of its own: a mount namespace in which cgroup v2 is all there is, a bus, and systemd as a user's
//! manager on that bus, in a cgroup of the test's. The test runs itself again in there.

#![expect(clippy::disallowed_methods, reason = "tests run programs and write plain files of their own")]

use crate::kit::{Stage, caller, in_own_process, is_root, skip};
use cofferdam::{ContainerBuilder, ErrorKind};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long systemd may take to come up.
const LIMIT: Duration = Duration::from_secs(30);

/// Where Debian has it.
const SYSTEMD: &str = "/lib/systemd/systemd";

/// `sh` runs it in a new mount namespace, as `DIRECTORY UNIFIED COMMAND...`. systemd wants to see that the machine was
/// booted with it, and one kind of cgroups.
const ENTER: &str = r#"
    mount --make-rprivate /
    mount --bind "$2" "$1/unified"
    umount -R /sys/fs/cgroup
    mount --move "$1/unified" /sys/fs/cgroup
    mount -t tmpfs tmpfs /run
    mkdir -p /run/systemd/system
    shift 2
    exec "$@"
"#;

/// All the units there are: the bus is one of systemd's own, as it has to be, and keeps messages to it until it is there.
const UNITS: [(&str, &str); 3] = [
    ("basic.target", "[Unit]\nDefaultDependencies=no\nWants=dbus.socket\nAfter=dbus.socket\n"),
    ("dbus.socket", "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=%t/bus\n"),
    (
        "dbus.service",
        "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=dbus-daemon --session --nofork --nopidfile \
         --address=systemd: --systemd-activation\n",
    ),
];

/// Starts the manager in `directory` and `cgroup`. A shell between makes it no child of this process, so that no witness
/// counts it. The end of the [`Tree`] ends it.
fn start_systemd(directory: &Path, cgroup: &Path) {
    let units = directory.join("units");
    fs::create_dir(&units).unwrap();
    for (name, text) in UNITS {
        fs::write(units.join(name), text).unwrap();
    }
    let ready = UnixDatagram::bind(directory.join("ready")).unwrap();
    ready.set_read_timeout(Some(LIMIT)).unwrap();
    let started = Command::new("sh")
        .args(["-euc", "echo 0 > \"$0\"/cgroup.procs; \"$@\" &"])
        .arg(cgroup)
        .args([SYSTEMD, "--user", "--unit=basic.target"])
        .env("XDG_RUNTIME_DIR", directory)
        .env("NOTIFY_SOCKET", directory.join("ready"))
        .env("SYSTEMD_UNIT_PATH", &units)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(started.unwrap().success());
    let mut message = [0; 4096];
    loop {
        let length = ready.recv(&mut message).expect("systemd comes up");
        if String::from_utf8_lossy(&message[..length]).lines().any(|line| line == "READY=1") {
            return;
        }
    }
}

/// Where cgroup v2 is mounted on the host.
fn unified() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    line.split(' ').nth(4).map(PathBuf::from)
}

/// What is missing for a world with systemd in it.
fn missing() -> Option<String> {
    if !cfg!(feature = "systemd") {
        return Some("built without the feature systemd".into());
    }
    if !is_root() {
        return Some("only root may make a world for systemd".into());
    }
    let installed =
        |program: &str| ["/usr/bin", "/bin"].iter().any(|dir| Path::new(dir).join(program).exists());
    let programs = ["dbus-daemon", "unshare", "systemctl"];
    if !Path::new(SYSTEMD).exists() || !programs.into_iter().all(installed) {
        return Some("systemd and dbus-daemon are not installed".into());
    }
    unified().is_none().then(|| "cgroup v2 is not mounted".into())
}

/// A test's cgroups, and the end of what the manager has left in them.
struct Tree(PathBuf);

impl Tree {
    fn is_populated(&self) -> bool {
        let events = fs::read_to_string(self.0.join("cgroup.events")).unwrap_or_default();
        events.lines().any(|line| line == "populated 1")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        fn remove(dir: &Path) {
            let inner = fs::read_dir(dir).into_iter().flatten().flatten();
            inner.filter(|entry| entry.path().is_dir()).for_each(|entry| remove(&entry.path()));
            let _ = fs::remove_dir(dir);
        }
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        while self.is_populated() {
            std::thread::yield_now();
        }
        remove(&self.0);
    }
}

/// Runs `test` in a world of its own.
fn with_systemd(test: impl FnOnce(&Stage)) {
    if let Some(directory) = caller::role() {
        start_systemd(&directory, &Path::new("/sys/fs/cgroup").join(tree_of(&directory)));
        keep_what_a_process_keeps();
        test(&Stage::here());
        return;
    }
    let thread = std::thread::current();
    let name = thread.name().expect("the harness names a test's thread after it");
    if let Some(missing) = missing() {
        skip!("{missing}");
    }
    let directory = tempfile::tempdir().unwrap();
    let unified = unified().unwrap();
    let tree = Tree(unified.join(tree_of(directory.path())));
    fs::create_dir(&tree.0).unwrap();
    fs::create_dir(directory.path().join("unified")).unwrap();
    let bus = format!("unix:path={}", directory.path().join("bus").display());
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-euc", ENTER, "sh"])
        .args([directory.path(), &unified, &std::env::current_exe().unwrap()])
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(caller::ROLE, directory.path())
        .env("DBUS_SYSTEM_BUS_ADDRESS", &bus)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{}\n{said}", output.status);
}

/// The first conversation starts the bus, and makes a pair of sockets that tokio never closes.
fn keep_what_a_process_keeps() {
    let _ = ContainerBuilder::new().id("first").args(["true"]).cgroups_path(":it:first").build();
}

/// The name of a test's cgroup.
fn tree_of(directory: &Path) -> String {
    let name = directory.file_name().unwrap().to_str().unwrap();
    format!("cofferdam-test-{}", name.trim_start_matches('.'))
}

/// Asks the manager about a unit.
fn systemctl(arguments: &[&str]) -> String {
    let bus = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap();
    let output = Command::new("systemctl")
        .arg("--user")
        .args(arguments)
        .env("DBUS_SESSION_BUS_ADDRESS", bus)
        .env("XDG_RUNTIME_DIR", caller::role().unwrap())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The cgroup of a process in the unified hierarchy.
fn cgroup_of(pid: &str) -> String {
    let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    membership.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

fn descriptors() -> BTreeSet<String> {
    let fds = fs::read_dir("/proc/self/fd").unwrap().flatten();
    fds.filter_map(|fd| fs::read_link(fd.path()).ok()).map(|to| to.display().to_string()).collect()
}

/// A container of the test's in `machine-it.slice`.
fn sleeper(stage: &Stage, name: &str, scope: &str) -> ContainerBuilder {
    let builder = stage.busybox_shell(name, "exec sleep 1000");
    builder.cgroups_path(format!("machine-it.slice:it:{scope}"))
}

#[test]
fn a_container_lives_and_ends_in_its_scope_and_the_caller_is_as_before() {
    with_systemd(|stage| {
        // The first container of a process makes what all later ones share, such as the image of the helpers.
        let first = sleeper(stage, "first", "first").build().unwrap().create().unwrap().start().unwrap();
        first.kill().unwrap().delete().unwrap();
        let (own, threads_before, fds_before) = (cgroup_of("self"), threads(), descriptors());
        let created = sleeper(stage, "life", "life").build().unwrap().create().unwrap();
        assert_eq!((cgroup_of("self"), threads()), (own.clone(), threads_before));
        let running = created.start().unwrap();
        let sandbox = cgroup_of(&running.sandbox_pid().to_string());
        let scope = sandbox.strip_suffix("/sandbox").expect("its own directory in the scope");
        assert!(scope.ends_with("/machine.slice/machine-it.slice/it-life.scope"), "{scope}");
        assert_eq!(cgroup_of(&running.init_pid().to_string()), format!("{scope}/container"));
        assert_eq!(systemctl(&["is-active", "it-life.scope"]), "active");
        let delegated = systemctl(&["show", "-P", "Delegate", "it-life.scope"]);
        assert_eq!(delegated, "yes");
        let running = running.pause().unwrap().resume().unwrap();
        running.kill().unwrap().delete().unwrap();
        assert!(!Path::new("/sys/fs/cgroup").join(scope.trim_start_matches('/')).exists());
        assert_eq!(systemctl(&["show", "-P", "LoadState", "it-life.scope"]), "not-found");
        assert_eq!((cgroup_of("self"), threads()), (own, threads_before));
        assert_eq!(descriptors(), fds_before);
    });
}

#[test]
fn a_scope_of_another_is_left_alone() {
    with_systemd(|stage| {
        let first = sleeper(stage, "first", "same").build().unwrap().create().unwrap().start().unwrap();
        let refused = sleeper(stage, "second", "same").build().unwrap().create().unwrap_err();
        assert_eq!(*refused.error().kind(), ErrorKind::AlreadyExists, "{}", refused.error());
        assert!(refused.error().to_string().starts_with("linux.cgroupsPath: "), "{}", refused.error());
        drop(refused);
        assert_eq!(systemctl(&["is-active", "it-same.scope"]), "active");
        assert!(cgroup_of(&first.init_pid().to_string()).ends_with("/it-same.scope/container"));
        first.kill().unwrap().delete().unwrap();
    });
}

#[test]
fn a_scope_that_another_program_stopped_ends_the_container() {
    with_systemd(|stage| {
        let running = sleeper(stage, "stop", "stop").build().unwrap().create().unwrap().start().unwrap();
        systemctl(&["stop", "it-stop.scope"]);
        let stopped = running.wait_stopped().unwrap();
        stopped.delete().unwrap();
        assert_eq!(systemctl(&["show", "-P", "LoadState", "it-stop.scope"]), "not-found");
    });
}

#[test]
fn a_container_that_cannot_be_made_leaves_no_scope() {
    with_systemd(|stage| {
        let builder = sleeper(stage, "missing", "missing").args(["/no/such/program"]);
        let failed = builder.build().unwrap().create().unwrap_err();
        assert_eq!(*failed.error().kind(), ErrorKind::ProgramNotFound, "{}", failed.error());
        drop(failed);
        assert_eq!(systemctl(&["show", "-P", "LoadState", "it-missing.scope"]), "not-found");
    });
}

#[test]
fn a_limit_without_its_controller_is_refused_by_name() {
    with_systemd(|stage| {
        let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
        if controllers.split_whitespace().any(|controller| controller == "memory") {
            skip!("this host has the memory controller in the unified hierarchy");
        }
        let refused = sleeper(stage, "memory", "memory").memory_limit(64 << 20).build().unwrap_err();
        assert!(refused.to_string().starts_with("linux.resources.memory.limit: "), "{refused}");
        assert_eq!(systemctl(&["show", "-P", "LoadState", "it-memory.scope"]), "not-found");
    });
}

#[test]
fn where_no_systemd_can_be_asked_a_scope_is_refused_by_name() {
    if Path::new("/run/systemd/system").exists() {
        skip!("this host was booted with systemd");
    }
    if !in_own_process() {
        return;
    }
    keep_what_a_process_keeps();
    let stage = Stage::here();
    let refused = sleeper(&stage, "none", "none").build().unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Unsupported { .. }), "{refused}");
    let missing = if cfg!(feature = "systemd") { "which was not reached" } else { "the feature \"systemd\"" };
    assert!(refused.to_string().starts_with("linux.cgroupsPath: "), "{refused}");
    assert!(refused.to_string().contains(missing), "{refused}");
}

//! The bench a case is tried on: a runtime, a bundle, and containers of it, driven by the operations of the
//! specification.

use crate::conformance::case::NotHere;
use crate::kit::{Stage, example, is_readable_within, is_root};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A runtime's executable.
pub(crate) struct Runtime {
    path: PathBuf,
    /// `ours`, or that of its file.
    pub(crate) name: String,
}

impl Runtime {
    /// What `RUNTIME` names, or the example `oci`; or why there is none.
    pub(crate) fn under_test() -> Result<Self, String> {
        let path = example::runtime()?;
        Ok(if example::is_ours() { Self { path, name: "ours".into() } } else { Self::at(path) })
    }

    /// runc, if it is installed.
    pub(crate) fn control() -> Option<Self> {
        ["/usr/sbin/runc", "/usr/bin/runc"]
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.is_file())
            .map(Self::at)
    }

    fn at(path: PathBuf) -> Self {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        Self { path, name }
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.name == "ours"
    }
}

/// A runtime, and a bundle of busybox to give to it.
pub(crate) struct Bench<'a> {
    runtime: &'a Runtime,
    stage: Stage,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(runtime: &'a Runtime) -> Self {
        let stage = Stage::here();
        // Also for the users of a user namespace.
        stage.open_to_everybody();
        let bench = Self { runtime, stage };
        std::fs::create_dir(bench.bundle()).unwrap();
        crate::kit::write_busybox_rootfs(&bench.rootfs());
        bench
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.stage.path().join("bundle")
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.bundle().join("rootfs")
    }

    /// A directory of the host's for a case's own purposes.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.stage.open_directory(name)
    }

    pub(crate) fn id(&self, name: &str) -> String {
        self.stage.id(name)
    }

    /// Writes the default configuration with busybox's shell to run `script`, changed.
    pub(crate) fn configure(&self, script: &str, change: impl FnOnce(&mut Value)) {
        let mut config = default_configuration();
        config["process"]["args"] = json!(["sh", "-c", script]);
        change(&mut config);
        self.write_configuration(&config);
    }

    pub(crate) fn write_configuration(&self, config: &Value) {
        std::fs::write(self.bundle().join("config.json"), config.to_string()).unwrap();
    }

    /// Calls the runtime with anything that begins no container.
    pub(crate) fn call(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the runtime is executed")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.runtime.path);
        command.arg("--root").arg(self.stage.root().path()).args(arguments);
        command.current_dir(self.bundle()).stdin(Stdio::null());
        command
    }

    /// The call is an error. What it says.
    pub(crate) fn refuses(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        assert!(!output.status.success(), "{arguments:?} is no error");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Creates a container of the bundle.
    pub(crate) fn create(&self, name: &str) -> Container<'_> {
        self.try_create(name).unwrap_or_else(|said| panic!("create: {said}"))
    }

    /// Creates a container of the bundle, or what the runtime said instead.
    pub(crate) fn try_create(&self, name: &str) -> Result<Container<'_>, String> {
        self.try_create_by(name, |create| create)
    }

    /// As [`Self::try_create`], of a bundle that is configured so.
    pub(crate) fn try_configured(&self, change: impl FnOnce(&mut Value)) -> Result<Container<'_>, String> {
        self.configure("exec sleep 1000", change);
        self.try_create("configured")
    }

    /// As [`Self::try_create`], by a command that is changed before.
    pub(crate) fn try_create_by(
        &self,
        name: &str,
        change: impl FnOnce(Command) -> Command,
    ) -> Result<Container<'_>, String> {
        let id = self.id(name);
        let bundle = self.bundle();
        let file = |of: &str| File::create(bundle.join(of)).unwrap();
        let mut create = change(self.command(&["create", "--bundle", bundle.to_str().unwrap(), &id]));
        let status = create.stdout(file("stdout")).stderr(file("stderr")).status().expect("the runtime");
        let mut container = Container { bench: self, id, pid: 0, is_ours_to_end: status.success() };
        if !status.success() {
            return Err(self.read("stderr"));
        }
        container.pid = i32::try_from(container.state()["pid"].as_i64().expect("a pid")).unwrap();
        Ok(container)
    }

    /// What a container of this script writes until its end.
    pub(crate) fn output(&self, script: &str, change: impl FnOnce(&mut Value)) -> String {
        self.configure(script, change);
        let container = self.create("output");
        container.start();
        container.await_end();
        container.delete();
        self.read("stdout")
    }

    /// A container of this configuration is not created, and nothing of it is left.
    pub(crate) fn refuses_to_create(&self, change: impl FnOnce(&mut Value)) {
        self.configure("exec sleep 1000", change);
        let created = self.try_create("refused").map(drop);
        assert!(created.is_err(), "it is created");
        self.refuses(&["state", &self.id("refused")]);
    }

    /// A file of the bundle.
    pub(crate) fn read(&self, name: &str) -> String {
        let path = self.bundle().join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

/// A container that was created. Deleted in the end, whatever became of it.
pub(crate) struct Container<'a> {
    bench: &'a Bench<'a>,
    pub(crate) id: String,
    /// The pid in the state after create.
    pub(crate) pid: i32,
    is_ours_to_end: bool,
}

impl Container<'_> {
    pub(crate) fn state(&self) -> Value {
        let output = self.bench.call(&["state", &self.id]);
        assert!(output.status.success(), "state: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("a document")
    }

    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().expect("a status").to_owned()
    }

    pub(crate) fn start(&self) {
        self.must(&["start", &self.id]);
    }

    pub(crate) fn kill(&self, signal: &str) {
        self.must(&["kill", &self.id, signal]);
    }

    /// The container's process ends by itself, or has ended.
    pub(crate) fn await_end(&self) {
        if let Ok(pidfd) = pidfd_open(Pid::from_raw(self.pid).expect("a pid"), PidfdFlags::empty()) {
            assert!(is_readable_within(&pidfd, LIMIT), "process {} goes on", self.pid);
        }
        assert_eq!(self.status(), "stopped");
    }

    pub(crate) fn delete(mut self) {
        self.must(&["delete", &self.id]);
        self.is_ours_to_end = false;
    }

    /// Ends it, and deletes it.
    pub(crate) fn end(self) {
        self.kill("KILL");
        self.await_end();
        self.delete();
    }

    fn must(&self, arguments: &[&str]) {
        let output = self.bench.call(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if self.is_ours_to_end {
            self.bench.call(&["delete", "--force", &self.id]);
        }
    }
}

pub(crate) fn needs_root(what: &str) -> Result<(), NotHere> {
    if is_root() { Ok(()) } else { Err(NotHere(what.to_owned())) }
}

/// Of namespaces of its own; without root, one of users besides.
fn default_configuration() -> Value {
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "env": ["PATH=/usr/bin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 512, "hard": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs" },
        "hostname": "conformance",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
              "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs",
              "options": ["nosuid", "noexec", "nodev", "ro"] },
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
            ],
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
        },
    });
    if !is_root() {
        config["linux"].as_object_mut().unwrap().remove("resources");
        add_namespace(&mut config, json!({ "type": "user" }));
        let own = |id: u32| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
        config["linux"]["uidMappings"] = own(rustix::process::geteuid().as_raw());
        config["linux"]["gidMappings"] = own(rustix::process::getegid().as_raw());
    }
    config
}

/// Those of the default configuration.
const CAPABILITIES: &[&str] = &["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// Adds a namespace, in the place of one of the same type.
pub(crate) fn add_namespace(config: &mut Value, namespace: Value) {
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|other| other["type"] != namespace["type"]);
    namespaces.push(namespace);
}

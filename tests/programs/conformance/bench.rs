//! The bench a case is tried on: a runtime, a bundle, and containers of it, driven by the operations of the
//! specification.

use crate::conformance::case::NotHere;
use crate::conformance::checker;
use crate::conformance::configuration::full_configuration;
use crate::conformance::container::Container;
use crate::conformance::runtime::Runtime;
use crate::kit::{Stage, is_root};
use rustix::fs::{FileType, Mode};
use serde_json::{Value, json};
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A runtime, and a bundle of busybox and the checker to give to it.
pub(crate) struct Bench<'a> {
    pub(super) runtime: &'a Runtime,
    stage: Stage,
    /// What the checker's program and its libraries are called with, within the container.
    checker: OnceCell<Vec<String>>,
    // After the stage, which finds what a runtime left.
    ids: Ids,
}

/// The ids given out.
struct Ids {
    are_ours: bool,
    all: RefCell<BTreeSet<String>>,
}

/// Removes the cgroups that crun leaves, which are named after its containers.
impl Drop for Ids {
    fn drop(&mut self) {
        if self.are_ours {
            return;
        }
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        for hierarchy in hierarchies {
            for id in self.all.borrow().iter() {
                let _ = std::fs::remove_dir(hierarchy.path().join(id));
            }
        }
    }
}

impl<'a> Bench<'a> {
    pub(crate) fn new(runtime: &'a Runtime) -> Self {
        let stage = Stage::here();
        // Also for the users of a user namespace.
        stage.open_to_everybody();
        let ids = Ids { are_ours: runtime.is_ours(), all: RefCell::default() };
        let bench = Self { runtime, stage, checker: OnceCell::new(), ids };
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
        let id = self.stage.id(name);
        self.ids.all.borrow_mut().insert(id.clone());
        id
    }

    /// The arguments of a process that is the checker first and then `program`.
    pub(crate) fn program(&self, program: &[&str]) -> Value {
        let checker = self.checker.get_or_init(|| checker::install(&self.rootfs()));
        json!(checker.iter().map(String::as_str).chain(program.iter().copied()).collect::<Vec<_>>())
    }

    /// Writes the full configuration with the checker and then busybox's shell to run `script`, changed.
    pub(crate) fn configure(&self, script: &str, change: impl FnOnce(&mut Value)) {
        let mut config = full_configuration();
        config["process"]["args"] = self.program(&["sh", "-c", script]);
        change(&mut config);
        self.write_configuration(&config);
        checker::write_facts(&checker::directory(&self.rootfs()), &config);
    }

    /// Changes what the checker is told of the host, after [`Self::configure`].
    pub(crate) fn change_host(&self, change: impl FnOnce(&mut Value)) {
        checker::change_host(&checker::directory(&self.rootfs()), change);
    }

    pub(crate) fn write_configuration(&self, config: &Value) {
        std::fs::write(self.bundle().join("config.json"), config.to_string()).unwrap();
    }

    /// Calls the runtime with anything that begins no container.
    pub(crate) fn call(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the runtime is executed")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.runtime.command();
        command.arg("--root").arg(self.stage.root().path()).args(arguments);
        command.current_dir(self.bundle()).stdin(self.null());
        command
    }

    /// A null device as standard input. For other runtimes not the host's: `crun exec --user` gives that to the user.
    pub(crate) fn null(&self) -> Stdio {
        if self.runtime.is_ours() {
            return Stdio::null();
        }
        let path = self.stage.path().join("null");
        if !path.exists() {
            let number = rustix::fs::makedev(1, 3);
            let mode = Mode::from_raw_mode(0o666);
            rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::CharacterDevice, mode, number).unwrap();
        }
        File::open(path).unwrap().into()
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
        let create = change(self.command(&["create", "--bundle", bundle.to_str().unwrap(), &id]));
        // Not a pipe: a container that was created would keep it open.
        let stderr = File::create(bundle.join("stderr")).unwrap();
        Container::create(self, id, create, stderr).map_err(|()| self.read("stderr"))
    }

    /// What a container of this script writes until its end.
    pub(crate) fn output(&self, script: &str, change: impl FnOnce(&mut Value)) -> String {
        self.configure(script, change);
        self.output_as_configured()
    }

    /// What a container of the bundle writes until its end.
    pub(crate) fn output_as_configured(&self) -> String {
        let container = self.create("output");
        container.start();
        container.await_end();
        let output = container.output();
        container.delete();
        output
    }

    /// A container of this configuration is not created, and nothing of it is left.
    pub(crate) fn refuses_to_create(&self, change: impl FnOnce(&mut Value)) {
        self.configure("exec sleep 1000", change);
        let created = self.try_create("refused").map(drop);
        assert!(created.is_err(), "a container was created");
        self.refuses(&["state", &self.id("refused")]);
    }

    /// A file of the bundle's.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.bundle().join(name)).unwrap()
    }
}

pub(crate) fn needs_root(what: &str) -> Result<(), NotHere> {
    if is_root() { Ok(()) } else { Err(NotHere(what.to_owned())) }
}

//! The command line of an OCI runtime, as engines call it: verbs, flags, files, words and exit codes.
//!
//! The runtime is the example `oci`, or whatever `RUNTIME` names: with `RUNTIME=/usr/sbin/runc` the same cases run
//! against runc, which is the control. What is ours alone is skipped there.
//!
//! Each module has the verbs and flags of one subject; here is the engine that calls them.

#![expect(clippy::disallowed_methods, reason = "tests run programs and write plain files of their own")]

mod cgroups;
mod checkpoint;
mod exec;
mod failures;
mod flags;
mod lifecycle;
mod limits;
mod namespaces;
mod owner;
mod streams;

use crate::kit::example::{is_ours, runtime};
use crate::kit::{Stage, is_root};
use rustix::process::{Pid, WaitOptions, waitpid};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A bundle, and the runtime to give it to.
struct Engine {
    runtime: PathBuf,
    root: PathBuf,
    bundle: PathBuf,
    made: Vec<String>,
}

impl Engine {
    /// With a bundle in `directory` whose busybox runs `script`.
    fn new(directory: &Path, root: &Path, script: &str) -> Self {
        let runtime = runtime().expect("asked for before");
        let bundle = directory.join("bundle");
        std::fs::create_dir(&bundle).unwrap();
        crate::kit::write_busybox_rootfs(&bundle.join("rootfs"));
        let engine = Self { runtime, root: root.to_owned(), bundle, made: Vec::new() };
        let rootless = if is_root() { None } else { Some("--rootless") };
        let bundle = engine.bundle.to_str().unwrap();
        let spec: Vec<_> = ["spec", "--bundle", bundle].into_iter().chain(rootless).collect();
        assert_success(&engine.call(&spec));
        engine.edit(|config| {
            config["process"]["terminal"] = json!(false);
            config["process"]["args"] = json!(["sh", "-c", script]);
        });
        engine
    }

    fn on(stage: &Stage, script: &str) -> Self {
        Self::new(stage.path(), stage.root().path(), script)
    }

    /// Changes config.json.
    fn edit(&self, change: impl FnOnce(&mut Value)) {
        crate::kit::bundle::edit_config(&self.bundle, change);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.runtime);
        command.arg("--root").arg(&self.root).args(arguments).current_dir(&self.bundle).stdin(Stdio::null());
        command
    }

    /// Calls a verb that starts nothing which keeps its streams.
    fn call(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the runtime is executed")
    }

    fn must(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        assert_success(&output);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Calls a verb that hands its streams on, into files. What it said on its standard error, and its code.
    fn hand_on(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let file = |name: &str| File::create(self.bundle.join(name)).unwrap();
        let mut command = self.command(arguments);
        let status = command.stdout(file("stdout")).stderr(file("stderr")).status().unwrap();
        (status.code(), self.read("stderr"))
    }

    /// Creates a container. Its pid.
    fn create(&mut self, id: &str, options: &[&str]) -> i32 {
        self.made.push(id.to_owned());
        let pid_file = self.bundle.join("init.pid");
        let first = ["create", "--bundle", self.bundle.to_str().unwrap(), "--pid-file"];
        let first: Vec<_> = first.into_iter().chain([pid_file.to_str().unwrap()]).collect();
        let arguments: Vec<_> = first.iter().chain(options).chain([&id]).copied().collect();
        let (code, said) = self.hand_on(&arguments);
        assert_eq!((code, said.as_str()), (Some(0), ""));
        let pid = std::fs::read_to_string(pid_file).unwrap();
        pid.parse().unwrap_or_else(|_| panic!("{pid:?} is a number and nothing else"))
    }

    fn running(&mut self, id: &str) -> i32 {
        let pid = self.create(id, &[]);
        assert_eq!(self.must(&["start", id]), "");
        pid
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.bundle.join(name)).unwrap()
    }

    fn status(&self, id: &str) -> String {
        let state: Value = serde_json::from_str(&self.must(&["state", id])).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }

    /// A verb that is refused: its one line.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        assert_ne!(output.status.code(), Some(0), "{arguments:?} succeeds");
        assert!(output.status.code().is_some(), "{arguments:?}: {}", output.status);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!is_ours() || said.lines().count() == 1, "{arguments:?}: not one line: {said}");
        said
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for id in &self.made {
            let _ = self.call(&["delete", "--force", id]);
        }
    }
}

fn assert_success(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}: {}{}", output.status, text(&output.stdout), text(&output.stderr));
}

/// Skips a test that the runtime under test is not for.
macro_rules! need {
    (runtime) => {
        if let Err(reason) = $crate::kit::example::runtime() {
            $crate::kit::skip!("{reason}");
        }
        if !$crate::cli::is_ours() && !$crate::cli::is_root() {
            $crate::kit::skip!("runc needs root for cgroups here");
        }
    };
    (ours) => {
        $crate::cli::need!(runtime);
        if !$crate::cli::is_ours() {
            $crate::kit::skip!("about our runtime");
        }
    };
}
use need;

/// A process that engines' monitors are: everything whose parent ended becomes its child.
fn as_monitor(directory: &Path, work: impl FnOnce(&mut Engine)) {
    rustix::process::set_child_subreaper(Pid::from_raw(1)).expect("prctl(PR_SET_CHILD_SUBREAPER)");
    let mut engine = Engine::new(directory, &directory.join("state"), "exec sleep 1000");
    work(&mut engine);
}

/// Waits for a process as its parent. Its exit code, or the signal it died of.
fn collect(pid: i32) -> (Option<i32>, Option<i32>) {
    let (_, status) = waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap().expect("it ended");
    (status.exit_status(), status.terminating_signal())
}

//! Properties of the OCI runtime specification, each asked for in a bundle and looked at from inside a real container.
//!
//! Each module has the properties of one part of the configuration; here is what makes the containers.

#![expect(clippy::disallowed_methods, reason = "tests write bundles, and look at the host with plain tools")]

mod mounts;
mod namespaces;
mod network_devices;
mod paths;
mod process;
mod seccomp;

use crate::kit::{Stage, is_root, stage, stdout_of};
use cofferdam::{Container, ContainerBuilder, Error, ErrorKind, Exec, Running};
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
    ContainerBuilder::from_bundle(bundle).unwrap().id(id.replace('.', "")).state_root(stage.root().clone())
}

/// What a container of the edited bundle writes.
fn seen(stage: &Stage, script: &str, edit: impl FnOnce(&mut Value)) -> String {
    stdout_of(builder(stage, script, edit))
}

/// Why the edited bundle is not run.
fn refusal(stage: &Stage, edit: impl FnOnce(&mut Value)) -> Error {
    let bundle = bundle(stage, "true", edit);
    stage.bundled("refused", &bundle).and_then(ContainerBuilder::output).expect_err("it is refused")
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

/// The options of the mount at `at`, its optional fields, and its type, from the text of a mountinfo.
fn mount_at<'a>(mountinfo: &'a str, at: &str) -> (Vec<&'a str>, &'a str, &'a str) {
    let line = mountinfo.lines().rfind(|line| line.split(' ').nth(4) == Some(at));
    let line = line.unwrap_or_else(|| panic!("nothing is mounted at {at}:\n{mountinfo}"));
    let (mount, file_system) = line.split_once(" - ").unwrap();
    let options = mount.split(' ').nth(5).unwrap().split(',').collect();
    let optional = mount.splitn(7, ' ').nth(6).unwrap_or("");
    (options, optional, file_system)
}

fn run(program: &str, arguments: &[&str]) {
    let status = std::process::Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

/// Joins namespaces of a running container by their paths.
fn join(config: &mut Value, container: &Container<Running>, kinds: &[(&str, &str)]) {
    let list = config["linux"]["namespaces"].as_array_mut().unwrap();
    for (kind, file) in kinds {
        list.retain(|namespace| namespace["type"] != *kind);
        let path = format!("/proc/{}/ns/{file}", container.init_pid());
        list.push(json!({"type": kind, "path": path}));
    }
}

#[test]
fn unknown_properties_are_ignored() {
    let stage = stage!();
    let said = seen(&stage, "echo ran", |config| {
        config["zyx"] = json!({"a": [1]});
        config["process"]["zyx"] = json!(1);
        config["linux"]["zyx"] = json!("x");
        config["process"]["commandLine"] = json!("for Windows");
        config["process"]["user"]["username"] = json!("for Windows");
        config["windows"] = json!({"layerFolders": []});
        config["mounts"][0]["zyx"] = json!(null);
    });
    assert_eq!(said, "ran");
}

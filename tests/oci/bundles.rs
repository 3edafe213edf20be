//! OCI bundles: what this crate writes other runtimes run, and what they write this crate runs.

#![expect(clippy::disallowed_methods, reason = "tests run other runtimes and edit their files")]

use crate::kit::bundle::edit_config;
use crate::kit::{Stage, is_installed, is_root, line_of, skip, stage, stdout_of};
use cofferdam::{ContainerBuilder, ErrorKind, Outcome, Rootfs};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn runc(stage: &Stage, arguments: &[&str]) -> Output {
    let root = stage.path().join("runc");
    Command::new("runc").arg("--root").arg(root).args(arguments).output().expect("runc is installed")
}

/// Runs a bundle with runc and returns what it wrote.
fn runc_run(stage: &Stage, bundle: &Path) -> String {
    let id = stage.id("runc");
    let output = runc(stage, &["run", "--bundle", &bundle.display().to_string(), &id]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "runc: {}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// A bundle as `runc spec` writes it, on busybox, without a terminal, its program replaced; then edited.
fn runc_spec(stage: &Stage, script: &str, edit: impl FnOnce(&mut Value)) -> PathBuf {
    let bundle = stage.path().join("bundle");
    std::fs::create_dir(&bundle).unwrap();
    crate::kit::write_busybox_rootfs(&bundle.join("rootfs"));
    let mut arguments = vec!["spec", "--bundle", bundle.to_str().unwrap()];
    if !is_root() {
        arguments.push("--rootless");
    }
    let output = runc(stage, &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    edit_config(&bundle, |config| {
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", script]);
        edit(config);
    });
    bundle
}

fn from_bundle(stage: &Stage, bundle: &Path) -> ContainerBuilder {
    stage.bundled("bundle", bundle).unwrap()
}

/// A bundle with nothing in it but this configuration and busybox.
fn plain_bundle(stage: &Stage, edit: impl FnOnce(&mut Value)) -> PathBuf {
    stage.write_bundle("plain", stage.busybox_shell("plain", "echo ran"), edit)
}

#[test]
fn runc_runs_a_bundle_of_the_hosts_own_directories() {
    let stage = stage!();
    if !is_installed("runc") {
        skip!("runc is not installed");
    }
    if !is_root() {
        skip!("runc needs root for cgroups here");
    }
    let bundle = stage.path().join("written");
    let script = "echo hello from $(hostname); id -u";
    stage.shell("host", script).to_bundle(&bundle).unwrap();
    assert_eq!(runc_run(&stage, &bundle), "hello from cofferdam\n0");
    assert_eq!(stdout_of(from_bundle(&stage, &bundle)), "hello from cofferdam\n0");
}

#[test]
fn runc_runs_a_bundle_of_a_directory() {
    let stage = stage!();
    if !is_installed("runc") {
        skip!("runc is not installed");
    }
    if !is_root() {
        skip!("runc needs root for cgroups here");
    }
    let bundle = stage.path().join("written");
    let builder = stage
        .busybox_shell("directory", "echo $GREETING; pwd; umask; ls /")
        .env("GREETING", "hi")
        .cwd("/tmp");
    builder.umask(0o027).to_bundle(&bundle).unwrap();
    // runc does not map the ids of a rootfs: the files must belong to a user that the container has.
    stage.open_to_everybody();
    let wanted = "hi\n/tmp\n0027\nbin\ndev\netc\nproc\nroot\nsys\ntmp";
    assert_eq!(runc_run(&stage, &bundle), wanted);
    assert_eq!(stdout_of(from_bundle(&stage, &bundle)), wanted);
}

#[test]
fn a_bundle_of_runcs_runs_here() {
    let stage = stage!();
    if !is_installed("runc") {
        skip!("runc is not installed");
    }
    let script = "cat /proc/self/status; ulimit -n; hostname; ls -d /sys/fs/cgroup; cat /proc/self/mountinfo";
    let bundle = runc_spec(&stage, script, |_| ());
    let seen = stdout_of(from_bundle(&stage, &bundle));
    // kill, net_bind_service and audit_write: the three that `runc spec` grants.
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(line_of(&seen, set), "0000000020000420", "{set}");
    }
    assert_eq!(line_of(&seen, "NoNewPrivs"), "1");
    assert!(seen.contains("\n1024\nrunc\n/sys/fs/cgroup\n"), "{seen}");
    let root = seen.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(root.split(' ').nth(5).unwrap().starts_with("ro"), "{root}");
    // A rootless configuration binds the host's /sys instead, read-only at its top.
    let kernel = if is_root() { "/sys/fs/cgroup" } else { "/sys" };
    let mount = seen.lines().find(|line| line.split(' ').nth(4) == Some(kernel)).unwrap();
    let flags: Vec<&str> = mount.split(' ').nth(5).unwrap().split(',').collect();
    assert!(["ro", "nosuid", "nodev", "noexec"].iter().all(|flag| flags.contains(flag)), "{mount}");
}

#[test]
fn a_read_only_root_is_as_the_configuration_says() {
    let stage = stage!();
    for (readonly, wanted) in [(true, "1"), (false, "0")] {
        let bundle = plain_bundle(&stage, |config| {
            config["root"]["readonly"] = json!(readonly);
            config["process"]["args"] = json!(["sh", "-c", "touch /etc/x 2>/dev/null; echo $?"]);
        });
        assert_eq!(stdout_of(from_bundle(&stage, &bundle)), wanted, "readonly: {readonly}");
        assert_eq!(stage.busybox().join("etc/x").exists(), !readonly);
        std::fs::remove_dir_all(&bundle).unwrap();
    }
}

#[test]
fn a_bundle_remembers_what_the_builder_asked_for() {
    let stage = stage!();
    let bundle = stage.path().join("again");
    let limit = std::time::Duration::from_millis(150);
    stage
        .busybox_shell("t", "touch /etc/y; echo made; sleep 1000")
        .scratch(None)
        .timeout(limit)
        .to_bundle(&bundle)
        .unwrap();
    let output = from_bundle(&stage, &bundle).output().unwrap();
    assert_eq!(output.exit.outcome, Outcome::TimedOut { after: limit });
    assert_eq!(output.stdout, b"made\n");
    assert!(!stage.busybox().join("etc/y").exists());
}

#[test]
fn a_later_edit_of_the_configuration_has_no_effect() {
    let stage = stage!();
    let bundle = plain_bundle(&stage, |_| ());
    let created = from_bundle(&stage, &bundle).build().unwrap().create().unwrap();
    std::fs::write(bundle.join("config.json"), "{}").unwrap();
    assert_eq!(created.info().bundle, bundle);
    assert_eq!(created.start().unwrap().wait().unwrap().outcome, Outcome::Exited { code: 0 });
}

#[test]
fn a_bundle_is_written_to_an_empty_directory_only() {
    let stage = stage!();
    let bundle = stage.path().join("full");
    std::fs::create_dir(&bundle).unwrap();
    stage.shell("empty", "true").to_bundle(&bundle).unwrap();
    let refused = stage.shell("full", "true").to_bundle(&bundle).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::AlreadyExists);
    assert_eq!(refused.to_string(), format!("write bundle {bundle:?}: the directory is not empty"));
}

#[test]
fn a_directory_that_is_no_bundle_is_refused() {
    let stage = stage!();
    let load = |path: &Path| ContainerBuilder::from_bundle(path).unwrap_err();
    let missing = load(&stage.path().join("nowhere")).to_string();
    assert!(missing.contains("nowhere/config.json") && missing.contains("ENOENT"), "{missing}");

    let empty = stage.open_directory("empty");
    assert!(load(&empty).to_string().contains("config.json"), "{}", load(&empty));
    std::fs::create_dir(empty.join("config.json")).unwrap();
    assert_eq!(load(&empty).to_string(), "config.json: is not a regular file");
    std::fs::remove_dir(empty.join("config.json")).unwrap();

    for (text, part) in
        [("", "config.json: "), ("{", "config.json: "), ("{}", "ociVersion"), ("[]", "config.json: ")]
    {
        std::fs::write(empty.join("config.json"), text).unwrap();
        let said = match ContainerBuilder::from_bundle(&empty) {
            Ok(builder) => builder.state_root(stage.root().clone()).build().unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(said.kind(), ErrorKind::InvalidSpec { .. }), "{text:?}: {said}");
        assert!(said.to_string().contains(part), "{text:?}: {said}");
    }
}

#[test]
fn a_fifo_in_place_of_the_configuration_does_not_hang() {
    let stage = stage!();
    let bundle = stage.open_directory("fifo");
    nix::unistd::mkfifo(&bundle.join("config.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let refused = ContainerBuilder::from_bundle(&bundle).unwrap_err();
    assert_eq!(refused.to_string(), "config.json: is not a regular file");
}

#[test]
fn a_rootfs_that_is_missing_is_named_before_anything_happens() {
    let stage = stage!();
    let bundle = plain_bundle(&stage, |config| config["root"]["path"] = json!("nowhere"));
    let said = match from_bundle(&stage, &bundle).build() {
        Ok(creating) => creating.create().unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    let path = bundle.join("nowhere");
    assert_eq!(said, format!("config.json: root.path: {}: No such file or directory", path.display()));
}

#[test]
fn a_missing_root_and_a_missing_program_are_named() {
    let stage = stage!();
    let bundle = plain_bundle(&stage, |config| config["root"] = Value::Null);
    let refused = from_bundle(&stage, &bundle).build().unwrap_err();
    assert!(refused.to_string().starts_with("config.json: root"), "{refused}");
    std::fs::remove_dir_all(&bundle).unwrap();
    let bundle = plain_bundle(&stage, |config| config["process"]["args"] = json!([]));
    let refused = from_bundle(&stage, &bundle).build().unwrap_err();
    assert!(refused.to_string().starts_with("config.json: process.args"), "{refused}");
    let builder = from_bundle(&stage, &bundle).args(["true"]).rootfs(Rootfs::directory(stage.busybox()));
    assert!(
        builder.run().unwrap().outcome.success(),
        "the builder's methods change a bundle's configuration"
    );
}

#[test]
fn the_multiplexer_in_a_list_of_all_the_hosts_devices_is_the_containers_own() {
    let stage = stage!();
    let bundle = plain_bundle(&stage, |config| {
        config["process"]["args"] = json!(["readlink", "/dev/ptmx"]);
        config["linux"]["devices"] = json!([
            { "type": "c", "path": "/dev/ptmx", "major": 5, "minor": 2, "fileMode": 0o666, "uid": 0, "gid": 5 }
        ]);
    });
    assert_eq!(stdout_of(from_bundle(&stage, &bundle)), "pts/ptmx");
}

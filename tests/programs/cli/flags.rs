//! What the command line takes and says of itself: spec, features, help, and the flags of runc.

use crate::cli::{Engine, assert_success, need};
use crate::kit::example::is_ours;
use crate::kit::{is_root, skip, stage, status_line};
use serde_json::{Value, json};
use std::process::Command;

#[test]
fn a_configuration_to_begin_with_is_written_once() {
    need!(runtime);
    let stage = stage!();
    let engine = Engine::on(&stage, "true");
    assert!(engine.refused(&["spec"]).contains("File config.json exists. Remove it first"));
}

#[test]
fn features_are_what_a_configuration_may_ask_for() {
    need!(runtime);
    let stage = stage!();
    let engine = Engine::on(&stage, "true");
    let features: Value = serde_json::from_str(&engine.must(&["features"])).unwrap();
    let has = |path: &str, word: &str| {
        let list =
            features.pointer(path).and_then(Value::as_array).unwrap_or_else(|| panic!("{path}: {features}"));
        list.iter().any(|entry| entry == word)
    };
    assert!(has("/hooks", "createRuntime") && has("/hooks", "poststop"));
    assert!(has("/mountOptions", "rbind") && has("/mountOptions", "tmpcopyup"));
    for kind in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"] {
        assert!(has("/linux/namespaces", kind), "{kind}");
    }
    assert!(has("/linux/capabilities", "CAP_CHECKPOINT_RESTORE"));
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    assert!(
        has("/linux/seccomp/actions", "SCMP_ACT_ERRNO") && has("/linux/seccomp/actions", "SCMP_ACT_NOTIFY")
    );
    assert!(has("/linux/seccomp/operators", "SCMP_CMP_MASKED_EQ"));
    assert!(has("/linux/seccomp/archs", "SCMP_ARCH_X86_64"));
    if is_ours() {
        assert_eq!(features["ociVersionMax"], "1.3.0");
        assert_eq!(features["linux"]["netDevices"]["enabled"], true);
        assert!(has("/linux/memoryPolicy/modes", "MPOL_BIND"), "{features}");
        assert!(has("/linux/memoryPolicy/flags", "MPOL_F_STATIC_NODES"), "{features}");
        // Every word that a configuration may have there, and the library obeys.
        for (path, count) in [
            ("/hooks", 6),
            ("/linux/namespaces", 8),
            ("/linux/capabilities", 41),
            ("/linux/seccomp/actions", 9),
            ("/linux/seccomp/operators", 7),
            ("/linux/seccomp/knownFlags", 4),
            ("/linux/memoryPolicy/modes", 7),
            ("/linux/memoryPolicy/flags", 3),
        ] {
            let list = features.pointer(path).and_then(Value::as_array).map(Vec::len);
            assert_eq!(list, Some(count), "{path}: {features}");
        }
        assert!(!has("/linux/seccomp/archs", "SCMP_ARCH_NATIVE"), "no word of the specification: {features}");
        // Claimed only where it is obeyed.
        engine.edit(|config| config["linux"]["intelRdt"] = json!({ "closID": "x" }));
        let refused = engine.hand_on(&["create", &stage.id("rdt")]).0 != Some(0);
        assert_eq!(features["linux"]["intelRdt"]["enabled"], !refused);
    }
}

#[test]
fn every_flag_of_runc_is_taken() {
    need!(runtime);
    let stage = stage!();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let id = &stage.id("flags");
    let (log, pid_file) = (stage.path().join("log"), stage.path().join("pid"));
    let (log, pid_file) = (log.to_str().unwrap(), pid_file.to_str().unwrap());
    let global = ["--debug", "--log", log, "--log-format", "json", "--rootless", "auto", "--criu", "criu"];
    engine.must(&[&global[..], &["list"]].concat());
    engine.create(id, &["--no-pivot", "--no-new-keyring", "--preserve-fds", "0"]);
    engine.must(&["start", id]);
    let user = if is_root() { "0:0" } else { "0" };
    let mut exec =
        vec!["exec", "--cwd", "/", "--env", "A=b", "--env", "C=d", "--user", user, "--cap", "CAP_KILL"];
    exec.extend(["--no-new-privs", "--preserve-fds", "0", "--pid-file", pid_file, "--ignore-paused"]);
    // Without privilege there is one group, and it is the only one.
    exec.extend(is_root().then_some(["--additional-gids", "5"]).into_iter().flatten());
    exec.extend([id, "sh", "-c", "echo $A$C"]);
    assert_eq!(engine.must(&exec), "bd\n");
    assert!(std::fs::read_to_string(pid_file).unwrap().parse::<i32>().is_ok());
    assert!(engine.must(&["ps", "--format", "table", id, "-o", "pid,args"]).contains("sleep 1000"));
    assert_eq!(engine.must(&["kill", "-a", id, "KILL"]), "");
    assert_eq!(engine.must(&["delete", "-f", id]), "");

    engine.made.push(id.clone());
    let run = ["run", "--detach", "--keep", "--no-subreaper", "--no-pivot", "--no-new-keyring"];
    engine.edit(|config| config["process"]["args"] = json!(["true"]));
    // Whether it has ended before it is let go or after.
    for _ in 0..10 {
        let (code, said) = engine.hand_on(&[&run[..], &["--preserve-fds", "0", id]].concat());
        assert_eq!((code, said.as_str()), (Some(0), ""));
        engine.must(&["delete", "--force", id]);
    }
    let new = stage.open_directory("new");
    engine.must(&["spec", "--rootless", "-b", new.to_str().unwrap()]);
    assert!(new.join("config.json").is_file());
}

/// What a runtime says about itself, and where.
#[test]
fn help_and_version_are_no_errors() {
    need!(runtime);
    let stage = stage!();
    let engine = Engine::on(&stage, "true");
    for arguments in [&["--help"][..], &["-h"], &["help"]] {
        assert!(engine.must(arguments).to_lowercase().contains("usage"), "{arguments:?}");
    }
    // Nothing at all, not even a root.
    let nothing = Command::new(&engine.runtime).output().unwrap();
    assert_success(&nothing);
    assert!(String::from_utf8(nothing.stdout).unwrap().to_lowercase().contains("usage"));
    let verbs =
        ["create", "start", "run", "state", "kill", "delete", "exec", "ps", "events", "pause", "resume"];
    for verb in verbs.into_iter().chain(["update", "list", "spec", "features"]) {
        assert!(engine.must(&[verb, "--help"]).contains(verb), "{verb}");
    }
    for flag in ["--version", "-v"] {
        // Docker looks for these words, podman shows the lines.
        let version = engine.must(&[flag]);
        assert!(version.lines().next().unwrap().contains(" version "), "{version}");
        assert!(version.lines().any(|line| line.starts_with("spec: 1.")), "{version}");
    }
}

#[test]
fn what_engines_ask_before_they_begin_is_answered() {
    need!(ours);
    let stage = stage!();
    let engine = Engine::on(&stage, "true");
    // podman takes success for an answer: there are checkpoints.
    assert!(engine.must(&["checkpoint", "--help"]).contains("--image-path"));
    engine.refused(&["restore", "x"]);
}

#[test]
fn the_callers_groups_stay_by_crun_s_annotation_only_if_that_is_asked_for() {
    need!(ours);
    if !is_root() {
        skip!("another user cannot take a group");
    }
    let stage = stage!();
    let engine = Engine::on(&stage, "grep Groups: /proc/self/status");
    engine.edit(|config| config["annotations"] = json!({ "run.oci.keep_original_groups": "1" }));
    for (flags, groups) in [(&[][..], "Groups:"), (&["--crun-annotations"], "Groups:\t4242")] {
        let id = stage.id("groups");
        let mut arguments = vec!["--groups", "4242", engine.runtime.to_str().unwrap()];
        arguments.extend(["--root", engine.root.to_str().unwrap()]);
        arguments.extend(flags.iter().copied().chain(["run", &id]));
        let output = Command::new("setpriv").args(arguments).current_dir(&engine.bundle).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), groups, "{output:?}");
    }
}

#[test]
fn annotations_of_pods_are_followed_only_if_asked_for() {
    need!(ours);
    let stage = stage!();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let (pod, alone, member) = (&stage.id("pod"), &stage.id("alone"), &stage.id("member"));
    let pod_pid = engine.running(pod);
    engine.edit(|config| {
        config["annotations"] = json!({
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.sandbox-id": pod,
        });
    });
    let sandbox_of = |engine: &Engine, id: &str| {
        let pids: Vec<i32> = serde_json::from_str(&engine.must(&["ps", "--format", "json", id])).unwrap();
        let status = status_line(&pids[0].to_string(), "PPid");
        status.parse::<i32>().unwrap()
    };
    engine.running(alone);
    assert_ne!(sandbox_of(&engine, alone), pod_pid);
    engine.made.push(member.clone());
    let (code, said) = engine.hand_on(&["--pods", "create", member]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    engine.must(&["start", member]);
    assert_eq!(sandbox_of(&engine, member), pod_pid);
    for id in [member, alone, pod] {
        engine.must(&["delete", "--force", id]);
    }
}

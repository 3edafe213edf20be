//! State directories of other users.

use crate::cli::{Engine, need};
use crate::kit::{is_root, skip, stage};
use serde_json::json;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

/// Not root's, and no other test's.
const USER: u32 = 2100;

/// A call of the runtime by [`USER`].
fn by_user(engine: &Engine, arguments: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "2100", "--regid", "2100", "--clear-groups", "--inh-caps=-all"]);
    command.arg(&engine.runtime).arg("--root").arg(&engine.root).args(arguments).current_dir(&engine.bundle);
    command.stdin(std::process::Stdio::null());
    command
}

#[test]
fn root_acts_on_the_containers_of_a_user_with_the_rights_of_that_user() {
    need!(ours);
    if !is_root() {
        skip!("needs root and another user");
    }
    let stage = stage!();
    stage.open_to_everybody();
    let state = stage.path().join("of-the-user");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, PermissionsExt::from_mode(0o700)).unwrap();
    chown(&state, Some(USER), Some(USER)).unwrap();
    let mut engine = Engine::new(stage.path(), &state, "exec sleep 1000");
    // Writable by the user alone: the hook says there who runs it.
    let told = stage.path().join("told");
    std::fs::create_dir(&told).unwrap();
    chown(&told, Some(USER), Some(USER)).unwrap();
    engine.edit(|config| {
        let linux = config["linux"].as_object_mut().unwrap();
        linux.remove("resources");
        let own = json!([{ "containerID": 0, "hostID": USER, "size": 1 }]);
        linux.insert("uidMappings".into(), own.clone());
        linux.insert("gidMappings".into(), own);
        let script = format!("id -u >{}/poststop", told.display());
        config["hooks"] = json!({ "poststop": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
    });
    engine.edit(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| !["user", "cgroup"].contains(&namespace["type"].as_str().unwrap()));
        namespaces.push(json!({ "type": "user" }));
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
    });
    chown(engine.bundle.join("rootfs"), Some(USER), Some(USER)).unwrap();
    let id = &stage.id("job");
    engine.made.push(id.clone());
    let mut create = by_user(&engine, &["run", "--detach", id]);
    let files = ["stdout", "stderr"].map(|name| std::fs::File::create(engine.bundle.join(name)).unwrap());
    let [stdout, stderr] = files;
    assert!(create.stdout(stdout).stderr(stderr).status().unwrap().success(), "{}", engine.read("stderr"));

    // By root from here on.
    assert_eq!(engine.status(id), "running");
    let said = engine.refused(&["run", &stage.id("other")]);
    assert!(said.contains("belongs to uid 2100"), "{said}");
    assert!(engine.must(&["list"]).contains(id.as_str()));
    assert_eq!(engine.must(&["exec", id, "id", "-u"]), "0\n");
    engine.must(&["kill", id, "KILL"]);
    while engine.status(id) != "stopped" {
        std::thread::yield_now();
    }
    engine.must(&["delete", id]);
    assert_eq!(std::fs::read_to_string(told.join("poststop")).unwrap().trim(), "2100");
    assert!(engine.refused(&["state", id]).contains("does not exist"));

    // Never the other way round, and never where others may write.
    std::fs::set_permissions(&state, PermissionsExt::from_mode(0o770)).unwrap();
    assert!(engine.refused(&["list"]).contains("is writable by others"));
    chown(&state, Some(0), Some(0)).unwrap();
    std::fs::set_permissions(&state, PermissionsExt::from_mode(0o755)).unwrap();
    let output = by_user(&engine, &["list"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("belongs to uid 0, not to 2100"), "{said}");
    std::fs::remove_dir_all(&state).unwrap();
}

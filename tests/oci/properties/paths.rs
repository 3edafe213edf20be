//! `linux.devices`, `linux.maskedPaths` and `linux.readonlyPaths`.

use crate::kit::{is_root, skip, stage};
use crate::properties::{mount_at, refusal, seen, unsupported};
use serde_json::{Value, json};

#[test]
fn devices_are_made_as_they_are_described_or_are_the_hosts() {
    let stage = stage!();
    let script = "cd /dev; stat -c '%n %F %t:%T %a %u:%g' null-too unbuffered fifo disk 2>/dev/null; ls /dev";
    let devices = json!([
        {"path": "/dev/null-too", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 5},
        {"path": "/dev/fifo", "type": "p", "fileMode": 0o600},
        {"path": "/dev/disk", "type": "b", "major": 7, "minor": 0, "fileMode": 0o600},
    ]);
    if is_root() {
        let seen = seen(&stage, script, |config| config["linux"]["devices"] = devices.clone());
        for line in [
            "null-too character special file 1:3 640 7:8",
            "unbuffered character special file 1:5 666 0:0",
            "fifo fifo 0:0 600 0:0",
            "disk block special file 7:0 600 0:0",
        ] {
            assert!(seen.lines().any(|seen| seen == line), "{line}:\n{seen}");
        }
    }
    // In a user namespace it is the host's own node, bound, which has to be that device.
    let in_user_namespace = |config: &mut Value| {
        if is_root() {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            for name in ["uidMappings", "gidMappings"] {
                config["linux"][name] = json!([{"containerID": 0, "hostID": 700_000, "size": 1000}]);
            }
        }
    };
    stage.open_to_everybody();
    if !std::path::Path::new("/dev/fuse").exists() {
        skip!("the host has no /dev/fuse to bind");
    }
    let fuse = json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}, {"path": "/dev/fifo", "type": "p"}]);
    let seen = seen(&stage, "stat -c '%F %t:%T' /dev/fuse /dev/fifo", |config| {
        in_user_namespace(config);
        config["linux"]["devices"] = fuse;
    });
    assert_eq!(seen, "character special file a:e5\nfifo 0:0");
    let error = refusal(&stage, |config| {
        in_user_namespace(config);
        config["linux"]["devices"] = json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 1}]);
    });
    assert_eq!(*error.kind(), unsupported("/dev/fuse"), "{error}");
}

#[test]
fn paths_are_masked_and_read_only_and_need_not_be_there() {
    let stage = stage!();
    let script =
        "cat /etc/secret; ls /etc/hidden; touch /etc/fixed/x 2>&1; cat /proc/version /proc/self/mountinfo";
    let rootfs = stage.busybox();
    std::fs::write(rootfs.join("etc/secret"), "secret").unwrap();
    std::fs::create_dir_all(rootfs.join("etc/hidden/inside")).unwrap();
    std::fs::create_dir_all(rootfs.join("etc/fixed")).unwrap();
    let seen = seen(&stage, script, |config| {
        config["linux"]["maskedPaths"] =
            json!(["/etc/secret", "/etc/hidden", "/etc/nowhere/at/all", "/proc/version"]);
        config["linux"]["readonlyPaths"] = json!(["/etc/fixed", "/etc/nowhere", "/proc/sys"]);
    });
    assert!(!seen.contains("secret\n") && !seen.contains("inside"), "{seen}");
    assert!(seen.contains("Read-only file system"), "{seen}");
    assert!(mount_at(&seen, "/proc/sys").0.contains(&"ro"), "{seen}");
    assert!(!seen.contains("Linux version"), "{seen}");
    assert!(!rootfs.join("etc/nowhere").exists());
}

#[test]
fn a_path_to_mask_that_only_the_workload_can_reach_is_an_error() {
    let stage = stage!();
    if !is_root() {
        skip!("another user cannot give files away");
    }
    stage.open_to_everybody();
    let (closed, ids) = (stage.busybox().join("closed"), 700_000);
    std::fs::create_dir(&closed).unwrap();
    std::fs::write(closed.join("secret"), "secret").unwrap();
    // Root of the container has no rights over what belongs to an id that is not mapped; a group of it has these.
    std::os::unix::fs::chown(&closed, Some(0), Some(ids + 1000)).unwrap();
    std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o770)).unwrap();
    let error = refusal(&stage, |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        for name in ["uidMappings", "gidMappings"] {
            config["linux"][name] = json!([{"containerID": 0, "hostID": ids, "size": 2000}]);
        }
        config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        config["process"]["args"] = json!(["cat", "/closed/secret"]);
        config["linux"]["maskedPaths"] = json!(["/closed/secret"]);
    });
    assert_eq!(error.raw_os_error(), Some(libc::EACCES), "{error}");
    assert!(error.to_string().contains("linux.maskedPaths"), "{error}");
}

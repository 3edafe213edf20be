//! `linux.netDevices`.

use crate::kit::{is_root, skip, stage};
use crate::properties::{end, exec, join, refusal, run, seen, sleeping};
use serde_json::json;

/// In a network namespace of its own: the pair of devices `here0` and `there0`, the first up and with addresses.
fn with_two_devices(test: impl FnOnce() + Send) {
    let in_its_own = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let add = ["link", "add", "here0", "mtu", "1300", "type", "veth", "peer", "there0"];
        if !std::process::Command::new("ip").args(add).status().is_ok_and(|status| status.success()) {
            skip!("no ip(8), or a kernel without pairs of devices");
        }
        run("ip", &["link", "set", "here0", "up"]);
        run("ip", &["address", "add", "10.77.0.1/24", "dev", "here0"]);
        run("ip", &["-6", "address", "add", "fd77::1/64", "dev", "here0", "nodad"]);
        test();
    };
    std::thread::scope(|scope| scope.spawn(in_its_own).join().unwrap());
}

/// What `ip` shows of the device where this thread is.
fn shown(device: &str) -> String {
    let output = std::process::Command::new("ip").args(["address", "show", "dev", device]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn network_devices_move_to_the_container_with_their_addresses() {
    let stage = stage!();
    if !is_root() {
        skip!("only root has network devices to move");
    }
    for users in [false, true] {
        with_two_devices(|| {
            let container = sleeping(&stage, |config| {
                config["linux"]["netDevices"] = json!({"here0": {"name": "wan0"}, "there0": {}});
                if users {
                    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
                    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
                    config["linux"]["uidMappings"] = ids.clone();
                    config["linux"]["gidMappings"] = ids;
                    stage.open_to_everybody();
                }
            });
            let inside = exec(&container, "busybox ip address show dev wan0");
            for words in ["10.77.0.1/24", "fd77::1/64", "mtu 1300", "UP"] {
                assert!(inside.contains(words), "{words}: {inside}");
            }
            let other = exec(&container, "busybox ip address show dev there0");
            assert!(other.contains("UP"), "{other}");
            assert_eq!((shown("here0"), shown("there0")), (String::new(), String::new()));
            end(container);
        });
    }
}

#[test]
fn network_devices_move_to_a_namespace_that_is_joined() {
    let stage = stage!();
    if !is_root() {
        skip!("only root has network devices to move");
    }
    with_two_devices(|| {
        let first = sleeping(&stage, |_| {});
        let show = "busybox ip address show dev here0";
        let seen = seen(&stage, show, |config| {
            join(config, &first, &[("network", "net")]);
            config["linux"]["netDevices"] = json!({"here0": {}});
        });
        assert!(seen.contains("10.77.0.1/24"), "{seen}");
        assert_eq!(exec(&first, show), seen.trim_end());
        end(first);
    });
}

#[test]
fn network_devices_are_back_as_they_were_when_creation_fails() {
    let stage = stage!();
    if !is_root() {
        skip!("only root has network devices to move");
    }
    // In the container's network, where the device has its new name by then.
    let in_its_network = json!({"path": "/bin/sh", "args": ["sh", "-c", "ip link show dev wan0 && exit 7"]});
    with_two_devices(|| {
        for (devices, program, hook, step) in [
            (json!({"here0": {"name": "wan0"}, "nosuch0": {}}), "true", None, "linux.netDevices.nosuch0"),
            (json!({"here0": {"name": "lo"}}), "true", None, "linux.netDevices.here0"),
            (json!({"here0": {"name": "wan0"}}), "nosuch", None, "exec: \"nosuch\""),
            (json!({"here0": {"name": "wan0"}}), "true", Some(&in_its_network), "hooks.createContainer[0]"),
        ] {
            let error = refusal(&stage, |config| {
                config["linux"]["netDevices"] = devices;
                config["process"]["args"] = json!([program]);
                config["hooks"] = json!({"createContainer": Vec::from_iter(hook)});
            });
            assert!(error.to_string().contains(step), "{step}: {error}");
            assert!(
                hook.is_none() || error.to_string().contains("code 7"),
                "the hook saw the device: {error}"
            );
            let after = shown("here0");
            for words in ["10.77.0.1/24", "fd77::1/64", "mtu 1300", "UP"] {
                assert!(after.contains(words), "{words}: {after}");
            }
        }
    });
}

#[test]
fn network_devices_that_cannot_come_back_are_all_named() {
    let stage = stage!();
    if !is_root() {
        skip!("only root has network devices to move");
    }
    // Other devices have taken the names of those that moved.
    let take_their_names = "ip link add here0 type veth peer there0; exit 7";
    with_two_devices(|| {
        let error = refusal(&stage, |config| {
            config["linux"]["netDevices"] = json!({"here0": {"name": "wan0"}, "there0": {}});
            let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", take_their_names]});
            config["hooks"] = json!({"createRuntime": [hook]});
        });
        let error = error.to_string();
        for words in
            ["hooks.createRuntime[0]", "linux.netDevices.here0: ", "linux.netDevices.there0: ", "EEXIST"]
        {
            assert!(error.contains(words), "{words}: {error}");
        }
    });
}

#[test]
fn network_devices_are_for_those_who_rule_where_they_are() {
    let stage = stage!();
    if is_root() {
        skip!("root may move any device");
    }
    let error = refusal(&stage, |config| config["linux"]["netDevices"] = json!({"lo": {"name": "lo1"}}));
    assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
}

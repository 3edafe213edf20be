//! `linux.namespaces`, with the clocks and the kernel parameters that are theirs.

use crate::kit::{is_root, skip, stage, start, stdout_of};
use crate::properties::{builder, end, exec, join, refusal, seen, sleeping};
use cofferdam::Exec;
use serde_json::json;

#[test]
fn the_clocks_of_a_time_namespace_are_ahead_by_their_offsets() {
    let stage = stage!();
    let host: f64 = uptime(&std::fs::read_to_string("/proc/uptime").unwrap());
    let script = "cat /proc/uptime; cat /proc/self/timens_offsets";
    let container = sleeping(&stage, |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        config["linux"]["timeOffsets"] =
            json!({"boottime": {"secs": 1_000_000, "nanosecs": 5}, "monotonic": {"secs": 2000}});
    });
    for pid in ["1", "self"] {
        let offsets = exec(&container, &format!("cat /proc/{pid}/timens_offsets"));
        let words: Vec<_> = offsets.split_whitespace().collect();
        assert_eq!(words, ["monotonic", "2000", "0", "boottime", "1000000", "5"], "{pid}");
    }
    let inside = uptime(&exec(&container, script));
    assert!((1_000_000.0..1_000_100.0).contains(&(inside - host)), "{inside} {host}");
    // Another container joins it by its path.
    if is_root() {
        let path = format!("/proc/{}/ns/time", container.init_pid());
        let joined = builder(&stage, script, |config| {
            let kinds = config["linux"]["namespaces"].as_array_mut().unwrap();
            kinds.push(json!({"type": "time", "path": path}));
        });
        let joined = uptime(&stdout_of(joined));
        assert!((joined - inside).abs() < 100.0, "{joined} {inside}");
    }
    end(container);
}

fn uptime(text: &str) -> f64 {
    text.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn namespaces_are_joined_by_their_paths() {
    let stage = stage!();
    if !is_root() {
        skip!("another container's namespaces belong to its user namespace");
    }
    let other = sleeping(&stage, |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"}));
        config["hostname"] = json!("other");
    });
    let files = ["pid", "net", "ipc", "uts", "cgroup"];
    let kinds = ["pid", "network", "ipc", "uts", "cgroup"];
    let inside = |pid: &str| format!("for f in {}; do readlink /proc/{pid}/ns/$f; done", files.join(" "));
    let theirs = exec(&other, &inside("self"));
    let pairs: Vec<_> = kinds.into_iter().zip(files).collect();
    let ours = seen(&stage, &format!("{}; hostname", inside("self")), |config| join(config, &other, &pairs));
    assert_eq!(ours, format!("{theirs}\nother"));
    // A name for a namespace that is joined is a new name for all in it.
    let renamed = seen(&stage, "hostname", |config| {
        join(config, &other, &[("uts", "uts")]);
        config["hostname"] = json!("renamed");
        config["domainname"] = json!("example.org");
    });
    assert_eq!(renamed, "renamed");
    assert_eq!(exec(&other, "hostname; cat /proc/sys/kernel/domainname"), "renamed\nexample.org");
    end(other);
}

#[test]
fn what_is_executed_in_a_joined_pid_namespace_is_among_the_others_and_waited_for() {
    let stage = stage!();
    if !is_root() {
        skip!("another container's namespaces belong to its user namespace");
    }
    let other = sleeping(&stage, |_| {});
    let path = format!("/proc/{}/ns/pid", other.init_pid());
    let joined = start(builder(&stage, "sleep 1000", |_| {}).join_pid_namespace(path));
    assert_eq!(exec(&joined, "readlink /proc/self/ns/pid"), exec(&other, "readlink /proc/self/ns/pid"));
    // Its end, and none of a process that has the same number elsewhere.
    let output = joined.exec_output(Exec::new(["sh", "-c", "sleep 0.1; exit 7"])).unwrap();
    assert_eq!(output.exit.outcome.shell_code(), 7);
    let listed = exec(&other, "for p in /proc/[0-9]*; do readlink $p/ns/pid >/dev/null && cat $p/comm; done");
    assert_eq!(listed.lines().filter(|name| *name == "sleep").count(), 2, "{listed}");
    assert!(!listed.contains("cofferdam"), "{listed}");
    end(joined);
    end(other);
}

#[test]
fn a_pid_namespace_that_cannot_be_joined_is_named() {
    let stage = stage!();
    if !is_root() {
        skip!("another container's namespaces belong to its user namespace");
    }
    for (path, reason) in [
        // Of the wrong kind; not there.
        ("/proc/self/ns/net", "Invalid argument"),
        ("/proc/self/ns/nosuch", "No such file or directory"),
    ] {
        let error = refusal(&stage, |config| {
            let list = config["linux"]["namespaces"].as_array_mut().unwrap();
            list.retain(|namespace| namespace["type"] != "pid");
            list.push(json!({"type": "pid", "path": path}));
        });
        assert!(error.to_string().contains(path) && error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn namespaces_of_the_host_are_joined_by_path_with_a_new_user_namespace() {
    let stage = stage!();
    if !is_root() {
        skip!("only root may join namespaces of the host");
    }
    stage.open_to_everybody();
    // Its namespaces belong to the host's user namespace.
    let other = sleeping(&stage, |_| {});
    let with_user = |config: &mut serde_json::Value| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        for name in ["uidMappings", "gidMappings"] {
            config["linux"][name] = json!([{"containerID": 0, "hostID": 700_000, "size": 1000}]);
        }
    };
    let look = "for kind in net ipc uts; do readlink /proc/self/ns/$kind; done";
    let theirs = exec(&other, look);
    let script = format!(
        "{look}; cat /proc/self/uid_map; readlink /proc/self/ns/pid; readlink /proc/self/ns/user; echo $$"
    );
    let seen = seen(&stage, &script, |config| {
        with_user(config);
        join(config, &other, &[("network", "net"), ("ipc", "ipc"), ("uts", "uts")]);
    });
    let lines: Vec<_> = seen.lines().collect();
    assert_eq!(lines[..3].join("\n"), theirs);
    assert_eq!(lines[3].split_whitespace().collect::<Vec<_>>(), ["0", "700000", "1000"]);
    let own = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    assert!(lines[4] != own("pid") && lines[5] != own("user") && lines[6] == "1", "{seen}");
    let error = refusal(&stage, |config| {
        with_user(config);
        let list = config["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|namespace| namespace["type"] != "network");
        list.push(json!({"type": "network", "path": "/proc/self/ns/uts"}));
    });
    let said = error.to_string();
    assert!(said.contains("linux.namespaces") && said.contains("/proc/self/ns/uts: cannot join"), "{said}");
    end(other);
}

#[test]
fn a_user_namespace_is_joined_by_its_path() {
    let stage = stage!();
    if !is_root() {
        skip!("another container's user namespace can be entered by its owner's root only");
    }
    stage.open_to_everybody();
    let other = sleeping(&stage, |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        for name in ["uidMappings", "gidMappings"] {
            config["linux"][name] = json!([{"containerID": 0, "hostID": 700_000, "size": 1000}]);
        }
    });
    let theirs = exec(&other, "readlink /proc/self/ns/user");
    let ours = seen(
        &stage,
        "readlink /proc/self/ns/user; id -u; cat /proc/self/uid_map; touch /dev/shm-file && stat -c %u /dev/shm-file",
        |config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.extend([json!({"type": "user"}), json!({"type": "cgroup"})]);
            join(config, &other, &[("user", "user"), ("network", "net")]);
        },
    );
    let lines: Vec<_> = ours.lines().collect();
    assert_eq!((lines[0], lines[1], lines[3]), (theirs.as_str(), "0", "0"), "{ours}");
    assert_eq!(lines[2].split_whitespace().collect::<Vec<_>>(), ["0", "700000", "1000"]);
    end(other);
}

#[test]
fn kernel_parameters_of_its_namespaces_are_the_containers() {
    let stage = stage!();
    let values = [
        ("kernel.msgmax", "4096"),
        ("kernel.shm_rmid_forced", "1"),
        ("fs.mqueue.msg_max", "5"),
        ("net.ipv4.ip_forward", "1"),
        ("kernel.domainname", "example.org"),
    ];
    let files: Vec<_> =
        values.iter().map(|(name, _)| format!("/proc/sys/{}", name.replace('.', "/"))).collect();
    let seen = seen(&stage, &format!("cat {}", files.join(" ")), |config| {
        config["linux"]["sysctl"] =
            values.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    });
    assert_eq!(seen.lines().collect::<Vec<_>>(), values.map(|(_, value)| value));
}

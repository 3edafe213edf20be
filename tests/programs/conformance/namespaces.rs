//! Namespaces, and what is a namespace's own.

use crate::conformance::bench::{Bench, needs_root};
use crate::conformance::case::{NotHere, Verdict, table};
use crate::conformance::configuration::add_namespace;
use crate::kit::unshared::Unshared;
use serde_json::{Value, json};

table! {
    a_namespace_without_a_path_is_new => "linux_ns_nopath":
        "If path is not specified, the runtime MUST create a new container namespace of type type";
    the_pid_of_the_state_is_in_the_new_namespaces => "linux_ns_nopath":
        "pid is the ID of the container process, as seen from the runtime";
    the_pid_of_the_state_is_in_the_new_cgroup_namespace => "linux_ns_nopath":
        "pid is the ID of the container process, as seen from the runtime";
    a_namespace_that_is_not_listed_is_the_runtimes => "linux_ns_itype":
        "If a namespace type is not specified in the namespaces array, the container MUST inherit the runtime namespace \
         of that type";
    each_namespace_may_be_the_one_that_is_not_listed => "linux_ns_itype":
        "If a namespace type is not specified in the namespaces array, the container MUST inherit the runtime namespace \
         of that type";
    a_mount_namespace_that_is_not_listed_is_the_runtimes => "linux_ns_itype":
        "If a namespace type is not specified in the namespaces array, the container MUST inherit the runtime namespace \
         of that type";
    a_namespace_with_a_path_is_the_one_there => "linux_ns_path":
        "The runtime MUST place the container process in the namespace associated with that path";
    a_mount_namespace_with_a_path_is_the_one_there => "linux_ns_path":
        "The runtime MUST place the container process in the namespace associated with that path";
    a_path_of_another_type_is_an_error => "linux_ns_path_type":
        "The runtime MUST generate an error if path is not associated with a namespace of type type";
    ids_are_mapped => "linux_uid_mappings":
        "uidMappings and gidMappings describe the user namespace ID mappings from the host to the container";
    the_host_name_is_the_containers => "hostname":
        "hostname specifies the container's hostname as seen by processes running inside the container";
    kernel_parameters_are_set => "linux_sysctl":
        "sysctl allows kernel parameters to be modified at runtime for the container";
}

/// The types, and their files.
const TYPES: [(&str, &str); 7] = [
    ("cgroup", "cgroup"),
    ("ipc", "ipc"),
    ("mount", "mnt"),
    ("network", "net"),
    ("pid", "pid"),
    ("user", "user"),
    ("uts", "uts"),
];

fn namespace(pid: &str, file: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap().display().to_string()
}

/// The process itself says which namespaces it is in, where it sees a /proc of its own.
const TELL: &str = "for file in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$file; done";

fn told(seen: &str) -> Vec<(&'static str, String)> {
    assert_eq!(seen.lines().count(), TYPES.len(), "{seen}");
    TYPES.iter().map(|(_, file)| *file).zip(seen.lines().map(str::to_owned)).collect()
}

fn all_new(config: &mut Value) {
    if crate::kit::is_root() {
        map_ids(config, 1000);
    }
    add_namespace(config, json!({ "type": "cgroup" }));
}

fn a_namespace_without_a_path_is_new(bench: &Bench<'_>) -> Verdict {
    for (file, inside) in told(&bench.output(TELL, all_new)) {
        assert_ne!(inside, namespace("self", file), "{file}");
    }
    Ok(())
}

/// From outside, the process that the state names is in namespaces that are not ours.
fn is_in_new(bench: &Bench<'_>, files: &[&str]) {
    bench.configure("exec sleep 1000", all_new);
    let container = bench.create("new");
    container.start();
    for file in files {
        assert_ne!(namespace(&container.pid.to_string(), file), namespace("self", file), "{file}");
    }
    container.end();
}

fn the_pid_of_the_state_is_in_the_new_namespaces(bench: &Bench<'_>) -> Verdict {
    is_in_new(bench, &["ipc", "mnt", "net", "pid", "user", "uts"]);
    Ok(())
}

fn the_pid_of_the_state_is_in_the_new_cgroup_namespace(bench: &Bench<'_>) -> Verdict {
    if std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains("nsdelegate") {
        let why =
            "cgroup namespaces are borders here, over which a sandbox that is inside could start no process";
        return Err(NotHere(why.into()));
    }
    is_in_new(bench, &["cgroup"]);
    Ok(())
}

fn a_namespace_that_is_not_listed_is_the_runtimes(bench: &Bench<'_>) -> Verdict {
    needs_root(
        "without root a container has a user namespace of its own, and may not mount the host's sysfs in it",
    )?;
    let change = |config: &mut Value| {
        config["linux"]["namespaces"] = json!([{ "type": "mount" }]);
        config.as_object_mut().unwrap().remove("hostname");
    };
    for (file, inside) in told(&bench.output(TELL, change)) {
        if file != "mnt" {
            assert_eq!(inside, namespace("self", file), "{file}");
        }
    }
    Ok(())
}

/// The checker compares all of them.
fn each_namespace_may_be_the_one_that_is_not_listed(bench: &Bench<'_>) -> Verdict {
    needs_root("without root what is mounted has to be of the container's own namespaces")?;
    for kind in ["cgroup", "ipc", "network", "pid", "uts"] {
        let seen = bench.output("echo $0", |config| {
            config["linux"]["namespaces"]
                .as_array_mut()
                .unwrap()
                .retain(|namespace| namespace["type"] != kind);
            if kind == "uts" {
                config.as_object_mut().unwrap().remove("hostname");
            }
        });
        assert_eq!(seen, "sh\n", "{kind}");
    }
    Ok(())
}

fn a_mount_namespace_that_is_not_listed_is_the_runtimes(bench: &Bench<'_>) -> Verdict {
    needs_root("the runtime is given a mount namespace to spoil")?;
    bench.configure("exec sleep 1000", |config| {
        let linux = config["linux"].as_object_mut().unwrap();
        linux["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "mount");
        // Runtimes refuse to mount these for others.
        linux.retain(|name, _| name != "maskedPaths" && name != "readonlyPaths");
    });
    // Not the host's: what the runtime mounts would stay there.
    bench.change_host(|host| drop(host["namespaces"].as_object_mut().unwrap().remove("mnt")));
    let created = bench.try_create_by("inherited", |create| {
        let mut command = bench.runtime.command_in_new_mounts();
        command.args(create.get_args().skip_while(|argument| *argument != "--root"));
        command.current_dir(bench.bundle()).stdin(bench.null());
        command
    });
    let container = created.unwrap_or_else(|said| panic!("create: {said}"));
    assert_eq!(namespace(&container.pid.to_string(), "mnt"), bench.read("namespace").trim_end());
    container.end();
    Ok(())
}

fn a_namespace_with_a_path_is_the_one_there(bench: &Bench<'_>) -> Verdict {
    needs_root("another's namespaces belong to its user namespace")?;
    for (kind, file, option) in [
        ("cgroup", "cgroup", "--cgroup"),
        ("ipc", "ipc", "--ipc"),
        ("network", "net", "--net"),
        ("pid", "pid", "--pid"),
        ("uts", "uts", "--uts"),
    ] {
        let other = Unshared::new(&[option]);
        let path = other.path(file);
        let seen = bench.output(TELL, |config| add_namespace(config, json!({ "type": kind, "path": path })));
        let there = std::fs::read_link(&path).unwrap().display().to_string();
        assert!(told(&seen).contains(&(file, there)), "{kind}: {seen}");
    }
    Ok(())
}

fn a_mount_namespace_with_a_path_is_the_one_there(bench: &Bench<'_>) -> Verdict {
    needs_root("another's namespaces belong to its user namespace")?;
    let other = Unshared::new(&["--mount"]);
    let path = other.path("mnt");
    bench.configure("exec sleep 1000", |config| {
        add_namespace(config, json!({ "type": "mount", "path": path }));
    });
    let container = bench.create("joined");
    let there = std::fs::read_link(&path).unwrap().display().to_string();
    assert_eq!(namespace(&container.pid.to_string(), "mnt"), there);
    container.end();
    Ok(())
}

fn a_path_of_another_type_is_an_error(bench: &Bench<'_>) -> Verdict {
    for (kind, wrong) in [
        ("cgroup", "ipc"),
        ("ipc", "mnt"),
        ("mount", "net"),
        ("network", "pid"),
        ("pid", "user"),
        ("user", "uts"),
        ("uts", "cgroup"),
    ] {
        let path = format!("/proc/{}/ns/{wrong}", std::process::id());
        bench.refuses_to_create(|config| add_namespace(config, json!({ "type": kind, "path": path })));
    }
    bench.refuses_to_create(|config| {
        add_namespace(config, json!({ "type": "ipc", "path": "/proc/self/status" }))
    });
    Ok(())
}

fn map_ids(config: &mut Value, first: u32) {
    add_namespace(config, json!({ "type": "user" }));
    for name in ["uidMappings", "gidMappings"] {
        config["linux"][name] = json!([{ "containerID": 0, "hostID": first, "size": 2000 }]);
    }
}

fn ids_are_mapped(bench: &Bench<'_>) -> Verdict {
    needs_root("any user may map one id; others take root, or helpers with a list of their own")?;
    let seen = bench.output("cat /proc/self/uid_map /proc/self/gid_map", |config| map_ids(config, 1000));
    let words: Vec<_> = seen.split_whitespace().collect();
    assert_eq!(words, ["0", "1000", "2000", "0", "1000", "2000"]);
    Ok(())
}

fn the_host_name_is_the_containers(bench: &Bench<'_>) -> Verdict {
    let seen = bench.output("hostname", |config| config["hostname"] = json!("hostname-specific"));
    assert_eq!(seen, "hostname-specific\n");
    // None is the runtime's own.
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_ne!(own, seen);
    Ok(())
}

fn kernel_parameters_are_set(bench: &Bench<'_>) -> Verdict {
    let seen = bench.output("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax", |config| {
        config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1", "kernel.msgmax": "4096" });
    });
    assert_eq!(seen, "1\n4096\n");
    Ok(())
}

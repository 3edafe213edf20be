//! The checker itself: that it finds what differs, whatever property it is.

use crate::conformance::bench::Bench;
use crate::conformance::checker;
use crate::conformance::runtime::Runtime;
use crate::kit::{in_own_process, is_root, skip};
use serde_json::{Value, json};

/// A change of the configuration after the container has it, and the beginnings of what the checker says then.
type Change = (&'static [&'static str], fn(&mut Value));

const CHANGES: &[Change] = &[
    (&["args: "], |config| config["process"]["args"][0] = json!("other")),
    (&["env: \"TERM=vt100\"", "env: \"PATH="], |config| config["process"]["env"] = json!(["TERM=vt100"])),
    (&["cwd: "], |config| config["process"]["cwd"] = json!("/tmp")),
    (&["user: process.user.uid", "user: process.user.additionalGids"], |config| {
        config["process"]["user"] = json!({ "uid": 1, "gid": 0, "additionalGids": [7] });
    }),
    (&["umask: "], |config| config["process"]["user"]["umask"] = json!(0o77)),
    (&["rlimits: RLIMIT_NOFILE.soft"], |config| config["process"]["rlimits"][0]["soft"] = json!(7)),
    (&["capabilities: bounding", "capabilities: effective"], |config| {
        config["process"]["capabilities"]["bounding"] = json!([]);
        config["process"]["capabilities"]["inheritable"] = json!([]);
    }),
    (&["capabilities: inheritable"], |config| {
        config["process"]["capabilities"]["inheritable"] = json!(["CAP_KILL"]);
    }),
    (&["capabilities: ambient"], |config| {
        config["process"]["capabilities"]["ambient"] = json!([]);
    }),
    (&["noNewPrivileges: "], |config| config["process"]["noNewPrivileges"] = json!(true)),
    (&["oomScoreAdj: "], |config| config["process"]["oomScoreAdj"] = json!(7)),
    (&["namespaces: uts"], |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "uts");
    }),
    (&["namespaces: time is the runtime's"], |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "time" }));
    }),
    (&["mappings: uidMappings"], |config| {
        config["linux"]["uidMappings"] = json!([{ "containerID": 3, "hostID": 4, "size": 5 }]);
    }),
    (&["names: hostname", "names: domainname"], |config| {
        config["hostname"] = json!("other");
        config["domainname"] = json!("other");
    }),
    (&["sysctl: kernel.msgmax"], |config| config["linux"]["sysctl"] = json!({ "kernel.msgmax": "4097" })),
    (&["root: "], |config| config["root"]["readonly"] = json!(true)),
    (&["propagation: "], |config| config["linux"]["rootfsPropagation"] = json!("shared")),
    (&["mounts: the source of /dev/shm"], |config| config["mounts"][3]["source"] = json!("other")),
    (&["mounts: /dev/mqueue has"], |config| config["mounts"][4]["options"] = json!(["ro"])),
    (&["mounts: size of /dev/shm"], |config| config["mounts"][3]["options"][4] = json!("size=8k")),
    (&["mounts: {\"destination\":\"/other\"", "mounts: sysfs sysfs at /sys is in no list"], |config| {
        config["mounts"][5]["destination"] = json!("/other");
    }),
    (&["mounts: /dev/pts comes before"], |config| config["mounts"].as_array_mut().unwrap().swap(2, 3)),
    (&["maskedPaths: /bin can be read", "maskedPaths: /bin/busybox can be read"], |config| {
        config["linux"]["maskedPaths"] = json!(["/bin", "/bin/busybox"]);
    }),
    (&["readonlyPaths: /tmp is not", "readonlyPaths: /tmp can be"], |config| {
        config["linux"]["readonlyPaths"] = json!(["/tmp"]);
    }),
    (
        &["devices: the type of /dev/null", "devices: the number of /dev/zero", "devices: /dev/none"],
        |config| {
            config["linux"]["devices"][0]["type"] = json!("b");
            config["linux"]["devices"][1]["minor"] = json!(7);
            config["linux"]["devices"][2]["path"] = json!("/dev/none");
        },
    ),
    (&["seccomp: getcwd", "seccomp: lseek", "seccomp: close_range"], |config| {
        config["linux"]["seccomp"]["syscalls"] = json!([
            { "names": ["getcwd"], "action": "SCMP_ACT_KILL" },
            { "names": ["close_range"], "action": "SCMP_ACT_ALLOW" },
        ]);
    }),
    (&["seccomp: the mode"], |config| config["linux"]["seccomp"] = Value::Null),
];

#[test]
fn the_checker_finds_each_property_that_differs() {
    let runtime = match Runtime::under_test().and_then(|runtime| checker::is_built().map(|()| runtime)) {
        Ok(runtime) => runtime,
        Err(reason) => skip!("{reason}"),
    };
    if !runtime.is_ours() && !is_root() {
        skip!("another runtime needs root for cgroups here");
    }
    if !in_own_process() {
        return;
    }
    let bench = Bench::new(&runtime);
    let checker = bench.program(&["true"]);
    let checker: Vec<_> = checker.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    // In one container, once for each change, given another directory with what to compare with.
    let commands =
        (0..CHANGES.len()).map(|index| checker.join(" ").replace("/checker true", &format!("/{index} true")));
    let script = commands.collect::<Vec<_>>().join("\n");
    let output = bench.output(&script, |config| {
        for (index, (_, change)) in CHANGES.iter().enumerate() {
            let mut other = config.clone();
            change(&mut other);
            let directory = bench.rootfs().join(index.to_string());
            std::fs::create_dir(&directory).unwrap();
            checker::write_facts(&directory, &other);
        }
    });
    let reports: Vec<Value> =
        output.lines().map(|line| serde_json::from_str(line).expect("a report")).collect();
    assert_eq!(reports.len(), CHANGES.len());
    for ((beginnings, _), report) in CHANGES.iter().zip(reports) {
        let faults: Vec<String> = serde_json::from_value(report["faults"].clone()).expect("a list of texts");
        for beginning in *beginnings {
            assert!(faults.iter().any(|fault| fault.starts_with(beginning)), "{beginning}: {faults:#?}");
        }
    }
}

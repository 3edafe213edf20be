//! `linux`, and what the caller may not ask for.

use crate::bad_input::Change::{Builder, Config};
use crate::bad_input::{Row, row, spec, unsupported};
use cofferdam::ErrorKind;
use cofferdam::builder::{DeviceNumber, IoLimit};
use serde_json::json;
use std::time::Duration;

pub(crate) fn rows_of_linux() -> Vec<Row> {
    vec![
        spec(
            Config(|| vec![("/linux/namespaces/-", json!({"type": "moon"}))]),
            "linux.namespaces[7].type",
            "config.json: linux.namespaces[7].type: unknown namespace type \"moon\" (known are mount, cgroup, uts, ipc, user, pid, network, time)",
        ),
        spec(
            Config(|| vec![("/linux/namespaces/-", json!({"type": "uts"}))]),
            "linux.namespaces[7].type",
            "config.json: linux.namespaces[7].type: uts appears twice",
        ),
        spec(
            Config(|| vec![("/linux/namespaces/3/path", json!("proc/1/ns/net"))]),
            "linux.namespaces[3].path",
            "config.json: linux.namespaces[3].path: \"proc/1/ns/net\" is relative (use an absolute path)",
        ),
        unsupported(
            Config(|| {
                let node = json!({"path": "/dev/null", "type": "c", "major": 1, "minor": 5});
                vec![("/linux/devices", json!([node]))]
            }),
            "linux.devices[0]",
            "linux.devices[0]: /dev/null is always the character device 1:3",
        ),
        unsupported(
            Config(|| vec![("/linux/namespaces/1/path", json!("/proc/1/ns/mnt"))]),
            "linux.namespaces",
            "linux.namespaces: no existing mount namespace can be entered from a new user namespace (add {\"type\": \"mount\"} without a path to linux.namespaces)",
        ),
        unsupported(
            Config(|| {
                vec![(
                    "/linux/namespaces",
                    json!([{"type": "user"}, {"type": "pid"}, {"type": "uts"}, {"type": "ipc"}]),
                )]
            }),
            "linux.namespaces",
            "linux.namespaces: the caller's mount namespace cannot be entered from another user namespace (add {\"type\": \"mount\"} without a path to linux.namespaces)",
        ),
        spec(
            Config(|| vec![("/linux/uidMappings", json!([]))]),
            "linux.uidMappings",
            "config.json: linux.uidMappings: is empty, and a new user namespace needs it",
        ),
        spec(
            Config(|| vec![("/linux/gidMappings/-", json!({"containerID": 0, "hostID": 9, "size": 2}))]),
            "linux.gidMappings[1].containerID",
            "config.json: linux.gidMappings[1].containerID: overlaps the range of entry 0",
        ),
        spec(
            Config(|| {
                vec![("/linux/uidMappings", json!([{"containerID": 1, "hostID": 0, "size": u32::MAX}]))]
            }),
            "linux.uidMappings[0].size",
            "config.json: linux.uidMappings[0].size: containerID plus size is above 4294967295",
        ),
        spec(
            Config(|| vec![("/hostname", json!("box")), ("/linux/namespaces/5", json!({"type": "mount"}))]),
            "linux.namespaces[5].type",
            "config.json: linux.namespaces[5].type: mount appears twice",
        ),
        spec(
            Config(|| {
                vec![
                    ("/hostname", json!("box")),
                    ("/linux/namespaces", json!([{"type": "user"}, {"type": "mount"}, {"type": "pid"}])),
                ]
            }),
            "hostname",
            "config.json: hostname: needs a uts namespace (add {\"type\": \"uts\"} to linux.namespaces)",
        ),
        spec(
            Builder(|builder, _| builder.hostname("h".repeat(65))),
            "hostname",
            "builder: hostname: is 65 bytes long, the limit is 64",
        ),
        spec(
            Config(|| vec![("/linux/sysctl", json!({"vm.swappiness": "1"}))]),
            "linux.sysctl[\"vm.swappiness\"]",
            "config.json: linux.sysctl[\"vm.swappiness\"]: is not namespaced (it would change the host)",
        ),
        spec(
            Config(|| vec![("/linux/sysctl", json!({"net.ipv4/../../kernel/panic": "1"}))]),
            "linux.sysctl[\"net.ipv4/../../kernel/panic\"]",
            "config.json: linux.sysctl[\"net.ipv4/../../kernel/panic\"]: has '/' in its name (separate the parts with dots)",
        ),
        spec(
            Config(|| vec![("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_MAYBE"}))]),
            "linux.seccomp.defaultAction",
            "config.json: linux.seccomp.defaultAction: unknown seccomp action \"SCMP_ACT_MAYBE\" (known are SCMP_ACT_KILL, SCMP_ACT_KILL_THREAD, SCMP_ACT_KILL_PROCESS, SCMP_ACT_TRAP, SCMP_ACT_ERRNO, SCMP_ACT_NOTIFY, SCMP_ACT_TRACE, SCMP_ACT_LOG, SCMP_ACT_ALLOW)",
        ),
        spec(
            Config(|| {
                let rule = json!({"names": ["read"], "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]});
                vec![("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}))]
            }),
            "linux.seccomp.syscalls[0].args[0].index",
            "config.json: linux.seccomp.syscalls[0].args[0].index: 6 is above 5",
        ),
        spec(
            Config(|| {
                let rule = json!({"names": ["read"], "action": "SCMP_ACT_NOTIFY"});
                vec![("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))]
            }),
            "linux.seccomp.syscalls[0].action",
            "config.json: linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY needs listenerPath",
        ),
        spec(
            Config(|| vec![("/linux/resources", json!({"memory": {"limit": -5}}))]),
            "linux.resources.memory.limit",
            "config.json: linux.resources.memory.limit: -5 is below -1",
        ),
        row(
            Builder(|builder, _| builder.cpu_limit(-1.0)),
            ErrorKind::InvalidInput,
            "ContainerBuilder::cpu_limit: -1 is not between 0.01 and 1000000 (to set no limit, leave the call out)",
        ),
        row(
            Builder(|builder, _| builder.cpu_limit(0.0)),
            ErrorKind::InvalidInput,
            "ContainerBuilder::cpu_limit: 0 is not between 0.01 and 1000000 (to set no limit, leave the call out)",
        ),
        row(
            Builder(|builder, _| builder.cpu_limit(0.001)),
            ErrorKind::InvalidInput,
            "ContainerBuilder::cpu_limit: 0.001 is not between 0.01 and 1000000 (to set no limit, leave the call out)",
        ),
        row(
            Builder(|builder, _| builder.cpu_limit(f64::INFINITY)),
            ErrorKind::InvalidInput,
            "ContainerBuilder::cpu_limit: inf is not between 0.01 and 1000000 (to set no limit, leave the call out)",
        ),
        row(
            Builder(|builder, _| builder.cpu_limit(f64::NAN)),
            ErrorKind::InvalidInput,
            "ContainerBuilder::cpu_limit: NaN is not between 0.01 and 1000000 (to set no limit, leave the call out)",
        ),
        row(
            Builder(|builder, _| builder.memory_limit(0)),
            ErrorKind::InvalidInput,
            "ContainerBuilder::memory_limit: must not be 0 (to set no limit, leave the call out)",
        ),
        row(
            Builder(|builder, _| builder.pids_limit(0)),
            ErrorKind::InvalidInput,
            "ContainerBuilder::pids_limit: must not be 0 (to set no limit, leave the call out)",
        ),
        row(
            Builder(|builder, _| builder.scratch(Some(0))),
            ErrorKind::InvalidInput,
            "ContainerBuilder::scratch: must not be 0 (to set no limit, leave the call out)",
        ),
        row(
            Builder(|builder, _| builder.tmpfs("/x", 0)),
            ErrorKind::InvalidInput,
            "ContainerBuilder::tmpfs: must not be 0 (to set no limit, leave the call out)",
        ),
        row(
            Builder(|builder, _| builder.pod_volume("v", "/x", Some(0))),
            ErrorKind::InvalidInput,
            "ContainerBuilder::pod_volume: must not be 0 (to set no limit, leave the call out)",
        ),
        row(
            Builder(|builder, _| builder.timeout(Duration::ZERO)),
            ErrorKind::InvalidInput,
            "ContainerBuilder::timeout: must not be 0 (to set no limit, leave the call out)",
        ),
        row(
            Builder(|builder, _| {
                let limit = IoLimit { writes: Some(0), ..IoLimit::default() };
                builder.io_limit(DeviceNumber { major: 8, minor: 0 }, limit)
            }),
            ErrorKind::InvalidInput,
            "ContainerBuilder::io_limit: must not be 0 (to set no limit, leave the call out)",
        ),
        spec(
            Builder(|builder, _| builder.memory_limit(5)),
            "linux.resources.memory.limit",
            "builder: memory_limit: 5 is below 4096 (the unit is bytes)",
        ),
        spec(
            Builder(|builder, _| builder.pids_limit(u64::MAX)),
            "linux.resources.pids.limit",
            "builder: pids_limit: 9223372036854775807 is above 4194304 (-1 is unlimited)",
        ),
        spec(
            Config(|| {
                vec![("/linux/resources", json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}))]
            }),
            "linux.resources.hugepageLimits[0].pageSize",
            "config.json: linux.resources.hugepageLimits[0].pageSize: \"3MB\" is not a page size \
             (write it as in 64KB, 2MB or 1GB)",
        ),
        spec(
            Config(|| vec![("/linux/resources", json!({"unified": {"../memory.high": "1"}}))]),
            "linux.resources.unified[\"../memory.high\"]",
            "config.json: linux.resources.unified[\"../memory.high\"]: is not a control file \
             (write it as in memory.high)",
        ),
        unsupported(
            Config(|| vec![("/linux/resources", json!({"unified": {"cgroup.procs": "1"}}))]),
            "linux.resources.unified[\"cgroup.procs\"]",
            "config.json: linux.resources.unified[\"cgroup.procs\"]: belongs to no controller",
        ),
        spec(
            Config(|| {
                let throttle = json!([{"major": 8, "minor": -7, "rate": 1}]);
                vec![("/linux/resources", json!({"blockIO": {"throttleReadBpsDevice": throttle}}))]
            }),
            "linux.resources.blockIO.throttleReadBpsDevice[0].minor",
            "config.json: linux.resources.blockIO.throttleReadBpsDevice[0].minor: -7 is not between 0 and 1048575",
        ),
        spec(
            Config(|| vec![("/linux/resources", json!({"memory": {"swappiness": 200}}))]),
            "linux.resources.memory.swappiness",
            "config.json: linux.resources.memory.swappiness: 200 is not between 0 and 100",
        ),
        spec(
            Config(|| vec![("/linux/resources", json!({"cpu": {"quota": 10000, "burst": 20000}}))]),
            "linux.resources.cpu.burst",
            "config.json: linux.resources.cpu.burst: 20000 is above quota, 10000",
        ),
        spec(
            Builder(|builder, _| builder.cgroups_path("/a/../../b")),
            "linux.cgroupsPath",
            "builder: cgroups_path: \"/a/../../b\" contains \"..\"",
        ),
        spec(
            Config(|| vec![("/hooks", json!({"prestart": [{"path": "bin/hook"}]}))]),
            "hooks.prestart[0].path",
            "config.json: hooks.prestart[0].path: \"bin/hook\" is relative (use an absolute path)",
        ),
    ]
}

/// What depends on the caller: refused unless it is privileged.
pub(crate) fn rows_of_the_caller() -> Vec<Row> {
    if rustix::process::geteuid().is_root() {
        return Vec::new();
    }
    vec![
        unsupported(
            Builder(|builder, _| builder.without_user_namespace()),
            "linux.namespaces",
            "linux.namespaces: no user namespace, and the caller is not privileged \
             (add a namespace of type \"user\" with mappings)",
        ),
        unsupported(
            Builder(|builder, _| {
                let others = [cofferdam::builder::IdMap { container: 0, host: 5, size: 9 }];
                builder.id_mappings(&others, &others)
            }),
            "linux.uidMappings",
            "linux.uidMappings: the caller may not map host ids 5 to 13 \
             (add a range to /etc/subuid, with newuidmap and newgidmap installed)",
        ),
    ]
}

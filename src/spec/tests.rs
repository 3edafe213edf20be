//! Which documents are accepted, which are refused with which words, and that none causes a panic.

mod random;
mod refusals;

use super::*;
use serde_json::Value;
use std::ffi::CString;

/// The output of `runc spec`.
const RUNC: &str = r#"{
  "ociVersion": "1.0.2-dev",
  "process": {
    "terminal": true,
    "user": {"uid": 0, "gid": 0},
    "args": ["sh"],
    "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
    "cwd": "/",
    "capabilities": {
      "bounding": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
      "effective": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
      "permitted": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
      "ambient": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
    },
    "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
    "noNewPrivileges": true
  },
  "root": {"path": "rootfs", "readonly": true},
  "hostname": "runc",
  "mounts": [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {
      "destination": "/dev",
      "type": "tmpfs",
      "source": "tmpfs",
      "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]
    },
    {
      "destination": "/dev/pts",
      "type": "devpts",
      "source": "devpts",
      "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
    },
    {
      "destination": "/dev/shm",
      "type": "tmpfs",
      "source": "shm",
      "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]
    },
    {
      "destination": "/dev/mqueue",
      "type": "mqueue",
      "source": "mqueue",
      "options": ["nosuid", "noexec", "nodev"]
    },
    {
      "destination": "/sys",
      "type": "sysfs",
      "source": "sysfs",
      "options": ["nosuid", "noexec", "nodev", "ro"]
    },
    {
      "destination": "/sys/fs/cgroup",
      "type": "cgroup",
      "source": "cgroup",
      "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]
    }
  ],
  "linux": {
    "resources": {"devices": [{"allow": false, "access": "rwm"}]},
    "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
    "maskedPaths": [
      "/proc/acpi",
      "/proc/asound",
      "/proc/kcore",
      "/proc/keys",
      "/proc/latency_stats",
      "/proc/timer_list",
      "/proc/timer_stats",
      "/proc/sched_debug",
      "/sys/firmware",
      "/proc/scsi"
    ],
    "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
  }
}"#;

/// The output of dockerd, shortened.
const DOCKER: &str = r#"{
  "ociVersion": "1.2.0",
  "process": {
    "user": {"uid": 0, "gid": 0, "additionalGids": [0, 10]},
    "args": ["docker-entrypoint.sh", "redis-server"],
    "env": ["PATH=/usr/local/bin:/usr/bin:/bin", "HOSTNAME=5f2c", "HOME=/root"],
    "cwd": "/data",
    "capabilities": {
      "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SYS_CHROOT"],
      "effective": ["CAP_CHOWN", "CAP_KILL", "CAP_SYS_CHROOT"],
      "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_SYS_CHROOT"]
    },
    "apparmorProfile": "",
    "oomScoreAdj": 0,
    "noNewPrivileges": false
  },
  "root": {"path": "/var/lib/docker/overlay2/1f/merged"},
  "hostname": "5f2c",
  "mounts": [
    {
      "destination": "/proc",
      "type": "proc",
      "source": "proc",
      "options": ["nosuid", "noexec", "nodev"]
    },
    {
      "destination": "/dev",
      "type": "tmpfs",
      "source": "tmpfs",
      "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]
    },
    {
      "destination": "/dev/pts",
      "type": "devpts",
      "source": "devpts",
      "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
    },
    {
      "destination": "/sys/fs/cgroup",
      "type": "cgroup",
      "source": "cgroup",
      "options": ["ro", "nosuid", "noexec", "nodev"]
    },
    {
      "destination": "/data",
      "type": "bind",
      "source": "/var/lib/docker/volumes/v/_data",
      "options": ["rbind"]
    },
    {
      "destination": "/etc/hosts",
      "type": "bind",
      "source": "/var/lib/docker/hosts",
      "options": ["rbind", "rprivate", "ro"]
    }
  ],
  "hooks": {
    "prestart": [
      {
        "path": "/proc/1234/exe",
        "args": ["libnetwork-setkey", "-exec-root=/var/run/docker", "5f2c", "9b1e"]
      }
    ]
  },
  "annotations": {"org.opencontainers.image.title": "redis"},
  "linux": {
    "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"},
    "resources": {
      "devices": [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"},
        {"allow": true, "type": "c", "major": 136, "minor": -1, "access": "rwm"}
      ],
      "memory": {"limit": 536870912, "reservation": 0, "swap": 1073741824, "disableOOMKiller": false},
      "cpu": {
        "shares": 0,
        "quota": 50000,
        "period": 100000,
        "realtimeRuntime": 0,
        "cpus": "0-1",
        "mems": ""
      },
      "pids": {"limit": 0},
      "blockIO": {"weight": 0, "weightDevice": []}
    },
    "cgroupsPath": "/docker/5f2c",
    "namespaces": [
      {"type": "mount"},
      {"type": "network"},
      {"type": "uts"},
      {"type": "pid"},
      {"type": "ipc"},
      {"type": "cgroup"}
    ],
    "devices": [
      {
        "path": "/dev/fuse",
        "type": "c",
        "major": 10,
        "minor": 229,
        "fileMode": 8630,
        "uid": 0,
        "gid": 0
      }
    ],
    "seccomp": {
      "defaultAction": "SCMP_ACT_ERRNO",
      "defaultErrnoRet": 1,
      "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
      "syscalls": [
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
        {
          "names": ["clone"],
          "action": "SCMP_ACT_ALLOW",
          "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}]
        },
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
      ]
    },
    "rootfsPropagation": "rprivate",
    "maskedPaths": ["/proc/asound", "/proc/kcore", "/sys/firmware"],
    "readonlyPaths": ["/proc/bus", "/proc/sys"]
  }
}"#;

fn check(document: &[u8]) -> Result<ValidSpec> {
    ValidSpec::new(&parse(document)?, Some(Path::new("/bundle")), Origin::ConfigJson)
}

fn patched(base: &str, patches: &[(&str, Value)]) -> Vec<u8> {
    let mut document: Value = serde_json::from_str(base).unwrap();
    for (pointer, value) in patches {
        patch(&mut document, pointer, value.clone());
    }
    serde_json::to_vec(&document).unwrap()
}

/// Puts `value` at a JSON pointer, making the objects on the way; an array takes it at the index, or at its end.
fn patch(document: &mut Value, pointer: &str, value: Value) {
    let mut place = document;
    for part in pointer.split('/').skip(1) {
        place = match place {
            Value::Array(elements) => {
                let index = part.parse().unwrap_or(elements.len());
                elements.resize(elements.len().max(index + 1), Value::Null);
                &mut elements[index]
            }
            object => &mut object[part],
        };
    }
    *place = value;
}

#[test]
fn a_document_of_runc_is_accepted() {
    let spec = check(RUNC.as_bytes()).unwrap();
    assert_eq!(spec.root_path, Path::new("/bundle/rootfs"));
    assert!(spec.root_readonly && spec.process.terminal && spec.process.no_new_privileges);
    assert_eq!(spec.process.args, [CString::new("sh").unwrap()]);
    let asked = CapSet::from_bits_retain(1 << 29 | 1 << 5 | 1 << 10);
    assert_eq!(spec.process.capabilities.effective, asked);
    // Without inheritable capabilities the kernel knows no ambient ones.
    assert_eq!(spec.process.capabilities.ambient, CapSet::empty());
    assert_eq!(spec.process.rlimits, [Rlimit { resource: libc::RLIMIT_NOFILE, soft: 1024, hard: 1024 }]);
    assert_eq!(spec.hostname.as_deref(), Some("runc"));
    assert_eq!(spec.namespaces.pid, NamespaceSource::New);
    assert_eq!(spec.namespaces.user, NamespaceSource::Inherit);
    assert!(spec.resources.is_empty() && spec.resources.devices.len() == 1);
    assert_eq!(spec.masked_paths.len(), 10);
    let dev = &spec.mounts[1];
    assert_eq!(dev.kind, MountKind::Tmpfs { options: vec!["mode=755".into(), "size=65536k".into()] });
    assert_eq!(dev.set, MountAttrs::NOSUID | MountAttrs::STRICTATIME);
    assert_eq!(spec.mounts[6].kind, MountKind::Cgroup);
}

#[test]
fn capabilities_that_the_kernel_does_not_grant_are_dropped() {
    let sets = serde_json::json!({
        "bounding": ["CAP_KILL", "CAP_FLY", "CAP_CHOWN"], "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "inheritable": ["CAP_CHOWN"], "ambient": ["CAP_FLY", "CAP_KILL", "CAP_CHOWN", "CAP_SYS_ADMIN"],
    });
    let found = check(&patched(RUNC, &[("/process/capabilities", sets)])).unwrap().process.capabilities;
    let (chown, kill) = (CapSet::from_bits_retain(1), CapSet::from_bits_retain(1 << 5));
    assert_eq!((found.bounding, found.permitted, found.ambient), (chown | kill, chown | kill, chown));
}

#[test]
fn a_builder_is_told_of_ambient_capabilities_that_are_not_granted() {
    let ambient =
        serde_json::json!({ "permitted": ["CAP_KILL"], "inheritable": [], "ambient": ["CAP_KILL"] });
    let patches = [("/process/capabilities", ambient), ("/root/path", "/r".into())];
    let spec = parse(&patched(RUNC, &patches)).unwrap();
    let error = ValidSpec::new(&spec, None, Origin::Builder).unwrap_err();
    assert_eq!(error.to_string(), "builder: process.capabilities.ambient: CAP_KILL is not in inheritable");
}

#[test]
fn a_process_without_a_user_is_roots() {
    for user in [Value::Null, serde_json::json!({}), serde_json::json!({ "uid": null, "umask": 18 })] {
        let spec = check(&patched(RUNC, &[("/process/user", user)])).unwrap();
        assert_eq!((spec.process.user.uid, spec.process.user.gid), (0, 0));
    }
}

#[test]
fn a_process_to_execute_is_read_as_that_of_a_configuration() {
    let text = br#"{"args": ["x"], "cwd": "/", "scheduler": {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
        "capabilities": {"bounding": ["CAP_FLY", "CAP_KILL"]}}"#;
    let process = parse_process(text).unwrap();
    assert_eq!(process.user().uid(), 0);
    assert_eq!(process.scheduler().as_ref().unwrap().flags().as_ref().unwrap().len(), 1);
    assert_eq!(process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().len(), 1);
    let refused = |text: &str| parse_process(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(refused(r#"{"args": ["x"]}"#), "exec: process.cwd: is missing");
    assert_eq!(
        refused(r#"{"args": [7], "cwd": "/"}"#),
        "exec: process.args[0]: expected a string, found a number"
    );
    assert_eq!(refused("[]"), "exec: process: expected an object, found an array");
    assert_eq!(refused(""), "exec: is empty");
}

#[test]
fn a_document_of_docker_is_accepted() {
    let spec = check(DOCKER.as_bytes()).unwrap();
    assert_eq!(spec.resources.memory.limit, Some(512 << 20));
    assert_eq!(spec.resources.memory.reservation, None);
    assert_eq!(spec.resources.cpu.shares, None);
    assert_eq!(spec.resources.cpu.quota, Some(50_000));
    assert_eq!(spec.resources.cpu.mems, None);
    assert_eq!(spec.resources.pids_limit, None);
    assert_eq!(
        spec.resources.devices[2],
        DeviceRule {
            allow: true,
            kind: DeviceRuleKind::Char,
            major: Some(136),
            minor: None,
            access: DeviceAccess::all()
        }
    );
    assert_eq!(spec.devices[0].mode, 0o666);
    assert_eq!(spec.cgroups_path, Some(CgroupsPath::Path("/docker/5f2c".into())));
    assert_eq!(spec.hooks.prestart[0].args[0], "libnetwork-setkey");
    assert_eq!(spec.sysctl.len(), 2);
    let hosts = &spec.mounts[5];
    assert_eq!(hosts.kind, MountKind::Bind { source: "/var/lib/docker/hosts".into(), recursive: true });
    assert_eq!((hosts.set, hosts.propagation), (MountAttrs::RDONLY, Some(Propagation::RPrivate)));
}

#[test]
fn unknown_properties_and_those_of_other_platforms_are_ignored() {
    let extra = [("/windows", 7.into()), ("/vendor", "x".into()), ("/process/vendor", Value::Null)];
    check(&patched(RUNC, &extra)).unwrap();
}

#[test]
fn the_last_of_two_variables_wins_at_the_place_of_the_first() {
    let env = ["A=1", "B=2", "A=3"].map(Value::from).to_vec();
    let spec = check(&patched(RUNC, &[("/process/env", env.into())])).unwrap();
    assert_eq!(spec.process.env, ["A=3", "B=2"].map(|text| CString::new(text).unwrap()));
}

#[test]
fn the_last_of_two_mount_options_wins() {
    let mount = |options: &[&str]| {
        let mount = serde_json::json!({
            "destination": "/m//./n/", "type": "tmpfs", "source": "src", "options": options
        });
        check(&patched(RUNC, &[("/mounts", vec![mount].into())])).unwrap().mounts.remove(0)
    };
    let plain = mount(&["ro", "rw", "noatime", "strictatime", "dev", "nodev", "defaults", "nofail"]);
    assert_eq!(plain.destination, Path::new("/m/n"));
    assert_eq!((plain.set, plain.clear), (MountAttrs::STRICTATIME | MountAttrs::NODEV, MountAttrs::RDONLY));
    assert_eq!(mount(&["noatime", "relatime"]).set, MountAttrs::empty());
    // The option makes it a bind, whatever the type says.
    let bind = mount(&["bind", "rro", "rslave", "rrelatime"]);
    assert_eq!(bind.kind, MountKind::Bind { source: "/bundle/src".into(), recursive: false });
    assert_eq!(bind.set_recursive, MountAttrs::RDONLY);
    assert_eq!(bind.clear_recursive, MountAttrs::NOATIME | MountAttrs::STRICTATIME);
    assert!(mount(&["tmpcopyup"]).tmpcopyup);
}

#[test]
fn a_joined_user_namespace_brings_its_own_mappings() {
    let patches = [
        ("/linux/namespaces/-", serde_json::json!({"type": "user", "path": "/proc/7/ns/user"})),
        ("/linux/uidMappings", serde_json::json!([{"containerID": 0, "hostID": 0, "size": 1}])),
        ("/process/user/uid", 1000.into()),
    ];
    assert_eq!(check(&patched(RUNC, &patches)).unwrap().id_maps, IdMaps::default());
}

#[test]
fn every_version_from_1_0_0_to_below_2_is_accepted() {
    for version in ["1.0.0", "1.0.0-rc5", "1.0.2-dev", "1.2.1+build", "1.99.0"] {
        check(&patched(RUNC, &[("/ociVersion", version.into())])).unwrap();
    }
}

#[test]
fn a_relative_root_needs_a_bundle() {
    let spec = parse(RUNC.as_bytes()).unwrap();
    let error = ValidSpec::new(&spec, None, Origin::Builder).unwrap_err();
    assert_eq!(error.to_string(), "builder: root.path: \"rootfs\" is relative (use an absolute path)");
}

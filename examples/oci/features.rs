//! The verb features (OCI features.md): tries every word that the types of a configuration know, and lists those that
//! the crate accepts.

use super::failure::{Done, Failure};
use super::words::words;
use cofferdam::checkpoint::Criu;
use cofferdam::oci::{OCI_VERSIONS, check_config, mount_options};
use cofferdam::oci_spec::runtime::{
    Arch, Hooks, LinuxNamespaceType, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator,
    MemoryPolicyFlagType, MemoryPolicyModeType,
};
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;

/// Whether this program was built with the client for systemd.
const SYSTEMD: bool = cfg!(feature = "systemd");

pub(crate) fn print() -> Done {
    let features = serde_json::to_string_pretty(&features()?).unwrap_or_default();
    println!("{features}");
    Ok(ExitCode::SUCCESS)
}

fn features() -> Result<Value, Failure> {
    if !supports(|_| {}) {
        return Err("features: the minimal configuration is not supported".into());
    }
    let mut options: Vec<_> = mount_options().collect();
    options.sort_unstable();
    let hooks = words::<Hooks>()
        .into_iter()
        .filter(|hook| supports(|config| config["hooks"] = json!({ *hook: [{ "path": "/bin/true" }] })));
    let namespaces = words::<LinuxNamespaceType>().into_iter().filter(|kind| {
        supports(|config| {
            config["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": kind }]);
            if *kind == "mount" {
                config["linux"]["namespaces"] = json!([{ "type": "mount" }]);
            }
            if *kind == "user" {
                let map = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
                config["linux"]["uidMappings"] = map.clone();
                config["linux"]["gidMappings"] = map;
            }
        })
    });
    let map = json!([{ "containerID": 0, "hostID": 1, "size": 1 }]);
    let mapped = json!([{ "destination": "/x", "source": "/x", "options": ["bind", "idmap"],
        "uidMappings": map, "gidMappings": map }]);
    let kernel = |key: &str, value: Value| supports(|config| config["linux"][key] = value.clone());
    let process = |key: &str| supports(|config| config["process"][key] = json!("x"));
    Ok(json!({
        "ociVersionMin": OCI_VERSIONS.0,
        "ociVersionMax": OCI_VERSIONS.1,
        "hooks": hooks.collect::<Vec<_>>(),
        "mountOptions": options,
        "linux": {
            "namespaces": namespaces.collect::<Vec<_>>(),
            "capabilities": capabilities(),
            "cgroup": { "v1": true, "v2": true, "systemd": SYSTEMD, "systemdUser": SYSTEMD, "rdma": kernel(
                "resources",
                json!({ "rdma": { "mlx": { "hcaHandles": 1 } } }),
            ) },
            "seccomp": seccomp_features(),
            "apparmor": { "enabled": process("apparmorProfile") },
            "selinux": { "enabled": process("selinuxLabel") },
            "intelRdt": { "enabled": kernel("intelRdt", json!({ "closID": "x" })) },
            "mountExtensions": {
                "idmap": { "enabled": supports(|config| config["mounts"] = mapped) },
            },
            "memoryPolicy": memory_policy_features(),
            "netDevices": { "enabled": supports(|config| {
                config["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "network" }]);
                config["linux"]["netDevices"] = json!({ "eth0": {} });
            }) },
        },
        "annotations": {
            "dev.cofferdam.version": env!("CARGO_PKG_VERSION"),
            // As runc names it, for programs that ask runc.
            "org.opencontainers.runc.checkpoint.enabled": Criu::find().is_ok().to_string(),
        },
    }))
}

/// Whether the crate accepts a minimal configuration with this change.
fn supports(change: impl FnOnce(&mut Value)) -> bool {
    let mut config = json!({
        "ociVersion": "1.2.0",
        "root": { "path": "/x" },
        "process": { "args": ["x"], "cwd": "/", "user": { "uid": 0, "gid": 0 } },
        "linux": { "namespaces": [{ "type": "mount" }] },
    });
    change(&mut config);
    check_config(config.to_string().as_bytes(), Path::new("/x")).is_ok()
}

/// The capabilities that a configuration may name.
fn capabilities() -> Vec<String> {
    let names = caps::all().into_iter().map(|capability| capability.to_string());
    let known =
        |name: &String| supports(|config| config["process"]["capabilities"] = json!({ "bounding": [name] }));
    let mut names: Vec<_> = names.filter(known).collect();
    names.sort_unstable();
    names
}

fn memory_policy_features() -> Value {
    let accepted = |policy: Value| supports(|config| config["linux"]["memoryPolicy"] = policy);
    // Some modes apply to all nodes; the others require a list.
    let mode =
        |mode: &&str| accepted(json!({ "mode": mode })) || accepted(json!({ "mode": mode, "nodes": "0" }));
    let flag = |flag: &&str| accepted(json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": [flag] }));
    json!({
        "modes": words::<MemoryPolicyModeType>().into_iter().filter(mode).collect::<Vec<_>>(),
        "flags": words::<MemoryPolicyFlagType>().into_iter().filter(flag).collect::<Vec<_>>(),
    })
}

fn seccomp_features() -> Value {
    let compiles = |profile: Value| supports(|config| config["linux"]["seccomp"] = profile);
    let rule = |action: &str, args: Value| {
        let call = json!([{ "names": ["mkdirat"], "action": action, "args": args }]);
        json!({ "defaultAction": "SCMP_ACT_LOG", "listenerPath": "/x", "syscalls": call })
    };
    let only = |words: Vec<&'static str>, probe: &dyn Fn(&str) -> Value| -> Vec<&'static str> {
        words.into_iter().filter(|word| compiles(probe(word))).collect()
    };
    let operator = |op: &str| rule("SCMP_ACT_ERRNO", json!([{ "index": 0, "value": 1, "op": op }]));
    // Leave out the alias for the machine's architecture: the specification does not have it.
    let architectures = words::<Arch>().into_iter().filter(|word| *word != "SCMP_ARCH_NATIVE").collect();
    let flags = only(
        words::<LinuxSeccompFilterFlag>(),
        &|flag| json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": [flag] }),
    );
    json!({
        "enabled": compiles(rule("SCMP_ACT_ERRNO", json!([]))),
        "actions": only(words::<LinuxSeccompAction>(), &|action| rule(action, json!([]))),
        "operators": only(words::<LinuxSeccompOperator>(), &operator),
        "archs": only(architectures, &|arch| {
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": [arch] })
        }),
        "knownFlags": flags,
        "supportedFlags": flags,
    })
}

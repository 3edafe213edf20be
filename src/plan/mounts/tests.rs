//! Mounts for hosts that exist only as values.

use super::*;
use crate::host::cgroups::CgroupLayout;
use crate::host::facts::{IdRange, SecurityModules, ServiceManager};
use crate::id::QualifiedId;
use crate::plan::Plan;
use crate::spec::{Origin, parse};

fn valid(mount_entry: &str) -> Result<ValidSpec> {
    let document = format!(
        r#"{{"ociVersion": "1.2.0", "root": {{"path": "/r"}},
            "process": {{"args": ["x"], "cwd": "/", "user": {{"uid": 0, "gid": 0}}}},
            "mounts": [{mount_entry}],
            "linux": {{"namespaces": [{{"type": "mount"}}]}}}}"#
    );
    ValidSpec::new(&parse(document.as_bytes())?, None, Origin::ConfigJson)
}

/// Root, on a host with these hierarchies.
fn host(cgroups: CgroupLayout) -> Host {
    Host {
        euid: 0,
        egid: 0,
        privileged: true,
        in_user_namespace: false,
        container_uids: IdRange::FOR_CONTAINERS,
        container_gids: IdRange::FOR_CONTAINERS,
        subuids: None,
        subgids: None,
        cgroups,
        service_manager: ServiceManager::NotAsked,
        lsms: SecurityModules::default(),
        system_dirs: Vec::new(),
        resolver: None,
    }
}

/// The steps of one cgroup mount of type `kind` on a host with these hierarchies.
fn cgroup_steps(kind: &str, mountinfo: &str, membership: &str) -> Result<Vec<TreeStep>> {
    let spec = valid(&format!(r#"{{"destination": "/cg", "type": "{kind}", "options": ["ro"]}}"#))?;
    let host = host(CgroupLayout::parse(mountinfo, membership));
    let plan = Plan::new(QualifiedId { id: &"c".parse()?, root: 0 }, &spec, &Extras::default(), &host)?;
    let steps = plan.sandbox.init.tree.into_iter();
    Ok(steps.filter(|step| step.at.starts_with("cg")).collect())
}

#[test]
fn root_of_a_user_namespace_makes_no_device_nodes() {
    let spec = valid(r#"{"destination": "/dev", "type": "tmpfs"}"#).unwrap();
    let nodes_made = |host: &Host| {
        let plan =
            Plan::new(QualifiedId { id: &"c".parse().unwrap(), root: 0 }, &spec, &Extras::default(), host)
                .unwrap();
        let sources = plan.sandbox.init.tree.into_iter().map(|step| step.source);
        let devices = sources.filter_map(|source| match source {
            StepSource::Node(node) => Some(vec![node]),
            StepSource::Devices { nodes, .. } => Some(nodes),
            _ => None,
        });
        devices.flatten().filter(|node| node.handed.is_none()).count()
    };
    let root = host(CgroupLayout::default());
    assert_ne!(nodes_made(&root), 0);
    assert_eq!(nodes_made(&Host { in_user_namespace: true, ..root }), 0);
}

const V1: &str = "30 1 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                  31 1 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
const V2: &str = "32 1 0:32 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";

#[test]
fn controllers_that_share_a_hierarchy_have_links_to_it() {
    let steps = cgroup_steps("cgroup", V1, "2:cpu,cpuacct:/\n1:memory:/").unwrap();
    let link = |name: &str| {
        let step = steps.iter().find(|step| step.at == Path::new("cg").join(name));
        step.map(|step| step.source.clone())
    };
    assert_eq!(link("cpu"), Some(StepSource::Symlink("cpu,cpuacct".into())));
    assert_eq!(link("cpuacct"), Some(StepSource::Symlink("cpu,cpuacct".into())));
    assert!(matches!(link("cpu,cpuacct"), Some(StepSource::MountBatch(_))));
    assert!(matches!(link("memory"), Some(StepSource::MountBatch(_))), "and one of its own is no link");
    assert!(matches!(steps.first().unwrap().source, StepSource::Tmpfs { .. }));
    assert_eq!(steps.last().unwrap().source, StepSource::ReadOnly);
}

#[test]
fn one_hierarchy_is_one_mount_and_none_is_an_error() {
    for kind in ["cgroup", "cgroup2"] {
        let steps = cgroup_steps(kind, V2, "0::/").unwrap();
        assert!(
            matches!(steps[..], [TreeStep { source: StepSource::MountBatch(_), .. }]),
            "{kind}: {steps:?}"
        );
        let error = cgroup_steps(kind, "", "").unwrap_err();
        assert_eq!(error.to_string(), "mounts[0].type: no such hierarchy is mounted on this host");
    }
    cgroup_steps("cgroup2", V1, "2:cpu,cpuacct:/").unwrap_err();
}

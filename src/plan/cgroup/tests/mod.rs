//! Plans of cgroups for hosts that exist only as values.

mod devices;
mod limits;
mod points;

use super::*;
use crate::error::ErrorKind;
use crate::host::cgroups::{CgroupType, DelegationPoint, V1Hierarchy};
use crate::id::ContainerId;
use crate::spec::{CpuLimits, MemoryLimits, NetworkClass};
use std::sync::LazyLock;

fn id() -> QualifiedId<'static> {
    static ID: LazyLock<ContainerId> = LazyLock::new(|| ContainerId::new("job-1").unwrap());
    QualifiedId { id: &ID, root: 0xf00d }
}

fn v1_host() -> CgroupLayout {
    let hierarchy = |controllers: &str, own: &str| V1Hierarchy {
        controllers: controllers.split(',').map(str::to_owned).collect(),
        mountpoint: format!("/cg/{controllers}").into(),
        own: own.into(),
        writable: true,
    };
    let v1 = vec![
        hierarchy("memory", "/agent"),
        hierarchy("cpu,cpuacct", "/"),
        hierarchy("cpuset", "/"),
        hierarchy("pids", "/"),
        hierarchy("freezer", "/"),
        hierarchy("devices", "/"),
    ];
    CgroupLayout { v1, unified: None }
}

/// A cgroup without processes, where its owner may do everything.
fn point(dir: &str, controllers: &str, enabled: &str) -> DelegationPoint {
    let list = |text: &str| text.split_ascii_whitespace().map(str::to_owned).collect();
    DelegationPoint {
        dir: dir.into(),
        kind: CgroupType::Domain,
        controllers: list(controllers),
        enabled: list(enabled),
        populated: false,
        may_make: true,
        may_move: true,
        may_enable: true,
    }
}

/// Root, in a cgroup below a top that has `controllers` and gives `enabled` to all below.
fn v2_host(own: &str, controllers: &str, enabled: &str) -> CgroupLayout {
    let mut unified = UnifiedHierarchy {
        mountpoint: "/cg".into(),
        own: own.into(),
        bound_by_namespaces: false,
        points: Vec::new(),
    };
    let dirs = unified.point_dirs().map(|dir| dir.to_str().unwrap().to_owned());
    unified.points = dirs.map(|dir| point(&dir, enabled, enabled)).collect();
    unified.points[0].populated = true;
    unified.points[0].enabled.clear();
    let top = unified.points.last_mut().unwrap();
    *top = DelegationPoint {
        kind: CgroupType::Root,
        populated: true,
        ..point("/cg", controllers, &top.enabled.join(" "))
    };
    CgroupLayout { v1: Vec::new(), unified: Some(unified) }
}

/// The same hosts for a caller who may write nothing.
fn closed(mut layout: CgroupLayout) -> CgroupLayout {
    for hierarchy in &mut layout.v1 {
        hierarchy.writable = false;
    }
    for point in layout.unified.iter_mut().flat_map(|unified| &mut unified.points) {
        (point.may_make, point.may_move, point.may_enable) = (false, false, false);
    }
    layout
}

fn everything() -> Resources {
    Resources {
        memory: MemoryLimits {
            limit: Some(1 << 20),
            reservation: Some(1 << 19),
            swap: Some(3 << 20),
            ..MemoryLimits::default()
        },
        cpu: CpuLimits {
            shares: Some(1024),
            quota: Some(50_000),
            period: Some(200_000),
            cpus: Some("0-1".into()),
            ..CpuLimits::default()
        },
        pids_limit: Some(64),
        ..Resources::default()
    }
}

fn pids(limit: u64) -> Resources {
    Resources { pids_limit: Some(limit), ..Resources::default() }
}

/// A plan as text: directories in order, each write indented below its own.
fn show(plan: &CgroupPlan) -> Vec<String> {
    let mut lines = Vec::new();
    for dir in plan.branches.iter().flat_map(|branch| &branch.dirs) {
        lines.push(format!("{:?} {}", dir.role, dir.path.display()));
        for write in &dir.writes {
            let value = match &write.value {
                Value::Text(text) => text.clone(),
                Value::TextIfPresent(text) => format!("{text} if present"),
                Value::Either { text, otherwise: (file, other) } => format!("{text}, or {file} = {other}"),
                Value::FromParent => "from parent".into(),
                Value::Program { required, .. } => format!("a program, required: {required}"),
                Value::Enable { required, observed } => format!("+{required:?} ?{observed:?}"),
            };
            lines.push(format!("  {} = {value}", write.file));
        }
    }
    lines
}

/// The writes of a plan into the container's own directories, without those directories.
fn writes(resources: &Resources, layout: &CgroupLayout) -> Vec<String> {
    let mut plan = plan(resources, None, id(), layout, false).unwrap();
    for branch in &mut plan.branches {
        let own = branch.dirs.pop();
        branch.dirs = own.into_iter().collect();
    }
    let lines =
        show(&plan).into_iter().filter(|line| line.starts_with(' ') && !line.contains("subtree_control"));
    lines.map(|line| line.trim().to_owned()).collect()
}

fn v1_host_with(controllers: &str) -> CgroupLayout {
    let mut layout = v1_host();
    let controllers = controllers.split(' ').map(|controller| V1Hierarchy {
        controllers: vec![controller.to_owned()],
        mountpoint: format!("/cg/{controller}").into(),
        own: "/".into(),
        writable: true,
    });
    layout.v1.extend(controllers);
    layout
}

fn v2_host_with_all() -> CgroupLayout {
    let all = "cpuset cpu io memory hugetlb pids rdma misc";
    v2_host("/", all, all)
}

fn refused(resources: &Resources, layout: &CgroupLayout) -> (ErrorKind, String) {
    let error = plan(resources, None, id(), layout, false).unwrap_err();
    (error.kind().clone(), error.to_string())
}

#[test]
fn nothing_asked_for_costs_nothing_on_any_host() {
    for layout in [v1_host(), CgroupLayout::default()] {
        assert!(plan(&Resources::default(), None, id(), &layout, false).unwrap().is_empty());
    }
    let zero =
        MemoryLimits { limit: Some(0), reservation: Some(0), swap: Some(0), ..MemoryLimits::default() };
    let zero = Resources { memory: zero, ..Resources::default() };
    assert!(plan(&zero, None, id(), &v1_host(), false).unwrap().is_empty());
}

#[test]
fn a_place_to_freeze_is_one_directory_on_v1() {
    let freezing =
        |resources: &Resources, layout: &CgroupLayout| plan(resources, None, id(), layout, true).unwrap();
    let alone = freezing(&Resources::default(), &v1_host());
    assert_eq!(show(&alone), ["Base /cg/freezer", "Container /cg/freezer/cofferdam-job-1-0000f00d"]);
    assert_eq!(alone.leaves(), [Path::new("/cg/freezer/cofferdam-job-1-0000f00d")]);
    assert!(alone.branches[0].optional);
    let limited = freezing(&pids(9), &v1_host());
    assert_eq!(
        show(&limited),
        [
            "Base /cg/pids",
            "Sandbox /cg/pids/cofferdam-job-1-0000f00d",
            "  pids.max = 137",
            "Container /cg/pids/cofferdam-job-1-0000f00d/container",
            "  pids.max = 9",
            "Base /cg/freezer",
            "Container /cg/freezer/cofferdam-job-1-0000f00d"
        ]
    );
    assert!(!limited.branches[0].optional && limited.branches[1].optional);
    let mut hybrid = v1_host();
    hybrid.unified = v2_host("/", "hugetlb", "hugetlb").unified;
    assert_eq!(freezing(&Resources::default(), &hybrid), alone);
}

#[test]
fn a_place_to_freeze_is_in_the_unified_hierarchy_where_v1_has_no_freezer() {
    let freezing = |layout: &CgroupLayout| plan(&Resources::default(), None, id(), layout, true).unwrap();
    let expected = [
        "Base /cg/user",
        "Outer /cg/user/cofferdam-job-1-0000f00d",
        "Sandbox /cg/user/cofferdam-job-1-0000f00d/sandbox",
        "Container /cg/user/cofferdam-job-1-0000f00d/container",
    ];
    let mut layout = v2_host("/user/session", "cpu memory pids", "pids");
    assert_eq!(show(&freezing(&layout)), expected);
    layout.v1 = v1_host().v1;
    layout.v1.retain(|hierarchy| hierarchy.controllers != ["freezer"]);
    assert_eq!(show(&freezing(&layout)), expected);
    assert!(freezing(&CgroupLayout::default()).is_empty());
    assert!(freezing(&closed(layout)).is_empty());
}

#[test]
fn to_count_takes_cgroups_without_limits_where_they_can_be_made() {
    let counting = |resources: &Resources, layout: &CgroupLayout| {
        let plan = plan(resources, None, id(), layout, true).unwrap();
        let plan = plan.with_accounting(None, id(), layout).unwrap();
        assert!(plan.branches.iter().all(|branch| branch.optional || branch.field.contains("pids")));
        show(&plan)
    };
    let rest = [
        "Base /cg/freezer",
        "Container /cg/freezer/cofferdam-job-1-0000f00d",
        "Base /cg/memory/agent",
        "Sandbox /cg/memory/agent/cofferdam-job-1-0000f00d",
        "Container /cg/memory/agent/cofferdam-job-1-0000f00d/container",
        "Base /cg/cpu,cpuacct",
        "Container /cg/cpu,cpuacct/cofferdam-job-1-0000f00d",
    ];
    let pids_at = |limits: &[&'static str; 2]| {
        let dirs = [
            "Sandbox /cg/pids/cofferdam-job-1-0000f00d",
            "Container /cg/pids/cofferdam-job-1-0000f00d/container",
        ];
        let dirs = dirs.into_iter().zip(limits).flat_map(|(dir, limit)| [dir, *limit]);
        let dirs = ["Base /cg/pids"].into_iter().chain(dirs.filter(|line| !line.is_empty()));
        dirs.chain(rest).collect::<Vec<_>>()
    };
    assert_eq!(counting(&Resources::default(), &v1_host()), pids_at(&["", ""]));
    assert_eq!(counting(&pids(9), &v1_host()), pids_at(&["  pids.max = 137", "  pids.max = 9"]));
    assert!(counting(&Resources::default(), &closed(v1_host())).is_empty());
    // The freezer's branch moves to where the controllers can be.
    let enable = "  cgroup.subtree_control = +[] ?[\"memory\", \"pids\"]";
    assert_eq!(
        counting(&Resources::default(), &v2_host("/user/session", "cpuset memory pids", "pids")),
        [
            "Base /cg",
            enable,
            "Outer /cg/cofferdam-job-1-0000f00d",
            enable,
            "Sandbox /cg/cofferdam-job-1-0000f00d/sandbox",
            "Container /cg/cofferdam-job-1-0000f00d/container"
        ]
    );
}

#[test]
fn limits_that_bring_a_place_to_freeze_get_no_second_one() {
    let v2 = v2_host("/", "pids", "pids");
    let named = Some(Path::new("/pod/app"));
    for (layout, path) in [(&v2, None), (&v2, named), (&v1_host(), named)] {
        let [without, with] = [false, true].map(|freeze| plan(&pids(9), path, id(), layout, freeze).unwrap());
        assert_eq!(with, without);
    }
}

#[test]
fn on_v1_only_the_hierarchies_with_limits_are_used() {
    let plan = plan(&pids(9), None, id(), &v1_host(), false).unwrap();
    assert_eq!(
        show(&plan),
        [
            "Base /cg/pids",
            "Sandbox /cg/pids/cofferdam-job-1-0000f00d",
            "  pids.max = 137",
            "Container /cg/pids/cofferdam-job-1-0000f00d/container",
            "  pids.max = 9",
        ]
    );
    assert_eq!(plan.leaves(), [Path::new("/cg/pids/cofferdam-job-1-0000f00d")]);
}

#[test]
fn on_v1_every_limit_is_spelled_in_the_order_the_kernel_needs() {
    let plan = plan(&everything(), None, id(), &v1_host(), false).unwrap();
    assert_eq!(
        show(&plan),
        [
            "Base /cg/pids",
            "Sandbox /cg/pids/cofferdam-job-1-0000f00d",
            "  pids.max = 192",
            "Container /cg/pids/cofferdam-job-1-0000f00d/container",
            "  pids.max = 64",
            "Base /cg/memory/agent",
            "Sandbox /cg/memory/agent/cofferdam-job-1-0000f00d",
            "  memory.limit_in_bytes = 34603008",
            "  memory.memsw.limit_in_bytes = 36700160",
            "Container /cg/memory/agent/cofferdam-job-1-0000f00d/container",
            "  memory.limit_in_bytes = 1048576",
            "  memory.memsw.limit_in_bytes = 3145728",
            "  memory.soft_limit_in_bytes = 524288",
            "Base /cg/cpu,cpuacct",
            "Container /cg/cpu,cpuacct/cofferdam-job-1-0000f00d",
            "  cpu.shares = 1024",
            "  cpu.cfs_period_us = 200000",
            "  cpu.cfs_quota_us = 50000",
            "Base /cg/cpuset",
            "Container /cg/cpuset/cofferdam-job-1-0000f00d",
            "  cpuset.cpus = 0-1",
            "  cpuset.mems = from parent",
        ]
    );
}

#[test]
fn on_v1_a_named_place_is_also_joined_for_statistics_and_freezing() {
    let resources = Resources {
        cpu: CpuLimits { mems: Some("0".into()), ..CpuLimits::default() },
        ..Resources::default()
    };
    let plan = plan(&resources, Some(Path::new("/pod/app")), id(), &v1_host(), false).unwrap();
    assert_eq!(
        show(&plan),
        [
            "Base /cg/pids",
            "Ancestor /cg/pids/pod",
            "Sandbox /cg/pids/pod/app",
            "Container /cg/pids/pod/app/container",
            "Base /cg/memory",
            "Ancestor /cg/memory/pod",
            "Sandbox /cg/memory/pod/app",
            "Container /cg/memory/pod/app/container",
            "Base /cg/cpu,cpuacct",
            "Ancestor /cg/cpu,cpuacct/pod",
            "Sandbox /cg/cpu,cpuacct/pod/app",
            "Base /cg/cpuset",
            "Ancestor /cg/cpuset/pod",
            "  cpuset.cpus = from parent",
            "  cpuset.mems = from parent",
            "Container /cg/cpuset/pod/app",
            "  cpuset.cpus = from parent",
            "  cpuset.mems = 0",
            "Base /cg/freezer",
            "Ancestor /cg/freezer/pod",
            "Sandbox /cg/freezer/pod/app",
            "Container /cg/freezer/pod/app/container",
        ]
    );
}

#[test]
fn on_v2_limits_are_those_of_the_containers_own_cgroup_and_leave_room_above() {
    let layout = v2_host("/", "cpuset cpu io memory pids", "cpuset cpu io memory pids");
    let plan = plan(&everything(), None, id(), &layout, false).unwrap();
    assert_eq!(
        show(&plan),
        [
            "Base /cg",
            "  cgroup.subtree_control = +[\"memory\", \"cpu\", \"cpuset\", \"pids\"] ?[]",
            "Outer /cg/cofferdam-job-1-0000f00d",
            "  memory.max = 34603008",
            "  pids.max = 192",
            "  cgroup.subtree_control = +[\"memory\", \"cpu\", \"cpuset\", \"pids\"] ?[]",
            "Sandbox /cg/cofferdam-job-1-0000f00d/sandbox",
            "Container /cg/cofferdam-job-1-0000f00d/container",
            "  memory.max = 1048576",
            "  memory.swap.max = 2097152",
            "  memory.low = 524288",
            "  cpu.weight = 100",
            "  cpu.max = 50000 200000",
            "  cpuset.cpus = 0-1",
            "  pids.max = 64",
        ]
    );
}

#[test]
fn on_v2_a_caller_in_a_cgroup_gets_a_sibling_with_what_its_parent_enabled() {
    let layout = v2_host("/user/session", "cpu memory pids", "pids");
    let sibling = plan(&pids(9), None, id(), &layout, false).unwrap();
    assert_eq!(
        show(&sibling),
        [
            "Base /cg/user",
            "Outer /cg/user/cofferdam-job-1-0000f00d",
            "  pids.max = 137",
            "  cgroup.subtree_control = +[\"pids\"] ?[]",
            "Sandbox /cg/user/cofferdam-job-1-0000f00d/sandbox",
            "Container /cg/user/cofferdam-job-1-0000f00d/container",
            "  pids.max = 9",
        ]
    );
}

#[test]
fn on_v2_a_named_place_has_its_controllers_enabled_from_the_top() {
    let layout = v2_host("/user/session", "cpu memory pids", "pids");
    let plan = plan(&pids(9), Some(Path::new("/pod/app")), id(), &layout, false).unwrap();
    assert_eq!(
        show(&plan),
        [
            "Base /cg",
            "  cgroup.subtree_control = +[\"pids\"] ?[\"memory\", \"cpu\"]",
            "Ancestor /cg/pod",
            "  cgroup.subtree_control = +[\"pids\"] ?[\"memory\", \"cpu\"]",
            "Outer /cg/pod/app",
            "  pids.max = 137",
            "  cgroup.subtree_control = +[\"pids\"] ?[\"memory\", \"cpu\"]",
            "Sandbox /cg/pod/app/sandbox",
            "Container /cg/pod/app/container",
            "  pids.max = 9",
        ]
    );
}

#[test]
fn in_a_hybrid_layout_each_controller_is_found_where_it_is() {
    let mut layout = v1_host();
    layout.v1.retain(|hierarchy| hierarchy.controllers != ["pids"]);
    layout.unified = v2_host("/", "hugetlb", "hugetlb").unified;
    let error = plan(&pids(9), None, id(), &layout, false).unwrap_err();
    assert!(
        error.to_string().starts_with("linux.resources.pids.limit: the pids controller is not available")
    );
    layout.unified = v2_host("/", "pids", "pids").unified;
    let plan = plan(&everything(), None, id(), &layout, false).unwrap();
    assert_eq!(plan.branches.last().unwrap().hierarchy, Hierarchy::V2);
    assert_eq!(plan.branches.len(), 4);
}

#[test]
fn what_the_host_cannot_do_is_refused_by_field() {
    let refused = |layout: &CgroupLayout| {
        let error = plan(&pids(9), None, id(), layout, false).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Unsupported { feature: "linux.resources.pids.limit".into() });
        error.to_string()
    };
    assert_eq!(
        refused(&CgroupLayout::default()),
        "linux.resources.pids.limit: no cgroup hierarchy is mounted"
    );
    let mut layout = v1_host();
    layout.v1.retain(|hierarchy| hierarchy.controllers != ["pids"]);
    assert_eq!(
        refused(&layout),
        "linux.resources.pids.limit: the pids controller is not available: no cgroup hierarchy has it"
    );
    assert_eq!(
        refused(&closed(v1_host())),
        "linux.resources.pids.limit: no cgroup can be made: the caller may not write in \"/cg/pids\" (leave out limits, as best_effort_limits does, and linux.cgroupsPath, or have a cgroup delegated to this user)"
    );
}

#[test]
fn only_the_v1_hierarchies_that_are_asked_for_must_be_writable() {
    let mut layout = v1_host_with("net_cls");
    layout.v1.last_mut().unwrap().writable = false;
    assert_eq!(plan(&pids(9), None, id(), &layout, false).unwrap().leaves().len(), 1);
    let network = NetworkClass { class_id: Some(1), ..NetworkClass::default() };
    let (kind, message) = refused(&Resources { network, ..pids(9) }, &layout);
    assert_eq!(kind, ErrorKind::Unsupported { feature: "linux.resources.network.classID".into() });
    assert!(message.contains("the caller may not write in \"/cg/net_cls\""), "{message}");
}

#[test]
fn a_path_that_is_not_plain_is_refused() {
    for path in ["../x", "/a/../b", "/", "", "a\nb", &"x".repeat(256)] {
        let error = plan(&Resources::default(), Some(Path::new(path)), id(), &v1_host(), false).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::InvalidSpec { path: "linux.cgroupsPath".into() }, "{path:?}");
    }
}

#[test]
fn the_longest_ids_still_name_distinct_cgroups() {
    let ids = ["a", "b"].map(|end| ContainerId::new("x".repeat(254) + end).unwrap());
    let [a, b] = [&ids[0], &ids[1]].map(|id| default_name(QualifiedId { id, root: 1 }));
    assert_eq!(a.len(), place::MAX_NAME);
    assert_ne!(a, b);
    assert_ne!(a, default_name(QualifiedId { id: &ids[0], root: 2 }));
    assert_eq!(default_name(id()), "cofferdam-job-1-0000f00d");
}

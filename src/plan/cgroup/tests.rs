//! What is planned, for hosts that are only described.

mod devices;
mod points;

use super::*;
use crate::error::ErrorKind;
use crate::host::cgroups::CgroupType;
use crate::spec::{
    BlockIo, CpuLimits, DeviceNumber, DeviceWeight, HugepageLimit, InterfacePriority, MemoryLimits,
    NetworkClass, RdmaLimit, Throttle, UnifiedValue,
};

fn id() -> ContainerId {
    ContainerId::new("job-1").unwrap()
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

#[test]
fn nothing_asked_for_costs_nothing_on_any_host() {
    for layout in [v1_host(), CgroupLayout::default()] {
        assert!(plan(&Resources::default(), None, &id(), &layout, false).unwrap().is_empty());
    }
    let zero =
        MemoryLimits { limit: Some(0), reservation: Some(0), swap: Some(0), ..MemoryLimits::default() };
    let zero = Resources { memory: zero, ..Resources::default() };
    assert!(plan(&zero, None, &id(), &v1_host(), false).unwrap().is_empty());
}

#[test]
fn a_place_to_freeze_is_one_directory_on_v1() {
    let freezing =
        |resources: &Resources, layout: &CgroupLayout| plan(resources, None, &id(), layout, true).unwrap();
    let alone = freezing(&Resources::default(), &v1_host());
    assert_eq!(show(&alone), ["Base /cg/freezer", "Container /cg/freezer/cofferdam-job-1"]);
    assert_eq!(alone.leaves(), [Path::new("/cg/freezer/cofferdam-job-1")]);
    assert!(alone.branches[0].optional);
    let limited = freezing(&pids(9), &v1_host());
    assert_eq!(
        show(&limited),
        [
            "Base /cg/pids",
            "Sandbox /cg/pids/cofferdam-job-1",
            "  pids.max = 9",
            "Base /cg/freezer",
            "Container /cg/freezer/cofferdam-job-1"
        ]
    );
    assert!(!limited.branches[0].optional && limited.branches[1].optional);
    let mut hybrid = v1_host();
    hybrid.unified = v2_host("/", "hugetlb", "hugetlb").unified;
    assert_eq!(freezing(&Resources::default(), &hybrid), alone);
}

#[test]
fn a_place_to_freeze_is_in_the_unified_hierarchy_where_v1_has_no_freezer() {
    let freezing = |layout: &CgroupLayout| plan(&Resources::default(), None, &id(), layout, true).unwrap();
    let expected =
        ["Base /cg/user", "Sandbox /cg/user/cofferdam-job-1", "Container /cg/user/cofferdam-job-1/container"];
    let mut layout = v2_host("/user/session", "cpu memory pids", "pids");
    assert_eq!(show(&freezing(&layout)), expected);
    layout.v1 = v1_host().v1;
    layout.v1.retain(|hierarchy| hierarchy.controllers != ["freezer"]);
    assert_eq!(show(&freezing(&layout)), expected);
    assert!(freezing(&CgroupLayout::default()).is_empty());
    assert!(freezing(&closed(layout)).is_empty());
}

#[test]
fn limits_that_bring_a_place_to_freeze_get_no_second_one() {
    let v2 = v2_host("/", "pids", "pids");
    let named = Some(Path::new("/pod/app"));
    for (layout, path) in [(&v2, None), (&v2, named), (&v1_host(), named)] {
        let [without, with] =
            [false, true].map(|freeze| plan(&pids(9), path, &id(), layout, freeze).unwrap());
        assert_eq!(with, without);
    }
}

#[test]
fn on_v1_only_the_hierarchies_with_limits_are_used() {
    let plan = plan(&pids(9), None, &id(), &v1_host(), false).unwrap();
    assert_eq!(show(&plan), ["Base /cg/pids", "Sandbox /cg/pids/cofferdam-job-1", "  pids.max = 9"]);
    assert_eq!(plan.leaves(), [Path::new("/cg/pids/cofferdam-job-1")]);
}

#[test]
fn on_v1_every_limit_is_spelled_in_the_order_the_kernel_needs() {
    let plan = plan(&everything(), None, &id(), &v1_host(), false).unwrap();
    assert_eq!(
        show(&plan),
        [
            "Base /cg/pids",
            "Sandbox /cg/pids/cofferdam-job-1",
            "  pids.max = 64",
            "Base /cg/memory/agent",
            "Sandbox /cg/memory/agent/cofferdam-job-1",
            "  memory.limit_in_bytes = 1048576",
            "  memory.memsw.limit_in_bytes = 3145728",
            "  memory.soft_limit_in_bytes = 524288",
            "Base /cg/cpu,cpuacct",
            "Sandbox /cg/cpu,cpuacct/cofferdam-job-1",
            "  cpu.shares = 1024",
            "  cpu.cfs_period_us = 200000",
            "  cpu.cfs_quota_us = 50000",
            "Base /cg/cpuset",
            "Sandbox /cg/cpuset/cofferdam-job-1",
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
    let plan = plan(&resources, Some(Path::new("/pod/app")), &id(), &v1_host(), false).unwrap();
    assert_eq!(
        show(&plan),
        [
            "Base /cg/pids",
            "Ancestor /cg/pids/pod",
            "Sandbox /cg/pids/pod/app",
            "Base /cg/memory",
            "Ancestor /cg/memory/pod",
            "Sandbox /cg/memory/pod/app",
            "Base /cg/cpu,cpuacct",
            "Ancestor /cg/cpu,cpuacct/pod",
            "Sandbox /cg/cpu,cpuacct/pod/app",
            "Base /cg/cpuset",
            "Ancestor /cg/cpuset/pod",
            "  cpuset.cpus = from parent",
            "  cpuset.mems = from parent",
            "Sandbox /cg/cpuset/pod/app",
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
fn on_v2_limits_sit_above_the_containers_own_cgroup() {
    let layout = v2_host("/", "cpuset cpu io memory pids", "cpuset cpu io memory pids");
    let plan = plan(&everything(), None, &id(), &layout, false).unwrap();
    assert_eq!(
        show(&plan),
        [
            "Base /cg",
            "  cgroup.subtree_control = +[\"memory\", \"cpu\", \"cpuset\", \"pids\"] ?[]",
            "Sandbox /cg/cofferdam-job-1",
            "  memory.max = 1048576",
            "  memory.swap.max = 2097152",
            "  memory.low = 524288",
            "  cpu.weight = 100",
            "  cpu.max = 50000 200000",
            "  cpuset.cpus = 0-1",
            "  pids.max = 64",
            "Container /cg/cofferdam-job-1/container",
        ]
    );
}

#[test]
fn on_v2_a_caller_in_a_cgroup_gets_a_sibling_with_what_its_parent_enabled() {
    let layout = v2_host("/user/session", "cpu memory pids", "pids");
    let sibling = plan(&pids(9), None, &id(), &layout, false).unwrap();
    assert_eq!(
        show(&sibling),
        [
            "Base /cg/user",
            "Sandbox /cg/user/cofferdam-job-1",
            "  pids.max = 9",
            "Container /cg/user/cofferdam-job-1/container"
        ]
    );
}

#[test]
fn on_v2_a_named_place_has_its_controllers_enabled_from_the_top() {
    let layout = v2_host("/user/session", "cpu memory pids", "pids");
    let plan = plan(&pids(9), Some(Path::new("/pod/app")), &id(), &layout, false).unwrap();
    assert_eq!(
        show(&plan),
        [
            "Base /cg",
            "  cgroup.subtree_control = +[\"pids\"] ?[\"memory\", \"cpu\"]",
            "Ancestor /cg/pod",
            "  cgroup.subtree_control = +[\"pids\"] ?[\"memory\", \"cpu\"]",
            "Sandbox /cg/pod/app",
            "  pids.max = 9",
            "Container /cg/pod/app/container",
        ]
    );
}

#[test]
fn unlimited_and_moot_values_need_no_swap_accounting() {
    let write = |limit, swap, layout: &CgroupLayout| {
        let memory = MemoryLimits {
            limit: Some(limit),
            swap: Some(swap),
            reservation: Some(-1),
            ..MemoryLimits::default()
        };
        let resources = Resources { memory, ..Resources::default() };
        show(&plan(&resources, None, &id(), layout, false).unwrap())
            .into_iter()
            .filter(|line| line.contains("memory."))
            .filter(|line| line.starts_with("  memory"))
            .map(|line| line.trim().to_owned())
            .collect::<Vec<_>>()
    };
    let v2 = v2_host("/", "memory", "memory");
    assert_eq!(
        write(-1, -1, &v1_host()),
        [
            "memory.limit_in_bytes = -1",
            "memory.memsw.limit_in_bytes = -1 if present",
            "memory.soft_limit_in_bytes = -1"
        ]
    );
    assert_eq!(
        write(-1, -1, &v2),
        ["memory.max = max", "memory.swap.max = max if present", "memory.low = max"]
    );
    assert_eq!(write(4096, 4096, &v1_host())[1], "memory.memsw.limit_in_bytes = 4096 if present");
    assert_eq!(write(4096, 4096, &v2)[1], "memory.swap.max = 0 if present");
}

#[test]
fn in_a_hybrid_layout_each_controller_is_found_where_it_is() {
    let mut layout = v1_host();
    layout.v1.retain(|hierarchy| hierarchy.controllers != ["pids"]);
    layout.unified = v2_host("/", "hugetlb", "hugetlb").unified;
    let error = plan(&pids(9), None, &id(), &layout, false).unwrap_err();
    assert!(
        error.to_string().starts_with("linux.resources.pids.limit: the pids controller is not available")
    );
    layout.unified = v2_host("/", "pids", "pids").unified;
    let plan = plan(&everything(), None, &id(), &layout, false).unwrap();
    assert_eq!(plan.branches.last().unwrap().hierarchy, Hierarchy::V2);
    assert_eq!(plan.branches.len(), 4);
}

#[test]
fn what_the_host_cannot_do_is_refused_by_field() {
    let refused = |layout: &CgroupLayout| {
        let error = plan(&pids(9), None, &id(), layout, false).unwrap_err();
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
        "linux.resources.pids.limit: no cgroup can be made: the caller may not write in \"/cg/pids\" (leave out limits and linux.cgroupsPath, or have a cgroup delegated to this user)"
    );
}

#[test]
fn only_the_v1_hierarchies_that_are_asked_for_must_be_writable() {
    let mut layout = v1_host_with("net_cls");
    layout.v1.last_mut().unwrap().writable = false;
    assert_eq!(plan(&pids(9), None, &id(), &layout, false).unwrap().leaves().len(), 1);
    let network = NetworkClass { class_id: Some(1), ..NetworkClass::default() };
    let (kind, message) = refused(&Resources { network, ..pids(9) }, &layout);
    assert_eq!(kind, ErrorKind::Unsupported { feature: "linux.resources.network.classID".into() });
    assert!(message.contains("the caller may not write in \"/cg/net_cls\""), "{message}");
}

#[test]
fn a_path_that_is_not_plain_is_refused() {
    for path in ["../x", "/a/../b", "/", "", "a\nb", &"x".repeat(256)] {
        let error = plan(&Resources::default(), Some(Path::new(path)), &id(), &v1_host(), false).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::InvalidSpec { path: "linux.cgroupsPath".into() }, "{path:?}");
    }
}

#[test]
fn swap_without_a_memory_limit_is_refused() {
    let memory = MemoryLimits { swap: Some(4096), ..MemoryLimits::default() };
    let resources = Resources { memory, ..Resources::default() };
    let error = plan(&resources, None, &id(), &v1_host(), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "config.json: linux.resources.memory.swap: is set without a memory limit (set linux.resources.memory.limit too)"
    );
}

/// The writes of a plan, without its directories.
fn writes(resources: &Resources, layout: &CgroupLayout) -> Vec<String> {
    let plan = plan(resources, None, &id(), layout, false).unwrap();
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
    let error = plan(resources, None, &id(), layout, false).unwrap_err();
    (error.kind().clone(), error.to_string())
}

fn memory(memory: MemoryLimits) -> Resources {
    Resources { memory, ..Resources::default() }
}

fn cpu(cpu: CpuLimits) -> Resources {
    Resources { cpu, ..Resources::default() }
}

fn block_io(block_io: BlockIo) -> Resources {
    Resources { block_io, ..Resources::default() }
}

fn unified(values: &[(&str, &str)]) -> Resources {
    let value = |(file, value): &(&str, &str)| UnifiedValue { file: (*file).into(), value: (*value).into() };
    Resources { unified: values.iter().map(value).collect(), ..Resources::default() }
}

#[test]
fn what_only_v1_has_a_file_for_is_written_there_and_refused_by_name_on_v2() {
    let network = |class_id, priorities| Resources {
        network: NetworkClass { class_id, priorities },
        ..Resources::default()
    };
    let priority = InterfacePriority { interface: "eth0".into(), priority: 5 };
    let layout = v1_host_with("net_cls net_prio blkio");
    for (resources, field, expected) in [
        (
            memory(MemoryLimits { swappiness: Some(0), ..MemoryLimits::default() }),
            "linux.resources.memory.swappiness",
            "memory.swappiness = 0",
        ),
        (
            memory(MemoryLimits { disable_oom_killer: true, ..MemoryLimits::default() }),
            "linux.resources.memory.disableOOMKiller",
            "memory.oom_control = 1",
        ),
        (
            cpu(CpuLimits { realtime_runtime: Some(5000), ..CpuLimits::default() }),
            "linux.resources.cpu.realtimeRuntime",
            "cpu.rt_runtime_us = 5000",
        ),
        (
            cpu(CpuLimits { realtime_period: Some(9000), ..CpuLimits::default() }),
            "linux.resources.cpu.realtimePeriod",
            "cpu.rt_period_us = 9000",
        ),
        (
            block_io(BlockIo { leaf_weight: Some(100), ..BlockIo::default() }),
            "linux.resources.blockIO.leafWeight",
            "blkio.leaf_weight = 100",
        ),
        (network(Some(7), Vec::new()), "linux.resources.network.classID", "net_cls.classid = 7"),
        (network(None, vec![priority]), "linux.resources.network.priorities", "net_prio.ifpriomap = eth0 5"),
    ] {
        assert_eq!(writes(&resources, &layout), [expected]);
        let (kind, message) = refused(&resources, &v2_host_with_all());
        assert_eq!(kind, ErrorKind::Unsupported { feature: field.into() });
        let why = "cgroup v2 has no file for it, and no cgroup v1 hierarchy here has its controller";
        assert_eq!(message, format!("{field}: {why}"));
    }
}

#[test]
fn a_burst_follows_its_quota_and_being_idle_comes_last() {
    let resources = cpu(CpuLimits {
        shares: Some(1024),
        quota: Some(50_000),
        burst: Some(20_000),
        idle: true,
        ..CpuLimits::default()
    });
    assert_eq!(
        writes(&resources, &v1_host()),
        ["cpu.shares = 1024", "cpu.cfs_quota_us = 50000", "cpu.cfs_burst_us = 20000", "cpu.idle = 1"]
    );
    assert_eq!(
        writes(&resources, &v2_host_with_all()),
        ["cpu.weight = 100", "cpu.max = 50000 100000", "cpu.max.burst = 20000", "cpu.idle = 1"]
    );
}

#[test]
fn block_devices_are_weighed_and_throttled_one_line_each() {
    let device = DeviceNumber { major: 8, minor: 16 };
    let throttle = |rate| vec![Throttle { device, rate }];
    let resources = block_io(BlockIo {
        weight: Some(1000),
        weight_devices: vec![DeviceWeight { device, weight: Some(10), leaf_weight: None }],
        read_bps: throttle(1 << 20),
        write_bps: throttle(0),
        read_iops: throttle(30),
        write_iops: throttle(40),
        ..BlockIo::default()
    });
    assert_eq!(
        writes(&resources, &v1_host_with("blkio")),
        [
            "blkio.weight = 1000, or blkio.bfq.weight = 1000",
            "blkio.weight_device = 8:16 10, or blkio.bfq.weight_device = 8:16 10",
            "blkio.throttle.read_bps_device = 8:16 1048576",
            "blkio.throttle.write_bps_device = 8:16 0",
            "blkio.throttle.read_iops_device = 8:16 30",
            "blkio.throttle.write_iops_device = 8:16 40",
        ]
    );
    assert_eq!(
        writes(&resources, &v2_host_with_all()),
        [
            "io.bfq.weight = 1000, or io.weight = 10000",
            "io.bfq.weight = 8:16 10, or io.weight = 8:16 1",
            "io.max = 8:16 rbps=1048576",
            "io.max = 8:16 wbps=max",
            "io.max = 8:16 riops=30",
            "io.max = 8:16 wiops=40",
        ]
    );
}

#[test]
fn huge_pages_are_limited_in_use_and_where_possible_reserved() {
    let limit = HugepageLimit { page_size: "2MB".into(), limit: 4 << 20 };
    let resources = Resources { hugepages: vec![limit], ..Resources::default() };
    assert_eq!(
        writes(&resources, &v1_host_with("hugetlb")),
        ["hugetlb.2MB.limit_in_bytes = 4194304", "hugetlb.2MB.rsvd.limit_in_bytes = 4194304 if present"]
    );
    let v2 = ["hugetlb.2MB.max = 4194304", "hugetlb.2MB.rsvd.max = 4194304 if present"];
    assert_eq!(writes(&resources, &v2_host_with_all()), v2);
    let mut hybrid = v1_host();
    hybrid.unified = v2_host("/", "hugetlb", "hugetlb").unified;
    assert_eq!(writes(&resources, &hybrid), v2);
}

#[test]
fn rdma_has_one_file_in_both_versions() {
    let limit = |device: &str, hca_handles, hca_objects| RdmaLimit {
        device: device.into(),
        hca_handles,
        hca_objects,
    };
    let rdma = vec![limit("mlx4_0", Some(2), Some(2000)), limit("ocrdma1", Some(3), None)];
    let resources = Resources { rdma, ..Resources::default() };
    let expected = ["rdma.max = mlx4_0 hca_handle=2 hca_object=2000", "rdma.max = ocrdma1 hca_handle=3"];
    assert_eq!(writes(&resources, &v1_host_with("rdma")), expected);
    assert_eq!(writes(&resources, &v2_host_with_all()), expected);
    assert_eq!(
        refused(&resources, &v1_host()).1,
        "linux.resources.rdma: the rdma controller is not available: no cgroup hierarchy has it"
    );
}

#[test]
fn files_named_by_the_configuration_are_written_last_and_their_controllers_enabled() {
    let named = unified(&[("io.latency", "8:0 target=9"), ("memory.high", "9"), ("memory.max", "max")]);
    let resources = Resources {
        unified: named.unified,
        ..memory(MemoryLimits { limit: Some(1 << 20), ..MemoryLimits::default() })
    };
    let planned = plan(&resources, None, &id(), &v2_host_with_all(), false).unwrap();
    assert_eq!(
        show(&planned),
        [
            "Base /cg",
            "  cgroup.subtree_control = +[\"memory\", \"io\"] ?[]",
            "Sandbox /cg/cofferdam-job-1",
            "  memory.max = 1048576",
            "  io.latency = 8:0 target=9",
            "  memory.high = 9",
            "  memory.max = max",
            "Container /cg/cofferdam-job-1/container",
        ]
    );
}

#[test]
fn files_named_by_the_configuration_are_those_of_v2_and_no_other() {
    let resources = unified(&[("memory.high", "9")]);
    let field = "linux.resources.unified[\"memory.high\"]";
    let (kind, message) = refused(&resources, &v1_host());
    assert_eq!(kind, ErrorKind::Unsupported { feature: field.into() });
    let why = "cgroup v1 has no file for it, and no cgroup v2 hierarchy here has its controller";
    assert_eq!(message, format!("{field}: {why}"));
    let mut hybrid = v1_host();
    hybrid.unified = v2_host("/", "hugetlb", "hugetlb").unified;
    for layout in [&hybrid, &v2_host("/", "hugetlb", "hugetlb")] {
        assert!(
            refused(&resources, layout).1.starts_with(&format!(
                "{field}: the memory controller is not available: cgroup v2 at \"/cg\" without it in \
                 cgroup.controllers"
            )),
            "{:?}",
            refused(&resources, layout)
        );
    }
    let huge = unified(&[("hugetlb.2MB.max", "0")]);
    assert_eq!(writes(&huge, &hybrid), ["hugetlb.2MB.max = 0"]);
}

#[test]
fn the_longest_ids_still_name_distinct_cgroups() {
    let [a, b] = ["a", "b"].map(|end| ContainerId::new("x".repeat(254) + end).unwrap());
    assert_eq!(default_name(&a).len(), place::MAX_NAME);
    assert_ne!(default_name(&a), default_name(&b));
    assert_eq!(default_name(&id()), "cofferdam-job-1");
}

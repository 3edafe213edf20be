//! How each version of the interface spells a limit, and what it refuses.

use super::*;
use crate::spec::{
    BlockIo, DeviceNumber, DeviceWeight, HugepageLimit, InterfacePriority, RdmaLimit, Throttle, UnifiedValue,
};

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
    let planned = plan(&resources, None, id(), &v2_host_with_all(), false).unwrap();
    assert_eq!(
        show(&planned),
        [
            "Base /cg",
            "  cgroup.subtree_control = +[\"memory\", \"io\"] ?[]",
            "Outer /cg/cofferdam-job-1-0000f00d",
            "  memory.max = 34603008",
            "  memory.max = max",
            "  cgroup.subtree_control = +[\"memory\", \"io\"] ?[]",
            "Sandbox /cg/cofferdam-job-1-0000f00d/sandbox",
            "Container /cg/cofferdam-job-1-0000f00d/container",
            "  memory.max = 1048576",
            "  io.latency = 8:0 target=9",
            "  memory.high = 9",
            "  memory.max = max",
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
fn unlimited_and_moot_values_need_no_swap_accounting() {
    let write = |limit, swap, layout: &CgroupLayout| {
        let memory = MemoryLimits {
            limit: Some(limit),
            swap: Some(swap),
            reservation: Some(-1),
            ..MemoryLimits::default()
        };
        let resources = Resources { memory, ..Resources::default() };
        writes(&resources, layout)
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
fn swap_without_a_memory_limit_is_refused() {
    let memory = MemoryLimits { swap: Some(4096), ..MemoryLimits::default() };
    let resources = Resources { memory, ..Resources::default() };
    let error = plan(&resources, None, id(), &v1_host(), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "config.json: linux.resources.memory.swap: is set without a memory limit (set linux.resources.memory.limit too)"
    );
}

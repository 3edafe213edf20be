//! Changing limits of a container that exists: what is in the kernel's files afterwards, and on the record.

use crate::kit::limits::{disk, kernel};
use crate::kit::{Stage, may_limit, skip, stage, start};
use cofferdam::builder::DeviceNumber;
use cofferdam::info::Info;
use cofferdam::oci_spec::runtime::{
    LinuxBlockIoBuilder, LinuxCpu, LinuxCpuBuilder, LinuxDeviceCgroupBuilder, LinuxMemory,
    LinuxMemoryBuilder, LinuxPids, LinuxPidsBuilder, LinuxResources,
};
use cofferdam::{AnyContainer, Container, ErrorKind, Exec, Running};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

const PIDS: &[&str] = &["pids.max"];
const MEMORY: &[&str] = &["memory.limit_in_bytes", "memory.max"];
const QUOTA: &[&str] = &["cpu.cfs_quota_us", "cpu.max"];

fn pids(limit: i64) -> LinuxPids {
    LinuxPidsBuilder::default().limit(limit).build().unwrap()
}

fn memory(limit: i64) -> LinuxMemory {
    LinuxMemoryBuilder::default().limit(limit).build().unwrap()
}

fn quota(quota: i64) -> LinuxCpu {
    LinuxCpuBuilder::default().quota(quota).build().unwrap()
}

fn resources(memory: Option<LinuxMemory>, cpu: Option<LinuxCpu>, pids: Option<LinuxPids>) -> LinuxResources {
    let mut resources = LinuxResources::default();
    resources.set_memory(memory).set_cpu(cpu).set_pids(pids);
    resources
}

/// All that is on the record.
fn recorded_whole(container: &Container<Running>) -> (Info, String) {
    (container.info(), container.config().to_owned())
}

/// The limits on the record, as JSON.
fn recorded(container: &Container<Running>) -> serde_json::Value {
    let spec: serde_json::Value = serde_json::from_str(container.config()).unwrap();
    spec["linux"]["resources"].clone()
}

fn limited(stage: &Stage, name: &str) -> Container<Running> {
    let builder = stage.container(name).args(["sleep", "1000"]);
    start(builder.memory_limit(64 << 20).pids_limit(50).cpu_limit(0.5))
}

#[test]
fn new_limits_are_in_the_kernel_and_on_the_record_and_the_others_stay() {
    let stage = stage!();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    let mut running = limited(&stage, "live");
    running.update(&resources(Some(memory(96 << 20)), None, Some(pids(60)))).unwrap();
    assert_eq!(kernel(&running, PIDS).unwrap(), "60");
    assert_eq!(kernel(&running, MEMORY).unwrap(), (96 << 20).to_string());
    assert!(kernel(&running, QUOTA).unwrap().starts_with("50000"));
    running.update(&resources(None, Some(quota(80_000)), None)).unwrap();
    assert!(["80000", "80000 100000"].contains(&kernel(&running, QUOTA).unwrap().as_str()));
    assert_eq!(kernel(&running, PIDS).unwrap(), "60");
    let record = recorded(&running);
    assert_eq!(record["memory"]["limit"], 96 << 20);
    assert_eq!(record["pids"]["limit"], 60);
    assert_eq!(
        (record["cpu"]["quota"].clone(), record["cpu"]["period"].clone()),
        (80_000.into(), 100_000.into())
    );
    assert_eq!(running.stats().unwrap().pids.unwrap().limit, Some(60));
    let loaded = AnyContainer::load(stage.root(), running.id().as_str()).unwrap();
    assert_eq!((loaded.info(), loaded.config()), (running.info(), running.config()));
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn minus_one_lifts_a_limit_and_zero_leaves_it() {
    let stage = stage!();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    let mut running = limited(&stage, "lift");
    running.update(&resources(Some(memory(0)), Some(quota(0)), Some(pids(0)))).unwrap();
    assert_eq!(kernel(&running, PIDS).unwrap(), "50");
    assert_eq!(kernel(&running, MEMORY).unwrap(), (64 << 20).to_string());
    running.update(&resources(Some(memory(-1)), Some(quota(-1)), Some(pids(-1)))).unwrap();
    let stats = running.stats().unwrap();
    assert_eq!((stats.memory.unwrap().limit, stats.pids.unwrap().limit), (None, None));
    assert!(["-1", "max 100000"].contains(&kernel(&running, QUOTA).unwrap().as_str()));
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_limit_is_for_what_runs_already() {
    let stage = stage!();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    let script = "while read _; do (sleep 1000 &) && echo made || echo refused; done";
    let builder = stage.busybox_shell("binds", script);
    let builder = builder.stdin(cofferdam::Stdio::piped()).stdout(cofferdam::Stdio::piped());
    let mut running = start(builder.pids_limit(50));
    let mut input = running.take_stdin().unwrap();
    let mut output = std::io::BufReader::new(running.take_stdout().unwrap());
    let mut make_one = || {
        use std::io::{BufRead, Write};
        input.write_all(b"\n").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        line
    };
    assert_eq!(make_one(), "made\n");
    let now = running.stats().unwrap().pids.unwrap().current;
    running.update(&resources(None, None, Some(pids(now.cast_signed())))).unwrap();
    // The shell itself ends for want of a process, or says so.
    assert_ne!(make_one(), "made\n");
    drop(running);
}

#[test]
fn what_the_kernel_refuses_sets_everything_back() {
    let stage = stage!();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    let cpu = LinuxCpuBuilder::default().cpus("0").build().unwrap();
    let builder = stage.container("back").args(["sleep", "1000"]).memory_limit(64 << 20).pids_limit(50);
    let builder = builder.cgroups_path(stage.id("back"));
    let mut running = start(builder);
    if kernel(&running, &["cpuset.cpus"]).is_none() {
        // Not among what a named place joins: refused before anything is written.
        let error =
            running.update(&resources(Some(memory(96 << 20)), Some(cpu), Some(pids(60)))).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Unsupported { feature: "linux.resources.cpu.cpus".into() });
        assert_eq!(kernel(&running, MEMORY).unwrap(), (64 << 20).to_string());
    }
    running.kill().unwrap().delete().unwrap();

    // A CPU that is not there, after a limit that was set.
    let spec_cpu = |cpus: &str| LinuxCpuBuilder::default().cpus(cpus).build().unwrap();
    let mut limited = limited_with_cpuset(&stage, spec_cpu("0"));
    let before = (recorded_whole(&limited), kernel(&limited, MEMORY), kernel(&limited, PIDS));
    let wrong = resources(Some(memory(96 << 20)), Some(spec_cpu("4000")), Some(pids(60)));
    let error = limited.update(&wrong).unwrap_err();
    assert!(error.to_string().starts_with("linux.resources.cpu.cpus: write("), "{error}");
    assert_eq!((recorded_whole(&limited), kernel(&limited, MEMORY), kernel(&limited, PIDS)), before);
    limited.update(&resources(Some(memory(96 << 20)), Some(spec_cpu("0")), Some(pids(60)))).unwrap();
    limited.kill().unwrap().delete().unwrap();
}

fn limited_with_cpuset(stage: &Stage, cpu: LinuxCpu) -> Container<Running> {
    let limits = resources(Some(memory(64 << 20)), Some(cpu), Some(pids(50)));
    with_resources(stage, "cpuset", serde_json::to_value(limits).unwrap())
}

fn with_resources(stage: &Stage, name: &str, resources: serde_json::Value) -> Container<Running> {
    start(stage.with_resources(name, &resources).unwrap())
}

fn asked(resources: serde_json::Value) -> LinuxResources {
    serde_json::from_value(resources).unwrap()
}

const BURST: &[&str] = &["cpu.cfs_burst_us", "cpu.max.burst"];
const IDLE: &[&str] = &["cpu.idle"];
const READ_BPS: &[&str] = &["blkio.throttle.read_bps_device", "io.max"];

#[test]
fn bursts_and_being_idle_come_and_go() {
    let stage = stage!();
    if !may_limit("cpu") {
        skip!("this user may not limit CPU time here");
    }
    let cpu = serde_json::json!({"cpu": {"quota": 50_000, "period": 100_000, "burst": 40_000}});
    let mut running = with_resources(&stage, "burst", cpu);
    assert_eq!(kernel(&running, BURST).unwrap(), "40000");
    // Below the burst there was: the burst has to go first.
    running.update(&asked(serde_json::json!({"cpu": {"quota": 20_000, "burst": 10_000}}))).unwrap();
    assert_eq!(kernel(&running, BURST).unwrap(), "10000");
    running.update(&asked(serde_json::json!({"cpu": {"idle": 1, "burst": 0}}))).unwrap();
    assert_eq!((kernel(&running, BURST).unwrap(), kernel(&running, IDLE).unwrap()), ("0".into(), "1".into()));
    assert_eq!(
        (&recorded(&running)["cpu"]["burst"], &recorded(&running)["cpu"]["idle"]),
        (&0.into(), &1.into())
    );
    // A group that is idle takes no shares: it has to end being that first.
    running.update(&asked(serde_json::json!({"cpu": {"idle": 0, "shares": 512}}))).unwrap();
    assert_eq!(kernel(&running, IDLE).unwrap(), "0");
    let error = running.update(&asked(serde_json::json!({"cpu": {"burst": 30_000}}))).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidSpec { path: "linux.resources.cpu.burst".into() });
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_device_that_is_not_named_keeps_its_throttle_and_a_rate_of_zero_lifts_one() {
    let stage = stage!();
    if !may_limit("io") {
        skip!("this user may not limit I/O here");
    }
    let Some(DeviceNumber { major, minor }) = disk() else { skip!("no disk") };
    let throttle = |rate: u64| serde_json::json!([{"major": major, "minor": minor, "rate": rate}]);
    let read = |rate: u64| serde_json::json!({"blockIO": {"throttleReadBpsDevice": throttle(rate)}});
    let mut running = with_resources(&stage, "throttle", read(1 << 20));
    assert!(kernel(&running, READ_BPS).unwrap().contains("1048576"));
    running.update(&asked(read(2 << 20))).unwrap();
    assert!(kernel(&running, READ_BPS).unwrap().contains("2097152"));
    assert_eq!(recorded(&running)["blockIO"]["throttleReadBpsDevice"], throttle(2 << 20));
    // No such device: the throttle that was set before it is set back.
    let mut two = read(3 << 20);
    two["blockIO"]["throttleWriteBpsDevice"] = serde_json::json!([{"major": 4095, "minor": 1, "rate": 5}]);
    let before = recorded_whole(&running);
    let error = running.update(&asked(two)).unwrap_err();
    assert!(
        error.to_string().starts_with("linux.resources.blockIO.throttleWriteBpsDevice: write("),
        "{error}"
    );
    assert!(kernel(&running, READ_BPS).unwrap().contains("2097152"));
    assert_eq!(recorded_whole(&running), before);
    running.update(&asked(read(0))).unwrap();
    assert!(!kernel(&running, READ_BPS).unwrap().contains("2097152"));
    // A limit that was never set is removed again.
    let iops = serde_json::json!({"blockIO": {
        "throttleReadBpsDevice": throttle(7 << 20),
        "throttleReadIOPSDevice": [{"major": 4095, "minor": 1, "rate": 5}]
    }});
    running.update(&asked(iops)).unwrap_err();
    assert!(!kernel(&running, READ_BPS).unwrap().contains("7340032"));
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_later_write_that_fails_sets_back_every_controller_before_it() {
    let stage = stage!();
    if !["memory", "cpu", "pids", "io"].into_iter().all(may_limit) {
        skip!("this user may not limit all of memory, cpu, pids and I/O here");
    }
    let Some(DeviceNumber { major, minor }) = disk() else { skip!("no disk") };
    let throttle =
        |major: u32, minor: u32| serde_json::json!([{"major": major, "minor": minor, "rate": 1 << 20}]);
    let limits = |memory: u64, quota: u64, pids: u64, throttled: serde_json::Value| {
        serde_json::json!({
            "memory": {"limit": memory}, "cpu": {"quota": quota, "burst": quota / 2}, "pids": {"limit": pids},
            "blockIO": {"throttleReadBpsDevice": throttled}
        })
    };
    let mut running = with_resources(&stage, "all", limits(64 << 20, 20_000, 50, throttle(major, minor)));
    let values = |running: &Container<Running>| {
        [MEMORY, QUOTA, BURST, PIDS, READ_BPS].map(|files| kernel(running, files).unwrap())
    };
    let before = (values(&running), recorded_whole(&running));
    let error = running.update(&asked(limits(96 << 20, 90_000, 60, throttle(4095, 1)))).unwrap_err();
    assert!(
        error.to_string().starts_with("linux.resources.blockIO.throttleReadBpsDevice: write("),
        "{error}"
    );
    assert_eq!((values(&running), recorded_whole(&running)), before);
    running.update(&asked(limits(96 << 20, 90_000, 60, throttle(major, minor)))).unwrap();
    assert_ne!(values(&running), before.0);
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn huge_pages_and_named_files_change_where_the_kernel_has_them() {
    let stage = stage!();
    if !may_limit("hugetlb") {
        skip!("this user may not limit huge pages here");
    }
    let huge = |limit: u64| serde_json::json!({"hugepageLimits": [{"pageSize": "2MB", "limit": limit}]});
    let mut running = with_resources(&stage, "huge", huge(4 << 20));
    const HUGE: &[&str] = &["hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes"];
    running.update(&asked(huge(0))).unwrap();
    assert_eq!(kernel(&running, HUGE).unwrap(), "0");
    let unified = serde_json::json!({"unified": {"hugetlb.2MB.max": "2097152"}});
    let named = running.update(&asked(unified));
    if kernel(&running, &["hugetlb.2MB.limit_in_bytes"]).is_some() {
        let feature = "linux.resources.unified[\"hugetlb.2MB.max\"]".to_owned();
        assert_eq!(*named.unwrap_err().kind(), ErrorKind::Unsupported { feature });
    } else {
        named.unwrap();
        assert_eq!(kernel(&running, HUGE).unwrap(), "2097152");
    }
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_lifted_memory_limit_lifts_the_swap_limit_too() {
    let stage = stage!();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    let mut running = limited(&stage, "lifted");
    running.update(&asked(serde_json::json!({"memory": {"limit": 96 << 20, "swap": 128 << 20}}))).unwrap();
    running.update(&asked(serde_json::json!({"memory": {"limit": -1}}))).unwrap();
    let unlimited =
        |text: String| text == "max" || text.parse::<u64>().is_ok_and(|bytes| bytes > u64::MAX / 4);
    assert!(unlimited(kernel(&running, MEMORY).unwrap()));
    // Without swap accounting there is no such file.
    let swap = kernel(&running, &["memory.memsw.limit_in_bytes", "memory.swap.max"]);
    assert!(swap.is_none_or(unlimited));
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn what_only_the_other_version_has_is_refused_before_anything_is_written() {
    let stage = stage!();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    let mut running = limited(&stage, "other");
    let v1 = kernel(&running, &["memory.limit_in_bytes"]).is_some();
    let swappiness = serde_json::json!({"memory": {"limit": 96 << 20, "swappiness": 20}});
    let high = serde_json::json!({"memory": {"limit": 96 << 20}, "unified": {"memory.high": "33554432"}});
    let (good, bad, field) = match v1 {
        true => (swappiness, high, "linux.resources.unified[\"memory.high\"]"),
        false => (high, swappiness, "linux.resources.memory.swappiness"),
    };
    let error = running.update(&asked(bad)).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unsupported { feature: field.into() }, "{error}");
    assert_eq!(kernel(&running, MEMORY).unwrap(), (64 << 20).to_string());
    running.update(&asked(good)).unwrap();
    let expected = if v1 { "20" } else { "33554432" };
    assert_eq!(kernel(&running, &["memory.swappiness", "memory.high"]).unwrap(), expected);
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_controller_the_container_was_not_created_with_is_refused_by_name() {
    let stage = stage!();
    for (name, builder) in [
        ("without", stage.container("without").args(["sleep", "1000"]).without_cgroup()),
        ("plain", stage.container("plain").args(["sleep", "1000"])),
    ] {
        let mut running = start(builder);
        if kernel(&running, MEMORY).is_some() {
            // On v2 the place to freeze has every controller that is enabled there.
            running.update(&resources(Some(memory(96 << 20)), None, None)).unwrap();
            assert_eq!(kernel(&running, MEMORY).unwrap(), (96 << 20).to_string());
            running.kill().unwrap().delete().unwrap();
            continue;
        }
        let before = recorded_whole(&running);
        let error = running.update(&resources(Some(memory(96 << 20)), None, None)).unwrap_err();
        let expected = ErrorKind::Unsupported { feature: "linux.resources.memory.limit".into() };
        assert_eq!(*error.kind(), expected, "{name}: {error}");
        assert_eq!(recorded_whole(&running), before);
        running.update(&LinuxResources::default()).unwrap();
        running.kill().unwrap().delete().unwrap();
    }
}

#[test]
fn what_no_container_may_ask_for_an_update_may_not_either() {
    let stage = stage!();
    let mut running = start(stage.container("rules").args(["sleep", "1000"]).without_cgroup());
    let mut io = LinuxResources::default();
    io.set_block_io(Some(LinuxBlockIoBuilder::default().weight(100_u16).build().unwrap()));
    let mut devices = LinuxResources::default();
    let rule = LinuxDeviceCgroupBuilder::default().allow(true).access("rwm").build().unwrap();
    devices.set_devices(Some(vec![rule]));
    for (asked, field, message) in [
        (
            resources(Some(memory(5)), None, None),
            "linux.resources.memory.limit",
            "update: linux.resources.memory.limit: 5 is below 4096 (the unit is bytes)",
        ),
        (
            resources(None, None, Some(pids(-2))),
            "linux.resources.pids.limit",
            "update: linux.resources.pids.limit: -2 is below -1 (-1 is unlimited)",
        ),
        (io, "linux.resources.blockIO.weight", "linux.resources.blockIO.weight: "),
        (
            devices,
            "linux.resources.devices",
            "linux.resources.devices: the devices of a container are decided when it is created",
        ),
    ] {
        let error = running.update(&asked).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        let path = match error.kind() {
            ErrorKind::InvalidSpec { path } => path,
            ErrorKind::Unsupported { feature } => feature,
            other => panic!("{other:?}: {error}"),
        };
        assert_eq!(path, field);
    }
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_memory_limit_below_what_is_in_use_is_refused_to_those_who_ask() {
    let stage = stage!();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    let mut running = limited(&stage, "check");
    let checked = LinuxMemoryBuilder::default().limit(4096).check_before_update(true).build().unwrap();
    let error = running.update(&resources(Some(checked), None, None)).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
    assert_eq!(kernel(&running, MEMORY).unwrap(), (64 << 20).to_string());
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn an_update_is_possible_from_create_to_the_end_by_every_handle() {
    let stage = stage!();
    let nothing = LinuxResources::default();
    let refused = |container: &mut AnyContainer| {
        let error = container.as_alive_mut().and_then(|alive| alive.update(&nothing)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WrongState { .. } | ErrorKind::Ended), "{error}");
    };
    let builder = stage.container("phases").args(["sleep", "1000"]);
    let mut creating = AnyContainer::from(builder.build().unwrap());
    refused(&mut creating);
    let AnyContainer::Creating(creating) = creating else { unreachable!() };
    let mut created = creating.create().unwrap();
    created.update(&nothing).unwrap();
    let mut running = created.start().unwrap();
    let mut loaded = AnyContainer::load(stage.root(), running.id().as_str()).unwrap();
    loaded.as_alive_mut().unwrap().update(&nothing).unwrap();
    // A change by another handle is no obstacle as long as the phase is the same.
    running.update(&nothing).unwrap();
    let mut stopped = AnyContainer::from(running.kill().unwrap());
    refused(&mut stopped);
    refused(&mut loaded);
    stopped.delete(false).unwrap();
}

#[test]
fn the_processors_of_a_container_are_those_of_its_cpuset_whatever_its_caller_is_pinned_to() {
    let stage = stage!();
    if !may_limit("cpuset") {
        skip!("this user may not limit processors here");
    }
    let mut first = CpuSet::new();
    first.set(0);
    if !sched_getaffinity(None).unwrap().is_set(1) {
        skip!("there is only one processor");
    }
    // Helpers and containers inherit the affinity of this thread.
    sched_setaffinity(None, &first).unwrap();
    let cpus = |list: &str| serde_json::json!({"cpu": {"cpus": list}});
    let seen = |running: &Container<Running>, process: &str| {
        let status = format!("/proc/{process}/status");
        let output = running.exec_output(Exec::new(["grep", "Cpus_allowed_list", &status])).unwrap();
        String::from_utf8(output.stdout).unwrap().trim().rsplit('\t').next().unwrap().to_owned()
    };
    let mut running = start(stage.with_resources("pinned", &cpus("0-1")).unwrap());
    assert_eq!(["1", "self"].map(|process| seen(&running, process)), ["0-1", "0-1"]);
    for list in ["1", "0-1"] {
        running.update(&asked(cpus(list))).unwrap();
        assert_eq!(["1", "self"].map(|process| seen(&running, process)), [list, list]);
    }
    running.kill().unwrap().delete().unwrap();
    // Without a cpuset the caller's processors are the container's.
    let running = start(stage.with_resources("free", &serde_json::json!({})).unwrap());
    let of_free = ["1", "self"].map(|process| seen(&running, process));
    // KERNEL(6.2): before, what moves into a cgroup with this controller forgets what it was pinned to.
    assert!(of_free == ["0", "0"] || is_older_than(6, 2), "{of_free:?}");
    running.kill().unwrap().delete().unwrap();
}

fn is_older_than(major: u32, minor: u32) -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) < (Some(major), Some(minor))
}

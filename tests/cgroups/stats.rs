//! Statistics, held against the kernel's own files.

use crate::kit::limits::{directory_on_a_disk, kernel, own_cgroups};
use crate::kit::{Stage, may_limit, skip, stage, start};
use cofferdam::builder::IoLimit;
use cofferdam::{AnyContainer, Container, ErrorKind, Running, Stats};
use std::io::{BufRead, BufReader};
use std::time::Duration;

/// The number in the first of these files that one of the container's cgroups has.
fn number(container: &Container<Running>, files: &[&str]) -> Option<u64> {
    kernel(container, files)?.parse().ok()
}

/// The number after `key` in the first of these files that has it.
fn keyed(container: &Container<Running>, file: &str, key: &str) -> Option<u64> {
    let cgroups = own_cgroups(container).into_iter();
    let texts = cgroups.filter_map(|dir| std::fs::read_to_string(dir.join(file)).ok());
    texts.into_iter().find_map(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
        line.trim().parse().ok()
    })
}

/// A container that did some work and waits, counted by every controller there is.
fn busy(stage: &Stage, name: &str) -> Container<Running> {
    let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done; exec sleep 1000";
    let builder = stage.shell(name, script).stdout(cofferdam::Stdio::piped());
    let builder = builder.cgroups_path(stage.id(name));
    let mut running = start(builder.memory_limit(256 << 20).pids_limit(77).cpu_limit(0.2));
    let mut line = String::new();
    BufReader::new(running.take_stdout().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "done\n");
    running
}

#[test]
fn statistics_are_what_the_kernels_files_say() {
    let stage = stage!();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    let running = busy(&stage, "busy");
    let stats = running.stats().unwrap();

    let memory = stats.memory.unwrap();
    assert_eq!(memory.limit, Some(256 << 20));
    let usage = number(&running, &["memory.usage_in_bytes", "memory.current"]).unwrap();
    assert!(memory.usage.abs_diff(usage) <= 4 << 20, "{} and {usage}", memory.usage);
    // The use may have grown since.
    let peak = number(&running, &["memory.max_usage_in_bytes", "memory.peak"]);
    assert_eq!(memory.peak.is_some(), peak.is_some());
    assert!(memory.peak <= peak, "{:?} and {peak:?}", memory.peak);
    assert!(memory.peak.is_none_or(|peak| peak >= memory.usage));
    assert_eq!(memory.oom_kills, Some(0));
    assert!(memory.anon.is_some_and(|anon| anon > 0 && anon <= memory.usage), "{memory:?}");

    let pids = stats.pids.unwrap();
    assert_eq!(Some(pids.current), number(&running, &["pids.current"]));
    assert_eq!(pids.limit, Some(77));
    assert_eq!(pids.peak, number(&running, &["pids.peak"]));
    let swap_limit = number(&running, &["memory.memsw.limit_in_bytes", "memory.swap.max"]);
    assert_eq!(memory.swap_limit, swap_limit.filter(|bytes| *bytes < u64::MAX / 4));

    let cpu = stats.cpu.unwrap();
    let usage = cpu.usage.unwrap();
    assert!(usage > Duration::from_millis(10) && usage < Duration::from_secs(60), "{usage:?}");
    assert!(cpu.user.unwrap() + cpu.system.unwrap() <= usage + Duration::from_millis(20), "{cpu:?}");
    assert!(
        cpu.periods.unwrap() > 0 && cpu.throttled.unwrap() > 0,
        "a fifth of a CPU was not enough: {cpu:?}"
    );
    assert!(cpu.throttled_time.unwrap() > Duration::ZERO);
    assert_eq!(cpu.bursts, keyed(&running, "cpu.stat", "nr_bursts"));
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn transfers_are_counted_by_device_as_the_kernels_file_says() {
    let stage = stage!();
    if !may_limit("io") {
        skip!("this user may not limit I/O here");
    }
    let Some((scratch, disk)) = directory_on_a_disk() else { skip!("temporary files are on no whole disk") };
    let script =
        "dd if=/dev/zero of=/scratch/file bs=1048576 count=2 oflag=direct 2>&1 && echo done; sleep 1000";
    let builder = stage.busybox_shell("io", script).bind_rw(scratch.path(), "/scratch");
    let limit = IoLimit { write_bytes: Some(1 << 30), ..IoLimit::default() };
    let builder = builder.io_limit(disk, limit);
    let mut running = start(builder.stdout(cofferdam::Stdio::piped()));
    let mut lines = BufReader::new(running.take_stdout().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "done"));
    let io = running.stats().unwrap().io.unwrap();
    let device = io.iter().find(|device| (device.major, device.minor) == (disk.major, disk.minor)).unwrap();
    assert!(device.write_bytes >= 2 << 20 && device.writes >= 1, "{device:?}");
    let files = ["io.stat", "blkio.throttle.io_service_bytes_recursive"];
    let dirs = running.info().cgroups.into_iter();
    let text: String = dirs
        .flat_map(|dir| files.map(|file| dir.join(file)))
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .collect();
    let said = [format!("wbytes={} ", device.write_bytes), format!(" Write {}\n", device.write_bytes)];
    assert!(said.iter().any(|said| text.contains(said)), "{device:?} {text}");
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn huge_pages_and_pressure_are_what_the_kernels_files_say() {
    let stage = stage!();
    if !may_limit("hugetlb") {
        skip!("this user may not limit huge pages here");
    }
    let running = start(stage.container("huge").args(["sleep", "1000"]).hugepage_limit("2MB", 4 << 20));
    let stats = running.stats().unwrap();
    let huge = stats.hugetlb.unwrap().into_iter().find(|huge| huge.page_size == "2MB").unwrap();
    let current = number(&running, &["hugetlb.2MB.current", "hugetlb.2MB.usage_in_bytes"]);
    assert_eq!((Some(huge.usage), huge.limit), (current, Some(4 << 20)));
    let failures = keyed(&running, "hugetlb.2MB.events", "max");
    assert_eq!(huge.failures, failures.or(number(&running, &["hugetlb.2MB.failcnt"])));
    let has = |file: &str| running.info().cgroups.iter().any(|dir| std::fs::read(dir.join(file)).is_ok());
    assert_eq!(stats.pressure.is_some(), has("memory.pressure"));
    if let Some(pressure) = stats.pressure {
        let some = pressure.memory.unwrap().some.unwrap();
        assert!(some.avg10 >= 0.0 && some.total < Duration::from_secs(60), "{some:?}");
    }
    assert_eq!(stats.rdma.is_some(), has("rdma.current"));
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn without_limits_everything_is_counted_where_that_is_asked_for() {
    let stage = stage!();
    let counted = start(stage.container("counted").args(["sleep", "1000"]).accounting());
    let stats = counted.stats().unwrap();
    // If the caller may make no cgroup, the container runs, and nothing is counted.
    for (controller, is_counted) in [
        ("memory", stats.memory.is_some()),
        ("pids", stats.pids.is_some()),
        ("cpu", stats.cpu.is_some_and(|cpu| cpu.usage.is_some())),
    ] {
        assert!(is_counted || !may_limit(controller), "{controller}: {stats:?}");
    }
    assert!(stats.memory.is_none_or(|memory| memory.limit.is_none() && memory.usage > 0), "{stats:?}");
    assert!(stats.pids.is_none_or(|pids| pids.limit.is_none() && pids.current == 1), "{stats:?}");
    let exit = counted.kill().unwrap();
    assert_eq!(exit.exit().memory_peak.is_some(), may_limit("memory"));
    exit.delete().unwrap();
    assert!(stage.changes().is_empty(), "{:?}", stage.changes());
}

#[test]
fn a_controller_the_container_is_not_in_is_absent_and_not_zero() {
    let stage = stage!();
    let running = start(stage.container("bare").args(["sleep", "1000"]).without_cgroup());
    assert_eq!(running.stats().unwrap(), Stats::default());
    running.kill().unwrap().delete().unwrap();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    let running = start(stage.container("pids").args(["sleep", "1000"]).pids_limit(50));
    let stats = running.stats().unwrap();
    assert_eq!(stats.pids.unwrap().limit, Some(50));
    let has = |file: &str| running.info().cgroups.iter().any(|dir| dir.join(file).exists());
    assert_eq!(stats.memory.is_some(), has("memory.current"));
    assert_eq!(stats.cpu.is_some(), has("cpu.stat"));
    assert_eq!(stats.io.is_some(), has("io.stat"));
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn no_limit_is_none() {
    let stage = stage!();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    let builder = stage.container("free").args(["sleep", "1000"]);
    let running = start(builder.cgroups_path(stage.id("free")));
    let stats = running.stats().unwrap();
    let (Some(memory), Some(pids)) = (stats.memory, stats.pids) else { panic!("{stats:?}") };
    assert_eq!((memory.limit, pids.limit), (None, None));
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn statistics_are_there_from_create_to_the_end_and_in_no_other_phase() {
    let stage = stage!();
    let refused = |container: &AnyContainer| {
        let error = container.as_alive().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WrongState { .. } | ErrorKind::Ended), "{error}");
    };
    let creating = AnyContainer::from(stage.container("phases").args(["sleep", "1000"]).build().unwrap());
    refused(&creating);
    let AnyContainer::Creating(creating) = creating else { unreachable!() };
    let created = creating.create().unwrap();
    created.stats().unwrap();
    let mut running = created.start().unwrap();
    running.detach().unwrap();
    let loaded = AnyContainer::load(stage.root(), running.id().as_str()).unwrap();
    assert_eq!(loaded.as_alive().unwrap().stats().unwrap().pids, running.stats().unwrap().pids);
    let stopped = AnyContainer::from(running.kill().unwrap());
    refused(&stopped);
    // The same for a handle that has not noticed the end yet.
    let late = || loaded.as_alive().unwrap().stats().unwrap_err();
    assert_eq!(*late().kind(), ErrorKind::Ended);
    stopped.delete(false).unwrap();
    assert_eq!(*late().kind(), ErrorKind::Ended);
}

#[test]
fn statistics_can_be_written_as_json() {
    let stage = stage!();
    let running = start(stage.container("json").args(["sleep", "1000"]).without_cgroup());
    let text = serde_json::to_value(running.stats().unwrap()).unwrap();
    assert_eq!(text["memory"], serde_json::Value::Null);
    running.kill().unwrap().delete().unwrap();
}

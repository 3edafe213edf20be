//! Limits of time, memory, processes and CPU, and the errors where they cannot be set.

use crate::kit::limits::{disk, kernel, own_cgroups};
use crate::kit::{Stage, is_root, may_limit, note_skip, skip, stage, start};
use cofferdam::builder::DeviceNumber;
use cofferdam::builder::IoLimit;
use cofferdam::{AnyContainer, Container, Error, ErrorKind, Exec, Outcome, Running};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[test]
fn a_program_that_runs_too_long_is_killed() {
    let stage = stage!();
    let limit = Duration::from_millis(150);
    let began = Instant::now();
    let exit =
        stage.shell("timeout", "trap '' TERM INT; sleep 1000; sleep 1000").timeout(limit).run().unwrap();
    assert_eq!(exit.outcome, Outcome::TimedOut { after: limit });
    assert!(began.elapsed() >= limit, "not before its time");
    assert!(began.elapsed() < Duration::from_secs(30), "nor long after");
}

#[test]
fn a_program_within_its_time_ends_by_itself() {
    let stage = stage!();
    let exit = stage.shell("intime", "exit 4").timeout(Duration::from_secs(60)).run().unwrap();
    assert_eq!(exit.outcome, Outcome::Exited { code: 4 });
}

#[test]
fn the_time_limit_holds_for_a_loaded_container_too() {
    let stage = stage!();
    let builder = stage.container("detached").args(["sleep", "1000"]).timeout(Duration::from_millis(150));
    let mut running = builder.build().unwrap().create().unwrap().start().unwrap();
    running.detach().unwrap();
    let id = running.id().to_string();
    drop(running);
    let loaded = AnyContainer::load(stage.root(), &id).unwrap();
    assert_eq!(loaded.wait().unwrap().outcome, Outcome::TimedOut { after: Duration::from_millis(150) });
    AnyContainer::load(stage.root(), &id).unwrap().delete(false).unwrap();
}

#[test]
fn memory_beyond_the_limit_is_an_outcome_of_its_own() {
    let stage = stage!();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    let exit = stage.container("oom").args(["tail", "/dev/zero"]).memory_limit(32 << 20).run().unwrap();
    assert_eq!(exit.outcome, Outcome::OutOfMemory);
    assert!(exit.oom_kills >= 1);
    assert!(exit.memory_peak.is_some_and(|peak| peak <= 33 << 20), "{:?}", exit.memory_peak);
}

#[test]
fn memory_within_the_limit_is_reported() {
    let stage = stage!();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    let exit = stage.container("fits").args(["true"]).memory_limit(64 << 20).run().unwrap();
    assert_eq!((exit.outcome, exit.oom_kills), (Outcome::Exited { code: 0 }, 0));
    assert!(exit.memory_peak.is_some_and(|peak| peak > 0));
}

#[test]
fn more_processes_than_allowed_cannot_be_made() {
    let stage = stage!();
    if !may_limit("pids") {
        skip!("this user may not limit pids here");
    }
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do sleep 1000 & done; echo all";
    let output = stage.busybox_shell("pids", script).pids_limit(8).output().unwrap();
    assert!(!output.exit.outcome.success(), "{:?}", output.exit);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("fork"), "{said}");
}

#[test]
fn helpers_do_not_count_for_a_limit_of_processes() {
    let stage = stage!();
    if !may_limit("pids") {
        skip!("this user may not limit pids here");
    }
    // Counts the processes, the shell included, until fork(2) fails.
    let count = "i=1; while echo $i; do i=$((i+1)); sleep 1000 & done";
    for limit in [1, 2, 6] {
        let output = stage.busybox_shell(&format!("n{limit}"), count).pids_limit(limit).output().unwrap();
        let counted = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(counted.lines().last(), Some(limit.to_string().as_str()), "{counted}{:?}", output.exit);
    }
    assert!(stage.changes().is_empty(), "{:?}", stage.changes());
}

#[test]
fn a_process_is_executed_in_a_container_at_its_limit_of_processes() {
    let stage = stage!();
    if !may_limit("pids") {
        skip!("this user may not limit pids here");
    }
    let running = start(stage.busybox_shell("full", "exec sleep 1000").pids_limit(1));
    let pids = || running.stats().unwrap().pids.unwrap();
    assert_eq!((pids().current, pids().limit), (1, Some(1)));
    // The executed process runs, and cannot fork.
    let output = running.exec_output(Exec::new(["sh", "-c", "echo alone; (echo another); true"])).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "alone\n", "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("fork"), "{output:?}");
    // A helper of the sandbox does not count either.
    running.files().unwrap().read_link("/bin/sh").unwrap();
    assert_eq!(pids().current, 1);
    running.kill().unwrap().delete().unwrap();
    assert!(stage.changes().is_empty(), "{:?}", stage.changes());
}

#[test]
fn a_container_with_limits_sees_them_and_no_cgroup_but_its_own() {
    let stage = stage!();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    let look = "cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes 2>/dev/null; \
                mkdir x memory/x cpu/x 2>/dev/null && echo made; \
                echo 1 2>/dev/null >memory/memory.limit_in_bytes && echo written; \
                grep -v -e ' / /sys/fs/cgroup' /proc/self/mountinfo | grep -e '- cgroup'; \
                cat cgroup.procs */cgroup.procs 2>/dev/null | sort -u";
    let output = stage.busybox_shell("seen", look).memory_limit(64 << 20).cpu_limit(0.5).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // The last numbers are the processes of the pipe. A process of the host or the sandbox would show as 0.
    let (limit, pids) = said.split_once('\n').unwrap();
    assert_eq!(limit, "67108864", "{said}");
    assert!(pids.lines().all(|pid| pid.parse::<u32>().is_ok_and(|pid| pid > 0 && pid < 20)), "{said}");
    // A JVM looks for these first.
    if may_limit("cpuset") && std::path::Path::new("/sys/fs/cgroup/cpuset").exists() {
        let look = "ls /sys/fs/cgroup";
        let output = stage.busybox_shell("names", look).memory_limit(64 << 20).output().unwrap();
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        for name in ["cpu", "cpuacct", "cpuset", "memory"] {
            assert!(names.lines().any(|line| line == name), "{name}: {names}");
        }
    }
    // A container without limits gets no such mount.
    let output =
        stage.busybox_shell("none", "ls /sys/fs/cgroup | wc -l; grep -c cgroup /proc/mounts").output();
    assert_eq!(String::from_utf8_lossy(&output.unwrap().stdout), "0\n0\n");
    assert!(stage.changes().is_empty(), "{:?}", stage.changes());
}

#[test]
fn limits_are_in_the_cgroups_files_and_the_workload_is_under_them() {
    let stage = stage!();
    if !["cpu", "memory", "pids"].into_iter().all(may_limit) {
        skip!("this user may not limit all of cpu, memory and pids here");
    }
    let builder = stage.container("files").args(["sleep", "1000"]);
    let builder = builder.cpu_limit(0.5).memory_limit(64 << 20).pids_limit(20);
    let running = builder.build().unwrap().create().unwrap().start().unwrap();
    let value = |files: &[&str]| kernel(&running, files).unwrap();
    assert!(["50000", "50000 100000"].contains(&value(&["cpu.cfs_quota_us", "cpu.max"]).as_str()));
    assert_eq!(value(&["memory.limit_in_bytes", "memory.max"]), "67108864");
    assert_eq!(value(&["pids.max"]), "20");
    for pid in [running.init_pid(), running.sandbox_pid()] {
        let membership = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let id = running.id().as_str();
        for controller in ["cpu", "memory", "pids"] {
            let v1 = membership.lines().find(|line| line.split(':').nth(1) == Some(controller));
            let line = v1.or_else(|| membership.lines().find(|line| line.starts_with("0::"))).unwrap();
            // On v1 the sandbox is not in the container's cgroup of processors, and the container needs none inside it.
            let left = controller == "cpu" && v1.is_some();
            let is_init = pid == running.init_pid();
            assert_eq!(line.contains(id), is_init || !left, "process {pid} of {controller}: {line}");
            let own = line.ends_with("/container");
            assert_eq!(own, is_init && !left, "process {pid} of {controller}: {line}");
        }
    }
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn limits_that_cannot_be_set_are_refused_and_not_dropped() {
    let stage = stage!();
    if is_root() || may_limit("pids") {
        skip!("this user can set them");
    }
    let builders = [
        (stage.container("m").args(["true"]).memory_limit(64 << 20), "linux.resources.memory"),
        (stage.container("p").args(["true"]).pids_limit(20), "linux.resources.pids"),
        (stage.container("c").args(["true"]).cpu_limit(0.5), "linux.resources.cpu"),
    ];
    for (builder, field) in builders {
        let refused = builder.build().unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::Unsupported { .. }), "{refused}");
        assert!(refused.to_string().contains(field), "{refused}");
    }
}

#[test]
fn limits_that_cannot_be_set_are_done_without_and_named_where_best_effort_is_enough() {
    let stage = stage!();
    let builder = stage.container("best").args(["true"]).memory_limit(64 << 20).pids_limit(20).cpu_limit(0.5);
    let stopped = builder.best_effort_limits().build().unwrap().create().unwrap().start().unwrap();
    let unapplied = stopped.info().unapplied_limits;
    let stopped = stopped.wait_stopped().unwrap();
    let fields = [
        ("memory", vec!["linux.resources.memory.limit"]),
        ("cpu", vec!["linux.resources.cpu.quota", "linux.resources.cpu.period"]),
        ("pids", vec!["linux.resources.pids.limit"]),
    ];
    for (controller, fields) in fields {
        for field in fields {
            let named = unapplied.iter().any(|unapplied| unapplied == field);
            assert_eq!(named, !may_limit(controller), "{field}: {unapplied:?}");
        }
    }
    stopped.delete().unwrap();
}

#[test]
fn best_effort_makes_no_sense_of_a_value_without_any() {
    let stage = stage!();
    let refused = stage.container("sense").args(["true"]).cpu_limit(-1.0).best_effort_limits().build();
    assert_eq!(*refused.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_fork_bomb_without_any_cgroup_is_held_by_its_process_limit() {
    let stage = stage!();
    let builder = stage.busybox_shell("bomb", "ulimit -u; ulimit -Hu");
    assert_eq!(crate::kit::stdout_of(builder).split_whitespace().last(), Some("1024"));
}

#[test]
fn a_container_sees_its_own_cgroups_as_the_roots_of_their_hierarchies() {
    let stage = stage!();
    if !may_limit("pids") {
        skip!("this user may not limit pids here");
    }
    let builder = stage.container("ns").args(["cat", "/proc/self/cgroup"]).pids_limit(20);
    let seen = String::from_utf8(builder.output().unwrap().stdout).unwrap();
    for line in seen.lines().filter(|line| line.contains("pids") || line.contains("freezer")) {
        assert!(line.ends_with(":/"), "{line}");
    }
    assert!(!seen.contains("cofferdam"), "{seen}");
}

#[test]
fn on_v2_the_containers_processes_are_born_in_its_cgroup_for_their_parent_may_write_there() {
    let stage = stage!();
    if !may_limit("pids") {
        skip!("this user may not limit pids here");
    }
    let builder = stage.container("born").args(["sleep", "1000"]).pids_limit(20);
    let running = builder.build().unwrap().create().unwrap().start().unwrap();
    let leaves: Vec<PathBuf> = running.info().cgroups;
    let Some(leaf) = leaves.iter().find(|leaf| leaf.join("cgroup.events").exists()) else {
        skip!("pids are limited by a v1 hierarchy");
    };
    let parent = crate::kit::status_line(&running.sandbox_pid().to_string(), "Uid");
    for file in ["cgroup.procs", "container/cgroup.procs"] {
        let owner = std::fs::metadata(leaf.join(file)).unwrap().uid();
        assert_eq!(parent.split(' ').next().unwrap(), owner.to_string(), "{file}");
    }
    running.kill().unwrap().delete().unwrap();
}

/// A limit, and the file that must have it.
struct Row {
    controller: &'static str,
    field: &'static str,
    resources: Value,
    v1: Option<(&'static str, String)>,
    v2: Option<(&'static str, String)>,
}

/// Where a controller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    V1,
    V2,
    Nowhere,
}

fn place_of(controller: &str) -> Place {
    let v1_name = if controller == "io" { "blkio" } else { controller };
    let membership = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let mut names = membership.lines().filter_map(|line| line.split(':').nth(1));
    if names.any(|names| names.split(',').any(|name| name == v1_name)) {
        return Place::V1;
    }
    if may_limit(controller) { Place::V2 } else { Place::Nowhere }
}

fn rows(disk: DeviceNumber) -> Vec<Row> {
    let throttle = |key: &'static str, rate: u32| json!({"blockIO": {key: [{"major": disk.major, "minor": disk.minor, "rate": rate}]}});
    let row =
        |controller, field, resources, v1: Option<(&'static str, &str)>, v2: Option<(&'static str, &str)>| {
            let owned = |(file, text): (&'static str, &str)| (file, text.replace("DISK", &disk.to_string()));
            Row { controller, field, resources, v1: v1.map(owned), v2: v2.map(owned) }
        };
    vec![
        row(
            "memory",
            "linux.resources.memory.swappiness",
            json!({"memory": {"swappiness": 30}}),
            Some(("memory.swappiness", "30")),
            None,
        ),
        row(
            "memory",
            "linux.resources.memory.disableOOMKiller",
            json!({"memory": {"limit": 64 << 20, "disableOOMKiller": true}}),
            Some(("memory.oom_control", "oom_kill_disable 1")),
            None,
        ),
        row(
            "cpu",
            "linux.resources.cpu.burst",
            json!({"cpu": {"quota": 50_000, "burst": 20_000}}),
            Some(("cpu.cfs_burst_us", "20000")),
            Some(("cpu.max.burst", "20000")),
        ),
        row(
            "cpu",
            "linux.resources.cpu.idle",
            json!({"cpu": {"shares": 512, "idle": 1}}),
            Some(("cpu.idle", "1")),
            Some(("cpu.idle", "1")),
        ),
        row(
            "io",
            "linux.resources.blockIO.throttleReadBpsDevice",
            throttle("throttleReadBpsDevice", 1 << 20),
            Some(("blkio.throttle.read_bps_device", "DISK 1048576")),
            Some(("io.max", "DISK rbps=1048576 wbps=max riops=max wiops=max")),
        ),
        row(
            "io",
            "linux.resources.blockIO.throttleWriteIOPSDevice",
            throttle("throttleWriteIOPSDevice", 77),
            Some(("blkio.throttle.write_iops_device", "DISK 77")),
            Some(("io.max", "DISK rbps=max wbps=max riops=max wiops=77")),
        ),
        row(
            "hugetlb",
            "linux.resources.hugepageLimits",
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]}),
            Some(("hugetlb.2MB.limit_in_bytes", "4194304")),
            Some(("hugetlb.2MB.max", "4194304")),
        ),
        row(
            "hugetlb",
            "linux.resources.unified[\"hugetlb.2MB.max\"]",
            json!({"unified": {"hugetlb.2MB.max": "2097152"}}),
            None,
            Some(("hugetlb.2MB.max", "2097152")),
        ),
        row(
            "memory",
            "linux.resources.unified[\"memory.high\"]",
            json!({"memory": {"limit": 64 << 20}, "unified": {"memory.high": "33554432"}}),
            None,
            Some(("memory.high", "33554432")),
        ),
        row(
            "net_cls",
            "linux.resources.network.classID",
            json!({"network": {"classID": 7}}),
            Some(("net_cls.classid", "7")),
            None,
        ),
        row(
            "net_prio",
            "linux.resources.network.priorities",
            json!({"network": {"priorities": [{"name": "lo", "priority": 3}]}}),
            Some(("net_prio.ifpriomap", "lo 3")),
            None,
        ),
    ]
}

fn limited(stage: &Stage, name: &str, resources: &Value) -> Result<Container<Running>, Error> {
    Ok(stage.with_resources(name, resources)?.build()?.create()?.start()?)
}

#[test]
fn every_limit_is_in_the_file_of_the_version_there_is_or_refused_by_name() {
    let stage = stage!();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    let Some(disk) = disk() else { skip!("no disk") };
    for (number, row) in rows(disk).into_iter().enumerate() {
        let Row { controller, field, resources, v1, v2 } = row;
        let place = place_of(controller);
        let expected = match place {
            Place::V1 => v1,
            Place::V2 => v2,
            Place::Nowhere => None,
        };
        let made = limited(&stage, &format!("row{number}"), &resources);
        match (made, expected) {
            (Ok(running), Some((file, text))) => {
                let found: Vec<String> = own_cgroups(&running)
                    .iter()
                    .filter_map(|dir| std::fs::read_to_string(dir.join(file)).ok())
                    .collect();
                let lines = found.iter().flat_map(|text| text.lines());
                assert!(lines.into_iter().any(|line| line.trim() == text), "{field}: {file} has {found:?}");
                running.kill().unwrap().delete().unwrap();
            }
            (Err(error), None) => {
                assert_eq!(*error.kind(), ErrorKind::Unsupported { feature: field.into() }, "{error}");
            }
            (made, expected) => panic!("{field}, which is {place:?}: {made:?}, expected {expected:?}"),
        }
        if place == Place::Nowhere {
            note_skip(&format!("the {controller} controller is nowhere: only its refusal was seen"));
        }
    }
}

#[test]
fn a_limit_the_kernel_has_no_file_for_names_field_and_file_and_leaves_nothing() {
    let stage = stage!();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    let resources = json!({"memory": {"limit": 64 << 20}, "blockIO": {"weight": 500}});
    match limited(&stage, "weight", &resources) {
        // A kernel with BFQ or the cost model.
        Ok(running) => {
            let file = ["io.bfq.weight", "io.weight", "blkio.bfq.weight", "blkio.weight"];
            let texts: Vec<String> = running
                .info()
                .cgroups
                .iter()
                .flat_map(|dir| [dir.clone(), dir.join("container")])
                .flat_map(|dir| file.map(|file| dir.join(file)))
                .filter_map(|file| std::fs::read_to_string(file).ok())
                .collect();
            assert!(texts.iter().any(|text| text.contains("500") || text.contains("4950")), "{texts:?}");
            running.kill().unwrap().delete().unwrap();
        }
        Err(error) => {
            let feature = "linux.resources.blockIO.weight".to_owned();
            assert_eq!(*error.kind(), ErrorKind::Unsupported { feature }, "{error}");
            let message = error.to_string();
            assert!(message.contains("this kernel has no \"/") && message.contains(".weight\""), "{message}");
        }
    }
}

#[test]
fn the_builder_says_what_a_configuration_says() {
    let stage = stage!();
    let device = DeviceNumber { major: 8, minor: 16 };
    let limit = |reads, writes| IoLimit { reads, writes, ..IoLimit::default() };
    let builder = stage.container("said").cpu_burst(Duration::from_millis(20)).cpu_limit(0.5);
    let builder = builder.io_limit(device, limit(Some(1), Some(2))).io_limit(device, limit(Some(3), None));
    let builder = builder.hugepage_limit("2MB", 1).hugepage_limit("2MB", 4 << 20);
    let builder = builder.unified("memory.high", "max");
    let said = serde_json::to_value(builder.spec().linux().as_ref().unwrap().resources()).unwrap();
    let throttle = |rate: u64| json!([{"major": 8, "minor": 16, "rate": rate}]);
    assert_eq!(said["cpu"], json!({"burst": 20_000, "quota": 50_000, "period": 100_000}));
    assert_eq!(
        said["blockIO"],
        json!({"throttleReadIOPSDevice": throttle(3), "throttleWriteIOPSDevice": throttle(2)})
    );
    assert_eq!(said["hugepageLimits"], json!([{"pageSize": "2MB", "limit": 4 << 20}]));
    assert_eq!(said["unified"], json!({"memory.high": "max"}));
}

#[test]
fn memory_that_is_too_little_to_start_in_is_the_error() {
    let stage = stage!();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    // Often, because the cgroups that tell why are removed when the creation has failed.
    for bytes in [4096, 8192, 16 << 10].repeat(5) {
        let error = stage.container("little").args(["true"]).memory_limit(bytes).run().unwrap_err();
        let kind = ErrorKind::InvalidSpec { path: "linux.resources.memory.limit".into() };
        assert_eq!(*error.kind(), kind, "{error}");
        let wanted = format!("{bytes} bytes are too little to start the program in");
        assert!(error.to_string().ends_with(&wanted), "{error}");
    }
}

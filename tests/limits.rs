//! Limits: time, memory, processes, CPU; and what is said where they cannot be set.

mod common;

use cofferdam::{AnyContainer, ErrorKind, Outcome};
use common::{Stage, is_root, may_limit, skip};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[test]
fn a_program_that_runs_too_long_is_killed() {
    let stage = Stage::new();
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
    let stage = Stage::new();
    let exit = stage.shell("intime", "exit 4").timeout(Duration::from_secs(60)).run().unwrap();
    assert_eq!(exit.outcome, Outcome::Exited { code: 4 });
}

#[test]
fn the_time_limit_holds_for_a_loaded_container_too() {
    let stage = Stage::new();
    let builder = stage.container("detached").args(["sleep", "1000"]).timeout(Duration::from_millis(150));
    let running = builder.build().unwrap().create().unwrap().start().unwrap().detach().unwrap();
    let id = running.id().to_string();
    drop(running);
    let loaded = AnyContainer::load(stage.root(), &id).unwrap();
    assert_eq!(loaded.wait().unwrap().outcome, Outcome::TimedOut { after: Duration::from_millis(150) });
    AnyContainer::load(stage.root(), &id).unwrap().delete(false).unwrap();
}

#[test]
fn memory_beyond_the_limit_is_an_outcome_of_its_own() {
    let stage = Stage::new();
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
    let stage = Stage::new();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    let exit = stage.container("fits").args(["true"]).memory_limit(64 << 20).run().unwrap();
    assert_eq!((exit.outcome, exit.oom_kills), (Outcome::Exited { code: 0 }, 0));
    assert!(exit.memory_peak.is_some_and(|peak| peak > 0));
}

#[test]
fn more_processes_than_allowed_cannot_be_made() {
    let stage = Stage::new();
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
fn limits_are_in_the_cgroups_files_and_the_workload_is_under_them() {
    let stage = Stage::new();
    if !["cpu", "memory", "pids"].into_iter().all(may_limit) {
        skip!("this user may not limit all of cpu, memory and pids here");
    }
    let builder = stage.container("files").args(["sleep", "1000"]);
    let builder = builder.cpu_limit(0.5).memory_limit(64 << 20).pids_limit(20);
    let running = builder.build().unwrap().create().unwrap().start().unwrap();
    let cgroups: Vec<PathBuf> = running.record().cgroups.clone();
    let value = |name: &str| {
        let in_or_above = cgroups.iter().flat_map(|leaf| leaf.ancestors().take(2)).map(|dir| dir.join(name));
        let found = in_or_above
            .filter_map(|file| std::fs::read_to_string(file).ok())
            .map(|text| text.trim().to_owned());
        found.collect::<Vec<_>>()
    };
    let any = |names: [&str; 2], wanted: [&str; 2]| {
        names.into_iter().zip(wanted).any(|(name, wanted)| value(name).iter().any(|found| found == wanted))
    };
    assert!(any(["cpu.cfs_quota_us", "cpu.max"], ["50000", "50000 100000"]), "{cgroups:?}");
    assert!(any(["memory.limit_in_bytes", "memory.max"], ["67108864", "67108864"]), "{cgroups:?}");
    assert!(any(["pids.max", "pids.max"], ["20", "20"]), "{cgroups:?}");
    for pid in [running.init_pid(), running.sandbox_pid()] {
        let membership = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let id = running.id().as_str();
        for controller in ["cpu", "memory", "pids"] {
            let v1 = membership.lines().find(|line| line.split(':').nth(1) == Some(controller));
            let line = v1.or_else(|| membership.lines().find(|line| line.starts_with("0::"))).unwrap();
            assert!(line.contains(id), "process {pid} is outside: {line}");
        }
    }
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn limits_that_cannot_be_set_are_refused_and_not_dropped() {
    let stage = Stage::new();
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
fn a_fork_bomb_without_any_cgroup_is_held_by_its_process_limit() {
    let stage = Stage::new();
    let builder = stage.busybox_shell("bomb", "ulimit -u; ulimit -Hu");
    assert_eq!(common::stdout_of(builder).split_whitespace().last(), Some("1024"));
}

#[test]
fn a_container_sees_its_own_cgroups_as_the_roots_of_their_hierarchies() {
    let stage = Stage::new();
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
    let stage = Stage::new();
    if !may_limit("pids") {
        skip!("this user may not limit pids here");
    }
    let builder = stage.container("born").args(["sleep", "1000"]).pids_limit(20);
    let running = builder.build().unwrap().create().unwrap().start().unwrap();
    let leaves: Vec<PathBuf> = running.record().cgroups.clone();
    let Some(leaf) = leaves.iter().find(|leaf| leaf.join("cgroup.events").exists()) else {
        skip!("pids are limited by a v1 hierarchy");
    };
    let parent = common::status_line(&running.sandbox_pid().to_string(), "Uid");
    for file in ["cgroup.procs", "container/cgroup.procs"] {
        let owner = std::fs::metadata(leaf.join(file)).unwrap().uid();
        assert_eq!(parent.split(' ').next().unwrap(), owner.to_string(), "{file}");
    }
    running.kill().unwrap().delete().unwrap();
}

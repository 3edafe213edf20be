//! What engines do with the containers of two runtimes, and what has to be the same: runc is the control.

use crate::engine::{Engine, Wish, output, said, wait_until};
use crate::kit::{is_installed, skip};
use std::path::Path;

/// The container of the runtime that is tested, and that of the control.
const BOTH: [&str; 2] = ["tested", "control"];

/// Starts one with each runtime.
fn start_both(engine: &dyn Engine, wishes: &[Wish<'_>], args: &[&str]) {
    let [tested, control] = BOTH;
    engine.start(tested, wishes, args);
    engine.start_control(control, wishes, args);
}

fn remove_both(engine: &dyn Engine) {
    BOTH.iter().for_each(|name| engine.remove(name));
}

pub(crate) fn changed_limits_are_those_that_runc_sets(engine: &dyn Engine) {
    if !is_installed("runc") {
        skip!("runc is not installed");
    }
    let wishes = [Wish::Memory(64 << 20), Wish::Processes(20), Wish::HalfACpu, Wish::Processors("0")];
    start_both(engine, &wishes, &["sleep", "1000"]);
    let files: &[&str] = match Path::new("/sys/fs/cgroup/memory").exists() {
        true => &[
            "memory/memory.limit_in_bytes",
            "cpu/cpu.cfs_quota_us",
            "cpu/cpu.cfs_period_us",
            "cpu/cpu.shares",
            "pids/pids.max",
            "cpuset/cpuset.cpus",
        ],
        false => &["memory.max", "memory.swap.max", "cpu.max", "cpu.weight", "pids.max", "cpuset.cpus"],
    };
    let limits = |name: &str| files.iter().map(|file| engine.cgroup_file(name, file)).collect::<Vec<_>>();
    let [before, of_runc] = BOTH.map(limits);
    assert_eq!(before, of_runc);
    assert_eq!(before[0], "67108864\n");
    let mut change = vec!["update", "--memory=50331648", "--memory-swap=50331648", "--cpus=0.25"];
    change.extend(engine.updates_processes().then_some("--pids-limit=30"));
    for name in BOTH {
        engine.tell(&[change.as_slice(), &[name]].concat());
    }
    let [after, of_runc] = BOTH.map(limits);
    assert_eq!(after, of_runc);
    assert_eq!(after[0], "50331648\n");
    assert_ne!(after[1..], before[1..]);
    remove_both(engine);
}

pub(crate) fn statistics_and_processes_are_those_that_runc_shows(engine: &dyn Engine) {
    if !is_installed("runc") {
        skip!("runc is not installed");
    }
    let stats = |name: &str| {
        let format = "{{.PIDs}} {{.MemUsage}}";
        let shown = engine.tell(&["stats", "--no-stream", "--format", format, name]);
        let (processes, memory) = shown.trim().split_once(' ').expect("two values");
        // What is in use differs between two runs of one runtime, too; the limit does not.
        let limit = memory.rsplit('/').next().unwrap_or_default().trim();
        (processes.to_owned(), limit.to_owned())
    };
    let commands = |name: &str| {
        let shown = engine.top(name);
        let names = shown.lines().skip(1).map(|line| line.contains("sleep 1000"));
        names.collect::<Vec<_>>()
    };
    let several = "sleep 1000 & sleep 1000 & touch /tmp/ready; wait";
    for (script, processes) in [("touch /tmp/ready; exec sleep 1000", "1"), (several, "3")] {
        start_both(engine, &[Wish::Memory(64 << 20)], &["sh", "-c", script]);
        for name in BOTH {
            let is_ready = || engine.exec(name, &[], "test -e /tmp/ready").status.success();
            wait_until("its processes are there", is_ready, || engine.top(name));
        }
        let [tested, control] = BOTH.map(stats);
        assert_eq!(tested, control, "{script}");
        assert_eq!(tested.0, processes, "{script}");
        let [tested, control] = BOTH.map(commands);
        assert_eq!(tested, control, "{script}");
        remove_both(engine);
    }
}

pub(crate) fn a_further_process_of_a_user_is_what_it_is_with_runc(engine: &dyn Engine) {
    if !is_installed("runc") {
        skip!("runc is not installed");
    }
    start_both(engine, &[], &["sleep", "1000"]);
    let script =
        "id -u; id -g; id -G; echo $HOME; pwd; umask; grep -E 'Cap|Seccomp|NoNewPrivs' /proc/self/status";
    for user in ["0", "1000:1001", "7"] {
        let seen = BOTH.map(|name| {
            let run = engine.exec(name, &[Wish::User(user)], script);
            assert!(run.status.success(), "{user}: {}", said(&run));
            said(&run)
        });
        assert_eq!(seen[0], seen[1], "{user}");
    }
    remove_both(engine);
}

pub(crate) fn its_health_is_seen_to_change(engine: &dyn Engine) {
    if !is_installed("runc") {
        skip!("runc is not installed");
    }
    start_both(engine, &[Wish::HealthCommand("test -e /tmp/well")], &["sleep", "1000"]);
    for name in BOTH {
        let health = || engine.tell(&["inspect", "--format", "{{.State.Health.Status}}", name]);
        let log = || said(&output(engine.client().args(["inspect", name])));
        wait_until("it is unhealthy", || health().trim() == "unhealthy", log);
        assert!(engine.exec(name, &[], "touch /tmp/well").status.success());
        wait_until("it is healthy", || health().trim() == "healthy", log);
    }
    remove_both(engine);
}

//! Programs that take all that they can get: a limit holds each of them, the kernel's counters show it, and nothing is
//! left. The program that opens every device is in `isolation/devices`.

use crate::kit::limits::directory_on_a_disk;
use crate::kit::{may_limit, skip, stage, start};
use cofferdam::builder::IoLimit;
use cofferdam::events::Event;
use cofferdam::{AnyContainer, Container, Exec, Outcome, Running, Signal, Stats};
use std::time::{Duration, Instant};

/// The first statistics for which `enough` is true; `None` if the container ends before.
fn stats_before_exit(running: &Container<Running>, enough: impl Fn(&Stats) -> bool) -> Option<Stats> {
    let events = running.events().unwrap().stats_every(Duration::from_millis(20));
    events.map(Result::unwrap).find_map(|event| match event {
        Event::Stats(stats) if enough(&stats) => Some(*stats),
        _ => None,
    })
}

fn stats_when(running: &Container<Running>, enough: impl Fn(&Stats) -> bool) -> Stats {
    stats_before_exit(running, enough).expect("it runs until it is killed")
}

#[test]
fn a_memory_bomb_ends_as_out_of_memory_with_its_peak_at_the_limit() {
    let stage = stage!();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    let limit: u64 = 32 << 20;
    // Each process doubles a string of its own, init too: the kernel may kill the others first, and the test waits for
    // init.
    let hoard = "hoard() { s=0123456789abcdef; while :; do s=$s$s; done; }; hoard & hoard & hoard";
    let running = start(stage.busybox_shell("memory", hoard).memory_limit(limit));
    let events: Vec<Event> = running.events().unwrap().map(Result::unwrap).collect();
    assert!(events.iter().any(|event| matches!(event, Event::OutOfMemory)), "{events:?}");
    let stopped = running.wait_stopped().unwrap();
    let exit = stopped.exit().clone();
    assert_eq!(exit.outcome, Outcome::OutOfMemory, "{exit:?}");
    assert!(exit.oom_kills >= 1, "{exit:?}");
    // Every CPU may have a batch of pages charged ahead.
    let peak = exit.memory_peak.unwrap();
    assert!(peak > limit / 2 && peak <= limit + (1 << 20), "{exit:?}");
    stopped.delete().unwrap();
    assert!(stage.changes().is_empty(), "{:?}", stage.changes());
}

#[test]
fn memory_filled_by_files_ends_the_workload_and_not_the_sandbox() {
    let stage = stage!();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    for round in 0..3 {
        let fill = stage.container(&format!("files{round}")).args([
            "dd",
            "if=/dev/zero",
            "of=/tmp/file",
            "bs=65536",
        ]);
        let exit = fill.memory_limit(32 << 20).run().unwrap();
        assert_eq!(exit.outcome, Outcome::OutOfMemory, "{exit:?}");
        // Only a sandbox that lives records these.
        assert!(exit.started_at.is_some() && exit.finished_at.is_some(), "{exit:?}");
        assert!(exit.memory_peak.is_some_and(|peak| peak >= 31 << 20), "{exit:?}");
    }
    assert!(stage.changes().is_empty(), "{:?}", stage.changes());
}

#[test]
fn an_executed_process_that_runs_out_of_memory_says_so_and_the_container_goes_on() {
    let stage = stage!();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    let running = start(stage.container("execs").args(["sleep", "1000"]).memory_limit(32 << 20));
    let outcome = |args: &[&str]| running.exec_output(Exec::new(args)).unwrap().exit.outcome;
    let killed = Outcome::Signalled { signal: Signal::KILL, core_dumped: false };
    for (args, expected) in [
        (["sh", "-c", "kill -9 $$"], killed),
        (["sh", "-c", "exec tail /dev/zero"], Outcome::OutOfMemory),
        // The kernel kills a child of this process, which then exits by itself.
        (["sh", "-c", "tail /dev/zero; exit 7"], Outcome::Exited { code: 7 }),
        // Kills that the kernel counted before the process began do not matter.
        (["sh", "-c", "kill -9 $$"], killed),
    ] {
        assert_eq!(outcome(&args), expected, "{args:?}");
    }
    let process = running.exec(Exec::new(["sh", "-c", "exec tail /dev/zero"])).unwrap();
    let exit = process.wait().unwrap();
    assert_eq!((exit.outcome, exit.outcome.shell_code()), (Outcome::OutOfMemory, 137));
    drop(process);
    running.kill().unwrap().delete().unwrap();
    assert!(stage.changes().is_empty(), "{:?}", stage.changes());
}

#[test]
fn a_fork_bomb_gets_as_many_processes_as_it_may_have_and_dies_whole() {
    let stage = stage!();
    if !may_limit("pids") {
        skip!("this user may not limit pids here");
    }
    // The first process starts the bomb and is no part of it: it does not fork again.
    let bomb = "bomb() { bomb | bomb & }; bomb 2>/dev/null; exec sleep 1000";
    let running = start(stage.busybox_shell("forks", bomb).pids_limit(24));
    let stats = stats_when(&running, |stats| stats.pids.is_some_and(|pids| pids.refused >= Some(1)));
    let pids = stats.pids.unwrap();
    assert_eq!(pids.limit, Some(24));
    assert!(pids.current <= 24, "{pids:?}");
    running.kill().unwrap().delete().unwrap();
    assert!(stage.changes().is_empty(), "{:?}", stage.changes());
}

#[test]
fn a_fork_bomb_that_was_executed_is_gone_with_its_timeout_and_nothing_else_is() {
    let stage = stage!();
    if !may_limit("pids") {
        skip!("this user may not limit pids here");
    }
    let running = start(stage.busybox_shell("timeout", "exec sleep 1000").pids_limit(48));
    // As above, the first process does not fork again.
    let bomb = "bomb() { bomb | bomb & }; bomb 2>/dev/null; exec sleep 1000";
    let limit = Duration::from_secs(1);
    let exec = Exec::new(["sh", "-c", bomb]).timeout(limit);
    let outcome = running.exec_output(exec).unwrap().exit.outcome;
    assert_eq!(outcome, Outcome::TimedOut { after: limit });
    let deadline = Instant::now() + Duration::from_secs(20);
    // Killed processes need a moment to end.
    while running.processes().unwrap().len() > 1 {
        assert!(Instant::now() < deadline, "{:?}", running.processes().unwrap());
    }
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_cpu_burner_gets_its_share_of_each_period_and_no_more() {
    let stage = stage!();
    if !may_limit("cpu") {
        skip!("this user may not limit cpu here");
    }
    let share = 0.2;
    let burn = "while :; do :; done & while :; do :; done";
    let builder = stage.busybox_shell("cpu", burn).cpu_limit(share).cgroups_path(stage.id("cpu"));
    let running = start(builder);
    let stats = stats_when(&running, |stats| stats.cpu.is_some_and(|cpu| cpu.throttled >= Some(10)));
    let cpu = stats.cpu.unwrap();
    assert!(cpu.throttled_time.is_some_and(|time| time > Duration::ZERO), "{cpu:?}");
    // The kernel hands a period's share out in slices, so that a CPU may overdraw by one.
    let period = Duration::from_millis(100);
    let periods = u32::try_from(cpu.periods.unwrap()).unwrap();
    let share_of_all = period.mul_f64(share) * (periods + 1);
    assert!(cpu.usage.unwrap() <= share_of_all.mul_f64(1.5), "{share_of_all:?} was its share: {cpu:?}");
    running.kill().unwrap().delete().unwrap();
    assert!(stage.changes().is_empty(), "{:?}", stage.changes());
}

#[test]
fn an_io_writer_writes_at_its_rate_and_no_faster() {
    let stage = stage!();
    if !may_limit("io") {
        skip!("this user may not limit I/O here");
    }
    let Some((scratch, disk)) = directory_on_a_disk() else { skip!("temporary files are on no whole disk") };
    let rate: u64 = 1 << 20;
    // Bypass the page cache, whose content a kernel thread writes to the disk later.
    let write = "while dd if=/dev/zero of=/scratch/file bs=65536 count=64 oflag=direct; do :; done";
    let limit = IoLimit { write_bytes: Some(rate), ..IoLimit::default() };
    let builder = stage.busybox_shell("writer", write).bind_rw(scratch.path(), "/scratch");
    let builder = builder.io_limit(disk, limit).cgroups_path(stage.id("writer"));
    let began = Instant::now();
    let running = start(builder);
    let written = |stats: &Stats| {
        let mut devices = stats.io.iter().flatten();
        devices.find(|io| (io.major, io.minor) == (disk.major, disk.minor)).map_or(0, |io| io.write_bytes)
    };
    let Some(stats) = stats_before_exit(&running, |stats| written(stats) >= 2 * rate) else {
        running.wait_stopped().unwrap().delete().unwrap();
        skip!("the file system of temporary files has no direct writes");
    };
    // The clock began before the writer and was read after its count, so that a busy machine is no excuse. The kernel
    // hands a rate out in slices, so that a writer may overdraw by one.
    let bytes_of_rate = began.elapsed().as_secs_f64() * rate as f64;
    let slice = rate as f64 / 4.0;
    assert!(
        written(&stats) as f64 <= bytes_of_rate + slice,
        "{bytes_of_rate} were its share: {:?}",
        stats.io
    );
    running.kill().unwrap().delete().unwrap();
    assert!(stage.changes().is_empty(), "{:?}", stage.changes());
}

#[test]
fn the_kernels_count_outlives_a_sandbox_that_was_killed_with_its_container() {
    let stage = stage!();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    // Init goes on: when the sandbox is killed, it has recorded no end.
    let hoard = "(s=0123456789abcdef; while :; do s=$s$s; done); exec sleep 1000";
    let running = start(stage.busybox_shell("both", hoard).memory_limit(32 << 20));
    stats_when(&running, |stats| stats.memory.is_some_and(|memory| memory.oom_kills >= Some(1)));
    let sandbox = rustix::process::Pid::from_raw(running.sandbox_pid()).unwrap();
    rustix::process::kill_process(sandbox, rustix::process::Signal::KILL).unwrap();
    let stopped = running.wait_stopped().unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::OutOfMemory);
    assert!(stopped.exit().oom_kills >= 1 && stopped.exit().started_at.is_none(), "{:?}", stopped.exit());
    let loaded = AnyContainer::load(stage.root(), stopped.id().as_str()).unwrap();
    assert_eq!(loaded.wait().unwrap(), *stopped.exit(), "every handle sees the same");
    stopped.delete().unwrap();
    assert!(stage.changes().is_empty(), "{:?}", stage.changes());
}

//! Containers whose PID 1 is a restored process: CRIU makes it, and with it the pid namespace.

#![expect(
    clippy::disallowed_methods,
    reason = "tests make plain directories, and wait for what must not happen"
)]

use crate::kit::criu::criu_or_skip;
use crate::kit::{Stage, await_end, may_limit, skip, stage, start, status_line};
use crate::restore::{
    IMAGE, asks_for_more, assert_nothing_left, children_of, count, counter, image_of, restore,
    restore_as_nobody, until,
};
use cofferdam::checkpoint::{Criu, Image};
use cofferdam::{
    Container, ContainerBuilder, Created, ErrorKind, Exec, Outcome, Running, Signal, StateRoot, Stdio,
};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn first(stage: &Stage, name: &str) -> ContainerBuilder {
    counter(stage, name).init(false)
}

fn counting(stage: &Stage, name: &str) -> Container<Running> {
    let running = start(first(stage, name));
    until("it counts", || count(&running) > 3);
    running
}

fn image_of_first(stage: &Stage, criu: &Criu) -> Image {
    image_of(counting(stage, "before"), criu, stage)
}

/// The last number of the process's `NSpid`, its pid in the innermost pid namespace.
fn pid_inside(pid: i32) -> String {
    status_line(&pid.to_string(), "NSpid").split_whitespace().last().unwrap().to_owned()
}

fn goes_on(created: Container<Created>) -> Container<Running> {
    let held = count(&created);
    assert!(held > 3, "what it wrote came along: {held}");
    let pid = created.init_pid();
    assert_eq!(pid_inside(pid), "1");
    let state = status_line(&pid.to_string(), "State");
    assert!(state.contains("tracing stop"), "{state}");
    let running = created.start().unwrap();
    until("it goes on", || count(&running) > held + 3);
    assert_eq!(status_line(&pid.to_string(), "TracerPid").trim(), "0");
    running
}

#[test]
fn a_pid_1_goes_on_as_pid_1_of_a_new_container() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let before = counting(&stage, "before");
    let view = |running: &Container<Running>| {
        let script = "tr '\\0' ' ' </proc/1/cmdline; ls /; readlink /proc/1/root /proc/1/cwd; \
             cut -d' ' -f2,3 /proc/1/mounts; cat /proc/sys/kernel/hostname; ls -l /proc/1/fd | sed 's/.* -> //'";
        loop {
            let output = running.exec_output(Exec::new(["sh", "-c", script])).unwrap();
            assert!(output.exit.outcome.success(), "{output:?}");
            let text = String::from_utf8(output.stdout).unwrap();
            // While the counter writes, its file is one of its streams.
            if !text.contains("/tmp/new\n") {
                return text;
            }
        }
    };
    let seen = view(&before);
    let image = image_of(before, &criu, &stage);
    let running = goes_on(restore(first(&stage, "after"), &image, &criu).unwrap());
    assert_eq!(view(&running), seen);
    let processes = running.processes().unwrap();
    assert!(
        processes.iter().any(|process| process.pid == 1 && process.command().contains("while")),
        "{processes:?}"
    );
    assert!(processes.iter().all(|process| !process.command().contains("criu")), "{processes:?}");

    let paused = running.pause().unwrap();
    let held = count(&paused);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(count(&paused), held);
    let running = paused.resume().unwrap();
    until("it goes on after a pause", || count(&running) > held);
    // The kernel shields a PID 1 from it, restored or not; the sandbox does not.
    running.signal(Signal::TERM).unwrap();
    let stopped = running.wait_stopped().unwrap();
    assert!(matches!(stopped.exit().outcome, Outcome::Killed { .. }), "{:?}", stopped.exit());
    stopped.delete().unwrap();
    assert_nothing_left(&stage);
}

#[test]
fn a_pid_1_keeps_its_streams_and_ends_with_its_own_status() {
    let stage = stage!();
    let criu = criu_or_skip!();
    // An orphan, which is a child of PID 1 from then on.
    let script =
        "(sleep 1000 & echo $! >/tmp/orphan); echo 4 >/tmp/count; read word; echo read $word; exit 7";
    let piped = |name: &str| {
        let builder = stage.shell(name, script).init(false).scratch(Some(1 << 20));
        builder.stdin(Stdio::piped()).stdout(Stdio::piped())
    };
    let running = start(piped("before"));
    until("the orphan is there", || count(&running) == 4);
    let image = image_of(running, &criu, &stage);
    let mut created = restore(piped("after"), &image, &criu).unwrap();
    let (mut stdin, mut stdout) = (created.take_stdin().unwrap(), created.take_stdout().unwrap());
    let running = created.start().unwrap();
    assert_eq!(running.processes().unwrap().len(), 2);
    stdin.write_all(b"hello\n").unwrap();
    let mut said = String::new();
    stdout.read_to_string(&mut said).unwrap();
    assert_eq!(said, "read hello\n");
    let stopped = running.wait_stopped().unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Exited { code: 7 });
    stopped.delete().unwrap();
    drop((stdin, stdout));
    assert_nothing_left(&stage);
}

#[test]
fn a_pid_1_is_restored_again_and_again() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let mut image = image_of_first(&stage, &criu);
    for round in 0..3 {
        let running = goes_on(restore(first(&stage, "after"), &image, &criu).unwrap());
        let directory = stage.path().join(format!("again-{round}")).join("image");
        std::fs::create_dir_all(directory.parent().unwrap()).unwrap();
        let stopped = running.checkpoint(&criu, &directory).unwrap();
        assert_eq!(stopped.exit().outcome, Outcome::Checkpointed);
        stopped.delete().unwrap();
        image = Image::open(directory).unwrap();
    }
}

#[test]
fn a_pid_1_without_a_user_namespace_is_restored() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let plain = |name: &str| first(&stage, name).without_user_namespace();
    let running = start(plain("before"));
    until("it counts", || count(&running) > 3);
    let image = image_of(running, &criu, &stage);
    let running = goes_on(restore(plain("after"), &image, &criu).unwrap());
    running.kill().unwrap().delete().unwrap();
    assert_nothing_left(&stage);
}

#[test]
fn a_pid_1_that_asks_for_more_is_refused_before_it_runs() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let image = image_of_first(&stage, &criu);
    let refused = |image: &Image, expected: &str| {
        let error = restore(first(&stage, "after"), image, &criu).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Stale, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_nothing_left(&stage);
    };
    let image = asks_for_more(image, 1, refused);
    drop(restore(first(&stage, "after"), &image, &criu).unwrap());
}

#[test]
fn an_image_fits_a_container_with_the_same_pid_1_only() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let image = image_of_first(&stage, &criu);
    let error = counter(&stage, "after").restore(&image, &criu).unwrap().build().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unsupported { feature: "init".into() });
    assert!(error.to_string().contains("restore it with init(false)"), "{error}");
}

#[test]
fn the_limits_of_the_new_configuration_hold_for_a_pid_1() {
    let stage = stage!();
    let criu = criu_or_skip!();
    if !may_limit("pids") {
        skip!("no limit of processes can be set here");
    }
    let script = "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo 4 >/tmp/count; wait";
    let family = |name: &str| stage.shell(name, script).init(false).scratch(Some(1 << 20));
    let running = start(family("before"));
    until("all are there", || count(&running) == 4);
    let image = image_of(running, &criu, &stage);
    let error = restore(family("after").pids_limit(5), &image, &criu).unwrap_err();
    assert!(error.to_string().starts_with("criu restore: "), "{error}");
    assert_nothing_left(&stage);
    let running = restore(family("after").pids_limit(20), &image, &criu).unwrap().start().unwrap();
    assert_eq!(running.processes().unwrap().len(), 9);
    running.kill().unwrap().delete().unwrap();
    assert_nothing_left(&stage);
}

/// The children of the sandbox: CRIU, the PID 1 above the container's, and that.
fn helpers(created: &Container<Created>) -> Vec<i32> {
    children_of(created.sandbox_pid()).into_iter().filter(|pid| *pid != created.init_pid()).collect()
}

#[test]
fn whichever_process_is_killed_while_a_pid_1_is_held_nothing_stays() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let image = image_of_first(&stage, &criu);
    let killed = |which: fn(&Container<Created>) -> i32| {
        let created = restore(first(&stage, "after"), &image, &criu).unwrap();
        let (pids, victim) = ([created.sandbox_pid(), created.init_pid()], which(&created));
        let victim = rustix::process::Pid::from_raw(victim).unwrap();
        rustix::process::kill_process(victim, rustix::process::Signal::KILL).unwrap();
        pids.into_iter().for_each(await_end);
        drop(created.start().unwrap_err());
        assert_nothing_left(&stage);
    };
    killed(|created| *helpers(created).iter().find(|pid| pid_inside(**pid) == "1").unwrap());
    killed(|created| *helpers(created).iter().find(|pid| pid_inside(**pid) != "1").unwrap());
    killed(|created| created.init_pid());
    killed(|created| created.sandbox_pid());
    let created = restore(first(&stage, "after"), &image, &criu).unwrap();
    created.kill().unwrap().delete().unwrap();
    drop(restore(first(&stage, "after"), &image, &criu).unwrap());
    assert_nothing_left(&stage);
}

/// Tells a process by its pids in each pid namespace: the host's, the sandbox's, and those below.
type IsIt = fn(&[i32]) -> bool;

/// The sandbox, or the child of one, that `is_it`.
fn find(is_it: IsIt) -> Option<i32> {
    let this = std::process::id().cast_signed();
    let sandboxes = children_of(this);
    let below: Vec<_> = sandboxes.iter().copied().flat_map(children_of).collect();
    below.into_iter().chain(sandboxes).find(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        let numbers: Vec<i32> = numbers.split_whitespace().map(|number| number.parse().unwrap()).collect();
        is_it(&numbers)
    })
}

#[test]
fn whichever_process_is_killed_while_a_pid_1_is_made_nothing_stays() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let image = image_of_first(&stage, &criu);
    let victims: [(&str, IsIt); 4] = [
        ("sandbox", |numbers| numbers.len() == 2 && numbers[1] == 1),
        ("init", |numbers| numbers.len() == 3 && numbers[2] == 1),
        ("criu", |numbers| numbers.len() == 3 && numbers[2] == 2),
        ("first", |numbers| numbers.len() == 4 && numbers[3] == 1),
    ];
    for (name, is_it) in victims {
        let mut failures = 0;
        for delay in (0..60).step_by(6) {
            let victim = std::thread::spawn(move || {
                let begun = Instant::now();
                let found = std::iter::repeat_with(|| find(is_it))
                    .take_while(|_| begun.elapsed() < Duration::from_secs(10));
                let pid = found.flatten().next().expect("it is there for some time");
                std::thread::sleep(Duration::from_millis(delay));
                let pid = rustix::process::Pid::from_raw(pid).unwrap();
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            });
            let restored = restore(first(&stage, "after"), &image, &criu);
            victim.join().unwrap();
            match restored {
                Ok(created) => drop(created),
                Err(_) => failures += 1,
            }
            assert_nothing_left(&stage);
        }
        assert!(failures > 0, "{name} was never killed before the container was created");
    }
}

#[test]
fn an_unprivileged_user_restores_a_pid_1_that_root_has_dumped() {
    if let Some(path) = std::env::var_os(IMAGE).map(PathBuf::from) {
        let criu = Criu::at(crate::kit::criu::path().unwrap()).unwrap();
        let image = Image::open(&path).unwrap();
        let root = StateRoot::open(path.with_file_name("root")).unwrap();
        let builder = ContainerBuilder::new().state_root(root).init(false).scratch(Some(1 << 20));
        let running = goes_on(restore(builder, &image, &criu).unwrap());
        return running.kill().unwrap().delete().unwrap();
    }
    let stage = stage!();
    let criu = criu_or_skip!();
    let image = image_of_first(&stage, &criu);
    restore_as_nobody("restored_pid_1::an_unprivileged_user_restores_a_pid_1_that_root_has_dumped", &image);
}

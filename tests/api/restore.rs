//! Containers that are restored from an image: they go on where they were, with what the new configuration allows.

#![expect(clippy::disallowed_methods, reason = "tests read and write plain files of their own")]

use crate::kit::caller::{self, Caller};
use crate::kit::criu::criu_or_skip;
use crate::kit::process::again;
use crate::kit::{Stage, await_end, may_limit, skip, stage, start, status_line};
use cofferdam::checkpoint::{Criu, Image};
use cofferdam::typestate::{Alive, Phase};
use cofferdam::{
    Container, ContainerBuilder, Created, Error, ErrorKind, Exec, Outcome, Running, Signal, StateRoot, Stdio,
};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Tells a test run again which image an unprivileged user restores.
pub(crate) const IMAGE: &str = "COFFERDAM_TEST_IMAGE";

/// Counts in a file of its `/tmp`, which always is whole.
pub(crate) const COUNTER: &str =
    "i=0; while :; do i=$((i+1)); echo $i >/tmp/new; mv /tmp/new /tmp/count; sleep 0.02; done";

/// What the counter has counted to. Not by the container's own means, which a test may not want to disturb.
pub(crate) fn count<P: Phase + Alive>(container: &Container<P>) -> u32 {
    let file = format!("/proc/{}/root/tmp/count", container.init_pid());
    std::fs::read_to_string(file).unwrap_or_default().trim().parse().unwrap_or(0)
}

/// Nothing but the images that the test has open.
pub(crate) fn assert_nothing_left(stage: &Stage) {
    let changes = stage.changes().into_iter().filter(|change| !change.ends_with("/image"));
    let changes: Vec<_> = changes.collect();
    assert!(changes.is_empty(), "{changes:?}");
}

pub(crate) fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An image of the container, which then is gone.
pub(crate) fn image_of(running: Container<Running>, criu: &Criu, stage: &Stage) -> Image {
    let directory = stage.path().join("image");
    running.snapshot(criu, &directory).unwrap();
    running.kill().unwrap().delete().unwrap();
    Image::open(directory).unwrap()
}

pub(crate) fn image_of_counter(stage: &Stage, criu: &Criu) -> Image {
    let running = start(counter(stage, "before"));
    until("it counts", || count(&running) > 3);
    image_of(running, criu, stage)
}

pub(crate) fn counter(stage: &Stage, name: &str) -> ContainerBuilder {
    stage.shell(name, COUNTER).scratch(Some(1 << 20))
}

pub(crate) fn restore(
    builder: ContainerBuilder,
    image: &Image,
    criu: &Criu,
) -> Result<Container<Created>, Error> {
    Ok(builder.restore(image, criu)?.build()?.create()?)
}

#[test]
fn a_counter_goes_on_counting_in_a_new_container() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let image = image_of_counter(&stage, &criu);
    let created = restore(counter(&stage, "after"), &image, &criu).unwrap();
    let held = count(&created);
    assert!(held > 3, "what it wrote came along: {held}");
    let state = status_line(&created.init_pid().to_string(), "State");
    assert!(state.contains("tracing stop"), "{state}");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(count(&created), held, "it has run before the start");

    let running = created.start().unwrap();
    until("it goes on", || count(&running) > held + 3);
    assert_eq!(status_line(&running.init_pid().to_string(), "TracerPid").trim(), "0");
    let inside = running.exec_output(Exec::new(["cat", "/tmp/count"])).unwrap();
    assert!(inside.exit.outcome.success(), "{inside:?}");
    let processes = running.processes().unwrap();
    assert!(processes.iter().all(|process| !process.command().contains("criu")), "{processes:?}");
    let paused = running.pause().unwrap();
    let before = count(&paused);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(count(&paused), before);
    let running = paused.resume().unwrap();
    until("it goes on after a pause", || count(&running) > before);
    running.signal(Signal::TERM).unwrap();
    let stopped = running.wait_stopped().unwrap();
    assert!(matches!(stopped.exit().outcome, Outcome::Killed { .. }), "{:?}", stopped.exit());
    stopped.delete().unwrap();
    assert_nothing_left(&stage);
}

/// A child in the background, a pipeline, and a status of its own.
const FAMILY: &str = "sleep 1000 & (while :; do echo x; sleep 0.02; done | while read line; do echo $line >/tmp/piped; done) & \
     read word; echo read $word; exit 7";

#[test]
fn a_family_of_processes_keeps_its_streams_and_ends_with_its_own_status() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let piped = |name: &str| {
        let builder = stage.shell(name, FAMILY).scratch(Some(1 << 20));
        builder.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped())
    };
    let running = start(piped("before"));
    let file = format!("/proc/{}/root/tmp/piped", running.init_pid());
    until("the pipeline works", || std::fs::metadata(&file).is_ok_and(|file| file.len() > 0));
    let image = image_of(running, &criu, &stage);
    let mut created = restore(piped("after"), &image, &criu).unwrap();
    let (mut stdin, mut stdout) = (created.take_stdin().unwrap(), created.take_stdout().unwrap());
    let running = created.start().unwrap();
    let file = format!("/proc/{}/root/tmp/piped", running.init_pid());
    std::fs::remove_file(&file).unwrap();
    until("the pipeline goes on", || std::fs::metadata(&file).is_ok_and(|file| file.len() > 0));
    stdin.write_all(b"hello\n").unwrap();
    let mut said = String::new();
    BufReader::new(&mut stdout).read_line(&mut said).unwrap();
    assert_eq!(said, "read hello\n");
    let stopped = running.wait_stopped().unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Exited { code: 7 });
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "no other process holds the stream");
    stopped.delete().unwrap();
    drop((stdin, stdout));
    assert_nothing_left(&stage);
}

#[test]
fn nothing_of_the_host_is_reachable_from_a_restored_process() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let running = start(counter(&stage, "before"));
    until("it counts", || count(&running) > 3);
    let fds = |pid: i32| {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let links = fds.map(|fd| std::fs::read_link(fd.unwrap().path()).unwrap());
        let mut links: Vec<_> = links.map(|link| link.to_string_lossy().into_owned()).collect();
        links.sort();
        links
    };
    // Paths as the process sees them: the host's and the container's mounts have other numbers.
    let files = |pid: i32| {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let paths = maps.lines().filter_map(|line| Some(line[line.find('/')?..].to_owned()));
        paths.collect::<std::collections::BTreeSet<_>>()
    };
    let mounts = |pid: i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        let points = text.lines().map(|line| line.split(' ').nth(4).unwrap().to_owned());
        points.collect::<Vec<_>>()
    };
    let pid = running.init_pid();
    let before = (fds(pid), files(pid), mounts(pid));
    let image = image_of(running, &criu, &stage);
    let running = restore(counter(&stage, "after"), &image, &criu).unwrap().start().unwrap();
    let pid = running.init_pid();
    assert_eq!((fds(pid), files(pid), mounts(pid)), before);
    let root = std::fs::read_link(format!("/proc/{pid}/root")).unwrap();
    assert_eq!(root, Path::new("/"));
    for field in ["CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"] {
        assert_eq!(status_line(&pid.to_string(), field).trim(), "0000000000000000", "{field}");
    }
    assert_eq!(status_line(&pid.to_string(), "NoNewPrivs").trim(), "1");
    assert_eq!(status_line(&pid.to_string(), "Seccomp").trim(), "2");
    running.kill().unwrap().delete().unwrap();
}

/// Changes the bytes `from` of one of CRIU's files to `to`, once, and has the manifest say so.
fn tamper(image: &Image, file: &str, from: &[u8], to: &[u8]) -> Image {
    let path = image.path().join(file);
    let mut bytes = std::fs::read(&path).unwrap();
    let place = bytes.windows(from.len()).position(|window| window == from).expect("the bytes are there");
    bytes[place..place + from.len()].copy_from_slice(to);
    let digest = |path: &Path| {
        let output = Command::new("sha256sum").arg(path).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
    };
    let before = digest(&path);
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(*Image::open(image.path()).unwrap_err().kind(), ErrorKind::Stale, "a digest that differs");
    let manifest = image.path().join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap().replace(&before, &digest(&path));
    std::fs::write(&manifest, text).unwrap();
    Image::open(image.path()).unwrap()
}

/// `creds_entry` of `core.proto` from `cap_inh` on: two words each of inheritable, permitted, effective and bounding.
const NO_CAPABILITIES: &[u8] =
    &[0x48, 0, 0x48, 0, 0x50, 0, 0x50, 0, 0x58, 0, 0x58, 0, 0x60, 0, 0x60, 0, 0x68, 0];
const FIRST_CAPABILITIES: &[u8] =
    &[0x48, 0, 0x48, 0, 0x50, 0x7f, 0x50, 0, 0x58, 0x7f, 0x58, 0, 0x60, 0x7f, 0x60, 0, 0x68, 0];
/// `thread_core_entry` from `seccomp_mode` to `comm`, of the shell in this file: as it is, and without a filter.
fn filtered_and_not(image: &Image, core: &str) -> [[u8; 8]; 2] {
    let bytes = std::fs::read(image.path().join(core)).unwrap();
    let with = |mode, filter| [0x58, mode, 0x60, filter, 0x6a, 2, b's', b'h'];
    // CRIU counts filters in the order of the pids on the host, and a child of the shell may have a lower one.
    let is_its = |filter: &u8| bytes.windows(8).any(|window| window == with(2, *filter));
    let filter = (0..4).find(is_its).expect("the filter of the shell");
    [with(2, filter), with(0, filter)]
}

/// Has this process, a shell, ask for more in turn, each of which is `refused` with these words. Returns the image as it was.
pub(crate) fn asks_for_more(image: Image, pid: i32, refused: impl Fn(&Image, &str)) -> Image {
    let core = &format!("criu/core-{pid}.img");
    let image = tamper(&image, core, NO_CAPABILITIES, FIRST_CAPABILITIES);
    refused(&image, &format!("image: process {pid}: its CapBnd is 0x7f, and the configuration allows 0x0"));
    let image = tamper(&image, core, FIRST_CAPABILITIES, NO_CAPABILITIES);
    let [filtered, unfiltered] = filtered_and_not(&image, core);
    let image = tamper(&image, core, &filtered, &unfiltered);
    refused(&image, &format!("image: process {pid}: its Seccomp mode is 0, and the configuration's is 2"));
    tamper(&image, core, &unfiltered, &filtered)
}

#[test]
fn an_image_that_asks_for_more_is_refused_before_it_runs() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let image = image_of_counter(&stage, &criu);
    let refused = |image: &Image, expected: &str| {
        let error = restore(counter(&stage, "after"), image, &criu).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Stale, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_nothing_left(&stage);
    };
    let image = asks_for_more(image, 2, refused);
    // ABI check of the filter: `jeq #0xc000003e`, or whatever it compares with first.
    let filter = std::fs::read(image.path().join("criu/seccomp.img")).unwrap();
    let place = filter.windows(4).position(|window| window == [0x15, 0, 0, 0xe5]);
    if let Some(place) = place {
        let from = filter[place..place + 8].to_vec();
        let mut to = from.clone();
        to[7] ^= 1;
        let image = tamper(&image, "criu/seccomp.img", &from, &to);
        refused(&image, "its processes have another seccomp filter than the configuration");
        tamper(&image, "criu/seccomp.img", &to, &from);
    }
    // It is the image that was refused, and nothing else.
    let image = Image::open(image.path()).unwrap();
    let running = restore(counter(&stage, "after"), &image, &criu).unwrap().start().unwrap();
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn what_a_restored_container_cannot_have_is_refused_by_its_name() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let image = image_of_counter(&stage, &criu);
    let refused = |builder: ContainerBuilder| builder.restore(&image, &criu).unwrap().build().unwrap_err();
    let feature = |builder| match refused(builder).kind().clone() {
        ErrorKind::Unsupported { feature } => feature,
        other => panic!("{other:?}"),
    };
    assert_eq!(feature(counter(&stage, "after").init(false)), "init");
    assert_eq!(feature(counter(&stage, "after").terminal()), "process.terminal");
    let error = refused(counter(&stage, "after").stdout(Stdio::piped()));
    assert_eq!(*error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().starts_with("ContainerBuilder::stdout: "), "{error}");
    // The filter of the image is another one.
    let error = refused(counter(&stage, "after").seccomp(Some(Default::default())));
    assert!(error.to_string().contains("seccomp"), "{error}");
    // Cut in the middle of a file.
    let path = image.path().join("criu/core-2.img");
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length / 2).unwrap();
    assert_eq!(*Image::open(image.path()).unwrap_err().kind(), ErrorKind::Stale);
    // Also if that was done after the image was opened.
    let error = counter(&stage, "after").restore(&image, &criu).unwrap_err();
    assert_eq!(error.to_string(), "image: criu/core-2.img: it was changed after the image was opened");
    assert_nothing_left(&stage);
}

#[test]
fn the_limits_of_the_new_configuration_hold() {
    let stage = stage!();
    let criu = criu_or_skip!();
    if !may_limit("pids") {
        skip!("no limit of processes can be set here");
    }
    let script = "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo 1 >/tmp/count; wait";
    let family = |name: &str| stage.shell(name, script).scratch(Some(1 << 20));
    let running = start(family("before"));
    until("all are there", || count(&running) == 1);
    let image = image_of(running, &criu, &stage);
    let error = restore(family("after").pids_limit(4), &image, &criu).unwrap_err();
    assert!(error.to_string().starts_with("criu restore: "), "{error}");
    assert_nothing_left(&stage);
    let running = restore(family("after").pids_limit(20), &image, &criu).unwrap().start().unwrap();
    assert_eq!(running.processes().unwrap().len(), 9);
    running.kill().unwrap().delete().unwrap();
    assert_nothing_left(&stage);
}

/// The child of the sandbox that is neither in the container's tree nor its PID 1.
fn criu_of(created: &Container<Created>) -> i32 {
    let sandbox = created.sandbox_pid();
    let children = std::fs::read_to_string(format!("/proc/{sandbox}/task/{sandbox}/children")).unwrap();
    let pids = children.split_whitespace().map(|pid| pid.parse::<i32>().unwrap());
    let inside =
        |pid: &i32| status_line(&pid.to_string(), "NSpid").split_whitespace().last().unwrap().to_owned();
    pids.into_iter().find(|pid| !["1", "2"].contains(&&*inside(pid))).expect("CRIU holds the processes")
}

#[test]
fn whichever_process_is_killed_while_the_container_is_held_nothing_stays() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let image = image_of_counter(&stage, &criu);
    let killed = |which: fn(&Container<Created>) -> i32| {
        let created = restore(counter(&stage, "after"), &image, &criu).unwrap();
        let (pids, victim) = ([created.sandbox_pid(), created.init_pid()], which(&created));
        let victim = rustix::process::Pid::from_raw(victim).unwrap();
        rustix::process::kill_process(victim, rustix::process::Signal::KILL).unwrap();
        pids.into_iter().for_each(await_end);
        let error = created.start().unwrap_err();
        drop(error);
        assert_nothing_left(&stage);
    };
    killed(criu_of);
    killed(|created| created.init_pid());
    killed(|created| created.sandbox_pid());
    let created = restore(counter(&stage, "after"), &image, &criu).unwrap();
    created.kill().unwrap().delete().unwrap();
    drop(restore(counter(&stage, "after"), &image, &criu).unwrap());
    assert_nothing_left(&stage);
}

#[test]
fn criu_executes_and_loads_nothing_of_the_container() {
    let stage = stage!();
    let criu = criu_or_skip!();
    // A library that a loader can load, by the name of a plugin of CRIU.
    let own = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libc = own.lines().find(|line| line.ends_with("/libc.so.6")).expect("a dynamic test");
    let library = stage.readable_directory("libraries").join("x.so");
    std::fs::copy(&libc[libc.find('/').unwrap()..], &library).unwrap();
    let traps = "printf '#!/bin/busybox sh\n: >/tmp/executed\n' >/bin/x && chmod 755 /bin/x && mv /bin/x /bin/sh && \
             echo /usr/lib/criu/x.so >/etc/ld.so.preload";
    let hostile = |name: &str| {
        let builder = stage.busybox_shell(name, &format!("{traps}; {COUNTER}")).scratch(Some(1 << 20));
        builder.bind_ro(&library, "/usr/lib/criu/x.so")
    };
    let before = start(hostile("before"));
    until("it counts", || count(&before) > 3);
    let image = image_of(before, &criu, &stage);
    let created = restore(hostile("after"), &image, &criu).unwrap();
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", criu_of(&created))).unwrap();
    assert!(maps.contains("/libc.so") && !maps.contains("/x.so"), "{maps}");
    let running = created.start().unwrap();
    let root = format!("/proc/{}/root", running.init_pid());
    assert!(Path::new(&root).join("etc/ld.so.preload").exists());
    assert!(!Path::new(&root).join("tmp/executed").exists());
    running.kill().unwrap().delete().unwrap();
    assert_nothing_left(&stage);
}

/// The processes with this parent.
pub(crate) fn children_of(parent: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

#[test]
fn criu_killed_at_any_time_fails_the_creation_and_leaves_nothing() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let image = image_of_counter(&stage, &criu);
    let this = std::process::id().cast_signed();
    // CRIU has a number of its own in the container: above those of the image, and after 1 and init.
    let is_criu = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        numbers.split_whitespace().nth(2).is_some_and(|inside| inside.parse::<i32>().unwrap() >= 300)
    };
    let mut failures = 0;
    for delay in (0..48).step_by(3) {
        let victim = std::thread::spawn(move || {
            let begun = Instant::now();
            let find = || children_of(this).into_iter().flat_map(children_of).find(is_criu);
            let found =
                std::iter::repeat_with(find).take_while(|_| begun.elapsed() < Duration::from_secs(10));
            let Some(criu) = found.flatten().next() else { return };
            std::thread::sleep(Duration::from_millis(delay));
            let criu = rustix::process::Pid::from_raw(criu).unwrap();
            let _ = rustix::process::kill_process(criu, rustix::process::Signal::KILL);
        });
        let restored = restore(counter(&stage, "after"), &image, &criu);
        victim.join().unwrap();
        match restored {
            Ok(created) => drop(created),
            Err(error) => {
                // Its processes end with it, also those of a creation that is complete but for its record.
                let killed = error.to_string().contains("criu restore: it was killed by signal 9");
                assert!(killed || *error.kind() == ErrorKind::Ended, "{error}");
                failures += 1;
            }
        }
        assert_nothing_left(&stage);
    }
    assert!(failures > 0, "CRIU was never killed before the container was created");
}

#[test]
fn a_caller_that_is_killed_leaves_nothing_of_a_container_that_is_held() {
    if let Some(directory) = caller::role() {
        let criu = Criu::at(crate::kit::criu::path().unwrap()).unwrap();
        let image = Image::open(directory.join("image")).unwrap();
        let id = std::fs::read_to_string(directory.join("id")).unwrap();
        let builder = ContainerBuilder::new().id(id).state_root(caller::root(&directory));
        let created = restore(builder.scratch(Some(1 << 20)), &image, &criu).unwrap();
        caller::say(format!("{} {}", created.sandbox_pid(), created.init_pid()));
        return caller::stay();
    }
    let stage = stage!();
    let criu = criu_or_skip!();
    drop(image_of_counter(&stage, &criu));
    std::fs::write(stage.path().join("id"), stage.id("after")).unwrap();
    let mut caller = Caller::spawn(stage.path());
    let pids: Vec<i32> = caller.hear().split(' ').map(|pid| pid.parse().unwrap()).collect();
    caller.kill();
    pids.into_iter().for_each(await_end);
    // The next container of the name takes over what is left: the record, and no process.
    let image = Image::open(stage.path().join("image")).unwrap();
    let again = counter(&stage, "after").state_root(caller::root(stage.path()));
    drop(restore(again, &image, &criu).unwrap());
}

#[test]
fn an_unprivileged_user_restores_what_root_has_dumped() {
    if let Some(path) = std::env::var_os(IMAGE).map(PathBuf::from) {
        let criu = Criu::at(crate::kit::criu::path().unwrap()).unwrap();
        let image = Image::open(&path).unwrap();
        let root = StateRoot::open(path.with_file_name("root")).unwrap();
        let builder = ContainerBuilder::new().state_root(root).scratch(Some(1 << 20));
        let created = restore(builder, &image, &criu).unwrap();
        let held = count(&created);
        let running = created.start().unwrap();
        until("it goes on", || count(&running) > held + 3);
        let status = status_line(&running.init_pid().to_string(), "Uid");
        assert!(status.split_whitespace().all(|uid| uid == "65534"), "{status}");
        return running.kill().unwrap().delete().unwrap();
    }
    let stage = stage!();
    let criu = criu_or_skip!();
    let image = image_of_counter(&stage, &criu);
    restore_as_nobody("restore::an_unprivileged_user_restores_what_root_has_dumped", &image);
}

/// Runs the test of this name again as a user without privileges, who gets a copy of the image.
pub(crate) fn restore_as_nobody(test: &str, image: &Image) {
    let home = tempfile::tempdir().unwrap();
    let copied =
        Command::new("cp").arg("-r").arg(image.path()).arg(home.path().join("image")).status().unwrap();
    assert!(copied.success());
    let owned = Command::new("chown").args(["-R", "65534:65534"]).arg(home.path()).status().unwrap();
    assert!(owned.success());
    let mut other = again(test);
    let output = other
        .env(IMAGE, home.path().join("image"))
        .env("TMPDIR", home.path())
        .env("HOME", home.path())
        .current_dir("/")
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("CLONE_NEWUSER") {
        skip!("an unprivileged user can make no user namespace here");
    }
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_container_without_a_user_namespace_is_restored() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let plain = |name: &str| counter(&stage, name).without_user_namespace();
    let running = start(plain("before"));
    until("it counts", || count(&running) > 3);
    let image = image_of(running, &criu, &stage);
    let created = restore(plain("after"), &image, &criu).unwrap();
    let held = count(&created);
    let running = created.start().unwrap();
    until("it goes on", || count(&running) > held + 3);
    running.kill().unwrap().delete().unwrap();
    assert_nothing_left(&stage);
}

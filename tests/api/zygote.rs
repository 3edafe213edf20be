//! The zygote: containers whose helpers are forked, which are like any others; its end, and its caller's.

#![expect(clippy::disallowed_methods, reason = "tests read files of /proc and write files of their own")]

use crate::kit::bundle::edit_config;
use crate::kit::caller::{self, Caller};
use crate::kit::witness::descriptors;
use crate::kit::{await_end, descendants_of_this_process, is_root, skip, stage, start, status_line};
use cofferdam::{Container, ContainerBuilder, ErrorKind, Exec, Outcome, Rootfs, Running, StateRoot, Zygote};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

const THREADS: usize = 8;

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    // It stays a zombie until its handle collects it.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !status_line(&pid.to_string(), "State").starts_with('Z') {
        assert!(std::time::Instant::now() < deadline, "process {pid} does not end");
        std::thread::yield_now();
    }
}

fn helpers(container: &Container<Running>) -> [i32; 2] {
    [container.info().gofer.as_ref().expect("recorded").pid, container.sandbox_pid()]
}

fn first_argument(pid: i32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    String::from_utf8_lossy(line.split(|byte| *byte == 0).next().unwrap()).into_owned()
}

#[test]
fn every_phase_from_eight_threads_through_one_zygote() {
    let stage = stage!();
    let zygote = Zygote::spawn().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (zygote, stage) = (zygote.clone(), &stage);
            scope.spawn(move || {
                for round in 0..10 {
                    let code = i32::try_from(thread * 10 + round).unwrap();
                    let script = format!("exit {code}");
                    let container = stage.shell(&format!("z{thread}-{round}"), &script).zygote(&zygote);
                    let created = container.build().unwrap().create().unwrap();
                    let stopped = created.start().unwrap().wait_stopped().unwrap();
                    assert_eq!(stopped.exit().outcome, Outcome::Exited { code });
                    stopped.delete().unwrap();
                }
            });
        }
    });
    let children = descendants_of_this_process();
    assert_eq!(children.len(), 1, "the zygote alone: {children:?}");
}

#[test]
fn helpers_are_the_callers_children_with_their_own_names() {
    let stage = stage!();
    let zygote = Zygote::spawn().unwrap();
    assert_eq!(first_argument(zygote.pid()), "cofferdam-zygote");
    let running = start(stage.container("names").args(["sleep", "1000"]).zygote(&zygote));
    for (pid, name) in helpers(&running).into_iter().zip(["cofferdam-gofer", "cofferdam-sandbox"]) {
        assert_eq!(first_argument(pid), name);
        assert_eq!(status_line(&pid.to_string(), "Name"), name[..name.len().min(15)]);
        assert_eq!(status_line(&pid.to_string(), "PPid"), std::process::id().to_string());
        assert_eq!(status_line(&pid.to_string(), "Threads"), "1");
    }
}

#[test]
fn nothing_of_the_zygote_is_open_in_what_it_forked() {
    let stage = stage!();
    if !is_root() {
        skip!("descriptors of processes that are not dumpable are root's to read");
    }
    let zygote = Zygote::spawn().unwrap();
    let its: Vec<_> = descriptors(&zygote.pid().to_string()).into_values().collect();
    let of_its_own: Vec<_> = its.iter().filter(|to| *to != "/dev/null").collect();
    assert_eq!(of_its_own.len(), 1, "a connection: {its:?}");
    let running = start(stage.container("fds").args(["sleep", "1000"]).zygote(&zygote));
    let [gofer, sandbox] = helpers(&running);
    for pid in [gofer, sandbox, running.init_pid()] {
        for (fd, to) in descriptors(&pid.to_string()) {
            assert!(!of_its_own.contains(&&to), "process {pid} has {fd} -> {to} open");
        }
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        assert!(!maps.contains("cofferdam-newest"), "process {pid} shares memory with the caller");
    }
}

#[test]
fn a_zygote_cannot_be_looked_into_and_is_nowhere() {
    let stage = stage!();
    let zygote = Zygote::spawn().unwrap();
    let directory = format!("/proc/{}", zygote.pid());
    if is_root() {
        assert_eq!(std::fs::read_link(format!("{directory}/cwd")).unwrap(), std::path::Path::new("/"));
    } else {
        assert!(std::fs::read_link(format!("{directory}/cwd")).is_err(), "its files are root's");
    }
    // Also after it was, for the moment of a fork.
    stage.container("once").args(["true"]).zygote(&zygote).run().unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(format!("{directory}/environ")).unwrap().uid(), 0);
}

#[test]
fn the_last_handle_ends_the_process() {
    let _stage = stage!();
    let zygote = Zygote::spawn().unwrap();
    let (pid, another) = (zygote.pid(), zygote.clone());
    drop(zygote);
    assert!(!status_line(&pid.to_string(), "State").starts_with('Z'));
    drop(another);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "it is not even a zombie");
}

#[test]
fn a_killed_zygote_fails_the_next_create_and_leaves_what_runs_alone() {
    let stage = stage!();
    let zygote = Zygote::spawn().unwrap();
    let running = start(stage.container("before").args(["sleep", "1000"]).zygote(&zygote));
    kill(zygote.pid());
    for name in ["first", "second"] {
        let error = stage.container(name).args(["true"]).zygote(&zygote).run().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::HelperDied, "{error}");
        assert!(error.to_string().contains("make another: Zygote::spawn"), "{error}");
    }
    assert!(running.exec(Exec::new(["true"])).unwrap().wait().unwrap().outcome.success());
    // The id is free again, and the process is collected.
    stage.container("first").args(["true"]).run().unwrap();
    assert!(!descendants_of_this_process().iter().any(|process| process.contains("cofferdam-zygot")));
}

#[test]
fn a_zygote_killed_at_any_moment_leaves_nothing() {
    let stage = stage!();
    for round in 0..40_u32 {
        let zygote = Zygote::spawn().unwrap();
        let (begins, begun) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let (zygote, stage) = (&zygote, &stage);
            let containers = scope.spawn(move || {
                for number in 0.. {
                    begins.send(()).unwrap();
                    let name = format!("r{round}-{number}");
                    match stage.container(&name).args(["true"]).zygote(zygote).run() {
                        Ok(exit) => assert!(exit.outcome.success()),
                        Err(error) => return error,
                    }
                }
                unreachable!("the zygote is killed")
            });
            begun.recv().unwrap();
            // Another moment in each round.
            (0..round * 8).for_each(|_| std::thread::yield_now());
            kill_process(Pid::from_raw(zygote.pid()).unwrap(), Signal::KILL).unwrap();
            begun.iter().for_each(drop);
            let error = containers.join().unwrap();
            assert_eq!(*error.kind(), ErrorKind::HelperDied, "{error}");
        });
        drop(zygote);
        assert_eq!(stage.changes(), Vec::<String>::new(), "round {round}");
    }
}

#[test]
fn a_caller_without_room_for_the_answer_loses_no_process() {
    let Some(directory) = caller::role() else {
        let stage = stage!();
        return Caller::spawn(stage.path()).finish();
    };
    setrlimit(Resource::Nofile, Rlimit { current: Some(128), ..getrlimit(Resource::Nofile) }).unwrap();
    let root = caller::root(&directory);
    let run = |zygote: &Zygote| {
        let builder = ContainerBuilder::new().id(format!("it-{}-f", std::process::id()));
        builder.state_root(root.clone()).args(["true"]).zygote(zygote).run()
    };
    // With room, so that what is opened once per process is open.
    run(&Zygote::spawn().unwrap()).unwrap();
    for room in 0.. {
        let zygote = Zygote::spawn().unwrap();
        let mut taken: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        taken.truncate(taken.len() - room);
        let outcome = run(&zygote);
        drop((taken, zygote));
        assert_eq!(descendants_of_this_process(), Vec::<String>::new(), "with room for {room}");
        match outcome {
            Ok(_) => return assert!(room > 10, "{room} are enough"),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{room}: {error}"),
        }
    }
}

#[test]
fn a_killed_caller_takes_zygote_and_container_along() {
    if let Some(directory) = caller::role() {
        let zygote = Zygote::spawn().unwrap();
        let builder = ContainerBuilder::new().id(format!("it-{}-z", std::process::id()));
        let builder = builder.state_root(caller::root(&directory)).args(["sleep", "1000"]);
        let running = start(builder.zygote(&zygote));
        let [gofer, sandbox] = helpers(&running);
        caller::say(format!("{} {gofer} {sandbox} {}", zygote.pid(), running.id().as_str()));
        return caller::stay();
    }
    let stage = stage!();
    let mut caller = Caller::spawn(stage.path());
    let words = caller.hear();
    let words: Vec<_> = words.split(' ').collect();
    caller.kill();
    for pid in &words[..3] {
        await_end(pid.parse().unwrap());
    }
    let root = caller::root(stage.path());
    let container = cofferdam::AnyContainer::load(&root, words[3]).unwrap();
    container.delete(true).unwrap();
}

#[test]
fn a_caller_that_became_another_user_is_refused() {
    if let Some(directory) = caller::role() {
        let zygote = Zygote::spawn().unwrap();
        let root = caller::root(&directory);
        let refused = |difference: &str| {
            let builder = ContainerBuilder::new().id(format!("it-{}-u", std::process::id()));
            let error = builder.state_root(root.clone()).args(["true"]).zygote(&zygote).run().unwrap_err();
            let expected = ErrorKind::OutdatedZygote { difference: difference.to_owned() };
            assert_eq!(*error.kind(), expected, "{error}");
        };
        if is_root() {
            let user = rustix::process::Uid::from_raw(65534);
            // Of this thread alone, as the kernel has it: each thread is asked about itself.
            rustix::thread::set_thread_res_uid(user, rustix::process::Uid::ROOT, rustix::process::Uid::ROOT)
                .unwrap();
            refused("uids");
            let root = rustix::process::Uid::ROOT;
            rustix::thread::set_thread_res_uid(root, root, root).unwrap();
        }
        rustix::thread::set_no_new_privs(true).unwrap();
        return refused("no_new_privs");
    }
    let stage = stage!();
    Caller::spawn(stage.path()).finish();
}

#[test]
fn a_caller_that_moved_elsewhere_finds_what_it_names() {
    if let Some(directory) = caller::role() {
        std::env::set_current_dir("/usr").unwrap();
        let zygote = Zygote::spawn().unwrap();
        std::env::set_current_dir(&directory).unwrap();
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o027));
        let builder =
            ContainerBuilder::from_bundle("bundle").unwrap().id(format!("it-{}-d", std::process::id()));
        let builder = builder.state_root(StateRoot::open("state").unwrap()).zygote(&zygote);
        let running = start(builder.args(["sleep", "1000"]));
        let [gofer, _] = helpers(&running);
        assert_eq!(status_line(&gofer.to_string(), "Umask"), "0027");
        return;
    }
    let stage = stage!();
    stage.container("written").to_bundle(stage.path().join("bundle")).unwrap();
    Caller::spawn(stage.path()).finish();
}

#[test]
fn members_of_a_pod_come_from_a_zygote_too() {
    let stage = stage!();
    let zygote = Zygote::spawn().unwrap();
    let root = start(stage.container("pod").args(["sleep", "1000"]).zygote(&zygote));
    for (name, shares) in [("own", false), ("shared", true)] {
        let member = root.pod().container(stage.id(name)).args(["sleep", "1000"]).zygote(&zygote);
        let member = start(if shares { member.share_pid_namespace() } else { member });
        let run = member.exec_output(Exec::new(["true"])).unwrap();
        assert!(run.exit.outcome.success());
        assert_eq!(member.processes().unwrap().len(), 1, "{name}");
        let files = member.files().unwrap();
        files.stat("/usr").unwrap();
        member.kill().unwrap().delete().unwrap();
    }
}

#[test]
fn a_pod_that_was_not_started_takes_members_that_share_its_pids() {
    let stage = stage!();
    let zygote = Zygote::spawn().unwrap();
    let root = stage.container("pod").args(["sleep", "1000"]).zygote(&zygote);
    let root = root.build().unwrap().create().unwrap();
    let member = root.pod().container(stage.id("early")).rootfs(Rootfs::directory(stage.busybox()));
    let member = member.args(["sleep", "1000"]).zygote(&zygote).share_pid_namespace().build().unwrap();
    let member = member.create().unwrap();
    let late = stage.open_directory("late");
    std::fs::write(late.join("greeting"), "hello").unwrap();
    // In its own mount namespace, which is neither the sandbox's nor the zygote's.
    member.mount_bind_ro(&late, "/root").unwrap();
    let (_root, member) = (root.start().unwrap(), member.start().unwrap());
    assert_eq!(member.exec_output(Exec::new(["cat", "/root/greeting"])).unwrap().stdout, b"hello");
    assert_eq!(member.processes().unwrap().len(), 1);
}

#[test]
fn an_oci_bundle_is_run_as_it_says() {
    let stage = stage!();
    let zygote = Zygote::spawn().unwrap();
    let bundle = stage.path().join("bundle");
    stage.shell("written", "exit 9").to_bundle(&bundle).unwrap();
    edit_config(&bundle, |config| config["hostname"] = "forked".into());
    let builder = ContainerBuilder::from_bundle(&bundle).unwrap().id(stage.id("bundle"));
    let exit = builder.state_root(stage.root().clone()).zygote(&zygote).run().unwrap();
    assert_eq!(exit.outcome, Outcome::Exited { code: 9 });
}

#[test]
fn nothing_is_executed_for_a_container_but_its_workload() {
    let stage = stage!();
    if !is_root() {
        skip!("the memory maps of processes that are not dumpable are root's to read");
    }
    let zygote = Zygote::spawn().unwrap();
    let running = start(stage.container("memory").args(["sleep", "1000"]).zygote(&zygote));
    // The program's own image lies where the zygote has it: it was not executed again.
    let first_map = |pid: i32| {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        maps.split(' ').next().unwrap().to_owned()
    };
    for pid in helpers(&running) {
        assert_eq!(first_map(pid), first_map(zygote.pid()));
    }
}

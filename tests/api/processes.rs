//! The process table: what runs in a container, held against what the host knows of it.

use crate::kit::{is_installed, is_root, skip, stage, status_line};
use cofferdam::oci_spec::runtime::Capability;
use cofferdam::processes::ProcessInfo;
use cofferdam::{AnyContainer, Container, ContainerBuilder, Creating, ErrorKind, Running, Signal, Stdio};
use std::io::{BufRead, BufReader, Write};
use std::time::{Duration, Instant, SystemTime};

/// Starts a workload that prints "ready" when the test can look at it, and waits for that line.
fn ready(builder: ContainerBuilder) -> Container<Running> {
    let mut created = builder.stdout(Stdio::piped()).stdin(Stdio::piped()).build().unwrap().create().unwrap();
    let mut lines = BufReader::new(created.take_stdout().unwrap());
    let running = created.start().unwrap();
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    running
}

/// The table when it is as a shell's children make it a moment after they were forked.
fn table_when(running: &Container<Running>, settled: impl Fn(&[ProcessInfo]) -> bool) -> Vec<ProcessInfo> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let table = running.processes().unwrap();
        if settled(&table) {
            return table;
        }
        assert!(Instant::now() < deadline, "it stays {table:?}");
    }
}

fn sleeps(table: &[ProcessInfo]) -> usize {
    table.iter().filter(|process| process.name == "sleep" && process.state == 'S').count()
}

fn pids(table: &[ProcessInfo]) -> Vec<i32> {
    table.iter().map(|process| process.pid).collect()
}

#[test]
fn a_table_has_the_shell_and_its_children_as_the_container_counts_them() {
    let stage = stage!();
    let before = SystemTime::now();
    let running = ready(stage.busybox_shell("family", "sleep 1001 & sleep 1002 & echo ready; wait"));
    let table = table_when(&running, |table| sleeps(table) == 2);
    assert_eq!(pids(&table), [2, 3, 4]);
    let [init, first, second] = &table[..] else { panic!("{table:?}") };

    assert_eq!(init.host_pid, Some(running.init_pid()));
    assert_eq!((init.ppid, init.pgid, init.sid, init.uid), (0, 2, 2, 0));
    assert_eq!((init.name.as_str(), init.args[0].as_str(), init.args.len()), ("sh", "sh", 3));
    assert_eq!(first.args, ["sleep", "1001"]);
    assert_eq!(second.command(), "sleep 1002");
    for process in &table {
        assert_eq!((process.threads, process.tty.as_str()), (1, "?"), "{process:?}");
        assert!(process.started_at + Duration::from_secs(1) > before, "{process:?}");
        assert!(process.started_at < SystemTime::now() + Duration::from_secs(1), "{process:?}");
        assert!(process.cpu_time < Duration::from_secs(5), "{process:?}");
    }
    for child in [first, second] {
        assert_eq!((child.ppid, child.pgid, child.sid), (2, 2, 2));
        assert_eq!(child.state, 'S');
        // The host's own view of the same process.
        let host = child.host_pid.expect("it has been there for a while").to_string();
        assert!(status_line(&host, "NSpid").ends_with(&format!(" {}", child.pid)));
        assert_eq!(status_line(&host, "PPid"), running.init_pid().to_string());
        assert_eq!(
            std::fs::read(format!("/proc/{host}/cmdline")).unwrap(),
            child.args.join("\0").as_bytes().iter().chain(b"\0").copied().collect::<Vec<_>>()
        );
    }
    drop(running);
}

#[test]
fn a_zombie_is_not_in_the_table() {
    let stage = stage!();
    // The program that replaces the shell never collects the shell's child.
    let mut running = ready(stage.shell("zombie", "exec 3<&0; cat <&3 & echo ready; exec sleep 1000"));
    let table = running.processes().unwrap();
    assert_eq!(pids(&table), [2, 3], "{table:?}");
    let child = table[1].host_pid.expect("it has been there for a while");
    drop(running.take_stdin());
    crate::kit::await_end(child);
    let table = running.processes().unwrap();
    assert_eq!(pids(&table), [2], "{table:?}");
    assert!(status_line(&child.to_string(), "State").starts_with('Z'), "the host still has it");
    drop(running);
}

#[test]
fn threads_and_time_are_counted_and_a_name_is_the_processs_own() {
    if !is_installed("python3") {
        skip!("python3 is not installed");
    }
    let stage = stage!();
    let script = "import threading, time, sys
for _ in range(2): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
while time.process_time() < 0.1: pass
open('/proc/self/comm', 'w').write('a) R 1\\n(b')
print('ready', flush=True); time.sleep(1000)";
    let running = ready(stage.container("threads").args(["python3", "-c", script]));
    let table = running.processes().unwrap();
    let [python] = &table[..] else { panic!("{table:?}") };
    assert_eq!((python.threads, python.name.as_str(), python.pid, python.ppid), (3, "a) R 1\n(b", 2, 0));
    assert_eq!(python.args, ["python3", "-c", script]);
    assert!(python.cpu_time >= Duration::from_millis(90), "{python:?}");
    drop(running);
}

#[test]
fn the_terminal_and_the_session_are_the_containers() {
    let stage = stage!();
    let builder = stage.shell("tty", "setsid sleep 1001 & sleep 1002 & echo ready; wait").terminal();
    let mut created = builder.build().unwrap().create().unwrap();
    let mut lines = BufReader::new(created.take_pty().unwrap());
    let running = created.start().unwrap();
    lines.read_line(&mut String::new()).unwrap();
    let table = table_when(&running, |table| sleeps(table) == 2);
    let find = |command| table.iter().find(|process| process.command() == command).unwrap();
    assert_eq!((table[0].tty.as_str(), table[0].sid), ("pts/0", 2));
    assert_eq!((find("sleep 1002").tty.as_str(), find("sleep 1002").sid), ("pts/0", 2));
    let apart = find("sleep 1001");
    assert_eq!((apart.tty.as_str(), apart.sid, apart.pgid), ("?", apart.pid, apart.pid));
    drop(running);
}

#[test]
fn users_are_numbered_as_inside() {
    if !is_root() {
        skip!("only a privileged caller maps more than one id");
    }
    let stage = stage!();
    let running = ready(stage.busybox_shell("user", "echo ready; read line").user(1000, 1000));
    let table = running.processes().unwrap();
    assert_eq!(table[0].uid, 1000);
    let host = status_line(&running.init_pid().to_string(), "Uid");
    assert_ne!(host, "1000 1000 1000 1000", "on the host it is another user");
    drop(running);

    let builder = stage.busybox_shell("same", "echo ready; read line").without_user_namespace();
    let running = ready(builder.user(1000, 1000));
    assert_eq!(running.processes().unwrap()[0].uid, 1000);
    drop(running);
}

#[test]
fn what_a_workload_mounts_over_its_proc_hides_nothing() {
    let stage = stage!();
    let script = "sleep 1000 & mount -t tmpfs none /proc/$! && mount -t tmpfs none /proc/1 && mount -t tmpfs none /proc \
                  && echo ready; wait";
    let running = ready(
        stage
            .busybox_shell("covered", script)
            .grant_capabilities([Capability::SysAdmin].into_iter().collect())
            .seccomp(None),
    );
    let table = running.processes().unwrap();
    assert_eq!(table.iter().map(|process| process.name.as_str()).collect::<Vec<_>>(), ["sh", "sleep"]);
    drop(running);
}

#[test]
fn a_container_that_shares_the_hosts_pids_lists_its_own_only() {
    if !is_root() {
        skip!("without root there is no proc of a shared pid namespace");
    }
    let stage = stage!();
    let builder = stage.busybox_shell("shared", "sleep 1000 & echo ready; wait");
    let bundle = stage.write_bundle("bundle", builder, |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid" && namespace["type"] != "user");
        config["linux"]["uidMappings"] = serde_json::Value::Null;
        config["linux"]["gidMappings"] = serde_json::Value::Null;
    });
    let running = ready(stage.bundled("shared", &bundle).unwrap());
    let table = running.processes().unwrap();
    assert_eq!(table.len(), 2, "{table:?}");
    assert_eq!(table[0].pid, running.init_pid());
    assert!(table.iter().all(|process| process.host_pid == Some(process.pid)));
    let sleep = table[1].pid;
    running.kill().unwrap().delete().unwrap();
    if let Some(pid) = rustix::process::Pid::from_raw(sleep) {
        // Nothing ends a child that init left behind in the host's namespace; it is this test's, so the test does.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        crate::kit::await_end(sleep);
    }
}

#[test]
fn any_container_has_a_table_while_it_lives_and_an_error_otherwise() {
    let stage = stage!();
    let built = stage.shell("any", "read line").stdin(Stdio::piped()).build().unwrap();
    let any = AnyContainer::from(built);
    let error = any.as_alive().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WrongState { .. }), "{error}");
    let mut created = any.into_phase::<Creating>().unwrap().create().unwrap();
    let mut stdin = created.take_stdin().unwrap();
    let load = || AnyContainer::load(stage.root(), &stage.id("any")).unwrap();
    // Init, which waits for the start.
    assert_eq!(pids(&load().as_alive().unwrap().processes().unwrap()), [2]);

    let running = created.start().unwrap();
    assert_eq!(pids(&load().as_alive().unwrap().processes().unwrap()), [2]);
    let loaded = load();
    stdin.write_all(b"\n").unwrap();
    let stopped = running.wait_stopped().unwrap();
    let error = loaded.as_alive().unwrap().processes().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Ended, "{error}");
    assert_eq!(*load().as_alive().unwrap_err().kind(), ErrorKind::Ended);
    stopped.delete().unwrap();
}

#[test]
fn a_hundred_processes_come_and_go_while_the_table_is_read() {
    let stage = stage!();
    let script = "while :; do sleep 0 & sleep 0 & wait; done & echo ready; sleep 1000";
    let running = ready(stage.busybox_shell("busy", script));
    for _ in 0..100 {
        let table = running.processes().unwrap();
        assert!(pids(&table).is_sorted() && table[0].pid == 2);
        assert!(table.iter().all(|process| !matches!(process.state, 'Z' | 'X')));
    }
    drop(running);
}

#[test]
fn threads_that_ask_one_container_at_once_each_get_their_own_answer() {
    let stage = stage!();
    let running = ready(stage.busybox_shell("asked", "echo ready; read line"));
    // The answers differ in kind: a table comes as a descriptor, a signal's as a number.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..200).for_each(|_| assert_eq!(pids(&running.processes().unwrap()), [2])));
            scope.spawn(|| (0..200).for_each(|_| running.signal(Signal::CONT).unwrap()));
        }
    });
    running.kill().unwrap().delete().unwrap();
}

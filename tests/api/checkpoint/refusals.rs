//! What keeps a container from having an image: refused by name, with the container going on and nothing left behind.

use super::{COUNTER, await_progress, count, counter};
use crate::kit::criu::criu_or_skip;
use crate::kit::{Stage, is_root, skip, stage, start};
use cofferdam::checkpoint::Criu;
use cofferdam::oci_spec::runtime::{Capability, MountBuilder};
use cofferdam::processes::ProcessInfo;
use cofferdam::{Container, ContainerBuilder, Error, ErrorKind, Exec, Running, Stdio};
use std::io::{BufRead, BufReader};

/// Tries to write an image, and sees that nothing has come of it but the error.
fn refused(stage: &Stage, criu: &Criu, running: &Container<Running>) -> Error {
    let path = stage.path().join("refused");
    let error = running.snapshot(criu, &path).unwrap_err();
    assert!(!path.exists(), "{error}");
    assert!(running.try_wait().unwrap().is_none(), "{error}");
    error
}

fn assert_unsupported(error: &Error, words: &str) {
    assert!(
        matches!(error.kind(), ErrorKind::Unsupported { feature } if feature == "checkpoint"),
        "{error:?}"
    );
    assert!(error.to_string().contains(words), "{error}");
}

/// A container that runs this program, which has said something.
fn saying(stage: &Stage, builder: ContainerBuilder) -> Container<Running> {
    let mut running = start(builder.tmpfs("/tmp", 1 << 20).stdout(Stdio::piped()));
    let mut line = String::new();
    BufReader::new(running.take_stdout().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "{}", stage.path().display());
    running
}

fn python(stage: &Stage, program: &str) -> ContainerBuilder {
    let program = format!("{program}\nprint('ready', flush=True)\nimport time\ntime.sleep(1000)\n");
    stage.container("python").args(["python3", "-c", &program])
}

#[test]
fn processes_that_its_program_did_not_start_are_named() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let running = start(counter(&stage));
    let process = running.exec(Exec::new(["sleep", "1000"])).unwrap();
    let error = refused(&stage, &criu, &running);
    assert_unsupported(&error, "1 processes of exec");
    process.kill().unwrap();
    process.wait().unwrap();
    // A worker for files is none of the container's.
    let files = running.files().unwrap();
    files.list("/").unwrap();
    running.snapshot(&criu, stage.path().join("image")).unwrap();
    // An orphan is the child of PID 1, which is no part of the workload.
    let orphan = "(sleep 1000 & echo $! >/tmp/pid) & wait; while true; do sleep 1; done";
    running.kill().unwrap().delete().unwrap();
    let running = start(stage.shell("orphan", orphan).tmpfs("/tmp", 1 << 20));
    let pid = format!("/proc/{}/root/tmp/pid", running.init_pid());
    while std::fs::read_to_string(&pid).unwrap_or_default().is_empty() {
        std::thread::yield_now();
    }
    let inside = std::fs::read_to_string(&pid).unwrap();
    let is_orphaned = |process: &ProcessInfo| {
        process.pid.to_string() == inside.trim() && process.ppid == 1 && process.name == "sleep"
    };
    while !running.processes().unwrap().iter().any(is_orphaned) {
        std::thread::yield_now();
    }
    assert_unsupported(&refused(&stage, &criu, &running), &format!("{} (sleep)", inside.trim()));
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_file_of_the_host_as_a_stream_is_named() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let file = std::fs::File::create(stage.path().join("output")).unwrap();
    let running = start(counter(&stage).stdout(Stdio::from(file)));
    await_progress(&running);
    let error = refused(&stage, &criu, &running);
    assert_unsupported(&error, "its standard output is ");
    assert!(error.to_string().contains("/output, a file outside the container"), "{error}");
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn connections_and_locks_are_named() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let connected = "import socket\na = socket.create_server(('127.0.0.1', 4000))\n\
                     b = socket.create_connection(('127.0.0.1', 4000))\nc = a.accept()";
    let locked = "import fcntl\na = open('/tmp/locked', 'w')\nfcntl.flock(a, fcntl.LOCK_EX)";
    let shared = "import ctypes\nassert ctypes.CDLL(None).shmget(7, 4096, 0o1600) >= 0";
    // Of the connection, or, where this CRIU knows no IP socket of this kernel, of each.
    for (program, words) in
        [(connected, "socket"), (locked, "a process holds a file lock"), (shared, "System V shared memory")]
    {
        let running = saying(&stage, python(&stage, program));
        let error = refused(&stage, &criu, &running);
        assert_unsupported(&error, words);
        running.kill().unwrap().delete().unwrap();
    }
}

#[test]
fn mounts_that_came_later_are_refused_until_they_are_gone() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let running = start(counter(&stage));
    let mount = MountBuilder::default().destination("/mnt").typ("tmpfs").source("tmpfs").build().unwrap();
    running.mount(mount).unwrap();
    assert_unsupported(&refused(&stage, &criu, &running), "mounts that came after its creation");
    running.unmount("/mnt").unwrap();
    running.snapshot(&criu, stage.path().join("image")).unwrap();
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_namespace_of_a_process_alone_is_refused() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let script = "unshare -i sh -c 'echo ready; sleep 1000' & wait";
    let caps = stage
        .shell("nested", script)
        .grant_capabilities([Capability::SysAdmin].into_iter().collect())
        .seccomp(None);
    let running = saying(&stage, caps);
    assert_unsupported(&refused(&stage, &criu, &running), "");
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_pod_is_refused() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let root = start(counter(&stage));
    let member = start(stage.shell("member", COUNTER).in_pod(root.id()).tmpfs("/tmp", 1 << 20));
    for container in [&root, &member] {
        assert_unsupported(&refused(&stage, &criu, container), "pod");
    }
    member.kill().unwrap().delete().unwrap();
    // Now it is a container by itself.
    root.snapshot(&criu, stage.path().join("image")).unwrap();
    root.kill().unwrap().delete().unwrap();
}

#[test]
fn a_container_that_shares_its_pids_is_refused() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let running = start(counter(&stage).share_pid_namespace().without_user_namespace());
    assert_unsupported(&refused(&stage, &criu, &running), "it has no pid namespace of its own");
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn one_that_is_paused_by_a_signal_is_refused() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let running = start(counter(&stage).without_cgroup());
    await_progress(&running);
    let paused = running.pause().unwrap();
    let error = paused.snapshot(&criu, stage.path().join("image")).unwrap_err();
    assert_unsupported(&error, "paused by SIGSTOP");
    let failed = paused.checkpoint(&criu, stage.path().join("image")).unwrap_err();
    let (error, recovered) = failed.into_parts();
    assert_unsupported(&error, "paused by SIGSTOP");
    let cofferdam::typestate::Recovered::Unchanged(paused) = recovered else { panic!("{recovered:?}") };
    let running = paused.resume().unwrap();
    await_progress(&running);
    running.snapshot(&criu, stage.path().join("image")).unwrap();
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn nobody_is_told_that_it_takes_root() {
    let stage = stage!();
    if is_root() {
        skip!("this is about a caller without privileges");
    }
    let path = match crate::kit::criu::path() {
        Ok(path) => path,
        Err(reason) => skip!("{reason}"),
    };
    let running = start(counter(&stage));
    let error = refused(&stage, &Criu::at(path).unwrap(), &running);
    assert_unsupported(&error, "only root of the host may read the seccomp filter");
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_directory_that_is_in_use_is_left_alone() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let running = start(counter(&stage));
    let (full, link) = (stage.open_directory("full"), stage.path().join("link"));
    std::fs::write(full.join("file"), "mine").unwrap();
    std::os::unix::fs::symlink(stage.open_directory("target"), &link).unwrap();
    std::fs::write(stage.path().join("file"), "mine").unwrap();
    for (path, errno) in [
        (full.clone(), libc::ENOTEMPTY),
        (link.clone(), libc::ENOTDIR),
        (stage.path().join("file"), libc::ENOTDIR),
        (stage.path().join("none/image"), libc::ENOENT),
    ] {
        let error = running.snapshot(&criu, &path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(errno), "{error}");
    }
    assert_eq!(std::fs::read_to_string(full.join("file")).unwrap(), "mine");
    assert_eq!(std::fs::read_to_string(stage.path().join("file")).unwrap(), "mine");
    assert_eq!(std::fs::read_dir(stage.path().join("target")).unwrap().count(), 0);
    await_progress(&running);
    assert!(count(&running) > 0);
    running.kill().unwrap().delete().unwrap();
}

//! The user log: what the person who runs a workload reads about it.

#![expect(clippy::disallowed_methods, reason = "tests read and write plain files of their own")]

use crate::kit::stage;
use cofferdam::oci_spec::runtime::LinuxSeccomp;
use cofferdam::{ContainerBuilder, ErrorKind, Signal};
use std::io::Read;
use std::time::Duration;

/// The lines of a log without their times, which have to be in order and in RFC 3339.
fn events(text: &str) -> Vec<String> {
    let lines: Vec<(&str, &str)> = text.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert!(lines.is_sorted_by_key(|(time, _)| *time), "{text}");
    for (time, _) in &lines {
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000Z");
    }
    lines.into_iter().map(|(_, event)| event.to_owned()).collect()
}

#[test]
fn a_log_has_the_start_and_the_end_of_each_container_that_appends_to_it() {
    let stage = stage!();
    let path = stage.path().join("log");
    std::fs::write(&path, "2000-01-01T00:00:00.000Z another started\n").unwrap();
    let logged = |name: &str, script: &str| stage.shell(name, script).user_log(path.clone());
    logged("code", "exit 3").run().unwrap();
    logged("time", "sleep 1000").timeout(Duration::from_millis(50)).run().unwrap();
    logged("sys", "exec mkdir /tmp/forbidden").seccomp(Some(no_directories())).run().unwrap();
    let running = logged("term", "exec sleep 1000").build().unwrap().create().unwrap().start().unwrap();
    running.signal(Signal::TERM).unwrap();
    running.wait_stopped().unwrap().delete().unwrap();
    logged("never", "true").build().unwrap().create().unwrap().kill().unwrap().delete().unwrap();
    let id = |name: &str| stage.id(name);
    assert_eq!(
        events(&std::fs::read_to_string(&path).unwrap()),
        [
            "another started".to_owned(),
            format!("{} started", id("code")),
            format!("{} exited with code 3", id("code")),
            format!("{} started", id("time")),
            format!("{} timed out after 50ms", id("time")),
            format!("{} started", id("sys")),
            format!("{} died of SIGSYS: a system call that its seccomp filter forbids", id("sys")),
            format!("{} started", id("term")),
            format!("{} killed by SIGTERM", id("term")),
            format!("{} ended before it was started", id("never")),
        ]
    );
}

/// A filter that kills a process which makes a directory.
fn no_directories() -> LinuxSeccomp {
    let forbidden = serde_json::json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"});
    serde_json::from_value(serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [forbidden]}))
        .unwrap()
}

fn run(builder: ContainerBuilder) {
    assert!(builder.run().unwrap().outcome.success());
}

#[test]
fn a_log_may_be_a_pipe_or_a_socket() {
    let stage = stage!();
    let expected =
        [format!("{} started", stage.id("end")), format!("{} exited with code 0", stage.id("end"))];
    let (mut reader, writer) = std::io::pipe().unwrap();
    run(stage.container("end").args(["true"]).user_log(std::os::fd::OwnedFd::from(writer)));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(events(&text), expected);

    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    run(stage.container("end").args(["true"]).user_log(std::os::fd::OwnedFd::from(theirs)));
    let mut text = String::new();
    ours.read_to_string(&mut text).unwrap();
    assert_eq!(events(&text), expected);
}

#[test]
fn a_log_that_is_full_or_not_read_delays_nothing() {
    let stage = stage!();
    let (reader, writer) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, &[b'x'; 512]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags).unwrap();
    let given = writer.try_clone().unwrap();
    run(stage.container("full").args(["true"]).user_log(std::os::fd::OwnedFd::from(given)));
    assert_eq!(rustix::fs::fcntl_getfl(&writer).unwrap(), flags, "the flags of what was given");
    drop(reader);
    run(stage.container("alone").args(["true"]).user_log(std::os::fd::OwnedFd::from(writer)));
    run(stage.container("disk").args(["true"]).user_log(std::path::Path::new("/dev/full")));
}

#[test]
fn a_log_that_cannot_be_opened_is_creates_error() {
    let stage = stage!();
    let path = stage.path().join("missing/log");
    let failed = stage.container("none").args(["true"]).user_log(path.clone()).build().unwrap().create();
    let failed = failed.unwrap_err();
    assert_eq!(*failed.error().kind(), ErrorKind::Os(libc::ENOENT));
    let said = format!("user log: open({path:?}, O_APPEND | O_NONBLOCK): ENOENT: No such file or directory");
    assert_eq!(failed.to_string(), said);
    drop(failed);
    let directory = std::fs::File::open(stage.path()).unwrap();
    let failed = stage.container("none").args(["true"]).user_log(directory).build().unwrap().create();
    assert_eq!(*failed.unwrap_err().error().kind(), ErrorKind::InvalidInput);
}

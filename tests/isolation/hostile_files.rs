//! What a container puts in the way of programs that its host executes in it: files of its own that such an execution
//! reads, and processes of its own.

#![expect(clippy::disallowed_methods, reason = "tests write plain files of their own")]

use crate::kit::{Stage, stage, start};
use cofferdam::{Container, Exec, Outcome, Running};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longer than any execution here takes, and shorter than what a container could make one wait.
const SOON: Duration = Duration::from_secs(15);

fn running(stage: &Stage) -> Container<Running> {
    start(stage.busybox_shell("hostile", "exec sleep 1000"))
}

/// What the program that finds out its home directory says, with a deadline in case it never comes to run.
fn home(container: &Container<Running>, what: &str) -> String {
    let begun = Instant::now();
    let exec = Exec::new(["sh", "-c", "echo $HOME"]).timeout(SOON);
    let output = container.exec_output(exec).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_ne!(output.exit.outcome, Outcome::TimedOut { after: SOON }, "{what}");
    assert!(begun.elapsed() < SOON, "{what}: after {:?}", begun.elapsed());
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Puts in place of the file at the path what the function makes there.
fn plant(path: &Path, make: impl FnOnce(&Path)) {
    if let Err(error) = std::fs::remove_file(path) {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
    }
    make(path);
}

#[test]
fn no_file_of_a_container_stops_what_is_executed_in_it() {
    let stage = stage!();
    let passwd = stage.busybox().join("etc/passwd");
    let container = running(&stage);
    plant(&passwd, |path| std::fs::write(path, "root:x:0:0::/of-root:\n").unwrap());
    assert_eq!(home(&container, "a file"), "/of-root");
    plant(&passwd, |path| {
        rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::from_raw_mode(0o666)).unwrap();
    });
    assert_eq!(home(&container, "a FIFO"), "/");
    // Far more than any memory, and not a line in it.
    plant(&passwd, |path| File::create(path).unwrap().set_len(1 << 40).unwrap());
    assert_eq!(home(&container, "a sparse file"), "/");
    let many = |path: &Path| {
        let lines: String = (1..40_000).map(|id| format!("u{id}:x:{id}:{id}::/home/{id}:\n")).collect();
        std::fs::write(path, lines + "root:x:0:0::/too-late:\n").unwrap();
    };
    plant(&passwd, many);
    assert_eq!(home(&container, "lines past what is read"), "/");
    for (target, what) in
        [("passwd", "a loop"), ("/dev/zero", "no end"), ("/dev/tty", "a terminal"), ("..", "above")]
    {
        plant(&passwd, |path| std::os::unix::fs::symlink(target, path).unwrap());
        assert_eq!(home(&container, what), "/");
    }
    container.kill().unwrap().delete().unwrap();
}

#[test]
fn a_home_that_no_program_can_be_given_is_an_error_that_says_so() {
    let stage = stage!();
    let container = running(&stage);
    let long = "x".repeat(200_000);
    std::fs::write(stage.busybox().join("etc/passwd"), format!("root:x:0:0::/{long}:\n")).unwrap();
    let error = container.exec(Exec::new(["true"])).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::E2BIG), "{error}");
    assert!(error.to_string().len() < 4096, "{} bytes", error.to_string().len());
    // A home of the caller's takes the place of the image's.
    let exec = Exec::new(["true"]).env("HOME", "/");
    assert!(container.exec(exec).unwrap().wait().unwrap().outcome.success());
    container.kill().unwrap().delete().unwrap();
}

//! The input that callers give a workload, and the output that they collect.

#![expect(clippy::disallowed_methods, reason = "tests write plain files of their own")]

use crate::kit::{Stage, is_readable_within, stage, start};
use cofferdam::processes::OutputStream;
use cofferdam::{AnyContainer, Container, Exec, Outcome, Running, Stdio};
use std::fs::File;
use std::io::Write;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

/// The longest wait, which only a test that fails reaches.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than any pipe holds.
const MUCH: usize = 3 << 20;

fn sleeping(stage: &Stage, name: &str) -> Container<Running> {
    start(stage.container(name).args(["sleep", "1000"]))
}

#[test]
fn a_workload_that_writes_for_ever_is_killed_at_the_limit_and_the_outcome_says_so() {
    let stage = stage!();
    let output = stage.shell("limit", "echo oops >&2; exec yes").output_limit(100_000).output().unwrap();
    assert_eq!(output.exit.outcome, Outcome::TooMuchOutput { limit: 100_000 });
    assert_eq!(output.exit.outcome.to_string(), "killed because it wrote more than 100000 bytes");
    assert_eq!(output.stdout, b"y\n".repeat(50_000));
    assert_eq!(output.stderr, b"oops\n");
    // The default limit holds for standard error, too.
    let output = stage.shell("default", "exec yes >&2").output().unwrap();
    assert_eq!(output.exit.outcome, Outcome::TooMuchOutput { limit: 16 << 20 });
    assert_eq!((output.stdout.len(), output.stderr.len()), (0, 16 << 20));
    let output = stage.shell("exact", "printf 12345").output_limit(5).output().unwrap();
    assert_eq!((output.exit.outcome, output.stdout), (Outcome::Exited { code: 0 }, b"12345".to_vec()));
}

#[test]
fn output_is_over_with_the_container_while_another_process_holds_the_pipe() {
    let stage = stage!();
    let shared = stage.open_directory("shared");
    for name in ["ready", "go"] {
        let fifo = shared.join(name);
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        rustix::fs::chmod(&fifo, mode).unwrap();
    }
    let (done, is_done) = mpsc::channel();
    let (root, id, fifos) = (stage.root().clone(), stage.id("held"), shared.clone());
    let holder = std::thread::spawn(move || {
        std::fs::read(fifos.join("ready")).unwrap();
        let init = AnyContainer::load(&root, &id).unwrap().as_alive().unwrap().init_pid();
        let held = File::options().write(true).open(format!("/proc/{init}/fd/1")).unwrap();
        std::fs::write(fifos.join("go"), "").unwrap();
        let waited = is_done.recv_timeout(PATIENCE);
        drop(held);
        waited
    });
    let script = "echo all of it; echo >/shared/ready; cat /shared/go";
    let output = stage.shell("held", script).bind_rw(&shared, "/shared").output().unwrap();
    let _ = done.send(());
    holder.join().unwrap().expect("output returned while the pipe was held");
    assert_eq!((output.exit.outcome, output.stdout), (Outcome::Exited { code: 0 }, b"all of it\n".to_vec()));
}

#[test]
fn a_piped_input_that_was_not_taken_is_closed_before_every_wait() {
    let stage = stage!();
    let cat = |name: &str| stage.container(name).args(["cat"]).stdin(Stdio::piped());
    assert!(cat("run").run().unwrap().outcome.success());
    assert!(cat("output").output().unwrap().exit.outcome.success());
    assert!(start(cat("stopped")).wait_stopped().unwrap().exit().outcome.success());
    let running = start(cat("wait"));
    assert_eq!(running.wait_timeout(Duration::ZERO).unwrap(), None);
    assert!(!is_readable_within(&running.end_fd(), Duration::from_millis(50)), "its input is still open");
    assert!(running.wait().unwrap().outcome.success());
    assert!(AnyContainer::from(start(cat("any"))).wait().unwrap().outcome.success());

    let container = sleeping(&stage, "exec");
    let cat = || Exec::new(["cat"]).stdin(Stdio::piped());
    assert!(container.exec(cat()).unwrap().wait().unwrap().outcome.success());
    assert!(container.exec_output(cat()).unwrap().exit.outcome.success());
    let process = container.exec(cat()).unwrap();
    assert_eq!(process.try_wait().unwrap(), None);
    assert!(process.wait().unwrap().outcome.success());
}

#[test]
fn lines_of_a_container_say_where_it_wrote_them_and_when_they_were_read() {
    let stage = stage!();
    let script = "echo first; read go; echo oops >&2; printf last";
    let builder = stage.shell("lines", script).stdin(Stdio::piped());
    let begun = SystemTime::now();
    let mut running = start(builder.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut lines = running.take_lines();
    assert_eq!(running.take_lines().count(), 0, "both streams are taken");
    let first = lines.next().unwrap().unwrap();
    let asked = SystemTime::now();
    assert_eq!((first.stream, &*first.text(), first.complete), (OutputStream::Stdout, "first", true));
    assert!((begun..=asked).contains(&first.at), "{first:?} between {begun:?} and {asked:?}");

    running.take_stdin().unwrap().write_all(b"go\n").unwrap();
    let mut rest: Vec<_> = lines.map(Result::unwrap).collect();
    let ended = SystemTime::now();
    assert!(rest.iter().all(|line| (asked..=ended).contains(&line.at)), "{asked:?} {rest:?} {ended:?}");
    // Each stream has a pipe of its own, so that their lines have no order.
    rest.sort_by_key(|line| line.stream == OutputStream::Stderr);
    let seen: Vec<_> = rest.iter().map(|line| (line.stream, line.text(), line.complete)).collect();
    let expected =
        [(OutputStream::Stdout, "last".into(), false), (OutputStream::Stderr, "oops".into(), true)];
    assert_eq!(seen, expected);
    assert!(running.wait().unwrap().outcome.success());
}

#[test]
fn run_gives_null_for_a_pipe_so_the_workload_does_not_block() {
    let stage = stage!();
    let much = stage.shell("much", &format!("head -c {MUCH} /dev/zero; head -c {MUCH} /dev/zero >&2"));
    assert!(much.stdout(Stdio::piped()).stderr(Stdio::piped()).run().unwrap().outcome.success());
}

#[test]
fn given_bytes_are_the_input_however_many_they_are_and_however_few_are_read() {
    let stage = stage!();
    let bytes: Vec<u8> = (0..MUCH).map(|n| (n % 251) as u8).collect();
    let output = stage.container("echo").args(["cat"]).input(bytes.clone()).output().unwrap();
    assert!(output.exit.outcome.success());
    assert!(output.stdout == bytes, "{} bytes", output.stdout.len());
    let output = stage.shell("some", "head -c 4").input(bytes.clone()).output().unwrap();
    assert_eq!((output.exit.outcome, output.stdout), (Outcome::Exited { code: 0 }, bytes[..4].to_vec()));
    assert!(stage.shell("none", "true").input(bytes.clone()).run().unwrap().outcome.success());
    let script = "read line && test $line = hello && ! read line && test -r /dev/stdin";
    assert!(stage.shell("text", script).input("hello\n").run().unwrap().outcome.success());
    let change = stage.shell("change", "echo more >&0").input("bytes").run().unwrap();
    assert!(!change.outcome.success(), "the workload may not write to its input");

    let container = sleeping(&stage, "exec");
    let output = container.exec_output(Exec::new(["cat"]).input(bytes.clone())).unwrap();
    assert!(output.exit.outcome.success() && output.stdout == bytes);
    let output = container.exec_output(Exec::new(["head", "-c", "4"]).input(bytes.clone())).unwrap();
    assert_eq!((output.exit.outcome, output.stdout), (Outcome::Exited { code: 0 }, bytes[..4].to_vec()));
}

#[test]
fn given_bytes_are_there_for_a_container_that_outlives_its_caller() {
    let stage = stage!();
    let shared = stage.open_directory("shared");
    let script = "cat >/shared/copy; sleep 1000";
    let builder = stage.shell("detached", script).bind_rw(&shared, "/shared").input("all of it");
    let id = stage.id("detached");
    start(builder).detach().unwrap();
    let any = AnyContainer::load(stage.root(), &id).unwrap();
    let read = any.as_running().unwrap().exec_output(Exec::new([
        "sh",
        "-c",
        "until test -s /shared/copy; do sleep 0.01; done",
    ]));
    assert!(read.unwrap().exit.outcome.success());
    assert_eq!(std::fs::read(shared.join("copy")).unwrap(), b"all of it");
    any.delete(true).unwrap();
}

/// `VmHWM` of the program that prints it, bytes.
fn own_peak(stdout: &[u8]) -> u64 {
    let line = String::from_utf8_lossy(stdout);
    let kib = line.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or_else(|| panic!("{line:?}")) << 10
}

#[test]
fn the_largest_resident_set_is_the_workloads_and_not_that_of_the_process_which_executed_it() {
    const MIB: u64 = 1 << 20;
    let stage = stage!();
    // The kernel counts pages per CPU, and adds them up when a process looks, not always when it ends.
    let close_to = |max_rss: u64, peak: u64| max_rss.abs_diff(peak) < MIB;
    let small = ["grep", "VmHWM", "/proc/self/status"];
    let output = stage.container("small").args(small).output().unwrap();
    let peak = own_peak(&output.stdout);
    assert!(close_to(output.exit.max_rss, peak), "{} of {peak}", output.exit.max_rss);
    let container = sleeping(&stage, "exec");
    let output = container.exec_output(Exec::new(small)).unwrap();
    let peak = own_peak(&output.stdout);
    assert!(close_to(output.exit.max_rss, peak), "{} of {peak}", output.exit.max_rss);

    let large = ["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"];
    let init = stage.container("large").args(large).output().unwrap().exit.max_rss;
    let executed = container.exec_output(Exec::new(large)).unwrap().exit.max_rss;
    for max_rss in [init, executed] {
        assert!((63 * MIB..68 * MIB).contains(&max_rss), "{max_rss}");
    }
}

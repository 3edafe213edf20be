//! What callers give a workload to read, and collect of what it writes.

#![expect(clippy::disallowed_methods, reason = "tests write plain files of their own")]

use crate::kit::stage;
use cofferdam::{AnyContainer, Outcome};
use std::fs::File;
use std::sync::mpsc;
use std::time::Duration;

/// Longer than anything a healthy machine takes; a test that fails waits this long at most.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_workload_that_writes_for_ever_is_killed_at_the_limit_and_the_outcome_says_so() {
    let stage = stage!();
    let output = stage.shell("limit", "echo oops >&2; exec yes").output_limit(100_000).output().unwrap();
    assert_eq!(output.exit.outcome, Outcome::TooMuchOutput { limit: 100_000 });
    assert_eq!(output.exit.outcome.to_string(), "killed because it wrote more than 100000 bytes");
    assert_eq!(output.stdout, b"y\n".repeat(50_000));
    assert_eq!(output.stderr, b"oops\n");
    // Each of the streams, and without being asked.
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

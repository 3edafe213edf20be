//! A process for each test. The harness runs every test as a thread of one process, where a witness would see the
//! descriptors, children and signal handlers of all tests that run at the time. So a test runs itself again, alone.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::{Command, Stdio};

/// Names the test that the process is for.
const TEST: &str = "COFFERDAM_TEST_PROCESS";

/// Runs this thread's test again in a process of its own and returns false when that has passed. In that process it
/// returns true.
///
/// # Panics
/// If the test fails in its process; what it wrote is shown then.
#[expect(clippy::print_stderr, reason = "the harness shows it if the test fails or output is not captured")]
pub fn in_own_process() -> bool {
    let thread = std::thread::current();
    let name = thread.name().expect("the harness names a test's thread after it");
    if std::env::var(TEST).is_ok_and(|test| test == name) {
        return true;
    }
    let [mut stdout, mut stderr] = [(); 2].map(|()| tempfile::tempfile().expect("a temporary file"));
    let copy = |file: &File| file.try_clone().expect("a copy of a descriptor");
    // Into files: a process that the test leaves behind could keep a pipe open for ever.
    let status = again(name)
        .env(TEST, name)
        .stdin(Stdio::null())
        .stdout(copy(&stdout))
        .stderr(copy(&stderr))
        .status()
        .expect("this executable runs again");
    let said = text(&mut stderr);
    // The harness would keep skips to itself.
    let (skips, said): (Vec<_>, Vec<_>) = said.lines().partition(|line| line.starts_with("skipped: "));
    // Once, whatever several processes of one test say.
    for skip in BTreeSet::from_iter(skips) {
        let _ = std::io::stderr().write_all(format!("{skip}\n").as_bytes());
    }
    if !said.is_empty() {
        eprintln!("{}", said.join("\n"));
    }
    assert!(status.success(), "{name}: {status}, see above\n{}", text(&mut stdout));
    false
}

/// This executable again, for one test.
pub fn again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("our path"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("what the test wrote");
    String::from_utf8_lossy(&bytes).into_owned()
}

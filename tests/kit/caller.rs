//! A test that needs a calling process of its own, for example to kill it, runs itself again: the same test in the same
//! executable. A variable of the environment tells that process that it is the caller.

use super::process::again;
use cofferdam::StateRoot;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// The variable that makes a test the caller, with its directory.
pub const ROLE: &str = "COFFERDAM_TEST_CALLER";
/// What the caller's lines begin with, to tell them from the harness's.
const MARK: &str = "caller: ";

/// The directory the caller is to work in, if this process is one.
pub fn role() -> Option<PathBuf> {
    std::env::var_os(ROLE).map(PathBuf::from)
}

/// The caller's state root.
pub fn root(directory: &Path) -> StateRoot {
    StateRoot::open(directory.join("state")).expect("the stage's state root")
}

/// Says something to the test.
pub fn say(words: impl std::fmt::Display) {
    let mut stdout = std::io::stdout();
    // Past the harness's capturing, and on a line of its own: the harness leaves its last one open.
    writeln!(stdout, "\n{MARK}{words}").and_then(|()| stdout.flush()).expect("the test listens");
}

/// Stays until the test lets go or kills this process.
pub fn stay() {
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// A calling process.
pub struct Caller {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    stdin: Option<ChildStdin>,
}

impl Caller {
    /// Runs this thread's test again as a caller that works in `directory`.
    pub fn spawn(directory: &Path) -> Self {
        let thread = std::thread::current();
        let name = thread.name().expect("the harness names a test's thread after it");
        let mut child = again(name)
            .env(ROLE, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this executable runs again");
        let stdout = child.stdout.take().expect("a pipe was asked for");
        let stdin = child.stdin.take();
        Self { child, lines: BufReader::new(stdout).lines(), stdin }
    }

    /// Waits for the next thing it says.
    pub fn hear(&mut self) -> String {
        loop {
            let line = self.lines.next().expect("the caller speaks before it ends").expect("a line");
            if let Some(words) = line.strip_prefix(MARK) {
                return words.to_owned();
            }
        }
    }

    /// Writes it a line.
    pub fn tell(&mut self, words: &str) {
        let stdin = self.stdin.as_mut().expect("it is open until the caller ends");
        writeln!(stdin, "{words}").expect("the caller listens");
    }

    /// Kills it as the kernel would: no destructor runs.
    pub fn kill(mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it ends");
    }

    /// Waits until it ends by itself.
    pub fn end(mut self) -> std::process::ExitStatus {
        drop(self.stdin.take());
        self.lines.by_ref().map_while(Result::ok).for_each(drop);
        self.child.wait().expect("it ends")
    }

    /// Lets it end by itself. It has to have passed.
    pub fn finish(mut self) {
        drop(self.stdin.take());
        let rest: Vec<String> = self.lines.by_ref().map_while(Result::ok).collect();
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "the caller failed: {status}\n{}", rest.join("\n"));
    }
}

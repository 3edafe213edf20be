//! A container of the bench's bundle, from create to delete.

use crate::conformance::bench::Bench;
use crate::conformance::differences::FAULTS;
use crate::kit::is_readable_within;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{PipeReader, Read, pipe};
use std::process::Command;
use std::time::Duration;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Container<'a> {
    bench: &'a Bench<'a>,
    pub(crate) id: String,
    pub(crate) pid: i32,
    is_ours_to_end: bool,
    stdout: RefCell<Stdout>,
    /// What the checker found, once it has spoken.
    faults: Cell<Option<Vec<String>>>,
}

impl<'a> Container<'a> {
    /// Runs the command that creates it. `Err` if that fails.
    pub(super) fn create(
        bench: &'a Bench<'a>,
        id: String,
        mut create: Command,
        stderr: File,
    ) -> Result<Self, ()> {
        let (reader, writer) = pipe().unwrap();
        let status = create.stdout(writer).stderr(stderr).status().expect("the runtime is executed");
        // The command keeps the pipe's other end.
        drop(create);
        let stdout = RefCell::new(Stdout { pipe: reader, text: Vec::new() });
        let is_ours_to_end = status.success();
        let mut container = Self { bench, id, pid: 0, is_ours_to_end, stdout, faults: Cell::default() };
        if !status.success() {
            return Err(());
        }
        container.pid = i32::try_from(container.state()["pid"].as_i64().expect("a pid")).unwrap();
        Ok(container)
    }

    pub(crate) fn state(&self) -> Value {
        let output = self.bench.call(&["state", &self.id]);
        assert!(output.status.success(), "state: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("a document")
    }

    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().expect("a status").to_owned()
    }

    /// Starts it. What the checker finds in it is what its configuration says, but for what is declared of the runtime.
    pub(crate) fn start(&self) {
        let faults = self.start_and_compare();
        let declared = || FAULTS.iter().filter(|fault| fault.runtime == self.bench.runtime.name);
        let undeclared: Vec<_> =
            faults.iter().filter(|fault| !declared().any(|known| fault.starts_with(known.says))).collect();
        assert!(undeclared.is_empty(), "not as the configuration says: {undeclared:#?}");
        self.faults.set(Some(faults));
    }

    /// Starts it. What the checker finds that differs from its configuration.
    pub(crate) fn start_and_compare(&self) -> Vec<String> {
        self.must(&["start", &self.id]);
        let line = self.lines(1);
        let report: Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("no report of the checker: {error}: {line:?}"));
        assert!(report["compared"].as_u64().is_some_and(|compared| compared > 100), "{report}");
        serde_json::from_value(report["faults"].clone()).expect("a list of texts")
    }

    /// Starts what is no checker.
    pub(crate) fn start_alone(&self) {
        self.must(&["start", &self.id]);
    }

    /// What the checker found, after start.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.faults.take().expect("it was started")
    }

    /// The next lines that it writes.
    pub(crate) fn lines(&self, count: usize) -> String {
        let mut stdout = self.stdout.borrow_mut();
        (0..count).map(|_| stdout.line()).collect()
    }

    pub(crate) fn kill(&self, signal: &str) {
        self.must(&["kill", &self.id, signal]);
    }

    /// The container's process ends by itself, or has ended, and leaves no process that keeps its standard output.
    pub(crate) fn await_end(&self) {
        self.stdout.borrow_mut().read(|_| false);
        if let Ok(pidfd) = pidfd_open(Pid::from_raw(self.pid).expect("a pid"), PidfdFlags::empty()) {
            assert!(is_readable_within(&pidfd, LIMIT), "process {} goes on", self.pid);
        }
        assert_eq!(self.status(), "stopped");
    }

    /// What the case's own program wrote, up to its end.
    pub(crate) fn output(&self) -> String {
        self.stdout.borrow_mut().rest()
    }

    pub(crate) fn delete(mut self) {
        self.must(&["delete", &self.id]);
        self.is_ours_to_end = false;
    }

    /// Ends it, and deletes it.
    pub(crate) fn end(self) {
        self.kill("KILL");
        self.await_end();
        self.delete();
    }

    fn must(&self, arguments: &[&str]) {
        let output = self.bench.call(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if self.is_ours_to_end {
            self.bench.call(&["delete", "--force", &self.id]);
        }
    }
}

/// A container's standard output. A pipe, so that its end tells that no process keeps it.
struct Stdout {
    pipe: PipeReader,
    text: Vec<u8>,
}

impl Stdout {
    /// Reads until `is_enough`, or the end.
    fn read(&mut self, is_enough: impl Fn(&[u8]) -> bool) {
        let mut bytes = [0; 4096];
        while !is_enough(&self.text) {
            assert!(is_readable_within(&self.pipe, LIMIT), "standard output is open and silent");
            match self.pipe.read(&mut bytes).expect("a pipe") {
                0 => return,
                count => self.text.extend(&bytes[..count]),
            }
        }
    }

    fn line(&mut self) -> String {
        self.read(|text| text.contains(&b'\n'));
        let end = self.text.iter().position(|byte| *byte == b'\n').map_or(self.text.len(), |end| end + 1);
        let line = self.text.drain(..end).collect();
        String::from_utf8(line).expect("text")
    }

    fn rest(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.text)).expect("text")
    }
}

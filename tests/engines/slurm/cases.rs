//! What users do with Slurm, and what has to come of it.

use super::{Slurm, User};
use crate::engine::said;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};

/// Where jobs run, and whose they are.
pub(super) struct Place<'a> {
    pub(super) slurm: &'a Slurm,
    pub(super) partition: &'a str,
    pub(super) user: User,
}

impl Place<'_> {
    /// A command that runs a program in a container of a job of its own, to its end.
    fn srun(&self, options: &[&str], args: &[&str]) -> Command {
        let bundle = self.slurm.directory.join(self.partition).join("bundles").join(self.user.name);
        let mut srun = self.slurm.client(self.user, "srun");
        srun.arg(format!("--container={}", bundle.display())).args([
            "--quiet",
            "--partition",
            self.partition,
        ]);
        srun.args(options).args(args);
        srun
    }

    fn run(&self, options: &[&str], args: &[&str]) -> Output {
        self.srun(options, args).stdin(Stdio::null()).output().expect("srun")
    }

    /// Starts a shell, and waits until it says "ready" and its job's number.
    fn start(&self, script: &str) -> Job<'_> {
        let script = format!("{script}; echo ready $SLURM_JOB_ID; until read line; do :; done; exit 3");
        let mut srun = self.srun(&[], &["sh", "-c", &script]);
        let mut child = srun.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("srun");
        let stdin = child.stdin.take().expect("a pipe");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let line = lines.next().expect("srun waits").expect("a line");
        let number = line.strip_prefix("ready ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Job { place: self, number, child, stdin, lines }
    }
}

/// A job that runs a shell which waits for a line.
struct Job<'a> {
    place: &'a Place<'a>,
    number: String,
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Job<'_> {
    fn cancel(&self, options: &[&str]) {
        let mut scancel = self.place.slurm.client(self.place.user, "scancel");
        crate::engine::succeed(scancel.args(options).arg(&self.number));
    }

    /// The next line that it writes, unless it ends first.
    fn hear(&mut self) -> Option<String> {
        self.lines.next().map(|line| line.expect("a line"))
    }

    /// Waits for its end, with standard input left open. The lines that it still writes.
    fn end(mut self) -> (ExitStatus, Vec<String>) {
        let lines = self.lines.by_ref().map_while(Result::ok).collect();
        (self.child.wait().expect("srun ends"), lines)
    }
}

pub(super) fn streams_and_exit_code_are_the_programs(place: &Place<'_>) {
    let mut srun = place.srun(&[], &["sh", "-c", "cat; echo err >&2; exit 7"]);
    let mut child =
        srun.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("srun");
    child.stdin.take().expect("a pipe").write_all(b"in\n").expect("srun reads it");
    let output = child.wait_with_output().expect("srun ends");
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    assert_eq!(output.stdout, b"in\n");
    assert!(String::from_utf8_lossy(&output.stderr).lines().any(|line| line == "err"), "{}", said(&output));
    assert_eq!(place.run(&[], &["true"]).status.code(), Some(0));
}

pub(super) fn a_missing_program_is_an_error_that_names_it(place: &Place<'_>) {
    let output = place.run(&[], &["nosuch"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    // runc puts it into a structured line, where quotes are escaped.
    let said = said(&output).replace('\\', "");
    assert!(said.contains("exec: \"nosuch\": executable file not found in $PATH"), "{said}");
}

pub(super) fn one_task_runs_on_each_of_two_nodes(place: &Place<'_>) {
    let output = place.run(&["--nodes=2", "--label"], &["sh", "-c", "echo $SLURM_JOB_NODELIST"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<_> = stdout.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    let nodes = format!("{}{}[1-2]", place.slurm.prefix, place.partition);
    assert_eq!(lines, [0, 1].map(|task| format!("{task}: {nodes}")));
}

pub(super) fn to_cancel_is_to_ask_first(place: &Place<'_>) {
    let job = place.start("trap 'echo ending; exit 5' TERM");
    job.cancel(&[]);
    let (status, lines) = job.end();
    assert_eq!(status.code(), Some(5), "{lines:?}");
    // The runtime passes its signal on, and so the program may get two.
    assert!(!lines.is_empty() && lines.iter().all(|line| line == "ending"), "{lines:?}");
}

/// Its exit code is no use: srun stops waiting before the node says that it has killed the job.
pub(super) fn what_does_not_end_when_cancelled_is_killed(place: &Place<'_>) {
    let job = place.start("trap '' TERM");
    let number = job.number.clone();
    job.cancel(&[]);
    let (_, lines) = job.end();
    assert_eq!(lines, Vec::<String>::new());
    let slurm = place.slurm;
    slurm.wait_until("the job has ended", || {
        slurm.ask("scontrol", &["show", "job", &number]).contains("JobState=CANCELLED")
    });
}

/// Slurm signals every process of the job's, the runtime's own among them.
pub(super) fn a_signal_is_the_workloads_and_ends_nothing_else(place: &Place<'_>) {
    let mut job = place.start("trap 'echo signalled' USR1");
    for _ in 0..2 {
        job.cancel(&["--signal=USR1"]);
        assert_eq!(job.hear().as_deref(), Some("signalled"));
    }
    job.stdin.write_all(b"\n").expect("it reads");
    let (status, lines) = job.end();
    assert_eq!(status.code(), Some(3), "{lines:?}");
    assert!(lines.iter().all(|line| line == "signalled"), "{lines:?}");
}

//! The examples, run as users run them: the output, the exit code, and that nothing is left.
//!
//! They are built by `cargo test` without a `--test`, and by `cargo build --examples`.

#![expect(clippy::disallowed_methods, reason = "runs the examples, as a user does")]

use crate::kit::witness::{descendants, find_directories};
use crate::kit::{Stage, await_end, is_installed, is_root, may_limit, note_skip, skip, stage, write_script};
use cofferdam::templates::Ready;
use rustix::process::{WaitOptions, getpid, set_child_subreaper, wait};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// An example that was built. [`skip!`]s the test without one.
macro_rules! example {
    ($name:literal) => {
        match crate::kit::example::example($name) {
            Ok(path) => Example { path, name: $name, args: Vec::new(), stdin: "" },
            Err(reason) => skip!("{reason}"),
        }
    };
}

#[derive(Clone)]
struct Example {
    path: PathBuf,
    name: &'static str,
    args: Vec<String>,
    stdin: &'static str,
}

/// What became of it.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Example {
    fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    fn args<'a>(self, args: impl IntoIterator<Item = &'a str>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Records its containers on the stage.
    fn on(self, stage: &Stage) -> Self {
        self.arg("--root").arg(stage.root().path().to_str().unwrap())
    }

    fn stdin(mut self, text: &'static str) -> Self {
        self.stdin = text;
        self
    }

    /// Runs it to its end, and waits until every process it left has ended too. The stage's witness sees those that do
    /// not, because orphans become children of the test.
    fn run(self) -> Ran {
        set_child_subreaper(Some(getpid())).unwrap();
        let mut child = Command::new(&self.path)
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        child.stdin.take().unwrap().write_all(self.stdin.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        for orphan in descendants(std::process::id()) {
            await_end(orphan.pid.cast_signed());
        }
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        let (mark, mut left) = (format!("{}-{pid}", self.name), BTreeSet::new());
        for place in ["/sys/fs/cgroup", "/run/cofferdam"] {
            find_directories(Path::new(place), &|name| name.contains(&mark), &mut left);
        }
        assert!(left.is_empty(), "{} left {left:?}", self.name);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Ran {
    /// Checks its exit code and its standard output, and returns its standard error.
    #[track_caller]
    fn expect(self, code: i32, stdout: &str) -> String {
        let Self { code: got, stdout: said, stderr } = self;
        assert_eq!((got, said.as_str()), (Some(code), stdout), "{stderr}");
        stderr
    }
}

#[test]
fn run_passes_streams_limits_and_exit_codes_through() {
    let stage = stage!();
    let run = example!("run").on(&stage);
    let example = |args: &[&str]| run.clone().args(args.iter().copied());

    let script = "echo $A; pwd; hostname; exit 3";
    let options = ["--env", "A=b", "--cwd", "/tmp", "--hostname", "inside", "sh", "-c", script];
    assert_eq!(example(&options).run().expect(3, "b\n/tmp\ninside\n"), "");
    example(&["cat"]).stdin("as it came\n").run().expect(0, "as it came\n");
    let scratch = ["--scratch", "sh", "-c", "touch /usr/there && ls /usr/there"];
    example(&scratch).run().expect(0, "/usr/there\n");
    let late = example(&["--timeout", "200ms", "sleep", "60"]).run().expect(137, "");
    assert_eq!(late, "run: timed out after 200ms\n");
    example(&["no-such-program"]).run().expect(127, "");
    example(&["/etc/passwd"]).run().expect(126, "");
    example(&["--no-such-option"]).run().expect(125, "");
    let json = example(&["--json", "true"]).run().expect(0, "");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["outcome"]["exited"], 0);
}

#[test]
fn run_and_oci_use_the_helper_that_is_installed_beside_them() {
    let stage = stage!();
    let place = stage.readable_directory("bin");
    let [run, oci] = [example!("run"), example!("oci")].map(|example| {
        let path = place.join(example.name);
        std::fs::copy(&example.path, &path).unwrap();
        Example { path, ..example }
    });
    let helper = place.join("cofferdam-helper");
    std::fs::copy(env!("CARGO_BIN_EXE_cofferdam-helper"), &helper).unwrap();
    let bundle = stage.path().join("bundle");
    stage.busybox_shell("bundle", "exit 5").to_bundle(&bundle).unwrap();
    let run = || run.clone().on(&stage).args(["sh", "-c", "exit 4"]).run();
    let oci = || {
        let verb = ["run", "--bundle", bundle.to_str().unwrap(), "beside"];
        oci.clone().on(&stage).args(verb).run()
    };
    run().expect(4, "");
    oci().expect(5, "");
    // It is not ignored where it is of no use.
    std::fs::remove_file(&helper).unwrap();
    std::fs::copy("/bin/true", &helper).unwrap();
    for said in [run().expect(125, ""), oci().expect(1, "")] {
        assert!(said.contains("is no cofferdam-helper"), "{said}");
    }
}

#[test]
fn run_takes_a_bundle_that_another_runtime_could_take() {
    let stage = stage!();
    let run = example!("run");
    let bundle = stage.path().join("bundle");
    stage.busybox_shell("bundle", "echo from a bundle; exit 4").to_bundle(&bundle).unwrap();
    run.on(&stage).args(["--bundle", bundle.to_str().unwrap()]).run().expect(4, "from a bundle\n");
}

#[test]
fn lifecycle_shows_every_phase_and_its_program() {
    let _stage = stage!();
    let ran = example!("lifecycle").run();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for said in [
        "create()         -> Container<Created>",
        "list(): [demo (running)]",
        "the program says: SIGHUP: reading my configuration again",
        "exit(): exited with code 3",
        "list(): []",
    ] {
        assert!(ran.stdout.contains(said), "{said:?} is missing:\n{}", ran.stdout);
    }
}

#[test]
fn shell_runs_the_script_it_gets_and_can_give_it_a_terminal() {
    let _stage = stage!();
    example!("shell").stdin("id -u\nexit 3\n").run().expect(3, "0\n");
    let ran = example!("shell").args(["--tty", "sh", "-c", "tty; exit 4"]).run();
    ran.expect(4, "/dev/pts/0\r\n");
}

#[test]
fn pool_answers_each_request_in_a_container_of_its_own() {
    let stage = stage!();
    let pool = example!("pool").on(&stage).args(["--size", "3"]).stdin("one\ntwo\nthree\nfour\n");
    let said = pool.clone().run().expect(0, "ONE\nTWO\nTHREE\nFOUR\n");
    assert!(said.starts_with("pool: 4 requests, ") && said.ends_with(" 0 failed\n"), "{said}");
    let said = pool.clone().args(["sh", "-c", "cat; exit 3"]).run().expect(1, "one\ntwo\nthree\nfour\n");
    assert!(said.ends_with(" 4 failed\n"), "{said}");
    let ran = pool.arg("no-such-program").run();
    assert!(ran.code == Some(1) && ran.stderr.contains("executable file not found"), "{}", ran.stderr);
}

#[test]
fn exec_says_which_process_it_was_and_how_it_ended() {
    let stage = stage!();
    let script = "echo $A; pwd; sleep 0.2; exit 4";
    let exec = example!("exec").on(&stage).args(["--cwd", "/tmp", "--env", "A=b", "sh", "-c", script]);
    let said = exec.run().expect(4, "b\n/tmp\n");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("exec: pid 3 in the container, "), "{said}");
    assert!(lines[1].starts_with("exec: exited with code 4 after "), "{said}");
}

#[test]
fn exec_in_a_container_loaded_by_its_id_leaves_it_running() {
    let stage = stage!();
    let exec = example!("exec").on(&stage);
    let builder = stage.shell("loaded", "echo mine > /tmp/mine; echo; sleep 1000");
    let mut created = builder.stdout(cofferdam::Stdio::piped()).build().unwrap().create().unwrap();
    let ready = created.take_stdout().unwrap();
    let running = created.start().unwrap();
    std::io::Read::read_exact(&mut { ready }, &mut [0]).unwrap();
    // Not `run`: there the test waits for all of its descendants, and this container is one.
    let exec = exec.args(["--id", running.id().as_str(), "cat", "/tmp/mine"]);
    let output = Command::new(&exec.path).args(&exec.args).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "mine\n");
    assert!(running.try_wait().unwrap().is_none());
}

#[test]
fn exec_keeps_time_and_output_within_their_limits() {
    let stage = stage!();
    let said = example!("exec").on(&stage).args(["--timeout", "200ms", "sleep", "60"]).run().expect(137, "");
    assert!(said.contains("exec: timed out after 200ms"), "{said}");
    let ran = example!("exec").on(&stage).args(["--output-limit", "1k", "yes"]).run();
    assert_eq!(ran.stdout.len(), 1 << 10);
    assert!(ran.stderr.contains("it was killed because it wrote more than"), "{}", ran.stderr);
    example!("exec").on(&stage).arg("no-such-program").run().expect(127, "");
    example!("exec").on(&stage).arg("/etc/passwd").run().expect(126, "");
}

#[test]
fn exec_gives_a_terminal() {
    let stage = stage!();
    let exec = example!("exec").on(&stage).args(["--tty", "sh", "-c", "tty; exit 5"]);
    exec.run().expect(5, "/dev/pts/0\r\n");
}

#[test]
fn exec_can_be_another_user() {
    let stage = stage!();
    if !is_root() {
        skip!("a user alone has one id to give");
    }
    let exec = example!("exec").on(&stage).args(["--user", "65534:65533", "sh", "-c", "id -u; id -g"]);
    exec.run().expect(0, "65534\n65533\n");
    example!("exec").on(&stage).args(["--user", "daemon", "id", "-un"]).run().expect(0, "daemon\n");
}

#[test]
fn doctor_says_what_the_host_can_do_and_whether_the_container_can_be_made() {
    let stage = stage!();
    let doctor = example!("doctor");
    let ran = doctor.clone().run();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for line in ["This host:", "  + namespaces", "This container:", "  + seccomp", "-> call memory_limit()"] {
        assert!(ran.stdout.contains(line), "{line} is not in\n{}", ran.stdout);
    }
    let ran = doctor.args(["--network", "host"]).run();
    assert!(ran.stdout.contains("it is the caller's"), "{}", ran.stdout);
    drop(stage);
}

#[test]
fn pod_serves_a_page_to_its_member_and_is_gone() {
    let stage = stage!();
    if !is_installed("busybox") {
        skip!("busybox is not installed");
    }
    let ran = example!("pod").on(&stage).run();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(
        lines[..2],
        ["the server is listening", "the client got: a page of the web server's own file system"]
    );
    let rows: Vec<Vec<&str>> = lines[3..5].iter().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows[0][1] == "running" && rows[1][1] == "running", "{}", ran.stdout);
    assert_eq!(rows[0][3], rows[1][3], "one sandbox");
    assert!(
        lines[5].ends_with(" was killed; the web server: killed because its pod ended"),
        "{}",
        ran.stdout
    );
    assert_eq!(lines[6..], ["left: 0 containers"]);
}

#[test]
fn jobs_prints_how_every_job_ended() {
    let stage = stage!();
    let jobs = ["--at-once", "2", "--timeout", "500ms", "echo one; echo two", "exit 3", "sleep 60"];
    let ran = example!("jobs").on(&stage).args(jobs).run();
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[1].contains("exited with code 0") && lines[1].ends_with("  two"), "{}", ran.stdout);
    assert!(lines[2].contains("exited with code 3"), "{}", ran.stdout);
    assert!(lines[3].contains("timed out after 500ms"), "{}", ran.stdout);
    assert_eq!(lines[4], "1 of 3 jobs did well");
}

#[test]
fn jobs_come_from_the_standard_input_too() {
    let stage = stage!();
    let text = "echo 1\necho 2\necho 3\necho 4\necho 5\necho 6\necho 7\necho 8\necho 9\n";
    let ran = example!("jobs").on(&stage).args(["--zygote", "-"]).stdin(text).run();
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.ends_with("9 of 9 jobs did well\n"), "{}", ran.stdout);
}

#[test]
fn judge_has_a_verdict_for_each_kind_of_submission() {
    let stage = stage!();
    let judge = example!("judge");
    let ran = judge.clone().run();
    let verdicts: Vec<&str> = ran.stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(verdicts, ["AC", "WA", "TLE", "MLE", "RE"], "{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let (solution, tests) = (stage.path().join("solution"), stage.path().join("tests"));
    write_script(&solution, "#!/bin/sh\nread n; echo $((n * $1))\n");
    std::fs::create_dir(&tests).unwrap();
    for (name, text) in [("a.in", "2"), ("a.out", "6\n"), ("b.in", "3"), ("b.out", "10")] {
        std::fs::write(tests.join(name), text).unwrap();
    }
    let given = ["--tests", tests.to_str().unwrap(), "--", solution.to_str().unwrap(), "3"];
    let ran = judge.args(given).run();
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("AC") && lines[0].ends_with("/a.in"), "{}", ran.stdout);
    assert!(lines[1].starts_with("WA") && lines[1].ends_with("/b.in"), "{}", ran.stdout);
}

#[test]
fn warm_prints_the_same_from_clones_as_from_cold_starts() {
    let _stage = stage!();
    if !Path::new("/usr/bin/python3").exists() {
        skip!("no python3");
    }
    let ran = example!("warm").args(["--snippets", "12", "--modules", "json,random,ssl"]).run();
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.ends_with("Both printed the same.\n") && ran.stderr.is_empty(), "{ran:?}");
    let ran = example!("warm").args(["--snippets", "1", "--modules", "no_such_module"]).run();
    assert!(ran.code == Some(1) && ran.stderr.contains("no_such_module"), "{ran:?}");
}

/// What both helpers of the example are for: the numbers of clones differ, and each knows its name.
#[test]
fn clones_that_use_the_helpers_of_warm_draw_numbers_of_their_own() {
    let stage = stage!();
    let helpers = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/warm");
    let mut programs = Vec::new();
    if Path::new("/usr/bin/python3").exists() {
        let module = std::fs::read_to_string(helpers.join("warm.py")).unwrap();
        let program = format!(
            "{module}\nimport ssl\nrandom.random(); ssl.RAND_bytes(8)\nready()\n\
             print(random.getrandbits(64), ssl.RAND_bytes(16).hex(), os.environ['COFFERDAM_CLONE'])"
        );
        programs.push(stage.container("python").args(["/usr/bin/python3", "-c", &program]));
    }
    let (source, program) = (stage.path().join("clone.c"), stage.open_directory("bin").join("clone"));
    let text = "#include \"warm.h\"\n#include <stdio.h>\nint main(void) { char id[64]; rand();\n\
        if (warm_clone(id, sizeof id) >= 0 || warm_ready() || warm_clone(id, sizeof id) < 0) return 1;\n\
        printf(\"%d%ld%f %x %s\\n\", rand(), random(), drand48(), (unsigned)lrand48(), id); return 0; }";
    std::fs::write(&source, text).unwrap();
    let mut compiler = Command::new("cc");
    compiler
        .args(["-Wall", "-Wextra", "-Werror", "-O1", "-I"])
        .arg(&helpers)
        .arg(&source)
        .arg("-o")
        .arg(&program);
    match compiler.status() {
        Ok(status) => {
            assert!(status.success(), "{status}");
            programs.push(stage.container("c").bind_ro(&program, "/clone").args(["/clone"]));
        }
        Err(_) => note_skip("no C compiler"),
    }
    for program in programs {
        let template = program.timeout(Duration::from_secs(60)).spawn().unwrap();
        let template = template.into_template(Ready::Stopped).unwrap();
        let mut seen = BTreeSet::new();
        for name in ["one", "two", "three"] {
            let output = template.builder(stage.id(name)).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let words: Vec<&str> = text.split_whitespace().collect();
            assert_eq!(words.len(), 3, "{text}{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(words[2], stage.id(name));
            assert!(words[..2].iter().all(|word| seen.insert((*word).to_owned())), "{text}");
        }
    }
}

#[test]
fn agent_keeps_a_session_whose_snippet_used_up_its_memory() {
    let _stage = stage!();
    if !may_limit("memory") {
        skip!("this user may not limit memory here");
    }
    let snippets = "eve: exec tail /dev/zero\neve: echo still here\n";
    let ran = example!("agent").args(["--time", "20s", "--memory", "64"]).stdin(snippets).run();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stdout, "eve ! out of memory\neve | still here\n");
}

#[test]
fn agent_keeps_a_session_whose_snippet_was_killed() {
    let _stage = stage!();
    let snippets = "alice: echo remembered > note; echo written\nbob: echo begun; while :; do :; done\n\
                    alice: cat note; exit 3\nbob: echo still here\nalice: get note\nalice: put /etc/passwd\n\
                    alice: head -c 4 passwd\n";
    let ran = example!("agent").args(["--time", "500ms"]).stdin(snippets).run();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let of = |name: &str| -> Vec<&str> { ran.stdout.lines().filter(|line| line.starts_with(name)).collect() };
    let alice = [
        "alice | written",
        "alice | remembered",
        "alice ! exited with code 3",
        "alice = remembered",
        "alice | root",
    ];
    assert_eq!(of("alice"), alice, "{}", ran.stdout);
    assert_eq!(
        of("bob"),
        ["bob | begun", "bob ! timed out after 500ms", "bob | still here"],
        "{}",
        ran.stdout
    );
}

#[test]
fn ci_runs_steps_in_a_workspace_that_stays_its_owners() {
    let stage = stage!();
    let (workspace, owner) = workspace(&stage);
    let artifacts = stage.path().join("artifacts");
    let ci = example!("ci").args(["--workspace", workspace.to_str().unwrap()]);
    let steps = ["echo one > made; echo said", "mv made kept; cp kept /out/report", "exit 4", "echo never"];
    let ran = ci.args(["--artifacts", artifacts.to_str().unwrap()]).args(steps).run();
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines.len() == 1 && lines[0].ends_with(" 1 | said"), "{}", ran.stdout);
    let made = std::fs::metadata(workspace.join("kept")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), owner);
    assert_eq!(std::fs::read_to_string(artifacts.join("report")).unwrap(), "one\n");
}

/// A directory of a user, and its owner.
fn workspace(stage: &Stage) -> (PathBuf, u32) {
    let workspace = stage.path().join("workspace");
    std::fs::create_dir(&workspace).unwrap();
    let owner = if is_root() { 4321 } else { rustix::process::geteuid().as_raw() };
    std::os::unix::fs::chown(&workspace, Some(owner), None).unwrap();
    (workspace, owner)
}

#[test]
fn an_interrupted_ci_leaves_nothing() {
    let stage = stage!();
    let ci = example!("ci").args(["--workspace", workspace(&stage).0.to_str().unwrap()]);
    let ci = ci.arg("echo begun; sleep 1000");
    set_child_subreaper(Some(getpid())).unwrap();
    // A shell without job control starts background processes with SIGINT ignored. These tests may be one of them.
    let mut child = Command::new("env");
    child.arg("--default-signal=INT").arg(&ci.path).args(&ci.args).stdout(Stdio::piped());
    let mut child = child.spawn().unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    let container = descendants(std::process::id());
    assert!(container.len() > 2, "{} processes", container.len());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), nix::sys::signal::SIGINT)
        .unwrap();
    child.wait().unwrap();
    container.iter().for_each(|process| await_end(process.pid.cast_signed()));
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

#[test]
fn supervise_starts_what_fails_again_until_it_has_failed_too_often() {
    let stage = stage!();
    let log = stage.path().join("log");
    let supervise =
        example!("supervise").on(&stage).args(["--log", log.to_str().unwrap(), "--restarts", "2"]);
    let ran = supervise.args(["bad=echo again; exit 3", "good=echo fine"]).run();
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    for line in ["bad: started\n", "bad: exited with code 3\n"] {
        assert_eq!(ran.stdout.matches(line).count(), 3, "{}", ran.stdout);
    }
    assert_eq!(ran.stdout.matches("good: ").count(), 2, "{}", ran.stdout);
    assert_eq!(std::fs::read_to_string(log.join("bad.log")).unwrap(), "again\nagain\nagain\n");
}

#[test]
fn supervise_renames_a_log_before_it_becomes_too_large() {
    let stage = stage!();
    let log = stage.path().join("log");
    let supervise = example!("supervise").on(&stage);
    let supervise = supervise.args(["--log", log.to_str().unwrap(), "--log-size", "70", "--restarts", "2"]);
    // 84 bytes of lines, and one line that no log has room for.
    let ran = supervise.args(["bad=seq 100 120; exit 3", "long=printf %0150d 7"]).run();
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let read = |name: &str| std::fs::read_to_string(log.join(name)).unwrap();
    let all = (0..3).flat_map(|_| 100..=120).map(|number| format!("{number}\n")).collect::<String>();
    // 252 bytes: of lines of four bytes, a log takes 68.
    let (old, new) = (read("bad.log.1"), read("bad.log"));
    assert_eq!((old.len(), new.len()), (68, 252 - 3 * 68));
    assert!(all.ends_with(&(old + &new)), "{new}");
    assert_eq!((read("long.log.1"), read("long.log")), ("0".repeat(70), format!("{:0>10}", 7)));
    let names: BTreeSet<_> =
        std::fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let expected = ["bad.log", "bad.log.1", "bad.pipe", "long.log", "long.log.1", "long.pipe"];
    assert_eq!(names, expected.map(Into::into).into());
}

#[test]
fn a_killed_supervise_leaves_its_services_to_the_next_one() {
    let stage = stage!();
    let log = stage.path().join("log");
    let supervise = example!("supervise").on(&stage).args(["--log", log.to_str().unwrap()]);
    let start = || {
        let mut command = Command::new(&supervise.path);
        command
            .args(&supervise.args)
            .arg("web=trap 'echo asked; touch /tmp/asked' USR1; echo begun; while :; do sleep 0.01; done");
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let await_log = |text: &str| {
        while std::fs::read_to_string(log.join("web.log")).unwrap_or_default() != text {
            std::thread::yield_now();
        }
    };
    let say = |child: &mut std::process::Child| -> String {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line)
            .unwrap();
        line
    };
    let mut first = start();
    assert_eq!(say(&mut first), "web: started\n");
    let running = loop {
        if let Ok(found @ cofferdam::AnyContainer::Running(_)) =
            cofferdam::AnyContainer::load(stage.root(), "supervise-web")
            && !found.info().attached
        {
            break found;
        }
        std::thread::yield_now();
    };
    await_log("begun\n");
    first.kill().unwrap();
    first.wait().unwrap();
    // The service writes while there is no supervisor.
    let service = running.as_running().unwrap();
    service.signal(cofferdam::Signal::USR1).unwrap();
    let until_asked = ["sh", "-c", "until test -e /tmp/asked; do sleep 0.01; done"];
    assert!(service.exec_output(cofferdam::Exec::new(until_asked)).unwrap().exit.outcome.success());
    let mut second = start();
    assert_eq!(say(&mut second), "web: taken over, running\n");
    await_log("begun\nasked\n");
    assert!(running.as_running().unwrap().try_wait().unwrap().is_none());
    let stop = Command::new(&supervise.path).args(&supervise.args).args(["--stop", "web="]).status().unwrap();
    assert!(stop.success());
    second.wait().unwrap();
    let gone = cofferdam::AnyContainer::load(stage.root(), "supervise-web").unwrap_err();
    assert_eq!(*gone.kind(), cofferdam::ErrorKind::NotFound);
}

#[test]
fn recover_decides_about_every_phase_a_crash_left() {
    let _stage = stage!();
    let mut ran = example!("recover").run();
    // Its lifeline was cut just now: how far its end has got is not certain.
    ran.stdout = ran.stdout.replace("attached: was running, now killed", "attached: had ended, killed");
    let stdout = "the program that made the containers: signal: 9 (SIGKILL)\n\
                  attached: had ended, killed because its creator ended: deleted\n\
                  created: never started: deleted\n\
                  half-made: half made: deleted\n\
                  running: was running, now exited with code 7: deleted\n\
                  stopped: had ended, exited with code 3: deleted\n\
                  left: 0 containers\n";
    assert_eq!(ran.expect(0, stdout), "");
}

#[test]
fn checkpoint_goes_on_where_its_last_run_stopped() {
    let stage = stage!();
    let example = example!("checkpoint").on(&stage);
    let criu = match crate::kit::criu::path() {
        Ok(path) if is_root() => path,
        Ok(_) => skip!("only root of the host may write an image"),
        Err(reason) => skip!("{reason}"),
    };
    let directory = stage.path().join("counter");
    let run = |numbers: &str| {
        let args = ["--criu", criu.to_str().unwrap(), "--numbers", numbers, directory.to_str().unwrap()];
        let ran = example.clone().args(args).run();
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), "Checkpointed\n"));
        ran.stdout.lines().map(|line| line.parse::<u32>().unwrap()).collect::<Vec<_>>()
    };
    let all = [run("3"), run("1"), run("2")].concat();
    assert_eq!(all, (1..=u32::try_from(all.len().max(6)).unwrap()).collect::<Vec<_>>());
}

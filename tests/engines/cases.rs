//! What engines do with containers, and what has to come of it.

pub(crate) use crate::checkpoints::a_container_goes_on_from_its_checkpoint_as_with_runc;
pub(crate) use crate::control::{
    a_further_process_of_a_user_is_what_it_is_with_runc, changed_limits_are_those_that_runc_sets,
    its_health_is_seen_to_change, statistics_and_processes_are_those_that_runc_shows,
};
use crate::engine::{Engine, Wish, output, said, succeed};
use crate::kit::{is_installed, is_readable_within, skip};
use crate::terminal::converse;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

/// A program that waits for SIGTERM, and then prints a line and exits.
const OBEDIENT: &str = "trap 'echo ending; exit 5' TERM; while :; do sleep 0.05; done";
/// A program that ignores SIGTERM.
const STUBBORN: &str = "trap '' TERM; while :; do sleep 0.05; done";

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim_end().replace('\r', "")
}

#[track_caller]
fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
}

pub(crate) fn output_and_exit_code_are_the_programs(engine: &dyn Engine) {
    let output = engine.run(&[], "echo out; echo err >&2; exit 3");
    assert_code(&output, 3);
    assert_eq!(stdout(&output), "out");
    assert!(String::from_utf8_lossy(&output.stderr).contains("err\n"), "{}", said(&output));
    assert_code(&engine.run(&[], "true"), 0);
}

/// By the words of the runtime's errors.
pub(crate) fn failures_have_the_exit_codes_of_docker(engine: &dyn Engine) {
    for (program, code) in [("nosuch", 127), ("/no/such", 127), ("/etc/plain", 126), ("/etc", 126)] {
        let run = output(&mut engine.run_command(&[], &[program]));
        assert_eq!(run.status.code(), Some(code), "{program}: {}", said(&run));
    }
    assert_code(&output(engine.client().args(["run", "--no-such-flag", "box"])), 125);
}

pub(crate) fn a_missing_program_is_an_error_that_names_it(engine: &dyn Engine) {
    let run = output(&mut engine.run_command(&[], &["nosuch"]));
    assert_ne!(run.status.code(), Some(0));
    assert!(said(&run).contains("\"nosuch\": executable file not found in $PATH"), "{}", said(&run));
}

/// One container for each line: what is wished for, and what the shell inside sees of it.
pub(crate) fn wishes_come_true_inside(engine: &dyn Engine) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("f");
    std::fs::write(&file, "of the host\n").expect("a file");
    for (path, mode) in [(directory.path(), 0o777), (&file, 0o666)] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("a file for everybody");
    }
    let volume = |read_only| Wish::Volume { from: directory.path(), to: "/v", read_only };
    let namespace = |kind: &str| {
        let link = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("our namespace");
        link.to_string_lossy().into_owned()
    };
    let (net, pid) = (namespace("net"), namespace("pid"));
    let table: &[(&[Wish<'_>], &str, &str)] = &[
        (&[], "touch /x && ls /x; ls /sys/class/net; ls /proc/self/fd | wc -l", "/x\nlo\n4"),
        (&[Wish::ReadOnly], "touch /x 2>/dev/null; echo $?", "1"),
        (
            &[Wish::User("7:8")],
            "id -u; id -g; grep CapEff /proc/self/status; echo x >/dev/stdout",
            "7\n8\nCapEff:\t0000000000000000\nx",
        ),
        (&[Wish::Env("A=b c"), Wish::Cwd("/tmp")], "echo $A; pwd", "b c\n/tmp"),
        (
            &[Wish::OnlyCapability("NET_BIND_SERVICE")],
            "grep CapBnd /proc/self/status",
            "CapBnd:\t0000000000000400",
        ),
        (&[Wish::OpenFiles(99, 100)], "ulimit -n; ulimit -Hn", "99\n100"),
        (&[Wish::Tmpfs("/scratch")], "grep -c '^tmpfs /scratch tmpfs .*size=1024k' /proc/mounts", "1"),
        (&[volume(true)], "cat /v/f; touch /v/x 2>/dev/null; echo $?", "of the host\n1"),
        (
            &[Wish::Volume { from: directory.path(), to: "/var/lock", read_only: true }],
            "cat /var/lock/f",
            "of the host",
        ),
        (
            &[Wish::Volume { from: &file, to: "/etc/localtime", read_only: true }],
            "cat /etc/localtime",
            "of the host",
        ),
        (&[volume(false)], "echo of the container >/v/f; cat /v/f", "of the container"),
        (&[Wish::Hostname("guest")], "hostname", "guest"),
        (&[Wish::HostNetwork], "readlink /proc/self/ns/net", &net),
        (&[Wish::HostPids], "readlink /proc/self/ns/pid", &pid),
        (&[Wish::Device { from: "/dev/zero", to: "/dev/nought" }], "head -c 3 /dev/nought | wc -c", "3"),
    ];
    for (wishes, script, expected) in table {
        if wishes.iter().any(|wish| engine.words(*wish).is_none()) {
            continue;
        }
        let run = engine.run(wishes, script);
        assert_eq!(stdout(&run), *expected, "{wishes:?}: {}", said(&run));
    }
    assert_eq!(std::fs::read_to_string(file).expect("the file"), "of the container\n");
}

pub(crate) fn limits_are_in_the_cgroup(engine: &dyn Engine) {
    if !engine.has_cgroups() {
        skip!("without privileges there are no limits in hierarchies of version 1");
    }
    // Of either version, from inside.
    let v1 = Path::new("/sys/fs/cgroup/memory").exists();
    let file = |old: &'static str, new: &'static str| if v1 { old } else { new };
    let memory = file("memory/memory.limit_in_bytes", "memory.max");
    let cpu = file("cpu/cpu.cfs_quota_us", "cpu.max");
    let half = file("50000", "50000 100000");
    let pids = file("pids/pids.max", "pids.max");
    for (wish, name, expected) in [
        (Wish::Memory(64 << 20), memory, "67108864"),
        (Wish::HalfACpu, cpu, half),
        (Wish::Processes(20), pids, "20"),
    ] {
        let Some(_) = engine.words(wish) else { continue };
        let id = "limited";
        engine.start(id, &[wish], &["sleep", "1000"]);
        let limit = engine.cgroup_file(id, name);
        assert_eq!(limit.trim(), expected, "{name}");
        engine.remove(id);
    }
}

pub(crate) fn a_single_process_may_be_all_there_is(engine: &dyn Engine) {
    if !engine.has_cgroups() {
        skip!("without privileges there are no limits in hierarchies of version 1");
    }
    let run = engine.run(&[Wish::Processes(1)], "echo alone; (echo another); true");
    assert_eq!(stdout(&run), "alone", "{}", said(&run));
}

pub(crate) fn out_of_memory_is_a_kill(engine: &dyn Engine) {
    if !engine.has_cgroups() {
        skip!("without privileges there are no limits in hierarchies of version 1");
    }
    let bomb = "awk 'BEGIN { for (;;) s = s sprintf(\"%1000000s\", \"\") }'";
    engine.start("bomb", &[Wish::Memory(32 << 20)], &["sh", "-c", bomb]);
    assert_eq!(engine.wait("bomb"), 137);
    if engine.tells_of_oom() {
        assert_eq!(engine.tell(&["inspect", "--format", "{{.State.OOMKilled}}", "bomb"]), "true\n");
    }
    engine.remove("bomb");
}

pub(crate) fn a_stop_is_a_request_and_then_a_kill(engine: &dyn Engine) {
    engine.start("obedient", &[], &["sh", "-c", OBEDIENT]);
    engine.tell(&["stop", "--time", "30", "obedient"]);
    assert_eq!(engine.wait("obedient"), 5);
    assert_eq!(engine.tell(&["logs", "obedient"]), "ending\n");
    engine.start("stubborn", &[], &["sh", "-c", STUBBORN]);
    engine.tell(&["stop", "--time", "1", "stubborn"]);
    assert_eq!(engine.wait("stubborn"), 137);
    for name in ["obedient", "stubborn"] {
        assert_eq!(engine.status(name), "exited");
        engine.remove(name);
    }
}

pub(crate) fn a_kill_ends_it_with_137(engine: &dyn Engine) {
    engine.start("killed", &[], &["sleep", "1000"]);
    engine.kill("killed", "KILL");
    assert_eq!(engine.wait("killed"), 137);
    engine.remove("killed");
}

pub(crate) fn further_processes_are_executed(engine: &dyn Engine) {
    engine.start("home", &[], &["sh", "-c", STUBBORN]);
    let output = engine.exec("home", &[], "echo inside; exit 7");
    assert_code(&output, 7);
    assert_eq!(stdout(&output), "inside");
    let table: &[(&[Wish<'_>], &str, &str)] = &[
        (&[Wish::User("1000:1001")], "id -u; id -g", "1000\n1001"),
        (&[Wish::Cwd("/tmp")], "pwd", "/tmp"),
        (&[Wish::Env("A=b c")], "echo $A", "b c"),
    ];
    for (wishes, script, expected) in table {
        if wishes.iter().all(|wish| engine.exec_words(*wish).is_some()) {
            let run = engine.exec("home", wishes, script);
            assert_eq!(stdout(&run), *expected, "{wishes:?}: {}", said(&run));
        }
    }
    let missing = output_of_exec(engine, "nosuch");
    assert!(said(&missing).contains("executable file not found in $PATH"), "{}", said(&missing));
    engine.remove("home");
}

fn output_of_exec(engine: &dyn Engine, program: &str) -> Output {
    let output = output(&mut engine.exec_command("home", &[], &[program]));
    assert_ne!(output.status.code(), Some(0));
    output
}

pub(crate) fn what_cannot_be_executed_has_its_exit_code(engine: &dyn Engine) {
    engine.start("home", &[], &["sleep", "1000"]);
    for (program, code) in [("nosuch", 127), ("/etc/plain", 126), ("false", 1)] {
        assert_code(&output_of_exec(engine, program), code);
    }
    engine.remove("home");
}

pub(crate) fn a_terminal_is_talked_to(engine: &dyn Engine) {
    let mut command = engine.run_command(&[Wish::Terminal], &["sh"]);
    let (said, code) = converse(&mut command, "# ", "test -t 0 && tty; exit 6\n");
    assert_eq!(code, Some(6), "{said}");
    assert!(said.contains("/dev/pts/0"), "{said}");
    engine.start("home", &[], &["sleep", "1000"]);
    let mut command = engine.exec_command("home", &[Wish::Terminal], &["sh"]);
    let (said, code) = converse(&mut command, "# ", "test -t 0 && tty; exit 7\n");
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains("/dev/pts/"), "{said}");
    engine.remove("home");
}

pub(crate) fn it_stands_still_and_goes_on(engine: &dyn Engine) {
    if !engine.has_cgroups() {
        skip!("the engine pauses by cgroups, which it has none of");
    }
    engine.start("sleeper", &[], &["sleep", "1000"]);
    engine.pause("sleeper");
    assert_eq!(engine.status("sleeper"), "paused");
    engine.resume("sleeper");
    assert_eq!(engine.status("sleeper"), "running");
    assert_eq!(stdout(&engine.exec("sleeper", &[], "echo awake")), "awake");
    engine.remove("sleeper");
}

pub(crate) fn processes_and_memory_are_shown(engine: &dyn Engine) {
    engine.start("busy", &[], &["sh", "-c", STUBBORN]);
    assert!(engine.top("busy").lines().count() >= 2, "{}", engine.top("busy"));
    if engine.has_cgroups() {
        let memory = engine.memory_in_use("busy");
        assert!(memory.starts_with(|first: char| ('1'..='9').contains(&first)), "{memory:?}");
    }
    engine.remove("busy");
}

pub(crate) fn files_are_copied_in_and_out(engine: &dyn Engine) {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).expect("an open directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("in"), "hello\n").expect("a file");
    engine.start("box1", &[], &["sleep", "1000"]);
    engine.tell(&["cp", &path("in"), "box1:/tmp/f"]);
    assert_eq!(stdout(&engine.exec("box1", &[], "cat /tmp/f; echo further >>/tmp/f")), "hello");
    engine.tell(&["cp", "box1:/tmp/f", &path("out")]);
    assert_eq!(std::fs::read_to_string(path("out")).expect("the copy"), "hello\nfurther\n");
    engine.remove("box1");
}

pub(crate) fn what_fails_is_started_again(engine: &dyn Engine) {
    let directory = tempfile::tempdir().expect("a directory");
    let fifo = directory.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a fifo");
    // Both ends, so that neither side waits for the other to open its end.
    let mut starts = File::options().read(true).write(true).open(fifo).expect("the fifo");
    let volume = Wish::Volume { from: directory.path(), to: "/v", read_only: false };
    let script = ["sh", "-c", "echo . >/v/fifo; exit 4"];
    engine.start("failing", &[Wish::RestartOnFailure(2), volume], &script);
    for _ in 0..3 {
        assert!(is_readable_within(&starts, Duration::from_secs(30)), "it is started again");
        starts.read_exact(&mut [0; 2]).expect("a line");
    }
    assert_eq!(engine.wait("failing"), 4);
    assert_eq!(engine.tell(&["inspect", "--format", "{{.RestartCount}}", "failing"]), "2\n");
    engine.remove("failing");
}

pub(crate) fn an_init_collects_orphans(engine: &dyn Engine) {
    if !["catatonit", "docker-init", "tini"].iter().any(|program| is_installed(program)) {
        skip!("no init for containers is installed: catatonit or tini");
    }
    let run = engine.run(&[Wish::Init], "cat /proc/1/comm; (true &); sleep 0.1; ps | grep -c '\\[true\\]'");
    let lines = stdout(&run);
    let mut lines = lines.lines();
    assert!(lines.next().is_some_and(|name| name.ends_with("-init")), "{}", said(&run));
    assert_eq!(lines.next(), Some("0"), "{}", said(&run));
}

pub(crate) fn the_privileged_have_every_capability_of_the_runtime(engine: &dyn Engine) {
    let run =
        engine.run(&[Wish::Privileged], "grep CapEff /proc/self/status; grep -c . /proc/sys/kernel/hostname");
    if run.status.code() != Some(0) && said(&run).contains("process.capabilities") {
        skip!("the engine asks for more capabilities than root has here");
    }
    assert_code(&run, 0);
    let line = stdout(&run).lines().next().unwrap_or_default().replace("CapEff:\t", "");
    let capabilities = u64::from_str_radix(&line, 16).expect("a mask");
    // CAP_SYS_ADMIN.
    assert_ne!(capabilities & 1 << 21, 0, "{line}");
}

pub(crate) fn its_health_is_what_a_command_inside_says(engine: &dyn Engine) {
    let health = Wish::HealthCommand("test -e /tmp/well");
    engine.start("patient", &[health], &["sleep", "1000"]);
    let check = || output(engine.client().args(["healthcheck", "run", "patient"])).status.code();
    assert_eq!(check(), Some(1));
    assert_code(&engine.exec("patient", &[], "touch /tmp/well"), 0);
    assert_eq!(check(), Some(0));
    engine.remove("patient");
}

pub(crate) fn containers_of_a_pod_share_their_network(engine: &dyn Engine) {
    let mut create = engine.client();
    create.args(["pod", "create", "--name", "pod", "--network", "none"]).args(engine.pod_words());
    succeed(&mut create);
    let member = |args: &[&str]| {
        let mut client = engine.client();
        client.args(["run", "--pod", "pod"]).args(engine.common()).args(args);
        succeed(&mut client)
    };
    let serve = "echo hello | nc -l -p 4000";
    member(&["--detach", "--name", "server", "box", "sh", "-c", serve]);
    let ask = "until nc 127.0.0.1 4000 2>/dev/null; do sleep 0.01; done";
    assert_eq!(member(&["--rm", "box", "sh", "-c", ask]), "hello\n");
    assert_eq!(engine.wait("server"), 0);
    engine.tell(&["pod", "rm", "--force", "--time", "0", "pod"]);
}

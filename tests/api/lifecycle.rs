//! The phases of a container, on real processes: create, start, wait, signal, stop, kill, delete.

use crate::kit::{is_readable_within, skip, stage, status_line, stdout_of, write_script};
use cofferdam::builder::Resource;
use cofferdam::typestate::Recovered;
use cofferdam::{AnyContainer, ContainerBuilder, ErrorKind, Outcome, Rootfs, Signal, Status, Stdio};
use std::io::{BufRead, BufReader};
use std::time::Duration;

/// Longer than anything a healthy machine takes; a test that fails waits this long at most.
const PATIENCE: Duration = Duration::from_secs(20);
/// Runs until it is ended, and has no signal handler.
const FOREVER: [&str; 2] = ["sleep", "1000"];

#[test]
fn a_program_runs_on_the_hosts_own_directories() {
    let stage = stage!();
    let output = stage.shell("hello", "echo hello; echo oops >&2").output().unwrap();
    assert_eq!(output.exit.outcome, Outcome::Exited { code: 0 });
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"hello\n"[..], &b"oops\n"[..]));
    assert!(output.exit.started_at.unwrap() <= output.exit.finished_at.unwrap());
}

#[test]
fn a_builder_is_a_template_for_many_containers() {
    let stage = stage!();
    let template = ContainerBuilder::new().state_root(stage.root().clone()).args(["sh", "-c"]);
    let template =
        template.envs([("A", "1"), ("B", "2")]).rlimit(Resource::OpenFiles, 77).rlimit(Resource::Core, 0);
    let first = template.clone().arg("exec sleep 1000").spawn().unwrap();
    let second = template.clone().arg("exec sleep 1000").spawn().unwrap();
    assert_ne!(first.id(), second.id());
    assert_eq!(stdout_of(template.arg("echo $A$B; ulimit -n; ulimit -c")), "12\n77\n0");
    for container in [first, second] {
        container.kill().unwrap().delete().unwrap();
    }
}

#[test]
fn a_copy_of_a_builder_asks_for_descriptors_of_its_own() {
    let stage = stage!();
    let path = stage.path().join("out");
    let file = || std::fs::File::create(&path).unwrap();
    let template = stage.shell("first", "echo x >&5").stdout(file()).user_log(file()).fd(5, file());
    let refused = template.clone().build().unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::InvalidInput);
    let copy = || template.clone().id(stage.id("copy"));
    for (builder, method) in [
        (copy().stdout(file()).user_log(file()), "fd(5)"),
        (copy().stdout(file()).fd(5, file()), "user_log"),
        (copy().user_log(file()).fd(5, file()), "stdout"),
    ] {
        let refused = builder.build().unwrap_err().to_string();
        let wanted = format!("ContainerBuilder::{method}: its descriptor stayed with the builder");
        assert!(refused.starts_with(&wanted), "{refused}");
    }
    let copy = copy().inherit_stdio().fd(5, file()).user_log(file());
    assert!(copy.run().unwrap().outcome.success());
    assert!(template.run().unwrap().outcome.success(), "the first keeps what it was given");
}

#[test]
fn cpu_time_is_limited_for_each_process() {
    let stage = stage!();
    let exit =
        stage.shell("cpu", "while :; do :; done & wait $!; exit $?").cpu_time(Duration::from_millis(1)).run();
    assert_eq!(exit.unwrap().outcome, Outcome::Exited { code: 128 + Signal::XCPU.number() });
}

#[test]
fn nothing_is_left_of_a_container_that_cannot_be_spawned() {
    let stage = stage!();
    let error = stage.container("gone").args(["/no/such/program"]).spawn().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::ProgramNotFound);
    assert!(AnyContainer::list(stage.root()).unwrap().is_empty());
}

#[test]
fn a_program_runs_on_a_directory_of_its_own() {
    let stage = stage!();
    assert_eq!(stdout_of(stage.busybox_shell("busybox", "echo $(ls /)")), "bin dev etc proc root sys tmp");
}

#[test]
fn the_exit_code_is_the_programs() {
    let stage = stage!();
    for code in [0, 1, 7, 126, 255] {
        let exit = stage.shell("code", &format!("exit {code}")).run().unwrap();
        assert_eq!(exit.outcome, Outcome::Exited { code });
        assert_eq!(exit.outcome.shell_code(), code);
    }
}

#[test]
fn a_shells_exit_code_for_a_killed_child_is_no_signal_of_the_container() {
    let stage = stage!();
    // The shell turns the signal of its child into an exit code.
    let script = "sh -c 'kill -SEGV $$'; exit $?";
    assert_eq!(stage.shell("segv", script).run().unwrap().outcome, Outcome::Exited { code: 139 });
}

#[test]
fn every_phase_is_what_its_type_says() {
    let stage = stage!();
    let shared = stage.open_directory("shared");
    let builder = stage.shell("phases", "touch /shared/ran").bind_rw(&shared, "/shared");

    let creating = builder.build().unwrap();
    assert_eq!(creating.status(), Status::Creating);
    assert!(stage.changes().is_empty(), "build changes nothing: {:?}", stage.changes());

    let created = creating.create().unwrap();
    assert_eq!(created.status(), Status::Created);
    assert_eq!(AnyContainer::load(stage.root(), created.id().as_str()).unwrap().status(), Status::Created);
    assert_eq!(created.wait_timeout(Duration::from_millis(50)).unwrap(), None);
    assert!(!shared.join("ran").exists(), "the program does not run before start");

    let running = created.start().unwrap();
    assert_eq!(running.status(), Status::Running);
    let stopped = running.wait_stopped().unwrap();
    assert!(shared.join("ran").exists());
    assert_eq!(stopped.exit().outcome, Outcome::Exited { code: 0 });
    assert_eq!(AnyContainer::load(stage.root(), stopped.id().as_str()).unwrap().status(), Status::Stopped);
    stopped.delete().unwrap();
    assert!(stage.changes().is_empty(), "delete leaves nothing: {:?}", stage.changes());
}

#[test]
fn waiting_is_repeatable_from_any_handle_and_long_after_the_end() {
    let stage = stage!();
    let running = stage.shell("wait", "exit 5").build().unwrap().create().unwrap().start().unwrap();
    let other = AnyContainer::load(stage.root(), running.id().as_str()).unwrap();
    let exit = running.wait().unwrap();
    assert_eq!(exit.outcome, Outcome::Exited { code: 5 });
    assert_eq!(running.wait().unwrap(), exit);
    assert_eq!(other.wait().unwrap(), exit);
    assert_eq!(running.try_wait().unwrap(), Some(exit.clone()));
    let late = AnyContainer::load(stage.root(), running.id().as_str()).unwrap();
    assert_eq!((late.status(), late.wait().unwrap()), (Status::Stopped, exit.clone()));
    let stopped = running.wait_stopped().unwrap();
    assert_eq!(*stopped.exit(), exit);
    assert_eq!(late.wait().unwrap(), exit);
    stopped.delete().unwrap();
}

#[test]
fn a_wait_with_a_limit_says_that_the_container_still_runs() {
    let stage = stage!();
    let running = stage.container("limit").args(FOREVER).build().unwrap().create().unwrap().start().unwrap();
    assert!(running.try_wait().unwrap().is_none());
    assert!(running.wait_timeout(Duration::from_millis(30)).unwrap().is_none());
    assert!(!is_readable_within(&running, Duration::ZERO), "its descriptor is not readable yet");
    running.signal(Signal::KILL).unwrap();
    assert!(is_readable_within(&running, PATIENCE), "its descriptor becomes readable with its end");
    assert_eq!(running.try_wait().unwrap().unwrap().outcome, Outcome::Killed { signal: Signal::KILL });
    running.wait_stopped().unwrap().delete().unwrap();
}

#[test]
fn a_program_handles_the_signals_it_wants_to() {
    let stage = stage!();
    let script = "trap 'exit 42' USR1; echo ready; while :; do sleep 0.05; done";
    let mut created = stage.shell("trap", script).stdout(Stdio::piped()).build().unwrap().create().unwrap();
    let mut stdout = BufReader::new(created.take_stdout().unwrap());
    let running = created.start().unwrap();
    stdout.read_line(&mut String::new()).unwrap();
    running.signal(Signal::USR1).unwrap();
    assert_eq!(running.wait().unwrap().outcome, Outcome::Exited { code: 42 });
}

#[test]
fn a_signal_without_a_handler_does_what_it_does_by_default() {
    let stage = stage!();
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::USR2] {
        let running =
            stage.container("term").args(FOREVER).build().unwrap().create().unwrap().start().unwrap();
        running.signal(Signal::WINCH).unwrap();
        running.signal(Signal::CONT).unwrap();
        assert!(running.try_wait().unwrap().is_none(), "harmless signals are harmless");
        running.signal(signal).unwrap();
        let exit = running.wait_timeout(PATIENCE).unwrap().expect("it ends");
        assert_eq!(exit.outcome, Outcome::Killed { signal });
    }
}

#[test]
fn a_signal_to_the_sandbox_is_one_to_the_program() {
    let stage = stage!();
    let running =
        stage.container("forward").args(FOREVER).build().unwrap().create().unwrap().start().unwrap();
    let pid = rustix::process::Pid::from_raw(running.sandbox_pid()).unwrap();
    match rustix::process::kill_process(pid, rustix::process::Signal::TERM) {
        // Its ids are others than an unprivileged caller's only in name, but it is not dumpable to anybody.
        Err(errno) => panic!("the caller may signal its own child: {errno}"),
        Ok(()) => {
            let exit = running.wait_timeout(PATIENCE).unwrap().expect("it ends");
            assert_eq!(exit.outcome, Outcome::Killed { signal: Signal::TERM });
        }
    }
}

#[test]
fn kill_ends_whatever_ignores_everything() {
    let stage = stage!();
    let script = "trap '' TERM HUP INT; sleep 1000 & sleep 1000 & wait";
    let running = stage.shell("kill", script).build().unwrap().create().unwrap().start().unwrap();
    let stopped = running.kill().unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Killed { signal: Signal::KILL });
    stopped.delete().unwrap();
}

#[test]
fn a_stop_in_grace_is_the_programs_own_end() {
    let stage = stage!();
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut created = stage.shell("grace", script).stdout(Stdio::piped()).build().unwrap().create().unwrap();
    let mut stdout = BufReader::new(created.take_stdout().unwrap());
    let running = created.start().unwrap();
    stdout.read_line(&mut String::new()).unwrap();
    let stopped = running.stop(PATIENCE).unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Exited { code: 3 });
    stopped.delete().unwrap();
}

#[test]
fn a_stop_that_is_ignored_kills_when_its_grace_is_over() {
    let stage = stage!();
    let script = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let mut created = stage.shell("ignore", script).stdout(Stdio::piped()).build().unwrap().create().unwrap();
    let mut stdout = BufReader::new(created.take_stdout().unwrap());
    let running = created.start().unwrap();
    stdout.read_line(&mut String::new()).unwrap();
    let stopped = running.stop(Duration::from_millis(100)).unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Killed { signal: Signal::KILL });
    stopped.delete().unwrap();
}

#[test]
fn a_container_killed_before_start_never_ran() {
    let stage = stage!();
    let stopped = stage.container("early").args(FOREVER).build().unwrap().create().unwrap().kill().unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::NeverStarted);
    assert_eq!(stopped.exit().started_at, None);
    stopped.delete().unwrap();
}

#[test]
fn a_program_that_is_missing_is_creates_error() {
    let stage = stage!();
    for (program, message) in [
        ("nope", "exec: \"nope\": executable file not found in $PATH"),
        ("/bin/nope", "exec: \"/bin/nope\": stat /bin/nope: no such file or directory"),
        ("bin/nope", "exec: \"bin/nope\": stat /bin/nope: no such file or directory"),
    ] {
        let builder = stage.container("missing").rootfs(Rootfs::directory(stage.busybox())).args([program]);
        let failed = builder.build().unwrap().create().unwrap_err();
        assert_eq!(failed.error().to_string(), message);
        assert_eq!(*failed.error().kind(), ErrorKind::ProgramNotFound);
        assert!(matches!(failed.into_parts().1, Recovered::Unchanged(_)), "and the container comes back");
        assert!(stage.changes().is_empty(), "{:?}", stage.changes());
    }
}

#[test]
fn a_program_that_may_not_be_executed_is_creates_error() {
    let stage = stage!();
    std::fs::File::create(stage.busybox().join("bin/plain")).unwrap();
    for program in ["plain", "/bin/plain", "/etc"] {
        let builder = stage.container("plain").rootfs(Rootfs::directory(stage.busybox())).args([program]);
        let failed = builder.build().unwrap().create().unwrap_err();
        assert_eq!(failed.error().to_string(), format!("exec: {program:?}: permission denied"));
        assert_eq!(*failed.error().kind(), ErrorKind::ProgramNotExecutable);
        assert!(stage.changes().is_empty(), "{:?}", stage.changes());
    }
}

#[test]
fn a_program_whose_interpreter_is_missing_is_starts_error() {
    let stage = stage!();
    write_script(&stage.busybox().join("bin/script"), "#!/no/such/interpreter\n");
    let builder = stage.container("interpreter").rootfs(Rootfs::directory(stage.busybox())).args(["script"]);
    let failed = builder.build().unwrap().create().unwrap().start().unwrap_err();
    let message = "exec: \"/bin/script\": no such file or directory, or its interpreter is missing";
    assert_eq!(failed.error().to_string(), message);
    assert_eq!(*failed.error().kind(), ErrorKind::ProgramNotFound);
    match failed.into_parts().1 {
        Recovered::Moved(AnyContainer::Stopped(stopped)) => {
            assert_eq!(stopped.exit().outcome, Outcome::NeverStarted);
            stopped.delete().unwrap();
        }
        other => panic!("the container has ended: {other:?}"),
    }
}

#[test]
fn a_taken_id_is_refused_and_its_owner_is_unharmed() {
    let stage = stage!();
    let first = stage.container("taken").args(FOREVER).build().unwrap().create().unwrap().start().unwrap();
    let second = stage.container("taken").args(["true"]).build().unwrap().create().unwrap_err();
    assert_eq!(*second.error().kind(), ErrorKind::AlreadyExists, "{second}");
    drop(second);
    assert!(first.try_wait().unwrap().is_none(), "the first one still runs");
    assert_eq!(AnyContainer::load(stage.root(), first.id().as_str()).unwrap().status(), Status::Running);
    assert_eq!(first.kill().unwrap().exit().outcome, Outcome::Killed { signal: Signal::KILL });
}

#[test]
fn the_pids_are_those_of_sandbox_and_workload() {
    let stage = stage!();
    let pid_file = stage.path().join("pid");
    let builder = stage.container("pids").args(FOREVER).pid_file(&pid_file);
    let running = builder.build().unwrap().create().unwrap().start().unwrap();
    let (sandbox, init) = (running.sandbox_pid().to_string(), running.init_pid().to_string());
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), sandbox, "decimal, without a newline");
    assert_eq!(status_line(&sandbox, "PPid"), std::process::id().to_string());
    assert_eq!(status_line(&sandbox, "NSpid"), format!("{sandbox} 1"));
    assert_eq!(status_line(&init, "PPid"), sandbox);
    assert_eq!(status_line(&init, "Name"), "sleep");
    let pids = status_line(&init, "NSpid");
    assert!(pids.starts_with(&init) && pids.ends_with(" 2") && pids.split(' ').count() == 3, "{pids}");
    let state = AnyContainer::load(stage.root(), running.id().as_str()).unwrap().oci_state().unwrap();
    assert_eq!((state.pid, state.status), (running.init_pid(), Status::Running));
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn the_gofer_stays_as_long_as_the_container_or_its_cgroups_and_no_longer() {
    let stage = stage!();
    for has_cgroups in [true, false] {
        let builder = stage.container("gofer").args(FOREVER);
        let builder = if has_cgroups { builder } else { builder.without_cgroup() };
        let running = builder.build().unwrap().create().unwrap().start().unwrap();
        let gofer = running.info().gofer.expect("the record names the gofer");
        let pid = rustix::process::Pid::from_raw(gofer.pid).unwrap();
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        assert!(
            !is_readable_within(&pidfd, Duration::from_millis(300)),
            "the gofer has ended: its filter killed it?"
        );
        let stopped = running.kill().unwrap();
        if !has_cgroups {
            assert!(is_readable_within(&pidfd, PATIENCE), "the sandbox has ended and the gofer has not");
        }
        // It would remove the cgroups if this program were killed now.
        stopped.delete().unwrap();
        assert!(is_readable_within(&pidfd, PATIENCE), "the container is deleted and the gofer has not ended");
    }
}

#[test]
fn a_killed_gofer_ends_its_container() {
    let stage = stage!();
    let running = stage.container("orphan").args(FOREVER).build().unwrap().create().unwrap().start().unwrap();
    let gofer = running.info().gofer.expect("the record names the gofer");
    let pid = rustix::process::Pid::from_raw(gofer.pid).unwrap();
    if rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_err() {
        skip!("this user may not kill the gofer");
    }
    assert_eq!(running.wait_timeout(PATIENCE).unwrap().expect("it ends").outcome, Outcome::Lost);
    running.wait_stopped().unwrap().delete().unwrap();
}

#[test]
fn the_end_of_init_is_the_end_of_its_orphans() {
    let stage = stage!();
    let script = "(sleep 1000 & sleep 1000 &) ; exit 0";
    let running = stage.shell("orphans", script).build().unwrap().create().unwrap().start().unwrap();
    let sandbox = running.sandbox_pid().cast_unsigned();
    assert_eq!(
        running.wait_timeout(PATIENCE).unwrap().expect("it ends").outcome,
        Outcome::Exited { code: 0 }
    );
    let left: Vec<String> =
        crate::kit::witness::descendants(sandbox).iter().map(ToString::to_string).collect();
    assert!(left.is_empty(), "{left:?}");
    running.wait_stopped().unwrap().delete().unwrap();
}

#[test]
fn a_killed_sandbox_takes_everything_along_and_the_outcome_says_lost() {
    let stage = stage!();
    let running =
        stage.shell("lost", "sleep 1000 & sleep 1000").build().unwrap().create().unwrap().start().unwrap();
    let init = running.init_pid();
    let pid = rustix::process::Pid::from_raw(running.sandbox_pid()).unwrap();
    if rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_err() {
        skip!("this user may not kill the sandbox");
    }
    let exit = running.wait_timeout(PATIENCE).unwrap().expect("it ends");
    assert_eq!(exit.outcome, Outcome::Lost);
    crate::kit::await_end(init);
    assert_eq!(AnyContainer::load(stage.root(), running.id().as_str()).unwrap().status(), Status::Stopped);
    running.wait_stopped().unwrap().delete().unwrap();
}

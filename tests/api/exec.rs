//! Further processes in a running container.

#![expect(clippy::disallowed_methods, reason = "tests write plain files of their own")]

use crate::kit::inside::output;
use crate::kit::{Stage, is_root, stage};
use cofferdam::builder::IdMap;
use cofferdam::oci_spec::runtime::Capability;
use cofferdam::{Container, ErrorKind, Exec, Outcome, Process, Rootfs, Running, Signal, Stdio};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

fn running(stage: &Stage, name: &str) -> Container<Running> {
    stage.container(name).args(["sleep", "1000"]).build().unwrap().create().unwrap().start().unwrap()
}

#[test]
fn a_process_shares_every_namespace_with_init() {
    let stage = stage!();
    let container = running(&stage, "shares");
    let script = "for n in cgroup ipc mnt net pid user uts; do readlink /proc/$1/ns/$n; done";
    let of = |pid: &str| {
        let exec = Exec::new(["sh", "-c", script, "sh", pid]);
        let exec = exec.capabilities([Capability::SysPtrace].into());
        container.exec_output(exec).unwrap().stdout
    };
    assert_eq!(String::from_utf8(of("self")).unwrap(), String::from_utf8(of("1")).unwrap());
}

#[test]
fn the_first_process_is_pid_2_and_its_parent_is_not_inside() {
    let stage = stage!();
    let container = crate::kit::start(stage.container("pids").args(["sleep", "1000"]).init(false));
    let process = container.exec(Exec::new(["sleep", "1000"])).unwrap();
    assert_eq!(process.pid_inside(), 2);
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    assert!(status.contains("Name:\tsleep"), "{status}");
    assert!(status.contains(&format!("PPid:\t{}\n", container.sandbox_pid())), "{status}");
    assert_eq!(output(&container, "grep PPid /proc/2/status"), "PPid:\t0\n");
    process.kill().unwrap();
    assert_eq!(process.wait().unwrap().outcome, Outcome::Killed { signal: Signal::KILL });
    process.kill().unwrap();
}

#[test]
fn exit_codes_and_signals_come_back_and_can_be_asked_for_again() {
    let stage = stage!();
    let container = running(&stage, "codes");
    let process = container.exec(Exec::new(["sh", "-c", "exit 7"])).unwrap();
    for _ in 0..2 {
        assert_eq!(process.wait().unwrap().outcome, Outcome::Exited { code: 7 });
    }
    let process = container.exec(Exec::new(["sh", "-c", "kill -USR1 $$"])).unwrap();
    let outcome = process.wait().unwrap().outcome;
    assert_eq!(outcome, Outcome::Signalled { signal: Signal::USR1, core_dumped: false });
    let process = container.exec(Exec::new(["sleep", "1000"])).unwrap();
    assert_eq!(process.try_wait().unwrap(), None);
    assert_eq!(process.wait_timeout(Duration::from_millis(20)).unwrap(), None);
    process.signal(Signal::TERM).unwrap();
    assert_eq!(process.wait().unwrap().outcome, Outcome::Killed { signal: Signal::TERM });
    assert_eq!(*process.signal(Signal::TERM).unwrap_err().kind(), ErrorKind::Ended);
}

#[test]
fn streams_are_pipes_where_asked_for() {
    let stage = stage!();
    let container = running(&stage, "pipes");
    let exec = Exec::new(["sh", "-c", "cat; echo err >&2"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = container.exec(exec.stderr(Stdio::piped())).unwrap();
    process.take_stdin().unwrap().write_all(b"through").unwrap();
    let (mut stdout, mut stderr) = (String::new(), String::new());
    process.take_stdout().unwrap().read_to_string(&mut stdout).unwrap();
    process.take_stderr().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((stdout.as_str(), stderr.as_str()), ("through", "err\n"));
    assert!(process.wait().unwrap().outcome.success());
}

#[test]
fn further_descriptors_get_the_numbers_they_were_given() {
    let stage = stage!();
    let container = running(&stage, "fds");
    let file = |text: &str| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        file
    };
    let exec = Exec::new(["sh", "-c", "cat <&7; cat <&3; cat <&4; ls /proc/self/fd"]);
    let exec = exec.fd(4, file("four ")).fd(3, file("three ")).fd(7, file("seven "));
    let output = container.exec_output(exec).unwrap();
    // `ls` has one more descriptor: the directory that it reads.
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "seven three four 0\n1\n2\n3\n4\n5\n7\n");
    let twice = Exec::new(["true"]).fd(3, file("")).fd(3, file(""));
    assert_eq!(*container.exec(twice).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn the_containers_first_process_gets_further_descriptors_too() {
    let stage = stage!();
    let (read, mut write) = std::io::pipe().unwrap();
    write.write_all(b"seven ").unwrap();
    drop(write);
    let null = std::fs::File::open("/dev/null").unwrap();
    let builder = stage.shell("fds", "cat <&7; cat <&3; ls /proc/self/fd").fd(7, read).fd(3, null);
    assert_eq!(crate::kit::stdout_of(builder), "seven 0\n1\n2\n3\n4\n7");
    let twice = stage.shell("fds", "true").fd(3, std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let error = twice.fd(2, std::io::stdin().as_fd().try_clone_to_owned().unwrap()).build().unwrap().create();
    assert_eq!(*cofferdam::Error::from(error.unwrap_err()).kind(), ErrorKind::InvalidInput);
}

#[test]
fn an_attached_process_ends_with_its_handle() {
    let stage = stage!();
    let container = running(&stage, "attached");
    let process = container.exec(Exec::new(["sleep", "1000"]).attached()).unwrap();
    let pid = process.id();
    drop(process);
    crate::kit::await_end(pid);
}

/// Collects a child of this process. Returns its exit code, or the signal that killed it.
fn collect(pid: i32) -> (Option<i32>, Option<i32>) {
    use rustix::process::{Pid, WaitOptions, waitpid};
    let (_, status) = waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap().expect("it ended");
    (status.exit_status(), status.terminating_signal())
}

#[test]
fn an_exec_proxy_ends_as_the_process_does_and_passes_signals_on() {
    let stage = stage!();
    let container = running(&stage, "exec-proxy");
    let attached = |script: &str| {
        let exec = Exec::new(["sh", "-c", script]).attached();
        container.exec(exec.stdout(Stdio::piped())).unwrap()
    };
    assert_eq!(collect(attached("exit 7").into_exec_proxy().unwrap()), (Some(7), None));
    assert_eq!(collect(attached("kill -SEGV $$").into_exec_proxy().unwrap()), (None, Some(libc::SIGSEGV)));
    let heard = attached("exit 9");
    heard.wait().unwrap();
    assert_eq!(collect(heard.into_exec_proxy().unwrap()), (Some(9), None));

    let mut process = attached("trap 'exit 3' USR1; echo ready; while :; do sleep 0.01; done");
    let mut stdout = process.take_stdout().unwrap();
    stdout.read_exact(&mut [0; 6]).unwrap();
    let pid = process.into_exec_proxy().unwrap();
    let descriptors = crate::kit::witness::descriptors(&pid.to_string());
    assert!(descriptors.values().all(|to| !to.starts_with("pipe:")), "{descriptors:?}");
    let signal = |signal| rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal);
    signal(rustix::process::Signal::USR1).unwrap();
    assert_eq!(collect(pid), (Some(3), None));
    assert_eq!(stdout.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn killing_an_exec_proxy_kills_the_process() {
    let stage = stage!();
    let container = running(&stage, "kill-exec-proxy");
    let process = container.exec(Exec::new(["sleep", "1000"]).attached()).unwrap();
    let pid = process.id();
    let proxy = process.into_exec_proxy().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(proxy).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    assert_eq!(collect(proxy), (None, Some(libc::SIGKILL)));
    crate::kit::await_end(pid);
}

#[test]
fn user_directory_and_environment_are_the_containers_unless_changed() {
    let stage = stage!();
    let builder = stage.container("defaults").args(["sleep", "1000"]).env("FROM", "container").cwd("/tmp");
    let container = builder.build().unwrap().create().unwrap().start().unwrap();
    assert_eq!(
        output(&container, "echo $FROM; pwd; id -u; grep CapEff /proc/self/status"),
        "container\n/tmp\n0\nCapEff:\t0000000000000000\n"
    );
    let exec =
        Exec::new(["sh", "-c", "echo $FROM $TOO; pwd"]).env("FROM", "exec").env("TOO", "1").cwd("/etc");
    assert_eq!(container.exec_output(exec).unwrap().stdout, b"exec 1\n/etc\n");
    let exec = Exec::new(["env"]).env_clear().env("ONLY", "this");
    let text = String::from_utf8(container.exec_output(exec).unwrap().stdout).unwrap();
    assert_eq!(text.lines().filter(|line| !line.starts_with("HOME=")).collect::<Vec<_>>(), ["ONLY=this"]);
    if is_root() {
        let exec = Exec::new(["sh", "-c", "id -u; id -g; id -G"]).user(5, 6).groups([7]);
        assert_eq!(container.exec_output(exec).unwrap().stdout, b"5\n6\n6 7\n");
    }
}

#[test]
fn a_user_is_found_by_name_in_the_image_or_is_an_error() {
    let stage = stage!();
    let rootfs = stage.busybox();
    std::fs::write(rootfs.join("etc/passwd"), "root:x:0:0::/root:\nweb:x:33:34::/srv:\n").unwrap();
    std::fs::write(rootfs.join("etc/group"), "www:x:35:web\n").unwrap();
    let builder = stage.container("names").rootfs(Rootfs::directory(&rootfs)).args(["sleep", "1000"]);
    let container = builder.build().unwrap().create().unwrap().start().unwrap();
    if is_root() {
        let exec = Exec::new(["sh", "-c", "id -u; id -g; id -G; echo $HOME"]).user_name("web");
        assert_eq!(container.exec_output(exec).unwrap().stdout, b"33\n34\n34 35\n/srv\n");
    }
    let error = container.exec(Exec::new(["true"]).user_name("nobody-here")).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidSpec { path: "process.user.username".into() });
    assert!(error.to_string().contains("there is no user \"nobody-here\""), "{error}");
}

#[test]
fn a_number_is_a_uid_whatever_names_the_image_has() {
    let stage = stage!();
    let rootfs = stage.busybox();
    let passwd = "root:x:0:0::/root:\n1000:x:0:0::/:\n0:x:7:7::/:\nweb:x:33:34::/srv:\n";
    std::fs::write(rootfs.join("etc/passwd"), passwd).unwrap();
    std::fs::write(rootfs.join("etc/group"), "www:x:35:web\nwheel:x:10:1000\n").unwrap();
    let builder = stage.container("numbers").rootfs(Rootfs::directory(&rootfs)).args(["sleep", "1000"]);
    let container = builder.spawn().unwrap();
    let ids = |user: &str| {
        let exec = Exec::new(["sh", "-c", "id -u; id -g; id -G"]).user_name(user);
        container.exec_output(exec).map(|output| String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(ids("0").unwrap(), "0\n0\n0\n");
    if is_root() {
        assert_eq!(ids("1000").unwrap(), "1000\n0\n0\n", "the group is the container's own process's");
        assert_eq!(ids("33").unwrap(), "33\n34\n34 35\n");
    } else {
        assert!(ids("1000").unwrap_err().to_string().contains("1000 is not mapped"));
    }
    for neither in ["", "+1", "-1", "00", "01", "4294967296"] {
        let error = ids(neither).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{neither}");
        let said = "Exec::user_name: is neither a name nor a uid (write a uid in plain digits)";
        assert_eq!(error.to_string(), said);
    }
}

#[test]
fn what_cannot_be_executed_is_a_typed_error_and_leaves_no_process() {
    let stage = stage!();
    let container = running(&stage, "errors");
    let kind = |exec: Exec| container.exec(exec).unwrap_err().kind().clone();
    assert_eq!(kind(Exec::new(["no-such-program"])), ErrorKind::ProgramNotFound);
    assert_eq!(kind(Exec::new(["/no/such/program"])), ErrorKind::ProgramNotFound);
    assert_eq!(kind(Exec::new(["/etc"])), ErrorKind::ProgramNotExecutable);
    let invalid = |path: &str| ErrorKind::InvalidSpec { path: path.into() };
    assert_eq!(kind(Exec::new(Vec::<String>::new())), invalid("process.args"));
    assert_eq!(kind(Exec::new([""])), invalid("process.args[0]"));
    assert_eq!(kind(Exec::new(["true"]).cwd("relative")), invalid("process.cwd"));
    assert_eq!(kind(Exec::new(["true"]).cwd("/nowhere")), ErrorKind::Os(libc::ENOENT));
    assert_eq!(kind(Exec::new(["true"]).cwd("/bin/sh")), ErrorKind::Os(libc::ENOTDIR));
    assert_eq!(output(&container, "set -- /proc/[0-9]*; echo $#"), "3\n", "init, sleep and sh");
}

#[test]
fn output_is_bounded_in_size_and_time() {
    let stage = stage!();
    let container = running(&stage, "bounded");
    let output = container.exec_output(Exec::new(["yes"]).output_limit(10_000)).unwrap();
    assert_eq!(output.exit.outcome, Outcome::TooMuchOutput { limit: 10_000 });
    assert_eq!(output.stdout.len(), 10_000);
    // Long enough for the shell to get to its first word anywhere.
    let limit = Duration::from_secs(3);
    let slow = Exec::new(["sh", "-c", "echo first; sleep 1000"]).timeout(limit);
    let output = container.exec_output(slow).unwrap();
    assert_eq!(output.exit.outcome, Outcome::TimedOut { after: limit });
    assert_eq!(output.stdout, b"first\n");
    let began = Instant::now();
    let orphan = container.exec_output(Exec::new(["sh", "-c", "sleep 1000 & echo done"])).unwrap();
    assert_eq!(orphan.stdout, b"done\n");
    assert!(began.elapsed() < Duration::from_secs(60), "an orphan that holds the pipe delays nothing");
}

/// Starts a background job, a job whose parent ends, and a session of its own with another job whose parent ends.
const OFFSPRING: &str = "sleep 1000 & (sleep 1000 &)
    setsid sh -c '(sleep 1000 &); echo ready; exec sleep 1000' & exec sleep 1000";

/// The pids on the host of the container's processes besides init and `other`.
fn host_pids(container: &Container<Running>, other: &Process) -> Vec<i32> {
    let table = container.processes().unwrap();
    let init = Some(container.init_pid());
    let table = table.iter().filter(|process| process.host_pid != init && process.pid != other.pid_inside());
    table.map(|process| process.host_pid.unwrap()).collect()
}

/// Executes [`OFFSPRING`], with `change` applied, beside another process. Has `end` end it, and asserts that all of its
/// processes end, and neither the other process nor init.
fn everything_ends(
    name: &str,
    change: fn(Exec) -> Exec,
    end: fn(&Container<Running>, Process) -> Outcome,
) -> Outcome {
    let Some(stage) = Stage::in_own_process() else { return Outcome::Lost };
    let container = running(&stage, name);
    let other = container.exec(Exec::new(["sleep", "1000"])).unwrap();
    let exec = change(Exec::new(["sh", "-c", OFFSPRING]).stdout(Stdio::piped()));
    let mut process = container.exec(exec).unwrap();
    let mut ready = [0; 6];
    process.take_stdout().unwrap().read_exact(&mut ready).unwrap();
    let pids = host_pids(&container, &other);
    assert_eq!(pids.len(), 5, "{:?}", container.processes().unwrap());
    let outcome = end(&container, process);
    pids.into_iter().for_each(crate::kit::await_end);
    assert_eq!(other.try_wait().unwrap(), None);
    assert_eq!(container.try_wait().unwrap(), None);
    outcome
}

/// Long enough for a shell to start its jobs anywhere.
const TIMEOUT: Duration = Duration::from_secs(3);
const TIMED_OUT: Outcome = Outcome::TimedOut { after: TIMEOUT };

#[test]
fn a_timeout_ends_everything_that_the_process_started() {
    let outcome = everything_ends(
        "timeout",
        |exec| exec.timeout(TIMEOUT),
        |_, process| process.wait().unwrap().outcome,
    );
    assert!(matches!(outcome, TIMED_OUT | Outcome::Lost), "{outcome:?}");
}

#[test]
fn a_timeout_holds_when_no_caller_waits() {
    let outcome = everything_ends(
        "no-waiter",
        |exec| exec.timeout(TIMEOUT),
        |container, process| {
            let pid = process.pid_inside();
            drop(process);
            container.wait_pid(pid).unwrap().outcome
        },
    );
    assert!(matches!(outcome, TIMED_OUT | Outcome::Lost), "{outcome:?}");
}

#[test]
fn a_tree_is_killed_whole_when_it_is_asked_for() {
    let outcome = everything_ends(
        "tree",
        |exec| exec,
        |_, process| {
            process.kill_tree().unwrap();
            let outcome = process.wait().unwrap().outcome;
            process.kill_tree().unwrap();
            outcome
        },
    );
    assert!(matches!(outcome, Outcome::Killed { signal: Signal::KILL } | Outcome::Lost), "{outcome:?}");
}

#[test]
fn too_much_output_ends_everything_that_wrote_it() {
    let stage = stage!();
    let container = running(&stage, "much");
    let shared = Exec::new(["sh", "-c", "sleep 1000 & echo $!; exec yes"]).output_limit(10_000);
    let output = container.exec_output(shared).unwrap();
    assert_eq!(output.exit.outcome, Outcome::TooMuchOutput { limit: 10_000 });
    let text = String::from_utf8(output.stdout).unwrap();
    let job: i32 = text.lines().next().unwrap().parse().unwrap();
    let job = container.processes().unwrap().into_iter().find(|process| process.pid == job);
    job.and_then(|job| job.host_pid).into_iter().for_each(crate::kit::await_end);
}

#[test]
fn a_process_that_ends_in_time_is_not_touched_by_its_timeout() {
    let stage = stage!();
    let container = running(&stage, "in-time");
    let process =
        container.exec(Exec::new(["sh", "-c", "exit 7"]).timeout(Duration::from_secs(1000))).unwrap();
    assert_eq!(process.wait().unwrap().outcome, Outcome::Exited { code: 7 });
    // A process that a signal kills before its timeout is not reported as timed out.
    let process = container.exec(Exec::new(["sleep", "1000"]).timeout(Duration::from_secs(1000))).unwrap();
    process.kill().unwrap();
    assert_eq!(process.wait().unwrap().outcome, Outcome::Killed { signal: Signal::KILL });
}

#[test]
fn a_hundred_processes_at_once_all_come_back() {
    let stage = stage!();
    let container = running(&stage, "hundred");
    std::thread::scope(|scope| {
        for worker in 0..10 {
            let container = &container;
            scope.spawn(move || {
                let processes: Vec<_> = (0..10)
                    .map(|number| {
                        let script = format!("exit {}", worker * 10 + number);
                        container.exec(Exec::new(["sh", "-c", &script])).unwrap()
                    })
                    .collect();
                for (number, process) in (0..).zip(&processes) {
                    assert_eq!(
                        process.wait().unwrap().outcome,
                        Outcome::Exited { code: worker * 10 + number }
                    );
                }
            });
        }
    });
}

#[test]
fn a_process_can_be_waited_for_by_its_pid_once() {
    let stage = stage!();
    let container = running(&stage, "waitpid");
    let mut process = container.exec(Exec::new(["cat"]).stdin(Stdio::piped())).unwrap();
    let (pid, stdin) = (process.pid_inside(), process.take_stdin());
    drop(process);
    assert_eq!(container.exec_output(Exec::new(["true"])).unwrap().stdout, b"");
    drop(stdin);
    assert!(container.wait_pid(pid).unwrap().outcome.success());
    assert_eq!(*container.wait_pid(pid).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(*container.wait_pid(1).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn processes_end_with_their_container() {
    let stage = stage!();
    let container = running(&stage, "ends");
    let process = container.exec(Exec::new(["sleep", "1000"])).unwrap();
    let stopped = container.kill().unwrap();
    let end = process.wait();
    assert!(end.is_err() || !end.unwrap().outcome.success());
    assert!(!std::path::Path::new(&format!("/proc/{}", process.id())).exists());
    assert!(process.as_fd().try_clone_to_owned().is_ok());
    stopped.delete().unwrap();
}

#[test]
fn a_user_that_is_not_mapped_is_refused_by_number_and_by_name_alike() {
    let stage = stage!();
    let rootfs = stage.busybox();
    let passwd = "root:x:0:0::/:/bin/sh\nweb:x:1000:0::/:/bin/sh\nstaff:x:0:50::/:/bin/sh\n";
    std::fs::write(rootfs.join("etc/passwd"), passwd).unwrap();
    let one = |host| [IdMap { container: 0, host, size: 1 }];
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let builder = stage.container("one").rootfs(Rootfs::directory(rootfs)).id_mappings(&one(uid), &one(gid));
    let container = builder.args(["sleep", "1000"]).spawn().unwrap();
    let refused = |exec: Exec| {
        let error = container.exec(exec).unwrap_err();
        (error.kind().clone(), error.to_string())
    };
    let exec = || Exec::new(["true"]);
    for (by_number, by_name, field) in [
        (exec().user(1000, 0), exec().user_name("web"), "process.user.uid: 1000"),
        (exec().user(0, 50), exec().user_name("staff"), "process.user.gid: 50"),
    ] {
        let (kind, text) = refused(by_name);
        assert!(text.starts_with(&format!("exec: {field} is not mapped (add it to linux.")), "{text}");
        assert_eq!((kind, text), refused(by_number));
    }
    assert!(container.exec_output(exec().user_name("root")).unwrap().exit.outcome.success());
}

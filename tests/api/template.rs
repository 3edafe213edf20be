//! Templates: clones of programs of several kinds, what is refused, and what is left on the host.

#![expect(clippy::disallowed_methods, reason = "tests read and write plain files of their own")]

use crate::kit::{Stage, find, is_root, may_limit, note_skip, skip, stage};
use cofferdam::oci_spec::runtime::Capability;
use cofferdam::templates::{Ready, Template};
use cofferdam::typestate::Recovered;
use cofferdam::{ContainerBuilder, ErrorKind, Outcome, Output, Rootfs, Running, Signal, Stdio};
use rustix::process::{PidfdFlags, Resource, Rlimit};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A container that gets ready, with the host's programs, for at most a minute.
pub(crate) fn preparing(stage: &Stage, args: &[&str]) -> ContainerBuilder {
    stage.container("template").timeout(Duration::from_secs(60)).args(args)
}

pub(crate) fn taken(builder: ContainerBuilder) -> Template {
    builder.spawn().unwrap().into_template(Ready::Stopped).unwrap()
}

/// Runs a clone with this input.
pub(crate) fn run(stage: &Stage, template: &Template, name: &str, input: &str) -> Output {
    template.builder(stage.id(name)).input(input).output().unwrap()
}

pub(crate) fn text(output: &Output) -> (String, String, Outcome) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.exit.outcome)
}

pub(crate) fn said(text_: &str, code: i32) -> (String, String, Outcome) {
    (text_.to_owned(), String::new(), Outcome::Exited { code })
}

#[test]
fn a_shell_goes_on_in_each_clone_with_its_variables_and_a_code_of_its_own() {
    let stage = stage!();
    if !Path::new("/bin/bash").exists() {
        skip!("no bash");
    }
    let script = "x=warm; kill -STOP $$; read n; /bin/echo $x $n $$; (exit 3); echo $?; exit $n";
    let template = taken(preparing(&stage, &["/bin/bash", "-c", script]));
    for n in [4, 5, 6] {
        let output = run(&stage, &template, &format!("clone{n}"), &format!("{n}\n"));
        assert_eq!(text(&output), said(&format!("warm {n} 2\n3\n"), n));
    }
}

#[test]
fn programs_of_several_kinds_are_cloned_and_work_on() {
    let stage = stage!();
    let python = "import os, signal, subprocess, threading, json\n\
        os.kill(os.getpid(), signal.SIGSTOP)\n\
        code = int(input())\n\
        thread = threading.Thread(target=lambda: print('thread', flush=True)); thread.start(); thread.join()\n\
        subprocess.run(['/bin/echo', 'child'])\n\
        signal.signal(signal.SIGUSR1, lambda *_: print('signal', flush=True)); os.kill(os.getpid(), signal.SIGUSR1)\n\
        own = open('/proc/self/environ').read().split('\\0')\n\
        print([v[-1] for v in own if v.startswith('COFFERDAM_CLONE=')], flush=True)\n\
        f = lambda n: n and 1 + f(n - 1)\n\
        print(f(900), len(json.dumps('x' * 9000000)), flush=True)\n\
        os._exit(code)";
    let perl = "$x = 'warm'; kill 'STOP', $$; $n = <STDIN>; print \"$x\\n\"; system('echo child'); exit $n";
    let shell = "x=warm; kill -STOP $$; read n; echo $x; echo child | cat; exit $n";
    let all = [
        ("/usr/bin/python3", vec!["-c", python], "thread\nchild\nsignal\n['7']\n900 9000002\n"),
        ("/usr/bin/perl", vec!["-e", perl], "warm\nchild\n"),
        ("/usr/bin/busybox", vec!["sh", "-c", shell], "warm\nchild\n"),
    ];
    for (program, mut args, output) in all {
        if !Path::new(program).exists() {
            note_skip(&format!("no {program}"));
            continue;
        }
        args.insert(0, program);
        let template = taken(preparing(&stage, &args));
        for code in [7, 17] {
            let ran = run(&stage, &template, &format!("clone{code}"), &format!("{code}\n"));
            assert_eq!(text(&ran), said(output, code), "{program}");
        }
    }
}

#[test]
fn a_process_that_cannot_be_cloned_is_refused_by_name_and_goes_on() {
    let stage = stage!();
    if !Path::new("/usr/bin/python3").exists() {
        skip!("no python3");
    }
    let stop = "os.kill(os.getpid(), 19); print(sys.stdin.read(), 'went on', flush=True)";
    let cases = [
        (
            "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
            "more than one thread",
        ),
        ("import subprocess; p = subprocess.Popen(['/bin/sleep', '60'])", "has another process"),
        ("import socket; s = socket.socket()", "descriptor 3 is open: socket:"),
        ("import mmap; m = mmap.mmap(-1, 4096)", "shared mapping"),
        ("import signal; signal.alarm(50)", "an alarm or an interval timer"),
        ("import signal; signal.pthread_sigmask(0, [10]); os.kill(os.getpid(), 10)", "signal 10 is pending"),
    ];
    for (before, problem) in cases {
        let script = format!("import os, sys; {before}; {stop}");
        let running = preparing(&stage, &["/usr/bin/python3", "-c", &script]).spawn().unwrap();
        let failed = running.into_template(Ready::Stopped).unwrap_err();
        let text = failed.to_string();
        assert!(text.contains(problem) && text.contains("into_template"), "{text}");
        went_on(failed.into_parts(), &text);
    }
    let mut privileged = vec![("os.chroot('/usr'); os.chdir('/')", "another root than its container")];
    if is_root() {
        privileged.push(("os.setresgid(-1, 1, -1)", "other ids than those that it started with"));
    }
    for (before, problem) in privileged {
        let script = format!("import os; {before}; os.kill(os.getpid(), 19)");
        let builder = preparing(&stage, &["/usr/bin/python3", "-c", &script]);
        let granted = [Capability::SysChroot, Capability::Setgid];
        let failed =
            builder.grant_capabilities(granted.into()).spawn().unwrap().into_template(Ready::Stopped);
        let failed = failed.unwrap_err();
        let text = failed.to_string();
        assert!(text.contains(problem), "{text}");
        went_on(failed.into_parts(), &text);
    }
    let script =
        "import os, sys; os.close(0); os.eventfd(0); os.kill(os.getpid(), 19); print('went on', flush=True)";
    let failed = preparing(&stage, &["/usr/bin/python3", "-c", script]).spawn().unwrap();
    let failed = failed.into_template(Ready::Stopped).unwrap_err();
    assert!(failed.to_string().contains("descriptor 0 is open: anon_inode:[eventfd]"), "{failed}");
    let text = failed.to_string();
    went_on(failed.into_parts(), &text);
}

/// Waits until the kernel says that the process is in this state.
fn await_state(running: &cofferdam::Container<Running>, state: char) {
    let stat = format!("/proc/{}/stat", running.init_pid());
    while !std::fs::read_to_string(&stat).unwrap().contains(&format!(") {state} ")) {
        std::thread::yield_now();
    }
}

/// The container came back as it was, and its program has only been stopped.
pub(crate) fn went_on(
    (_, recovered, template): (cofferdam::Error, Recovered<Running>, Option<Template>),
    text: &str,
) {
    let (Recovered::Unchanged(running), None) = (recovered, template) else {
        panic!("{text}: the container did not come back");
    };
    running.signal(Signal::CONT).unwrap();
    let stopped = running.wait_stopped().unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Exited { code: 0 }, "{text}");
    stopped.delete().unwrap();
}

/// A static program that stops itself, and exits with the code it then reads; `None` if no compiler makes one for `target`.
/// It is kept where the build is, because only the user who builds may have a compiler.
fn static_program(target: &str) -> Option<PathBuf> {
    let source = r#"
        extern "C" { fn raise(signal: i32) -> i32; }
        fn main() {
            let warm: Vec<u64> = (0..100_000).collect();
            unsafe { raise(19) };
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).unwrap();
            let sum = std::thread::spawn(move || warm.iter().sum::<u64>()).join().unwrap();
            println!("{sum}");
            std::process::exit(line.trim().parse().unwrap());
        }"#;
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("stops-itself-{target}"));
    if !program.exists() {
        let new = program.with_extension(std::process::id().to_string());
        let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut child = Command::new(compiler)
            .args([
                "-",
                "--edition=2021",
                "-Ctarget-feature=+crt-static",
                "-Copt-level=1",
                "--target",
                target,
                "-o",
            ])
            .arg(&new)
            .stdin(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .ok()?;
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), source.as_bytes()).ok();
        child.wait().ok()?.success().then_some(())?;
        std::fs::rename(new, &program).ok()?;
    }
    Some(program)
}

#[test]
fn static_programs_of_both_c_libraries_are_cloned() {
    let stage = stage!();
    for library in ["gnu", "musl"] {
        let target = format!("{}-unknown-linux-{library}", std::env::consts::ARCH);
        let Some(program) = static_program(&target) else {
            note_skip(&format!("no compiler for {target}"));
            continue;
        };
        let rootfs = stage.readable_directory(library);
        std::fs::create_dir(rootfs.join("bin")).unwrap();
        std::fs::copy(program, rootfs.join("bin/program")).unwrap();
        let builder = preparing(&stage, &["/bin/program"]).rootfs(Rootfs::directory(&rootfs));
        let template = taken(builder);
        for code in [0, 41] {
            let ran = run(&stage, &template, &format!("{library}{code}"), &format!("{code}\n"));
            assert_eq!(text(&ran), said("4999950000\n", code), "{library}");
        }
    }
}

#[test]
fn memory_that_is_wiped_on_fork_is_wiped_in_a_clone() {
    let stage = stage!();
    if !Path::new("/usr/bin/python3").exists() {
        skip!("no python3");
    }
    let script = "import mmap, os\n\
        wiped, kept = (mmap.mmap(-1, 8192, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for _ in range(2))\n\
        wiped.madvise(18)\n\
        wiped[:], kept[:] = b'k' * 8192, b'k' * 8192\n\
        os.kill(os.getpid(), 19)\n\
        print(set(wiped[:]), set(kept[:]), flush=True)\n\
        wiped[:] = b'k' * 8192\n\
        if os.fork() == 0:\n    print(set(wiped[:]), flush=True); os._exit(0)\n\
        os.wait()";
    let template = taken(preparing(&stage, &["/usr/bin/python3", "-c", script]));
    assert_eq!(text(&run(&stage, &template, "clone", "")), said("{0} {107}\n{0}\n", 0));
}

#[test]
fn a_container_that_cannot_be_deleted_comes_back_together_with_the_template() {
    let stage = stage!();
    let running = preparing(&stage, &["sh", "-c", "kill -STOP $$; echo on"]).spawn().unwrap();
    let entries = std::fs::read_dir(stage.root().path()).unwrap().map(|entry| entry.unwrap().path());
    let id = stage.id("template");
    let is_run_dir = |path: &PathBuf| path.to_string_lossy().ends_with(&format!("{id}.run"));
    let precious = entries.into_iter().find(is_run_dir).unwrap().join("precious");
    std::fs::write(&precious, "x").unwrap();
    let failed = running.into_template(Ready::Stopped).unwrap_err();
    assert_eq!(failed.kind(), &ErrorKind::Incomplete, "{failed}");
    let (_, Recovered::Moved(container), Some(template)) = failed.into_parts() else {
        panic!("neither may be lost");
    };
    assert_eq!(text(&run(&stage, &template, "clone", "")), said("on\n", 0));
    std::fs::remove_file(precious).unwrap();
    container.delete(false).unwrap();
    drop(template);
    assert_eq!(stage.changes(), [] as [String; 0]);
}

#[test]
fn a_process_that_does_not_stop_in_time_is_killed_and_the_sandbox_works_on() {
    let stage = stage!();
    if !Path::new("/usr/bin/python3").exists() {
        skip!("no python3");
    }
    // The parent of a child that has not executed yet does not stop, and this child waits for a writer for ever.
    let script = "import os\n\
        os.mkfifo('/tmp/fifo'); print('ready', flush=True)\n\
        os.posix_spawn('/bin/true', ['true'], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, '/tmp/fifo', 0, 0)])";
    let running =
        preparing(&stage, &["/usr/bin/python3", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    await_state(&running, 'D');
    let failed = running.into_template(Ready::Line(b"ready")).unwrap_err();
    assert_eq!(failed.kind(), &ErrorKind::TimedOut, "{failed}");
    let container = match failed.into_parts() {
        (_, Recovered::Unchanged(running), None) => running.kill().unwrap(),
        (_, Recovered::Moved(container), None) => container.into_phase().unwrap(),
        other => panic!("{other:?}"),
    };
    let outcome = container.exit().outcome.to_string();
    assert!(outcome.contains("SIGKILL"), "{outcome}");
    container.delete().unwrap();
}

#[test]
fn a_template_that_is_killed_while_it_is_taken_is_an_error_and_leaves_nothing() {
    let stage = stage!();
    let (mut taken, mut ended) = (0, 0);
    for round in 0..40 {
        let running = preparing(&stage, &["sh", "-c", "kill -STOP $$; echo on"]).spawn().unwrap();
        let init = rustix::process::Pid::from_raw(running.init_pid()).unwrap();
        let sandbox = rustix::process::Pid::from_raw(running.sandbox_pid()).unwrap();
        let killed =
            rustix::process::pidfd_open(if round % 2 == 0 { init } else { sandbox }, PidfdFlags::empty());
        let killed = killed.unwrap();
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..round * 500).for_each(|_| std::hint::spin_loop());
                let _ = rustix::process::pidfd_send_signal(&killed, rustix::process::Signal::KILL);
            });
            running.into_template(Ready::Stopped)
        });
        match result {
            Ok(_) => taken += 1,
            Err(failed) => {
                let kinds = [ErrorKind::Ended, ErrorKind::HelperDied];
                ended += usize::from(kinds.contains(failed.kind()));
                assert!(kinds.contains(failed.kind()), "{failed}: {:?}", failed.kind());
                drop(failed);
            }
        }
    }
    assert_eq!((taken + ended, stage.changes()), (40, Vec::new()), "{taken}");
}

#[test]
fn a_clone_with_less_memory_than_the_template_runs_out_of_its_own() {
    let stage = stage!();
    if !may_limit("memory") || find("python3").is_none() {
        skip!("no memory limit or no python3");
    }
    let script = "import os\nx = bytearray(64 << 20)\nos.kill(os.getpid(), 19)\n\
        print('on', flush=True)\nfor i in range(0, len(x), 4096): x[i] = 1\nprint('done')";
    let template = taken(preparing(&stage, &["/usr/bin/python3", "-c", script]));
    let small = template.builder(stage.id("small")).memory_limit(24 << 20).output().unwrap();
    assert_eq!((text(&small).0.as_str(), small.exit.outcome), ("on\n", Outcome::OutOfMemory));
    assert_eq!(text(&run(&stage, &template, "large", "")).0, "on\ndone\n");
}

/// Pages that it only read cost a process no memory: its sandbox, which is under a limit too, copies none.
#[test]
fn pages_that_were_only_read_are_not_copied() {
    let stage = stage!();
    if !may_limit("memory") || find("python3").is_none() {
        skip!("no memory limit or no python3");
    }
    let script = "import mmap, os\nm = mmap.mmap(-1, 512 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n\
        m[5 << 20] = 7\nm[::4096]\nos.kill(os.getpid(), 19)\nprint(sum(m[4 << 20:6 << 20]), m[-1])";
    let builder = preparing(&stage, &["/usr/bin/python3", "-c", script]).memory_limit(64 << 20);
    let template = taken(builder);
    assert_eq!(text(&run(&stage, &template, "clone", "")).0, "7 0\n");
}

#[test]
fn a_reservation_too_large_to_look_through_is_refused_in_time() {
    let stage = stage!();
    if find("python3").is_none() {
        skip!("no python3");
    }
    let script = "import mmap, os\nunreserved = 0x4000\n\
        m = mmap.mmap(-1, 64 << 40, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | unreserved)\n\
        os.kill(os.getpid(), 19)";
    let running = preparing(&stage, &["/usr/bin/python3", "-c", script]).spawn().unwrap();
    let failed = running.into_template(Ready::Stopped).unwrap_err();
    assert_eq!(*failed.kind(), ErrorKind::TimedOut, "{failed}");
    assert!(failed.to_string().contains("was not ready to go on"), "{failed}");
}

#[test]
fn a_line_makes_a_template_of_pid_1_too_and_the_clone_waits_for_its_input() {
    let stage = stage!();
    let script = "x=1; echo not yet; echo ready; read n; echo $x$n";
    let running = preparing(&stage, &["sh", "-c", script]).init(false).stdin(Stdio::piped());
    let running = running.stdout(Stdio::piped()).spawn().unwrap();
    let template = running.into_template(Ready::Line(b"ready")).unwrap();
    assert_eq!(text(&run(&stage, &template, "clone", "2\n")), said("12\n", 0));
    let ended = preparing(&stage, &["true"]).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(ended.into_template(Ready::Line(b"ready")).unwrap_err().kind(), &ErrorKind::Ended);
    let pid_1 = preparing(&stage, &["sh", "-c", "kill -STOP $$; read n"]).init(false).stdin(Stdio::piped());
    let error = pid_1.spawn().unwrap().into_template(Ready::Stopped).unwrap_err();
    assert!(error.to_string().contains("PID 1"), "{error}");
}

#[test]
fn a_clone_whose_root_has_another_version_of_a_mapped_file_is_refused() {
    let stage = stage!();
    let rootfs = stage.busybox();
    let script = "kill -STOP $$; echo on";
    let builder = preparing(&stage, &["/bin/sh", "-c", script]).rootfs(Rootfs::directory(&rootfs));
    let template = taken(builder);
    assert_eq!(text(&run(&stage, &template, "same", "")), said("on\n", 0));
    let busybox = std::fs::canonicalize(rootfs.join("bin/busybox")).unwrap();
    let (copy, bytes) = (busybox.with_extension("new"), std::fs::read(&busybox).unwrap());
    std::fs::write(&copy, bytes).unwrap();
    std::fs::set_permissions(&copy, std::fs::metadata(&busybox).unwrap().permissions()).unwrap();
    std::fs::rename(&copy, &busybox).unwrap();
    let error = template.builder(stage.id("other")).output().unwrap_err();
    assert!(error.to_string().contains("busybox\" is another version"), "{error}");
}

#[test]
fn a_clone_has_the_ids_capabilities_filter_and_limits_of_a_cold_start() {
    let stage = stage!();
    let show = "while read line; do case $line in Uid*|Gid*|Groups*|Cap*|NoNewPrivs*|Seccomp*|TracerPid*|SigBlk*|SigIgn*) \
        echo $line;; esac; done </proc/self/status; ulimit -a; ls /proc/self/fd";
    let cold = preparing(&stage, &["sh", "-c", show]).output().unwrap();
    let warm = taken(preparing(&stage, &["sh", "-c", &format!("kill -STOP $$; {show}")]));
    let warm = run(&stage, &warm, "clone", "");
    assert_eq!(text(&warm), text(&cold));
    assert!(text(&warm).0.contains("Seccomp: 2"), "{warm:?}");
}

#[test]
fn a_caller_without_descriptors_for_a_template_lets_the_process_go_on() {
    let stage = stage!();
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let (mut refused, mut room) = (0, 0);
    let template = loop {
        let script = "echo x >/tmp/file; kill -STOP $$; cat /tmp/file";
        let running = preparing(&stage, &["sh", "-c", script]).spawn().unwrap();
        await_state(&running, 'T');
        let lowest = rustix::io::dup(std::io::stdin()).unwrap().as_raw_fd();
        let current = Some(u64::try_from(lowest).unwrap() + room);
        rustix::process::setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
        let taken = running.into_template(Ready::Stopped);
        rustix::process::setrlimit(Resource::Nofile, limit).unwrap();
        let failed = match taken {
            Ok(template) => break template,
            Err(failed) => failed,
        };
        let text = failed.to_string();
        match failed.into_parts() {
            // Only its end failed: dropping it destroys it.
            (_, _, Some(_)) => {}
            parts => went_on(parts, &text),
        }
        (refused, room) = (refused + 1, room + 1);
        assert!(room < 40, "{text}");
    };
    assert!(refused > 3, "{refused}");
    assert_eq!(text(&run(&stage, &template, "clone", "")), said("x\n", 0));
}

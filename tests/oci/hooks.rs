//! Hooks: each kind at its time, in its namespaces, with its state; and what is left when one fails.

#![expect(clippy::disallowed_methods, reason = "tests write scripts and read what they wrote")]

use crate::kit::caller::{self, Caller};
use crate::kit::{Stage, is_root, skip, stage, stdout_of, write_script};
use cofferdam::builder::HookKind;
use cofferdam::oci_spec::runtime::{Hook, HookBuilder};
use cofferdam::typestate::Recovered;
use cofferdam::{AnyContainer, ContainerBuilder, ErrorKind, Outcome, Rootfs, Status};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ALL: [HookKind; 6] = [
    HookKind::Prestart,
    HookKind::CreateRuntime,
    HookKind::CreateContainer,
    HookKind::StartContainer,
    HookKind::Poststart,
    HookKind::Poststop,
];

/// A hook of this kind that runs `script` with `$OUT`, a directory that every user may write to.
fn hook(out: &Path, script: &str) -> Hook {
    let env = vec![format!("OUT={}", out.display()), "PATH=/usr/bin:/bin".to_owned()];
    let args = vec!["hook".to_owned(), "-c".to_owned(), script.to_owned()];
    HookBuilder::default().path("/bin/sh").args(args).env(env).build().unwrap()
}

fn with_timeout(mut hook: Hook, seconds: i64) -> Hook {
    hook.set_timeout(Some(seconds));
    hook
}

/// A directory for hooks to write to, also from inside a user namespace: with nothing private above it.
fn output(stage: &Stage) -> PathBuf {
    stage.open_to_everybody();
    stage.open_directory("out")
}

/// A container with a hook of each kind that tells where and when it ran, and whose root the hooks' output is bound in.
fn told_by_every_hook(stage: &Stage, name: &str, out: &Path) -> ContainerBuilder {
    // Not all of them are the same user.
    std::fs::write(out.join("order"), "").unwrap();
    std::fs::set_permissions(out.join("order"), PermissionsExt::from_mode(0o666)).unwrap();
    let mut builder = stage.container(name).args(["sleep", "1000"]).bind_rw(out, out);
    for kind in ALL {
        let key = kind.key();
        let script = format!(
            "echo {key} >> $OUT/order; cat > $OUT/{key}.state; pwd > $OUT/{key}.cwd; \
             for ns in mnt net ipc uts user pid; do echo $ns $(readlink /proc/self/ns/$ns); done > $OUT/{key}.ns; \
             tr '\\0' '\\n' < /proc/self/environ > $OUT/{key}.env; ls -l /proc/self/fd > $OUT/{key}.fds; \
             echo $0 > $OUT/{key}.argv; ls -d ./etc ./proc > $OUT/{key}.ls 2>&1; true"
        );
        builder = builder.hook(kind, hook(out, &script));
    }
    builder
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn namespaces_of(pid: i32) -> String {
    ["mnt", "net", "ipc", "uts", "user", "pid"]
        .map(|ns| {
            let link = std::fs::read_link(format!("/proc/{pid}/ns/{ns}")).unwrap();
            format!("{ns} {}\n", link.display())
        })
        .concat()
}

fn state_of(out: &Path, kind: HookKind) -> Value {
    serde_json::from_str(&read(out.join(format!("{}.state", kind.key())))).unwrap()
}

#[test]
fn every_kind_runs_once_at_its_time_in_its_namespaces_with_its_state() {
    let stage = stage!();
    let out = output(&stage);
    let builder = told_by_every_hook(&stage, "told", &out).annotation("com.example.key", "value");
    let pid_file = stage.path().join("pid");
    let created = builder.pid_file(&pid_file).build().unwrap().create().unwrap();
    assert_eq!(read(out.join("order")), "prestart\ncreateRuntime\ncreateContainer\n");
    assert_eq!(read(pid_file), created.sandbox_pid().to_string());
    let id = created.id().clone();
    let running = created.start().unwrap();
    let order = "prestart\ncreateRuntime\ncreateContainer\nstartContainer\npoststart\n";
    assert_eq!(read(out.join("order")), order);
    let init = running.init_pid();
    let (outside, inside) = (namespaces_of(std::process::id().cast_signed()), namespaces_of(init));
    assert_ne!(outside, inside);
    let bundle = running.info().bundle;
    let state = AnyContainer::load(stage.root(), id.as_str()).unwrap().oci_state().unwrap();
    running.kill().unwrap().delete().unwrap();
    assert_eq!(read(out.join("order")), format!("{order}poststop\n"));

    let in_container = [HookKind::CreateContainer, HookKind::StartContainer];
    for kind in ALL {
        let file = |what: &str| read(out.join(format!("{}.{what}", kind.key())));
        let expected = if in_container.contains(&kind) { &inside } else { &outside };
        assert_eq!(&file("ns"), expected, "{kind:?}");
        let (status, pid) = match kind {
            HookKind::Prestart | HookKind::CreateRuntime => ("creating", init),
            HookKind::CreateContainer => ("creating", 2),
            HookKind::StartContainer => ("created", 2),
            HookKind::Poststart => ("running", init),
            HookKind::Poststop => ("stopped", 0),
        };
        let said = state_of(&out, kind);
        let mut expected = serde_json::to_value(&state).unwrap();
        expected["status"] = status.into();
        expected["pid"] = pid.into();
        assert_eq!(said, expected, "{kind:?}");
        assert_eq!(said["annotations"]["com.example.key"], "value");
        assert_eq!(said["id"], id.as_str());
        assert_eq!(said["bundle"], bundle.to_str().unwrap());
        // The shell sets PWD for itself, not in what it was given.
        assert_eq!(file("env"), format!("OUT={}\nPATH=/usr/bin:/bin\n", out.display()), "{kind:?}");
        assert_eq!(file("argv"), "hook\n", "argv[0] is args[0]");
        let cwd = match kind {
            HookKind::CreateContainer | HookKind::StartContainer => Path::new("/"),
            _ => bundle.as_path(),
        };
        assert_eq!(file("cwd").trim_end(), cwd.to_str().unwrap(), "{kind:?}");
    }
}

#[test]
fn the_pid_file_is_written_when_the_hooks_of_creation_have_run() {
    let stage = stage!();
    let out = output(&stage);
    let pid_file = stage.path().join("pid");
    let look = hook(&out, &format!("test -e {} && exit 1; echo looked > $OUT/looked", pid_file.display()));
    let builder = stage.container("file").args(["true"]).pid_file(&pid_file);
    let created = builder.hook(HookKind::CreateContainer, look).build().unwrap().create().unwrap();
    assert_eq!(read(out.join("looked")), "looked\n");
    assert_eq!(read(pid_file), created.sandbox_pid().to_string());
}

#[test]
fn the_pid_in_the_state_leads_runtime_hooks_to_the_containers_namespaces() {
    let stage = stage!();
    let out = output(&stage);
    let script = "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); \
                  for ns in cgroup ipc mnt net pid time user uts; do readlink /proc/$pid/ns/$ns; done > $OUT/seen; \
                  grep NSpid /proc/$pid/status > $OUT/pids";
    let builder = stage.container("pid").args(["sleep", "1000"]);
    let created =
        builder.hook(HookKind::CreateRuntime, hook(&out, script)).build().unwrap().create().unwrap();
    let expected = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"].map(|ns| {
        format!(
            "{}\n",
            std::fs::read_link(format!("/proc/{}/ns/{ns}", created.init_pid())).unwrap().display()
        )
    });
    assert_eq!(read(out.join("seen")), expected.concat());
    let pids = read(out.join("pids"));
    assert!(pids.trim_end().ends_with("\t2") && pids.contains(&created.init_pid().to_string()), "{pids}");
}

#[test]
fn what_a_runtime_hook_mounts_into_the_root_shows_in_the_container() {
    let stage = stage!();
    if !is_root() {
        skip!("a hook of another user may not enter the container's mount namespace");
    }
    let out = output(&stage);
    let root = stage.busybox();
    std::fs::create_dir(root.join("mounted")).unwrap();
    std::fs::write(out.join("word"), "from the hook").unwrap();
    let link = stage.path().join("link-to-root");
    std::os::unix::fs::symlink(&root, &link).unwrap();
    for (kind, path) in [(HookKind::Prestart, &root), (HookKind::CreateRuntime, &link)] {
        for user_namespace in [true, false] {
            let script = format!(
                "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); \
                 nsenter -t $pid -m mount --bind $OUT {}/mounted",
                path.display()
            );
            let builder =
                stage.shell("mounts", "cat /mounted/word; grep -c ' /mounted ' /proc/self/mountinfo");
            let builder = builder.rootfs(Rootfs::directory(path)).hook(kind, hook(&out, &script));
            let builder = if user_namespace { builder } else { builder.without_user_namespace() };
            assert_eq!(stdout_of(builder), "from the hook1", "{kind:?} {user_namespace}");
        }
    }
}

#[test]
fn a_failing_hook_of_creation_leaves_nothing_and_runs_poststop() {
    let stage = stage!();
    let out = output(&stage);
    for kind in [HookKind::Prestart, HookKind::CreateRuntime, HookKind::CreateContainer] {
        let builder = stage
            .container("fails")
            .args(["true"])
            .pid_file(stage.path().join("pid"))
            .hook(kind, hook(&out, &format!("echo first {} >> $OUT/ran", kind.key())))
            .hook(kind, hook(&out, "echo no bridge >&2; exit 7"))
            .hook(kind, hook(&out, "echo never >> $OUT/ran"))
            .hook(HookKind::Poststart, hook(&out, "echo never >> $OUT/ran"))
            .hook(HookKind::Poststop, hook(&out, "echo poststop >> $OUT/ran"));
        let failed = builder.build().unwrap().create().unwrap_err();
        let path = format!("hooks.{}[1]", kind.key());
        assert_eq!(*failed.error().kind(), ErrorKind::HookFailed { path: path.clone() });
        assert_eq!(failed.to_string(), format!("{path}: \"/bin/sh\" exited with code 7: no bridge"));
        assert_eq!(read(out.join("ran")), format!("first {}\npoststop\n", kind.key()));
        std::fs::remove_file(out.join("ran")).unwrap();
        let (_, Recovered::Unchanged(creating)) = failed.into_parts() else { panic!("comes back") };
        assert_eq!(creating.status(), Status::Creating);
        assert!(!stage.path().join("pid").exists(), "no pid file of what is not there");
        assert!(stage.changes().is_empty(), "{:?}", stage.changes());
    }
}

#[test]
fn a_creation_that_fails_before_any_hook_runs_none() {
    let stage = stage!();
    let out = output(&stage);
    let builder = ALL.iter().fold(stage.container("none").args(["true"]), |builder, kind| {
        builder.hook(*kind, hook(&out, "echo ran >> $OUT/ran"))
    });
    let missing = stage.path().join("missing");
    let failed = builder.bind_rw(&missing, "/mnt").build().unwrap().create().unwrap_err();
    assert!(!matches!(failed.error().kind(), ErrorKind::HookFailed { .. }), "{failed}");
    assert!(!out.join("ran").exists());
}

#[test]
fn a_failing_start_container_hook_ends_the_container() {
    let stage = stage!();
    let out = output(&stage);
    let builder = stage
        .container("start")
        .args(["sh", "-c", "echo ran > $OUT/program"])
        .hook(HookKind::StartContainer, hook(&out, "echo not today >&2; kill -TERM $$"))
        .hook(HookKind::Poststop, hook(&out, "echo poststop >> $OUT/ran"));
    let failed = builder.build().unwrap().create().unwrap().start().unwrap_err();
    let said = "hooks.startContainer[0]: \"/bin/sh\" died of SIGTERM: not today";
    assert_eq!(failed.to_string(), said);
    let (_, Recovered::Moved(AnyContainer::Stopped(stopped))) = failed.into_parts() else {
        panic!("stopped")
    };
    assert_eq!(stopped.exit().outcome, Outcome::NeverStarted);
    assert!(!out.join("ran").exists());
    stopped.delete().unwrap();
    assert_eq!(read(out.join("ran")), "poststop\n");
}

#[test]
fn a_failing_poststart_hook_is_a_warning_before_1_3_and_an_error_since() {
    let stage = stage!();
    let out = output(&stage);
    let builder = || {
        stage
            .container("post")
            .args(["sleep", "1000"])
            .hook(HookKind::Poststart, hook(&out, "exit 1"))
            .hook(HookKind::Poststart, hook(&out, "echo second >> $OUT/ran"))
    };
    let running = builder().build().unwrap().create().unwrap().start().unwrap();
    assert!(running.try_wait().unwrap().is_none());
    assert_eq!(read(out.join("ran")), "second\n");
    running.kill().unwrap().delete().unwrap();

    let bundle = stage.write_bundle("bundle", builder(), |spec| {
        assert_eq!(spec["hooks"]["poststart"].as_array().unwrap().len(), 2, "a bundle keeps its hooks");
        spec["ociVersion"] = "1.3.0".into();
    });
    let created = stage.bundled("newer", &bundle).unwrap().build().unwrap().create().unwrap();
    let failed = created.start().unwrap_err();
    assert_eq!(failed.to_string(), "hooks.poststart[0]: \"/bin/sh\" exited with code 1");
    let (_, Recovered::Moved(AnyContainer::Stopped(_))) = failed.into_parts() else { panic!("stopped") };
    assert_eq!(read(out.join("ran")), "second\n", "nothing ran after the failure");
}

#[test]
fn failing_poststop_hooks_keep_nothing_from_being_deleted() {
    let stage = stage!();
    let out = output(&stage);
    let missing = HookBuilder::default().path(stage.path().join("no-such-hook")).build().unwrap();
    let builder = stage
        .container("stop")
        .args(["true"])
        .hook(HookKind::Poststop, missing)
        .hook(HookKind::Poststop, with_timeout(hook(&out, "exec sleep 1000"), 1))
        .hook(HookKind::Poststop, hook(&out, "echo last >> $OUT/ran"));
    builder.run().unwrap();
    assert_eq!(read(out.join("ran")), "last\n");
}

#[test]
fn a_hook_that_cannot_be_executed_is_named_with_the_reason() {
    let stage = stage!();
    let path = stage.path().join("no-such-hook");
    let missing = HookBuilder::default().path(path.clone()).build().unwrap();
    for kind in [HookKind::Prestart, HookKind::CreateContainer] {
        let builder = stage.container("missing").args(["true"]).hook(kind, missing.clone());
        let failed = builder.build().unwrap().create().unwrap_err();
        let reason = format!("execve({path:?}): ENOENT: No such file or directory");
        let expected = format!("hooks.{}[0]: {path:?} could not be run: {reason}", kind.key());
        assert_eq!(failed.to_string(), expected);
    }
}

#[test]
fn a_hook_that_takes_too_long_is_killed_with_what_it_forked() {
    let stage = stage!();
    let out = output(&stage);
    for kind in [HookKind::CreateRuntime, HookKind::CreateContainer] {
        let script = "sleep 1000 & echo waiting >&2; wait";
        let hook = with_timeout(hook(&out, script), 1);
        let began = Instant::now();
        let failed = stage.container("slow").args(["true"]).hook(kind, hook).build().unwrap().create();
        let expected =
            format!("hooks.{}[0]: \"/bin/sh\" did not end within 1s and was killed: waiting", kind.key());
        assert_eq!(failed.unwrap_err().to_string(), expected);
        assert!(began.elapsed() < Duration::from_secs(20));
        // The witness sees to it that the sleep is gone as well.
        assert!(stage.changes().is_empty(), "{:?}", stage.changes());
    }
}

#[test]
fn a_hook_that_floods_standard_error_is_neither_stuck_nor_kept_whole() {
    let stage = stage!();
    let out = output(&stage);
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i 0123456789012345678901234567890 >&2; i=$((i+1)); done; \
                  echo the end >&2; exit 3";
    let builder = stage.container("flood").args(["true"]).hook(HookKind::Prestart, hook(&out, script));
    let said = builder.build().unwrap().create().unwrap_err().to_string();
    assert!(said.ends_with("the end") && said.len() < 4096, "{said}");
}

#[test]
fn a_hook_may_leave_a_child_that_holds_its_pipes() {
    let stage = stage!();
    let out = output(&stage);
    let script = "sleep 1000 & echo $! > $OUT/child";
    let builder = stage.container("child").args(["true"]).hook(HookKind::CreateRuntime, hook(&out, script));
    let began = Instant::now();
    let created = builder.build().unwrap().create().unwrap();
    assert!(began.elapsed() < Duration::from_secs(60), "the runtime does not wait for the child");
    let child: i32 = read(out.join("child")).trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(child).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    drop(created);
    crate::kit::await_end(child);
}

#[test]
fn a_hook_need_not_read_its_state_however_long_that_is() {
    let stage = stage!();
    let out = output(&stage);
    let long = "x".repeat(1 << 20);
    let builder = stage.container("long").args(["true"]).annotation("long", &long);
    let builder = builder
        .hook(HookKind::Prestart, hook(&out, "exec true"))
        .hook(HookKind::CreateContainer, hook(&out, "cat > $OUT/state"));
    builder.run().unwrap();
    assert!(read(out.join("state")).contains(&long));
}

#[test]
fn hooks_get_none_of_the_callers_descriptors() {
    let stage = stage!();
    let out = output(&stage);
    // Not close-on-exec, as of a caller that was careless.
    let leaked = rustix::io::dup(std::fs::File::open("/etc/passwd").unwrap()).unwrap();
    let script = "ls /proc/self/fd | tr '\\n' ' ' > $OUT/fds";
    let mut builder = stage.container("fds").args(["true"]);
    for kind in [HookKind::CreateRuntime, HookKind::CreateContainer] {
        builder = builder.hook(kind, hook(&out, &format!("{script}.{}", kind.key())));
    }
    builder.run().unwrap();
    drop(leaked);
    for kind in ["createRuntime", "createContainer"] {
        // The listing's own is the last one.
        assert_eq!(read(out.join(format!("fds.{kind}"))), "0 1 2 3 ");
    }
}

#[test]
fn racing_deletes_run_poststop_once() {
    let stage = stage!();
    let out = output(&stage);
    for round in 0..5 {
        let builder = stage.container("race").args(["sleep", "1000"]);
        let builder = builder.hook(HookKind::Poststop, hook(&out, "echo x >> $OUT/ran"));
        let mut running = builder.build().unwrap().create().unwrap().start().unwrap();
        running.detach().unwrap();
        let id = running.id().to_string();
        drop(running);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| AnyContainer::delete_by_name(stage.root(), &id).unwrap());
            }
        });
        // Each delete returns after the hooks have ended, also those that did not run them.
        assert_eq!(read(out.join("ran")).lines().count(), round + 1);
    }
}

#[test]
fn a_dropped_container_runs_its_poststop_hooks() {
    let stage = stage!();
    let out = output(&stage);
    let builder = stage.container("drop").args(["true"]);
    let builder = builder.hook(HookKind::Poststop, hook(&out, "echo x >> $OUT/ran"));
    drop(builder.build().unwrap().create().unwrap());
    assert_eq!(read(out.join("ran")), "x\n");
}

#[test]
fn a_start_container_hook_is_looked_for_in_the_container() {
    let stage = stage!();
    let out = output(&stage);
    let script = stage.path().join("on-the-host");
    write_script(&script, "#!/bin/sh\nexit 0\n");
    let hook_of = |path: &Path| HookBuilder::default().path(path).build().unwrap();
    let created = stage
        .busybox_shell("path", "exit 0")
        .hook(HookKind::CreateContainer, hook_of(&script))
        .hook(HookKind::StartContainer, hook_of(&script))
        .build()
        .unwrap()
        .create()
        .unwrap();
    let failed = created.start().unwrap_err();
    assert_eq!(*failed.error().kind(), ErrorKind::HookFailed { path: "hooks.startContainer[0]".into() });
    assert!(failed.to_string().contains("no such file or directory"), "{failed}");
    drop(failed);
    let _ = out;
}

#[test]
fn hooks_of_creation_end_with_the_caller() {
    let creating = |directory: &Path| {
        let builder = ContainerBuilder::new().id(format!("it-{}-gone", std::process::id()));
        builder.state_root(caller::root(directory)).args(["true"])
    };
    if let Some(directory) = caller::role() {
        let out = directory.join("out");
        let hook = hook(&out, "echo $$ > $OUT/pid.new; mv $OUT/pid.new $OUT/pid; exec sleep 1000");
        let _ = creating(&directory).hook(HookKind::Prestart, hook).build().unwrap().create();
        return;
    }
    let stage = stage!();
    let out = output(&stage);
    let caller = Caller::spawn(stage.path());
    let pid = await_file(&out.join("pid")).trim().parse().unwrap();
    caller.kill();
    crate::kit::await_end(pid);
    // Its record is left, as of every creation that was not finished.
    for left in AnyContainer::list(stage.root()).unwrap() {
        let cofferdam::info::Listed::Container(left) = left else { panic!("{left:?}") };
        left.delete(true).unwrap();
    }
}

/// Waits for a file that another process writes, and returns its text.
fn await_file(path: &Path) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !path.exists() {
        assert!(Instant::now() < deadline, "{} was not written", path.display());
        std::thread::yield_now();
    }
    read(path.to_owned())
}

#[test]
#[expect(
    unsafe_code,
    reason = "there is no safe way to change a signal's disposition; ignoring runs no code"
)]
fn a_caller_that_takes_every_exit_status_away_learns_how_its_hooks_ended() {
    if let Some(directory) = caller::role() {
        use nix::sys::signal::{SigHandler, Signal, signal};
        // SAFETY: SIG_IGN installs no handler, so nothing can run at a bad moment; this process has made no child yet.
        unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.expect("a disposition");
        let builder = |name: &str, script: &str| {
            let builder = ContainerBuilder::new().id(format!("it-{}-{name}", std::process::id()));
            let builder = builder.state_root(caller::root(&directory)).args(["true"]);
            builder.hook(HookKind::CreateRuntime, hook(&directory, script))
        };
        builder("good", "sh -c 'exit 5'; test $? = 5").run().unwrap();
        let failed = builder("bad", "exit 9").build().unwrap().create().unwrap_err();
        assert_eq!(failed.to_string(), "hooks.createRuntime[0]: \"/bin/sh\" exited with code 9");
        return;
    }
    let stage = stage!();
    Caller::spawn(stage.path()).finish();
}

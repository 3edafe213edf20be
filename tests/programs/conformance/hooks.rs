//! Hooks: when they are called, in what order, with what, and what their failure means.

use crate::conformance::bench::{Bench, needs_root};
use crate::conformance::case::{Verdict, table};
use crate::kit::is_root;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

table! {
    hooks_are_called_in_the_order_they_are_listed => "hooks":
        "Hooks MUST be called in the listed order";
    hooks_are_given_the_state => "hooks_stdin":
        "The state of the container MUST be passed to hooks over stdin so that they may do work appropriate to the \
         current state of the container";
    hooks_are_given_the_status_of_their_time => "hooks_stdin":
        "status is the runtime state of the container: creating, created, running or stopped";
    what_a_hook_mounts_below_the_root_shows_in_the_container => "hooks":
        "prestart and createRuntime hooks are called after the runtime environment has been created, before the \
         pivot_root operation";
    prestart_hooks_are_called_before_the_program => "prestart":
        "The prestart hooks MUST be called as part of the create operation after the runtime environment has been \
         created";
    a_prestart_hook_that_fails_is_an_error_and_the_end => "prestart_fail":
        "If any prestart hook fails, the runtime MUST generate an error, stop the container, and continue the \
         lifecycle at step 12";
    create_container_hooks_change_a_root_that_will_be_read_only => "hooks":
        "createContainer hooks are called after the environment has been created, before the pivot_root operation";
    start_container_hooks_are_called_before_the_program_as_what_it_will_be => "hooks":
        "The startContainer hooks MUST be called before the user-specified process is executed as part of the start \
         operation";
    poststart_hooks_are_called_after_the_program_was_started => "poststart":
        "The poststart hooks MUST be called after the user-specified process is executed but before the start \
         operation returns";
    a_poststart_hook_that_fails_changes_nothing => "poststart_fail":
        "If any poststart hook fails, the runtime MUST log a warning, but the remaining hooks and lifecycle continue \
         as if the hook had succeeded";
    poststop_hooks_are_called_when_the_container_is_deleted => "poststop":
        "The poststop hooks MUST be called after the container is deleted but before the delete operation returns";
    a_poststop_hook_that_fails_changes_nothing => "poststop_fail":
        "If any poststop hook fails, the runtime MUST log a warning, but the remaining hooks and lifecycle continue as \
         if the hook had succeeded";
}

/// A hook that runs `script` in the bundle.
fn hook(bench: &Bench<'_>, script: &str) -> Value {
    // The state is read first: a hook that ends without has crun killed by SIGPIPE.
    let script = format!("cd {} && cat >state && exec <state && {script}", bench.bundle().display());
    json!({ "path": bench.rootfs().join("bin/sh"), "args": ["sh", "-c", script], "timeout": 3 })
}

/// A hook that writes a word.
fn note(bench: &Bench<'_>, word: &str) -> Value {
    hook(bench, &format!("echo {word} >>log"))
}

/// What the hooks wrote by now.
fn log(bench: &Bench<'_>) -> String {
    std::fs::read_to_string(bench.bundle().join("log")).unwrap_or_default().replace('\n', " ")
}

fn hooks_are_called_in_the_order_they_are_listed(bench: &Bench<'_>) -> Verdict {
    bench.configure("true", |config| {
        for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
            config["hooks"][kind] =
                json!([note(bench, &format!("{kind}1")), note(bench, &format!("{kind}2"))]);
        }
    });
    let container = bench.create("order");
    container.start();
    container.await_end();
    container.delete();
    let expected =
        "prestart1 prestart2 createRuntime1 createRuntime2 poststart1 poststart2 poststop1 poststop2 ";
    assert_eq!(log(bench), expected);
    Ok(())
}

fn create_container_hooks_change_a_root_that_will_be_read_only(bench: &Bench<'_>) -> Verdict {
    let bin = bench.rootfs().join("bin/sh");
    let seen = bench.output("cat /made; touch /late 2>&1", |config| {
        config["root"]["readonly"] = json!(true);
        let script = format!("echo by the hook >{}/made", bench.rootfs().display());
        config["hooks"]["createContainer"] = json!([{ "path": bin, "args": ["sh", "-c", script] }]);
    });
    assert_eq!(seen, "by the hook\ntouch: /late: Read-only file system\n");
    Ok(())
}

/// The kinds of hooks that the runtime's own namespaces see, and the status at their time.
const KINDS: [(&str, &str); 5] = [
    ("prestart", "creating"),
    ("createRuntime", "creating"),
    ("createContainer", "creating"),
    ("poststart", "running"),
    ("poststop", "stopped"),
];

/// What each kind of hook got on standard input, and the pid in the state.
fn given(bench: &Bench<'_>) -> (Vec<Value>, i32) {
    bench.configure("exec sleep 1000", |config| {
        config["annotations"] = json!({ "org.example.key": "hook stdin test" });
        for (kind, _) in KINDS {
            config["hooks"][kind] = json!([hook(bench, &format!("cat >{kind}"))]);
        }
    });
    let container = bench.create("stdin");
    let pid = container.pid;
    container.start();
    container.end();
    let state =
        |kind| serde_json::from_str(&bench.read(kind)).unwrap_or_else(|error| panic!("{kind}: {error}"));
    (KINDS.map(|(kind, _)| state(kind)).to_vec(), pid)
}

fn hooks_are_given_the_state(bench: &Bench<'_>) -> Verdict {
    let (states, pid) = given(bench);
    for ((kind, _), state) in KINDS.into_iter().zip(states) {
        assert!(
            state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")),
            "{kind}: {state}"
        );
        assert_eq!(state["id"], bench.id("stdin"), "{kind}");
        assert_eq!(state["bundle"], bench.bundle().to_str().unwrap(), "{kind}");
        assert_eq!(state["annotations"], json!({ "org.example.key": "hook stdin test" }), "{kind}");
        // "REQUIRED when status is created or running on Linux"; and createContainer sees other namespaces.
        if !["createContainer", "poststop"].contains(&kind) {
            assert_eq!(state["pid"], pid, "{kind}");
        }
    }
    Ok(())
}

fn hooks_are_given_the_status_of_their_time(bench: &Bench<'_>) -> Verdict {
    for ((kind, status), state) in KINDS.into_iter().zip(given(bench).0) {
        assert_eq!(state["status"], status, "{kind}");
    }
    Ok(())
}

fn what_a_hook_mounts_below_the_root_shows_in_the_container(bench: &Bench<'_>) -> Verdict {
    needs_root("another user's hook may not enter the container's mount namespace")?;
    let [from, rootfs] = [bench.directory("from"), bench.rootfs()];
    std::fs::write(from.join("word"), "mounted").unwrap();
    let mount = |place: &str| {
        std::fs::create_dir(rootfs.join(place)).unwrap();
        let script = format!(
            "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); nsenter -t $pid -m mount --bind {} {}",
            from.display(),
            rootfs.join(place).display()
        );
        let env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": env, "timeout": 10 }])
    };
    bench.configure("cat /one/word /two/word", |config| {
        config["hooks"]["prestart"] = mount("one");
        config["hooks"]["createRuntime"] = mount("two");
    });
    bench.change_host(|host| host["mounts"] = json!(["/one", "/two"]));
    assert_eq!(bench.output_as_configured(), "mountedmounted");
    Ok(())
}

fn prestart_hooks_are_called_before_the_program(bench: &Bench<'_>) -> Verdict {
    bench.configure("echo program >>/output", |config| {
        config["hooks"]["prestart"] = json!([hook(bench, "echo prestart >>log; test ! -e rootfs/output")]);
    });
    let container = bench.create("prestart");
    assert_eq!(log(bench), "prestart ");
    container.start();
    container.await_end();
    assert_eq!(bench.read("rootfs/output"), "program\n");
    assert_eq!(log(bench), "prestart ", "once");
    container.delete();
    Ok(())
}

fn a_prestart_hook_that_fails_is_an_error_and_the_end(bench: &Bench<'_>) -> Verdict {
    bench.refuses_to_create(|config| {
        config["process"]["args"] = json!(["touch", "/output"]);
        config["hooks"]["prestart"] = json!([hook(bench, "exit 1")]);
        config["hooks"]["poststop"] = json!([note(bench, "poststop")]);
    });
    assert!(!bench.rootfs().join("output").exists());
    assert_eq!(log(bench), "poststop ", "step 12");
    Ok(())
}

/// The identity and the privileges of a process.
const STATUS: &str = "grep -E '^(Uid|Gid|Groups|Cap[A-Z]|NoNewPrivs|Seccomp)' /proc/self/status";

fn start_container_hooks_are_called_before_the_program_as_what_it_will_be(bench: &Bench<'_>) -> Verdict {
    bench.configure(&format!("{STATUS} >>/tmp/seen"), |config| {
        if is_root() {
            config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        }
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/tmp", "type": "bind", "source": bench.directory("seen"), "options": ["bind", "rw"],
        }));
        let script = format!("{STATUS} >/tmp/seen; echo after >>/tmp/seen");
        config["hooks"]["startContainer"] = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
    });
    let container = bench.create("start-hook");
    container.start();
    container.await_end();
    let seen = bench.read("../seen/seen");
    let (hook, program) = seen.split_once("after\n").expect("the hook is first");
    assert_eq!(hook, program);
    container.delete();
    Ok(())
}

fn poststart_hooks_are_called_after_the_program_was_started(bench: &Bench<'_>) -> Verdict {
    let begun = bench.rootfs().join("begun");
    mknodat(CWD, &begun, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    // The hook hears the program: it would wait for ever if that were executed only after it.
    bench.configure("echo program >/begun; exec sleep 1000", |config| {
        config["hooks"]["poststart"] =
            json!([hook(bench, "read word <rootfs/begun && echo $word poststart >>log")]);
    });
    let container = bench.create("poststart");
    assert_eq!(log(bench), "");
    container.start();
    assert_eq!(log(bench), "program poststart ");
    container.end();
    Ok(())
}

fn a_poststart_hook_that_fails_changes_nothing(bench: &Bench<'_>) -> Verdict {
    bench.configure("exec sleep 1000", |config| {
        config["hooks"]["poststart"] = json!([hook(bench, "exit 1"), note(bench, "poststart")]);
    });
    let container = bench.create("poststart");
    container.start();
    assert_eq!(log(bench), "poststart ");
    assert_eq!(container.status(), "running");
    container.end();
    Ok(())
}

fn poststop_hooks_are_called_when_the_container_is_deleted(bench: &Bench<'_>) -> Verdict {
    bench.configure("true", |config| config["hooks"]["poststop"] = json!([note(bench, "poststop")]));
    let container = bench.create("poststop");
    container.start();
    container.await_end();
    assert_eq!(log(bench), "");
    container.delete();
    assert_eq!(log(bench), "poststop ");
    Ok(())
}

fn a_poststop_hook_that_fails_changes_nothing(bench: &Bench<'_>) -> Verdict {
    bench.configure("true", |config| {
        config["hooks"]["poststop"] = json!([hook(bench, "exit 1"), note(bench, "poststop")]);
    });
    let container = bench.create("poststop");
    container.start();
    container.await_end();
    let id = container.id.clone();
    container.delete();
    assert_eq!(log(bench), "poststop ");
    bench.refuses(&["state", &id]);
    Ok(())
}

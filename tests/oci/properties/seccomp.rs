//! `linux.seccomp`: what a filter does, and the agent it asks.

use crate::kit::{Stage, is_root, stage, stdout_of};
use crate::properties::{builder, bundle, end, exec, refusal, seen, sleeping};
use cofferdam::{ContainerBuilder, Exec, Outcome};
use serde_json::{Value, json};
use std::path::PathBuf;

/// The system call that libc's mkdir(3) makes: aarch64 has only `mkdirat`.
#[cfg(target_arch = "x86_64")]
const SYS_MKDIR: i64 = libc::SYS_mkdir;
#[cfg(not(target_arch = "x86_64"))]
const SYS_MKDIR: i64 = libc::SYS_mkdirat;

/// An agent at a socket: takes one listener, and answers its notifications until the container has ended.
struct Agent {
    socket: PathBuf,
    thread: std::thread::JoinHandle<(Value, Vec<i32>)>,
}

impl Agent {
    /// Answers `count` notifications: of the call `refused` with an errno, of all others by letting them go on.
    fn new(stage: &Stage, refused: i64) -> Self {
        let socket = stage.path().join("agent.sock");
        let _ = std::fs::remove_file(&socket);
        let server = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let thread = std::thread::spawn(move || {
            let (stream, _) = server.accept().unwrap();
            let (state, listener) = receive_state(&stream);
            (state, answer_all(&listener, refused))
        });
        Self { socket, thread }
    }

    /// The state that it got, and the calls that it was asked about. Waits for the end of the container.
    fn end(self) -> (Value, Vec<i32>) {
        self.thread.join().unwrap()
    }
}

fn receive_state(stream: &std::os::unix::net::UnixStream) -> (Value, std::os::fd::OwnedFd) {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut bytes = vec![0; 64 << 10];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
    let received = recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut fds: Vec<_> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds.collect::<Vec<_>>()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(fds.len(), 1);
    let state = serde_json::from_slice(&bytes[..received.bytes]).unwrap();
    let mut rest = [0];
    assert_eq!(std::io::Read::read(&mut &*stream, &mut rest).unwrap(), 0, "one state, then the end");
    (state, fds.remove(0))
}

/// seccomp_unotify(2): the calls that were notified, in order.
#[expect(unsafe_code, reason = "no crate here has the ioctls of seccomp_unotify(2)")]
fn answer_all(listener: &std::os::fd::OwnedFd, refused: i64) -> Vec<i32> {
    use std::os::fd::AsRawFd;
    const RECV: u64 = 0xc050_2100;
    const SEND: u64 = 0xc018_2101;
    const CONTINUE: u32 = 1;
    let mut calls = Vec::new();
    loop {
        // The kernel hangs up the listener when no process with the filter is left.
        use rustix::event::{PollFd, PollFlags, poll};
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        poll(&mut fds, None).unwrap();
        if !fds[0].revents().contains(PollFlags::IN) {
            return calls;
        }
        // struct seccomp_notif: id, pid, flags, then seccomp_data with the number first.
        let mut notification = [0_u64; 10];
        // SAFETY: the buffer has the size that the request's number names.
        if unsafe { libc::ioctl(listener.as_raw_fd(), RECV, notification.as_mut_ptr()) } < 0 {
            continue;
        }
        let number = notification[2] as i32;
        calls.push(number);
        // struct seccomp_notif_resp: id, val, error, flags.
        let answer = if i64::from(number) == refused {
            [notification[0], 0, (-libc::EMLINK) as u32 as u64]
        } else {
            [notification[0], 0, u64::from(CONTINUE) << 32]
        };
        // SAFETY: as above.
        unsafe { libc::ioctl(listener.as_raw_fd(), SEND, answer.as_ptr()) };
    }
}

#[test]
fn an_agent_decides_about_the_calls_its_filter_notifies() {
    let stage = stage!();
    // The very calls that hand the listener over, and the one that ends the wait for it.
    let names = ["mkdir", "mkdirat", "sendmsg", "read", "write", "close", "execve", "prctl", "capset"];
    for no_new_privileges in [true, false] {
        let agent = Agent::new(&stage, SYS_MKDIR);
        let socket = agent.socket.clone();
        let script = "mkdir /tmp/refused 2>&1; echo done";
        let bundle = bundle(&stage, script, |config| {
            config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "listenerPath": socket,
                "listenerMetadata": "for the agent",
                "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}],
            });
        });
        let id = stage.id("notified");
        let builder =
            ContainerBuilder::from_bundle(&bundle).unwrap().id(&id).state_root(stage.root().clone());
        let seen = stdout_of(builder);
        assert!(seen.contains("Too many links") && seen.ends_with("done"), "{seen}");
        assert!(!stage.busybox().join("tmp/refused").exists());
        let (state, calls) = agent.end();
        assert_eq!(state["ociVersion"], "1.2.0");
        assert_eq!(state["fds"], json!(["seccompFd"]));
        assert_eq!(state["metadata"], "for the agent");
        assert_eq!((&state["state"]["id"], &state["state"]["status"]), (&json!(id), &json!("creating")));
        assert!(state["pid"].as_i64().unwrap() > 1 && state["state"]["pid"].as_i64().unwrap() > 1, "{state}");
        assert!(calls.contains(&(libc::SYS_execve as i32)), "{calls:?}");
    }
}

#[test]
fn the_agent_has_the_listener_before_create_returns() {
    let stage = stage!();
    let socket = stage.path().join("early.sock");
    let server = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    server.set_nonblocking(true).unwrap();
    let bundle = bundle(&stage, "mkdir /tmp/refused 2>&1; echo done", |config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": socket,
            "syscalls": [{"names": ["mkdir", "mkdirat", "execve", "read"], "action": "SCMP_ACT_NOTIFY"}],
        });
    });
    let builder = stage.bundled("early", &bundle).unwrap().stdout(cofferdam::Stdio::piped());
    let mut created = builder.build().unwrap().create().unwrap();
    let (stream, _) = server.accept().expect("the runtime has connected");
    let (state, listener) = receive_state(&stream);
    assert_eq!(state["pid"], created.init_pid());
    assert_eq!((&state["state"]["status"], &state["state"]["pid"]), (&json!("creating"), &state["pid"]));
    let agent = std::thread::spawn(move || answer_all(&listener, SYS_MKDIR));
    let mut stdout = created.take_stdout().unwrap();
    let running = created.start().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut said).unwrap();
    assert!(said.contains("Too many links") && said.ends_with("done\n"), "{said}");
    running.wait_stopped().unwrap().delete().unwrap();
    assert!(agent.join().unwrap().contains(&(libc::SYS_execve as i32)));
    // Without an agent there is no container.
    std::fs::remove_file(&socket).unwrap();
    let failed = stage.bundled("early", &bundle).unwrap().build().unwrap().create().unwrap_err();
    assert_eq!(failed.error().step(), "linux.seccomp.listenerPath", "{failed}");
}

#[test]
fn with_hooks_of_the_image_the_agent_has_a_listener_of_each_at_start() {
    let stage = stage!();
    let socket = stage.path().join("hooks.sock");
    let server = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let bundle = bundle(&stage, "echo done", |config| {
        config["hooks"]["startContainer"] = json!([{"path": "/bin/true", "args": ["true"]}]);
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": socket,
            "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_NOTIFY"}],
        });
    });
    let agent = std::thread::spawn(move || {
        let mut answerers = Vec::new();
        for _ in 0..2 {
            let (stream, _) = server.accept().unwrap();
            let (state, listener) = receive_state(&stream);
            assert_eq!(state["state"]["status"], "created");
            answerers.push(std::thread::spawn(move || answer_all(&listener, -1)));
        }
        answerers.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(stdout_of(stage.bundled("hooks", &bundle).unwrap()), "done");
    assert_eq!(agent.join().unwrap(), [[libc::SYS_execve as i32], [libc::SYS_execve as i32]]);
}

#[test]
fn an_executed_process_has_a_listener_of_its_own() {
    let stage = stage!();
    let agent = Agent::new(&stage, -1);
    let socket = agent.socket.clone();
    let container = sleeping(&stage, |config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": socket,
            "syscalls": [{"names": ["mkdir", "mkdirat", "execve"], "action": "SCMP_ACT_NOTIFY"}],
        });
    });
    let second = Agent::new(&stage, SYS_MKDIR);
    let said = exec(&container, "mkdir /tmp/refused 2>&1; true");
    assert!(said.contains("Too many links"), "{said}");
    let (state, _) = second.end();
    assert_eq!(state["state"]["status"], "running");
    // No agent listens: the process is not executed, and the container goes on.
    std::fs::remove_file(stage.path().join("agent.sock")).unwrap();
    let error = container.exec(Exec::new(["true"])).unwrap_err();
    assert_eq!(error.step(), "linux.seccomp.listenerPath", "{error}");
    end(container);
    agent.end();
    let error = refusal(&stage, |config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": stage.path().join("nobody.sock"),
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
        });
    });
    assert_eq!(error.step(), "linux.seccomp.listenerPath", "{error}");
}

/// What a static program needs to run, and none of the calls by which a process becomes the workload.
const OF_A_STATIC_PROGRAM: [&str; 24] = [
    "getgid",
    "setgid",
    "setuid",
    "execve",
    "arch_prctl",
    "brk",
    "clock_nanosleep",
    "exit_group",
    "futex",
    "getrandom",
    "getuid",
    "mprotect",
    "nanosleep",
    "newfstatat",
    "fstat",
    "prlimit64",
    "readlink",
    "readlinkat",
    "rseq",
    "set_robust_list",
    "set_tid_address",
    "write",
    "ioctl",
    "uname",
];

#[test]
fn no_call_but_execve_follows_the_filter() {
    let stage = stage!();
    stage.open_to_everybody();
    // The process dies of any other call.
    let profile = json!({
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "syscalls": [
            {"names": OF_A_STATIC_PROGRAM, "action": "SCMP_ACT_ALLOW"},
            {"names": ["prctl"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": libc::PR_GET_NAME, "op": "SCMP_CMP_EQ"}]},
        ],
    });
    for (uid, no_new_privileges) in [(0, true), (0, false), (1000, true), (1000, false)] {
        if uid != 0 && !is_root() {
            continue;
        }
        let configured = |args: Value| {
            bundle(&stage, "", |config| {
                config["process"]["args"] = args;
                config["process"]["user"] = json!({"uid": uid, "gid": uid});
                config["process"]["noNewPrivileges"] = json!(no_new_privileges);
                config["linux"]["seccomp"] = profile.clone();
                config["hooks"]["startContainer"] = json!([{"path": "/bin/echo", "args": ["echo", "hook"]}]);
            })
        };
        let bundle = configured(json!(["echo", "ran"]));
        let said = stdout_of(stage.bundled("init", &bundle).unwrap());
        assert_eq!(said, "ran", "{uid} {no_new_privileges}");
        let bundle = configured(json!(["sleep", "1000"]));
        let running = crate::kit::start(stage.bundled("exec", &bundle).unwrap());
        let output = running.exec_output(Exec::new(["echo", "executed"])).unwrap();
        assert_eq!(output.stdout, b"executed\n", "{uid} {no_new_privileges}");
        end(running);
    }
}

#[test]
fn what_a_process_keeps_to_load_its_filter_is_gone_when_the_program_runs() {
    let stage = stage!();
    stage.open_to_everybody();
    let caps = json!(["CAP_CHOWN"]);
    for uid in [0, 1000] {
        if uid != 0 && !is_root() {
            continue;
        }
        let seen = seen(&stage, "grep Cap /proc/self/status", |config| {
            config["process"]["user"] = json!({"uid": uid, "gid": uid});
            config["process"]["noNewPrivileges"] = json!(false);
            config["process"]["capabilities"] =
                json!({"bounding": caps, "effective": caps, "permitted": caps});
            config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        });
        let set = |name: &str| crate::kit::line_of(&seen, name);
        let held = format!("{:016x}", u8::from(uid == 0));
        assert_eq!((set("CapPrm"), set("CapEff")), (held.clone(), held), "{uid}");
        assert_eq!(set("CapBnd"), "0000000000000001");
    }
}

/// How a container whose shell makes a directory ends, under this rule for it.
fn outcome_of_mkdir(stage: &Stage, rule: Value) -> (Outcome, String) {
    let output = builder(stage, "mkdir /tmp/x 2>&1; echo went on $?", |config| {
        let mut rule = rule;
        rule["names"] = json!(["mkdir", "mkdirat"]);
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
            "syscalls": [rule],
        });
    });
    let output = output.output().unwrap();
    let _ = std::fs::remove_dir(stage.busybox().join("tmp/x"));
    (output.exit.outcome, String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

#[test]
fn every_action_of_a_filter_does_what_it_is_called() {
    let stage = stage!();
    let said = |rule: Value| outcome_of_mkdir(&stage, rule).1;
    assert_eq!(said(json!({"action": "SCMP_ACT_ALLOW"})), "went on 0");
    assert_eq!(said(json!({"action": "SCMP_ACT_LOG"})), "went on 0");
    let errno = said(json!({"action": "SCMP_ACT_ERRNO", "errnoRet": libc::EXDEV}));
    assert!(errno.contains("link") && errno.ends_with("went on 1"), "{errno}");
    let default = said(json!({"action": "SCMP_ACT_ERRNO"}));
    assert!(default.contains("not permitted"), "{default}");
    // Without a tracer there is no such call (seccomp(2)).
    let traced = said(json!({"action": "SCMP_ACT_TRACE", "errnoRet": 5}));
    assert!(traced.contains("not implemented"), "{traced}");
    // The shell's child dies of SIGSYS, and the shell says so.
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let killed = said(json!({"action": action}));
        assert!(killed.ends_with("went on 159"), "{action}: {killed}");
    }
    let arg = |mode: u32| {
        said(json!({"action": "SCMP_ACT_ERRNO", "errnoRet": libc::EXDEV,
            "args": [{"index": 1, "value": mode, "op": "SCMP_CMP_EQ"}]}))
    };
    assert!(arg(0o777).ends_with("went on 1"));
    assert_eq!(arg(0o123), "went on 0");
}

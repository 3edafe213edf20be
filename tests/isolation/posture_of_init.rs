//! The reaper as PID 1 of a container: what the host sees of it, and what a container sees that may look into it.

use crate::kit::witness::descriptors;
use crate::kit::{is_root, skip, stage, start, status_line, stdout_of};
use cofferdam::oci_spec::runtime::Capability;
use cofferdam::{Container, Rootfs, Running};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The host's pid of PID 1 in this container, which is the newest one of its pod.
fn reaper_of(container: &Container<Running>) -> String {
    let sandbox = container.sandbox_pid();
    let children = std::fs::read_to_string(format!("/proc/{sandbox}/task/{sandbox}/children")).unwrap();
    let in_its_pids = |pid: &str| {
        let pids = status_line(pid, "NSpid");
        pids.ends_with(" 1") && pids.split(' ').count() == 3 && status_line(pid, "Name") == "init"
    };
    let mut own = children.split_whitespace().filter(|pid| in_its_pids(pid));
    let found = own.next_back().expect("PID 1").to_owned();
    assert_eq!(status_line(&found, "PPid"), sandbox.to_string());
    found
}

#[test]
fn the_reaper_can_do_nothing_and_holds_nothing() {
    let stage = stage!();
    let container = start(stage.container("waits").args(["sleep", "1000"]));
    let reaper = reaper_of(&container);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status_line(&reaper, set), "0000000000000000", "{set}");
    }
    for (name, value) in
        [("NoNewPrivs", "1"), ("Seccomp", "2"), ("Threads", "1"), ("SigBlk", "0000000000000000")]
    {
        assert_eq!(status_line(&reaper, name), value, "{name}");
    }
    let ignored = u64::from_str_radix(&status_line(&reaper, "SigIgn"), 16).unwrap();
    assert_eq!(!ignored, 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1), "all that can be");
    // If a process is not dumpable, its files in /proc belong to root of the user namespace in which it was executed.
    let of_root = status_line(&container.sandbox_pid().to_string(), "Uid");
    let owner = std::fs::metadata(format!("/proc/{reaper}/environ")).unwrap().uid().to_string();
    assert!(owner == "0" || of_root.starts_with(&format!("{owner} ")), "{owner}, {of_root}");
    if !is_root() {
        skip!("the rest of a process that is not dumpable is root's to see");
    }
    assert!(descriptors(&reaper).is_empty(), "{:?}", descriptors(&reaper));
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{reaper}/{file}")).unwrap();
    assert_eq!(
        (read("environ").as_str(), read("cmdline").as_str(), read("comm").as_str()),
        ("", "init\0", "init\n")
    );
    for line in read("maps").lines() {
        let object = line.split_whitespace().nth(5).unwrap_or_default();
        assert!(object == "/memfd:init" || object.starts_with('['), "{line}");
    }
    let kib =
        |line: &str| line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).unwrap();
    let rollup = read("smaps_rollup");
    let private: u64 = rollup.lines().filter(|line| line.starts_with("Private_")).map(kib).sum();
    assert!(private <= 150, "{rollup}");
}

#[test]
fn the_reaper_has_the_namespaces_and_the_root_of_the_program() {
    let stage = stage!();
    if !is_root() {
        skip!("the root and the namespaces of a process that is not dumpable are root's to see");
    }
    let on_busybox = |name| {
        let builder = stage.container(name).rootfs(Rootfs::directory(stage.busybox()));
        builder.args(["sleep", "1000"])
    };
    let mut started = Vec::new();
    let mut look_at = |container: Container<Running>| {
        let both = (reaper_of(&container), container.init_pid().to_string());
        started.push((container, both));
    };
    let pod = start(on_busybox("own"));
    let member = pod.pod().container(stage.id("member")).args(["sleep", "1000"]);
    look_at(pod);
    look_at(start(member));
    look_at(start(on_busybox("plain").without_user_namespace()));
    look_at(start(on_busybox("host").host_network()));
    // A configuration without a new mount namespace: the program enters the caller's.
    let bundle = stage.write_bundle("bundle", on_busybox("template").without_user_namespace(), |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "mount");
    });
    look_at(start(stage.bundled("inherits", &bundle).unwrap().init(true)));
    for (container, (reaper, program)) in &started {
        for name in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
            let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
            assert_eq!(of(reaper), of(program), "{name} of {:?}", container.id());
        }
        let identity =
            |path: PathBuf| std::fs::metadata(path).map(|found| (found.dev(), found.ino())).unwrap();
        let of = |pid: &str, name| identity(PathBuf::from(format!("/proc/{pid}/{name}")));
        for name in ["root", "cwd"] {
            assert_eq!(of(reaper, name), of(program, "root"), "{name}");
        }
        assert_ne!(of(reaper, "root"), identity("/".into()));
    }
}

#[test]
fn a_container_that_may_trace_sees_nothing_of_the_sandbox_in_the_reaper() {
    let stage = stage!();
    let script = "for f in exe root cwd; do readlink /proc/1/$f; done; ls /proc/1/fd; cat /proc/1/environ
        grep -v -e /memfd:init -e '\\[' /proc/1/maps
        (: >> /proc/1/exe) 2>/dev/null && echo WRITTEN
        for n in cgroup ipc mnt net pid user uts; do
            [ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] || echo another $n
        done
        ls /proc/1/root/bin/busybox; cat /proc/1/net/dev | grep -c :";
    let granted = || [Capability::SysPtrace, Capability::SysAdmin].into();
    let seen = "/memfd:init (deleted)\n/\n/\n/proc/1/root/bin/busybox\n1";
    let builder = stage.busybox_shell("traces", script).grant_capabilities(granted());
    assert_eq!(stdout_of(builder), seen);
    if is_root() {
        let builder =
            stage.busybox_shell("plain", script).without_user_namespace().grant_capabilities(granted());
        assert_eq!(stdout_of(builder), seen, "without a user namespace");
    }
}

#[test]
fn a_container_cannot_kill_its_reaper() {
    let stage = stage!();
    let script =
        "for s in 1 2 3 6 9 14 15 19 34 64; do kill -$s 1 || echo refused; done; kill -0 1 && echo there";
    assert_eq!(stdout_of(stage.busybox_shell("kills", script)), "there");
}

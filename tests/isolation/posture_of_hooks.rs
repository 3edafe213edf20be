//! What a startContainer hook is: a program of the image, which gets what the workload gets and nothing else.

use crate::kit::{Stage, is_root, line_of, stage};
use cofferdam::builder::{HookKind, Resource};
use cofferdam::oci_spec::runtime::{Capability, Hook, HookBuilder};
use cofferdam::{ContainerBuilder, Rootfs};
use std::path::Path;

/// Everything about a process that shows in its proc, and that the process decides about itself.
const LOOK: &str = "{ cat /proc/self/status /proc/self/limits /proc/self/cgroup /proc/self/oom_score_adj
    cat /proc/self/timerslack_ns /proc/self/personality /proc/self/uid_map; pwd
    for n in cgroup ipc mnt net pid time user uts; do readlink /proc/self/ns/$n; done
    readlink /proc/self/root; tr '\\0' '\\n' </proc/self/environ; } 2>&1";

/// Lines that differ between any two processes.
const OWN: [&str; 13] = [
    "Pid:",
    "Tgid:",
    "PPid:",
    "NStgid:",
    "NSpid:",
    "NSpgid:",
    "NSsid:",
    "Vm",
    "Rss",
    "Hugetlb",
    "SigQ:",
    "voluntary_",
    "nonvoluntary_",
];

/// The text without what differs between any two processes.
fn comparable(text: &str) -> String {
    let own = |line: &&str| OWN.iter().any(|name| line.starts_with(name));
    text.lines().filter(|line| !own(line)).map(|line| format!("{line}\n")).collect()
}

fn hook(script: &str, env: Option<&[&str]>) -> Hook {
    let args = ["sh", "-c", script].map(str::to_owned);
    let mut hook = HookBuilder::default().path("/bin/sh").args(args).build().unwrap();
    hook.set_env(env.map(|env| env.iter().map(|&variable| variable.to_owned()).collect()));
    hook
}

/// What the hook and the workload of this container are, as they write it.
fn both(stage: &Stage, name: &str, change: impl FnOnce(ContainerBuilder) -> ContainerBuilder) -> [String; 2] {
    let out = stage.open_directory(name);
    let script = |who: &str| format!("{LOOK} >/out/{who}");
    let builder = stage.busybox_shell(name, &script("workload")).bind_rw(&out, "/out").init(false);
    let builder = builder.hook(HookKind::StartContainer, hook(&script("hook"), None));
    change(builder).run().unwrap();
    ["hook", "workload"].map(|who| std::fs::read_to_string(out.join(who)).unwrap())
}

fn assert_same([hook, workload]: &[String; 2]) {
    assert_eq!(comparable(hook), comparable(workload));
    assert_eq!(line_of(hook, "NSpid").split(' ').count(), 1);
}

fn assert_capabilities(text: &str, sets: [&str; 5]) {
    let names = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
    assert_eq!(names.map(|name| line_of(text, name)), sets.map(|set| format!("{set:0>16}")));
}

#[test]
fn a_hook_of_the_image_is_what_the_workload_is() {
    let stage = stage!();
    stage.open_to_everybody();
    let plain = both(&stage, "plain", |builder| builder);
    assert_same(&plain);
    assert_capabilities(&plain[0], ["0"; 5]);
    assert_eq!((line_of(&plain[0], "NoNewPrivs"), line_of(&plain[0], "Seccomp")), ("1".into(), "2".into()));
    assert_eq!(line_of(&plain[0], "Seccomp_filters"), "1");

    let changed = both(&stage, "changed", |builder| {
        let builder = builder.grant_capabilities([Capability::NetBindService].into()).cwd("/tmp");
        builder.env("NAME", "value").rlimit(Resource::OpenFiles, 77).umask(0o027)
    });
    assert_same(&changed);
    assert_capabilities(&changed[0], ["400"; 5]);
    assert!(changed[0].contains("\n/tmp\n") && changed[0].contains("\nNAME=value\n"), "{}", changed[0]);
    assert_eq!(line_of(&changed[0], "Umask"), "0027");
    let limit = changed[0].lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(limit.split_whitespace().collect::<Vec<_>>(), ["Max", "open", "files", "77", "77", "files"]);
}

#[test]
fn a_hook_of_an_image_without_a_user_namespace_has_none_of_the_callers_privileges() {
    let stage = stage!();
    if !is_root() {
        crate::kit::skip!("only root can do without a user namespace");
    }
    stage.open_to_everybody();
    for no_new_privileges in [true, false] {
        let name = format!("privileges-{no_new_privileges}");
        let seen = both(&stage, &name, |builder| {
            let builder = builder.without_user_namespace().user(1000, 1001).groups([7, 8]);
            if no_new_privileges { builder } else { builder.allow_new_privileges() }
        });
        assert_same(&seen);
        assert_capabilities(&seen[0], ["0"; 5]);
        assert_eq!(line_of(&seen[0], "Uid"), "1000 1000 1000 1000");
        assert_eq!(
            (line_of(&seen[0], "Gid"), line_of(&seen[0], "Groups")),
            ("1001 1001 1001 1001".into(), "7 8".into())
        );
        assert_eq!(line_of(&seen[0], "NoNewPrivs"), u8::from(no_new_privileges).to_string());
        assert_eq!(line_of(&seen[0], "Seccomp"), "2");
        // As root of the host, with the same capabilities in another set each.
        let seen = both(&stage, &format!("root-{no_new_privileges}"), |builder| {
            let builder = builder.without_user_namespace().grant_capabilities([Capability::Chown].into());
            if no_new_privileges { builder } else { builder.allow_new_privileges() }
        });
        assert_same(&seen);
        assert_capabilities(&seen[0], ["1"; 5]);
    }
}

#[test]
fn a_hook_of_the_image_keeps_an_environment_of_its_own_and_has_no_descriptor_but_its_streams() {
    let stage = stage!();
    stage.open_to_everybody();
    let out = stage.open_directory("out");
    let script = "env >/out/env; ls /proc/self/fd >/out/fds; echo said >/dev/stderr; cat /dev/stdin >/out/state; exit 3";
    let given = std::fs::File::open("/proc/self/status").unwrap();
    let builder = stage.busybox_shell("own", "true").bind_rw(&out, "/out").env("NAME", "value").fd(9, given);
    let builder = if is_root() { builder.user(1000, 1000) } else { builder };
    let hook = hook(script, Some(&["PATH=/bin", "OWN=1"]));
    let failed = builder.hook(HookKind::StartContainer, hook).build().unwrap().create().unwrap().start();
    let said = failed.unwrap_err().to_string();
    assert!(said.ends_with("exited with code 3: said"), "{said}");
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let mut environment: Vec<_> = read("env").lines().map(str::to_owned).collect();
    environment.retain(|line| !line.starts_with("SHLVL=") && !line.starts_with("PWD="));
    environment.sort();
    assert_eq!(environment, ["OWN=1", "PATH=/bin"]);
    // The listing's own is the last one.
    assert_eq!(read("fds").split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    assert!(read("state").contains("\"status\":\"created\""));
}

#[test]
fn a_hook_of_the_image_that_hangs_ends_with_the_container() {
    let stage = stage!();
    stage.open_to_everybody();
    let out = stage.open_directory("out");
    let mut hook = hook("exec sleep 1000", None);
    hook.set_timeout(Some(1));
    let builder = stage.busybox_shell("hangs", "true").rootfs(Rootfs::directory(stage.busybox()));
    let builder = builder.bind_rw(Path::new(&out), "/out").hook(HookKind::StartContainer, hook);
    let failed = builder.build().unwrap().create().unwrap().start().unwrap_err();
    assert!(failed.to_string().contains("did not end within 1s"), "{failed}");
    drop(failed);
    assert!(stage.changes().is_empty(), "{:?}", stage.changes());
}

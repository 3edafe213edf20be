//! What a kubelet does with pods and containers, and what has to come of it.

use super::api::{CREATED, Container, EXITED, Executed, Mode, PodSpec, RUNNING, Resources, Spec};
use super::{Cri, NETWORK_PLUGINS};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A program that waits for SIGTERM, and then prints a line and exits.
const OBEDIENT: &str = "trap 'echo ending; exit 5' TERM; touch /tmp/ready; while :; do sleep 0.05; done";
/// A program that ignores SIGTERM.
const STUBBORN: &str = "trap '' TERM; touch /tmp/ready; while :; do sleep 0.05; done";

/// `DeadlineExceeded` of gRPC.
const DEADLINE_EXCEEDED: u32 = 4;

/// The network of the node, and processes of their own: what `hostNetwork: true` makes of a pod.
fn on_the_node() -> PodSpec<'static> {
    PodSpec { network: Mode::Node, pid: Mode::Container, ..PodSpec::default() }
}

/// Does nothing.
fn idle() -> Spec<'static> {
    Spec { command: &["sleep", "1000"], ..Spec::default() }
}

pub(crate) fn containers_of_a_pod_share_network_and_ipc(cri: &Cri) {
    let pod = cri.run_pod("pod", on_the_node());
    let [one, other] = ["one", "other"].map(|name| cri.run(&pod, name, idle()));
    let kinds = ["net", "ipc", "uts", "pid", "mnt"];
    let all = format!("for kind in {}; do readlink /proc/self/ns/$kind; done", kinds.join(" "));
    let [first, second] = [&one, &other].map(|container| cri.shell(container, &all));
    for ((kind, first), second) in kinds.into_iter().zip(first.lines()).zip(second.lines()) {
        assert_eq!(first == second, ["net", "ipc", "uts"].contains(&kind), "{kind}");
        assert_eq!(first == cri.namespace(kind), ["net", "uts"].contains(&kind), "{kind}");
    }
    cri.shell(&one, "echo shared >/dev/shm/f");
    assert_eq!(cri.shell(&other, "cat /dev/shm/f"), "shared");
    assert_eq!(cri.shell(&one, "cat /proc/1/comm"), "sleep");
    cri.end_pod(pod);
}

pub(crate) fn a_pod_that_shares_pids_sees_and_signals_all_of_them(cri: &Cri) {
    let pod = cri.run_pod("pod", PodSpec { pid: Mode::Pod, ..on_the_node() });
    let one = cri.run(&pod, "one", shell("sleep 4322 & exec sleep 4321"));
    let other = cri.run(&pod, "other", idle());
    // The pod lives as long as its first process.
    assert_eq!(cri.shell(&other, "tr '\\0' ' ' </proc/1/cmdline"), "sleep 1000000");
    let pids = "ps -o pid,args | awk '$3 ~ /^432/ { print $1, $3 }'";
    let seen = cri.shell(&other, pids);
    assert_eq!(cri.shell(&one, pids), seen);
    let first = seen.lines().find_map(|line| line.strip_suffix(" 4321")).expect("its process is seen");
    cri.shell(&other, &format!("kill -TERM {first}"));
    assert_eq!(cri.wait(&one).exit_code, 128 + 15);
    // The processes it left behind ended with it, and no others.
    assert_eq!(cri.shell(&other, pids), "");
    assert_eq!(cri.status(&other).state, RUNNING);
    cri.end_pod(pod);
}

pub(crate) fn a_debugger_sees_the_processes_of_its_target(cri: &Cri) {
    let pod = cri.run_pod("pod", on_the_node());
    let target = cri.run(&pod, "target", shell("exec sleep 4321"));
    let debugger = cri.run(&pod, "debugger", Spec { target: &target.id, ..idle() });
    assert!(cri.shell(&debugger, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").contains("sleep 4321"));
    assert_eq!(cri.shell(&debugger, "tr '\\0' ' ' </proc/1/cmdline"), "sleep 4321");
    cri.end_pod(pod);
}

pub(crate) fn the_namespaces_of_the_node_are_for_pods_that_ask(cri: &Cri) {
    let spec = PodSpec { network: Mode::Node, pid: Mode::Node, ipc: Mode::Node, ..PodSpec::default() };
    let pod = cri.run_pod("pod", spec);
    let container = cri.run(&pod, "one", idle());
    for kind in ["net", "pid", "ipc", "uts"] {
        let found = cri.shell(&container, &format!("readlink /proc/self/ns/{kind}"));
        assert_eq!(found, cri.namespace(kind), "{kind}");
    }
    cri.end_pod(pod);
}

/// One container for each line: what it shall be, and what the shell inside sees of it.
pub(crate) fn a_container_is_what_its_configuration_says(cri: &Cri) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("f");
    std::fs::write(&file, "of the host\n").expect("a file");
    for (path, mode) in [(directory.path(), 0o777), (&file, 0o666)] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("a file for everybody");
    }
    let at = directory.path();
    let default = Spec::default();
    let table: &[(Spec<'_>, &str, &str)] = &[
        (
            Spec {
                envs: &[("A", "b c"), ("PATH", "/bin")],
                working_dir: "/tmp",
                mounts: &[(at, "/v", true)],
                devices: &[("/dev/zero", "/dev/nought")],
                ..default
            },
            "echo $A; pwd; cat /v/f; touch /v/x 2>/dev/null; echo $?; head -c 3 /dev/nought | wc -c",
            "b c\n/tmp\nof the host\n1\n3",
        ),
        (
            Spec { mounts: &[(at, "/var/lock", true), (&file, "/etc/localtime", true)], ..default },
            "cat /var/lock/f /etc/localtime",
            "of the host\nof the host",
        ),
        (
            Spec { mounts: &[(at, "/v", false), (&file, "/dev/termination-log", false)], ..default },
            "echo of the container >/dev/termination-log; cat /v/f; touch /x && ls /x",
            "of the container\n/x",
        ),
        (
            Spec {
                user: Some(7),
                group: Some(8),
                supplemental_groups: &[9, 10],
                read_only: true,
                terminal: true,
                ..default
            },
            "id -u; id -g; id -G; grep CapEff /proc/self/status; touch /x 2>/dev/null; echo $?; tty",
            "7\n8\n8 9 10\nCapEff:\t0000000000000000\n1\n/dev/pts/0",
        ),
        (
            Spec {
                drop_capabilities: &["ALL"],
                add_capabilities: &["NET_BIND_SERVICE"],
                no_new_privileges: true,
                ..default
            },
            "grep -E 'CapBnd|NoNewPrivs' /proc/self/status",
            "CapBnd:\t0000000000000400\nNoNewPrivs:\t1",
        ),
        // The capabilities that containerd gives to every container, and the one to set the time.
        (
            Spec { drop_capabilities: &["MKNOD"], add_capabilities: &["SYS_TIME"], ..default },
            "grep CapEff /proc/self/status",
            "CapEff:\t00000000a20425fb",
        ),
        (
            default,
            "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; wc -c </proc/keys; cat /proc/self/oom_score_adj; \
             echo 1 2>/dev/null >/proc/sys/kernel/panic; echo $?; mount -t tmpfs x /tmp 2>/dev/null; echo $?",
            "NoNewPrivs:\t0\nSeccomp:\t2\n0\n1000\n1\n1",
        ),
    ];
    let pod = cri.run_pod("pod", on_the_node());
    for (number, (spec, script, expected)) in table.iter().enumerate() {
        let spec = Spec { command: &["sh", "-c"], argument: Some(script), ..*spec };
        let container = cri.run(&pod, &format!("c{number}"), spec);
        let status = cri.wait(&container);
        let lines = said(cri, &container);
        assert_eq!(lines, *expected, "{script}: {status:?}");
        assert_eq!((status.exit_code, &*status.reason), (0, "Completed"), "{script}");
    }
    cri.end_pod(pod);
    assert_eq!(std::fs::read_to_string(file).expect("the file"), "of the container\n");
}

pub(crate) fn a_privileged_container_has_what_the_node_has(cri: &Cri) {
    let pod = cri.run_pod("pod", PodSpec { privileged: true, ..on_the_node() });
    let container = cri.run(&pod, "one", Spec { privileged: true, ..idle() });
    let mask = cri.shell(&container, "grep CapEff /proc/self/status").replace("CapEff:\t", "");
    let capabilities = u64::from_str_radix(&mask, 16).expect("a mask");
    // CAP_SYS_ADMIN.
    assert_ne!(capabilities & 1 << 21, 0, "{mask}");
    assert_eq!(cri.shell(&container, "mount -t tmpfs x /tmp && grep -c ' /tmp tmpfs' /proc/mounts"), "1");
    assert_eq!(cri.shell(&container, "grep -c '^sysfs /sys sysfs rw' /proc/mounts"), "1");
    assert_eq!(cri.shell(&container, "grep '^Seccomp:' /proc/self/status"), "Seccomp:\t0");
    cri.end_pod(pod);
}

pub(crate) fn limits_are_in_the_cgroup_and_can_be_changed(cri: &Cri) {
    // Of either version.
    let v1 = Path::new("/sys/fs/cgroup/memory").exists();
    let file = |old: &'static str, new: &'static str| if v1 { old } else { new };
    let memory = file("memory/memory.limit_in_bytes", "memory.max");
    let cpu = file("cpu/cpu.cfs_quota_us", "cpu.max");
    let cpus = file("cpuset/cpuset.cpus", "cpuset.cpus");
    let quota = |quota: &'static str| if v1 { quota.to_owned() } else { format!("{quota} 100000") };
    let pod = cri.run_pod("pod", on_the_node());
    let resources = Resources { memory: 64 << 20, cpu_quota: 50_000, cpus: "0" };
    let container = cri.run(&pod, "one", Spec { resources, ..idle() });
    assert_eq!(cri.cgroup_file(&container, memory), "67108864");
    assert_eq!(cri.cgroup_file(&container, cpu), quota("50000"));
    assert_eq!(cri.cgroup_file(&container, cpus), "0");
    cri.update(&container, Resources { memory: 32 << 20, cpu_quota: 20_000, cpus: "0" });
    assert_eq!(cri.cgroup_file(&container, memory), "33554432");
    assert_eq!(cri.cgroup_file(&container, cpu), quota("20000"));
    cri.end_pod(pod);
}

pub(crate) fn out_of_memory_is_told_from_a_kill(cri: &Cri) {
    let pod = cri.run_pod("pod", on_the_node());
    let resources = Resources { memory: 32 << 20, ..Resources::default() };
    let bomb = "awk 'BEGIN { for (;;) s = s sprintf(\"%1000000s\", \"\") }'";
    let container = cri.run(&pod, "bomb", Spec { resources, ..shell(&format!("exec {bomb}")) });
    let status = cri.wait(&container);
    assert_eq!((status.exit_code, &*status.reason), (137, "OOMKilled"), "{status:?}");
    cri.end_pod(pod);
}

pub(crate) fn further_processes_are_executed_to_their_end_or_the_deadline(cri: &Cri) {
    let pod = cri.run_pod("pod", on_the_node());
    let container = cri.run(&pod, "one", Spec { user: Some(7), envs: &[("A", "b c")], ..idle() });
    let executed = cri.execute(&container, &["sh", "-c", "echo out; echo err >&2; exit 7"], 10);
    let expected = Executed { stdout: "out\n".into(), stderr: "err\n".into(), exit_code: 7 };
    assert_eq!(executed.expect("it is executed"), expected);
    assert_eq!(cri.shell(&container, "id -u; echo $A"), "7\nb c");
    let refusal = cri.execute(&container, &["nosuch"], 10).expect_err("no such program");
    assert!(refusal.message.contains("executable file not found in $PATH"), "{refusal:?}");
    let refusal = cri.execute(&container, &["sleep", "4321"], 1).expect_err("it takes too long");
    assert_eq!(refusal.code, DEADLINE_EXCEEDED, "{refusal:?}");
    assert!(!cri.shell(&container, "cat /proc/[0-9]*/cmdline").contains("4321"));
    cri.end_pod(pod);
}

pub(crate) fn a_stop_is_a_request_and_then_a_kill(cri: &Cri) {
    let pod = cri.run_pod("pod", on_the_node());
    for (name, script, seconds, code, log) in
        [("obedient", OBEDIENT, 30, 5, "ending"), ("stubborn", STUBBORN, 1, 137, "")]
    {
        let container = cri.run(&pod, name, shell(script));
        cri.shell(&container, "until test -e /tmp/ready; do sleep 0.01; done");
        cri.stop(&container, seconds);
        let status = cri.status(&container);
        assert_eq!((status.state, status.exit_code), (EXITED, code), "{name}: {status:?}");
        assert_eq!(status.reason, "Error");
        assert_eq!(said(cri, &container), log);
        cri.remove(&container);
    }
    cri.end_pod(pod);
}

pub(crate) fn what_failed_is_made_anew_beside_its_log(cri: &Cri) {
    let pod = cri.run_pod("pod", on_the_node());
    let script = "echo out; echo err >&2; printf unfinished; exit 3";
    let attempts = [0, 1].map(|attempt| {
        let container = cri.create(&pod, "failing", attempt, shell(script));
        assert_eq!(cri.status(&container).state, CREATED);
        cri.start(&container).expect("it starts");
        let status = cri.wait(&container);
        assert_eq!((status.exit_code, &*status.reason), (3, "Error"), "{status:?}");
        container
    });
    for container in attempts {
        let mut lines = cri.log_of(&container);
        // Each stream is copied by itself.
        lines.sort();
        assert_eq!(lines, ["stderr F err", "stdout F out", "stdout P unfinished"]);
        cri.remove(&container);
    }
    cri.end_pod(pod);
}

pub(crate) fn what_cannot_be_started_says_why(cri: &Cri) {
    let pod = cri.run_pod("pod", on_the_node());
    for (program, reason) in [
        ("nosuch", "exec: \"nosuch\": executable file not found in $PATH"),
        ("/etc/plain", "exec: \"/etc/plain\": permission denied"),
    ] {
        let container = cri.create(
            &pod,
            program.trim_start_matches("/etc/"),
            0,
            Spec { command: &[program], ..Spec::default() },
        );
        let refusal = cri.start(&container).expect_err("it cannot be executed");
        assert!(refusal.message.contains(reason), "{refusal:?}");
        let status = cri.status(&container);
        assert_eq!((status.exit_code, &*status.reason), (128, "StartError"), "{status:?}");
        assert!(status.message.contains(reason), "{status:?}");
        cri.remove(&container);
    }
    cri.end_pod(pod);
}

pub(crate) fn containers_are_listed_with_what_they_use(cri: &Cri) {
    let pod = cri.run_pod("pod", on_the_node());
    let running = cri.run(&pod, "running", shell(STUBBORN));
    let ended = cri.run(&pod, "ended", shell("true"));
    cri.wait(&ended);
    let expected = [(running.id.clone(), RUNNING), (ended.id.clone(), EXITED)];
    assert_eq!(cri.list_containers(), expected.into());
    assert!(cri.is_recorded(&running));
    let usage = cri.usage(&running);
    assert!(usage.cpu_ns > 0 && usage.memory > 0, "{usage:?}");
    cri.stop(&running, 0);
    for container in [running, ended] {
        cri.remove(&container);
    }
    assert!(cri.list_containers().is_empty());
    cri.end_pod(pod);
}

pub(crate) fn pods_with_networks_of_their_own_reach_each_other(cri: &Cri) {
    let is_missing = |plugin: &&str| !Path::new(NETWORK_PLUGINS).join(plugin).exists();
    if let Some(plugin) = ["ptp", "host-local", "loopback"].iter().find(|plugin| is_missing(plugin)) {
        return cri.skip(&format!("there is no plugin {plugin} for networks in {NETWORK_PLUGINS}"));
    }
    let spec = |hostname| PodSpec {
        pid: Mode::Container,
        hostname,
        sysctls: &[("net.ipv4.ip_unprivileged_port_start", "80"), ("kernel.shm_rmid_forced", "1")],
        ..PodSpec::default()
    };
    let pods = ["server", "client"].map(|name| cri.run_pod(name, spec(name)));
    let [server, client] = &pods;
    let serve = "echo hello from $(hostname) | nc -l -p 81";
    let serving = cri.run(server, "serving", Spec { user: Some(7), ..shell(serve) });
    let beside = cri.run(server, "beside", idle());
    let asking = cri.run(client, "asking", idle());
    for (pod, container) in [(server, &beside), (client, &asking)] {
        let address = cri.address(pod);
        assert!(address.starts_with("10.88.7."), "{address}");
        let shown = cri.shell(container, "ip -4 -o addr | awk '{ print $2, $4 }'");
        assert_eq!(shown, format!("lo 127.0.0.1/8\neth0 {address}/24"));
        let sysctls = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced";
        assert_eq!(cri.shell(container, sysctls), "80\n1");
    }
    assert_eq!(cri.shell(&beside, "hostname; echo $HOSTNAME"), "server\nserver");
    // The container beside it sees when it listens.
    cri.shell(&beside, "until cat /proc/net/tcp /proc/net/tcp6 | grep -q ':0051 '; do sleep 0.01; done");
    let ask = format!("nc {} 81", cri.address(server));
    assert_eq!(cri.shell(&asking, &ask), "hello from server");
    assert_eq!(cri.wait(&serving).exit_code, 0);
    pods.into_iter().for_each(|pod| cri.end_pod(pod));
}

/// Runs a script.
fn shell(script: &str) -> Spec<'_> {
    Spec { command: &["sh", "-c"], argument: Some(script), ..Spec::default() }
}

/// What it wrote to both streams, without the last newline.
fn said(cri: &Cri, container: &Container) -> String {
    let lines = cri.log_of(container);
    let text = |line: &String| line.splitn(3, ' ').nth(2).unwrap_or_default().trim_end().to_owned();
    lines.iter().map(text).collect::<Vec<_>>().join("\n")
}

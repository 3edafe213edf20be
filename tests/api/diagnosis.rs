//! The report on the host, and the layers of a container: what is missing is named with its cause and its remedy.

#![expect(clippy::disallowed_methods, reason = "starts itself again with unshare(1)")]

use crate::kit::{caller, is_root, stage};
use cofferdam::diagnosis::{Feature, HostReport, Layer};
use cofferdam::{ContainerBuilder, ErrorKind};
use std::collections::BTreeSet;
use std::process::{Command, Stdio};

#[test]
fn a_host_that_runs_containers_is_reported_as_one_and_left_as_it_was() {
    let stage = stage!();
    assert!(stage.container("probe").args(["true"]).run().unwrap().outcome.success());
    let descriptors = || -> BTreeSet<String> {
        let fds = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        fds.filter_map(|fd| std::fs::read_link(fd.path()).ok()).map(|to| to.display().to_string()).collect()
    };
    let before = descriptors();
    let report = HostReport::probe();
    assert_eq!(descriptors(), before);
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap();
    assert_eq!(children, "", "the process that was tried is collected");
    assert!(report.can_run(), "{report}");
    assert_eq!(report.iter().map(|(feature, _)| feature).collect::<Vec<_>>(), Feature::ALL);
    for (feature, missing) in report.iter() {
        assert_eq!(report.missing(feature), missing);
        let line = match missing {
            None => format!("{feature}: yes\n"),
            Some(missing) => {
                assert!(!missing.cause.is_empty(), "{feature}");
                format!("{feature}: no: {missing}\n")
            }
        };
        assert!(report.to_string().contains(&line), "{report}");
    }
}

#[test]
fn the_report_words_what_is_missing_as_the_error_does() {
    let stage = stage!();
    let report = HostReport::probe();
    let limited = stage.container("limited").args(["true"]).memory_limit(1 << 30).build();
    match (report.missing(Feature::MemoryLimit), limited) {
        (None, built) => drop(built.unwrap()),
        (Some(missing), built) => {
            let error = built.unwrap_err();
            assert!(error.to_string().contains(&missing.cause), "{error}\n{missing}");
        }
    }
}

/// The host is a user namespace that allows no further network namespace.
#[test]
fn a_host_without_namespaces_is_explained_by_the_report_and_by_create() {
    if let Some(directory) = caller::role() {
        let report = HostReport::probe();
        assert!(!report.can_run(), "{report}");
        let missing = report.missing(Feature::Namespaces).expect("no network namespace can be made");
        assert_eq!(missing.cause, "user.max_net_namespaces is 0");
        assert_eq!(missing.remedy, "sysctl -w user.max_net_namespaces=15000");
        let builder = ContainerBuilder::new().id("none").state_root(caller::root(&directory)).args(["true"]);
        let failed = builder.build().unwrap().create().unwrap_err();
        assert_eq!(*failed.error().kind(), ErrorKind::Os(libc::ENOSPC), "{}", failed.error());
        assert!(failed.error().to_string().contains(&missing.cause), "{}", failed.error());
        assert!(failed.error().to_string().contains(&missing.remedy), "{}", failed.error());
        return;
    }
    again_in_user_namespace("echo 0 >/proc/sys/user/max_net_namespaces; exec \"$@\"");
}

/// The caller is as in an outer container: its root is not the host's and has few ids.
#[test]
fn root_of_a_user_namespace_gives_its_containers_ids_that_it_has() {
    if let Some(directory) = caller::role() {
        let report = HostReport::probe();
        assert!(report.can_run(), "{report}");
        let missing = report.missing(Feature::IdRange).expect("one id is no range");
        let cause = "this user has no range in /etc/subuid and /etc/subgid";
        assert!(missing.cause.starts_with(cause) && missing.remedy.contains("--add-subuids"), "{missing}");
        let builder = ContainerBuilder::new().id("few").state_root(caller::root(&directory));
        let output = builder.args(["cat", "/proc/self/uid_map"]).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>(),
            ["0", "0", "1"]
        );
        return;
    }
    again_in_user_namespace("exec \"$@\"");
}

/// uname(2) says to processes with the personality `UNAME26` that the kernel is Linux 2.6.
#[test]
fn a_kernel_that_is_too_old_is_reported_with_the_one_to_run() {
    if caller::role().is_some() {
        let report = HostReport::probe();
        assert!(!report.can_run(), "{report}");
        let missing = report.missing(Feature::Kernel).expect("it says that it is Linux 2.6");
        assert!(missing.cause.starts_with("this is Linux 2.6."), "{missing}");
        assert_eq!(missing.remedy, "run Linux 5.14 or later");
        return;
    }
    again_below(&["setarch", "--uname-2.6"]);
}

/// An empty directory covers `/dev/net`, as in a container without the device.
#[test]
fn a_host_without_tun_is_reported_with_what_to_load() {
    if caller::role().is_some() {
        let report = HostReport::probe();
        let missing = report.missing(Feature::Tun).expect("there is no such device");
        assert_eq!(missing.cause, "access(\"/dev/net/tun\"): ENOENT: No such file or directory");
        assert!(missing.remedy.starts_with("modprobe tun, and pass the device on"), "{missing}");
        return;
    }
    let cover = "if test -e /dev/net; then mount -t tmpfs none /dev/net; fi; exec \"$@\"";
    again_below(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc", cover, "sh"]);
}

/// Runs this test again as root of a user namespace that maps only the caller's own id. `script` prepares the namespace
/// and executes the test.
fn again_in_user_namespace(script: &str) {
    again_below(&["unshare", "--user", "--map-root-user", "sh", "-euc", script, "sh"]);
}

/// Runs this test again by a program that executes what follows its arguments.
fn again_below(program: &[&str]) {
    let thread = std::thread::current();
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(program[0])
        .args(&program[1..])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", thread.name().unwrap(), "--nocapture", "--test-threads=1"])
        .env(caller::ROLE, directory.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_layers_of_a_container_follow_its_configuration() {
    let stage = stage!();
    let explain = |builder: ContainerBuilder| builder.args(["true"]).build().unwrap().explain().unwrap();
    let usual = explain(stage.container("usual"));
    let missing: Vec<Layer> =
        usual.iter().filter(|(_, missing)| missing.is_some()).map(|(layer, _)| layer).collect();
    let expected: &[Layer] = match is_root() {
        true => &[Layer::MemoryLimit, Layer::CpuLimit],
        false => &[Layer::OwnIds, Layer::MemoryLimit, Layer::CpuLimit],
    };
    assert_eq!(missing, expected, "{usual}");
    let open = explain(stage.container("open").host_network().writable_rootfs());
    let cause = |layer| open.missing(layer).map(|missing| missing.cause.as_str());
    assert_eq!(cause(Layer::NetworkNamespace), Some("it is the caller's"));
    assert_eq!(cause(Layer::ReadOnlyRoot), Some("the root directory is writable"));
    assert_eq!(cause(Layer::Seccomp), None);
    assert!(open.to_string().contains("\nseccomp: holds\n"), "{open}");
}

//! Volumes that the containers of a pod share.

use crate::kit::inside::{output, run};
use crate::kit::{Stage, stage};
use cofferdam::{Container, ContainerBuilder, ErrorKind, Rootfs, Running};

fn start(builder: ContainerBuilder) -> Container<Running> {
    builder.args(["sleep", "1000"]).build().unwrap().create().unwrap().start().unwrap()
}

fn root(stage: &Stage) -> ContainerBuilder {
    stage.container("pod").rootfs(Rootfs::directory(stage.busybox())).args(["sleep", "1000"])
}

fn member(stage: &Stage, pod: &Container<Running>, name: &str) -> ContainerBuilder {
    pod.pod().container(stage.id(name)).rootfs(Rootfs::directory(stage.busybox()))
}

/// Whether the kernel can; a refusal has to name it and the field.
fn can(stage: &Stage) -> bool {
    let Err(failed) = root(stage).pod_volume("probe", "/probe", None).build().unwrap().create() else {
        return true;
    };
    let text = failed.to_string();
    assert!(text.contains("pod_volume") && text.contains("6.15"), "{text}");
    false
}

/// The stage, on a host that has what pods share volumes with.
macro_rules! capable_stage {
    () => {{
        let stage = stage!();
        if !can(&stage) {
            crate::kit::skip!("copies of detached mounts need Linux 6.15");
        }
        stage
    }};
}

#[test]
fn what_one_container_writes_the_others_see_and_it_outlives_each_of_them() {
    let stage = capable_stage!();
    let pod = start(root(&stage));
    let one = start(member(&stage, &pod, "one").pod_volume("data", "/data", Some(64 << 10)));
    output(&one, "echo hello > /data/file");
    let two = start(member(&stage, &pod, "two").pod_volume("data", "/srv/shared", Some(64 << 20)));
    assert_eq!(output(&two, "cat /srv/shared/file"), "hello\n");
    output(&two, "echo bye > /srv/shared/file");
    assert_eq!(output(&one, "cat /data/file"), "bye\n");
    assert!(!run(&two, "dd if=/dev/zero of=/srv/shared/x bs=1024 count=128").0, "the first one's size holds");
    assert!(output(&two, "grep ' /srv/shared ' /proc/self/mountinfo").contains("nosuid,nodev"));
    output(&two, "rm /srv/shared/x");
    one.kill().unwrap().delete().unwrap();
    two.kill().unwrap().delete().unwrap();
    let three = start(member(&stage, &pod, "three").pod_volume("data", "/data", None).share_pid_namespace());
    assert_eq!(output(&three, "cat /data/file"), "bye\n", "no other container had it meanwhile");
    assert!(!run(&pod, "grep -q data /proc/self/mountinfo").0, "who does not ask has none");
}

#[test]
fn the_root_container_shares_too_and_names_are_different_volumes() {
    let stage = capable_stage!();
    let pod = start(root(&stage).pod_volume("one", "/one", None).pod_volume("two", "/two", None));
    let pair = |name: &str| {
        member(&stage, &pod, name).pod_volume("two", "/one", None).pod_volume("one", "/two", None)
    };
    let member = start(pair("member"));
    output(&pod, "echo 1 > /one/file && echo 2 > /two/file");
    assert_eq!(output(&member, "cat /two/file /one/file"), "1\n2\n");
    output(&member, "umask 077; echo x > /two/private; stat -c %u:%g:%a /two > /dev/null");
    assert_eq!(output(&pod, "stat -c %u:%a /one /one/private"), "0:1777\n0:600\n");
}

#[test]
fn a_volume_is_its_pods_alone_and_goes_with_it() {
    let stage = capable_stage!();
    let pod = start(root(&stage).pod_volume("data", "/data", None));
    output(&pod, "touch /data/file");
    let other = stage.container("other").rootfs(Rootfs::directory(stage.busybox()));
    let other = start(other.pod_volume("data", "/data", None));
    assert_eq!(output(&other, "ls /data"), "");
    pod.kill().unwrap().delete().unwrap();
    let again = start(root(&stage).pod_volume("data", "/data", None));
    assert_eq!(output(&again, "ls /data"), "");
}

#[test]
fn bad_names_and_destinations_are_refused_before_anything_happens() {
    let stage = capable_stage!();
    let cases = [
        ("", "/data", "builder: pod_volume.name: "),
        ("a/b", "/data", "builder: pod_volume.name: "),
        ("data", "data", "builder: pod_volume.destination: \"data\" is relative (use an absolute path)"),
        ("data", "/a/../b", "builder: pod_volume.destination: \"/a/../b\" contains \"..\""),
        ("data", "/", "builder: pod_volume.destination: is the root itself"),
    ];
    for (name, destination, expected) in cases {
        let error = root(&stage).pod_volume(name, destination, None).build().unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
        assert!(matches!(error.kind(), ErrorKind::InvalidSpec { .. }), "{error:?}");
    }
    let many =
        (0..65).fold(root(&stage), |builder, index| builder.pod_volume(format!("v{index}"), "/data", None));
    assert!(many.build().unwrap_err().to_string().contains("65 volumes, the limit is 64"));
    let error = root(&stage).pod_volume("data", "/data", None).to_bundle(stage.path().join("bundle"));
    assert!(matches!(error.unwrap_err().kind(), ErrorKind::Unsupported { .. }));
}

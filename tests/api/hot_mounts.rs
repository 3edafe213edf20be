//! Mounts into containers that exist: what appears and goes again, in which container, and what is refused.

#![expect(clippy::disallowed_methods, reason = "tests read and write plain files of their own")]

use crate::kit::inside::{output, run};
use crate::kit::witness::descendants;
use crate::kit::{Stage, is_root, skip, stage};
use cofferdam::oci_spec::runtime::{Mount, MountBuilder};
use cofferdam::{AnyContainer, Container, ContainerBuilder, Error, ErrorKind, Rootfs, Running};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

fn start(builder: ContainerBuilder) -> Container<Running> {
    builder.args(["sleep", "1000"]).build().unwrap().create().unwrap().start().unwrap()
}

/// On a root of its own that can be written to.
fn writable(stage: &Stage, name: &str) -> ContainerBuilder {
    stage.container(name).rootfs(Rootfs::directory(stage.busybox())).scratch(None)
}

fn mount(kind: &str, source: impl AsRef<Path>, destination: &str, options: &[&str]) -> Mount {
    let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    let builder = MountBuilder::default().typ(kind).source(source.as_ref()).destination(destination);
    builder.options(options).build().unwrap()
}

fn refusal(result: Result<(), Error>) -> (ErrorKind, String) {
    let error = result.unwrap_err();
    (error.kind().clone(), error.to_string())
}

#[test]
fn a_bind_appears_and_goes_again_while_the_container_runs() {
    let stage = stage!();
    let shared = stage.open_directory("shared");
    std::fs::write(shared.join("file"), "from the host").unwrap();
    let container = start(writable(&stage, "bind"));
    container.mount_bind_rw(&shared, "/data/deep").unwrap();
    assert_eq!(output(&container, "cat /data/deep/file"), "from the host");
    output(&container, "touch /data/deep/made");
    assert!(shared.join("made").exists());
    assert!(output(&container, "grep ' /data/deep ' /proc/self/mountinfo").contains("nosuid,nodev"));
    let read = container.files().unwrap().read("/data/deep/file", 100).unwrap();
    assert_eq!(read, b"from the host", "a file worker sees it too");

    container.mount_bind_ro(&shared, "/read-only").unwrap();
    assert!(!run(&container, "touch /read-only/x").0);
    container.mount_bind_ro(shared.join("file"), "/one-file").unwrap();
    assert_eq!(output(&container, "cat /one-file"), "from the host");

    for at in ["/data/deep", "/read-only/", "/one-file"] {
        container.unmount(at).unwrap();
        assert_eq!(*container.unmount(at).unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(
        output(
            &container,
            "ls /data/deep /read-only; wc -c < /one-file; grep -c shared /proc/self/mountinfo || true"
        )
        .replace('\n', " "),
        "/data/deep:  /read-only: 0 0 "
    );
    assert!(stage.changes().iter().all(|change| !change.contains("mount: ")), "nothing on the host");
}

#[test]
fn a_tmpfs_has_its_size_and_options_are_those_of_a_configuration() {
    let stage = stage!();
    let rootfs = stage.busybox();
    std::fs::create_dir(rootfs.join("full")).unwrap();
    std::fs::write(rootfs.join("full/file"), "of the image").unwrap();
    let container = start(writable(&stage, "tmpfs"));
    container.mount_tmpfs("/scratch", 64 << 10).unwrap();
    assert!(!run(&container, "dd if=/dev/zero of=/scratch/x bs=1024 count=128").0);
    container.unmount("/scratch").unwrap();
    container.mount(mount("tmpfs", "tmpfs", "/full", &["ro", "noexec", "tmpcopyup"])).unwrap();
    assert_eq!(output(&container, "cat /full/file"), "of the image");
    assert!(!run(&container, "touch /full/x").0);
    assert!(output(&container, "grep ' /full ' /proc/self/mountinfo").contains(" ro,noexec"));
}

#[test]
fn it_works_while_created_and_running_and_through_any_handle() {
    let stage = stage!();
    let shared = stage.open_directory("shared");
    let created = writable(&stage, "phases").args(["sleep", "1000"]).build().unwrap().create().unwrap();
    created.mount_bind_rw(&shared, "/one").unwrap();
    let running = created.start().unwrap();
    output(&running, "touch /one/x");
    let loaded = AnyContainer::load(stage.root(), running.id().as_str()).unwrap();
    loaded.as_alive().unwrap().mount_tmpfs("/two", 1 << 20).unwrap();
    output(&running, "touch /two/x");
    loaded.as_alive().unwrap().unmount("/one").unwrap();
    running.unmount("/two").unwrap();
    let stopped = running.kill().unwrap();
    let ended = AnyContainer::load(stage.root(), stopped.id().as_str()).unwrap();
    assert_eq!(*ended.as_alive().unwrap_err().kind(), ErrorKind::Ended);
    assert_eq!(*loaded.as_alive().unwrap().mount_tmpfs("/x", 1).unwrap_err().kind(), ErrorKind::Ended);
    assert_eq!(*loaded.as_alive().unwrap().unmount("/x").unwrap_err().kind(), ErrorKind::Ended);
    stopped.delete().unwrap();
}

#[test]
fn each_container_of_a_pod_has_its_own() {
    let stage = stage!();
    let shared = stage.open_directory("shared");
    let pod = start(writable(&stage, "pod"));
    let member = |name: &str| pod.pod().container(stage.id(name));
    let own = start(member("own").rootfs(Rootfs::directory(stage.busybox())).scratch(None));
    let pids = member("pids").rootfs(Rootfs::directory(stage.busybox())).scratch(None);
    let pids = start(pids.share_pid_namespace());
    for container in [&own, &pids, &pod] {
        container.mount_bind_rw(&shared, "/data").unwrap();
        output(container, "touch /data/x");
        container.mount_tmpfs("/data/below", 1 << 20).unwrap();
        for other in [&own, &pids, &pod].into_iter().filter(|other| other.id() != container.id()) {
            assert!(!run(other, "grep -q /data /proc/self/mountinfo").0);
            assert_eq!(*other.unmount("/data").unwrap_err().kind(), ErrorKind::NotFound);
        }
        container.unmount("/data/below").unwrap();
        container.unmount("/data").unwrap();
    }
}

#[test]
fn only_what_was_mounted_this_way_is_unmounted() {
    let stage = stage!();
    let container = start(writable(&stage, "own").tmpfs("/configured", 1 << 20));
    for at in
        ["/configured", "/proc", "/proc/kcore", "/dev", "/dev/null", "/tmp", "/bin", "/missing", "/bin/sh/x"]
    {
        let (kind, problem) = refusal(container.unmount(at));
        assert_eq!(kind, ErrorKind::NotFound, "{at}: {problem}");
        assert!(problem.contains(at), "{problem}");
    }
    container.mount_tmpfs("/over", 1 << 20).unwrap();
    container.mount_tmpfs("/over", 1 << 20).unwrap();
    container.unmount("/over").unwrap();
    container.unmount("/over").unwrap();
    let (kind, _) = refusal(container.unmount("/over"));
    assert_eq!(kind, ErrorKind::NotFound);
}

#[test]
fn links_of_the_image_are_followed_inside_it_and_not_into_proc() {
    let stage = stage!();
    let rootfs = stage.busybox();
    let shared = stage.open_directory("shared");
    std::fs::write(shared.join("file"), "from the host").unwrap();
    symlink("/inside", rootfs.join("absolute")).unwrap();
    symlink("../../../../inside/deep", rootfs.join("relative")).unwrap();
    symlink("/proc/self/fd", rootfs.join("magic")).unwrap();
    symlink("/proc/sys", rootfs.join("proc-link")).unwrap();
    symlink(stage.path().join("canary"), rootfs.join("dangling")).unwrap();
    std::fs::create_dir_all(rootfs.join("inside/deep")).unwrap();
    std::fs::write(rootfs.join("inside/file"), "").unwrap();
    symlink("inside/file", rootfs.join("to-file")).unwrap();
    let container = start(writable(&stage, "links"));
    for (at, leads_to) in [("/absolute", "/inside"), ("/relative", "/inside/deep")] {
        container.mount_bind_rw(&shared, at).unwrap();
        output(&container, &format!("grep ' {leads_to} ' /proc/self/mountinfo"));
        container.unmount(at).unwrap();
    }
    container.mount_bind_ro(shared.join("file"), "/to-file").unwrap();
    assert_eq!(output(&container, "cat /inside/file"), "from the host");
    container.unmount("/to-file").unwrap();
    assert_eq!(output(&container, "cat /inside/file"), "");
    for at in ["/magic", "/proc-link"] {
        container.mount_bind_rw(&shared, at).unwrap_err();
    }
    container.mount_bind_ro(&shared, "/dangling").unwrap();
    let canary = stage.path().join("canary");
    assert_eq!(output(&container, &format!("cat {}/file", canary.display())), "from the host");
    container.unmount("/dangling").unwrap();
    assert!(!canary.exists(), "it is made inside");
    assert!(!run(&container, "grep shared /proc/self/mountinfo").0, "nothing is left of what failed");
}

#[test]
fn a_relative_path_starts_where_the_caller_is_when_it_names_it() {
    let stage = stage!();
    stage.busybox();
    let here = stage.path();
    for name in ["data", "elsewhere"] {
        std::fs::create_dir(here.join(name)).unwrap();
    }
    std::fs::write(here.join("data/file"), "the caller's").unwrap();
    std::env::set_current_dir(here).unwrap();
    let builder = stage.container("relative").rootfs(Rootfs::directory("rootfs")).scratch(None);
    let builder =
        builder.bind_ro("data", "/bound").mount(mount("bind", "./data", "/mounted", &["rbind", "ro"]));
    let builder = builder.pid_file("pid").user_log(Path::new("log"));
    std::env::set_current_dir("elsewhere").unwrap();
    let container = start(builder);
    container.mount_bind_ro("../data", "/hot").unwrap();
    container.mount(mount("bind", "../data/file", "/hotter", &["bind", "ro"])).unwrap();
    std::env::set_current_dir("/").unwrap();
    let seen = output(&container, "cat /bound/file /mounted/file /hot/file /hotter");
    assert_eq!(seen, "the caller's".repeat(4));
    for name in ["pid", "log"] {
        assert!(here.join(name).is_file(), "{name}");
    }
    container.kill().unwrap().delete().unwrap();
    // On the host's directories there is an /etc, which a relative name must not lead to.
    let at_root = stage.container("host").args(["true"]).bind_ro("etc", "/tmp/x");
    std::env::set_current_dir(here).unwrap();
    assert_eq!(
        at_root.run().unwrap().outcome,
        cofferdam::Outcome::Exited { code: 0 },
        "it was in the root directory"
    );
    let (kind, problem) =
        refusal(stage.container("missing").args(["true"]).bind_ro("etc", "/tmp/x").run().map(drop));
    assert!(matches!(kind, ErrorKind::InvalidSpec { .. }), "{kind:?}");
    assert!(problem.contains(here.join("etc").to_str().unwrap()), "{problem}");
}

#[test]
fn bad_input_is_refused_by_the_name_of_the_field() {
    let stage = stage!();
    let container = start(writable(&stage, "bad"));
    let here = stage.path();
    let missing = here.join("missing");
    let cases: &[(Mount, &str)] = &[
        (
            mount("bind", here, "data", &["bind"]),
            "hot mount: mount.destination: \"data\" is relative (use an absolute path)",
        ),
        (
            mount("bind", here, "/a/../b", &["bind"]),
            "hot mount: mount.destination: \"/a/../b\" contains \"..\"",
        ),
        (mount("bind", here, "/", &["bind"]), "mount.destination: mounting over the root itself"),
        (mount("tmpfs", here, "/dev", &[]), "mount.destination: the device directory cannot be replaced"),
        (
            mount("ext5", "x", "/data", &[]),
            "mount.type: only a bind and a tmpfs can be mounted into a container that exists",
        ),
        (
            mount("proc", "proc", "/data", &[]),
            "mount.type: only a bind and a tmpfs can be mounted into a container that exists",
        ),
        (mount("tmpfs", "tmpfs", "/data", &["sized=4"]), "hot mount: mount.options[0]: "),
        (mount("bind", here, "/data", &["bind", "idmap"]), "mount.options[1]"),
        (mount("bind", here, "/data", &["bind", "ro", "r0"]), "hot mount: mount.options[2]: "),
    ];
    for (mount, expected) in cases {
        let (kind, problem) = refusal(container.mount(mount.clone()));
        assert!(problem.contains(expected), "{problem}\n{expected}");
        assert!(matches!(kind, ErrorKind::InvalidSpec { .. } | ErrorKind::Unsupported { .. }), "{kind:?}");
    }
    let odd = Path::new(std::ffi::OsStr::from_bytes(b"/x\xff"));
    for (method, refused) in [
        ("mount_bind_ro", container.mount_bind_ro(odd, "/data")),
        ("mount_bind_rw", container.mount_bind_rw(here, odd)),
        ("mount_tmpfs", container.mount_tmpfs(odd, 1 << 20)),
        ("mount", container.mount(mount("bind", odd, "/data", &["bind"]))),
    ] {
        let wanted = format!("Container::{method}: \"/x\\xFF\" is not UTF-8");
        assert_eq!(refusal(refused), (ErrorKind::InvalidInput, wanted));
    }
    let (kind, problem) = refusal(container.mount_tmpfs("/data", 0));
    assert_eq!((kind, problem.as_str()), (ErrorKind::InvalidInput, "Container::mount_tmpfs: must not be 0"));
    let (kind, problem) = refusal(container.mount_bind_ro(&missing, "/data"));
    assert_eq!(kind, ErrorKind::InvalidSpec { path: "mount.source".into() });
    assert!(problem.contains(&format!("{}: No such file or directory", missing.display())), "{problem}");
    for (at, expected) in [("data", "is relative"), ("/a/..", "contains \"..\""), ("/", "is the root itself")]
    {
        let (_, problem) = refusal(container.unmount(at));
        assert!(problem.contains(expected), "{problem}");
    }
    assert_eq!(output(&container, "ls -d /data 2>/dev/null || echo none"), "none\n");
    let (_, problem) = refusal(container.mount_bind_ro(here, "/bin/busybox"));
    assert!(problem.contains("is not a directory"), "{problem}");
}

#[test]
fn a_mount_of_a_container_without_a_user_namespace_is_the_same() {
    if !is_root() {
        skip!("a container without a user namespace needs root");
    }
    let stage = stage!();
    let shared = stage.open_directory("shared");
    let container = start(writable(&stage, "rootful").without_user_namespace());
    container.mount_bind_rw(&shared, "/data").unwrap();
    output(&container, "touch /data/x");
    assert!(shared.join("x").exists());
    container.unmount("/data").unwrap();
}

#[test]
fn the_helpers_of_a_mount_are_gone_when_it_returns() {
    let stage = stage!();
    let shared = stage.open_directory("shared");
    let container = start(writable(&stage, "helpers"));
    let processes = || -> Vec<u32> { descendants(std::process::id()).iter().map(|it| it.pid).collect() };
    let before = processes();
    for _ in 0..20 {
        container.mount_bind_rw(&shared, "/data").unwrap();
        container.mount_bind_ro(stage.path().join("missing"), "/data").unwrap_err();
        container.mount_tmpfs("/data", 1 << 20).unwrap();
        container.unmount("/data").unwrap();
        container.unmount("/data").unwrap();
    }
    assert_eq!(processes(), before);
}

#[test]
fn a_container_that_changes_the_destination_meanwhile_gains_nothing() {
    let stage = stage!();
    let shared = stage.open_directory("shared");
    let flip = "while :; do rm -rf /x; ln -s /proc /x; rm /x; mkdir -p /x/fs; done 2>/dev/null";
    let container = writable(&stage, "flip").args(["sh", "-c", flip]);
    let container = container.build().unwrap().create().unwrap().start().unwrap();
    let mut mounted = 0;
    for _ in 0..100 {
        mounted += u32::from(container.mount_bind_rw(&shared, "/x/fs").is_ok());
        assert!(!run(&container, "grep -q 'shared /proc' /proc/self/mountinfo").0, "not where the link led");
        let _ = container.unmount("/x/fs");
    }
    assert!(mounted > 0, "now and then it is the directory");
}

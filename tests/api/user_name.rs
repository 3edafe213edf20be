//! The workload's user by its name, from the container's own files.

#![expect(clippy::disallowed_methods, reason = "tests write plain files of their own")]

use crate::kit::{Stage, is_root, stage, stdout_of};
use cofferdam::{ContainerBuilder, Error, ErrorKind, Exec, Rootfs};
use std::path::PathBuf;

const SHOW: &str = "id -u; id -g; id -G; echo $HOME";

/// A root directory with these users and groups.
fn rootfs(stage: &Stage) -> PathBuf {
    let rootfs = stage.busybox();
    let passwd =
        "root:x:0:0::/root:\nweb:x:33:34::/srv:\nhigh:x:4000000000:0::/:\n1000:x:0:0::/:\nadmin:x:0:0::/:\n";
    std::fs::write(rootfs.join("etc/passwd"), passwd).unwrap();
    std::fs::write(rootfs.join("etc/group"), "www:x:35:web\nwheel:x:10:admin\n").unwrap();
    rootfs
}

fn refusal(builder: ContainerBuilder) -> Error {
    builder.run().unwrap_err()
}

#[test]
fn the_workload_is_the_user_that_the_containers_own_files_name() {
    let stage = stage!();
    let rootfs = rootfs(&stage);
    let show = || stage.shell("show", SHOW).rootfs(Rootfs::directory(&rootfs));
    if !is_root() {
        // A user without a range of ids has this one only, and may have no groups.
        assert_eq!(stdout_of(show().user_name("0").user(0, 0)), "0\n0\n0\n/root");
        let error = refusal(show().user_name("web"));
        assert!(error.to_string().contains("user_name: 33 is not mapped"), "{error}");
        assert_eq!(*error.kind(), ErrorKind::InvalidSpec { path: "process.user.uid".into() });
        return;
    }
    assert_eq!(stdout_of(show().user_name("web")), "33\n34\n34 35\n/srv");
    assert_eq!(stdout_of(show().user(7, 8).groups([9]).user_name("web")), "33\n34\n34 35\n/srv");
    assert_eq!(stdout_of(show().user_name("web").user(7, 8)), "7\n8\n8\n/", "the last call counts");
    assert_eq!(stdout_of(show().user_name("admin").without_user_namespace()), "0\n0\n0 10\n/root");
    let by_name = stage.shell("by-name", "read line </dev/stdin; echo $line >/dev/stdout").input("again");
    assert_eq!(stdout_of(by_name.rootfs(Rootfs::directory(&rootfs)).user_name("web")), "again");
    // A number is a uid, whatever names the image has.
    assert_eq!(stdout_of(show().user_name("1000")), "1000\n0\n0\n/");
    assert_eq!(stdout_of(show().user_name("33")), "33\n34\n34 35\n/srv");
}

#[test]
fn an_exec_without_a_user_is_the_workloads() {
    let stage = stage!();
    let rootfs = rootfs(&stage);
    let new = || stage.container("inherit").rootfs(Rootfs::directory(&rootfs)).args(["sleep", "1000"]);
    let container = new().user_name(if is_root() { "web" } else { "root" }).spawn().unwrap();
    let ids = |exec: Exec| String::from_utf8(container.exec_output(exec).unwrap().stdout).unwrap();
    let show = || Exec::new(["sh", "-c", SHOW]);
    if !is_root() {
        assert_eq!(ids(show()), "0\n0\n0\n/root\n");
        container.kill().unwrap().delete().unwrap();
        let error = refusal(new().user_name("admin"));
        assert!(error.to_string().contains("user_name.additionalGids[0]: 10 is not mapped"), "{error}");
        return;
    }
    assert_eq!(ids(show()), "33\n34\n34 35\n/srv\n");
    assert_eq!(ids(show().groups([36])), "33\n34\n34 36\n/srv\n");
    assert_eq!(ids(show().user(5, 6)), "5\n6\n6\n/\n");
    assert_eq!(ids(show().user_name("admin")), "0\n0\n0 10\n/root\n");
}

#[test]
fn a_user_that_cannot_be_is_refused_by_the_name_of_the_method() {
    let stage = stage!();
    let rootfs = rootfs(&stage);
    let new = || stage.container("refused").rootfs(Rootfs::directory(&rootfs)).args(["true"]);
    for neither in ["", "+1", "-1", "00", "01", "4294967296"] {
        let error = new().user_name(neither).build().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{neither}");
        let said = "ContainerBuilder::user_name: is neither a name nor a uid (write a uid in plain digits)";
        assert_eq!(error.to_string(), said);
    }
    let error = refusal(new().user_name("nobody-here"));
    assert_eq!(*error.kind(), ErrorKind::InvalidSpec { path: "process.user.username".into() });
    let said = "user_name: there is no user \"nobody-here\" in the container's /etc/passwd";
    assert!(error.to_string().ends_with(said), "{error}");
    let error = refusal(new().user_name("high"));
    assert!(error.to_string().contains("user_name: 4000000000 is not mapped"), "{error}");
    let error = new().user_name("4000000000").build().unwrap_err();
    assert!(error.to_string().contains("user_name: 4000000000 is not mapped"), "{error}");
    // Whose files these are decides the user, who is not known yet.
    let shared = stage.open_directory("shared");
    let error = new().user_name("web").bind_rw(&shared, "/shared").build().unwrap_err();
    assert!(error.to_string().contains("bind_rw(\"/shared\")"), "{error}");
    let error = new().user_name("web").to_bundle(stage.path().join("bundle")).unwrap_err();
    assert_eq!(error.to_string(), "user_name: a bundle names its user by ids (call user() instead)");
    // A FIFO in place of the file is no file, and nothing waits for its writer.
    std::fs::remove_file(rootfs.join("etc/passwd")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, rootfs.join("etc/passwd"), rustix::fs::Mode::from_raw_mode(0o666))
        .unwrap();
    let error = refusal(new().user_name("web"));
    assert!(error.to_string().contains("there is no user \"web\""), "{error}");
}

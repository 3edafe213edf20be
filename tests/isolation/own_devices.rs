//! Null, zero and the other memory devices: what a process of a container has open is the container's own, opened by
//! itself, and never the host's.

use crate::kit::{Stage, is_root, skip, stage, start, stdout_of};
use cofferdam::builder::HookKind;
use cofferdam::oci_spec::runtime::{Capability, HookBuilder};
use cofferdam::{Container, ContainerBuilder, Exec, Running, Stdio};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;

/// The memory devices of the host.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// Device and inode of a file.
fn identity(path: &str) -> (u64, u64) {
    let file = std::fs::metadata(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    (file.dev(), file.ino())
}

/// The descriptors of every process in the pid namespace of this container that lead to a device of the host.
fn of_the_host(container: &Container<Running>) -> Vec<String> {
    let host = DEVICES.map(|name| identity(&format!("/dev/{name}")));
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = namespace(&container.init_pid().to_string());
    let mut found = Vec::new();
    let mut processes = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if own.is_none() || namespace(&pid) != own {
            continue;
        }
        processes += 1;
        for fd in std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten() {
            let Ok(file) = std::fs::metadata(fd.path()) else { continue };
            if host.contains(&(file.dev(), file.ino())) {
                found.push(format!("{}: {}", pid, fd.path().display()));
            }
        }
    }
    assert!(processes > 0, "the container has a process");
    found
}

fn sleeping(stage: &Stage, name: &str) -> ContainerBuilder {
    stage.busybox_shell(name, "exec sleep 1000")
}

fn open(device: &str) -> File {
    File::options().read(true).write(true).open(format!("/dev/{device}")).unwrap()
}

/// Every way by which a device of the host is offered to a process.
fn offered(exec: Exec) -> [Exec; 2] {
    let given = Exec::new(["sleep", "1000"]).stdin(Stdio::fd(open("null"))).stdout(Stdio::fd(open("zero")));
    [exec, given.stderr(Stdio::fd(open("urandom"))).fd(7, open("null")).fd(9, open("full"))]
}

#[test]
fn no_descriptor_of_a_process_leads_to_a_device_of_the_host() {
    let stage = stage!();
    if !is_root() {
        skip!("in a user namespace the container's nodes are binds of the host's, which it cannot change");
    }
    stage.open_to_everybody();
    let out = stage.open_directory("out");
    let look = "for fd in /proc/self/fd/*; do stat -L -c '%d %i' $fd; done >/out/hook 2>/dev/null; true";
    let hook = HookBuilder::default().path("/bin/sh").args(["sh", "-c", look].map(str::to_owned));
    let plain = sleeping(&stage, "plain").bind_rw(&out, "/out");
    let plain = plain.hook(HookKind::StartContainer, hook.build().unwrap());
    let given = sleeping(&stage, "given").stdin(Stdio::fd(open("null"))).stdout(Stdio::fd(open("random")));
    let given = given.fd(5, open("null")).fd(3, open("zero"));
    for builder in [plain, given] {
        let container = start(builder.without_user_namespace());
        for exec in offered(Exec::new(["sleep", "1000"])) {
            container.exec(exec).unwrap();
        }
        assert_eq!(of_the_host(&container), Vec::<String>::new());
        container.kill().unwrap().delete().unwrap();
    }
    let seen = std::fs::read_to_string(out.join("hook")).unwrap();
    let null = identity("/dev/null");
    assert!(seen.lines().count() >= 3 && !seen.contains(&format!("{} {}\n", null.0, null.1)), "{seen}");
}

#[test]
fn the_devices_that_a_process_gets_are_those_it_was_given_in_place_of() {
    let stage = stage!();
    let script = "for fd in 0 3 5; do stat -L -c '%t:%T' /proc/self/fd/$fd; done; head -c 3 <&3 | wc -c; cat; \
                  ls /proc/$$/fd; readlink /proc/self/fd/0";
    let builder = stage.busybox_shell("devices", script).fd(3, open("zero")).fd(5, open("urandom"));
    let expected = "1:3\n1:5\n1:9\n3\n0\n1\n2\n3\n5\n/dev/null";
    assert_eq!(stdout_of(builder), expected);
    let container = start(sleeping(&stage, "exec"));
    let exec = Exec::new(["sh", "-c", script]).fd(3, open("zero")).fd(5, open("urandom"));
    let output = container.exec_output(exec).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), expected);
}

fn modes() -> [u32; 5] {
    DEVICES.map(|name| std::fs::metadata(format!("/dev/{name}")).unwrap().permissions().mode())
}

/// The modes of the host's devices. Sets them again in the end, should a container have changed them.
struct Restored([u32; 5]);

impl Drop for Restored {
    fn drop(&mut self) {
        for (name, mode) in DEVICES.iter().zip(self.0) {
            let _ = std::fs::set_permissions(format!("/dev/{name}"), PermissionsExt::from_mode(mode));
        }
    }
}

/// Changes the mode of what it has open, in a way that does the host no harm.
const CHANGE: &str =
    "for file in /proc/self/fd/[0-9] $FILES; do chmod 0667 $file; done 2>/dev/null; touch /dev/null; true";

#[test]
fn a_container_cannot_change_a_device_of_the_host_through_its_descriptors() {
    let stage = stage!();
    let before = Restored(modes());
    let variants: &[fn(ContainerBuilder) -> ContainerBuilder] = if is_root() {
        &[|builder| builder, |builder| builder.without_user_namespace()]
    } else {
        &[|builder| builder]
    };
    for variant in variants {
        let capabilities = || [Capability::Fowner, Capability::DacOverride].into();
        let builder = || variant(stage.busybox_shell("changes", CHANGE).grant_capabilities(capabilities()));
        builder().run().unwrap();
        let given = builder().stdin(Stdio::fd(open("null"))).stdout(Stdio::fd(open("zero")));
        given.stderr(Stdio::fd(open("full"))).fd(3, open("random")).run().unwrap();
        let container = start(variant(sleeping(&stage, "exec").grant_capabilities(capabilities())));
        for exec in [Exec::new(["sh", "-c", CHANGE]), Exec::new(["sh", "-c", CHANGE]).fd(3, open("null"))] {
            assert!(container.exec(exec).unwrap().wait().unwrap().outcome.success());
        }
        container.kill().unwrap().delete().unwrap();
        assert_eq!(modes(), before.0);
    }
}

#[test]
fn not_even_a_container_with_the_hosts_root_in_its_user_namespace_changes_a_device_that_is_bound() {
    let stage = stage!();
    if !is_root() {
        skip!("only root may map the host's uid 0");
    }
    let before = Restored(modes());
    let builder = stage.busybox_shell("template", CHANGE).env("FILES", "/dev/null /dev/zero /dev/tty");
    let bundle = stage.write_bundle("bundle", builder, |config| {
        for maps in ["uidMappings", "gidMappings"] {
            config["linux"][maps] = serde_json::json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        }
    });
    stage.bundled("mapped", &bundle).unwrap().run().unwrap();
    assert_eq!(modes(), before.0);
}

#[test]
fn two_processes_never_share_one_open_null() {
    let stage = stage!();
    let (one, other) = (start(sleeping(&stage, "one")), start(sleeping(&stage, "other")));
    let executed: Vec<_> = [&one, &one, &other]
        .into_iter()
        .map(|container| container.exec(Exec::new(["sleep", "1000"])).unwrap())
        .collect();
    let inits = [one.init_pid(), other.init_pid()];
    let pids: Vec<i32> = inits.into_iter().chain(executed.iter().map(|process| process.id())).collect();
    for (index, pid) in pids.iter().enumerate() {
        assert!(is_same_description(*pid, *pid), "kcmp(2) works");
        for another in &pids[index + 1..] {
            assert!(!is_same_description(*pid, *another), "{pid} and {another}");
        }
    }
}

/// Whether standard input of two processes is one open file description.
#[expect(unsafe_code, reason = "no crate here has kcmp(2)")]
fn is_same_description(one: i32, other: i32) -> bool {
    const KCMP_FILE: i32 = 0;
    // SAFETY: the call takes integers only.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_FILE, 0_u64, 0_u64) };
    assert!(order >= 0, "kcmp(2): {}", std::io::Error::last_os_error());
    order == 0
}

#[test]
fn a_null_that_the_container_replaced_is_not_opened_for_it() {
    let stage = stage!();
    let script = "rm -f /dev/null /dev/zero; echo planted >/dev/null; exec sleep 1000";
    let builder =
        stage.busybox_shell("replaces", script).grant_capabilities([Capability::DacOverride].into());
    let builder = if is_root() { builder.without_user_namespace() } else { builder };
    let container = start(builder);
    let look = Exec::new(["sh", "-c", "stat -L -c '%t:%T' /proc/self/fd/0; cat; echo written >&2"]);
    let output = container.exec_output(look).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1:3\n");
    if is_root() {
        let error = container.exec(Exec::new(["true"]).stdin(Stdio::fd(open("zero")))).unwrap_err();
        assert!(error.to_string().contains("/dev/zero is another file"), "{error}");
        assert_eq!(of_the_host(&container), Vec::<String>::new());
    }
}

//! `mounts`.

use crate::bad_input::Change::{Builder, Config};
use crate::bad_input::{Row, row, spec, unsupported};
use cofferdam::ErrorKind;
use serde_json::{Value, json};
use std::os::unix::fs::symlink;

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Vec<(&'static str, Value)> {
    vec![(
        "/mounts/-",
        json!({"destination": destination, "type": kind, "source": source, "options": options}),
    )]
}

pub(crate) fn rows_of_mounts() -> Vec<Row> {
    vec![
        spec(
            Builder(|builder, place| builder.bind_ro(place.path().join("absent"), "/tmp")),
            "mounts[6].source",
            "builder: bind_ro(\"/tmp\").source: DIR/absent: No such file or directory",
        ),
        spec(
            Builder(|builder, _| builder.bind_rw("/usr", "data")),
            "mounts[7].destination",
            "builder: bind_rw(\"data\").destination: \"data\" is relative (use an absolute path)",
        ),
        spec(
            Builder(|builder, _| builder.tmpfs("/a/../b", 4096)),
            "mounts[7].destination",
            "builder: tmpfs(\"/a/../b\").destination: \"/a/../b\" contains \"..\"",
        ),
        row(
            Builder(|builder, place| builder.bind_ro(place.rootfs().join("bin/busybox"), "/etc")),
            ErrorKind::Os(libc::EISDIR),
            "init: bind_ro(\"/etc\"): etc: is a directory",
        ),
        row(
            Builder(|builder, place| builder.bind_ro(place.rootfs().join("etc"), "/bin/busybox")),
            ErrorKind::Os(libc::ENOTDIR),
            "init: bind_ro(\"/bin/busybox\"): bin/busybox: is not a directory",
        ),
        spec(
            Config(|| mount("/a/../../b", "tmpfs", "tmpfs", &[])),
            "mounts[1].destination",
            "config.json: mounts[1].destination: \"/a/../../b\" contains \"..\"",
        ),
        spec(
            Config(|| mount("data", "tmpfs", "tmpfs", &[])),
            "mounts[1].destination",
            "config.json: mounts[1].destination: \"data\" is relative (use an absolute path)",
        ),
        row(
            Builder(|builder, place| {
                symlink("mnt", place.rootfs().join("mnt")).unwrap();
                builder.tmpfs("/mnt", 4096)
            }),
            ErrorKind::Os(libc::ELOOP),
            "init: tmpfs(\"/mnt\"): openat2(rootfs, \"mnt\"): ELOOP: Too many symbolic links encountered",
        ),
        row(
            Builder(|builder, _| builder.writable_rootfs().tmpfs("/bin/busybox/deep", 4096)),
            ErrorKind::Os(libc::ENOTDIR),
            "init: tmpfs(\"/bin/busybox/deep\"): openat2(rootfs, \"bin/busybox/deep\"): ENOTDIR: Not a directory",
        ),
        unsupported(
            Config(|| mount("/tmp", "tankfs", "tank", &[])),
            "mounts[1].type",
            "mounts[1].type: this kernel knows no file system \"tankfs\"",
        ),
        spec(
            Config(|| mount("/tmp", "tmpfs", "tmpfs", &["fast"])),
            "mounts[1].options[0]",
            "config.json: mounts[1].options[0]: unknown option \"fast\"",
        ),
        spec(
            Config(|| mount("/tmp", "bind", "/usr", &["rbind", "r0"])),
            "mounts[1].options[1]",
            "config.json: mounts[1].options[1]: unknown option \"r0\"",
        ),
        spec(
            Config(|| mount("/tmp", "tmpfs", &"x".repeat(256), &[])),
            "mounts[1].source",
            "config.json: mounts[1].source: is 256 bytes long, the limit is 255",
        ),
        spec(
            Config(|| mount("/tmp", "tmpfs", "tmpfs", &["size=lots"])),
            "mounts[1].options[0]",
            "config.json: mounts[1].options[0]: \"size=lots\" has a bad value",
        ),
        spec(
            Config(|| mount("/tmp", "tmpfs", "tmpfs", &["size=-1"])),
            "mounts[1].options[0]",
            "config.json: mounts[1].options[0]: \"size=-1\" has a bad value",
        ),
        unsupported(
            Config(|| mount("/", "tmpfs", "tmpfs", &[])),
            "mounts[1].destination",
            "mounts[1].destination: mounting over the root itself",
        ),
        spec(
            Config(|| vec![("/linux/maskedPaths", json!(["proc/kcore"]))]),
            "linux.maskedPaths[0]",
            "config.json: linux.maskedPaths[0]: \"proc/kcore\" is relative (use an absolute path)",
        ),
    ]
}

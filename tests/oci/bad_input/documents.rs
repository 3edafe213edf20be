//! Ids, and documents that cannot be read.

use crate::bad_input::Change::{Builder, Bundle, Config};
use crate::bad_input::{Row, mkfifo, replace_config, row, spec};
use crate::kit::place::Place;
use cofferdam::{ContainerBuilder, ErrorKind};
use serde_json::{Value, json};
use std::os::unix::fs::symlink;

pub(crate) fn rows_of_ids() -> Vec<Row> {
    let id = |make: fn(ContainerBuilder, &Place) -> ContainerBuilder, message| {
        row(Builder(make), ErrorKind::InvalidId, message)
    };
    vec![
        id(|_, place| ContainerBuilder::new().id("").state_root(place.state()), "container id: is empty"),
        id(
            |_, place| ContainerBuilder::new().id("../up").state_root(place.state()),
            "container id: \"../up\" starts with \".\"",
        ),
        id(
            |_, place| ContainerBuilder::new().id("-rf").state_root(place.state()),
            "container id: \"-rf\" starts with \"-\"",
        ),
        id(
            |_, place| ContainerBuilder::new().id("a/b").state_root(place.state()),
            "container id: \"a/b\" contains '/', allowed are A-Z a-z 0-9 _ + . -",
        ),
        id(
            |_, place| ContainerBuilder::new().id("a\0b").state_root(place.state()),
            "container id: \"a\\0b\" contains '\\0', allowed are A-Z a-z 0-9 _ + . -",
        ),
        id(
            |_, place| ContainerBuilder::new().id("x".repeat(256)).state_root(place.state()),
            "container id: is 256 bytes long, the limit is 255",
        ),
    ]
}

pub(crate) fn rows_of_documents() -> Vec<Row> {
    vec![
        row(
            Bundle(|place| std::fs::remove_file(place.path().join("config.json")).unwrap()),
            ErrorKind::Os(libc::ENOENT),
            "open(\"DIR/config.json\"): ENOENT: No such file or directory",
        ),
        spec(Bundle(|place| replace_config(place, b"")), "", "config.json: is empty"),
        spec(
            Bundle(|place| {
                let whole = std::fs::read(place.path().join("config.json")).unwrap();
                replace_config(place, &whole[..20]);
            }),
            "",
            "config.json: ends early, at line 1 column 20",
        ),
        spec(
            Bundle(|place| replace_config(place, format!("{{\"a\": {}", "[".repeat(70)).as_bytes())),
            &format!("a{}", "[0]".repeat(63)),
            "config.json: a[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]: is nested deeper than 64 levels",
        ),
        spec(
            Bundle(|place| replace_config(place, &vec![b' '; (16 << 20) + 1])),
            "",
            "config.json: is 16777217 bytes long, the limit is 16777216",
        ),
        spec(
            Bundle(|place| replace_config(place, b"{\"process\": {\"cwd\": \"/\", \"cwd\": \"/tmp\"}}")),
            "process.cwd",
            "config.json: process.cwd: appears twice",
        ),
        spec(
            Bundle(|place| replace_config(place, b"{\"a\": \"\xff\"}")),
            "",
            "config.json: is not UTF-8 at byte 7",
        ),
        spec(
            Bundle(|place| {
                std::fs::remove_file(place.path().join("config.json")).unwrap();
                mkfifo(&place.path().join("config.json"));
            }),
            "",
            "config.json: is not a regular file",
        ),
        spec(
            Bundle(|place| {
                std::fs::remove_file(place.path().join("config.json")).unwrap();
                std::fs::create_dir(place.path().join("config.json")).unwrap();
            }),
            "",
            "config.json: is not a regular file",
        ),
        spec(
            Config(|| vec![("/ociVersion", json!("2.1.0"))]),
            "ociVersion",
            "config.json: ociVersion: \"2.1.0\" is not supported (supported is 1.0.0 up to, but not including, 2.0.0)",
        ),
        spec(Config(|| vec![("/root", Value::Null)]), "root", "config.json: root: is missing"),
        spec(
            Config(|| vec![("/root/path", json!("nowhere"))]),
            "root.path",
            "config.json: root.path: DIR/nowhere: No such file or directory",
        ),
        spec(
            Config(|| vec![("/root/path", json!("rootfs/bin/busybox"))]),
            "root.path",
            "config.json: root.path: DIR/rootfs/bin/busybox: Not a directory",
        ),
        spec(
            Bundle(|place| {
                std::fs::rename(place.rootfs(), place.path().join("real")).unwrap();
                symlink("gone", place.rootfs()).unwrap();
            }),
            "root.path",
            "config.json: root.path: DIR/rootfs: No such file or directory",
        ),
        spec(
            Builder(|builder, _| builder.rootfs(cofferdam::Rootfs::directory(""))),
            "root.path",
            "builder: rootfs: is empty",
        ),
        spec(
            Config(|| vec![("/cofferdam", json!({"timeoutMs": "soon"}))]),
            "cofferdam.timeoutMs",
            "config.json: cofferdam.timeoutMs: expected an integer, found a string",
        ),
        spec(
            Config(|| vec![("/cofferdam", json!({"timeoutMs": 0}))]),
            "cofferdam.timeoutMs",
            "config.json: cofferdam.timeoutMs: invalid value: integer `0`, expected a nonzero u64",
        ),
        spec(
            Config(|| vec![("/cofferdam", json!({"timeout": 7}))]),
            "cofferdam",
            "config.json: cofferdam: unknown field `timeout`, expected one of `scratch`, `idmappedRootfs`, `timeoutMs`, `keepCallerGroups`, `withoutCgroup`, `init`",
        ),
    ]
}

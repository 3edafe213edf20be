//! The table of refusals: a change to a valid document, and the exact text of the error.

use super::*;
use crate::error::ErrorKind;
use RefusalKind::{Invalid, Unsupported};
use serde_json::json;

/// Which [`ErrorKind`] the error has; both name the path.
#[derive(Clone, Copy)]
enum RefusalKind {
    Invalid,
    Unsupported,
}

fn assert_refused(document: &[u8], case: &str, refusal_kind: RefusalKind, path: &str, problem: &str) {
    let error = check(document).expect_err(case);
    let separator = if path.is_empty() { "" } else { ": " };
    assert_eq!(error.to_string(), format!("config.json: {path}{separator}{problem}"), "{case}");
    let kind = match refusal_kind {
        Invalid => ErrorKind::InvalidSpec { path: path.into() },
        Unsupported => ErrorKind::Unsupported { feature: path.into() },
    };
    assert_eq!(*error.kind(), kind, "{case}");
}

/// `POINTER JSON`, then `KIND FIELD: PROBLEM` on a line of its own.
const TABLE: &str = include_str!("refusals.txt");

#[test]
fn every_row_of_the_table_is_refused_in_its_words() {
    let mut lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    while let Some(change) = lines.next() {
        let (pointer, json) = change.split_once(' ').expect(change);
        let value = serde_json::from_str(json).expect(change);
        let refusal = lines.next().expect(change).trim_start();
        let (kind, message) = refusal.split_once(' ').expect(refusal);
        let refusal_kind = match kind {
            "Invalid" => Invalid,
            "Unsupported" => Unsupported,
            other => panic!("{other} is no kind"),
        };
        let (path, problem) = message.split_once(": ").expect(refusal);
        assert_refused(&patched(RUNC, &[(pointer, value)]), change, refusal_kind, path, problem);
    }
}

#[test]
fn bytes_that_are_no_document_are_refused() {
    let deep = "[".repeat(MAX_CONFIG_DEPTH + 1);
    let deep_path = "[0]".repeat(MAX_CONFIG_DEPTH);
    let deep_object = format!("{{\"a\": {}", "{\"b\":".repeat(MAX_CONFIG_DEPTH));
    let deep_object_path = format!("a{}", ".b".repeat(MAX_CONFIG_DEPTH - 1));
    let big = vec![b' '; MAX_CONFIG_BYTES + 1];
    let rows: &[(&[u8], &str, &str)] = &[
        (b"", "", "is empty"),
        (b" \n", "", "is empty"),
        (&big, "", "is 16777217 bytes long, the limit is 16777216"),
        (b"{\"a\": \"\xff\"}", "", "is not UTF-8 at byte 7"),
        (b"{\"a\":\n \"b", "", "ends early, at line 2 column 3"),
        (b"{\"a\": 1,}", "", "is not JSON: trailing comma at line 1 column 9"),
        (b"{} x", "", "is not JSON: trailing characters at line 1 column 4"),
        (b"[]", "", "expected an object, found an array"),
        (deep.as_bytes(), &deep_path, "is nested deeper than 64 levels"),
        (deep_object.as_bytes(), &deep_object_path, "is nested deeper than 64 levels"),
        (b"{\"process\": {\"args\": [], \"args\": []}}", "process.args", "appears twice"),
        (b"{\"mounts\": [{}, {\"a b\": 1, \"a b\": 2}]}", "mounts[1][\"a b\"]", "appears twice"),
        (b"{\"x\": 1, \"x\": 1}", "x", "appears twice"),
    ];
    for (bytes, path, problem) in rows {
        assert_refused(bytes, problem, Invalid, path, problem);
    }
}

#[test]
fn ids_must_be_mapped_and_mappings_must_be_sound() {
    let most: Vec<_> = (0..341).map(|n| json!({"containerID": n, "hostID": n, "size": 1})).collect();
    let map = |container: u32, host: u32, size: u32| json!({"containerID": container, "hostID": host, "size": size});
    let rows: &[(&str, Value, &str, &str)] = &[
        (
            "/process/user/uid",
            json!(10),
            "process.user.uid",
            "10 is not mapped (add it to linux.uidMappings)",
        ),
        (
            "/process/user/gid",
            json!(10),
            "process.user.gid",
            "10 is not mapped (add it to linux.gidMappings)",
        ),
        (
            "/process/user/additionalGids",
            json!([1, 10]),
            "process.user.additionalGids[1]",
            "10 is not mapped (add it to linux.gidMappings)",
        ),
        (
            "/process/user/additionalGids",
            json!(vec![1; 65_537]),
            "process.user.additionalGids",
            "65537 groups; a process has at most 65536",
        ),
        ("/linux/gidMappings", json!([]), "linux.gidMappings", "is empty, and a new user namespace needs it"),
        ("/linux/uidMappings/0/size", json!(0), "linux.uidMappings[0].size", "is 0"),
        (
            "/linux/uidMappings",
            json!([map(0, u32::MAX, 1)]),
            "linux.uidMappings[0].size",
            "hostID plus size is above 4294967295",
        ),
        (
            "/linux/uidMappings",
            json!([map(0, 0, 10), map(9, 20, 1)]),
            "linux.uidMappings[1].containerID",
            "overlaps the range of entry 0",
        ),
        (
            "/linux/uidMappings",
            json!([map(0, 0, 10), map(10, 5, 1)]),
            "linux.uidMappings[1].hostID",
            "overlaps the range of entry 0",
        ),
        ("/linux/uidMappings", json!(most), "linux.uidMappings", "has 341 entries, the limit is 340"),
    ];
    for (pointer, value, path, problem) in rows {
        let document = patched(
            RUNC,
            &[
                ("/linux/namespaces/-", json!({"type": "user"})),
                ("/linux/uidMappings", json!([map(0, 100_000, 10)])),
                ("/linux/gidMappings", json!([map(0, 100_000, 10)])),
                (pointer, value.clone()),
            ],
        );
        assert_refused(&document, pointer, Invalid, path, problem);
    }
}

#[test]
fn a_sysctl_needs_the_namespace_it_belongs_to() {
    for (name, kind) in [
        ("net.ipv4.ip_forward", "network"),
        ("kernel.shmmax", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
        ("kernel.domainname", "uts"),
    ] {
        let host = [
            ("/linux/namespaces", json!([{"type": "mount"}])),
            ("/hostname", json!("")),
            ("/linux/sysctl", json!({name: "1"})),
        ];
        let problem =
            format!("needs its own {kind} namespace (add {{\"type\": \"{kind}\"}} to linux.namespaces)");
        let path = format!("linux.sysctl[\"{name}\"]");
        assert_refused(&patched(RUNC, &host), name, Invalid, &path, &problem);
        check(&patched(RUNC, &[host[2].clone()])).unwrap();
    }
}

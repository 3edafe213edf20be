//! What rules come to, and what each version of the interface is told, without a kernel.

use super::*;
use crate::plan::cgroup::{PlannedWrite, Value};
use DeviceRuleKind::{All, Block, Char};

fn rule(
    allow: bool,
    kind: DeviceRuleKind,
    major: Option<u32>,
    minor: Option<u32>,
    access: &str,
) -> DeviceRule {
    let letters = [('r', DeviceAccess::READ), ('w', DeviceAccess::WRITE), ('m', DeviceAccess::MKNOD)];
    let access = letters.into_iter().filter(|(letter, _)| access.contains(*letter)).map(|(_, access)| access);
    DeviceRule { allow, kind, major, minor, access: access.collect() }
}

fn deny_all() -> DeviceRule {
    rule(false, All, None, None, "rwm")
}

fn allow_all() -> DeviceRule {
    rule(true, All, None, None, "rwm")
}

fn limits(rules: &[DeviceRule]) -> DeviceLimits {
    DeviceLimits { entries: settled(rules), required: true }
}

/// What is written on v1, line by line.
fn lines(rules: &[DeviceRule]) -> Result<Vec<String>> {
    let line = |write: PlannedWrite| match write.value {
        Value::Text(text) => format!("{} {text}", write.file),
        other => panic!("{other:?}"),
    };
    Ok(limits(rules).v1_writes()?.into_iter().map(line).collect())
}

/// The same, but for what every container is allowed.
fn written(rules: &[DeviceRule]) -> Result<Vec<String>> {
    let always = lines(&[deny_all()])?;
    Ok(lines(rules)?.into_iter().filter(|line| !always[1..].contains(line)).collect())
}

#[test]
fn a_list_of_what_is_allowed_is_written_as_such() {
    // As docker 20.10 writes them.
    let docker = [
        deny_all(),
        rule(true, Char, Some(1), Some(5), "rwm"),
        rule(true, Char, Some(1), Some(3), "rwm"),
        rule(true, Char, Some(1), Some(9), "rwm"),
        rule(true, Char, Some(1), Some(8), "rwm"),
        rule(true, Char, Some(5), Some(0), "rwm"),
        rule(true, Char, Some(5), Some(1), "rwm"),
        rule(false, Char, Some(10), Some(229), "rwm"),
    ];
    assert_eq!(written(&docker).unwrap(), ["devices.deny a"]);
    let fuse = rule(true, Char, Some(10), Some(229), "rwm");
    let disks = rule(true, Block, Some(8), None, "r");
    // Denied to begin with, whether a rule says so or not.
    for rules in [&[deny_all(), fuse, disks][..], &[fuse, disks]] {
        let expected = ["devices.deny a", "devices.allow b 8:* rm", "devices.allow c 10:229 rwm"];
        assert_eq!(written(rules).unwrap(), expected);
    }
}

#[test]
fn later_rules_win() {
    let fuse = |allow| rule(allow, Char, Some(10), Some(229), "rw");
    assert_eq!(written(&[fuse(true), fuse(false)]).unwrap(), ["devices.deny a"]);
    assert_eq!(written(&[fuse(true), deny_all()]).unwrap(), ["devices.deny a"]);
    let half = rule(false, Char, Some(10), Some(229), "w");
    assert_eq!(written(&[fuse(true), half]).unwrap(), ["devices.deny a", "devices.allow c 10:229 rm"]);
}

#[test]
fn a_list_of_what_is_denied_is_written_as_such() {
    let kernel_log = rule(false, Char, Some(1), Some(11), "rw");
    assert_eq!(
        written(&[allow_all(), kernel_log]).unwrap(),
        ["devices.allow a", "devices.deny c 1:11 rw"],
        "and what every container is allowed is no exception"
    );
}

#[test]
fn rules_that_deny_nothing_are_none() {
    for rules in
        [&[deny_all(), allow_all()][..], &[allow_all()], &[allow_all(), rule(false, All, None, None, "m")]]
    {
        assert!(settled(rules).iter().all(|entry| entry.allow), "{rules:?}");
    }
    assert!(settled(&[allow_all(), rule(false, Block, None, None, "r")]).iter().any(|entry| !entry.allow));
}

#[test]
fn v1_refuses_an_exception_from_an_exception() {
    let all_of_memory = rule(true, Char, Some(1), None, "rw");
    let kernel_log = rule(false, Char, Some(1), Some(11), "r");
    let error = written(&[deny_all(), all_of_memory, kernel_log]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "linux.resources.devices: cgroup v1 cannot allow \"c 1:*\" but deny \"c 1:11\" of it \
         (leave out the rule for the larger set, and list what is meant of it)"
    );
    // The same, but taken back.
    let log_after_all = rule(true, Char, Some(1), Some(11), "r");
    assert!(written(&[deny_all(), all_of_memory, kernel_log, log_after_all]).is_ok());
}

#[test]
fn on_v1_one_exception_allows_what_several_do_together() {
    let rules = [
        rule(true, Block, Some(8), None, "r"),
        rule(true, Block, None, Some(1), "w"),
        rule(true, Block, Some(9), Some(1), "r"),
    ];
    let expected = [
        "devices.deny a",
        "devices.allow b *:1 wm",
        "devices.allow b 8:* rm",
        "devices.allow b 8:1 rwm",
        "devices.allow b 9:1 rwm",
    ];
    assert_eq!(written(&rules).unwrap(), expected);
}

//! What rules allow, and how each version of the interface spells them, without a kernel.

mod against_a_linear_reading;

use super::interpret::Access;
use super::program::{Instruction, JUMP_IF_AT_LEAST};
use super::*;
use crate::plan::cgroup::{PlannedWrite, Value};
use DeviceRuleKind::{All, Block, Char};

fn access(letters: &str) -> DeviceAccess {
    let known = [('r', DeviceAccess::READ), ('w', DeviceAccess::WRITE), ('m', DeviceAccess::MKNOD)];
    known.into_iter().filter(|(letter, _)| letters.contains(*letter)).map(|(_, access)| access).collect()
}

fn rule(
    allow: bool,
    kind: DeviceRuleKind,
    major: Option<u32>,
    minor: Option<u32>,
    letters: &str,
) -> DeviceRule {
    DeviceRule { allow, kind, major, minor, access: access(letters) }
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

/// The writes on v1, one line each.
fn lines(rules: &[DeviceRule]) -> Result<Vec<String>> {
    let line = |write: PlannedWrite| match write.value {
        Value::Text(text) => format!("{} {text}", write.file),
        other => panic!("{other:?}"),
    };
    Ok(limits(rules).v1_writes()?.into_iter().map(line).collect())
}

/// The same without the devices that every container may use.
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
         (replace the rule for the larger set by rules for the devices that it is meant for)"
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

fn allows(program: &DeviceProgram, kind: Kind, (major, minor): (u32, u32), access: DeviceAccess) -> bool {
    program.run(Access { kind: kind as u32, access: access.bits().into(), major, minor }).0
}

#[test]
fn on_v2_the_program_of_an_engine_is_short_and_says_what_the_rules_say() {
    let rules = [deny_all(), rule(true, Char, Some(10), Some(229), "rw"), rule(true, Block, None, None, "r")];
    let program = limits(&rules).v2_program().unwrap();
    program.check();
    assert!(program.0.len() < 60, "{} instructions", program.0.len());
    let (r, w, m) = (DeviceAccess::READ, DeviceAccess::WRITE, DeviceAccess::MKNOD);
    for (kind, number, access, allowed) in [
        (Kind::Char, (1, 3), r | w | m, true),
        (Kind::Char, (1, 4), r, false),
        (Kind::Char, (1, 4), m, true),
        (Kind::Char, (136, u32::MAX), r | w, true),
        (Kind::Char, (10, 229), r | w, true),
        (Kind::Char, (10, 230), w, false),
        (Kind::Block, (8, 0), r, true),
        (Kind::Block, (8, 0), r | w, false),
    ] {
        assert_eq!(allows(&program, kind, number, access), allowed, "{kind:?} {number:?} {access:?}");
    }
    assert!(!program.run(Access { kind: 3, access: 1, major: 1, minor: 3 }).0, "a type there is not");
    assert!(!program.run(Access { kind: 2, access: 8, major: 1, minor: 4 }).0, "a use there is not");
}

#[test]
fn the_longest_list_makes_a_program_whose_jumps_reach() {
    // Of every other number, so that each makes two ranges.
    let spread =
        |rules: u32| (0..rules).map(|at| rule(true, Char, Some(200 + at / 50), Some(2 * (at % 50)), "r"));
    let rules: Vec<DeviceRule> = std::iter::once(deny_all()).chain(spread(3900)).collect();
    let program = limits(&rules).v2_program().unwrap();
    program.check();
    assert!(allows(&program, Kind::Char, (277, 98), DeviceAccess::READ));
    assert!(!allows(&program, Kind::Char, (277, 97), DeviceAccess::READ));
    let (_, steps) = program.run(Access { kind: 2, access: 2, major: 277, minor: 98 });
    assert!(steps < 50, "{steps} steps");

    // Every major number with all the minor ones, and one of its own.
    let crossed = (0..200).flat_map(|at| {
        [rule(true, Char, None, Some(2 * at), "w"), rule(true, Char, Some(300 + at), Some(1000 + at), "r")]
    });
    let error = limits(&crossed.collect::<Vec<_>>()).v2_program().map(drop).unwrap_err();
    assert!(error.to_string().starts_with("linux.resources.devices: they distinguish "), "{error}");
}

#[test]
fn an_instruction_travels_as_a_number() {
    let instruction =
        Instruction { code: JUMP_IF_AT_LEAST, register: 3, source: 5, offset: -2, immediate: u32::MAX - 7 };
    assert_eq!(Instruction::from(u64::from(instruction)), instruction);
    let program = limits(&[deny_all()]).v2_program().unwrap();
    assert_eq!(program.bytes().len(), 8 * program.0.len());
    let text = serde_json::to_string(&program).unwrap();
    assert_eq!(serde_json::from_str::<DeviceProgram>(&text).unwrap(), program);
}

#[test]
fn rules_may_be_moot_for_a_container_and_not_for_what_is_executed_in_it() {
    let config = |capabilities: serde_json::Value, user: bool| {
        let mut namespaces = vec![serde_json::json!({"type": "mount"})];
        namespaces.extend(user.then(|| serde_json::json!({"type": "user"})));
        let ids = serde_json::json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
        let ids = if user { ids } else { serde_json::json!([]) };
        let config = serde_json::json!({
            "ociVersion": "1.2.0",
            "root": {"path": "/x"},
            "process": {"args": ["x"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "capabilities": capabilities},
            "linux": {"namespaces": namespaces, "uidMappings": ids, "gidMappings": ids,
                      "resources": {"devices": [{"allow": false, "access": "rwm"}]}},
        });
        let spec: oci_spec::runtime::Spec = crate::spec::parse(config.to_string().as_bytes()).unwrap();
        ValidSpec::new(&spec, Some(std::path::Path::new("/x")), crate::spec::Origin::ConfigJson).unwrap()
    };
    let none = serde_json::json!({});
    for set in ["bounding", "permitted", "inheritable"] {
        let makes = config(serde_json::json!({set: ["CAP_MKNOD"]}), false);
        let spec = config(none.clone(), false);
        assert!(DeviceLimits::of(&makes, false).unwrap().required, "{set}");
        assert!(!DeviceLimits::of(&spec, false).unwrap().required);
        assert!(DeviceLimits::of_exec(&makes.process, &spec, false).is_some(), "{set}");
        assert!(DeviceLimits::of_exec(&makes.process, &spec, true).is_none(), "in a user namespace");
        assert!(DeviceLimits::of_exec(&makes.process, &config(none.clone(), true), false).is_none());
        assert!(DeviceLimits::of_exec(&spec.process, &spec, false).is_none());
        assert!(DeviceLimits::of_exec(&makes.process, &makes, false).is_none(), "enforced for sure");
    }
}

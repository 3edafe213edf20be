//! Which cgroup enforces device rules, for hosts that exist only as values.

use super::*;
use crate::plan::DeviceLimits;
use crate::spec::{DeviceAccess, DeviceRule, DeviceRuleKind};

/// The one rule that every engine begins with.
fn no_devices(required: bool) -> DeviceLimits {
    let access = DeviceAccess::all();
    let rule = DeviceRule { allow: false, kind: DeviceRuleKind::All, major: None, minor: None, access };
    DeviceLimits::new(&[rule], required).unwrap()
}

#[test]
fn device_rules_are_written_where_v1_has_the_controller() {
    let planned = CgroupPlan::default();
    let planned = planned.with_device_limits(&no_devices(true), None, id(), &v1_host()).unwrap();
    let lines = show(&planned);
    let expected = [
        "Base /cg/devices",
        "Sandbox /cg/devices/cofferdam-job-1-0000f00d",
        "  devices.deny = a",
        "  devices.allow = b *:* m",
    ];
    assert_eq!(lines[..4], expected);
    assert_eq!(lines.len(), 3 + 11);
    assert!(!planned.branches[0].optional);
}

#[test]
fn device_rules_are_a_program_on_v2_beside_what_else_is_there() {
    let layout = v2_host("/", "memory pids", "");
    for (required, freeze) in [(true, true), (false, true), (true, false)] {
        let planned = plan(&Resources::default(), None, id(), &layout, freeze).unwrap();
        let planned = planned.with_device_limits(&no_devices(required), None, id(), &layout).unwrap();
        let expected = [
            "Base /cg",
            "Outer /cg/cofferdam-job-1-0000f00d",
            &format!("  BPF_CGROUP_DEVICE = a program, required: {required}"),
            "Sandbox /cg/cofferdam-job-1-0000f00d/sandbox",
            "Container /cg/cofferdam-job-1-0000f00d/container",
        ];
        assert_eq!(show(&planned), expected);
        assert_eq!(planned.branches[0].optional, !required, "a place to freeze is needed now");
    }
}

#[test]
fn device_rules_that_nothing_can_enforce_are_refused_where_they_are_needed() {
    let nothing = CgroupLayout::default();
    for (layout, why) in [
        (&nothing, "no cgroup hierarchy that could refuse it is mounted"),
        (&closed(v1_host()), "the caller may not make a cgroup to refuse it"),
        (&closed(v2_host("/", "", "")), "the caller may not make a cgroup to refuse it"),
    ] {
        let limited =
            |required| CgroupPlan::default().with_device_limits(&no_devices(required), None, id(), layout);
        let planned = limited(false).unwrap();
        let error = limited(true).unwrap_err();
        assert!(planned.is_empty());
        assert_eq!(*error.kind(), ErrorKind::Unsupported { feature: "linux.resources.devices".into() });
        let message =
            format!("linux.resources.devices: a container with CAP_MKNOD could make any device, and {why} ");
        assert!(error.to_string().starts_with(&message), "{error}");
    }
}

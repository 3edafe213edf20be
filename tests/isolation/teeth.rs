//! Each rule of `src/weaken.rs`, the traps of it, and that every one is seen to fire where the rule is left out.
//!
//! ```sh
//! RUSTFLAGS="--cfg weaken" cargo test --target-dir target/weakened --test isolation -- teeth::
//! ```

#![expect(clippy::disallowed_methods, reason = "reads the source, and executes this test's own program")]

use crate::kit::{is_root, skip};
use std::collections::BTreeSet;
use std::process::Command;

/// The rule by the name of its variant, and tests of this program that fail without it.
const TEETH: &[(&str, &[&str])] = &[
    ("Seccomp", &["seccomp::no_program_types_into_its_terminal", "seccomp::no_program_takes_a_lease"]),
    ("BoundingSet", &[HOOK_OF_THE_HOSTS_ROOT]),
    ("Groups", &["workload_view::ids_are_the_ones_asked_for"]),
    ("SessionKeyring", &["keyring::no_process_of_a_container_finds_the_callers_keys"]),
    (
        "ImageHooks",
        &[HOOK_OF_THE_HOSTS_ROOT, "posture_of_hooks::a_hook_of_the_image_is_what_the_workload_is"],
    ),
    ("ResolveInRoot", &["posture_of_helpers::a_mount_destination_that_is_a_symlink_stays_inside"]),
    ("MaskedPaths", &["workload_view::files_about_the_whole_machine_are_empty"]),
    (
        "OwnDevices",
        &[
            "own_devices::no_descriptor_of_a_process_leads_to_a_device_of_the_host",
            "own_devices::a_container_cannot_change_a_device_of_the_host_through_its_descriptors",
        ],
    ),
    (
        "HostMounts",
        &[
            "host_mounts::the_waiting_gofer_has_an_empty_read_only_root_and_no_other_mount",
            "host_mounts::a_disk_that_the_host_unmounts_is_free_while_a_container_runs",
        ],
    ),
    (
        "GoferFilter",
        &["posture_of_helpers::the_gofer_can_do_nothing_but_wait_and_remove_its_containers_cgroups"],
    ),
];

const HOOK_OF_THE_HOSTS_ROOT: &str =
    "posture_of_hooks::a_hook_of_an_image_without_a_user_namespace_has_none_of_the_callers_privileges";

#[test]
fn every_rule_that_can_be_left_out_has_a_trap() {
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/weaken.rs")).unwrap();
    let rules = source.split_once("enum Rule {").unwrap().1.split_once('}').unwrap().0;
    let rules: BTreeSet<_> = rules.lines().filter_map(|line| line.trim().strip_suffix(',')).collect();
    let known: BTreeSet<_> = TEETH.iter().map(|(rule, _)| *rule).collect();
    assert_eq!(rules, known);
    assert!(TEETH.iter().all(|(_, traps)| !traps.is_empty()));
}

#[test]
#[cfg_attr(not(weaken), ignore = "needs a build with --cfg weaken")]
fn every_trap_fires_where_its_rule_is_left_out() {
    if !is_root() {
        skip!("some rules and their traps are about what root has");
    }
    let fails = |trap: &str, rule: Option<&str>| {
        let mut test = Command::new(std::env::current_exe().unwrap());
        test.args(["--exact", trap, "--nocapture"]).envs(rule.map(|rule| ("COFFERDAM_WEAKEN", rule)));
        let output = test.output().unwrap();
        assert!(output.stdout.windows(9).any(|words| words == b"running 1"), "{trap}: there is no such test");
        !output.status.success()
    };
    let mut wrong = Vec::new();
    for (rule, traps) in TEETH {
        for trap in *traps {
            if !fails(trap, Some(rule)) {
                wrong.push(format!("{trap} passes without {rule}"));
            }
            if fails(trap, None) {
                wrong.push(format!("{trap} fails with every rule"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

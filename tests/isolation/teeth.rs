//! Each rule of `src/weaken.rs`, the traps of it, and that every one is seen to fire where the rule is left out.
//!
//! ```sh
//! RUSTFLAGS="--cfg weaken" cargo test --target-dir target/weakened --test isolation -- teeth::
//! ```

#![expect(clippy::disallowed_methods, reason = "reads the source, and executes this test's own program")]
#![expect(clippy::print_stdout, reason = "shows by what each trap fired")]

use crate::kit::{is_root, skip};
use std::collections::BTreeSet;
use std::process::Command;

/// The rule by the name of its variant, and tests of this program that fail without it.
const TEETH: &[(&str, &[&str])] = &[
    ("Seccomp", &["seccomp::no_program_types_into_its_terminal", "seccomp::no_program_takes_a_lease"]),
    ("BoundingSet", &[HOOK_OF_THE_HOSTS_ROOT, NO_PRIVILEGE]),
    ("Capabilities", &[NO_PRIVILEGE]),
    ("NoNewPrivileges", &[NO_PRIVILEGE]),
    (
        "ResourceLimits",
        &["posture::the_process_limit_is_set_and_the_rest_is_the_callers", WHAT_ITS_CALLER_NEEDS],
    ),
    ("NamespaceLimits", &[WHAT_ITS_CALLER_NEEDS]),
    ("IdRanges", &["own_ids::containers_of_root_share_no_id_whatever_their_state_roots"]),
    (
        "Network",
        &["posture::every_namespace_is_the_containers_own", "posture::the_network_is_a_loopback_that_is_up"],
    ),
    (
        "Leases",
        &["leases::file_work_names_the_lease", "leases::create_and_exec_name_the_lease_on_the_images_users"],
    ),
    ("Fifos", &["hostile_files::no_file_of_a_container_stops_what_is_executed_in_it"]),
    ("Groups", &["workload_view::ids_are_the_ones_asked_for"]),
    ("SessionKeyring", &["keyring::no_process_of_a_container_finds_the_callers_keys"]),
    (
        "ImageHooks",
        &[HOOK_OF_THE_HOSTS_ROOT, "posture_of_hooks::a_hook_of_the_image_is_what_the_workload_is"],
    ),
    ("ResolveInRoot", &["posture_of_helpers::a_mount_destination_that_is_a_symlink_stays_inside"]),
    ("MaskedPaths", &["workload_view::files_about_the_whole_machine_are_empty", MASKED_AND_READ_ONLY]),
    ("ReadOnlyPaths", &["posture::the_kernels_file_systems_are_mounted_with_care", MASKED_AND_READ_ONLY]),
    ("ReadOnlyRoot", &["workload_view::the_root_is_read_only_unless_asked_otherwise"]),
    ("MountAttributes", &["posture::the_kernels_file_systems_are_mounted_with_care"]),
    ("Terminals", &["posture::the_kernels_file_systems_are_mounted_with_care"]),
    ("Devices", &["posture::the_devices_are_ours_and_no_others"]),
    ("DeviceRules", &["devices::a_program_that_opens_every_device_gets_those_of_its_rules_and_no_other"]),
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

const NO_PRIVILEGE: &str = "posture::the_workload_has_no_privilege_by_default";
const WHAT_ITS_CALLER_NEEDS: &str = "own_ids::a_default_container_cannot_use_up_what_its_caller_needs";
const MASKED_AND_READ_ONLY: &str = "posture::what_is_masked_is_empty_and_what_is_read_only_cannot_be_written";

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
        if let Some(rule) = rule {
            let said = [output.stdout.as_slice(), &output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            let why = said.lines().skip_while(|line| !line.contains("panicked at")).nth(1);
            println!("{rule}: {trap}: {}", why.unwrap_or("passes"));
        }
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

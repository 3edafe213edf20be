//! Conformance to the OCI runtime specification, through the operations it defines and nothing else: create, start,
//! state, kill and delete.
//!
//! The cases are those of the validation list of the OCI's runtime-tools, written anew. Each module begins with its
//! table: the case, which entry of the list it stands for, and the fact of the specification (1.0.2 where no other
//! version is named). The result that is expected is the case's name.
//!
//! The runtime under test is the example `oci`, or whatever `RUNTIME` names. runc is the control: it is given the same
//! list, and where a runtime differs, [`differences`] says why. A difference that is not declared fails, and so does a
//! declared one that is none.

#![expect(clippy::disallowed_methods, reason = "tests run programs and write plain files of their own")]

mod bench;
mod case;
mod cgroups;
mod differences;
mod file_system;
mod hooks;
mod lifecycle;
mod namespaces;
mod process;

use crate::kit::{in_own_process, lanes, skip};
use bench::Runtime;
use case::{Case, Finding};
use std::collections::BTreeSet;
use std::io::Write;

/// The validation list.
const LIST: &[&str] = &[
    "config_updates_without_affect",
    "create",
    "default",
    "delete",
    "delete_only_create_resources",
    "delete_resources",
    "hooks",
    "hooks_stdin",
    "hostname",
    "kill",
    "kill_no_effect",
    "killsig",
    "linux_cgroups_blkio",
    "linux_cgroups_cpus",
    "linux_cgroups_devices",
    "linux_cgroups_hugetlb",
    "linux_cgroups_memory",
    "linux_cgroups_network",
    "linux_cgroups_pids",
    "linux_cgroups_relative_blkio",
    "linux_cgroups_relative_cpus",
    "linux_cgroups_relative_devices",
    "linux_cgroups_relative_hugetlb",
    "linux_cgroups_relative_memory",
    "linux_cgroups_relative_network",
    "linux_cgroups_relative_pids",
    "linux_devices",
    "linux_masked_paths",
    "linux_mount_label",
    "linux_ns_itype",
    "linux_ns_nopath",
    "linux_ns_path",
    "linux_ns_path_type",
    "linux_process_apparmor_profile",
    "linux_readonly_paths",
    "linux_rootfs_propagation",
    "linux_seccomp",
    "linux_sysctl",
    "linux_uid_mappings",
    "misc_props",
    "mounts",
    "mounts_recursive",
    "pidfile",
    "poststart",
    "poststart_fail",
    "poststop",
    "poststop_fail",
    "prestart",
    "prestart_fail",
    "process",
    "process_capabilities",
    "process_capabilities_fail",
    "process_oom_score_adj",
    "process_rlimits",
    "process_rlimits_fail",
    "process_user",
    "root_readonly_true",
    "start",
    "state",
];

fn cases() -> impl Iterator<Item = &'static Case> {
    let tables = [
        lifecycle::CASES,
        process::CASES,
        file_system::CASES,
        namespaces::CASES,
        hooks::CASES,
        cgroups::CASES,
    ];
    tables.into_iter().flatten()
}

#[test]
fn every_entry_of_the_list_has_a_case_and_no_case_is_of_another() {
    let covered: BTreeSet<_> = cases().flat_map(|case| case.entries()).collect();
    assert_eq!(covered, LIST.iter().copied().collect());
    assert!(cases().all(|case| case.fact.len() > 20), "every case states its fact");
}

#[test]
fn differences_are_declared_of_cases_that_exist_and_explained() {
    for difference in differences::DIFFERENCES {
        assert!(cases().any(|case| case.name == difference.case), "{}", difference.case);
        assert!(difference.why.len() > 20, "{}", difference.case);
    }
}

#[test]
fn runc_as_the_control_holds_to_the_same_list_but_for_what_is_explained() {
    if std::env::var_os("RUNTIME").is_some() {
        skip!("RUNTIME names the one runtime to test");
    }
    let Some(control) = Runtime::control() else { skip!("runc is not installed: there is no control") };
    if !crate::kit::is_root() {
        skip!("runc needs root for cgroups here");
    }
    if !in_own_process() {
        return;
    }
    let lanes = lanes::run(|lane| {
        let (mut hold, mut differ, mut not_here, mut wrong) = (0, 0, 0, Vec::new());
        for case in lane.share(cases()) {
            match case.find(&control) {
                Finding::Holds => hold += 1,
                Finding::Differs => differ += 1,
                Finding::NotHere(_) => not_here += 1,
                finding => wrong.push(format!("{}: {finding:?}", case.name)),
            }
        }
        (hold, differ, not_here, wrong)
    });
    let Some(lanes) = lanes else { return };
    let (mut hold, mut differ, mut not_here, mut wrong) = (0, 0, 0, Vec::new());
    for lane in lanes {
        hold += lane.0;
        differ += lane.1;
        not_here += lane.2;
        wrong.extend(lane.3);
    }
    // A run tells how much the control is worth.
    let line = format!(
        "control: {hold} cases hold, {differ} differ as declared, {not_here} are not for this host\n"
    );
    std::io::stderr().write_all(line.as_bytes()).expect("a standard error");
    assert!(wrong.is_empty(), "not as declared with runc, see above: {wrong:#?}");
}

//! Conformance to the OCI runtime specification, through the operations it defines and nothing else: create, start,
//! state, kill and delete.
//!
//! The cases are those of the validation suite of the OCI's runtime-tools, written anew: [`programs`] lists the suite's
//! names, what each must check, and with which result. Each module begins with its table: the case, which names of the
//! list it stands for, and the fact of the specification (1.0.2 where no other version is named). The result that is
//! expected is the case's name.
//!
//! As in the original, every case begins with one full [`configuration`], and the first program in every container is the
//! checker (`tests/programs/checker`), which compares *everything* it finds with its config.json.
//!
//! The runtime under test is the example `oci`, or whatever `RUNTIME` names. runc and crun are the controls: they are
//! given the same list, and where a runtime differs, [`differences`] says why. A difference that is not declared fails,
//! and so does a declared one that is none.

#![expect(clippy::disallowed_methods, reason = "tests run programs and write plain files of their own")]

mod bench;
mod case;
mod cgroups;
mod checker;
mod comparison;
mod configuration;
mod container;
mod differences;
mod file_system;
mod hooks;
mod lifecycle;
mod namespaces;
mod process;
mod programs;
mod runtime;

use crate::kit::{in_own_process, lanes, skip};
use case::{Case, Finding};
use programs::Outcome::{Differs, Holds};
use programs::{PROGRAMS, RUNTIMES};
use runtime::Runtime;
use std::collections::BTreeSet;
use std::io::Write;

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
fn every_name_of_the_list_has_a_case_and_no_case_is_of_another() {
    let covered: BTreeSet<_> = cases().flat_map(Case::entries).collect();
    assert_eq!(covered, PROGRAMS.iter().map(|program| program.name).collect());
    assert!(PROGRAMS.iter().all(|program| program.checks.len() > 10), "every name says what it checks");
    assert!(cases().all(|case| case.fact.len() > 20), "every case states its fact");
}

#[test]
fn the_results_of_the_list_are_the_differences_that_are_declared() {
    for program in PROGRAMS {
        for (runtime, result) in RUNTIMES.iter().zip(&program.results) {
            let mut of_it = cases().filter(|case| case.entries().any(|entry| entry == program.name));
            let differs = of_it.any(|case| case.is_declared_to_differ(runtime));
            let expected = if differs { Differs } else { Holds };
            assert_eq!(*result, expected, "{} with {runtime}", program.name);
        }
    }
}

#[test]
fn differences_are_declared_of_cases_that_exist_and_explained() {
    for difference in differences::DIFFERENCES {
        assert!(cases().any(|case| case.name == difference.case), "{}", difference.case);
        assert!(difference.why.len() > 20, "{}", difference.case);
    }
    for fault in differences::FAULTS {
        assert!(fault.why.len() > 20, "{}", fault.says);
    }
}

#[test]
fn runc_as_the_control_holds_to_the_same_list_but_for_what_is_explained() {
    control("runc");
}

#[test]
fn crun_as_the_control_holds_to_the_same_list_but_for_what_is_explained() {
    control("crun");
}

/// Looks at every case with another runtime, from a test of its own.
fn control(name: &str) {
    if std::env::var_os("RUNTIME").is_some() {
        skip!("RUNTIME names the one runtime to test");
    }
    let Some(control) = Runtime::control(name) else { skip!("{name} is not installed: there is no control") };
    if !crate::kit::is_root() {
        skip!("{name} needs root for cgroups here");
    }
    if let Err(reason) = checker::is_built() {
        skip!("{reason}");
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
        "control {name}: {hold} cases hold, {differ} differ as declared, {not_here} are not for this host\n"
    );
    std::io::stderr().write_all(line.as_bytes()).expect("a standard error");
    assert!(wrong.is_empty(), "not as declared with {name}, see above: {wrong:#?}");
}

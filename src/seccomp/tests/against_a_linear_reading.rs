//! Random profiles and calls: the program says what a linear reading of the profile says.

use super::random::{calls, profiles};
use super::*;
use crate::seccomp::MAX_INSTRUCTIONS;
use crate::seccomp::linear::reading_on;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_program_says_the_same_on_x86_64(
        profile in profiles(Machine::X86_64),
        calls in prop::collection::vec(calls(Machine::X86_64), 64),
    ) {
        agree(Machine::X86_64, &profile, &calls)?;
    }

    #[test]
    fn the_program_says_the_same_on_aarch64(
        profile in profiles(Machine::Aarch64),
        calls in prop::collection::vec(calls(Machine::Aarch64), 64),
    ) {
        agree(Machine::Aarch64, &profile, &calls)?;
    }
}

fn agree(machine: Machine, profile: &LinuxSeccomp, calls: &[Call]) -> Result<(), TestCaseError> {
    let filter = compile_for(machine, profile).unwrap();
    check(&filter.instructions);
    prop_assert!(filter.instructions.len() <= MAX_INSTRUCTIONS);
    for call in calls {
        let said = run(&filter.instructions, call).0;
        prop_assert_eq!(said, reading_on(machine, profile, call), "{:x?}", call);
    }
    Ok(())
}

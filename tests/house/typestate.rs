//! What must not compile does not, and the compiler says what to do instead.
//!
//! Each case in `compile_fail` has its message beside it. After a change of a message, `TRYBUILD=overwrite cargo test
//! --test typestate` writes the new ones, to be read before they are committed.

use crate::kit::skip;

#[test]
fn what_makes_no_sense_in_a_phase_does_not_compile() {
    // The unprivileged half of CI runs this binary where there is no compiler.
    if std::env::var_os("CARGO").is_none() {
        skip!("not run by cargo, which builds the cases");
    }
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}

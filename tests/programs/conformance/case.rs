//! What a case is, and what becomes of it with a runtime.

use crate::conformance::bench::Bench;
use crate::conformance::checker;
use crate::conformance::differences::DIFFERENCES;
use crate::conformance::runtime::Runtime;
use crate::kit::{in_own_process, is_root, note_skip};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One fact of the specification, and its check.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Of the validation list, separated by blanks.
    entries: &'static str,
    pub(crate) fact: &'static str,
    check: Check,
}

/// Panics if the fact is none.
pub(crate) type Check = fn(&Bench<'_>) -> Verdict;

/// `Err` if the fact cannot be looked at on this host or by this user.
pub(crate) type Verdict = Result<(), NotHere>;

/// Why a case cannot be looked at.
#[derive(Debug)]
pub(crate) struct NotHere(pub(crate) String);

/// What a look at a case found. How a fact fails is on the standard error by then.
#[derive(Debug)]
pub(crate) enum Finding {
    Holds,
    Fails,
    /// The case fails, as declared.
    Differs,
    /// The case holds, although it is declared to fail.
    HoldsYetDeclared,
    NotHere(NotHere),
}

impl Case {
    pub(crate) const fn new(
        name: &'static str,
        entries: &'static str,
        fact: &'static str,
        check: Check,
    ) -> Self {
        Self { name, entries, fact, check }
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &'static str> {
        self.entries.split(' ')
    }

    /// Whether a difference of the runtime of this name is declared.
    pub(crate) fn is_declared_to_differ(&self, runtime: &str) -> bool {
        DIFFERENCES.iter().any(|difference| difference.case == self.name && difference.runtime == runtime)
    }

    /// Looks at the fact.
    pub(crate) fn find(&self, runtime: &Runtime) -> Finding {
        let checked = catch_unwind(AssertUnwindSafe(|| (self.check)(&Bench::new(runtime))));
        match (checked, self.is_declared_to_differ(&runtime.name)) {
            (Ok(Ok(())), false) => Finding::Holds,
            (Ok(Ok(())), true) => Finding::HoldsYetDeclared,
            (Ok(Err(not_here)), _) => Finding::NotHere(not_here),
            (Err(_), false) => Finding::Fails,
            (Err(_), true) => Finding::Differs,
        }
    }

    /// Looks at the fact, as a test of its own.
    pub(crate) fn test(&self) {
        let runtime = match Runtime::under_test() {
            Ok(runtime) => runtime,
            Err(reason) => return note_skip(&reason),
        };
        if let Err(reason) = checker::is_built() {
            return note_skip(&reason);
        }
        if !runtime.is_ours() && !is_root() {
            return note_skip("another runtime needs root for cgroups here");
        }
        if !in_own_process() {
            return;
        }
        match self.find(&runtime) {
            Finding::Holds | Finding::Differs => {}
            Finding::NotHere(NotHere(reason)) => note_skip(&reason),
            Finding::Fails => panic!("not so with {}, see above: {}", runtime.name, self.fact),
            Finding::HoldsYetDeclared => {
                panic!("a difference of {} is declared, and there is none", runtime.name)
            }
        }
    }
}

/// A module's table: `CASE => ENTRIES: FACT;`. Each case is a function of the module, and becomes a test.
macro_rules! table {
    ($($case:ident => $entries:literal: $fact:literal;)+) => {
        pub(crate) const CASES: &[$crate::conformance::case::Case] =
            &[$($crate::conformance::case::Case::new(stringify!($case), $entries, $fact, $case)),+];

        mod tests {
            $(
                #[test]
                fn $case() {
                    super::CASES.iter().find(|case| case.name == stringify!($case)).expect("of the table").test();
                }
            )+
        }
    };
}
pub(crate) use table;

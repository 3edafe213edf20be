//! The compiler: rules to ranges of numbers, one map of them per audit value, and the maps to one program.
//!
//! ```text
//!   load arch -> native? -> load number -> number >= m? -> ... -> RET action
//!             -> compat? -> load number -> ...                 -> load argument, compare, ... -> RET action
//!             -> RET KILL_PROCESS
//! ```

use super::arch::{Abi, Machine, SyscallName, X32_BIT};
use super::assemble::BpfAssembler;
use super::ir::{Clause, Filter, MAX_INSTRUCTIONS, NumberMap, NumberRange, Verdict};
use super::rules::{Condition, RET_KILL_PROCESS, Rule, Rules, Test};
use crate::error::{Error, Result};
use oci_spec::runtime::LinuxSeccomp;

/// Compiles `profile` for a kernel of `machine`.
pub(super) fn compile_for(machine: Machine, profile: &LinuxSeccomp) -> Result<Filter> {
    let rules = Rules::parse(profile)?;
    let abis = machine.abis(profile.architectures().as_deref().unwrap_or_default());

    let mut assembler = BpfAssembler::default();
    let mut next = assembler.ret(RET_KILL_PROCESS);
    // The native ABI is written last, because it must be tested first.
    for &abi in abis.iter().rev().filter(|abi| **abi != Abi::X32) {
        let mut map = NumberMap::default();
        match abi {
            Abi::X86_64 => map.cover_x86_64(&rules, abis.contains(&Abi::X32)),
            _ => map.cover(&rules, abi, 0, u32::MAX),
        }
        next = assembler.section(&map, abi, next);
    }
    let instructions = assembler.finish();
    if instructions.len() > MAX_INSTRUCTIONS {
        let problem =
            format!("compiles to {} instructions, the kernel takes {MAX_INSTRUCTIONS}", instructions.len());
        return Err(Error::spec("config.json", "linux.seccomp", problem).hint("use fewer rules with args"));
    }
    Ok(Filter { instructions, flags: rules.flags, notify: rules.notify })
}

impl Clause<'_> {
    fn always_holds(&self, abi: Abi) -> bool {
        let no_bits = |condition: &Condition| match condition.test {
            Test::Masked { mask, .. } => !condition.negated && abi.seen(mask) == 0,
            Test::AtLeast(_) | Test::Above(_) => false,
        };
        self.selector.is_none() && self.conditions.iter().all(no_bits)
    }
}

impl<'a> NumberMap<'a> {
    fn cover_x86_64(&mut self, rules: &'a Rules<'_>, with_x32: bool) {
        self.cover(rules, Abi::X86_64, 0, X32_BIT - 1);
        if with_x32 {
            self.cover(rules, Abi::X32, X32_BIT, u32::MAX - 1);
        } else {
            self.push(X32_BIT, Verdict::Return(RET_KILL_PROCESS));
        }
        // Tracers set -1 to skip a call. It is the number of no ABI, although it has the x32 bit.
        self.push(u32::MAX, Verdict::Return(rules.unknown));
    }

    /// Decides the numbers from `first` to `last`, which are `abi`'s.
    fn cover(&mut self, rules: &'a Rules<'_>, abi: Abi, first: u32, last: u32) {
        let Clauses { sorted, newest } = Clauses::collect(rules, abi);
        let unknown_from = newest.map_or(u64::MAX, |newest| u64::from(newest) + 1);
        let mut next = u64::from(first);
        for clauses in sorted.chunk_by(|a, b| a.number == b.number) {
            let number = u64::from(clauses[0].number);
            self.fill(rules, next..number, unknown_from);
            self.push(clauses[0].number, Verdict::new(clauses, rules.default, abi));
            next = number + 1;
        }
        self.fill(rules, next..u64::from(last) + 1, unknown_from);
    }

    /// Decides numbers no rule is about.
    fn fill(&mut self, rules: &Rules<'_>, numbers: std::ops::Range<u64>, unknown_from: u64) {
        let known = numbers.start..numbers.end.min(unknown_from);
        let unknown = numbers.start.max(unknown_from)..numbers.end;
        for (range, value) in [(known, rules.default), (unknown, rules.unknown)] {
            if let (false, Ok(first)) = (range.is_empty(), u32::try_from(range.start)) {
                self.push(first, Verdict::Return(value));
            }
        }
    }

    fn push(&mut self, first: u32, verdict: Verdict<'a>) {
        if self.ranges.last().is_none_or(|range| range.verdict != verdict) {
            self.ranges.push(NumberRange { first, verdict });
        }
    }
}

impl<'a> Verdict<'a> {
    /// `clauses` are all clauses of one number, in the order of the profile.
    fn new(clauses: &[Clause<'a>], default: u32, abi: Abi) -> Self {
        match clauses.iter().find(|clause| clause.always_holds(abi)) {
            Some(clause) => Self::Return(clause.action),
            None => Self::Clauses { clauses: clauses.to_vec(), otherwise: default, narrow: abi.narrow() },
        }
    }
}

struct Clauses<'a> {
    /// By number, then in the order of the profile.
    sorted: Vec<Clause<'a>>,
    /// The highest regular number any rule names, whether or not the rule has an effect.
    newest: Option<u32>,
}

impl<'a> Clauses<'a> {
    fn collect(rules: &'a Rules<'_>, abi: Abi) -> Self {
        let (mut sorted, mut newest) = (Vec::new(), None);
        for rule in &rules.rules {
            for name in rule.names {
                let name = SyscallName::new(name);
                let numbers = abi.numbers(name);
                newest = newest.max(numbers.regular);
                for conditions in &rule.alternatives {
                    let direct = numbers.regular.into_iter().chain(numbers.extra);
                    sorted.extend(direct.map(|number| Clause {
                        number,
                        selector: None,
                        conditions,
                        action: rule.action,
                    }));
                    sorted.extend(hidden_clause(rule, conditions, abi, name));
                }
            }
        }
        // Stable: the order of the profile stays.
        sorted.sort_by_key(|clause| clause.number);
        Self { sorted, newest }
    }
}

/// The clause of `rule` for `name` where a multiplexer hides it.
fn hidden_clause<'a>(
    rule: &Rule<'_>,
    conditions: &[Condition],
    abi: Abi,
    name: SyscallName<'_>,
) -> Option<Clause<'a>> {
    let hidden = abi.multiplexer(name)?;
    if rule.permits() && !conditions.is_empty() {
        return None;
    }
    let test = Test::Masked { mask: u64::from(hidden.mask), value: u64::from(hidden.call) };
    let selector = Some(Condition { index: 0, test, negated: false });
    Some(Clause { number: hidden.number, selector, conditions: &[], action: rule.action })
}

//! Random rules and uses of devices: the program, and the lists of v1 as the kernel reads them, say what a linear
//! reading of the rules says.

use super::*;
use proptest::prelude::*;

/// A use of a device.
#[derive(Clone, Copy, Debug)]
struct Use {
    kind: Kind,
    major: u32,
    minor: u32,
    access: DeviceAccess,
}

/// The rules read one by one, those that every container has after them.
fn reference(rules: &[DeviceRule], asked: Use) -> bool {
    let is = |pattern: Option<u32>, number: u32| pattern.is_none_or(|pattern| pattern == number);
    let mut allowed = DeviceAccess::empty();
    for rule in rules {
        let of_kind = match rule.kind {
            All => true,
            Block => asked.kind == Kind::Block,
            Char => asked.kind == Kind::Char,
        };
        if of_kind && is(rule.major, asked.major) && is(rule.minor, asked.minor) {
            allowed = if rule.allow { allowed | rule.access } else { allowed - rule.access };
        }
    }
    allowed |= DeviceAccess::MKNOD;
    if let (Kind::Char, 1, 3 | 5 | 7 | 8 | 9) | (Kind::Char, 5, 0..=2) | (Kind::Char, 136, _) =
        (asked.kind, asked.major, asked.minor)
    {
        allowed = DeviceAccess::all();
    }
    allowed.contains(asked.access)
}

/// What the kernel does with the lines and then with a use (security/device_cgroup.c): under a default of denying, one
/// exception must have all that is asked for; under one of allowing, none may have any of it.
fn kernel_v1(lines: &[String], asked: Use) -> bool {
    let (default, exceptions) = lines.split_first().unwrap();
    let fits = |line: &String| {
        let mut words = line.split(' ').skip(1);
        let mut word = || words.next().unwrap();
        let kind = if word() == "c" { Kind::Char } else { Kind::Block };
        let (major, minor) = word().split_once(':').unwrap();
        let is = |pattern: &str, number: u32| pattern == "*" || pattern == number.to_string();
        let letters = word();
        (kind == asked.kind && is(major, asked.major) && is(minor, asked.minor)).then(|| access(letters))
    };
    let mut fitting = exceptions.iter().filter_map(fits);
    match default.as_str() {
        "devices.deny a" => fitting.any(|access| access.contains(asked.access)),
        "devices.allow a" => !fitting.any(|access| access.intersects(asked.access)),
        other => panic!("{other}"),
    }
}

/// Few numbers, so that rules meet; those of devices that every container has, and both ends.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0..6_u32, 1 => Just(136), 1 => Just(u32::MAX), 1 => any::<u32>()]
}

fn letters() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["r", "w", "m", "rw", "rm", "wm", "rwm", "rwm", "rwm"])
}

prop_compose! {
    fn rules()(
        first in prop::option::of(any::<bool>()),
        rules in prop::collection::vec(
            (any::<bool>(), prop::sample::select(vec![All, Block, Char, Char]), prop::option::of(number()),
             prop::option::of(number()), letters()), 0..12),
    ) -> Vec<DeviceRule> {
        let first = first.map(|allow| rule(allow, All, None, None, "rwm"));
        let rules = rules.into_iter();
        first.into_iter().chain(rules.map(|(allow, kind, major, minor, access)| rule(allow, kind, major, minor, access)))
            .collect()
    }
}

prop_compose! {
    fn uses()(
        kind in prop::sample::select(vec![Kind::Block, Kind::Char]),
        major in number(),
        minor in number(),
        letters in letters(),
    ) -> Use {
        Use { kind, major, minor, access: access(letters) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_program_and_the_lists_of_v1_say_the_same(
        rules in rules(),
        uses in prop::collection::vec(uses(), 64),
    ) {
        let program = limits(&rules).v2_program().unwrap();
        program.check();
        let v1 = lines(&rules);
        for asked in uses {
            let expected = reference(&rules, asked);
            let Use { kind, major, minor, access } = asked;
            prop_assert_eq!(allows(&program, kind, (major, minor), access), expected, "{:?}", asked);
            if let Ok(lines) = &v1 {
                prop_assert_eq!(kernel_v1(lines, asked), expected, "{:?} by {:#?}", asked, lines);
            }
        }
    }
}

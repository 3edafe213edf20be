//! A second implementation of the module's documentation: it reads a profile rule by rule for one call. Tests and the
//! fuzzer compare compiled programs with it.

use super::arch::{Abi, Machine, SyscallName, SyscallNumbers, X32_BIT};
use super::interpret::Call;
use super::rules::{ENOSYS, RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

/// What `profile` says about `call` on this machine.
pub(crate) fn reading(profile: &LinuxSeccomp, call: &Call) -> u32 {
    reading_on(Machine::HOST.expect("a profile was compiled for this machine"), profile, call)
}

/// What `profile` says about `call` on `machine`.
pub(super) fn reading_on(machine: Machine, profile: &LinuxSeccomp, call: &Call) -> u32 {
    let default = profile.default_action().as_u32(profile.default_errno_ret());
    let permissive = (0x7ff0_0000..0x8000_0000).contains(&default);
    let unknown = if permissive { default } else { RET_ERRNO | ENOSYS };
    let Some(abi) = open(machine, profile, call) else { return RET_KILL_PROCESS };
    if abi == Abi::X86_64 && call.number == u32::MAX {
        return unknown;
    }

    let args = call.args.map(|arg| abi.seen(arg));
    let (mut conditional, mut unconditional, mut ruled) = (None, None, false);
    let rules = profile.syscalls().as_deref().unwrap_or_default();
    for rule in rules {
        let value = rule.action().as_u32(rule.errno_ret());
        if value == default {
            continue;
        }
        let conditions = rule.args().as_deref().unwrap_or_default();
        if rule.names().iter().any(|name| is_about(abi, name, call.number)) {
            ruled = true;
            if no_bits(abi, conditions) {
                unconditional = unconditional.or(Some(value));
            } else if matches(abi, conditions, &args) {
                conditional = conditional.or(Some(value));
            }
        }
        let permits = value == RET_ALLOW || value == 0x7ffc_0000;
        if conditions.is_empty() || !permits {
            for hidden in rule.names().iter().filter_map(|name| abi.multiplexer(SyscallName::new(name))) {
                ruled |= hidden.number == call.number;
                if hidden.number == call.number && args[0] & u64::from(hidden.mask) == u64::from(hidden.call)
                {
                    conditional = conditional.or(Some(value));
                }
            }
        }
    }
    let regular = |name: &String| abi.numbers(SyscallName::new(name)).regular;
    let newest = rules.iter().flat_map(LinuxSyscall::names).filter_map(regular).max();
    // Only a number without a rule is new: x32's own calls and i386's multiplexers may be above all numbers of the
    // profile.
    let new = newest.is_some_and(|newest| call.number > newest) && !ruled;
    unconditional.or(conditional).unwrap_or(if new { unknown } else { default })
}

/// The ABI of a call, if the profile opens it.
pub(super) fn open(machine: Machine, profile: &LinuxSeccomp, call: &Call) -> Option<Abi> {
    let x32 = call.number >= X32_BIT && call.number != u32::MAX;
    let abis = machine.abis(profile.architectures().as_deref().unwrap_or_default());
    abis.into_iter().filter(|abi| call.arch == abi.audit()).find(|abi| match abi {
        Abi::X86_64 => !x32,
        Abi::X32 => x32,
        _ => true,
    })
}

/// Whether `number` is one of this name's.
pub(super) fn is_about(abi: Abi, name: &str, number: u32) -> bool {
    let SyscallNumbers { regular, extra } = abi.numbers(SyscallName::new(name));
    [regular, extra].contains(&Some(number))
}

/// Whether a rule with these conditions applies; those of a 32-bit ABI compare the low halves of their values.
pub(super) fn matches(abi: Abi, conditions: &[LinuxSeccompArg], args: &[u64; 6]) -> bool {
    any_or_all(conditions, |condition| {
        let value_two = abi.seen(condition.value_two().unwrap_or(0));
        holds(condition.op(), args[condition.index()], abi.seen(condition.value()), value_two)
    })
}

/// Whether a rule with these conditions applies whatever the arguments are.
fn no_bits(abi: Abi, conditions: &[LinuxSeccompArg]) -> bool {
    any_or_all(conditions, |condition| {
        condition.op() == LinuxSeccompOperator::ScmpCmpMaskedEq && abi.seen(condition.value()) == 0
    })
}

/// All conditions have to hold, or any where two are about one argument.
fn any_or_all(conditions: &[LinuxSeccompArg], holds: impl Fn(&LinuxSeccompArg) -> bool) -> bool {
    let mut indices: Vec<_> = conditions.iter().map(LinuxSeccompArg::index).collect();
    indices.sort_unstable();
    indices.dedup();
    if indices.len() < conditions.len() { conditions.iter().any(holds) } else { conditions.iter().all(holds) }
}

/// seccomp_rule_add(3), of one condition.
pub(super) fn holds(op: LinuxSeccompOperator, arg: u64, value: u64, value_two: u64) -> bool {
    match op {
        LinuxSeccompOperator::ScmpCmpNe => arg != value,
        LinuxSeccompOperator::ScmpCmpLt => arg < value,
        LinuxSeccompOperator::ScmpCmpLe => arg <= value,
        LinuxSeccompOperator::ScmpCmpEq => arg == value,
        LinuxSeccompOperator::ScmpCmpGe => arg >= value,
        LinuxSeccompOperator::ScmpCmpGt => arg > value,
        LinuxSeccompOperator::ScmpCmpMaskedEq => arg & value == value_two & value,
    }
}

/// Calls that `profile` is about: some of its names through every ABI, with arguments at and beside its values.
pub(crate) fn calls_about(profile: &LinuxSeccomp) -> Vec<Call> {
    const MOST_NAMES: usize = 32;
    const MOST_VALUES: usize = 8;
    let rules = || profile.syscalls().iter().flatten();
    let values = rules().flat_map(|rule| rule.args().iter().flatten()).take(MOST_VALUES).flat_map(|arg| {
        let value = arg.value();
        [value, value.wrapping_add(1), value.wrapping_sub(1), value ^ 1 << 32, arg.value_two().unwrap_or(0)]
    });
    let values: Vec<u64> = [0, u64::MAX].into_iter().chain(values).collect();
    let mut calls = Vec::new();
    for abi in [Abi::X86_64, Abi::X32, Abi::X86, Abi::Aarch64, Abi::Arm] {
        let named = rules().flat_map(LinuxSyscall::names).take(MOST_NAMES).flat_map(|name| {
            let name = SyscallName::new(name);
            let SyscallNumbers { regular, extra } = abi.numbers(name);
            [regular, extra, abi.multiplexer(name).map(|hidden| hidden.number)]
        });
        let edges = [0, X32_BIT - 1, X32_BIT, u32::MAX - 1, u32::MAX];
        let numbers = named.flatten().flat_map(|number| [number, number.wrapping_add(1)]).chain(edges);
        for number in numbers {
            let call = |value| Call { number, arch: abi.audit(), args: [value; 6] };
            calls.extend(values.iter().copied().map(call));
            calls.push(Call { number, arch: abi.audit(), args: [1, 0, u64::MAX, 1 << 40, 9, 8] });
        }
    }
    calls
}

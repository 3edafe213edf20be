//! The assembler: ranges of numbers to a binary search, written from its last instruction to its first.
//!
//! Classic BPF only jumps forward, so writing backwards means every target is known when a jump to it is written.

use super::arch::Abi;
use super::ir::{BpfInstruction, NumberMap, NumberRange, Verdict};
use super::rules::{Condition, Test};

/// A program in the making, its last instruction first.
#[derive(Default)]
pub(super) struct BpfAssembler {
    reversed: Vec<BpfInstruction>,
    /// The newest `RET` of each value.
    returns: Vec<(u32, JumpTarget)>,
}

/// An instruction already written, by its distance from the program's end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct JumpTarget(usize);

/// Opcodes (`linux/bpf_common.h`): load a word of `seccomp_data`, mask, jump, return.
pub(super) const LOAD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_IF_EQUAL: u16 = 0x15;
pub(super) const JUMP_IF_ABOVE: u16 = 0x25;
pub(super) const JUMP_IF_AT_LEAST: u16 = 0x35;
pub(super) const RETURN: u16 = 0x06;

/// Offsets into `struct seccomp_data`. Both machines are little-endian: the low half of an argument comes first.
pub(super) const OFFSET_NUMBER: u32 = 0;
pub(super) const OFFSET_ARCH: u32 = 4;
pub(super) const OFFSET_ARGS: u32 = 16;

/// How far back a target may lie before a stepping stone is written: a conditional jump reaches 255, and up to two
/// stepping stones and a return may come between measuring and jumping.
const REACH: usize = 250;

impl BpfAssembler {
    /// The program. It begins with the load that all sections need.
    pub(super) fn finish(mut self) -> Vec<BpfInstruction> {
        self.load(OFFSET_ARCH);
        self.reversed.reverse();
        self.reversed
    }

    /// The calls of `abi`, decided by `map`; other audit values go to `other`.
    pub(super) fn section(&mut self, map: &NumberMap<'_>, abi: Abi, other: JumpTarget) -> JumpTarget {
        self.search(&map.ranges);
        let body = self.load(OFFSET_NUMBER);
        self.branch(JUMP_IF_EQUAL, abi.audit(), body, other)
    }

    /// Finds the range of the loaded number; the entry is the instruction written last.
    fn search(&mut self, ranges: &[NumberRange<'_>]) -> JumpTarget {
        let entry = self.search_tree(ranges);
        // The caller falls through into the entry, which for a lone range may be a shared return further back.
        if entry.0 + 1 == self.reversed.len() { entry } else { self.stepping_stone(entry) }
    }

    fn search_tree(&mut self, ranges: &[NumberRange<'_>]) -> JumpTarget {
        match ranges {
            [only] => self.verdict(&only.verdict),
            [before, one, after] if after.first - one.first == 1 && before.verdict == after.verdict => {
                let around = self.verdict(&before.verdict);
                let exact = self.verdict(&one.verdict);
                self.branch(JUMP_IF_EQUAL, one.first, exact, around)
            }
            _ => {
                let middle = ranges.len() / 2;
                let upper = self.search_tree(&ranges[middle..]);
                let lower = self.search_tree(&ranges[..middle]);
                self.branch(JUMP_IF_AT_LEAST, ranges[middle].first, upper, lower)
            }
        }
    }

    fn verdict(&mut self, verdict: &Verdict<'_>) -> JumpTarget {
        match verdict {
            Verdict::Return(value) => self.ret(*value),
            Verdict::Clauses { clauses, otherwise, narrow } => {
                let mut next = self.ret(*otherwise);
                for clause in clauses.iter().rev() {
                    let mut matched = self.ret(clause.action);
                    for condition in clause.conditions.iter().chain(&clause.selector).rev() {
                        matched = self.condition(condition, *narrow, matched, next);
                    }
                    next = matched;
                }
                next
            }
        }
    }

    /// Goes to `holds` or `fails`. A narrow ABI has no high halves: neither the argument's nor the value's is looked at.
    fn condition(
        &mut self,
        condition: &Condition,
        narrow: bool,
        holds: JumpTarget,
        fails: JumpTarget,
    ) -> JumpTarget {
        let (holds, fails) = if condition.negated { (fails, holds) } else { (holds, fails) };
        let low_word = OFFSET_ARGS + 8 * condition.index;
        let high_word = low_word + 4;
        match condition.test {
            Test::Masked { mask, value } => {
                let (mask, value) = (Halves::of(mask), Halves::of(value));
                let low = self.masked_equal(low_word, mask.low, value.low, holds, fails);
                if narrow { low } else { self.masked_equal(high_word, mask.high, value.high, low, fails) }
            }
            Test::AtLeast(value) => {
                self.ordered(JUMP_IF_AT_LEAST, low_word, Halves::of(value), narrow, holds, fails)
            }
            Test::Above(value) => {
                self.ordered(JUMP_IF_ABOVE, low_word, Halves::of(value), narrow, holds, fails)
            }
        }
    }

    fn masked_equal(
        &mut self,
        word: u32,
        mask: u32,
        value: u32,
        holds: JumpTarget,
        fails: JumpTarget,
    ) -> JumpTarget {
        if mask == 0 {
            return holds;
        }
        self.branch(JUMP_IF_EQUAL, value, holds, fails);
        if mask != u32::MAX {
            self.write(BpfInstruction { code: AND, jt: 0, jf: 0, k: mask });
        }
        self.load(word)
    }

    /// Compares the high halves, and the low ones by `code` where those are equal.
    fn ordered(
        &mut self,
        code: u16,
        low_word: u32,
        value: Halves,
        narrow: bool,
        holds: JumpTarget,
        fails: JumpTarget,
    ) -> JumpTarget {
        self.branch(code, value.low, holds, fails);
        let low = self.load(low_word);
        if narrow {
            return low;
        }
        let not_above = self.branch(JUMP_IF_EQUAL, value.high, low, fails);
        self.branch(JUMP_IF_ABOVE, value.high, holds, not_above);
        self.load(low_word + 4)
    }

    /// A return of `value`, shared with earlier ones in reach.
    pub(super) fn ret(&mut self, value: u32) -> JumpTarget {
        let known = self.returns.iter().position(|(returned, _)| *returned == value);
        if let Some(at) = known
            && self.distance(self.returns[at].1) < REACH
        {
            return self.returns[at].1;
        }
        let label = self.write(BpfInstruction { code: RETURN, jt: 0, jf: 0, k: value });
        match known {
            Some(at) => self.returns[at].1 = label,
            None => self.returns.push((value, label)),
        }
        label
    }

    fn branch(&mut self, code: u16, k: u32, holds: JumpTarget, fails: JumpTarget) -> JumpTarget {
        let holds = self.near(holds);
        let fails = self.near(fails);
        let jump = |label| {
            let distance = self.distance(label);
            u8::try_from(distance).expect("`near` keeps targets within REACH plus two stepping stones")
        };
        let (jt, jf) = (jump(holds), jump(fails));
        self.write(BpfInstruction { code, jt, jf, k })
    }

    /// Loads a word of `seccomp_data` and falls through into the instruction written last.
    fn load(&mut self, offset: u32) -> JumpTarget {
        self.write(BpfInstruction { code: LOAD, jt: 0, jf: 0, k: offset })
    }

    /// `label`, or a stand-in for it that a conditional jump can reach.
    fn near(&mut self, label: JumpTarget) -> JumpTarget {
        if self.distance(label) <= REACH { label } else { self.stepping_stone(label) }
    }

    /// An instruction that does what jumping to `label` does.
    fn stepping_stone(&mut self, label: JumpTarget) -> JumpTarget {
        match self.reversed[label.0] {
            BpfInstruction { code: RETURN, k, .. } => {
                self.write(BpfInstruction { code: RETURN, jt: 0, jf: 0, k })
            }
            _ => {
                let k =
                    u32::try_from(self.distance(label)).expect("programs of 2^32 instructions fit no memory");
                self.write(BpfInstruction { code: JUMP, jt: 0, jf: 0, k })
            }
        }
    }

    /// How many instructions the next one written would have to skip to get to `label`.
    fn distance(&self, label: JumpTarget) -> usize {
        self.reversed.len() - label.0 - 1
    }

    fn write(&mut self, instruction: BpfInstruction) -> JumpTarget {
        self.reversed.push(instruction);
        JumpTarget(self.reversed.len() - 1)
    }
}

/// A 64-bit value as the machine compares it: one 32-bit word at a time.
#[derive(Clone, Copy)]
struct Halves {
    high: u32,
    low: u32,
}

impl Halves {
    fn of(value: u64) -> Self {
        let [a, b, c, d, low @ ..] = value.to_be_bytes();
        Self { high: u32::from_be_bytes([a, b, c, d]), low: u32::from_be_bytes(low) }
    }
}

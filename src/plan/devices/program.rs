//! Device rules for cgroup v2 (kernel: admin-guide/cgroup-v2, "Device controller"): an eBPF program, which the kernel
//! runs at each access to a device.
//!
//! ```text
//!   entries --by type, major, minor--> ranges of numbers, each with what is allowed --binary search--> [Instruction]
//! ```
//!
//! The program is a tree with shared leaves, one for each set of accesses. So the kernel's verifier, which follows
//! every path, sees each instruction about once, and an access costs a few comparisons even for a long list.

use super::{DeviceLimits, Entry, FIELD, Kind};
use crate::error::{Error, Result};
use crate::spec::DeviceAccess;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A program of the type `BPF_PROG_TYPE_CGROUP_DEVICE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct DeviceProgram(pub(super) Vec<Instruction>);

/// One instruction. On the wire it is one `u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub(super) struct Instruction {
    pub(super) code: u8,
    /// The destination register, or the one to compare.
    pub(super) register: u8,
    /// The source register, if the instruction has one.
    pub(super) source: u8,
    /// Instructions to skip, or bytes from the address in `source`.
    pub(super) offset: i16,
    pub(super) immediate: u32,
}

/// Opcodes (linux/bpf_common.h, linux/bpf.h), all on words of 32 bits: load, and, shift right, move; jumps, those with
/// a condition comparing with the immediate.
pub(super) const LOAD: u8 = 0x61;
pub(super) const AND: u8 = 0x54;
pub(super) const SHIFT_RIGHT: u8 = 0x74;
pub(super) const MOVE: u8 = 0xb4;
pub(super) const MOVE_REGISTER: u8 = 0xbc;
pub(super) const JUMP: u8 = 0x05;
pub(super) const JUMP_IF_EQUAL: u8 = 0x16;
pub(super) const JUMP_IF_AT_LEAST: u8 = 0x36;
pub(super) const JUMP_IF_ANY_OF: u8 = 0x46;
pub(super) const EXIT: u8 = 0x95;

/// Registers: the verdict, the context, and the values loaded from the context.
pub(super) const VERDICT: u8 = 0;
pub(super) const CONTEXT: u8 = 1;
const ACCESS: u8 = 2;
const MAJOR: u8 = 3;
const MINOR: u8 = 4;
const TYPE: u8 = 5;

/// Offsets into `struct bpf_cgroup_dev_ctx`; its `access_type` has the access above the type (linux/bpf.h).
pub(super) const OFFSET_ACCESS_TYPE: i16 = 0;
pub(super) const OFFSET_MAJOR: i16 = 4;
pub(super) const OFFSET_MINOR: i16 = 8;
pub(super) const ACCESS_SHIFT: u32 = 16;
const TYPE_MASK: u32 = 0xffff;
/// All bits of an access, also those that no kernel uses yet.
const ACCESS_MASK: u32 = 0xffff;

/// The most ranges of numbers. Each takes at most four instructions, and a jump skips at most 32767.
const MAX_RANGES: usize = 8000;

impl DeviceLimits {
    /// The program that enforces the rules.
    ///
    /// # Errors
    /// [`Unsupported`](crate::error::ErrorKind::Unsupported) for rules that distinguish more than [`MAX_RANGES`] ranges
    /// of numbers.
    pub(crate) fn v2_program(&self) -> Result<DeviceProgram> {
        let block = table(Kind::Block, &self.entries);
        let char = table(Kind::Char, &self.entries);
        let ranges: usize = block.iter().chain(&char).map(|(_, minors)| minors.len()).sum();
        if ranges > MAX_RANGES {
            let why = format!("they distinguish {ranges} ranges of numbers; the limit is {MAX_RANGES}");
            return Err(Error::unsupported(FIELD, why));
        }
        Ok(Assembler::default().program(&block, &char))
    }
}

impl DeviceProgram {
    /// The program as bpf(2) takes it: an array of `struct bpf_insn`.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(Instruction::bytes).collect()
    }
}

impl Instruction {
    fn bytes(&self) -> [u8; 8] {
        // Two bit fields of four bits. C compilers put the first into the low bits on little-endian machines, and into
        // the high bits on big-endian ones.
        let (low, high) = match cfg!(target_endian = "little") {
            true => (self.register, self.source),
            false => (self.source, self.register),
        };
        let [a, b] = self.offset.to_ne_bytes();
        let [c, d, e, f] = self.immediate.to_ne_bytes();
        [self.code, high << 4 | low, a, b, c, d, e, f]
    }
}

impl From<u64> for Instruction {
    fn from(packed: u64) -> Self {
        let [code, registers, a, b, immediate @ ..] = packed.to_be_bytes();
        let (register, source) = (registers & 0xf, registers >> 4);
        let offset = i16::from_be_bytes([a, b]);
        Self { code, register, source, offset, immediate: u32::from_be_bytes(immediate) }
    }
}

impl From<Instruction> for u64 {
    fn from(Instruction { code, register, source, offset, immediate }: Instruction) -> Self {
        let registers = source << 4 | register;
        Self::from(code) << 56
            | Self::from(registers) << 48
            | Self::from(offset.cast_unsigned()) << 32
            | Self::from(immediate)
    }
}

/// All numbers, in ranges: the first number of each range, and the value for the range.
type Ranges<T> = Vec<(u32, T)>;

/// The allowed accesses, by major and minor number.
fn table(kind: Kind, entries: &[Entry]) -> Ranges<Ranges<DeviceAccess>> {
    let entries: Vec<&Entry> = entries.iter().filter(|entry| entry.pattern.kind == kind).collect();
    let is = |pattern: Option<u32>, number: Option<u32>| pattern.is_none() || pattern == number;
    let majors = entries.iter().filter_map(|entry| entry.pattern.major).collect();
    ranges(&majors, |major| {
        let entries: Vec<&&Entry> = entries.iter().filter(|entry| is(entry.pattern.major, major)).collect();
        let minors = entries.iter().filter_map(|entry| entry.pattern.minor).collect();
        ranges(&minors, |minor| {
            let mut allowed = DeviceAccess::empty();
            for entry in entries.iter().filter(|entry| is(entry.pattern.minor, minor)) {
                allowed.set(entry.access, entry.allow);
            }
            allowed
        })
    })
}

/// The ranges of numbers with the same value of `of`. `of(None)` is the value for all numbers that are not in `named`.
fn ranges<T: PartialEq>(named: &BTreeSet<u32>, of: impl Fn(Option<u32>) -> T) -> Ranges<T> {
    let after = named.iter().filter_map(|number| number.checked_add(1));
    let mut starts: BTreeMap<u32, Option<u32>> = after.chain([0]).map(|number| (number, None)).collect();
    starts.extend(named.iter().map(|&number| (number, Some(number))));
    let mut ranges: Ranges<T> = starts.into_iter().map(|(first, number)| (first, of(number))).collect();
    ranges.dedup_by(|after, before| after.1 == before.1);
    ranges
}

/// Writes a program from its last instruction to its first. So all jumps go forward, which the verifier handles best,
/// and the target of each jump is known when the jump is written.
#[derive(Default)]
struct Assembler {
    reversed: Vec<Instruction>,
    /// The code that decides about an access, by the bits of the allowed ones.
    leaves: BTreeMap<u8, Label>,
}

/// An instruction already written, by its distance from the program's end.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Label(usize);

impl Assembler {
    fn program(
        mut self,
        block: &Ranges<Ranges<DeviceAccess>>,
        char: &Ranges<Ranges<DeviceAccess>>,
    ) -> DeviceProgram {
        let refuse = self.verdict(0);
        let allow = self.verdict(1);
        self.leaves.insert(DeviceAccess::empty().bits(), refuse);
        self.leaves.insert(DeviceAccess::all().bits(), allow);

        let char = self.search_majors(char);
        let block = self.search_majors(block);
        let other = self.branch(JUMP_IF_EQUAL, TYPE, Kind::Char as u32, char, refuse);
        self.branch(JUMP_IF_EQUAL, TYPE, Kind::Block as u32, block, other);
        self.write(SHIFT_RIGHT, ACCESS, 0, 0, ACCESS_SHIFT);
        self.write(AND, TYPE, 0, 0, TYPE_MASK);
        self.write(MOVE_REGISTER, TYPE, ACCESS, 0, 0);
        self.write(LOAD, MINOR, CONTEXT, OFFSET_MINOR, 0);
        self.write(LOAD, MAJOR, CONTEXT, OFFSET_MAJOR, 0);
        self.write(LOAD, ACCESS, CONTEXT, OFFSET_ACCESS_TYPE, 0);
        self.reversed.reverse();
        DeviceProgram(self.reversed)
    }

    fn search_majors(&mut self, majors: &[(u32, Ranges<DeviceAccess>)]) -> Label {
        self.search(MAJOR, majors, &|this, minors| {
            this.search(MINOR, minors, &|this, allowed| this.leaf(*allowed))
        })
    }

    /// Writes a binary search for the range of the number in `register`, which continues at the range's `leaf`.
    fn search<T>(
        &mut self,
        register: u8,
        ranges: &[(u32, T)],
        leaf: &dyn Fn(&mut Self, &T) -> Label,
    ) -> Label {
        if let [(_, only)] = ranges {
            return leaf(self, only);
        }
        let (lower, upper) = ranges.split_at(ranges.len() / 2);
        let first = upper[0].0;
        let upper = self.search(register, upper, leaf);
        let lower = self.search(register, lower, leaf);
        self.branch(JUMP_IF_AT_LEAST, register, first, upper, lower)
    }

    /// The code that allows an access if it needs only `allowed` ones.
    fn leaf(&mut self, allowed: DeviceAccess) -> Label {
        if let Some(&known) = self.leaves.get(&allowed.bits()) {
            return known;
        }
        let [refuse, allow] =
            [DeviceAccess::empty(), DeviceAccess::all()].map(|verdict| self.leaves[&verdict.bits()]);
        let others = !u32::from(allowed.bits()) & ACCESS_MASK;
        let leaf = self.branch(JUMP_IF_ANY_OF, ACCESS, others, refuse, allow);
        self.leaves.insert(allowed.bits(), leaf);
        leaf
    }

    fn verdict(&mut self, verdict: u32) -> Label {
        self.write(EXIT, 0, 0, 0, 0);
        self.write(MOVE, VERDICT, 0, 0, verdict)
    }

    /// Writes a jump to `holds` under the condition, and else continues at `otherwise`.
    fn branch(&mut self, code: u8, register: u8, immediate: u32, holds: Label, otherwise: Label) -> Label {
        if otherwise.0 + 1 != self.reversed.len() {
            let offset = self.distance(otherwise);
            self.write(JUMP, 0, 0, offset, 0);
        }
        let offset = self.distance(holds);
        self.write(code, register, 0, offset, immediate)
    }

    /// The offset of a jump to `label` from the instruction that is written next.
    fn distance(&self, label: Label) -> i16 {
        i16::try_from(self.reversed.len() - label.0 - 1).expect("MAX_RANGES keeps programs shorter than that")
    }

    fn write(&mut self, code: u8, register: u8, source: u8, offset: i16, immediate: u32) -> Label {
        self.reversed.push(Instruction { code, register, source, offset, immediate });
        Label(self.reversed.len() - 1)
    }
}

//! The types that the parts of the compiler share: rules by ranges of numbers, and the instructions they become.

use super::rules::Condition;
use serde::{Deserialize, Serialize};

/// The most instructions the kernel takes in one program (`BPF_MAXINSNS`, seccomp(2)).
pub(crate) const MAX_INSTRUCTIONS: usize = 4096;

/// A compiled filter plus the `SECCOMP_FILTER_FLAG_*` bits to load it with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Filter {
    /// The program, at most [`MAX_INSTRUCTIONS`] long; every path ends in a return.
    pub(crate) instructions: Vec<BpfInstruction>,
    /// `SECCOMP_FILTER_FLAG_*` (seccomp(2)), complete: `NEW_LISTENER` is set where `notify` is.
    pub(crate) flags: u32,
    /// Whether loading returns a listener fd that must reach the agent at `listenerPath`.
    pub(crate) notify: bool,
}

impl Filter {
    /// The bytes of the program, as this machine's kernel has them.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let bytes = self.instructions.iter().flat_map(|BpfInstruction { code, jt, jf, k }| {
            let ([a, b], [w, x, y, z]) = (code.to_ne_bytes(), k.to_ne_bytes());
            [a, b, *jt, *jf, w, x, y, z]
        });
        bytes.collect()
    }

    /// The program as seccomp(2) takes it.
    pub(crate) fn program(&self) -> Vec<libc::sock_filter> {
        self.instructions.iter().map(Into::into).collect()
    }
}

/// One instruction, laid out as the kernel's `struct sock_filter`. On the wire it is one `u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
#[repr(C)]
pub(crate) struct BpfInstruction {
    /// Operation, operand size and addressing mode.
    pub(crate) code: u16,
    /// Instructions to skip where the condition holds.
    pub(crate) jt: u8,
    /// Instructions to skip where it does not.
    pub(crate) jf: u8,
    /// The operand.
    pub(crate) k: u32,
}

impl BpfInstruction {
    /// As the kernel keeps it.
    pub(crate) fn bytes(self) -> [u8; 8] {
        let (code, k) = (self.code.to_ne_bytes(), self.k.to_ne_bytes());
        [code[0], code[1], self.jt, self.jf, k[0], k[1], k[2], k[3]]
    }
}

impl From<u64> for BpfInstruction {
    fn from(packed: u64) -> Self {
        let [a, b, jt, jf, k @ ..] = packed.to_be_bytes();
        Self { code: u16::from_be_bytes([a, b]), jt, jf, k: u32::from_be_bytes(k) }
    }
}

impl From<&BpfInstruction> for libc::sock_filter {
    fn from(&BpfInstruction { code, jt, jf, k }: &BpfInstruction) -> Self {
        Self { code, jt, jf, k }
    }
}

impl From<BpfInstruction> for u64 {
    fn from(BpfInstruction { code, jt, jf, k }: BpfInstruction) -> Self {
        Self::from(code) << 48 | Self::from(jt) << 40 | Self::from(jf) << 32 | Self::from(k)
    }
}

/// What happens to each of the 2^32 numbers that arrive under one audit value.
#[derive(Default)]
pub(super) struct NumberMap<'a> {
    /// Sorted by `first`; each range ends where the next begins.
    pub(super) ranges: Vec<NumberRange<'a>>,
}

pub(super) struct NumberRange<'a> {
    pub(super) first: u32,
    pub(super) verdict: Verdict<'a>,
}

#[derive(Clone, PartialEq)]
pub(super) enum Verdict<'a> {
    Return(u32),
    /// The first clause that holds decides, or else `otherwise`.
    Clauses {
        clauses: Vec<Clause<'a>>,
        otherwise: u32,
        narrow: bool,
    },
}

/// Part of one rule, for one number.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Clause<'a> {
    pub(super) number: u32,
    /// The call behind a multiplexer, if the number is that of a multiplexer.
    pub(super) selector: Option<Condition>,
    pub(super) conditions: &'a [Condition],
    pub(super) action: u32,
}

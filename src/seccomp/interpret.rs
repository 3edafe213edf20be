//! A classic BPF interpreter with the checks of the kernel's own loader: tests run programs in it, and it refuses
//! programs that the kernel would refuse.

use super::assemble::{AND, JUMP, JUMP_IF_ABOVE, JUMP_IF_AT_LEAST, JUMP_IF_EQUAL, LOAD, RETURN};
use super::ir::{BpfInstruction, MAX_INSTRUCTIONS};

/// The kernel's `struct seccomp_data`: what a filter sees of a call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Call {
    pub(crate) number: u32,
    pub(crate) arch: u32,
    pub(crate) args: [u64; 6],
}

impl Call {
    /// The word at byte `offset`, on a little-endian machine.
    fn word(&self, offset: u32) -> u32 {
        assert!(offset.is_multiple_of(4) && offset < 64, "a load at {offset}");
        match offset {
            0 => self.number,
            4 => self.arch,
            // The instruction pointer: no rule is about it.
            8 | 12 => 0,
            _ => {
                let arg = self.args[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
            }
        }
    }
}

/// Whether the kernel would load `program`: known opcodes, jumps that stay inside, a return at the end.
pub(crate) fn check(program: &[BpfInstruction]) {
    assert!((1..=MAX_INSTRUCTIONS).contains(&program.len()), "{} instructions", program.len());
    for (at, instruction) in program.iter().enumerate() {
        let furthest = match instruction.code {
            LOAD | AND => 0,
            RETURN => continue,
            JUMP => instruction.k as usize,
            JUMP_IF_EQUAL | JUMP_IF_ABOVE | JUMP_IF_AT_LEAST => instruction.jt.max(instruction.jf).into(),
            code => panic!("opcode {code:#x} at {at}"),
        };
        assert!(at + 1 + furthest < program.len(), "instruction {at} leaves the program");
    }
}

/// What `program` returns for `call`, and the number of instructions it took.
pub(crate) fn run(program: &[BpfInstruction], call: &Call) -> (u32, usize) {
    let (mut accumulator, mut at, mut steps) = (0, 0, 0);
    loop {
        let BpfInstruction { code, jt, jf, k } = program[at];
        at += 1;
        steps += 1;
        let holds = match code {
            LOAD => {
                accumulator = call.word(k);
                continue;
            }
            AND => {
                accumulator &= k;
                continue;
            }
            JUMP => {
                at += k as usize;
                continue;
            }
            RETURN => return (k, steps),
            JUMP_IF_EQUAL => accumulator == k,
            JUMP_IF_ABOVE => accumulator > k,
            JUMP_IF_AT_LEAST => accumulator >= k,
            code => panic!("opcode {code:#x}"),
        };
        at += usize::from(if holds { jt } else { jf });
    }
}

//! An interpreter of device programs for tests, with those checks of the kernel's verifier that concern the
//! instructions in use: it refuses programs that the kernel would refuse.

use super::program::*;

/// An access that a program decides about: `struct bpf_cgroup_dev_ctx`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    /// 1 for a block device, 2 for a character device.
    pub(crate) kind: u32,
    /// The bits of [`DeviceAccess`](crate::spec::DeviceAccess) that the process wants at once.
    pub(crate) access: u32,
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl DeviceProgram {
    /// Panics if the kernel would not load it: an unknown opcode, a jump backward or out of the program, an instruction
    /// that no path reaches.
    pub(crate) fn check(&self) {
        let mut reached = vec![false; self.0.len()];
        reached[0] = true;
        for (at, instruction) in self.0.iter().enumerate() {
            assert!(reached[at], "instruction {at} is never reached");
            assert!(instruction.register <= 5 && instruction.source <= 5, "registers at {at}");
            let (next, jump) = match instruction.code {
                LOAD | AND | SHIFT_RIGHT | MOVE | MOVE_REGISTER => (true, false),
                JUMP_IF_EQUAL | JUMP_IF_AT_LEAST | JUMP_IF_ANY_OF => (true, true),
                JUMP => (false, true),
                EXIT => (false, false),
                code => panic!("opcode {code:#x} at {at}"),
            };
            if next {
                reached[at + 1] = true;
            }
            if jump {
                let skipped = usize::try_from(instruction.offset).expect("a jump back");
                reached[at + 1 + skipped] = true;
            }
        }
    }

    /// Whether it allows `access`, and the number of instructions that it executed.
    pub(crate) fn run(&self, access: Access) -> (bool, usize) {
        // Programs load only words of the context.
        let context = |offset| match offset {
            OFFSET_ACCESS_TYPE => access.access << ACCESS_SHIFT | access.kind,
            OFFSET_MAJOR => access.major,
            OFFSET_MINOR => access.minor,
            offset => panic!("a load at {offset}"),
        };
        let mut registers: [Option<u32>; 6] = [None; 6];
        let (mut at, mut steps) = (0, 0);
        loop {
            let Instruction { code, register, source, offset, immediate } = self.0[at];
            let value =
                |register: u8| registers[usize::from(register)].expect("a register that was written to");
            at += 1;
            steps += 1;
            let jumps = match code {
                LOAD => {
                    assert_eq!(source, CONTEXT);
                    registers[usize::from(register)] = Some(context(offset));
                    false
                }
                AND | SHIFT_RIGHT | MOVE | MOVE_REGISTER => {
                    registers[usize::from(register)] = Some(match code {
                        AND => value(register) & immediate,
                        SHIFT_RIGHT => value(register) >> immediate,
                        MOVE => immediate,
                        _ => value(source),
                    });
                    false
                }
                JUMP => true,
                JUMP_IF_EQUAL => value(register) == immediate,
                JUMP_IF_AT_LEAST => value(register) >= immediate,
                JUMP_IF_ANY_OF => value(register) & immediate != 0,
                EXIT => return (value(VERDICT) == 1, steps),
                code => panic!("opcode {code:#x}"),
            };
            if jumps {
                at += usize::try_from(offset).expect("a jump back");
            }
        }
    }
}

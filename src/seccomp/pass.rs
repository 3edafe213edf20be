//! A way past the filter for the process that loads it. Without it, a profile that notifies `sendmsg` would stop the
//! call that sends the listener to the agent, before the agent can answer.
//!
//! The filter allows three calls if their fourth and fifth argument, which none of them uses, are a secret of 128 bits.
//! The loading process draws the secret. No other process has it in memory, and `execve` discards it. It allows
//! sending, reading and closing only, of descriptors that are closed by then.

use super::arch::{Machine, SyscallName};
use super::assemble::{JUMP_IF_EQUAL, LOAD, OFFSET_ARCH, OFFSET_ARGS, OFFSET_NUMBER, RETURN};
use super::ir::{BpfInstruction, Filter, MAX_INSTRUCTIONS};
use super::rules::RET_ALLOW;
use crate::error::{Error, Result};

/// The calls, by name.
const CALLS: [&str; 3] = ["sendmsg", "read", "close"];
/// The first of the two arguments that hold the secret, counted from 0.
const FIRST_ARGUMENT: u32 = 3;

impl Filter {
    /// The program, with a way past it for `sendmsg`, `read` and `close` with this secret.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`](crate::error::ErrorKind::InvalidSpec) if there is no room for it.
    pub(crate) fn with_pass(&self, secret: [u64; 2]) -> Result<Self> {
        let machine = Machine::HOST.ok_or_else(|| Error::unsupported("linux.seccomp", "unknown machine"))?;
        let native = machine.abis(&[])[0];
        let mut tests = Vec::new();
        for (argument, value) in (FIRST_ARGUMENT..).zip(secret) {
            let at = OFFSET_ARGS + 8 * argument;
            tests.extend([(at, value as u32), (at + 4, (value >> 32) as u32)]);
        }
        tests.push((OFFSET_ARCH, native.audit()));
        let numbers = CALLS.map(|name| native.numbers(SyscallName::new(name)).regular.unwrap_or(u32::MAX));

        // Each test is two instructions; then the number, one comparison for each call, and the verdict.
        let length = tests.len() * 2 + 1 + numbers.len() + 1;
        let mut program = Vec::with_capacity(length + self.instructions.len());
        let out = |written: usize| u8::try_from(length - written - 1).unwrap_or(u8::MAX);
        for (at, value) in tests {
            program.push(BpfInstruction { code: LOAD, jt: 0, jf: 0, k: at });
            program.push(BpfInstruction { code: JUMP_IF_EQUAL, jt: 0, jf: out(program.len()), k: value });
        }
        program.push(BpfInstruction { code: LOAD, jt: 0, jf: 0, k: OFFSET_NUMBER });
        for (index, number) in numbers.iter().enumerate() {
            let left = numbers.len() - index - 1;
            let jf = if left == 0 { out(program.len()) } else { 0 };
            program.push(BpfInstruction { code: JUMP_IF_EQUAL, jt: left as u8, jf, k: *number });
        }
        program.push(BpfInstruction { code: RETURN, jt: 0, jf: 0, k: RET_ALLOW });
        program.extend_from_slice(&self.instructions);
        if program.len() > MAX_INSTRUCTIONS {
            let problem =
                format!("compiles to {} instructions, the kernel takes {MAX_INSTRUCTIONS}", program.len());
            return Err(
                Error::spec("config.json", "linux.seccomp", problem).hint("use fewer rules with args")
            );
        }
        Ok(Self { instructions: program, ..*self })
    }
}

#[cfg(test)]
mod tests {
    use super::super::interpret::{Call, check, run};
    use super::*;

    #[test]
    fn only_the_three_calls_with_the_secret_pass() {
        let profile = oci_spec::runtime::LinuxSeccompBuilder::default()
            .default_action(oci_spec::runtime::LinuxSeccompAction::ScmpActKillProcess)
            .build()
            .unwrap();
        let filter = super::super::compile(&profile).unwrap();
        let secret = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
        let program = filter.with_pass(secret).unwrap().instructions;
        check(&program);
        let native = Machine::HOST.unwrap().abis(&[])[0];
        let number = |name| native.numbers(SyscallName::new(name)).regular.unwrap();
        let verdict = |number, arch, args: [u64; 2]| {
            run(&program, &Call { number, arch, args: [1, 2, 3, args[0], args[1], 6] }).0
        };
        let call = |name, args| verdict(number(name), native.audit(), args);
        let allow = 0x7fff_0000;
        assert_eq!(CALLS.map(|name| call(name, secret)), [allow; 3]);
        assert_ne!(call("write", secret), allow);
        for bit in 0..128 {
            let mut guess = secret;
            guess[bit / 64] ^= 1 << (bit % 64);
            assert_ne!(call("read", guess), allow, "bit {bit}");
        }
        assert_ne!(verdict(number("read"), 1, secret), allow);
    }
}

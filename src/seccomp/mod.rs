//! Seccomp: from a profile (`linux.seccomp`) to a classic BPF program, without touching the host.
//!
//! What lives here: the meaning of a profile (`rules`), system call names and numbers of every ABI a kernel we run on can
//! be entered through (`arch`), the compiler (`compile`, `assemble`), and the profile the builder uses when it is given
//! none (`default`). What may not: loading a filter, or asking the kernel anything. Loading is one call in `sys`.
//!
//! ```text
//!   LinuxSeccomp --parse--> rules --resolve per ABI--> number ranges --binary search--> [BpfInstruction]
//! ```
//!
//! # What a compiled filter does
//!
//! 1. **ABI first.** A call through an ABI that is neither the host's own nor listed in `architectures` kills the
//!    process (`SECCOMP_RET_KILL_PROCESS`; libseccomp kills the thread, which leaves half a process behind). The x32 ABI
//!    shares its audit value with x86-64 and owns the numbers from 0x40000000 on, so listing `SCMP_ARCH_X86_64` alone
//!    opens neither i386 nor x32. ABIs no kernel of this machine offers are accepted and cost nothing.
//! 2. **Rules of the number.** The first rule without `args` decides, whatever rules with `args` say, as with libseccomp;
//!    where there is none, the first rule with `args` that matches. (libseccomp lets such rules win by the order of its
//!    tree, refuses some that overlap, and forgets some that compare ranges.) A rule whose action is the default action
//!    is dropped, as runc does, and so are names unknown to an ABI.
//! 3. **New system calls.** Where the default action refuses (`ERRNO`, `TRAP`, `KILL*`), numbers above the newest one
//!    the profile names get `ENOSYS`, as with runc: the profile's author cannot have meant them, and a libc falls back
//!    to an older call only if the new one does not exist.
//! 4. **Everything else** gets the default action; `errnoRet` and `defaultErrnoRet` default to `EPERM`.
//!
//! Within a rule all `args` must hold; if one argument index is used twice, each condition becomes a rule of its own,
//! as runc does. Conditions compare all 64 bits. Through a 32-bit ABI an argument *is* its low half: the kernel ignores
//! the rest, which a program can fill at will; and a value to compare with is its low half too, as with libseccomp, so
//! that -1 written in 64 bits means -1. Through x32, registers have 64 bits, and all are compared (libseccomp compares 32).
//!
//! i386 has two calls that hide others behind a pointer, `socketcall(2)` and `ipc(2)`. A rule for `connect` there also
//! covers `socketcall(SYS_CONNECT)`. Arguments behind the pointer cannot be read: a rule with `args` that allows or logs
//! says nothing about the hidden form (libseccomp permits all of it), one that refuses refuses the hidden form whatever
//! its arguments. A rule without `args` for the multiplexer itself comes before both.

mod arch;
mod assemble;
mod compile;
mod default;
#[cfg(any(test, fuzzing))]
pub(crate) mod interpret;
mod ir;
#[cfg(any(test, fuzzing))]
pub(crate) mod linear;
mod pass;
mod rules;
#[cfg(test)]
mod tests;

pub(crate) use default::default_profile;
pub(crate) use default::helper_profile;
pub(crate) use ir::Filter;
#[cfg(any(test, fuzzing))]
pub(crate) use ir::{BpfInstruction, MAX_INSTRUCTIONS};

use crate::error::{Error, Result};
use crate::spec::CapSet;
use arch::Machine;
use oci_spec::runtime::LinuxSeccomp;
use std::sync::OnceLock;

/// Compiles `profile` for this machine. The module's documentation says what the result does.
///
/// Source: OCI runtime-spec, `config-linux.md#seccomp`.
///
/// # Errors
/// [`ErrorKind::InvalidSpec`](crate::error::ErrorKind::InvalidSpec) naming the field under `linux.seccomp`, or
/// `linux.seccomp` itself where the program would be longer than [`ir::MAX_INSTRUCTIONS`];
/// [`ErrorKind::Unsupported`](crate::error::ErrorKind::Unsupported) on machines that are neither x86-64 nor AArch64.
pub(crate) fn compile(profile: &LinuxSeccomp) -> Result<Filter> {
    let machine = Machine::HOST.ok_or_else(|| {
        Error::unsupported("linux.seccomp", "system call tables exist for x86_64 and aarch64 only")
    })?;
    // Nearly every container has the default profile, and compiling it is a large part of planning a container: keep
    // the result.
    static DEFAULT: OnceLock<(LinuxSeccomp, Filter)> = OnceLock::new();
    if let Some((known, filter)) = DEFAULT.get()
        && known == profile
    {
        return Ok(filter.clone());
    }
    let filter = compile::compile_for(machine, profile)?;
    if DEFAULT.get().is_none() && *profile == default_profile(CapSet::empty()) {
        let _ = DEFAULT.set((profile.clone(), filter.clone()));
    }
    Ok(filter)
}

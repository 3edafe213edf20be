//! `linux.seccomp`: the checks of a profile that do not need the compiler.
//!
//! The typed reader has checked the words (actions, architectures, operators). The compiler finds out which names are
//! system calls of this machine.

use super::field::Field;
use crate::error::Result;
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};

/// Checks `linux.seccomp`.
pub(super) fn check(linux: &Field<'_>, profile: &LinuxSeccomp) -> Result<()> {
    let field = linux.key("seccomp");
    if profile.default_action() == LinuxSeccompAction::ScmpActNotify {
        // The process that loads the filter could not send the listener to the agent: the filter would stop its first
        // system call.
        return Err(field.key("defaultAction").error("SCMP_ACT_NOTIFY cannot be the default"));
    }
    let listener = profile.listener_path().is_some();
    if profile.listener_metadata().as_deref().is_some_and(|text| !text.is_empty()) && !listener {
        return Err(field.key("listenerMetadata").error("needs listenerPath"));
    }
    if let Some(path) = profile.listener_path() {
        field.key("listenerPath").absolute(path)?;
    }
    check_errno(&field.key("defaultErrnoRet"), profile.default_action(), profile.default_errno_ret())?;
    let syscalls = field.key("syscalls");
    for (index, rule) in profile.syscalls().iter().flatten().enumerate() {
        check_rule(&syscalls.index(index), rule, listener)?;
    }
    Ok(())
}

fn check_rule(field: &Field<'_>, rule: &LinuxSyscall, listener: bool) -> Result<()> {
    let names = field.key("names");
    // "`names` [...] MUST contain at least one entry." - OCI config-linux.md
    if rule.names().is_empty() {
        return Err(names.error("is empty"));
    }
    for (index, name) in rule.names().iter().enumerate() {
        if name.is_empty() {
            return Err(names.index(index).error("is empty"));
        }
        names.index(index).c_string(name)?;
    }
    if rule.action() == LinuxSeccompAction::ScmpActNotify && !listener {
        return Err(field.key("action").error("SCMP_ACT_NOTIFY needs listenerPath"));
    }
    check_errno(&field.key("errnoRet"), rule.action(), rule.errno_ret())?;
    let args = field.key("args");
    for (index, arg) in rule.args().iter().flatten().enumerate() {
        check_arg(&args.index(index), arg)?;
    }
    Ok(())
}

/// The highest errno a filter can return (`MAX_ERRNO`, linux/err.h).
const MAX_ERRNO: u32 = 4095;

/// "When the action doesn't support an errno, the runtime MUST print and error and fail." - OCI config-linux.md
fn check_errno(field: &Field<'_>, action: LinuxSeccompAction, errno: Option<u32>) -> Result<()> {
    match (action, errno) {
        (_, None) => Ok(()),
        (LinuxSeccompAction::ScmpActErrno, Some(errno)) if errno > MAX_ERRNO => {
            Err(field.error(format_args!("{errno} is above {MAX_ERRNO}")))
        }
        // The other 16 bits of a filter's verdict are the action (seccomp(2)).
        (LinuxSeccompAction::ScmpActTrace, Some(data)) if data > u32::from(u16::MAX) => {
            Err(field.error(format_args!("{data} is above {}", u16::MAX)))
        }
        (LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace, Some(_)) => Ok(()),
        (action, Some(_)) => Err(field.error(format_args!("{action} returns no errno"))),
    }
}

/// A system call has six arguments (syscall(2)).
const MAX_ARG_INDEX: usize = 5;

fn check_arg(field: &Field<'_>, arg: &LinuxSeccompArg) -> Result<()> {
    if arg.index() > MAX_ARG_INDEX {
        return Err(field.key("index").error(format_args!("{} is above {MAX_ARG_INDEX}", arg.index())));
    }
    let masked = arg.op() == LinuxSeccompOperator::ScmpCmpMaskedEq;
    if !masked && arg.value_two().is_some_and(|value| value != 0) {
        let error = field.key("valueTwo").error(format_args!("{} compares with one value", arg.op()));
        return Err(error.hint("SCMP_CMP_MASKED_EQ takes a mask and a value"));
    }
    Ok(())
}

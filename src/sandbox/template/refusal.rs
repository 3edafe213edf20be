//! What cannot be copied, by name, and what the workload could do about it.

use super::{Subject, ended, read};
use crate::error::{Error, Result};
use crate::sys::{ProcStat, StatusText};

/// The field of every refusal.
pub(super) const TEMPLATE: &str = "into_template";

pub(in crate::sandbox) fn refuse(what: impl Into<String>, hint: &'static str) -> Error {
    Error::unsupported(TEMPLATE, what.into()).hint(hint)
}

/// Refuses a process by what its `status` says.
pub(super) fn check_status(status: StatusText<'_>, ids: [u32; 2]) -> Result<()> {
    for (line, id) in ["Uid", "Gid"].into_iter().zip(ids) {
        // Real, effective, saved and that for files. A copy begins with the rights of its configuration.
        if (0..4).any(|which| status.number(line, which) != Some(id)) {
            let problem = "the process has other ids than those that it started with";
            return Err(refuse(problem, "change them in the clone, or start as that user"));
        }
    }
    if status.number("Threads", 0) != Some(1) {
        let hint = "stop before the program starts threads, or end them first";
        return Err(refuse("the process has more than one thread", hint));
    }
    if status.number("TracerPid", 0).is_some_and(|pid| pid != 0) {
        return Err(refuse("a debugger traces the process", "detach it"));
    }
    let pending = (status.signals("SigPnd") | status.signals("ShdPnd")) & !STOPS;
    if pending & (1 << (libc::SIGKILL - 1)) != 0 {
        return Err(ended(TEMPLATE));
    }
    if pending != 0 {
        let problem = format!("signal {} is pending", pending.trailing_zeros() + 1);
        return Err(refuse(problem, "unblock and handle it first"));
    }
    Ok(())
}

/// SIGSTOP and SIGCONT say nothing to a process that is stopped.
const STOPS: u64 = 1 << (libc::SIGSTOP - 1) | 1 << (libc::SIGCONT - 1);

/// Refuses timers of timer_create(2).
pub(super) fn check_timers(subject: Subject<'_>) -> Result<()> {
    // Without CONFIG_CHECKPOINT_RESTORE the file is missing, and so is what `write` needs.
    if read(subject, "timers", 64)?.is_empty() {
        return Ok(());
    }
    Err(refuse("the process has a timer", "delete it with timer_delete() before the stop"))
}

/// The state of proc_pid_stat(5).
pub(super) fn stat(subject: Subject<'_>) -> Result<(ProcStat, Vec<u64>)> {
    const MOST: u64 = 4096;
    let text = read(subject, "stat", MOST)?;
    let tail = text.iter().rposition(|byte| *byte == b')').map_or(&[][..], |at| &text[at + 1..]);
    let fields = String::from_utf8_lossy(tail);
    let numbers = fields.split_ascii_whitespace().map(|field| field.parse().unwrap_or_default()).collect();
    let parsed =
        ProcStat::parse(&text).ok_or_else(|| refuse("proc says nothing of the process", "has it ended?"))?;
    Ok((parsed, numbers))
}

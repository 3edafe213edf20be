//! Ending a container's processes through kernel objects: a recorded pid by its pidfd, a sandbox by its socket, a
//! container of a pod by its sandbox.

use super::client;
use super::find::{DIRECTORY, Reach, reach};
use crate::cgroup;
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::process::channel::{wait_readable, wait_readable_until};
use crate::process::{Channel, ProcessIdentity};
use crate::state::{CONTROL_SOCKET, Record, StateLock};
use crate::sys::ProcStat;
use crate::wire::control::{CONNECTION, Operation, Reply, Request, SignalTarget};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::Mode;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// How long killed processes may take to end. Only a process in an uninterruptible sleep takes that long.
pub(crate) const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How long [`kill_process`] waits before it looks for frozen processes in nested cgroups. Usually nothing is there that
/// long.
const THAW_AGAIN: Duration = Duration::from_millis(100);
/// How often [`kill_all`] asks whether the processes are gone: the kernel has no event for the last process of a set.
const RECHECK: Duration = Duration::from_millis(1);

/// Kills the process `identity` of the container that `record` describes, and waits until it has ended.
pub(crate) fn kill_process(identity: &ProcessIdentity, record: &Record) -> Result<()> {
    let Some(pidfd) = identity.pidfd(&record.boot_id)? else { return Ok(()) };
    // An error here means that the process ended between the two calls.
    let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
    let deadline = Instant::now() + KILL_LIMIT;
    // A sandbox ends when everything inside it has, and a process frozen on cgroup v1 does not end.
    cgroup::thaw(&record.cgroups);
    while !wait_readable_until(pidfd.as_fd(), Some(Instant::now() + THAW_AGAIN))? {
        cgroup::thaw_nested(&record.cgroups, deadline);
        if Instant::now() >= deadline {
            let problem = format!("process {} was killed and is still there", identity.pid);
            return Err(stuck("kill", problem, identity.pid));
        }
    }
    Ok(())
}

/// Has the sandbox of a pod end every process of the container, and forget the container.
pub(crate) fn leave_pod(record: &Record) -> Result<()> {
    let (Some(sandbox), Some(run_dir)) = (&record.sandbox, record.control_socket.parent()) else {
        return Ok(());
    };
    if reach(record)? == Reach::Here && !sandbox.is_alive(&record.boot_id)? {
        return Ok(());
    }
    let request = |operation| Request { container: Some(record.id.clone()), operation };
    let leave = || -> Result<()> {
        let directory = rustix::fs::open(run_dir, DIRECTORY, Mode::empty())
            .os(|| format!("open({run_dir:?}, O_DIRECTORY)"))?;
        let channel = client::connect_in(directory.as_fd(), CONTROL_SOCKET)?;
        let deadline = Instant::now() + KILL_LIMIT;
        let (ended, theirs) = Channel::pair()?;
        channel
            .send(&request(Operation::Watch), &[(CONNECTION, theirs.as_fd())])
            .map_err(Error::gone_means_ended)?;
        drop(theirs);
        client::begin(&channel, &request(Operation::Kill))?.reply()?;
        wait_readable(ended.as_fd(), deadline)?;
        let ask = |operation| client::begin(&channel, &request(operation))?.reply();
        kill_all(deadline, ended.as_fd(), sandbox.pid, ask)?;
        client::begin(&channel, &request(Operation::Forget))?.reply().map(drop)
    };
    match leave() {
        // The sandbox forgot the container before, never knew it, or ended with the whole pod.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Ended) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        left => left,
    }
}

/// Ends a container whose record cannot be read: the sandbox behind the container's socket, and with it everything
/// inside.
pub(crate) fn kill_by_socket(lock: &StateLock) -> Result<()> {
    let gone = |error: Error| match error.kind() {
        ErrorKind::Ended | ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    };
    let sandbox = match lock.run_dir().and_then(|run_dir| client::connect_in(run_dir.as_fd(), CONTROL_SOCKET))
    {
        Ok(sandbox) => sandbox,
        Err(error) => return gone(error),
    };
    let kill = Request { container: None, operation: Operation::Kill };
    let killed = client::begin(&sandbox, &kill).and_then(|mut asked| {
        asked.reply()?;
        // The sandbox's end of the connection closes when it ends.
        wait_readable(sandbox.as_fd(), Instant::now() + KILL_LIMIT)
    });
    killed.or_else(gone)
}

/// Kills every process of a container, and repeats that until none is left or `deadline` has passed. `ended` becomes
/// readable when the container has ended; `ask` sends an operation to its sandbox, whose pid is `sandbox`.
pub(crate) fn kill_all(
    deadline: Instant,
    ended: BorrowedFd<'_>,
    sandbox: i32,
    ask: impl Fn(Operation) -> Result<Reply>,
) -> Result<()> {
    loop {
        match ask(Operation::Signal { number: libc::SIGKILL, to: SignalTarget::All }) {
            Ok(Reply::Left { processes: 1.. }) => {}
            // A sandbox ends with the container's processes, perhaps before it can reply.
            Err(error) if *error.kind() == ErrorKind::Ended => return Ok(()),
            answered => return answered.map(drop),
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(stuck("signal", "killed processes are still there", sandbox));
        }
        // Return early at the end of the container; otherwise ask again.
        wait_readable_until(ended, Some(now + RECHECK))?;
    }
}

/// Killed processes of a container have not ended in time. Names those below its sandbox, which has the pid `sandbox`, that
/// wait in the kernel.
pub(crate) fn stuck(step: &'static str, problem: impl Into<String>, sandbox: i32) -> Error {
    let error = Error::new(ErrorKind::TimedOut, step, problem.into());
    let waiting = waiting_below(sandbox, &all_processes());
    match waiting.is_empty() {
        true => error.hint("does one wait in the kernel, in state D?"),
        false => {
            error.hint(format!("in state D, until a device or file system answers: {}", waiting.join(", ")))
        }
    }
}

/// Every process in this process's proc that can be read.
fn all_processes() -> Vec<ProcStat> {
    let Ok(proc) = std::fs::read_dir("/proc") else { return Vec::new() };
    let stats = proc.flatten().filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit());
    stats.filter_map(|entry| ProcStat::parse(&std::fs::read(entry.path().join("stat")).ok()?)).collect()
}

/// The pids and names of the descendants of `sandbox` that are in an uninterruptible sleep.
fn waiting_below(sandbox: i32, all: &[ProcStat]) -> Vec<String> {
    let (mut found, mut parents) = (Vec::new(), vec![sandbox]);
    while let Some(parent) = parents.pop() {
        for child in all.iter().filter(|process| process.ppid == parent && process.pid != parent) {
            parents.push(child.pid);
            if child.state == 'D' {
                found.push(format!("{} {:?}", child.pid, child.comm));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `PID (NAME) STATE PPID`, and what else proc_pid_stat(5) has.
    fn process(start: &str) -> ProcStat {
        let rest = "1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 \
                    0 0 0 0 0 0 0 0 0 0 0";
        ProcStat::parse(format!("{start} {rest}").as_bytes()).unwrap()
    }

    #[test]
    fn what_waits_in_the_kernel_below_the_sandbox_is_named() {
        let all = ["10 (sandbox) S 1", "11 (a (b) D 10", "12 (sh) S 10", "13 (dd) D 12", "14 (other) D 1"];
        assert_eq!(waiting_below(10, &all.map(process)), ["11 \"a (b\"", "13 \"dd\""]);
        assert!(waiting_below(14, &all.map(process)).is_empty());
    }

    #[test]
    fn processes_that_never_end_are_an_error_at_the_deadline() {
        let (ended, _other) = Channel::pair().unwrap();
        let left = |_| Ok(Reply::Left { processes: 1 });
        let error = kill_all(Instant::now(), ended.as_fd(), -1, left).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::TimedOut);
        assert_eq!(
            error.to_string(),
            "signal: killed processes are still there (does one wait in the kernel, in state D?)"
        );
    }
}

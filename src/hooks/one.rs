//! One hook, run by a single-threaded process: the runner, or init.

use crate::error::{Actor, Error, ErrorKind, OsContext, RemoteFailure, Result};
use crate::helper::spawn::seal_plan;
use crate::process::stdio::let_reopen;
use crate::process::{Channel, Signal};
use crate::spec::Hook;
use crate::sys::{self, Forked};
use crate::wire::boot::HookRefused;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal as Raw, WaitId, WaitIdOptions, WaitIdStatus};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How much of a hook's standard error goes into the error: the last bytes.
const MAX_STDERR: usize = 2 << 10;
/// The size of one read.
const CHUNK: usize = 16 << 10;
/// The umask of hooks of the host.
const UMASK: u32 = 0o022;

/// The state a hook reads: the fields of OCI runtime.md, "State".
pub(crate) type HookState = serde_json::Map<String, serde_json::Value>;

/// A hook and what the configuration calls it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NamedHook {
    /// `hooks.prestart[0]`.
    pub(crate) field: String,
    pub(crate) hook: Hook,
}

/// What a hook is given besides its own fields.
#[derive(Clone, Copy)]
pub(crate) struct HookIo<'a> {
    /// Has this process execute the hook: its standard streams are in place, and all else is as in the process that forked
    /// it. Returns only what went wrong. See [`execute_on_host`].
    pub(crate) execute: &'a dyn Fn(&Hook) -> Error,
    /// Where its standard output goes.
    pub(crate) null: BorrowedFd<'a>,
    /// A connection: the hook is killed when it closes.
    pub(crate) watched: Option<BorrowedFd<'a>>,
}

/// How the wait for a hook ended.
enum HookEnd {
    /// It was not executed.
    Refused(RemoteFailure),
    Ended,
    TimedOut,
    Unwanted,
}

/// Runs the hook in its own session and waits for it. If it fails or takes too long, this kills its whole process group;
/// processes that a successful hook leaves behind go on.
///
/// Only for single-threaded processes: it forks.
pub(crate) fn run_one(named: &NamedHook, state: &HookState, around: &HookIo<'_>) -> Result<()> {
    let NamedHook { field, hook } = named;
    let failed = |how: String| {
        let problem = format!("{:?} {how}", hook.path);
        Err(Error::new(ErrorKind::HookFailed { path: field.clone() }, field.clone(), problem))
    };
    match supervise(hook, state, around) {
        Ok((HookEnd::Ended, Some(status), stderr)) => match describe(&status) {
            None => Ok(()),
            Some(how) => failed(how + &said(&stderr)),
        },
        Ok((HookEnd::Refused(RemoteFailure { step, message, .. }), ..)) => {
            failed(format!("could not be run: {step}: {message}"))
        }
        Ok((HookEnd::Ended, None, stderr)) => failed("ended unseen".to_owned() + &said(&stderr)),
        Ok((HookEnd::TimedOut, _, stderr)) => {
            let limit = hook.timeout.unwrap_or_default();
            failed(format!("did not end within {limit:?} and was killed") + &said(&stderr))
        }
        Ok((HookEnd::Unwanted, ..)) => failed("was killed because the caller ended".to_owned()),
        Err(error) => failed(format!("could not be run: {error}")),
    }
}

fn supervise(
    hook: &Hook,
    state: &HookState,
    around: &HookIo<'_>,
) -> Result<(HookEnd, Option<WaitIdStatus>, Vec<u8>)> {
    // In memory, not a pipe, so that nothing waits for a hook that does not read it.
    let stdin = seal_plan(state)?;
    let (stderr, theirs) = pipe_with(PipeFlags::CLOEXEC).os(|| "pipe2()")?;
    // A hook of the container may have other ids than this process.
    let_reopen(theirs.as_fd())?;
    // Before the fork: from then on, nothing may fail until the hook is collected.
    let mut tail = Tail::new(stderr)?;
    let (channel, child_channel) = Channel::pair()?;
    let deadline = hook.timeout.and_then(|limit| Instant::now().checked_add(limit));
    match sys::fork(0, None).os(|| "clone3(hook)")? {
        Forked::Child => {
            let error = execute(hook, &stdin, around, &theirs);
            let _ = child_channel.send(&HookRefused(RemoteFailure::pack(Actor::Hooks, &error)), &[]);
            sys::exit_now(127)
        }
        Forked::Parent { pid, pidfd } => {
            drop((theirs, child_channel, stdin));
            // A message says why it could not be executed; execve closes the connection.
            let end = match channel.receive::<HookRefused>(deadline) {
                Ok(refused) => HookEnd::Refused(refused.message.0),
                Err(error) if *error.kind() == ErrorKind::TimedOut => HookEnd::TimedOut,
                Err(_) => wait(&pidfd, &mut tail, deadline, around.watched),
            };
            if !matches!(end, HookEnd::Ended) {
                kill_group(pid, &pidfd);
            }
            let ended = rustix::process::waitid(
                WaitId::PidFd(pidfd.as_fd()),
                WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
            );
            let status = ended.ok().flatten();
            if status.as_ref().is_none_or(|status| describe(status).is_some()) {
                // Not collected yet, so the kernel has not reused the pid.
                kill_group(pid, &pidfd);
            }
            collect(&pidfd);
            tail.drain();
            Ok((end, status, tail.bytes))
        }
    }
}

/// Becomes the hook. Returns only what went wrong.
fn execute(hook: &Hook, stdin: &OwnedFd, around: &HookIo<'_>, stderr: &OwnedFd) -> Error {
    let steps = || -> Result<()> {
        sys::unblock_signals();
        // Its own session and process group: a signal to the group reaches its children, and it has no terminal.
        rustix::process::setsid().os(|| "setsid()")?;
        rustix::process::set_parent_process_death_signal(Some(Raw::KILL)).os(|| "prctl(PR_SET_PDEATHSIG)")?;
        rustix::stdio::dup2_stdin(stdin).os(|| "dup2(stdin)")?;
        rustix::stdio::dup2_stdout(around.null).os(|| "dup2(stdout)")?;
        rustix::stdio::dup2_stderr(stderr).os(|| "dup2(stderr)")
    };
    match steps() {
        Ok(()) => (around.execute)(hook),
        Err(error) => error,
    }
}

/// Executes a hook of the host with the identity and the privileges of this process, and `cwd` as its working directory.
/// Returns only what went wrong.
pub(crate) fn execute_on_host(hook: &Hook, cwd: BorrowedFd<'_>) -> Error {
    let steps = || -> Result<()> {
        rustix::process::umask(Mode::from_raw_mode(UMASK));
        rustix::process::fchdir(cwd).os(|| "fchdir(cwd)")?;
        sys::close_on_exec_from(3).os(|| "close_range(3, ~0, CLOSE_RANGE_CLOEXEC)")
    };
    if let Err(error) = steps() {
        return error;
    }
    let (path, argv) = (hook.c_path(), hook.argv());
    let envp = hook.envp().unwrap_or_default();
    let (_, errno) = sys::Execution::new(&path, &argv, &envp).execute();
    Err::<(), _>(errno).os(|| format!("execve({path:?})")).expect_err("made from an errno")
}

/// Waits for the hook's end, the deadline, or the end of the watched connection, and keeps reading meanwhile. Does not wait
/// for children of the hook that hold its standard error open.
fn wait(
    pidfd: &OwnedFd,
    tail: &mut Tail,
    deadline: Option<Instant>,
    watched: Option<BorrowedFd<'_>>,
) -> HookEnd {
    loop {
        let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
        if let Some(watched) = &watched {
            fds.push(PollFd::new(watched, PollFlags::empty()));
        }
        let pipe = tail.pipe.as_ref();
        fds.extend(pipe.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let left = deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
        match poll(&mut fds, left.as_ref()) {
            Ok(0) => return HookEnd::TimedOut,
            Err(_) => continue,
            Ok(_) => {}
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[0] {
            return HookEnd::Ended;
        }
        if watched.is_some() && ready[1] {
            return HookEnd::Unwanted;
        }
        tail.read_once();
        // During a flood of output poll(2) never times out.
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return HookEnd::TimedOut;
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: duration.subsec_nanos().into() }
}

/// Kills the hook and every process of its group. Only before it is collected: until then the kernel does not reuse the pid.
fn kill_group(pid: Pid, pidfd: &OwnedFd) {
    let _ = rustix::process::kill_process_group(pid, Raw::KILL);
    // Also if it has no session yet.
    let _ = rustix::process::pidfd_send_signal(pidfd, Raw::KILL);
}

fn collect(pidfd: &OwnedFd) {
    crate::helper::reap(pidfd.as_fd());
}

/// How the hook failed; `None` if it succeeded.
fn describe(status: &WaitIdStatus) -> Option<String> {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("exited with code {code}")),
        (_, Some(signal)) => Some(match Signal::new(signal) {
            Ok(signal) => format!("died of {signal}"),
            Err(_) => format!("died of signal {signal}"),
        }),
        _ => Some("ended in an unknown way".to_owned()),
    }
}

/// The output of the hook as one line, to be appended to an error.
fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return String::new();
    }
    let line: String = lines.join("; ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!(": {line}")
}

/// The last bytes that came out of a pipe.
struct Tail {
    pipe: Option<OwnedFd>,
    bytes: Vec<u8>,
}

impl Tail {
    fn new(pipe: OwnedFd) -> Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true).os(|| "ioctl(FIONBIO)")?;
        Ok(Self { pipe: Some(pipe), bytes: Vec::new() })
    }

    /// Reads once without waiting. Returns whether there was anything.
    fn read_once(&mut self) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        let mut chunk = [0; CHUNK];
        match rustix::io::read(pipe, &mut chunk) {
            Err(Errno::AGAIN | Errno::INTR) => false,
            Ok(0) | Err(_) => {
                self.pipe = None;
                false
            }
            Ok(count) => {
                self.bytes.extend_from_slice(&chunk[..count]);
                let surplus = self.bytes.len().saturating_sub(MAX_STDERR);
                self.bytes.drain(..surplus);
                true
            }
        }
    }

    /// Reads at most as much as a pipe holds: a process that has it open may go on writing.
    fn drain(&mut self) {
        const PIPE_BYTES: usize = 1 << 20;
        for _ in 0..PIPE_BYTES / CHUNK {
            if !self.read_once() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hook_said_becomes_one_line() {
        assert_eq!(said(b""), "");
        assert_eq!(said(b"\n \n"), "");
        assert_eq!(said(b"no bridge\n\ttry \x1b[1mlater\n"), ": no bridge; try  [1mlater");
    }

    #[test]
    fn only_the_end_of_a_flood_is_kept() {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut tail = Tail::new(read).unwrap();
        for number in 0..2000 {
            rustix::io::write(&write, format!("line {number}\n").as_bytes()).unwrap();
            if number % 100 == 0 {
                tail.drain();
            }
        }
        drop(write);
        tail.drain();
        // A process that another test is making may have a copy of the writing end, until it executes.
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Some(pipe) = &tail.pipe {
            crate::process::channel::wait_readable(pipe.as_fd(), deadline).unwrap();
            tail.drain();
        }
        assert!(tail.bytes.len() <= MAX_STDERR && tail.bytes.ends_with(b"line 1999\n"));
    }
}

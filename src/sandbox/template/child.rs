//! [`Child`]: a traced process, the system calls that it makes for its tracer, and how long the tracer waits for it.

use super::maps::{Line, PAGE};
use super::refusal::refuse;
use super::{STAT_WORDS, ended};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::process::channel::wait_readable_until;
use crate::sys::tracing::{self, Registers, Seen, arch};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::process::Pid;
use std::time::{Duration, Instant};

/// How long the sandbox holds a process. Nothing else is done meanwhile, and what a process does when it is stopped may be
/// up to itself: a file that it reads from a filesystem of its own, or a cgroup that another process froze.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

pub(super) struct Child {
    pid: Pid,
    /// Where its vDSO has an instruction that makes a system call.
    instruction: u64,
    /// For errors.
    step: &'static str,
    deadline: Instant,
    /// Readable when a child of this process has stopped or ended. This thread blocks SIGCHLD as long as this value lives:
    /// a stop between a look and the wait is pending, not lost.
    signals: SignalFd,
    blocked_before: SigSet,
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.blocked_before.thread_set_mask();
    }
}

impl Child {
    /// One that is yet to stop, and makes no calls.
    pub(super) fn new(pid: Pid, step: &'static str) -> Result<Self> {
        let blocked_before = SigSet::thread_get_mask().os(|| "sigprocmask()")?;
        let stops = SigSet::from(Signal::SIGCHLD);
        stops.thread_block().os(|| "sigprocmask(SIGCHLD)")?;
        let signals = SignalFd::with_flags(&stops, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        let signals = signals.os(|| "signalfd(SIGCHLD)");
        let undo = |_: &Error| blocked_before.thread_set_mask().unwrap_or_default();
        let signals = signals.inspect_err(undo)?;
        Ok(Self { pid, instruction: 0, step, deadline: Instant::now() + LIMIT, signals, blocked_before })
    }

    /// Finds the instruction in the vDSO, which `maps` says the place of.
    pub(super) fn find_instruction(&mut self, maps: &[Line]) -> Result<()> {
        const LARGEST: u64 = 1 << 20;
        let none = || Error::unsupported(self.step, "the kernel maps no vDSO");
        let vdso = maps.iter().find(|line| line.name == b"[vdso]").ok_or_else(none)?;
        let mut code = vec![0; (vdso.end - vdso.start).min(LARGEST) as usize];
        tracing::read_memory(self.pid, vdso.start, &mut code).os(|| "process_vm_readv(vDSO)")?;
        let length = arch::SYSTEM_CALL.len();
        let at = code.windows(length).position(|bytes| bytes == arch::SYSTEM_CALL).ok_or_else(none)?;
        self.instruction = vdso.start + at as u64;
        Ok(())
    }

    /// Fails if the process has been held for [`LIMIT`].
    pub(super) fn in_time(&self) -> Result<()> {
        if Instant::now() < self.deadline {
            return Ok(());
        }
        let problem = format!("the process was not ready to go on after {} s", LIMIT.as_secs());
        Err(Error::new(ErrorKind::TimedOut, self.step, problem).hint("the container was killed"))
    }

    /// Waits until it stops, or ends.
    pub(super) fn await_stop(&self) -> Result<Seen> {
        loop {
            if let Some(seen) = tracing::look(self.pid).os(|| "waitid()")? {
                return Ok(seen);
            }
            self.in_time()?;
            wait_readable_until(self.signals.as_fd(), Some(self.deadline))?;
            // One signal stands for any number of stops, so there is one at most.
            self.signals.read_signal().os(|| "read(signalfd)")?;
        }
    }

    /// Waits for the next stop by SIGTRAP, which is the tracer's doing. The process blocks other signals, or ignores them
    /// for as long as it is traced.
    pub(super) fn await_trap(&self, one_instruction: bool) -> Result<()> {
        loop {
            match self.await_stop()? {
                Seen::Ended => return Err(ended(self.step)),
                Seen::Stopped(libc::SIGTRAP) => return Ok(()),
                Seen::Stopped(signal @ (libc::SIGSEGV | libc::SIGBUS | libc::SIGSYS | libc::SIGILL)) => {
                    let hint = "does the seccomp filter refuse it?";
                    let problem = format!("a system call ended with signal {signal}");
                    return Err(Error::new(ErrorKind::Os(libc::EPERM), self.step, problem).hint(hint));
                }
                // The container's own processes may stop it; it goes on.
                Seen::Stopped(_) => {
                    self.in_time()?;
                    tracing::resume(self.pid, one_instruction).os(|| "ptrace(PTRACE_CONT)")?
                }
            }
        }
    }

    /// Has the process make one system call.
    pub(super) fn call(&self, name: &str, call: [u64; 7]) -> Result<u64> {
        self.in_time()?;
        let mut registers = self.registers()?;
        registers.call(self.instruction, &call);
        tracing::set_registers(self.pid, &registers).os(|| "ptrace(PTRACE_SETREGSET)")?;
        tracing::resume(self.pid, true).os(|| "ptrace(PTRACE_SINGLESTEP)")?;
        self.await_trap(true)?;
        self.succeeded(name, self.registers()?.result())
    }

    /// Has the process look at its descriptor `number`, or at the file at `path`: the words of its `struct stat`. There is a
    /// page at `buffer` for the path and one after it for the answer.
    pub(super) fn stat(&self, buffer: u64, number: Option<u64>, path: &[u8]) -> Result<[u64; STAT_WORDS]> {
        if path.len() as u64 >= PAGE {
            return Err(refuse("the path of a file that it has is too long", "close it before the stop"));
        }
        tracing::write_memory(self.pid, buffer, &[path, b"\0"].concat()).os(|| "process_vm_writev()")?;
        let at = number.unwrap_or(libc::AT_FDCWD as u64);
        let how = if number.is_some() { libc::AT_EMPTY_PATH as u64 } else { 0 };
        self.call("stat()", [libc::SYS_newfstatat as u64, at, buffer, buffer + PAGE, how, 0, 0])?;
        let mut stat = [0; STAT_WORDS];
        self.read(buffer + PAGE, &mut stat)?;
        Ok(stat)
    }

    /// The result of a call; its error names the call.
    pub(super) fn succeeded(&self, name: &str, result: u64) -> Result<u64> {
        match (result as i64).wrapping_neg() {
            errno @ 1..=4095 => {
                let errno = Errno::from_raw_os_error(i32::try_from(errno).unwrap_or(libc::EIO));
                Err(errno)
                    .os(|| format!("{name}, by the process itself"))
                    .map_err(|error| error.during(self.step))
            }
            _ => Ok(result),
        }
    }

    pub(super) fn registers(&self) -> Result<Registers> {
        tracing::registers(self.pid).os(|| "ptrace(PTRACE_GETREGSET)")
    }

    pub(super) fn read(&self, at: u64, words: &mut [u64]) -> Result<()> {
        let mut bytes = vec![0; size_of_val(words)];
        tracing::read_memory(self.pid, at, &mut bytes).os(|| "process_vm_readv()")?;
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().expect("chunks of 8"));
        }
        Ok(())
    }
}

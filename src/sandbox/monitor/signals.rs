//! Signals for the container's processes: to init as if it were no PID 1, to others by the numbers they have inside.

use super::container::ContainerState;
use super::members;
use super::members::Member;
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::state::Cause;
use crate::sys::{self, StatusText};
use crate::wire::control::SignalTarget;
use nix::sys::signal::{SigSet, Signal};
use rustix::fd::AsFd;

impl ContainerState {
    /// Sends `number` to `target`, but to none of the `helpers`, which are this process's own children.
    pub(super) fn signal_target(&mut self, number: i32, target: SignalTarget, helpers: &[i32]) -> Result<()> {
        if !(1..=64).contains(&number) {
            return Err(Error::new(ErrorKind::InvalidInput, "signal", format!("{number} is not a signal")));
        }
        match target {
            SignalTarget::Init => self.signal_init(number),
            SignalTarget::All => self.signal_all(number, helpers),
            SignalTarget::Process(pid) if self.is_init(pid) => self.signal_init(number),
            SignalTarget::Process(pid) => self.member(pid, helpers)?.signal(number),
            SignalTarget::Group(group) => self.signal_group(number, group, helpers),
            SignalTarget::Foreground(pid) => {
                let group = self.member(pid, helpers)?.foreground_group()?;
                self.signal_group(number, group, helpers)
            }
        }
    }

    /// Sends `number` to init. The kernel drops what PID 1 has no handler for; here such a signal does what it would
    /// do to any other process.
    pub(super) fn signal_init(&mut self, number: i32) -> Result<()> {
        if !self.is_alive() {
            return Err(self.has_ended("signal"));
        }
        let deliver = match self.disposition(number) {
            Disposition::Handled => number,
            Disposition::Default if ends_by_default(number) => libc::SIGKILL,
            Disposition::Default => number,
        };
        if ends_by_default(number) {
            self.circumstances.ended_by = Some((Cause::Requested { signal: number }, deliver));
        }
        sys::pidfd_send_raw(self.init.pidfd.as_fd(), deliver)
            .os(|| format!("pidfd_send_signal(init, {number})"))?;
        if deliver == libc::SIGKILL {
            self.let_run();
        }
        Ok(())
    }

    /// Init last: its end is the end of the others where the pid namespace is its own.
    fn signal_all(&mut self, number: i32, helpers: &[i32]) -> Result<()> {
        for member in self.members(helpers)?.filter(|member| !self.is_init(member.pid())) {
            member.signal(number)?;
        }
        if let (libc::SIGKILL, Some(freezer)) = (number, &self.freezer) {
            // Also those that left the container's mount namespace, or fork as fast as they are killed.
            freezer.kill()?;
        }
        if self.is_alive() { self.signal_init(number) } else { Ok(()) }
    }

    fn signal_group(&mut self, number: i32, group: i32, helpers: &[i32]) -> Result<()> {
        let (mut found, mut init) = (false, false);
        for member in self.members(helpers)?.filter(|member| member.process_group() == Some(group)) {
            found = true;
            if self.is_init(member.pid()) {
                init = true;
            } else {
                member.signal(number)?;
            }
        }
        if found {
            return if init { self.signal_init(number) } else { Ok(()) };
        }
        let problem = format!("container {:?} has no process group {group}", self.id.as_str());
        Err(Error::new(ErrorKind::NotFound, "signal", problem))
    }

    /// The process that the container calls `pid`.
    fn member(&self, pid: i32, helpers: &[i32]) -> Result<Member> {
        let proc = self.proc.as_ref().ok_or_else(|| self.has_ended("signal"))?;
        let not_found = || {
            let problem = format!("container {:?} has no process {pid}", self.id.as_str());
            Error::new(ErrorKind::NotFound, "signal", problem)
        };
        let member = members::find(proc.as_fd(), pid)?.ok_or_else(not_found)?;
        let ours = self.helpers_inside(helpers).contains(&pid);
        if self.shares_pids() && (ours || !self.is_mine(&member)) {
            let problem = format!("process {pid} belongs to a different container");
            return Err(Error::new(ErrorKind::NotFound, "signal", problem));
        }
        Ok(member)
    }

    /// Every process of the container, and none of the `helpers`.
    pub(super) fn members(&self, helpers: &[i32]) -> Result<impl Iterator<Item = Member> + '_> {
        let all = self.proc.as_ref().map(|proc| members::all(proc.as_fd())).transpose()?;
        let (shared, ours) = (self.shares_pids(), self.helpers_inside(helpers));
        let is_member =
            move |member: &Member| !shared || (self.is_mine(member) && !ours.contains(&member.pid()));
        Ok(all.into_iter().flatten().filter(is_member))
    }

    /// Whether others see the same pid namespace: another container's init, or the host.
    pub(super) fn shares_pids(&self) -> bool {
        !self.rules.own_pids || self.in_pod
    }

    /// Whether a process of a shared pid namespace has this container's mount namespace, as all its processes have; and,
    /// if it is the root container, the sandbox and its helpers.
    fn is_mine(&self, member: &Member) -> bool {
        let own = self.namespaces.as_ref();
        member.pid() == self.init_pid_inside || own.is_some_and(|own| member.is_in(own))
    }

    /// The sandbox and its `helpers`, if they are seen in the container's proc. Their numbers mean something only there:
    /// in a pid namespace below, where we are not, they are somebody else's.
    pub(super) fn helpers_inside(&self, helpers: &[i32]) -> Vec<i32> {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        match self.proc.as_ref().and_then(|proc| members::own_pid(proc.as_fd())) {
            Some(seen) if seen == own => helpers.iter().copied().chain([own]).collect(),
            _ => Vec::new(),
        }
    }

    fn is_init(&self, pid: i32) -> bool {
        self.is_alive() && self.init_pid_inside == pid
    }

    fn disposition(&self, number: i32) -> Disposition {
        // Only a first process is special to the kernel.
        if number == libc::SIGKILL || number == libc::SIGSTOP || self.init_pid_inside != 1 {
            return Disposition::Handled;
        }
        let status = self.proc.as_ref().and_then(|proc| members::status(proc.as_fd(), 1));
        let Some(status) = status else { return Disposition::Default };
        let status = StatusText(&status);
        let bit = 1_u64 << (number - 1);
        if (status.signals(CAUGHT) | status.signals(IGNORED)) & bit != 0 {
            Disposition::Handled
        } else {
            Disposition::Default
        }
    }
}

/// The line of `/proc/PID/status` with the signals that have handlers.
const CAUGHT: &str = "SigCgt";
/// The line with the ignored ones.
const IGNORED: &str = "SigIgn";

/// What init does about a signal.
enum Disposition {
    /// It has a handler or ignores it: the kernel delivers.
    Handled,
    /// Neither: to a PID 1 the kernel does nothing.
    Default,
}

/// Whether the default action of a signal ends a process (signal(7), "Term" and "Core").
fn ends_by_default(number: i32) -> bool {
    !matches!(
        number,
        libc::SIGCHLD
            | libc::SIGURG
            | libc::SIGWINCH
            | libc::SIGCONT
            | libc::SIGSTOP
            | libc::SIGTSTP
            | libc::SIGTTIN
            | libc::SIGTTOU
    )
}

/// What is passed on to init when it is sent to the sandbox: everything a person or a supervisor sends.
pub(super) fn forwarded() -> SigSet {
    [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGCONT,
        Signal::SIGWINCH,
    ]
    .into_iter()
    .collect()
}

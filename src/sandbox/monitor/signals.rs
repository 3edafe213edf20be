//! Signals for the container's processes: to init as if it were not PID 1, to others by their pids inside.

use super::container::ContainerState;
use super::stage::ProcessView;
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::sandbox::members;
use crate::sandbox::members::Member;
use crate::sandbox::target::has_ended;
use crate::state::Cause;
use crate::sys::{self, StatusText};
use crate::wire::control::SignalTarget;
use rustix::fd::AsFd;

impl ContainerState {
    /// Sends `number` to `target`, but not to the `helpers`: children of the sandbox that the container may see.
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

    /// Sends `number` to init. The kernel drops signals for which PID 1 has no handler; here such a signal does what it
    /// would do to any other process.
    pub(super) fn signal_init(&mut self, number: i32) -> Result<()> {
        if self.init_has_ended() {
            return Err(has_ended(&self.id, "signal"));
        }
        let deliver = match self.disposition(number) {
            InitDisposition::Handled => number,
            InitDisposition::Default if ends_by_default(number) => libc::SIGKILL,
            InitDisposition::Default => number,
        };
        if ends_by_default(number) {
            self.ended_by = Some((Cause::Requested { signal: number }, deliver));
        }
        sys::pidfd_send_raw(self.init.pidfd.as_fd(), deliver)
            .os(|| format!("pidfd_send_signal(init, {number})"))?;
        if deliver == libc::SIGKILL {
            self.let_run();
        }
        Ok(())
    }

    /// Signals init last, because all others end with init. SIGKILL it signals first: otherwise a shell whose child is
    /// killed would exit by itself, and its exit code would hide that this API ended the container.
    fn signal_all(&mut self, number: i32, helpers: &[i32]) -> Result<()> {
        // Leave the workload's cgroup, so that a kill of the processes in it spares the sandbox.
        self.init.cgroups.hide_sandbox()?;
        let members: Vec<_> = self.members(helpers)?.filter(|member| !self.is_init(member.pid())).collect();
        if number == libc::SIGKILL && !self.init_has_ended() {
            self.signal_init(number)?;
        }
        for member in members {
            member.signal(number)?;
        }
        if let (libc::SIGKILL, Some(freezer)) = (number, &self.freezer) {
            // This also reaches processes that left the container's mount namespace, or fork as fast as they are killed.
            freezer.kill()?;
        }
        if self.init_has_ended() { Ok(()) } else { self.signal_init(number) }
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

    /// The process with this pid in the container.
    fn member(&self, pid: i32, helpers: &[i32]) -> Result<Member> {
        let view = self.view().ok_or_else(|| self.not_in_phase("signal"))?;
        let not_found = || {
            let problem = format!("container {:?} has no process {pid}", self.id.as_str());
            Error::new(ErrorKind::NotFound, "signal", problem)
        };
        let member = members::find(view.proc, pid)?.ok_or_else(not_found)?;
        if self.reaper_pid() == Some(pid) {
            let problem = format!("process {pid} is the init of container {:?}", self.id.as_str());
            return Err(Error::new(ErrorKind::NotFound, "signal", problem).hint("it takes no signals"));
        }
        let ours = self.helpers_inside(helpers).contains(&pid);
        if self.shares_pids() && (ours || !view.is_mine(&member)) {
            let problem = format!("process {pid} belongs to a different container");
            return Err(Error::new(ErrorKind::NotFound, "signal", problem));
        }
        Ok(member)
    }

    /// Every process of the container, without the `helpers`.
    pub(super) fn members(&self, helpers: &[i32]) -> Result<impl Iterator<Item = Member> + '_> {
        let view = self.view();
        let all = view.map(|view| members::all(view.proc)).transpose()?;
        let (shared, ours) = (self.shares_pids(), self.helpers_inside(helpers));
        let is_member = move |member: &Member| {
            let mine = || view.is_some_and(|view| view.is_mine(member));
            !ours.contains(&member.pid()) && (!shared || mine())
        };
        Ok(all.into_iter().flatten().filter(is_member))
    }

    /// The reaper; the sandbox and its `helpers`, if they are seen in the container's proc. In a pid namespace below, where
    /// the sandbox is not, their numbers belong to other processes.
    pub(super) fn helpers_inside(&self, helpers: &[i32]) -> Vec<i32> {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        match self.view().and_then(|view| members::own_pid(view.proc)) {
            Some(seen) if seen == own => helpers.iter().copied().chain([own]).collect(),
            _ => self.reaper_pid().into_iter().chain(self.restorer_pid()).collect(),
        }
    }

    fn is_init(&self, pid: i32) -> bool {
        self.ready().is_some() && self.view().is_some_and(|view| view.init_pid == pid)
    }

    fn disposition(&self, number: i32) -> InitDisposition {
        let first = self.view().filter(|view| view.init_pid == 1);
        // The kernel drops signals only for PID 1 of a namespace.
        let (false, Some(view)) = (matches!(number, libc::SIGKILL | libc::SIGSTOP), first) else {
            return InitDisposition::Handled;
        };
        let Some(status) = members::status(view.proc, 1) else { return InitDisposition::Default };
        let status = StatusText(&status);
        let bit = 1_u64 << (number - 1);
        if (status.signals(CAUGHT) | status.signals(IGNORED)) & bit != 0 {
            InitDisposition::Handled
        } else {
            InitDisposition::Default
        }
    }
}

impl ProcessView<'_> {
    /// Whether a process of a shared pid namespace is init or has the container's mount namespace, as all processes of the
    /// container have. In the root container, the sandbox and its helpers have it too.
    fn is_mine(&self, member: &Member) -> bool {
        member.pid() == self.init_pid || self.namespaces.is_some_and(|own| member.is_in(own))
    }
}

/// The line of `/proc/PID/status` with the signals that have handlers.
const CAUGHT: &str = "SigCgt";
/// The line with the ignored ones.
const IGNORED: &str = "SigIgn";

/// What init does about a signal.
enum InitDisposition {
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

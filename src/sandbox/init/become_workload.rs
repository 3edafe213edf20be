//! The last steps before `execve`: give up everything that is not the workload's, in the one order that works.
//!
//! The steps that need privileges come first, at create: [`prepare`] leaves the caller's keyring, checks the capabilities,
//! raises limits, sets the scheduling. Then, at start: limits, scheduling again, labels, working directory, bounding set,
//! groups and ids, capabilities, no_new_privs; read back and compare uid, gid, capabilities; descriptors, filter, execve.
//!
//! Nothing but execve(2) follows the filter, which may refuse any other call. Without no_new_privs, loading the filter
//! needs `CAP_SYS_ADMIN`. The process then keeps that capability in its permitted and effective sets until execve(2),
//! which computes both anew without looking at what they were (capabilities(7), "Transformation of capabilities during
//! execve()").

use super::attributes::{self, Labels, Peak};
use super::program::Program;
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::plan::ProcessPlan;
use crate::process::Channel;
use crate::process::donation::NamedFd;
use crate::sandbox::keyring;
use crate::seccomp::Filter;
use crate::spec::{CapSet, User};
use crate::sys::{self, Execution, LastCall};
use crate::weaken::{Rule, leaves_out};
use crate::wire::init::LISTENER_FDS;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::process::Signal;
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::cell::Cell;

/// Where OCI says nothing, the umask every Linux distribution starts its users with.
const DEFAULT_UMASK: u32 = 0o022;

/// A process about to become the workload.
pub(in crate::sandbox) struct ExecRequest<'a> {
    pub(in crate::sandbox) plan: &'a ProcessPlan,
    pub(in crate::sandbox) filter: Option<&'a Filter>,
    pub(in crate::sandbox) program: &'a Program,
    pub(in crate::sandbox) labels: &'a Labels,
    pub(in crate::sandbox) peak: &'a Peak,
    /// Whether it keeps the groups that it has, if its user has none.
    pub(in crate::sandbox) keep_groups: bool,
    /// The numbers of the descriptors it keeps besides its standard streams.
    pub(in crate::sandbox) keep: &'a [i32],
    /// The pages of the template whose copy it becomes: its parent traces it from execve(2) on.
    pub(in crate::sandbox) template: Option<BorrowedFd<'a>>,
    /// Whether it is a hook of the image: the kernel kills it when its parent ends, and it does not get a scheduling under
    /// which it could not fork.
    pub(in crate::sandbox) is_hook: bool,
    /// The connection to the sandbox, which passes on the listener of its filter.
    pub(in crate::sandbox) parent: &'a Channel,
    pub(in crate::sandbox) listener_report: ListenerReport<'a>,
}

/// How a process reports the listener of its filter to the sandbox.
#[derive(Clone, Copy)]
pub(in crate::sandbox) struct ListenerReport<'a> {
    /// The frame of the report, given the names of the descriptors.
    pub(in crate::sandbox) frame: &'a dyn Fn(&[&str]) -> Result<Vec<u8>>,
    /// At create: what goes along, which this process then closes; and whether the report was sent. The process then
    /// waits for the start, before it executes.
    pub(in crate::sandbox) at_create: Option<(&'a [NamedFd<'a>], &'a Cell<bool>)>,
}

/// Does the steps that need this process's privileges and do not disturb its own work. A refusal by the kernel becomes an
/// error of create: engines show their users why a creation failed, but hardly why a start did.
pub(in crate::sandbox) fn prepare(plan: &ProcessPlan) -> Result<()> {
    // Here and not at start: the startContainer hooks are programs of the container, too.
    keyring::leave_callers()?;
    let wanted = CapabilitySet::from_bits_retain(plan.capabilities.permitted.bits());
    // Most containers want none; then there is nothing to check.
    if !wanted.is_empty() && !rustix::thread::capabilities(None).os(|| "capget()")?.permitted.contains(wanted)
    {
        return Err(Error::unsupported("process.capabilities", "the caller does not have all of them"));
    }
    for limit in &plan.rlimits {
        let (soft, hard) = sys::rlimit(limit.resource)
            .os(|| format!("getrlimit({})", limit.resource))
            .map_err(of_rlimits)?;
        if limit.hard > hard {
            set_rlimit(limit.resource, soft, limit.hard)?;
        }
    }
    attributes::take(plan)
}

fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    sys::set_rlimit(resource, soft, hard)
        .os(|| format!("setrlimit({resource}, {soft}, {hard})"))
        .map_err(of_rlimits)
}

fn of_rlimits(error: Error) -> Error {
    error.during("process.rlimits")
}

/// Becomes the workload, [prepared](prepare) to be it. Returns only what went wrong.
pub(in crate::sandbox) fn execute(becoming: &ExecRequest<'_>) -> Error {
    let ExecRequest { program, filter, .. } = becoming;
    let filter = filter.filter(|_| !leaves_out(Rule::Seccomp));
    let ready = shed(becoming).and_then(|()| filter.map(|filter| Loading::of(filter, becoming)).transpose());
    let loading = match ready {
        Ok(loading) => loading,
        Err(error) => return error,
    };
    // From the filter on, that decides about every call. So everything is prepared by now, and stays in memory until
    // execve: to free memory can be a call, too.
    match prepare_execution(becoming, loading.as_ref()) {
        Err(error) => error,
        Ok(execution) => match execution.execute() {
            (LastCall::Seccomp, errno) => of_filter(errno),
            (LastCall::Execve, errno) => exec_error(program, errno),
        },
    }
}

/// Loads the filter if it notifies; any other one is part of what is returned.
fn prepare_execution<'a>(
    ExecRequest { plan, program, peak, .. }: &ExecRequest<'a>,
    loading: Option<&'a Loading<'a>>,
) -> Result<Execution<'a>> {
    let execution = Execution::new(&program.path, &plan.argv, &program.environment);
    match loading {
        Some(loading) if loading.handover.is_some() => {
            peak.file().into_iter().for_each(sys::forget_peak);
            loading.load().map_err(|error| error.during(FILTER))?;
            Ok(execution)
        }
        loading => {
            let execution = match peak.file() {
                Some(file) => execution.forget_peak(file),
                None => execution,
            };
            match loading {
                Some(Loading { program, flags, .. }) => {
                    execution.load_filter(program, *flags).map_err(of_filter)
                }
                None => Ok(execution),
            }
        }
    }
}

fn of_filter(errno: rustix::io::Errno) -> Error {
    let failed: Result<()> = Err(errno).os(|| "seccomp(SECCOMP_SET_MODE_FILTER)");
    failed.expect_err("made from an errno").during(FILTER)
}

const FILTER: &str = "linux.seccomp";

/// Gives descriptors their numbers: first copies all of them to numbers from `above` on, then puts each into place.
pub(in crate::sandbox) fn place(fds: &[(i32, BorrowedFd<'_>)], above: i32) -> Result<()> {
    let copies = fds.iter().map(|(_, fd)| rustix::io::fcntl_dupfd_cloexec(fd, above));
    let copies = copies.collect::<Result<Vec<_>, _>>().os(|| "fcntl(F_DUPFD_CLOEXEC)")?;
    for (copy, (number, _)) in copies.iter().zip(fds) {
        sys::place_at(copy.as_fd(), *number).os(|| format!("dup2({number})"))?;
    }
    Ok(())
}

/// Takes the standard streams that it was given. The others stay.
pub(in crate::sandbox) fn take_streams(given: &[Option<OwnedFd>; 3]) -> Result<()> {
    for (number, stream) in (0..).zip(given) {
        if let Some(stream) = stream {
            sys::place_at(stream.as_fd(), number).os(|| format!("dup2({number})"))?;
        }
    }
    Ok(())
}

fn exec_error(program: &Program, errno: rustix::io::Errno) -> Error {
    use rustix::io::Errno;
    let kind = match errno {
        Errno::NOENT | Errno::NOTDIR => ErrorKind::ProgramNotFound,
        Errno::ACCESS | Errno::NOEXEC | Errno::ISDIR | Errno::LOOP => ErrorKind::ProgramNotExecutable,
        other => ErrorKind::Os(other.raw_os_error()),
    };
    let words = match errno {
        Errno::NOENT => "no such file or directory, or its interpreter is missing".to_owned(),
        Errno::NOEXEC => "exec format error".to_owned(),
        Errno::ACCESS => "permission denied".to_owned(),
        other => nix::errno::Errno::from_raw(other.raw_os_error()).desc().to_lowercase(),
    };
    Error::new(kind, format!("exec: {:?}", program.path.to_string_lossy()), words)
}

fn shed(becoming: &ExecRequest<'_>) -> Result<()> {
    let ExecRequest { plan, labels, keep, .. } = becoming;
    for limit in &plan.rlimits {
        set_rlimit(limit.resource, limit.soft, limit.hard)?;
    }
    if !becoming.is_hook {
        attributes::settle(plan)?;
    }
    labels.write()?;
    // Try with root's privileges first: a user's process may start in a directory that only root can enter. On some file
    // systems only the user can, so try again after the change of ids.
    let entered = match enter_working_directory(plan) {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => false,
        result => result.map(|()| true)?,
    };
    if !leaves_out(Rule::BoundingSet) {
        drop_bounding_set(plan.capabilities.bounding)?;
    }
    take_ids(&plan.user, becoming.keep_groups)?;
    let until_execve = to_load_filter(becoming);
    take_capabilities(plan, until_execve)?;
    if plan.no_new_privileges {
        rustix::thread::set_no_new_privs(true).os(|| "prctl(PR_SET_NO_NEW_PRIVS)")?;
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(plan.user.umask.unwrap_or(DEFAULT_UMASK)));
    if !entered {
        enter_working_directory(plan)?;
    }
    if becoming.is_hook {
        // Again: the kernel forgets it when ids change (prctl(2)).
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .os(|| "prctl(PR_SET_PDEATHSIG)")?;
    }
    check_posture(plan, until_execve)?;
    sys::close_on_exec_from(3).os(|| "close_range(3, ~0, CLOSE_RANGE_CLOEXEC)")?;
    for number in *keep {
        sys::keep_on_exec(*number).os(|| format!("fcntl({number}, F_SETFD)"))?;
    }
    if let Some(pages) = becoming.template {
        sys::keep_on_exec(pages.as_raw_fd()).os(|| "fcntl(template, F_SETFD)")?;
        sys::tracing::be_traced().os(|| "ptrace(PTRACE_TRACEME)")?;
    }
    Ok(())
}

/// A filter, and all that it takes to load it and to hand over its listener, if it notifies.
struct Loading<'a> {
    program: Vec<libc::sock_filter>,
    flags: u32,
    handover: Option<Handover<'a>>,
}

/// How the listener of a filter reaches the agent.
///
/// With the filter loaded, any system call may block until the agent answers, and the agent cannot answer before it has
/// the listener. So the calls after that carry a secret that the filter lets pass.
struct Handover<'a> {
    secret: [u64; 2],
    parent: &'a Channel,
    report: Vec<u8>,
    along: Vec<BorrowedFd<'a>>,
    /// Set once the report is sent, if the process waits for the start then.
    sent: Option<&'a Cell<bool>>,
    /// Where this process waits until the listener is taken.
    taken: Channel,
    /// The other end, which goes with the listener.
    theirs: Cell<Option<OwnedFd>>,
}

impl<'a> Loading<'a> {
    fn of(filter: &Filter, becoming: &ExecRequest<'a>) -> Result<Self> {
        if !filter.notify {
            return Ok(Self { program: filter.program(), flags: filter.flags, handover: None });
        }
        let secret = sys::draw_secret().os(|| "getrandom()")?;
        let filter = filter.with_pass(secret)?;
        let (taken, theirs) = Channel::pair()?;
        let ListenerReport { frame, at_create } = becoming.listener_report;
        let (along, sent) = at_create.map_or((&[][..], None), |(along, sent)| (along, Some(sent)));
        let names: Vec<_> = along.iter().map(|(name, _)| *name).chain(LISTENER_FDS).collect();
        let handover = Handover {
            secret,
            parent: becoming.parent,
            report: frame(&names)?,
            along: along.iter().map(|(_, fd)| *fd).collect(),
            sent,
            taken,
            theirs: Cell::new(Some(theirs.into())),
        };
        let handover = Some(handover);
        Ok(Self { program: filter.program(), flags: filter.flags, handover })
    }

    /// Makes no other call than seccomp(2), and those with the secret.
    fn load(&self) -> Result<()> {
        let listener =
            sys::load_seccomp(&self.program, self.flags).os(|| "seccomp(SECCOMP_SET_MODE_FILTER)")?;
        match (&self.handover, listener) {
            (Some(handover), Some(listener)) => handover.hand_over(listener),
            _ => Ok(()),
        }
    }
}

impl Handover<'_> {
    /// Sends the listener and waits until it is where it belongs, and, at create, for the start.
    fn hand_over(&self, listener: OwnedFd) -> Result<()> {
        let Some(theirs) = self.theirs.take() else { return Ok(()) };
        let (parent, last) = (self.parent.as_fd(), [listener.as_fd(), theirs.as_fd()]);
        sys::send_with_secret(parent, &self.report, &self.along, last, self.secret)
            .os(|| "sendmsg(listener)")?;
        // Our copy of the other end would keep that connection open, and one of a terminal's master the line.
        for fd in self.along.iter().copied().chain([theirs.as_fd()]) {
            sys::close_with_secret(fd, self.secret);
        }
        std::mem::forget(theirs);
        // Closed by execve.
        std::mem::forget(listener);
        self.wait_at(self.taken.as_fd(), "the client did not take the listener")?;
        let Some(sent) = self.sent else { return Ok(()) };
        sent.set(true);
        self.wait_at(parent, "the sandbox is gone")
    }

    /// Waits for a message, of which only the arrival counts.
    fn wait_at(&self, channel: BorrowedFd<'_>, problem: &str) -> Result<()> {
        let mut message = [0; LONGEST];
        match sys::read_with_secret(channel, &mut message, self.secret).os(|| "read(listener)")? {
            0 => Err(Error::new(ErrorKind::HelperDied, "read(listener)", problem)),
            _ => Ok(()),
        }
    }
}

/// What this process needs for its filter and the workload must not have: seccomp(2) asks for `CAP_SYS_ADMIN` or
/// no_new_privs. Nothing if this process does not have it either; the kernel then refuses the filter.
fn to_load_filter(becoming: &ExecRequest<'_>) -> CapabilitySet {
    if becoming.filter.is_none() || becoming.plan.no_new_privileges {
        return CapabilitySet::empty();
    }
    let own = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted);
    own & CapabilitySet::SYS_ADMIN
}

/// Longer than a [`ListenerTaken`](crate::wire::init::ListenerTaken) and a
/// [`InitRequest::Start`](crate::wire::init::InitRequest::Start).
const LONGEST: usize = 256;

fn drop_bounding_set(keep: CapSet) -> Result<()> {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if keep.bits() >> number & 1 == 1 {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // Past the last capability this kernel knows.
            Err(rustix::io::Errno::INVAL) => return Ok(()),
            result => result.os(|| format!("prctl(PR_CAPBSET_DROP, {number})"))?,
        }
    }
    Ok(())
}

fn take_ids(user: &User, keep_groups: bool) -> Result<()> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(user.uid), rustix::fs::Gid::from_raw(user.gid));
    // Keep capabilities permitted across the change of ids; `take_capabilities` drops the excess.
    rustix::thread::set_keep_capabilities(true).os(|| "prctl(PR_SET_KEEPCAPS)")?;
    let groups: Vec<_> = user.additional_gids.iter().map(|gid| rustix::fs::Gid::from_raw(*gid)).collect();
    let kept = keep_groups && groups.is_empty() || leaves_out(Rule::Groups);
    match if kept { Ok(()) } else { rustix::thread::set_thread_groups(&groups) } {
        // If the gid map was written without privilege, the kernel denies this to privileged processes, too
        // (user_namespaces(7)). Only the kernel knows how the map was written, so the plan cannot tell.
        Err(rustix::io::Errno::PERM) if has_capability(CapabilitySet::SETGID) => {
            if !groups.is_empty() {
                let why = "setgroups is denied in this user namespace";
                let error = Error::unsupported("process.user.additionalGids", why);
                return Err(error.hint("map a range of gids"));
            }
        }
        result => result.os(|| format!("setgroups() with {} groups", groups.len()))?,
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid).os(|| format!("setresgid({0}, {0}, {0})", user.gid))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).os(|| format!("setresuid({0}, {0}, {0})", user.uid))
}

fn has_capability(capability: CapabilitySet) -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

/// Takes the plan's sets, with `until_execve` in those that execve(2) computes anew.
fn take_capabilities(plan: &ProcessPlan, until_execve: CapabilitySet) -> Result<()> {
    let wanted = plan.capabilities;
    let set = |set: CapSet| CapabilitySet::from_bits_retain(set.bits());
    rustix::thread::clear_ambient_capability_set().os(|| "prctl(PR_CAP_AMBIENT_CLEAR_ALL)")?;
    let sets = CapabilitySets {
        effective: set(wanted.effective) | until_execve,
        permitted: set(wanted.permitted) | until_execve,
        inheritable: set(wanted.inheritable),
    };
    rustix::thread::set_capabilities(None, sets).map_err(|errno| {
        Error::unsupported("process.capabilities", format!("the caller does not have all of them: {errno}"))
    })?;
    for number in (0..64).filter(|number| wanted.ambient.bits() >> number & 1 == 1) {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        rustix::thread::configure_capability_in_ambient_set(capability, true)
            .os(|| format!("prctl(PR_CAP_AMBIENT_RAISE, {number})"))?;
    }
    Ok(())
}

fn enter_working_directory(plan: &ProcessPlan) -> Result<()> {
    let cwd = &plan.cwd;
    rustix::process::chdir(cwd)
        .os(|| format!("chdir({cwd:?})"))
        .map_err(|error| error.during("process.cwd"))?;
    // The kernel marks a directory that is not below the root; entering one would be a way out (CVE-2024-21626).
    let reached = rustix::process::getcwd(Vec::new()).os(|| "getcwd()")?;
    if reached.to_bytes().starts_with(b"/") {
        return Ok(());
    }
    let problem = format!("{cwd:?} is outside the container's root");
    Err(Error::new(ErrorKind::InvalidSpec { path: "process.cwd".into() }, "process.cwd", problem))
}

/// Reads back what the kernel has set. A workload never starts with privileges other than the plan's.
fn check_posture(plan: &ProcessPlan, until_execve: CapabilitySet) -> Result<()> {
    let mismatch =
        |what: &str| Err(Error::new(ErrorKind::Os(libc::EPERM), "check posture", format!("{what} differ")));
    let sets = rustix::thread::capabilities(None).os(|| "capget()")?;
    let (wanted, more) = (plan.capabilities, until_execve.bits());
    if (sets.effective.bits(), sets.permitted.bits(), sets.inheritable.bits())
        != (wanted.effective.bits() | more, wanted.permitted.bits() | more, wanted.inheritable.bits())
    {
        return mismatch("capabilities");
    }
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    if (uid.as_raw(), gid.as_raw()) != (plan.user.uid, plan.user.gid)
        || (rustix::process::geteuid(), rustix::process::getegid()) != (uid, gid)
    {
        return mismatch("user and group ids");
    }
    if rustix::thread::no_new_privs().os(|| "prctl(PR_GET_NO_NEW_PRIVS)")? != plan.no_new_privileges {
        return mismatch("no_new_privs flags");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_errors_are_sorted_into_not_found_and_not_executable() {
        let program = Program { path: std::ffi::CString::new("/bin/x").unwrap(), environment: Vec::new() };
        let kind = |errno| exec_error(&program, errno).kind().clone();
        assert_eq!(kind(rustix::io::Errno::NOENT), ErrorKind::ProgramNotFound);
        assert_eq!(kind(rustix::io::Errno::NOEXEC), ErrorKind::ProgramNotExecutable);
        assert_eq!(kind(rustix::io::Errno::NOMEM), ErrorKind::Os(libc::ENOMEM));
    }
}

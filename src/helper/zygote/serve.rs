//! The zygote's own side: for each request it forks, and the fork becomes the helper that the request names.
//!
//! It has only its connection, one page of memory that it shares with the caller, and `/dev/null` open; its forks have
//! only the last. It starts no thread, and reads no more of a request than it needs.

use crate::error::{Actor, OsContext, RemoteFailure, Result};
use crate::helper::Received;
use crate::process::{Channel, Delivery};
use crate::sys::{self, ArgumentArea, Forked, SharedPid};
use crate::wire::boot::{BIRTH_CGROUP, ForkReply, ForkRequest, ZygoteReport};
use rustix::fd::AsFd;
use rustix::fs::Mode;
use rustix::process::DumpableBehavior;

/// `argv[0]` of a zygote, as `ps` shows it.
pub(crate) const ZYGOTE: &str = "cofferdam-zygote";

/// The function that a helper runs until it ends.
type Serve = fn(Received);

/// The zygote's whole life, and in its forks theirs. The constructor calls this. `helper` finds a fork's function by
/// name.
pub(crate) fn serve(mut donated: Received, helper: impl Fn(&str) -> Option<Serve>) {
    let Ok(channel) = donated.take("requests").map(Channel::from) else { return };
    let forker = match Forker::prepare(&mut donated) {
        Ok(forker) => forker,
        Err(error) => {
            let failure = RemoteFailure::pack(Actor::Zygote, &error);
            return drop(channel.send(&ZygoteReport::Failed(failure), &[]));
        }
    };
    let ready = ZygoteReport::Ready { pid: rustix::process::getpid().as_raw_nonzero().get() };
    // The connection ends with the caller, or with its last handle.
    if channel.send(&ready, &[]).is_ok()
        && let Some((serve, donated)) = forker.answer_requests(channel, helper)
    {
        serve(donated);
    }
}

struct Forker {
    /// The kernel writes the pid of each fork here.
    newest: SharedPid,
    /// `ps` reads the name of the process from here.
    arguments: ArgumentArea,
}

impl Forker {
    fn prepare(donated: &mut Received) -> Result<Self> {
        sys::reset_dispositions();
        sys::block_signals();
        rustix::process::setsid().os(|| "setsid()")?;
        rustix::process::chdir("/").os(|| "chdir(\"/\")")?;
        rustix::thread::set_name(c"cofferdam-zygote").os(|| "prctl(PR_SET_NAME)")?;
        let newest = donated.take("newest")?;
        let newest = SharedPid::map(newest.as_fd()).os(|| "mmap(newest)")?;
        let arguments = ArgumentArea::of_this_process().os(|| "read(\"/proc/self/stat\")")?;
        let forker = Self { newest, arguments };
        set_dumpable(false)?;
        Ok(forker)
    }

    /// Returns in each fork, with its function and its descriptors; and `None` in the zygote, when the connection has
    /// ended.
    fn answer_requests(
        mut self,
        channel: Channel,
        helper: impl Fn(&str) -> Option<Serve>,
    ) -> Option<(Serve, Received)> {
        loop {
            let Delivery { message: request, mut fds } = channel.receive::<ForkRequest>(None).ok()?;
            let serve = helper(&request.helper)?;
            let cgroup = fds.take_optional(BIRTH_CGROUP);
            // Dumpable across the fork, so that the files under /proc/PID of a sandbox, such as its id maps, belong to
            // the caller from the start.
            set_dumpable(true).ok()?;
            let forked =
                sys::fork_sibling(request.namespaces, cgroup.as_ref().map(AsFd::as_fd), &mut self.newest);
            if let Ok(Forked::Child) = forked {
                drop((channel, cgroup));
                return Some((serve, self.become_helper(&request, fds)?));
            }
            set_dumpable(false).ok()?;
            let sent = match forked {
                Ok(Forked::Parent { pid, pidfd }) => {
                    let reply = ForkReply::Forked { pid: pid.as_raw_nonzero().get() };
                    channel.send(&reply, &[("pidfd", pidfd.as_fd())])
                }
                Ok(Forked::Child) => unreachable!("returned above"),
                Err(errno) => channel.send(&ForkReply::Refused { errno: errno.raw_os_error() }, &[]),
            };
            sent.ok()?;
        }
    }

    /// In the fork: does what execve(2) and the constructor do for a helper that is executed.
    fn become_helper(mut self, request: &ForkRequest, fds: Received) -> Option<Received> {
        self.arguments.overwrite(&request.helper);
        rustix::process::umask(Mode::from_bits_truncate(request.umask));
        // No other descriptor should be open. This makes sure.
        let keep: Vec<_> = fds.fds().collect();
        sys::close_all_but(&keep).ok()?;
        drop(keep);
        Some(fds)
    }
}

fn set_dumpable(yes: bool) -> Result<()> {
    let behavior = if yes { DumpableBehavior::Dumpable } else { DumpableBehavior::NotDumpable };
    rustix::process::set_dumpable_behavior(behavior)
        .os(|| format!("prctl(PR_SET_DUMPABLE, {})", u8::from(yes)))
}

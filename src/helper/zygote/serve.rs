//! The zygote itself: asked, it forks; the fork becomes what was asked for.
//!
//! It has nothing open but its connection, one page of memory to share with the caller, and `/dev/null`, and its forks
//! have neither of the first two. It starts no thread, and looks at no more of a request than it has to.

use crate::error::{Actor, OsContext, RemoteFailure, Result};
use crate::helper::Received;
use crate::process::{Channel, Delivery};
use crate::sys::{self, ArgumentArea, Forked, SharedPid};
use crate::wire::boot::{BIRTH_CGROUP, ForkReply, ForkRequest, ZygoteReport};
use rustix::fd::AsFd;
use rustix::fs::Mode;
use rustix::process::DumpableBehavior;

/// What a helper does all its life.
type Serve = fn(Received);

/// The zygote's whole life, entered from the constructor; in its forks, theirs. `helper` knows them by name.
pub(crate) fn serve(mut donated: Received, helper: impl Fn(&str) -> Option<Serve>) {
    let Ok(channel) = donated.take("requests").map(Channel::from) else { return };
    let zygote = match Zygote::prepare(&mut donated) {
        Ok(zygote) => zygote,
        Err(error) => {
            let failure = RemoteFailure::pack(Actor::Zygote, &error);
            return drop(channel.send(&ZygoteReport::Failed(failure), &[]));
        }
    };
    let ready = ZygoteReport::Ready { pid: rustix::process::getpid().as_raw_nonzero().get() };
    // The end of the connection is the end of the caller, or of its last handle.
    if channel.send(&ready, &[]).is_ok()
        && let Some((serve, donated)) = zygote.answer_requests(channel, helper)
    {
        serve(donated);
    }
}

struct Zygote {
    /// Where the kernel writes the pid of each fork.
    newest: SharedPid,
    /// Where `ps` finds the name.
    arguments: ArgumentArea,
}

impl Zygote {
    fn prepare(donated: &mut Received) -> Result<Self> {
        sys::reset_signals();
        rustix::process::setsid().os(|| "setsid()")?;
        rustix::process::chdir("/").os(|| "chdir(\"/\")")?;
        rustix::thread::set_name(c"cofferdam-zygote").os(|| "prctl(PR_SET_NAME)")?;
        let newest = donated.take("newest")?;
        let newest = SharedPid::map(newest.as_fd()).os(|| "mmap(newest)")?;
        let arguments = ArgumentArea::of_this_process().os(|| "read(\"/proc/self/stat\")")?;
        let zygote = Self { newest, arguments };
        set_dumpable(false)?;
        Ok(zygote)
    }

    /// Returns in a fork, with what it is to be and what it is given; in the zygote when nobody is left to ask.
    fn answer_requests(
        mut self,
        channel: Channel,
        helper: impl Fn(&str) -> Option<Serve>,
    ) -> Option<(Serve, Received)> {
        loop {
            let Delivery { message: request, mut fds } = channel.receive::<ForkRequest>(None).ok()?;
            let serve = helper(&request.helper)?;
            let cgroup = fds.take_optional(BIRTH_CGROUP);
            // The files under /proc/PID of a sandbox, its id maps among them, belong to the caller from the start.
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

    /// In the fork: what an execution would have done.
    fn become_helper(mut self, request: &ForkRequest, fds: Received) -> Option<Received> {
        self.arguments.overwrite(&request.helper);
        rustix::process::umask(Mode::from_bits_truncate(request.umask));
        // Nothing else is open that anybody knows of; this makes it a fact.
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

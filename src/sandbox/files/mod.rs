//! The file worker: a process that does one client's file work inside a container.
//!
//! ```text
//!   client --Files + one end of a connection--> sandbox --fork--> file worker
//!      |                                                             ^
//!      +----------- requests; answers, descriptors ------------------+   until either end is gone
//! ```
//!
//! The gofer could do this too: it opened the container's files in the first place. It does not, because it is the one
//! process that can reach the host's paths, and after create it takes no request and can open nothing any more
//! (`gofer::confine`); serving a hostile container's files would mean keeping what it gives up. A worker is the other
//! way round. It stays in the sandbox's pid namespace, so nothing inside sees or signals it; in the container's user
//! namespace, so what it creates has the container's ids and its powers end where the container's do; and where the
//! sandbox is, in a mount namespace that holds nothing of the host unless the configuration has it share one, with the
//! container's root as its own, so it sees the mounts that the workload sees, and no host path exists for it at all. It
//! is not in the container's freezer, so it works while the container is paused.
//!
//! It keeps the capabilities of a file server and no other, cannot be dumped or traced, and makes no system call but
//! those of file work (`confine`). Requests come from the container's owner; what they are about is hostile: every
//! path goes through `resolve`, and nothing is opened before its type is known.

mod confine;
mod diff;
mod export;
mod layers;
mod walk;
mod work;

use crate::error::{Actor, Error, ErrorKind, OsContext, RemoteFailure, Result};
use crate::process::Channel;
use crate::process::channel::wait_readable_until;
use crate::sys::{self, Forked};
use crate::wire::files::{FileReply, FileRequest, WorkerReport};
pub(super) use layers::Layers;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::Pid;
use std::time::Instant;
use work::Work;

/// The most workers of one container at once. A client needs one; the cap bounds what a broken one can hold.
const MAX_WORKERS: usize = 16;

/// The workers of all containers, as the sandbox holds them.
#[derive(Default)]
pub(super) struct Workers(Vec<Worker>);

struct Worker {
    /// Which container it is for.
    container: u64,
    pid: Pid,
    pidfd: OwnedFd,
}

impl Workers {
    /// Forks a worker for a container that serves `connection` below `root`.
    pub(super) fn spawn(
        &mut self,
        container: u64,
        connection: &Channel,
        root: BorrowedFd<'_>,
        layers: &Layers,
    ) -> Result<()> {
        if self.0.iter().filter(|worker| worker.container == container).count() >= MAX_WORKERS {
            let problem = format!("{MAX_WORKERS} clients are being served, which is the limit");
            return Err(Error::new(ErrorKind::Os(libc::EUSERS), "files", problem));
        }
        match sys::fork(0, None).os(|| "clone3(file worker)")? {
            Forked::Parent { pid, pidfd } => {
                self.0.push(Worker { container, pid, pidfd });
                Ok(())
            }
            Forked::Child => serve(connection, root, layers),
        }
    }

    /// Ends those of a container that has ended: its files are nobody's to look at any more.
    pub(super) fn end(&self, container: u64) {
        for worker in self.0.iter().filter(|worker| worker.container == container) {
            let _ = rustix::process::pidfd_send_signal(&worker.pidfd, rustix::process::Signal::KILL);
        }
    }

    /// Their pids, as the sandbox counts.
    pub(super) fn pids(&self) -> Vec<i32> {
        self.0.iter().map(|worker| worker.pid.as_raw_nonzero().get()).collect()
    }

    /// What becomes readable when one of them ends.
    pub(super) fn pidfds(&self) -> impl Iterator<Item = &OwnedFd> {
        self.0.iter().map(|worker| &worker.pidfd)
    }

    /// Collects those that have ended.
    pub(super) fn reap(&mut self) {
        self.0.retain(|worker| {
            let alive = !wait_readable_until(worker.pidfd.as_fd(), Some(Instant::now())).unwrap_or(false);
            if !alive {
                let _ = sys::wait4(worker.pid);
            }
            alive
        });
    }
}

/// The worker's whole life.
fn serve(connection: &Channel, root: BorrowedFd<'_>, layers: &Layers) -> ! {
    let work = match prepare(connection, root, layers) {
        Ok(work) => work,
        Err(error) => {
            let failure = RemoteFailure::pack(Actor::Files, &error);
            let _ = connection.send(&WorkerReport::Failed(failure), &[]);
            sys::exit_now(1);
        }
    };
    if connection.send(&WorkerReport::Ready, &[]).is_err() {
        sys::exit_now(0);
    }
    loop {
        let answered = match connection.receive::<FileRequest>(None) {
            Ok(request) => work.answer(connection, request),
            Err(error) if *error.kind() == ErrorKind::PeerMisbehaved => Err(error),
            Err(_) => sys::exit_now(0),
        };
        let told = answered.or_else(|error| connection.send(&failed(&error), &[]));
        if told.is_err() {
            sys::exit_now(0);
        }
    }
}

fn failed(error: &Error) -> FileReply {
    FileReply::Failed(RemoteFailure::pack(Actor::Files, error))
}

/// From a copy of the sandbox to a worker: nothing of the sandbox's is left, and the container's root is the root.
fn prepare<'a>(connection: &Channel, root: BorrowedFd<'a>, layers: &'a Layers) -> Result<Work<'a>> {
    let keep: Vec<_> = [connection.as_fd(), root].into_iter().chain(layers.fds()).collect();
    sys::close_all_but(&keep).os(|| "close_range()")?;
    rustix::thread::set_name(c"cofferdam-files").os(|| "prctl(PR_SET_NAME)")?;
    // Without a pid namespace of its own, the sandbox's end is not the end of its children by itself.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .os(|| "prctl(PR_SET_PDEATHSIG)")?;
    rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::fchdir(root).os(|| "fchdir(rootfs)")?;
    rustix::process::chroot(".").os(|| "chroot(\".\")")?;
    confine::to_file_work()?;
    Ok(Work::new(root, layers))
}

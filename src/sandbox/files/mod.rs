//! The file worker: a process that does one client's file work inside a container.
//!
//! ```text
//!   client --Files + one end of a connection--> sandbox --fork--> file worker
//!      |                                                             ^
//!      +----------- requests; answers, descriptors ------------------+   until either end is gone
//! ```
//!
//! The gofer could do this too: it opened the container's files in the first place. It does not, because it is the only
//! process that can reach host paths. After create it accepts no requests and cannot open anything (`gofer::confine`); to
//! serve a hostile container's files it would have to keep what it gives up. A worker, in contrast, never has any of that:
//!
//! * It stays in the sandbox's pid namespace, so nothing inside sees or signals it.
//! * It is in the container's user namespace, so what it creates has the container's ids, and its privileges are at most
//!   the container's.
//! * It has the container's root, in the sandbox's mount namespace, which has no mount of the host unless the configuration
//!   shares one. So it sees the mounts that the workload sees, and there is no path to the host.
//! * It is not in the container's freezer, so it works while the container is paused.
//!
//! It keeps the capabilities of a file server and no other, cannot be dumped or traced, and makes only the system calls of
//! file work (`confine`). Requests come from the container's owner, but the files are hostile: every path goes through
//! `resolve`, and a worker learns the type of a file before it opens it.

mod confine;
mod diff;
mod export;
mod layers;
mod walk;
mod work;

use crate::error::{Actor, Error, ErrorKind, OsContext, RemoteFailure, Result};
use crate::helper::Received;
use crate::helper::spawn::read_plan;
use crate::process::Channel;
use crate::process::channel::wait_readable_until;
use crate::sandbox::namespaces;
use crate::sys::{self, Forked};
use crate::wire::files::{Bytes, FileReply, FileRequest, WorkerReport};
pub(super) use layers::{Layers, is_empty};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::Pid;
use std::time::Instant;
use work::FileService;

/// The most workers of one container at once. A client needs one; the cap bounds what a broken one can hold.
const MAX_WORKERS: usize = 16;

/// Compares the overlay of these two directories, and writes its layer to `archive`, as a worker does both.
#[cfg(any(test, fuzzing))]
pub(crate) fn compare_and_export(
    [upper, lower]: [OwnedFd; 2],
    archive: OwnedFd,
) -> Result<Vec<crate::wire::files::Change>> {
    use crate::wire::init::{lower_name, upper_name};
    let mut handles = Received::from_frame(vec![upper_name(0), lower_name(0)], vec![upper, lower])?;
    let layers = Layers::take(vec![std::path::PathBuf::new()], &mut handles)?;
    let mut changes = Vec::new();
    diff::for_each(&layers, |change| {
        changes.push(change);
        Ok(())
    })?;
    export::write(&layers, archive)?;
    Ok(changes)
}

/// The workers of all containers, as the sandbox holds them.
#[derive(Default)]
pub(super) struct Workers(Vec<WorkerProcess>);

struct WorkerProcess {
    /// The container that it serves.
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
                self.0.push(WorkerProcess { container, pid, pidfd });
                Ok(())
            }
            Forked::Child => serve_forked(connection, root, layers),
        }
    }

    /// Kills the workers of a container that has ended.
    pub(super) fn end(&self, container: u64) {
        for worker in self.0.iter().filter(|worker| worker.container == container) {
            let _ = rustix::process::pidfd_send_signal(&worker.pidfd, rustix::process::Signal::KILL);
        }
    }

    /// Their pids, as the sandbox counts.
    pub(super) fn pids(&self) -> Vec<i32> {
        self.0.iter().map(|worker| worker.pid.as_raw_nonzero().get()).collect()
    }

    /// Readable when a worker has ended.
    pub(super) fn pidfds(&self) -> impl Iterator<Item = &OwnedFd> {
        self.0.iter().map(|worker| &worker.pidfd)
    }

    /// Collects the workers that have ended.
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

/// The whole life of a worker that its client has started, for a container that has ended: what the client kept of it is
/// donated.
pub(crate) fn serve_remains(mut donated: Received) {
    let Ok(connection) = donated.take("connection").map(Channel::from) else { return };
    match enter_remains(donated) {
        Ok((root, layers)) => serve(&connection, root.as_fd(), &layers),
        Err(error) => fail(&connection, &error),
    }
}

fn enter_remains(mut donated: Received) -> Result<(OwnedFd, Layers)> {
    sys::reset_signals();
    let overlays: Vec<Bytes> = read_plan(donated.take("overlays")?)?;
    let overlays = overlays.iter().map(|path| path.path().to_owned()).collect();
    let user = donated.take("user-namespace")?;
    let (root, mount) = (donated.take("root")?, donated.take(namespaces::MOUNT_NAMESPACE)?);
    let layers = Layers::take(overlays, &mut donated)?;
    donated.finish()?;
    // Before it enters anything: the user namespace may be another container's, too.
    confine::hide()?;
    namespaces::enter_remains(user.as_fd(), mount.as_fd(), root.as_fd())?;
    Ok((root, layers))
}

fn fail(connection: &Channel, error: &Error) -> ! {
    let failure = RemoteFailure::pack(Actor::Files, error);
    let _ = connection.send(&WorkerReport::Failed(failure), &[]);
    sys::exit_now(1);
}

/// The whole life of a worker that the sandbox has forked.
fn serve_forked(connection: &Channel, root: BorrowedFd<'_>, layers: &Layers) -> ! {
    // Where the sandbox has no pid namespace of its own, the kernel does not end its children with it. A worker of the
    // caller's goes without: the signal comes when the thread ends that has started the worker.
    match rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)) {
        Ok(()) => serve(connection, root, layers),
        refused => fail(connection, &refused.os(|| "prctl(PR_SET_PDEATHSIG)").expect_err("matched above")),
    }
}

fn serve(connection: &Channel, root: BorrowedFd<'_>, layers: &Layers) -> ! {
    let service = match prepare(connection, root, layers) {
        Ok(service) => service,
        Err(error) => fail(connection, &error),
    };
    if connection.send(&WorkerReport::Ready, &[]).is_err() {
        sys::exit_now(0);
    }
    loop {
        let answered = match connection.receive::<FileRequest>(None) {
            Ok(request) => service.answer(connection, request),
            Err(error) if *error.kind() == ErrorKind::PeerMisbehaved => Err(error),
            Err(_) => sys::exit_now(0),
        };
        let answered = answered.or_else(|error| connection.send(&failed(&error), &[]));
        if answered.is_err() {
            sys::exit_now(0);
        }
    }
}

fn failed(error: &Error) -> FileReply {
    FileReply::Failed(RemoteFailure::pack(Actor::Files, error))
}

/// Turns this process into a worker: closes everything else, and makes the container's root its root.
fn prepare<'a>(connection: &Channel, root: BorrowedFd<'a>, layers: &'a Layers) -> Result<FileService<'a>> {
    let keep: Vec<_> = [connection.as_fd(), root].into_iter().chain(layers.fds()).collect();
    sys::close_all_but(&keep).os(|| "close_range()")?;
    rustix::thread::set_name(c"cofferdam-files").os(|| "prctl(PR_SET_NAME)")?;
    rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::fchdir(root).os(|| "fchdir(rootfs)")?;
    rustix::process::chroot(".").os(|| "chroot(\".\")")?;
    confine::to_file_work()?;
    Ok(FileService::new(root, layers))
}

//! Opens files on which another process may hold a lease (fcntl(2), `F_SETLEASE`).
//!
//! The kernel stops an open that conflicts with a lease until the holder lets go, or for
//! `/proc/sys/fs/lease-break-time`, which is 45 s. A process may lease what its user owns: a workload the files of its
//! image, which other containers may share, and control files of its cgroup. The default seccomp profile refuses that,
//! but another profile may allow it.

use crate::error::Error;
use crate::weaken::{Rule, leaves_out};
use rustix::event::poll;
use rustix::fd::OwnedFd;
use rustix::fs::Timespec;
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// How long the holder of a lease has to let go. An honest one does so when the kernel's signal comes.
const LIMIT: Duration = Duration::from_secs(1);

/// How long to wait before the next try.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// Repeats `open`, which must not block, until it fails with something other than `EAGAIN`, and for [`LIMIT`] at most.
///
/// Besides a lease, openat2(2) with `RESOLVE_IN_ROOT` fails with `EAGAIN` if a directory on the way is renamed while the
/// kernel follows `..`.
pub(crate) fn open_unleased(
    mut open: impl FnMut() -> rustix::io::Result<OwnedFd>,
) -> rustix::io::Result<OwnedFd> {
    let mut deadline = None;
    loop {
        match open() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let now = Instant::now();
                if *deadline.get_or_insert(now + LIMIT) <= now && !leaves_out(Rule::Leases) {
                    return Err(Errno::AGAIN);
                }
                // Not nanosleep(2): confined helpers may only poll.
                let _ = poll(&mut [], Some(&PAUSE));
            }
            result => return result,
        }
    }
}

/// Names the lease in the error of an open that failed because of one.
pub(crate) fn name_lease(error: Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => error.hint(
            "another process holds a lease on the file (fcntl(2), F_SETLEASE), or renames directories without pause",
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::OsContext;
    use rustix::fs::{Mode, OFlags};

    fn open(path: &std::path::Path) -> rustix::io::Result<OwnedFd> {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
    }

    #[test]
    fn an_open_that_always_fails_with_eagain_ends_and_its_error_names_the_lease() {
        let begun = Instant::now();
        let opened = open_unleased(|| Err(Errno::AGAIN)).os(|| "open(\"x\")").map_err(name_lease);
        assert!(begun.elapsed() >= LIMIT);
        let error = opened.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
        assert!(error.to_string().contains("F_SETLEASE"), "{error}");
    }

    #[test]
    fn an_open_succeeds_once_the_holder_has_let_go() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut refusals = 3;
        let opened = open_unleased(|| {
            refusals -= 1;
            if refusals > 0 { Err(Errno::AGAIN) } else { open(file.path()) }
        });
        opened.unwrap();
        assert_eq!(refusals, 0);
    }

    #[test]
    fn every_other_error_is_returned_at_once() {
        let mut tries = 0;
        let refused = open_unleased(|| {
            tries += 1;
            Err(Errno::NOENT)
        });
        assert_eq!((refused.unwrap_err(), tries), (Errno::NOENT, 1));
    }
}

//! A user namespace that nobody lives in: mount_setattr(2) takes the mapping of ids from one.

use crate::error::{OsContext, Result};
use crate::process::Channel;
use crate::spec::{IdMap, IdMaps};
use crate::sys::{self, Forked};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, pidfd_send_signal};
use std::fmt::Write as _;

/// A new user namespace with these maps. Its one process is gone when this returns.
pub(super) fn user_namespace(maps: &IdMaps) -> Result<OwnedFd> {
    let (ours, theirs) = Channel::pair()?;
    match sys::fork(libc::CLONE_NEWUSER.cast_unsigned(), None).os(|| "clone3(CLONE_NEWUSER)")? {
        Forked::Child => {
            drop(ours);
            theirs.wait_for_hangup();
            sys::exit_now(0)
        }
        Forked::Parent { pid, pidfd } => {
            let namespace = map_and_open(pid.as_raw_nonzero().get(), maps);
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            sys::wait4(pid).os(|| "wait4()")?;
            namespace
        }
    }
}

fn map_and_open(pid: i32, maps: &IdMaps) -> Result<OwnedFd> {
    let open = |path: &str, flags| {
        rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).os(|| format!("open({path:?})"))
    };
    for (name, maps) in [("uid_map", &maps.uids), ("gid_map", &maps.gids)] {
        let path = format!("/proc/{pid}/{name}");
        let text = lines(maps);
        // One write: the kernel takes a map whole or not at all.
        rustix::io::write(open(&path, OFlags::WRONLY)?, text.as_bytes())
            .os(|| format!("write({path:?}, {text:?})"))?;
    }
    open(&format!("/proc/{pid}/ns/user"), OFlags::RDONLY)
}

fn lines(maps: &[IdMap]) -> String {
    maps.iter().fold(String::new(), |mut text, map| {
        let _ = writeln!(text, "{} {} {}", map.container, map.host, map.size);
        text
    })
}

//! The agent that decides about the system calls a filter notifies: it gets the filter's listener before the program
//! that the filter is for is executed (OCI config-linux.md, "Seccomp"; runtime.md, "The Container Process State").

use crate::container::hooks;
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::process::Channel;
use crate::process::channel::send_descriptor;
use crate::state::{Record, Status};
use crate::wire::message::Proceed;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// How long the agent may take to accept and to read.
const AGENT_LIMIT: Duration = Duration::from_secs(10);

/// Hands the listener of the process `pid` to the agent of its container, then lets the process go on.
///
/// `handed` are the listener and the process's own connection: where nothing comes over it, the process ends.
pub(in crate::container) fn hand_over(
    record: &Record,
    status: Status,
    pid: i32,
    handed: Vec<OwnedFd>,
) -> Result<()> {
    let missing =
        || Error::new(ErrorKind::PeerMisbehaved, "linux.seccomp", "the listener did not come along");
    let mut handed = handed.into_iter();
    let (listener, process) = handed.next().zip(handed.next()).ok_or_else(missing)?;
    tell_agent(record, status, pid, &listener).map_err(|error| error.during("linux.seccomp.listenerPath"))?;
    Channel::from(process).send(&Proceed {}, &[])
}

fn tell_agent(record: &Record, status: Status, pid: i32, listener: &OwnedFd) -> Result<()> {
    let spec = record.spec.parse()?;
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let Some(path) = profile.and_then(|profile| profile.listener_path().as_deref()) else {
        return Err(Error::new(ErrorKind::PeerMisbehaved, "find the agent", "no path was given"));
    };
    let state = hooks::state(status, record)?;
    let mut told = json!({
        "ociVersion": spec.version(),
        "fds": ["seccompFd"],
        "pid": pid,
        "state": state,
    });
    if let Some(metadata) = profile.and_then(|profile| profile.listener_metadata().as_deref()) {
        told["metadata"] = metadata.into();
    }
    // "The runtime MUST send exactly one container process state per connection. The connection MUST NOT be reused and
    // it MUST be closed after sending a seccomp state." - OCI config-linux.md
    let agent = connect_to(path)?;
    send_descriptor(agent.as_fd(), told.to_string().as_bytes(), listener.as_fd())
}

/// Through the directory's descriptor: a path of any length fits into the 108 bytes of `sockaddr_un`.
fn connect_to(path: &Path) -> Result<OwnedFd> {
    let step = || format!("connect({path:?})");
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new(ErrorKind::InvalidInput, step(), "is not the path of a socket"));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, directory, flags, Mode::empty()).os(step)?;
    let through = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    let address = SocketAddrUnix::new(through).os(step)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).os(step)?;
    // Bounds connect and sendmsg both (unix(7)).
    set_socket_timeout(&socket, Timeout::Send, Some(AGENT_LIMIT)).os(step)?;
    connect(&socket, &address).os(step)?;
    Ok(socket)
}

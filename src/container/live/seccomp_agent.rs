//! The agent that decides about the system calls a filter notifies: it gets the filter's listener before the program
//! that the filter is for is executed (OCI config-linux.md, "Seccomp"; runtime.md, "The Container Process State").

use crate::container::oci;
use crate::error::{Error, ErrorKind, Result};
use crate::process::Channel;
use crate::process::channel::send_descriptor;
use crate::process::donation::Received;
use crate::state::{Record, Status};
use crate::sys::connect_stream;
use crate::wire::init::{LISTENER_FDS, ListenerTaken};
use rustix::fd::{AsFd, OwnedFd};
use serde_json::json;
use std::time::Duration;

/// How long the agent may take to accept and to read.
const AGENT_LIMIT: Duration = Duration::from_secs(10);

/// Hands the listener of the process `pid` to the agent of its container, then lets the process go on.
///
/// `fds` are [`LISTENER_FDS`]. Closing the connection among them without a message ends the process.
pub(in crate::container) fn hand_over(
    record: &Record,
    status: Status,
    pid: i32,
    mut fds: Received,
) -> Result<()> {
    let [listener, process] = LISTENER_FDS.map(|name| fds.take(name));
    let (listener, process) = (listener?, process?);
    fds.finish()?;
    tell_agent(record, status, pid, &listener).map_err(|error| error.during("linux.seccomp.listenerPath"))?;
    Channel::from(process).send(&ListenerTaken {}, &[])
}

fn tell_agent(record: &Record, status: Status, pid: i32, listener: &OwnedFd) -> Result<()> {
    let spec = record.spec.parse()?;
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let Some(path) = profile.and_then(|profile| profile.listener_path().as_deref()) else {
        return Err(Error::new(ErrorKind::PeerMisbehaved, "find the agent", "no path was given"));
    };
    let state = oci::state(status, record)?;
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
    let agent = connect_stream("seccomp agent", path, AGENT_LIMIT)?;
    send_descriptor(agent.as_fd(), told.to_string().as_bytes(), listener.as_fd())
}

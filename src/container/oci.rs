//! What OCI defines around a container (OCI runtime.md, "State" and "Lifecycle"): the state document; the hooks that
//! the caller runs, each with that document on standard input; and the seccomp agent, which gets it in a message. The
//! rules of hooks are quoted in [`crate::hooks`].

use crate::error::{Error, ErrorKind, Result};
use crate::helper::entry::reexec;
use crate::hooks::{HookState, OnFailure, Round};
use crate::process::Channel;
use crate::process::channel::send_descriptor;
use crate::process::donation::Received;
use crate::seccomp;
use crate::spec;
use crate::spec::{CapSet, Hook, HookKind, Hooks, Origin, ValidSpec};
use crate::state::{Record, StateLock, Status};
use crate::sys::connect_stream;
use crate::wire::init::{LISTENER_FDS, ListenerTaken};
use oci_spec::runtime::{Capabilities, LinuxSeccomp, Process, Spec};
use rustix::fd::{AsFd, OwnedFd};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the agent may take to accept the connection and the message.
const AGENT_LIMIT: Duration = Duration::from_secs(10);

/// The state of a container as `runc state` prints it (OCI runtime.md, "State").
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OciState {
    /// `ociVersion` of the configuration.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// `creating`, `created`, `running`, `paused` or `stopped`.
    pub status: Status,
    /// The pid on the host of the container's process: of its init, which executes the program. 0 after the end.
    pub pid: i32,
    /// The bundle directory.
    pub bundle: PathBuf,
    /// `annotations` of the configuration.
    pub annotations: BTreeMap<String, String>,
}

impl OciState {
    pub(super) fn new(status: Status, record: &Record) -> Result<Self> {
        let alive = !matches!(status, Status::Stopped | Status::Creating);
        Ok(Self {
            oci_version: record.oci_version.clone(),
            id: record.id.to_string(),
            status,
            pid: record.init.filter(|_| alive).map_or(0, |init| init.pid),
            bundle: record.bundle.clone(),
            annotations: record.spec.annotations()?,
        })
    }
}

/// Checks the text of a `config.json` as far as that needs no look at the host: every field, and whether its seccomp
/// profile can be compiled. `bundle` is the absolute directory that relative paths in it mean.
///
/// # Errors
/// [`ErrorKind::InvalidSpec`] and [`ErrorKind::Unsupported`], naming the field.
pub fn check_config(text: &[u8], bundle: &Path) -> Result<Spec> {
    let spec = spec::parse(text)?;
    let valid = ValidSpec::new(&spec, Some(bundle), Origin::ConfigJson)?;
    valid.seccomp.as_ref().map(seccomp::compile).transpose()?;
    Ok(spec)
}

/// Reads the text of a `process` as `runc exec --process` takes it, for [`Exec::from_oci`](crate::Exec::from_oci). What
/// is read is the `process` of a `config.json` (OCI config.md, "Process"); without `user` it is root's.
///
/// # Errors
/// [`ErrorKind::InvalidSpec`], naming the field, if the text is not such a document.
pub fn parse_process(text: &[u8]) -> Result<Process> {
    spec::parse_process(text)
}

/// The seccomp profile of a container that is built without one: an allow-list, which has a few calls more for each
/// capability that is `granted`.
#[must_use]
pub fn default_seccomp(granted: &Capabilities) -> LinuxSeccomp {
    let names: Vec<String> = granted.iter().map(ToString::to_string).collect();
    // Capabilities that are not known here add no call.
    let known =
        |name: &String| spec::parse_capability_set(Origin::Builder, "", &[name]).unwrap_or(CapSet::empty());
    seccomp::default_profile(names.iter().map(known).fold(CapSet::empty(), CapSet::union))
}

/// What a hook of the runtime namespace reads on standard input. Its `pid` is init's, also during `create`.
pub(super) fn state(status: Status, record: &Record) -> Result<HookState> {
    let mut state = OciState::new(status, record)?;
    if status == Status::Creating {
        state.pid = record.init.map_or(0, |init| init.pid);
    }
    let unwritable =
        |error: serde_json::Error| Error::new(ErrorKind::InvalidInput, "state", error.to_string());
    match serde_json::to_value(&state).map_err(unwritable)? {
        serde_json::Value::Object(fields) => Ok(fields),
        _ => unreachable!("a struct with named fields is an object"),
    }
}

/// Sends the seccomp listener of the process `pid` to the agent of its container, then lets the process execute its
/// program (OCI config-linux.md, "Seccomp"; runtime.md, "The Container Process State"). The agent decides about the
/// system calls for which the filter asks.
///
/// `fds` are [`LISTENER_FDS`]. If this fails, it closes the connection to the process without a message, and the
/// process ends.
pub(super) fn hand_over_listener(record: &Record, status: Status, pid: i32, mut fds: Received) -> Result<()> {
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
        return Err(Error::new(
            ErrorKind::PeerMisbehaved,
            "find the agent",
            "the configuration has no listenerPath",
        ));
    };
    let state = state(status, record)?;
    let mut message = json!({
        "ociVersion": spec.version(),
        "fds": ["seccompFd"],
        "pid": pid,
        "state": state,
    });
    if let Some(metadata) = profile.and_then(|profile| profile.listener_metadata().as_deref()) {
        message["metadata"] = metadata.into();
    }
    // "The runtime MUST send exactly one container process state per connection. The connection MUST NOT be reused and
    // it MUST be closed after sending a seccomp state." - OCI config-linux.md
    let agent = connect_stream("seccomp agent", path, AGENT_LIMIT)?;
    send_descriptor(agent.as_fd(), message.to_string().as_bytes(), listener.as_fd())
}

/// The sum of the timeouts of `hooks`; `None` if one of them has none.
pub(super) fn time_limit(hooks: &[Hook]) -> Option<Duration> {
    crate::hooks::time_limit(hooks.iter())
}

/// The sum of the timeouts of the startContainer hooks; `None` if one of them has none.
pub(super) fn before_program(record: &Record) -> Result<Option<Duration>> {
    Ok(time_limit(&record.hooks.start_container))
}

/// Runs the prestart hooks, then the createRuntime hooks. The first failure ends it.
pub(super) fn at_create(record: &Record, hooks: &Hooks) -> Result<()> {
    let round = Round::new(state(Status::Creating, record)?, record.bundle.clone(), OnFailure::Stop)
        .with(HookKind::Prestart, &hooks.prestart)
        .with(HookKind::CreateRuntime, &hooks.create_runtime);
    first(round.run(reexec()?)?)
}

/// Runs the poststart hooks. A failure is an error or a warning, depending on the version of the configuration.
pub(super) fn poststart(record: &Record) -> Result<()> {
    let hooks = &record.hooks;
    if hooks.poststart.is_empty() {
        return Ok(());
    }
    let fatal = stops_after_failed_poststart(&record.oci_version);
    let on_failure = if fatal { OnFailure::Stop } else { OnFailure::GoOn };
    let round = Round::new(state(Status::Running, record)?, record.bundle.clone(), on_failure)
        .with(HookKind::Poststart, &hooks.poststart);
    let failures = reexec().and_then(|reexec| round.run(reexec));
    if fatal {
        return first(failures?);
    }
    warn(record, failures);
    Ok(())
}

/// Runs the poststop hooks of a container whose processes and cgroups are gone: once, however often it is deleted.
///
/// They run under the lock. So no call that deletes the container returns before they have ended, and the id is not
/// free before they have cleaned up. The record says that they ran before they do: if this process is killed
/// meanwhile, they do not run again.
pub(super) fn poststop(lock: &mut StateLock, record: &mut Record) {
    // The sandbox is recorded when the environment is complete. Before that, hooks have nothing to clean up.
    if record.poststop_ran || record.sandbox.is_none() {
        return;
    }
    if record.hooks.poststop.is_empty() {
        return;
    }
    let round = match state(Status::Stopped, record) {
        Ok(state) => Round::new(state, record.bundle.clone(), OnFailure::GoOn)
            .with(HookKind::Poststop, &record.hooks.poststop),
        Err(error) => return warn(record, Err(error)),
    };
    record.poststop_ran = true;
    if let Err(error) = lock.save(record) {
        // Go on: a full disk must not keep a hook from cleaning up the network.
        tracing::warn!(container = %record.id, %error, "cannot record that the poststop hooks run");
    }
    warn(record, reexec().and_then(|reexec| round.run(reexec)));
}

fn first(failures: Vec<Error>) -> Result<()> {
    failures.into_iter().next().map_or(Ok(()), Err)
}

/// "the runtime MUST log a warning" - OCI runtime.md
fn warn(record: &Record, failures: Result<Vec<Error>>) {
    for error in failures.unwrap_or_else(|error| vec![error]) {
        tracing::warn!(container = %record.id, %error, "a hook failed");
    }
}

/// Whether a failed poststart hook stops the container, under this version of the specification: since 1.3 it does.
fn stops_after_failed_poststart(version: &str) -> bool {
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse::<u64>().ok());
    minor.is_some_and(|minor| minor >= 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_poststart_hook_stops_a_container_since_1_3() {
        for (version, stops) in
            [("1.0.0", false), ("1.0.2-dev", false), ("1.2.1", false), ("1.3.0", true), ("1.10.0-rc.1", true)]
        {
            assert_eq!(stops_after_failed_poststart(version), stops, "{version}");
        }
    }
}

//! What the caller and the helpers that it starts say to each other.

use crate::error::RemoteFailure;
use serde::{Deserialize, Serialize};

/// Caller to gofer: start. Where the gofer works inside the sandbox's user namespace, or maps ids through it, that
/// namespace comes along as `user-namespace`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GoferStart {}

/// Gofer to caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum GoferReport {
    /// It has handed over every mount.
    Ready,
    Failed(RemoteFailure),
}

/// Caller to sandbox: your user namespace is mapped and you are in your cgroups, start. Descriptors: what the caller
/// could open only now, because systemd made the cgroup around the running sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SandboxStart {}

/// Sandbox to caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum SandboxReport {
    /// Where the caller moves network devices, before the others: a routing socket of the container's network namespace
    /// comes along as `network`.
    Network,
    /// The container is created. A pidfd of init comes along as `init`; the master of its terminal, if it has one, as
    /// `terminal`; and the listener of its filter, if that is loaded and notifies, as `LISTENER_FDS`.
    Ready,
    Failed(RemoteFailure),
}

/// Caller to zygote: fork this helper. Descriptors: the helper's donations and, where the helper is born in a cgroup v2
/// directory, that directory as [`BIRTH_CGROUP`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForkRequest {
    /// The helper's name, as `ps` shows it.
    pub(crate) helper: String,
    /// `CLONE_NEW*` (clone(2)).
    pub(crate) namespaces: u32,
    pub(crate) umask: u32,
}

/// The name under which a [`ForkRequest`] carries the cgroup: the one descriptor that is not for the helper.
pub(crate) const BIRTH_CGROUP: &str = "birth-cgroup";

/// Zygote to caller, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ZygoteReport {
    /// With the zygote's pid as it sees it itself.
    Ready {
        pid: i32,
    },
    Failed(RemoteFailure),
}

/// Zygote to caller, for each [`ForkRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ForkReply {
    /// The helper's pidfd comes along as `pidfd`.
    Forked { pid: i32 },
    /// The kernel refused to fork.
    Refused { errno: i32 },
}

/// Hook runner to caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum RunnerReport {
    /// One hook failed, or the runner itself.
    Failed(RemoteFailure),
    /// The last message.
    Done,
}

/// A process that could not become the hook, to the process that forked it. If `execve` succeeds, the connection closes
/// without a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HookRefused(pub(crate) RemoteFailure);

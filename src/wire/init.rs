//! What init and the other processes of a container say, before they become the workload, to the sandbox, the gofer and
//! the caller.

use crate::error::RemoteFailure;
use serde::{Deserialize, Serialize};

/// The name of the archive with the small files of an image to restore.
pub(crate) const IMAGE_FILES: &str = "image-files";

/// The gofer's mount at this position, on its way from init to the sandbox.
pub(crate) fn restore_name(index: usize) -> String {
    format!("restore-{index}")
}

/// The archive of the layer with this number, on its way from the caller to init.
pub(crate) fn layer_name(number: usize) -> String {
    format!("layer-{number}")
}

/// Gofer to init: detached mounts, in the order of the plan's list. Descriptors: each mount under its
/// [`mount_name`]; with the last batch, the layers of overlays under their [`upper_name`] and [`lower_name`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MountBatch {
    pub(crate) items: Vec<MountBatchItem>,
    /// Whether this is the last batch.
    pub(crate) last: bool,
}

/// One item of the plan's list for the gofer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MountBatchItem {
    /// A mount whose root is a directory.
    Directory,
    /// A mount whose root is anything else.
    File,
    /// The source does not exist, and the plan allows that: no descriptor comes along.
    Absent,
}

/// The descriptor of the mount at this position of the plan's list.
pub(crate) fn mount_name(index: usize) -> String {
    format!("mount-{index}")
}

/// The upper layer of the overlay with this number, which holds what the container changed.
pub(crate) fn upper_name(overlay: usize) -> String {
    format!("upper-{overlay}")
}

/// The lower layer of the overlay with this number.
pub(crate) fn lower_name(overlay: usize) -> String {
    format!("lower-{overlay}")
}

/// Sandbox to gofer: the container has ended, its exit record is written, and it is attached still. So the gofer removes
/// the cgroups when the lifeline closes, or at once if it has closed. The gofer acts on the arrival alone and never
/// parses the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndedAttached {}

/// Sandbox to gofer: the cgroup of an executed process is empty, remove it. The number is part of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeafEmpty {
    pub(crate) number: u64,
}

/// Sandbox to init: the container's network namespace comes along as `network`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinNetwork {}

/// Sandbox to reaper, once, when init is ready: become the reaper. The namespaces that the workload has and the reaper has
/// not come along: `network`, `cgroup`, and `mount` with the `root` to have in it. A reaper that has executed its program
/// takes the descriptors alone, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BecomeReaper {}

/// Reaper to sandbox, after [`BecomeReaper`]. If it succeeds, the connection closes without a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReaperFailed(pub(crate) RemoteFailure);

/// Init to sandbox, once, at the end of create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum InitReport {
    /// With init's pid as it sees it itself. Descriptors:
    ///
    /// * `proc`: the container's own proc
    /// * `root`: its root directory
    /// * `null`: its null device, open
    /// * `mount-namespace`, `pid-namespace`: init's own
    /// * `terminal`: the master of its terminal, if the plan has one
    /// * `cgroup-namespace`: init's own, if the sandbox or the reaper enters it
    /// * `upper-N`, `lower-N`: the layers of its overlays, if they can be read
    /// * `user-namespace` and all others of init's own, and the mounts that no step used as their [`restore_name`], if it
    ///   leaves for restored processes
    /// * [`LISTENER_FDS`], if its filter notifies and is loaded: it waits for [`ListenerTaken`] first
    Ready {
        pid: i32,
    },
    /// Before, where PID 1 is a restored process: init waits for [`InitRequest::Assemble`] while CRIU makes that. Descriptors
    /// as with `Ready`, but for what belongs to a root; `proc` and `pid-namespace` are those in which CRIU begins.
    Anteroom,
    Failed(RemoteFailure),
}

/// Sandbox to init, which is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InitRequest {
    /// Assemble the root beside the process whose pidfd comes along as [`FIRST_PROCESS`]. Answered by [`InitReport`].
    Assemble,
    /// Take this job in place of the plan's program. Descriptors: [`JOB_PLAN`], and `stdin`, `stdout` and `stderr` where
    /// the job has such a stream and no device. Answered by [`JobReport`].
    TakeJob,
    /// Run the startContainer hooks and execute the program. Answered by [`StartReport`].
    Start,
}

/// The name under which a pidfd of the restored PID 1 travels.
pub(crate) const FIRST_PROCESS: &str = "first";

/// The name under which the plan of a job travels, in sealed memory.
pub(crate) const JOB_PLAN: &str = "plan";

/// Init to sandbox, after [`InitRequest::TakeJob`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum JobReport {
    /// Init has the streams, and the job's program is there.
    Taken,
    /// Init ends.
    Failed(RemoteFailure),
}

/// Init to sandbox, after [`InitRequest::Start`]. If `execve` succeeds, the connection closes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum StartReport {
    /// The filter is loaded, of init or of a startContainer hook, and the process waits for [`ListenerTaken`]. Descriptors:
    /// [`LISTENER_FDS`].
    Listener,
    Failed(RemoteFailure),
}

/// What comes along with every report of a filter that notifies: the filter's listener, and the connection over which
/// the process waits for [`ListenerTaken`].
pub(crate) const LISTENER_FDS: [&str; 2] = ["listener", "waiting-process"];

/// To a process whose filter notifies: its listener is where it belongs, go on. The process acts on the arrival alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenerTaken {}

/// A process that looks into the container's pid namespace to the sandbox: the process with the pid it was asked for
/// comes along as `pidfd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Found {}

/// Init to caller, where hooks run between the last mount and the pivot: the root is complete and not entered yet, and
/// init waits for [`HooksDone`]. A pidfd of init comes along as `init`: only the kernel can tell the caller its pid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RootAssembled {}

/// Caller to init: the caller's hooks have succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HooksDone {}

/// The first message of an executed process to the sandbox: its pid as it sees it itself, which the sandbox cannot know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExecHello {
    pub(crate) pid: i32,
}

/// An executed process to the sandbox, after [`ExecHello`]. If `execve` succeeds, the connection closes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ExecReport {
    /// The master of its terminal comes along as `terminal`.
    Terminal,
    /// The filter is loaded, and the process waits for [`ListenerTaken`]. Descriptors: [`LISTENER_FDS`].
    Listener,
    Failed(RemoteFailure),
}

/// The last message to the sandbox of a process that changed a container's mounts: the kernel's number of the mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum MountReport {
    Mounted { id: u64 },
    Unmounted { id: u64 },
    Failed(RemoteFailure),
}

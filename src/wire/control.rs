//! The control socket: what any process of the container's owner asks of the sandbox, and what the sandbox answers on
//! the connections that requests bring along.

use super::files::Bytes;
use crate::error::RemoteFailure;
use crate::id::ContainerId;
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// The name under which a request brings the connection for its answers.
pub(crate) const CONNECTION: &str = "connection";

/// One request, one reply.
///
/// An operation that goes on for a while brings a connection of its own as [`CONNECTION`]. It is answered there, and the
/// control connection is free for the next request at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// The container it is about; the sandbox's root container if `None`.
    pub(crate) container: Option<ContainerId>,
    pub(crate) operation: Operation,
}

/// What the client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Operation {
    /// Execute the program of the created container. The reply comes after `execve` succeeded or failed.
    Start,
    /// Give the created container a job in place of its program, with this time limit in place of its own. Descriptors:
    /// connection, and those of [`InitRequest::TakeJob`](super::init::InitRequest::TakeJob). Answered there, by
    /// [`Reply::Done`] or [`Reply::Failed`]; after a failure the container ends.
    Job { timeout: Option<Duration> },
    /// Write down the process of the running container, for copies of it; if `stopped`, once a signal has stopped it.
    /// Brings a connection. Answered there, by [`Reply::Template`], [`Reply::NotStopped`] or [`Reply::Failed`].
    Template { stopped: bool },
    /// Send a signal. An init without a handler for it gets the signal's default action.
    Signal { number: i32, to: SignalTarget },
    /// Kill every process of the container. The reply comes before they are gone: wait for that.
    Kill,
    /// Stop watching the lifeline: the container outlives its creator.
    Detach,
    /// Where the container stands.
    Query,
    /// Move the container's processes one cgroup down, so that executed processes can have cgroups beside them, and enable
    /// controllers for both, as `enable` says: `+memory +pids`. Descriptors: `dir`, `join` and `control`.
    SplitCgroup { enable: String },
    /// Execute another process. Descriptors: connection, `plan`, `stdin`, `stdout`, `stderr`, `extra-N` for each number N
    /// of the plan, and those of the process's own cgroup if the plan has one. Answered by [`ExecReply`] and
    /// [`ProcessEnded`].
    Exec,
    /// Wait for the process with this pid in the container's pid namespace. Brings a connection. Answered by
    /// [`WaitReply`].
    WaitProcess { pid: i32 },
    /// Wait for the end of the container. Brings a connection, which the sandbox closes when the exit record is written.
    Watch,
    /// Make the container, whose name is new here, in this sandbox. Descriptors: connection, and what the container is
    /// made of. Answered as a sandbox answers its creator, by [`SandboxReport`](super::boot::SandboxReport).
    Launch,
    /// Forget the container, which has ended.
    Forget,
    /// Stop every process of the container. The reply comes when they have stopped.
    Pause,
    /// Let them run again.
    Resume,
    /// Report what happens to the container until it ends. Brings a connection. Answered by [`SandboxEvent`].
    Events,
    /// The container's own proc, to read its process table from.
    Processes,
    /// Serve requests for files. Brings a connection. Answered by [`WorkerReport`](super::files::WorkerReport).
    Files,
    /// What to keep of the container's files beyond its end. Answered by [`Reply::Root`].
    Root,
    /// Mount something in the container. Descriptors: connection, `step`, and `gofer` where a gofer hands a mount over.
    /// Answered by [`MountReply`].
    Mount,
    /// Keep still, for an image: execute nothing more, move and stop no process, and change no mount, for as long as the
    /// connection that comes along is open. Answered there, by [`Reply::Done`] or [`Reply::Failed`]; what the client may
    /// send after that is [`EndCheckpointed`].
    Checkpoint,
    /// Take away what `Mount` mounted there. Brings a connection. Answered by [`MountReply`].
    Unmount { destination: Bytes },
}

impl Operation {
    /// Whether it does what the sandbox refuses while an image of the container is being made.
    pub(crate) fn disturbs_an_image(&self) -> bool {
        matches!(
            self,
            Self::Exec
                | Self::SplitCgroup { .. }
                | Self::Pause
                | Self::Resume
                | Self::Checkpoint
                | Self::Mount
                | Self::Unmount { .. }
                | Self::Template { .. }
        )
    }

    /// As errors name it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Job { .. } => "take",
            Self::Template { .. } => "into_template",
            Self::Signal { .. } => "signal",
            Self::Kill => "kill",
            Self::Detach => "detach",
            Self::Query => "query",
            Self::Exec | Self::SplitCgroup { .. } => "exec",
            Self::WaitProcess { .. } => "wait",
            Self::Watch => "watch",
            Self::Launch => "create",
            Self::Forget => "delete",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Events => "events",
            Self::Processes => "processes",
            Self::Files | Self::Root => "files",
            Self::Checkpoint => "checkpoint",
            Self::Mount => "mount",
            Self::Unmount { .. } => "unmount",
        }
    }
}

/// The receivers of a signal. Pids and process groups are numbers of the container's pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum SignalTarget {
    /// The container's first process.
    Init,
    /// Every process of the container.
    All,
    /// One process.
    Process(i32),
    /// Every process of a process group.
    Group(i32),
    /// The foreground process group of the terminal of this process.
    Foreground(i32),
}

/// The answer on the control connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Reply {
    /// Done.
    Done,
    /// Answer to [`Operation::Query`].
    State { phase: InitPhase },
    /// Answer to SIGKILL for all: how many processes still exist. They are dying; ask again.
    Left { processes: u32 },
    /// Answer to [`Operation::Processes`]: the container's proc comes along as `proc`. `helpers` are the pids in it that
    /// are the sandbox's own.
    Processes { helpers: Vec<i32> },
    /// Answer to [`Operation::Root`]: where the container has overlays, relative to its root. Descriptors: `root`,
    /// `mount-namespace`, and `upper-N` and `lower-N` for the layers of overlay N.
    Root { overlays: Vec<Bytes> },
    /// Before the answer to [`Operation::Start`], where the program's filter notifies. Descriptors:
    /// [`LISTENER_FDS`](super::init::LISTENER_FDS).
    Listener,
    /// Answer to [`Operation::Template`]. Descriptors: [`DESCRIPTION`](super::template::DESCRIPTION) and
    /// [`PAGES`](super::template::PAGES), both sealed. The process stays stopped for as long as the connection is open.
    /// Whether files of the scratch have changed, and where a tmpfs has files.
    Template { scratch: bool, tmpfs: Vec<Bytes> },
    /// Answer to [`Operation::Template`]: the process runs. Ask again.
    NotStopped,
    /// Not done, and why.
    Failed(RemoteFailure),
}

/// Where init stands, as the sandbox knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InitPhase {
    /// It assembles the root.
    Preparing,
    /// It is ready to execute the program.
    Created,
    /// It executed the program.
    Running,
    /// It executed the program, and all processes are stopped.
    Paused,
    /// It has ended.
    Ended,
}

/// The answer to [`Operation::Exec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ExecReply {
    /// The process's filter is loaded, and it waits until the client has passed on the listener. Descriptors:
    /// [`LISTENER_FDS`](super::init::LISTENER_FDS) and the process's `pidfd`. Another answer follows.
    Listener,
    /// The program was executed: [`ProcessEnded`] follows. Descriptors: `pidfd` and, if the process has one, the master
    /// of its `terminal`.
    Started,
    /// The program was not executed.
    Failed(RemoteFailure),
}

/// To the sandbox, on the connection of an executed process: kill the process and everything that it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KillTree {}

/// To the sandbox, on the connection of [`Operation::Checkpoint`]: the image is whole, so kill every process of the
/// container. Answered by [`Reply::Done`] when the signals are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndCheckpointed {}

/// The last message about an executed process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessEnded(pub(crate) ProcessEnd);

/// The answer to [`Operation::WaitProcess`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum WaitReply {
    Ended(ProcessEnd),
    Failed(RemoteFailure),
}

/// How an executed process ended, from its wait status and resource usage (wait4(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessEnd {
    pub(crate) code: Option<i32>,
    /// The signal, and whether it left a core dump.
    pub(crate) signal: Option<(i32, bool)>,
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    pub(crate) max_rss_kib: u64,
    /// Whether it was the kernel that killed it, because memory ran out.
    pub(crate) out_of_memory: bool,
    /// The time limit, if the sandbox killed it for that.
    pub(crate) timed_out: Option<Duration>,
}

/// The answer to [`Operation::Mount`] and [`Operation::Unmount`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum MountReply {
    Done,
    Failed(RemoteFailure),
}

/// What happens to a container: answers to [`Operation::Events`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum SandboxEvent {
    /// Everything that happens from here on is reported. The first message, if the container has not ended.
    Listening,
    /// The kernel kills a process in it because memory runs out.
    OutOfMemory,
    Paused,
    Resumed,
    /// Its exit record is written. The last message.
    Ended,
}

//! The vocabulary.

use super::files::Bytes;
use super::frame::Message;
use crate::error::RemoteFailure;
use crate::id::ContainerId;
use serde::{Deserialize, Serialize};

/// What a client asks of the sandbox over the control socket: one request, one reply.
///
/// An operation that goes on for a while (`Exec`, `Watch`, `WaitProcess`, `Files`, `Mount`, `Unmount`) brings a connection
/// of its own as its first descriptor, is answered there, and leaves the control connection to the next request at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// The container it is about; the sandbox's root container if `None`.
    pub(crate) container: Option<ContainerId>,
    pub(crate) operation: Operation,
}

impl Message for Request {
    const KIND: u16 = 1;
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Operation {
    /// Execute the program of the created container. The reply comes after `execve` succeeded or failed.
    Start,
    /// Send a signal. An init that has no handler for it gets what the signal does by default.
    Signal { number: i32, to: SignalTarget },
    /// Kill every process of the container. The reply comes before they are gone: wait for that.
    Kill,
    /// Stop watching the lifeline: the container outlives its creator.
    Detach,
    /// Where the container stands.
    Query,
    /// Execute a further process. Descriptors: connection, plan, stdin, stdout, stderr, then those of the plan.
    /// Answered by [`ProcessReport`]s.
    Exec,
    /// Wait for the process with this pid, as the container's pid namespace counts. Answered by a [`ProcessReport`].
    WaitProcess { pid: i32 },
    /// Wait for the end of the container: the connection is closed when its exit record is written.
    Watch,
    /// Make the container, whose name is new here, in this sandbox. Descriptors: connection, then those named.
    /// Answered as a sandbox answers its creator: by a [`Report`].
    Launch { donated: Vec<String> },
    /// Forget the container, which has ended.
    Forget,
    /// Stop every process of the container. The reply comes when they have stopped.
    Pause,
    /// Let them run again.
    Resume,
    /// Tell what happens to the container. Answered by [`SandboxEvent`], until it ends.
    Events,
    /// A descriptor of the container's own proc, to read its process table from.
    Processes,
    /// Serve requests for files on the connection that comes along, and say there when you can.
    Files,
    /// Mount something in the container. Descriptors: connection, step, and the gofer's connection for what it hands
    /// over. Answered on the first by a [`Reply`].
    Mount,
    /// Take away what `Mount` mounted there. Descriptor: connection, where the [`Reply`] comes.
    Unmount { destination: Bytes },
}

/// Whom a signal is for. Pids and process groups are numbers of the container's pid namespace.
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

/// What the sandbox tells over the connection of an executed process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ProcessReport {
    /// It will be executed when the listener of its filter, which comes along, is where it belongs: then an [`Proceed`]
    /// is due over the connection that comes along, too. After them a pidfd.
    Listener,
    /// It was executed; a pidfd comes along.
    Started,
    /// It was not, and why.
    Failed(RemoteFailure),
    /// It has ended. The last message.
    Ended(ProcessEnd),
}

impl Message for ProcessReport {
    const KIND: u16 = 6;
}

/// What happens to a container, told over a connection that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum SandboxEvent {
    /// What happens from here on is told. The first message, if the container has not ended.
    Listening,
    /// The kernel kills in it for memory.
    OutOfMemory,
    Paused,
    Resumed,
    /// Its exit record is written. The last message.
    Ended,
}

impl Message for SandboxEvent {
    const KIND: u16 = 8;
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
}

/// An executed process's first word to the sandbox, before it becomes the workload's: its own pid, which only it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hello {
    pub(crate) pid: i32,
}

impl Message for Hello {
    const KIND: u16 = 7;
}

/// The last word to the sandbox of a process that changed the mounts of a container: which mount it was, by the kernel's
/// number for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum MountReport {
    Mounted { id: u64 },
    Unmounted { id: u64 },
    Failed(RemoteFailure),
}

impl Message for MountReport {
    const KIND: u16 = 10;
}

/// What the sandbox answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Reply {
    /// Done.
    Done,
    /// Answer to [`Operation::Query`].
    State { phase: InitPhase },
    /// Answer to SIGKILL for all: how many processes are still there. They are dying; ask again.
    Left { processes: u32 },
    /// Answer to [`Operation::Processes`], with a descriptor of the container's proc, and the pids there that are the
    /// sandbox's own.
    Processes { helpers: Vec<i32> },
    /// Before the answer to [`Operation::Start`]: the listener of the program's filter, and a connection over which the
    /// process waits for an [`Proceed`] to go on.
    Listener,
    /// Not done, and why.
    Failed(RemoteFailure),
}

impl Message for Reply {
    const KIND: u16 = 2;
}

/// Where init stands, as its parent knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InitPhase {
    /// The root is being assembled.
    Preparing,
    /// Ready to execute the program.
    Created,
    /// The program was executed.
    Running,
    /// The program was executed, and all processes are stopped.
    Paused,
    /// The program has ended.
    Ended,
}

/// The caller's word to a helper: your user namespace is mapped, go. A gofer that is to work inside the sandbox's user
/// namespace, or to map ids through it, gets its descriptor along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proceed {}

impl Message for Proceed {
    const KIND: u16 = 3;
}

/// The caller's word to a sandbox: your user namespace is mapped and you are in your cgroups, go. The descriptors that
/// could not be given before, since their cgroup was made around the sandbox, go along under these names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begin {
    pub(crate) donated: Vec<String>,
}

impl Message for Begin {
    const KIND: u16 = 11;
}

/// The caller's word to its zygote: fork this helper. The descriptors that are donated to it come along in their order,
/// then the cgroup v2 directory that it is born in, if there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fork {
    /// Its name, as `ps` shows it.
    pub(crate) helper: String,
    pub(crate) donated: Vec<String>,
    /// `CLONE_NEW*` (clone(2)).
    pub(crate) namespaces: u32,
    pub(crate) in_cgroup: bool,
    pub(crate) umask: u32,
}

impl Message for Fork {
    const KIND: u16 = 12;
}

/// The zygote's answer to [`Fork`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ForkReport {
    /// It is there; its pidfd comes along.
    Forked { pid: i32 },
    /// The kernel did not.
    Refused { errno: i32 },
}

impl Message for ForkReport {
    const KIND: u16 = 13;
}

/// A helper's word to the caller, and init's to the sandbox. Init's `Ready` carries its proc, its root, its mount and pid
/// namespaces, the master of the terminal, if there is one, and the layers of its overlays; the sandbox's a pidfd of init
/// and that master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// With the pid of the process that says so, as it knows itself.
    Ready {
        pid: i32,
    },
    /// The sandbox's, before the others, where devices are to be moved: a routing socket of the container's network
    /// namespace comes along.
    Network,
    /// Init's own word to the caller: the root is complete and not entered yet, and an [`Proceed`] is waited for.
    Assembled,
    /// The filter is loaded; its listener comes along, and a connection over which an [`Proceed`] is waited for.
    Listener,
    Failed(RemoteFailure),
}

impl Message for Report {
    const KIND: u16 = 4;
}

/// A batch of detached mounts from the gofer; the frame carries one descriptor for each item that is not absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountBatch {
    pub(crate) items: Vec<MountBatchItem>,
    /// Whether this is the last batch.
    pub(crate) last: bool,
}

impl Message for MountBatch {
    const KIND: u16 = 5;
}

/// The sandbox's one word to a container's gofer: its caller was gone when it ended, the exit record is written, and nobody
/// will need its cgroups. The gofer knows what to do and does not look into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallerGone {}

impl Message for CallerGone {
    const KIND: u16 = 12;
}

/// One item of the plan's list for the gofer, in the list's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MountBatchItem {
    /// A mount whose root is a directory.
    Directory,
    /// A mount whose root is anything else.
    File,
    /// The source does not exist, and the plan allowed for that.
    Absent,
    /// Not of the list: what an overlay of the list, in its order, keeps of changes, followed by its `Lower`.
    Upper,
    /// What is under them.
    Lower,
}

//! What is on disk, and what is left when something is killed.
//!
//! # On disk
//!
//! ```text
//!  ROOT/                                  0700: /run/cofferdam for root, else $XDG_RUNTIME_DIR/cofferdam or /tmp/cofferdam-UID
//!    CONTAINER_sandbox:SANDBOX.state      the record: JSON and a checksum, replaced as a whole by rename
//!    CONTAINER_sandbox:SANDBOX.lock       flock(2): held by whoever moves the container
//!    CONTAINER_sandbox:SANDBOX.run/       0700
//!      control.sock                       the sandbox's socket
//!      exit                               the exit record, written by the sandbox
//! ```
//!
//! A state directory that belongs to somebody else, or that others may write to, is refused: its records name
//! processes that will be killed.
//!
//! **The record** holds the configuration as it was read (later edits of `config.json` have no effect), the
//! identities of sandbox, gofer and init, the cgroups, the socket's path, and the status. An identity is pid, start
//! time and boot id together, so a number that was given to another process is never taken for ours. The paths of
//! what is *going to* exist are saved before it exists. What a crash leaves is therefore known to somebody.
//!
//! **The claim** comes first and the cleanup is armed after it. A creation that finds its id taken has nothing to
//! undo, and so cannot destroy the container that has the id.
//!
//! **The lock** is a flock on a file of its own. Once it is held, the locked inode is checked to be the one that the
//! name still means, because a lock file can be removed and made again while somebody waits. `wait` and `load` take
//! no lock, nor do `exec`, signals, statistics and file access; `create`, `start`, `update`, `detach` and `delete` do, and
//! hold it as long as they run.
//!
//! **Saving** writes a temporary file and renames it. A process that is killed in between leaves the old record or
//! the new one, both whole. By default nothing is synced to the disk. fsync(2) is for power cuts and kernel crashes,
//! and after one of those nothing exists that a record names: processes, cgroups and sockets are gone, and the boot
//! id in the record says so. The default directory is usually a tmpfs in any case. The price would be milliseconds
//! for every save. [`StateRoot::durable`](crate::StateRoot::durable) turns it on for a directory whose exit records
//! must outlive a boot.
//!
//! **The exit record** is written by the sandbox, through a descriptor that the caller opened, in one write before
//! anyone is told. A newline at its end says that it is complete. It is the only thing that says how a container
//! ended: no process has to be asked, and none has to have been waited for.
//!
//! # The lifeline
//!
//! The sandbox of an attached container holds the reading end of a pipe; the caller alone has the writing end.
//! However the caller ends, the kernel closes it, and the sandbox kills init and records why. This is not
//! `PR_SET_PDEATHSIG`, which fires when the *thread* that made the child ends.
//!
//! The descriptor is close-on-exec. But a child that the caller forks *without* an exec inherits it, and then the
//! container lives until that child has ended too.
//!
//! # What a kill leaves
//!
//! | Killed | When | What is left | What becomes of it |
//! |---|---|---|---|
//! | caller | after the claim, before the record | a lock file and an empty run directory | the next claim of the id takes them over |
//! | caller | during create | a record in `creating`; cgroups it names | helpers see their connections end and exit. Loading gives `Creating`: `create` undoes and makes it anew, `delete` removes it. |
//! | caller | after create, attached | a record and the exit record | the sandbox kills init, outcome `CallerGone` or `NeverStarted`, and the gofer removes the cgroups; delete by id |
//! | caller | after the end of its container, attached | a record, the exit record, empty cgroups | delete by id |
//! | caller and gofer at once, as by a kill of their cgroup | after create, attached | a record, the exit record, empty cgroups | delete by id |
//! | caller | after detach | everything | the container goes on |
//! | caller | during delete | the record, or, once that is gone, a lock file and a run directory | delete again; or the next claim takes them over |
//! | gofer | during create | nothing | `create` fails with `HelperDied` and undoes |
//! | gofer | later | exit record | the sandbox sees it and kills: `Outcome::Lost` |
//! | sandbox | during create | nothing | `create` fails with `HelperDied` and undoes |
//! | sandbox | later | the record | the kernel kills all that is inside. The container loads as stopped, outcome `Lost`; delete removes it and its cgroup. |
//! | a pod's sandbox, or its root container's init or gofer | any time | the records | every container of the pod ends, and loads as stopped |
//! | init or gofer of another container of a pod | any time | its record and exit record | that container has ended, the others go on |
//! | an executed process, a file worker | any time | nothing | its client learns of it; the container goes on |
//! | init | during create | nothing | `create` fails and undoes |
//! | init | later | the record and the exit record | the container has ended; `Signalled { KILL }`, or `NeverStarted` before start |
//! | the host | any time | the record, if the directory outlives the boot | loads as stopped: another boot id |
//!
//! The test suite kills at each of these points. It counts the system calls of one undisturbed life, then kills
//! caller, gofer, sandbox and init at the n-th call of each kind, and looks at the host afterwards: processes,
//! mounts, cgroups, sockets, state directory.
//!
//! # Teardown
//!
//! 1. The processes: the sandbox first, which as PID 1 takes everything inside along; then init and gofer, each by
//!    pidfd after its identity was checked. Each is waited for. The sandbox of a pod is asked to end every process of a
//!    further container, and to forget it.
//! 2. The cgroups that the record names, with whatever still runs in them, and then the directories that led there if
//!    they were made for it and nobody else uses them.
//! 3. The state: record, temporary file, run directory; the lock file last, while it is held.
//!
//! Mounts need no step. They were made in namespaces that end with the processes, and the host never saw them. Every
//! step is tried, failures are reported together, and as long as something is left the record stays. Deleting twice
//! is no error.
//!
//! A record that is damaged hides no neighbour: [`AnyContainer::list`](crate::AnyContainer::list) reports it and goes
//! on, and [`AnyContainer::delete_by_name`](crate::AnyContainer::delete_by_name) reaches its sandbox through the
//! socket that lies beside it. Its cgroups are then unknown: those at the places a container of its name has by default
//! are removed when they are empty, others stay.

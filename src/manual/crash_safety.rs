//! What is on disk, and what remains after a process is killed.
//!
//! # On disk
//!
//! ```text
//!  ROOT/                                  0700: /run/cofferdam, or $XDG_RUNTIME_DIR/cofferdam, or /tmp/cofferdam-UID
//!    CONTAINER_sandbox:SANDBOX.state      the record: JSON and a checksum, replaced as a whole by rename
//!    CONTAINER_sandbox:SANDBOX.lock       flock(2): held by the process that changes the container's state
//!    CONTAINER_sandbox:SANDBOX.run/       0700; flock(2): held by the creator as long as the container is attached to it
//!      control.sock                       the sandbox's socket
//!      exit                               the exit record, written by the sandbox
//!
//!  /run/cofferdam.ids                     of root, for all its state roots: an empty file with a lock on each range of ids
//! ```
//!
//! The crate refuses a state directory that belongs to another user, or that other users may write to: the records in
//! it name processes that the crate will kill.
//!
//! **The record** holds the configuration as it was read (later edits of `config.json` have no effect), the identities
//! of sandbox, gofer and init, the cgroups, the socket's path, and the status. An identity is pid, start time and boot
//! id together, so the crate never mistakes another process with the same pid for one of its own. Paths are saved in
//! the record before the objects are created, so a crash leaves nothing that no record names.
//!
//! **The claim** comes first, and the cleanup is armed after it. A creation that finds its id taken has nothing to
//! undo, so it cannot destroy the container that has the id.
//!
//! **The lock** is a flock on a separate file. A lock file can be removed and created again while a process waits for
//! it, so the process, once it holds the lock, checks that the locked inode still is the one with that name. `create`,
//! `start`, `update`, `detach` and `delete` take the lock and hold it as long as they run. `wait`, `load`, `exec`,
//! signals, statistics and file access take no lock.
//!
//! **Saving** writes a temporary file, exchanges its name with the record's (`RENAME_EXCHANGE` in renameat2(2)), and
//! removes the old record. If the process is killed in between, the old record or the new one is there, and either is
//! complete. A rename over the old one would be written to the disk at once, and its removal would wait for the disk.
//! By default the crate does not call fsync(2). Syncing protects against power
//! cuts and kernel crashes, and after one of those nothing exists that a record names: processes, cgroups and sockets
//! are gone, and the boot id in the record shows it. The default directory is usually a tmpfs anyway, and each sync
//! would cost milliseconds. [`StateRoot::durable`](crate::StateRoot::durable) turns syncing on, for a directory whose
//! exit records must survive a reboot.
//!
//! **The exit record** is written by the sandbox, through a descriptor that the caller opened, in one write, before the
//! sandbox reports the end. A newline at its end marks it as complete. It alone says how a container ended, so you can
//! read the outcome without asking a process and without having waited for one.
//!
//! # Host ids
//!
//! The claim of a container's [own range of host ids](super::privileges#ids) is a lock on the bytes of `/run/cofferdam.ids`
//! whose positions are the ids: on those of the uids, and 2^32 higher on those of the gids. It is a lock of an open file
//! (`F_OFD_SETLK` in fcntl(2)). The caller locks, and gives the open file to the sandbox, which keeps it. So whatever is
//! killed, the kernel frees the range as soon as no process of the container runs, and not before. A value with
//! [`keep_files`](crate::ContainerBuilder::keep_files) holds the range, too. There is no stale claim: a reboot ends every
//! lock, and the file may be removed when no container of root runs.
//!
//! Programs that see another `/run`, as in a privileged outer container, do not see each other's claims. Each choice begins
//! at a random range, so that even then two containers rarely share one.
//!
//! # The lifeline
//!
//! The sandbox of an attached container holds the read end of a pipe; only the caller has the write end. However the
//! caller ends, the kernel closes the pipe, and the sandbox kills init and records why. `PR_SET_PDEATHSIG` would not
//! do: it fires when the *thread* that made the child ends.
//!
//! The lifeline counts beyond the container's end, until the container is deleted or detached: when the caller is gone,
//! [the gofer](super::processes#the-gofer), which has the pipe too, removes the cgroups.
//!
//! The caller also holds a flock(2) on the run directory. If the record says that the container is attached and no process
//! holds that lock, the container's caller is gone. The next `create` with its id then deletes the container, as `delete`
//! would, and takes the id over. `create` never deletes a container that was detached or whose caller lives; with
//! [`replace`](crate::ContainerBuilder::replace) it deletes them if they have ended.
//!
//! The descriptors are close-on-exec. But a child that the caller forks *without* an exec inherits them, and the container
//! then lives until that child has ended too.
//!
//! # What a kill leaves
//!
//! | Killed | When | What is left | What happens then |
//! |---|---|---|---|
//! | caller | after the claim, before the record | a lock file and an empty run directory | the next claim of the id takes them over |
//! | caller | during create | a record in `creating`; cgroups that it names | the helpers' connections close, and they exit. Loading gives `Creating`: `create` undoes it and makes it again, `delete` removes it, and so does the next `create` with its id. |
//! | caller | after create, attached | a record and the exit record | the sandbox kills init, outcome `CallerGone` or `NeverStarted`, and the gofer removes the cgroups; delete by id, or create with it |
//! | caller | after the end of its container, attached | a record and the exit record | the gofer, which has waited for this, removes the cgroups; delete by id, or create with it |
//! | caller and gofer at once, for example by a kill of their cgroup | after create, attached, or after the end | a record, the exit record, empty cgroups | delete by id, or create with it |
//! | caller | after detach | everything | the container goes on |
//! | caller | during delete | the record, or, once that is gone, a lock file and a run directory | delete again; or the next claim takes them over |
//! | gofer | during create | nothing | `create` fails with `HelperDied` and undoes |
//! | gofer | later | exit record | the sandbox notices and kills init: `Outcome::Lost` |
//! | sandbox | during create | nothing | `create` fails with `HelperDied` and undoes |
//! | sandbox | later | the record | the kernel kills everything inside. The container loads as stopped, outcome `Lost`; delete removes it and its cgroup. |
//! | a pod's sandbox, or its root container's init or gofer | any time | the records | every container of the pod ends, and loads as stopped |
//! | init or gofer of another container of a pod | any time | its record and exit record | that container has ended, the others go on |
//! | a process of exec, a file worker | any time | nothing | its client gets an error or the status; the container goes on |
//! | init | during create | nothing | `create` fails and undoes |
//! | reaper | during create | nothing | `create` fails and undoes |
//! | reaper | later | the record and the exit record | the kernel kills the rest: `Outcome::Lost`, or `NeverStarted` before start |
//! | init | later | the record and the exit record | the container has ended; `Signalled { KILL }`, or `NeverStarted` before start |
//! | the host | any time | the record, if the directory survives the reboot | loads as stopped: another boot id |
//!
//! The test suite kills at each of these points. It counts the system calls of one undisturbed life, then kills caller,
//! gofer, sandbox and init at the n-th call of each kind, and afterwards inspects the host: processes, mounts, cgroups,
//! sockets, state directory.
//!
//! # Whose directory it is
//!
//! A process that can write to the state directory can have every later reader signal processes, remove cgroups and run
//! poststop hooks. So the directory must belong to the caller, other users must not be able to write to it, and no
//! directory above may let every user replace it (writable by all and not sticky). This holds for root too. The example
//! `oci`, asked by root about another user's directory, becomes that user first.
//!
//! # Teardown
//!
//! 1. The processes. The sandbox first: it is PID 1 of its namespace, so everything inside ends with it. Then init and
//!    gofer, each by pidfd after a check of its identity. Teardown waits for the end of each. In a pod, it asks the
//!    sandbox to end every process of the container and to forget it, unless it is the root container.
//! 2. The cgroups that the record names, with any process that still runs in them; then their parent directories that
//!    were made for the container, if they are empty.
//! 3. The state: record, temporary file, run directory. The lock file goes last, while teardown holds the lock.
//!
//! Mounts need no step: they are in namespaces that end with the processes, and the host never saw them. Teardown tries
//! every step, reports all failures together, and keeps the record as long as something is left. Deleting twice is no
//! error.
//!
//! A damaged record hides no other: [`AnyContainer::list`](crate::AnyContainer::list) reports it and goes on.
//! [`AnyContainer::delete_by_name`](crate::AnyContainer::delete_by_name) reaches the container's sandbox through the
//! socket next to the record. The cgroups of such a container are unknown: teardown removes those in the default places
//! for its name if they are empty, and leaves others. If killed processes are still in one, which on v1 may be frozen, it
//! thaws them, and reports those that do not end.
//!
//! # Other namespaces
//!
//! A pid and a start time mean a process only to callers in the pid and time namespaces in which they were read. The
//! record has the ids of both. A caller in others finds out through the control socket, whose path means the same there,
//! whether the container lives. One that does is refused to it, except to
//! [`delete_by_name`](crate::AnyContainer::delete_by_name), which has the sandbox end the container. One that has ended
//! is loaded and deleted as everywhere.

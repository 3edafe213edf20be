//! Who is started by whom, with which descriptors, in which namespaces.
//!
//! ```text
//!   caller                                    gofer                  sandbox                 init
//!     |- claim the id, write the record
//!     |- make the cgroup, write the limits
//!     |- spawn ------------------------------------------------------->|
//!     |- write its id maps                      .                       |- namespaces
//!     |- begin -------------------------------------------------------->|- fork --------------->|
//!     |- spawn -------------------------------->|                       |- network namespace    |
//!     |- order, user namespace ---------------->|                       |---- the namespace --->|
//!     |                                         |- open, clone mounts   .                       |
//!     |                                         |---- detached mounts ------------------------->|
//!     |                                         |- give everything up   .                       |- assemble, pivot
//!     |<-------------------------- ready -------|                       .                       |- find the program
//!     |<------------------------------------- ready, pidfd of init -----|<------- ready --------|
//!     |- save "created", write the PID file     .                       .                       .
//!     .                                         .                       .                       .
//!     |- start -------------------------------------------------------->|------- order -------->|
//!     |- save "running"                         .                       |                       |- shed privileges
//!     |<------------------------------------- done ---------------------|<---- end of file -----|- execve
//! ```
//!
//! Where the configuration has hooks, create, start and delete have more steps. Between the last mount and the pivot,
//! init says "assembled" to the caller over a connection of their own (`hooks`) and waits for an order; meanwhile the
//! caller's prestart and createRuntime hooks run. Hooks of the runtime namespace are run by a helper of their own,
//! `cofferdam-hooks`, which lives for one round of them: it is their parent, so no exit status goes by way of the
//! caller. createContainer and startContainer hooks are init's children.
//!
//! In a scope of systemd's the cgroup comes after the sandbox, because a scope begins with a process in it: the caller has
//! systemd make it around the sandbox, makes the rest below, and gives what the sandbox needs of it with "begin". Where
//! devices of the host move in (`linux.netDevices`), the sandbox sends the caller a routing socket of its network
//! namespace, and the caller moves them before any hook runs.
//!
//! In a pod the sandbox is there already:
//!
//! ```text
//!   caller                                    gofer of its own       sandbox of the pod      init of the member
//!     |- claim, record, cgroup
//!     |- launch, over the control socket ------------------------------>|- fork --------------->|
//!     |- spawn -------------------------------->|                       |                       |
//!     |                                         |---- detached mounts ------------------------->|- assemble, pivot
//!     |<-------------------------- ready -------|                       |<------- ready --------|
//!     |<------------------------------------- ready, pidfd of init -----|                       .
//! ```
//!
//! # The image
//!
//! Gofer and sandbox execute the caller's own program by way of something that nobody can write: a container that gets
//! hold of `/proc/PID/exe` of a helper holds a file that it cannot change (CVE-2019-5736). For a caller with
//! `CAP_SYS_ADMIN` that is a read-only mount of the executable, attached nowhere: only who has that capability outside of
//! every user namespace could make it writable, and could write the executable anyway. For any other caller it is a
//! copy in a memfd, sealed against every write, with the ELF headers and the `PT_LOAD` and `PT_INTERP` segments at their
//! offsets and nothing else: debug information, often nine tenths of the file, stays behind as a hole. Either is made once
//! per process and shared by all helpers.
//!
//! A constructor in `.init_array` runs before `main`. If `argv[0]` is exactly `cofferdam-gofer`, `cofferdam-sandbox`,
//! `cofferdam-hooks`, `cofferdam-stand-in` or `cofferdam-zygote` and `argv[1]` is a list of donations, it serves and exits; `main` is never reached. In every
//! other program it returns after one comparison. Constructors of *other* crates in the program may run first in the
//! helpers; they see no descriptor but 0, 1, 2 and the donated ones.
//!
//! # Spawning without touching the caller
//!
//! A helper is made by clone3(2) with `CLONE_VM | CLONE_VFORK | CLONE_PIDFD` on a stack of its own, with all signals
//! blocked, and goes straight to execveat(2). No page table is copied, so a caller with gigabytes resident pays
//! nothing extra, and no handler of the caller's can run in the child. Its environment is empty but for
//! `LD_LIBRARY_PATH`. It leaves the caller's session, so that a Ctrl-C is for the caller alone.
//!
//! The sandbox is spawned first, because starting up and making namespaces takes it longer than the gofer needs for
//! its mounts. From there on both work at the same time.
//!
//! # The zygote
//!
//! A caller who makes many containers can have the start of a program behind it once: a [`Zygote`](crate::Zygote) is a
//! helper that was executed like the others, and waits to become them.
//!
//! ```text
//!   caller                                    zygote                 gofer or sandbox
//!     |- fork: name, namespaces, descriptors ->|
//!     |                                        |- clone3 -------------->|  a child of the caller
//!     |<-------------- forked: pid, pidfd -----|                        |- name, umask; serves as if executed
//! ```
//!
//! It forks with `CLONE_PARENT`, so what it forks is the caller's child and is collected by pidfd as ever. It is
//! single-threaded, in a session of its own, at `/`, cannot be dumped except while it forks, and has nothing open but `/dev/null` and its
//! connection to the caller, whose end is its own. What it forks has neither that connection nor anything else that was
//! not donated to it. The kernel itself writes the pid of each fork into memory that the zygote shares with the caller
//! (`CLONE_PARENT_SETTID`): one that is killed between a fork and its answer leaves no child that the caller does not
//! know of. Requests take turns.
//!
//! What a fork inherits was decided when the zygote was made. So the caller compares itself with what it was then before
//! each container, and refuses by name: [`OutdatedZygote`](crate::ErrorKind::OutdatedZygote). The runners of hooks, the
//! gofers of [mounts into a container](#mounts-into-a-container-that-exists) and stand-ins are executed also where there
//! is a zygote.
//!
//! **Memory belongs to the user namespace it was executed in** (ptrace(2), "Ptrace access mode checking"). A sandbox that
//! is forked into a new user namespace, and its init until it executes, can be looked into only with `CAP_SYS_PTRACE`
//! outside: by nobody in the container, whatever it was given, and by an unprivileged caller as little, although it owns
//! the namespace. Such a caller's tools, to set up a network for example, find a container by `/proc/PID/ns` of its
//! sandbox. So for a caller without `CAP_SYS_PTRACE` the sandbox is executed, and the gofer alone is forked.
//!
//! # Who goes first when memory runs out
//!
//! Every process of a container has its `process.oomScoreAdj`, and so have its gofer and its file workers; where it has
//! none, the caller's. The sandbox has the lowest that one of its containers asks for, so that none of them outlives
//! what reports its end; a container that an engine made only to hold a pod does not count, and where no container
//! asks for one it is the caller's. It is looked at again whenever a container comes or goes. Without `CAP_SYS_RESOURCE`
//! in the initial user namespace no process can have a lower score than somebody with it left it: a container that asks
//! for one is refused, naming the field.
//!
//! # Descriptors
//!
//! Whatever crosses a process is *donated*: given in order, named in `argv[1]`, taken by name once. Everything else
//! is closed by close_range(2) before the exec.
//!
//! | Name | Gofer | Sandbox | What it is |
//! |---|---|---|---|
//! | `boot` | yes | yes | socket pair to the caller, for orders and "ready" or "failed"; closed after that |
//! | `plan` | yes | yes | a sealed memfd: everything this process will do, with nothing left to decide |
//! | `init`, `gofer` | one end | other end | socket pair for the mounts; its end tells the gofer that the sandbox is gone, and a word of the sandbox that the caller was |
//! | `creator` | | yes | the creating program's own control connection |
//! | `control` | | yes | the listening control socket, already bound in the state directory |
//! | `exit` | | yes | the exit record, open for writing |
//! | `hooks` | | yes | where there are hooks of creation: init's connection to the caller |
//! | `lifeline` | | yes | a pipe whose other end only the caller has |
//! | `user-log` | | yes | where it was asked for: lines for the person who runs the workload |
//! | `stdin`, `stdout`, `stderr` | | yes | passed on to init and kept by nobody else |
//! | `cgroup-...` | | yes | where to join, what freezes and lists the container's processes, what tells of an OOM kill, and the counters to read at the end |
//!
//! The sandbox opens nothing on the host by path but a namespace that the configuration joins by path, its own
//! entries in `/proc`, and `/` to change mount propagation. What else it needs was opened by the caller. The workload
//! gets 0, 1 and 2, and as environment what the configuration says and a `HOME`, from the image's `/etc/passwd`,
//! where it says none.
//!
//! Failures travel as data: process, step, errno, object, hint. They come out of the call as an
//! [`Error`](crate::Error) like any other.
//!
//! # Namespaces
//!
//! | Namespace | Made by | When |
//! |---|---|---|
//! | user | the caller, with the sandbox's clone | maps are written by the caller, or by `newuidmap` and `newgidmap` |
//! | pid, of the sandbox | the caller, with the sandbox's clone | a process cannot move itself into one |
//! | mount, ipc, uts | the sandbox, by unshare(2) | while its ids are being mapped |
//! | network | the sandbox | while init is busy with the root |
//! | pid and cgroup, of the container | the sandbox, with init's clone | so that init is PID 1 and the root of its cgroup view |
//! | mount, ipc, uts, of the gofer | the gofer | before it opens anything |
//!
//! There are two pid namespaces, one inside the other: the sandbox is PID 1 of the outer one, init of the inner one.
//! Inside, no helper uses up a number or can be seen. Killing the sandbox makes the kernel kill everything below it.
//! Where another's pid namespace is joined, only init and what is executed are in it; the sandbox stays in the caller's.
//!
//! The sandbox's pid is the container's to the world, which looks there for the container's namespaces. So when init is
//! ready, the sandbox enters the cgroup namespace that init has made; a further container of a pod that has none of its
//! own then is in this one. Not so where cgroup v2 is mounted with `nsdelegate`, as systemd does: from inside, the kernel
//! would refuse to let a process be born in the container's group, because it comes from the sandbox's, above the
//! namespace's root. There the sandbox stays in the caller's.
//!
//! A container whose configuration has no new mount namespace gets one all the same, until its root is complete. As its
//! last step of create init makes a copy of the whole tree that is attached nowhere (open_tree(2)), enters the namespace
//! of the configuration, and makes the copy its root; the sandbox follows. With the copy's descriptor closed it is in no
//! mount namespace at all, as after `umount2(MNT_DETACH)`, but stays in one piece for whoever has it as a root. Processes
//! of [`exec`](crate::Container::exec) and file workers are the sandbox's children, and so are born in it. [What this
//! means](super::oci#a-mount-namespace-that-is-not-new).
//!
//! **The network namespace is made in parallel.** It is what takes the kernel longest to make. The sandbox makes it
//! after forking init and sends it over; init joins it just before it mounts sysfs, which shows the network devices
//! of the namespace it is mounted in.
//!
//! **Ambient capabilities carry the sandbox over its exec.** When it is cloned into its user namespace no id is
//! mapped yet. Its uid is the overflow uid, not 0, and execve(2) takes every capability from a process that is not
//! root. So the child raises all of them into the ambient set before the exec, and the sandbox can make its other
//! namespaces while the caller writes the maps. Then it becomes uid 0 of its namespace and forks init.
//!
//! # The gofer
//!
//! For each source of the plan it makes a *detached* mount: open_tree(2) with `OPEN_TREE_CLONE`, or an overlay by
//! fsopen(2) over scratch memory. Read-only, nosuid, nodev, noexec and the id map are set by mount_setattr(2) while
//! nobody can see the mount. It sends the descriptors to init, and after them a read-only mount of each layer of an
//! overlay, for those who want to know what a container changed. Then it gives up all capabilities, the file system (by
//! Landlock, where the kernel has it) and every system call but those of waiting, and waits for the sandbox's end. It
//! takes no request, from nobody. If it is killed, its container ends.
//!
//! What it keeps, if the container has cgroups of ours, are their directories. When an attached container ends and its
//! caller is gone, nobody is there to delete it, and the sandbox, which is in the cgroups and may be another user of the
//! host, cannot remove them. So when the exit record is written the sandbox says one word to the gofer, whose content does
//! not matter, and the gofer waits, five seconds at most, until everybody inside has ended, and removes the cgroups: nested
//! ones first, and in the end the directories that were made on the way there, if nobody else is in them. The record stays,
//! and says how the container ended. The word can do no more than that, whoever says it: Landlock allows removing
//! directories below the parents of these cgroups and reading below the cgroups, no system call ends a process, and the
//! kernel removes no cgroup with a process in it. Where a parent is the top of a hierarchy, in which the kernel lets not
//! even root make or remove anything without it, a gofer of root's keeps `CAP_DAC_OVERRIDE`. On a kernel without Landlock
//! it keeps nothing, and the cgroups stay until the record is deleted, as they do after any other end.
//!
//! Source paths are the caller's and are resolved as any program would. Paths *inside* the container can be
//! influenced by an image: those init resolves, below the root's descriptor, by openat2(2) with `RESOLVE_IN_ROOT |
//! RESOLVE_NO_MAGICLINKS`, and a missing mount point is created one component at a time without following links.
//!
//! # File workers
//!
//! [`files`](crate::Container::files) asks the sandbox for a process that does one client's file work. The sandbox forks
//! it; the client talks to it over a connection of their own, and its end is the worker's. A worker stays in the
//! sandbox's pid, user and mount namespaces, with the container's root as its own: nothing inside sees or signals it, it
//! sees the mounts that the workload sees, what it creates has the container's ids, and no path of the host exists for
//! it. That is why it is not the gofer: a process that faces a hostile container's files is not to be the one that
//! could reach the host's. It keeps `CAP_CHOWN`, `CAP_DAC_OVERRIDE`, `CAP_DAC_READ_SEARCH`, `CAP_FOWNER`, `CAP_FSETID`
//! and `CAP_SETFCAP`, cannot be dumped, and makes no system call but those of file work. It is not in the container's
//! freezer. Sixteen clients are served at once.
//!
//! Every path is resolved as init's are, and the type of what is found is looked at through an `O_PATH`
//! descriptor before anything is opened: a FIFO or a device is not used by asking for it. Content crosses as a
//! descriptor of a regular file. Copies of trees are made by the caller, name by name: what is on the host is opened and
//! created below held directories, exclusively, without following links.
//!
//! # Mounts into a container that exists
//!
//! [`mount`](crate::Container::mount) spawns a gofer of its own, which makes the one mount that was asked for and ends
//! with the call; the container's own has given up what that takes. The sandbox forks a child, `cofferdam-mount`, in its
//! own pid namespace, which enters the container's mount namespace and attaches what that gofer handed over, or a tmpfs,
//! at a target resolved as init's are; one that a link leads into `/proc` is refused. It tells the sandbox the kernel's
//! number for the mount (statx(2), `STATX_MNT_ID_UNIQUE`), and [`unmount`](crate::Container::unmount) takes away only
//! what has one of these numbers. Sixteen changes of one container may be under way at once.
//!
//! # Volumes of a pod
//!
//! A [`pod_volume`](crate::ContainerBuilder::pod_volume) is a tmpfs that the sandbox made in the pod's user namespace and
//! attached nowhere; the init of each container that asks for it is forked with a copy of that mount. No container can
//! reach the original, and it is gone when the sandbox and all copies are.
//!
//! # Init
//!
//! Forked from the sandbox, which is single-threaded, so it may go on in Rust. At create it assembles the root,
//! pivots into it and finds the program. Then it waits for the order to start. The sandbox's mount namespace is the
//! container's, and after the pivot the sandbox too has no other root.
//!
//! At start it sheds what is not the workload's, in this order: session keyring, limits, capability bounding set,
//! groups and ids, capability sets, no_new_privs, umask, working directory (checked to be inside the root,
//! CVE-2024-21626), a look at its own ids and capabilities, which must be the plan's, close-on-exec for everything
//! above 2, seccomp filter, execve. Without no_new_privs the filter needs `CAP_SYS_ADMIN` to load, and is loaded
//! before the capabilities go.
//!
//! # Born among others
//!
//! Whoever is root in a container may look at a process of its pid namespace, and into it, from that process's first
//! instruction on. The first init has its pid namespace to itself, unless it joins another's. A process of
//! [`exec`](crate::Container::exec), and the init of a further container of a pod, have not: a fork of the sandbox would
//! be born among others with everything the sandbox has open. So it is forked by a process *between*, which shares the sandbox's memory, as with vfork(2), and
//! never is inside itself. That one enters the pid namespace for its children only, closes in its own descriptor table
//! all that the new process must not have, forks with `CLONE_PARENT`, so that the sandbox is the parent that collects the
//! status, and is gone. Seen from inside, the parent is pid 0.
//!
//! A process that was executed joins init's other namespaces, looks its program up inside, makes its terminal if it is to
//! have one, and sheds its privileges as init does. That it was executed is told by the end of its connection to the
//! sandbox, which the kernel closes with the `execve`.
//!
//! # Terminals
//!
//! A terminal is made by the process whose controlling terminal it will be, from the container's own devpts: so inside it
//! is called `/dev/pts/0` and nothing of the host's `/dev/pts` plays a part. The master goes to the sandbox with the word
//! that the process is ready and on to the caller, as a [`Pty`](crate::Pty), or once to a console socket. The sandbox
//! keeps no copy, so whoever has the master is all that holds the terminal up.
//!
//! # The sandbox
//!
//! One thread and one poll(2) over: a signalfd, the control socket and its clients; of each container init's pidfd,
//! init's channel until the program runs, the lifeline and the gofer's connection; of each executed process its pidfd and
//! who asked for it; and the file workers' pidfds. There is no timer but a time limit that was asked for and the deadlines
//! of clients.
//!
//! The control socket is a `SOCK_SEQPACKET` Unix socket in the run directory (mode 0700), in a pod in the root
//! container's. One request gets one reply; a client that says nothing for ten seconds is dropped; there are 64 at most;
//! and a peer from inside the container is recognised by its pid and refused. Frames and descriptors have fixed limits.
//!
//! # Which call goes where
//!
//! What is answered at once is asked over the connection that create made, or, by a container that was loaded, over a new
//! one for each request. What takes longer brings a connection of its own along with the request, and is answered there: no
//! operation waits for another's end.
//!
//! | Call | Goes |
//! |---|---|
//! | `start`, `signal` and its like, `kill`, `detach` | to the sandbox: one request, one reply |
//! | `exec`, `wait_pid` | to the sandbox, with a connection on which the process's start and end are told |
//! | `files` | to the sandbox, with a connection that the worker serves and whose end is the worker's |
//! | `create` of a further container in a pod | to the sandbox, with the connection on which init's "ready" or "failed" comes |
//! | `wait`, `AsFd` | nowhere: the sandbox's pidfd; for a container in another's sandbox a connection that its end closes |
//! | `forward_signals` | to the sandbox, over a new connection for each signal; of a [`Process`](crate::Process) to its pidfd |
//! | `processes` | to the sandbox for a descriptor of the container's proc; what is read there is read by the caller |
//! | `stats`, `update` | to the cgroups on the record, by the caller itself |
//! | `load`, `list`, `oci_state`, `exit` | to the files of the state root; whether it lives is asked of the kernel, of a member its sandbox |
//! | `delete` | to the record, the pids on it and its cgroups; in another's sandbox also there, to end the container and forget it |
//!
//! When init ends, the sandbox reads the counters of the memory cgroup, writes the exit record in one write, and
//! exits with init's own status (128 + n for signal n). So whoever reaps the sandbox's pid sees the truth.

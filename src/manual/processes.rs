//! The processes of a container: who starts each one, with which descriptors, in which namespaces.
//!
//! ```text
//!   caller                                    gofer                  sandbox                 init
//!     |- claim the id, write the record
//!     |- make the cgroup, write the limits
//!     |- spawn ------------------------------------------------------->|
//!     |- write its id maps                      .                       |- namespaces
//!     |- begin -------------------------------------------------------->|- fork --------------->|
//!     |- spawn -------------------------------->|                       |- network namespace    |
//!     |- begin, user namespace ---------------->|                       |---- the namespace --->|
//!     |                                         |- open, clone mounts   .                       |
//!     |                                         |---- detached mounts ------------------------->|
//!     |                                         |- drop all privileges  .                       |- assemble, pivot
//!     |<-------------------------- ready -------|                       .                       |- find the program
//!     |<------------------------------------- ready, pidfd of init -----|<------- ready --------|
//!     |- save "created", write the PID file     .                       .                       .
//!     .                                         .                       .                       .
//!     |- start -------------------------------------------------------->|--- start program ---->|
//!     |- save "running"                         .                       |                       |- shed privileges
//!     |<------------------------------------- done ---------------------|<---- end of file -----|- execve
//! ```
//!
//! If the configuration has hooks, create, start and delete have more steps. Between the last mount and the pivot, init
//! sends "root assembled" to the caller over a connection of their own (`hooks`) and waits. The caller runs the
//! prestart and createRuntime hooks and answers "hooks done". Hooks of the runtime namespace are run by another helper,
//! `cofferdam-hooks`, which lives for one round of hooks. It is their parent, so the caller collects no exit status of
//! a hook. createContainer and startContainer hooks are children of init.
//!
//! A systemd scope starts with a process in it, so there the cgroup comes after the sandbox: the caller asks systemd to
//! make the scope around the sandbox, makes the cgroups below it, and sends the sandbox their descriptors with "begin".
//! If devices of the host move into the container (`linux.netDevices`), the sandbox sends the caller a routing socket
//! of its network namespace, and the caller moves the devices before it runs any hook.
//!
//! In a pod the sandbox exists already:
//!
//! ```text
//!   caller                                    its own gofer          sandbox of the pod      init of the container
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
//! Gofer and sandbox execute the caller's own program, through a file that no process can write. So a container that
//! opens `/proc/PID/exe` of a helper gets a file that it cannot change (CVE-2019-5736). If the caller has
//! `CAP_SYS_ADMIN`, the file is in a detached read-only mount of the executable: only a process with that capability in
//! the initial user namespace could make it writable, and such a process can write the executable anyway. Otherwise, or
//! if the executable is in no mount of the caller's namespace, the file is a copy in a memfd, sealed against every
//! write. The copy has the ELF headers and the `PT_LOAD` and `PT_INTERP` segments at their offsets; the rest, often
//! nine tenths of it debug information, is a hole. The crate makes the mount or the copy once per process, for all
//! helpers.
//!
//! A program may have its helpers execute `cofferdam-helper` instead ([`Helper`](crate::helpers::Helper)), by the same kind
//! of mount or copy. It has the same constructor. Its file names the crate's version in an ELF note (elf(5)), so the crate
//! need not execute an unknown program to find out what it is. It has an allocator of its own, because a page fault is a
//! large part of what a short container costs: linked statically at a fixed address, the helpers of a run have three
//! quarters of the page faults that they have with the allocator and the relocations of musl.
//!
//! A constructor in `.init_array` runs before `main`. If `argv[0]` is exactly `cofferdam-gofer`, `cofferdam-sandbox`,
//! `cofferdam-hooks`, `cofferdam-exec-proxy` or `cofferdam-zygote`, and `argv[1]` is a list of donations, the
//! constructor serves as that helper and exits; `main` does not run. In every other program it returns after comparing
//! `argv[0]`. Constructors of *other* crates in the program may run first in the helpers. They see no descriptor but 0,
//! 1, 2 and the donated ones.
//!
//! # Spawning without touching the caller
//!
//! The caller makes a helper with clone3(2) and `CLONE_VM | CLONE_VFORK | CLONE_PIDFD`, on a separate stack and with
//! all signals blocked; the child calls execveat(2) at once. The kernel copies no page table, so the size of the
//! caller's memory costs nothing, and no signal handler of the caller can run in the child. The helper's environment is
//! empty but for `LD_LIBRARY_PATH`. It leaves the caller's session, so that Ctrl-C reaches only the caller.
//! Signals that the caller blocks or ignores are not the workload's: it starts with an empty mask and the defaults.
//!
//! The caller spawns the sandbox first, because the sandbox needs longer to start and make its namespaces than the
//! gofer needs to make its mounts. After that both work at the same time.
//!
//! # The zygote
//!
//! A caller that makes many containers can pay for the start of a program once. A [`Zygote`](crate::Zygote) is a helper
//! that is executed like the others, and then waits for requests to fork.
//!
//! ```text
//!   caller                                    zygote                 gofer or sandbox
//!     |- fork: name, namespaces, descriptors ->|
//!     |                                        |- clone3 -------------->|  a child of the caller
//!     |<-------------- forked: pid, pidfd -----|                        |- name, umask; serves as if executed
//! ```
//!
//! The zygote forks with `CLONE_PARENT`, so the fork is a child of the caller, which collects it by pidfd as usual. The
//! zygote is single-threaded, in its own session, at `/`, and cannot be dumped except while it forks. It has only
//! `/dev/null`, its connection to the caller, and one page of memory shared with the caller; it ends when the
//! connection does. A fork inherits neither the connection nor the page, only what was donated to it. The kernel writes
//! the pid of each fork into the shared page (`CLONE_PARENT_SETTID`), so if the zygote is killed between a fork and its
//! answer, the caller still knows the child. The zygote answers one request at a time.
//!
//! What a fork inherits was fixed when the zygote was made. So before each container the caller compares its present
//! state with the state at that time. If something differs, create fails with
//! [`OutdatedZygote`](crate::ErrorKind::OutdatedZygote), which names the difference. Hook runners, exec proxies and the
//! gofers of [mounts into a living container](#mounts-into-a-living-container) are executed even if there is a zygote.
//!
//! **Memory belongs to the user namespace in which it was executed** (ptrace(2), "Ptrace access mode checking"). If the
//! zygote forks a sandbox into a new user namespace, only a process with `CAP_SYS_PTRACE` outside that namespace can
//! look into the sandbox, or into its init before the execve. No process in the container can, whatever capabilities it
//! has; nor can an unprivileged caller, although it owns the namespace. The tools of such a caller, for example to set
//! up a network, find a container through `/proc/PID/ns` of its sandbox. So for a caller without `CAP_SYS_PTRACE` the
//! sandbox is executed, and the zygote forks only the gofer.
//!
//! # Limits, and who is under them
//!
//! The limits of a container are those of its own processes: they are in the cgroup `container` below the container's
//! path. The sandbox is outside of them, in the path itself or not even there (v1), or in `sandbox` beside
//! `container` (v2), and so are the processes that it forks, until they join the container. So `pids_limit(n)` is n
//! processes and threads of the workload, and a workload that reaches its memory limit, be it with files in a tmpfs, is
//! killed and not the sandbox, which then reports `OutOfMemory`. The gofer is in the caller's cgroups.
//!
//! A container of the builder with limits sees these cgroups of its own, and no others, at `/sys/fs/cgroup`, read-only: a
//! JVM or node looks there for the memory and the processors that it may use.
//!
//! The path itself has the limits of memory and tasks, too, with room for the helpers: 32 MiB and 128 tasks more. So a
//! program that reads `memory.max` there sees more than the configuration says, and the configured value in
//! `container`. On v1 only the hierarchies of memory, pids and freezer have that directory. In those of cpu and cpuset the
//! sandbox stays in the caller's cgroup: a workload that has used up its quota, or has a thousand processes ready to run,
//! would otherwise hold up the sandbox too, and with it the other containers of a pod. In the rest the sandbox, which uses
//! next to nothing, shares the container's cgroup.
//!
//! Engines take the cgroup of the pid that create gave them, the sandbox's, for the container's, to read its memory and
//! to wait for OOM kills. So where the configuration has a `cgroupsPath`, the sandbox is in the workload's memory cgroup
//! (v2: in `container`) from the end of create to the request to start. They read its processor time, too: with a
//! `cgroupsPath`, the sandbox is in the workload's cgroup of a v1 hierarchy of cpu that has cpuacct, under its quota.
//!
//! # OOM scores
//!
//! Every process of a container has the container's `process.oomScoreAdj`, and so do its gofer and its file workers. If
//! the configuration sets none, they have the caller's. The sandbox has the lowest score that one of its containers
//! asks for, so that the OOM killer does not choose the sandbox, which reports the end of a container, before the
//! container. A container that an engine made only to hold a pod does not count. If no container asks for a score, the
//! sandbox has the caller's. The sandbox sets its score again whenever a container comes or goes. Without
//! `CAP_SYS_RESOURCE` in the initial user namespace a process cannot go below the lowest score that a process with the
//! capability gave it: create refuses a container that asks for less, and names the field.
//!
//! # Descriptors
//!
//! A descriptor that crosses to another process is *donated*: it has a name, in `argv[1]` of a new helper or in the
//! message that carries it, and the receiver takes it by that name, once. A new helper has no others: close_range(2)
//! closes everything else before the exec.
//!
//! | Name | Gofer | Sandbox | What it is |
//! |---|---|---|---|
//! | `boot` | yes | yes | socket pair to the caller, for "begin" and then "ready" or "failed"; closed after that |
//! | `plan` | yes | yes | a sealed memfd: everything this process will do, with nothing left to decide |
//! | `init`, `gofer` | one end | other end | socket pair for the mounts; closes when the sandbox ends, and carries the sandbox's messages about cgroups to remove |
//! | `creator` | | yes | control connection of the program that made the container |
//! | `control` | | yes | the listening control socket, already bound in the state directory |
//! | `exit` | | yes | the exit record, open for writing |
//! | `hooks` | | yes | if there are hooks of creation: init's connection to the caller |
//! | `lifeline` | yes | yes | a pipe whose other end only the caller has |
//! | `user-log` | | yes | the user log, if there is one |
//! | `ids` | | yes | if the container has a range of host ids of its own: the [lock](super::crash_safety#host-ids) on it |
//! | `stdin`, `stdout`, `stderr` | | yes | passed on to init; no other process keeps them; absent where the stream is a device of the container |
//! | `cgroup-...` | | yes | where to join, the freezer and the process list of the container, OOM notifications, and the counters for the exit record |
//!
//! By path the sandbox opens on the host only a namespace that the configuration joins by path, its own entries in
//! `/proc`, and `/` to change mount propagation. The caller opened everything else that it needs. The workload gets
//! descriptors 0, 1 and 2, the environment of the configuration, and `HOME` from the image's `/etc/passwd` if the
//! configuration sets none.
//!
//! No process of a container has the host's `/dev/null`, `zero`, `full`, `random` or `urandom` open: with the host's uid
//! 0 it could change the mode of the host's device. Where a caller asks for `/dev/null`, or gives or inherits such a
//! device, the process opens the one in the container's `/dev` itself, so that no two containers share an open file
//! either. If a mount of the configuration has put something else there, init makes a device of its own. If the container
//! replaced its `/dev/null` later, a process of exec gets the one that init opened. In a user namespace the nodes in
//! `/dev` are read-only binds of the host's, because the kernel lets no process make devices there. Other devices and
//! terminals that a caller gives are passed on as they are.
//!
//! Failures cross processes as data: process, step, errno, object, hint. The call returns them as an
//! [`Error`](crate::Error) like any other.
//!
//! # Namespaces
//!
//! | Namespace | Made by | When |
//! |---|---|---|
//! | user | the caller, with the sandbox's clone; after it, if the sandbox first joins namespaces of the host | the caller, or `newuidmap` and `newgidmap`, write the maps |
//! | pid, of the sandbox | the caller, with the sandbox's clone | a process cannot move itself into one |
//! | mount, ipc, uts | the sandbox, by unshare(2) | while the caller maps its ids |
//! | network | the sandbox | while init assembles the root |
//! | pid and cgroup, of the container | the sandbox, with the reaper's clone or init's; the cgroup namespace init, by unshare(2) | so that the reaper or init is PID 1, and init's cgroup is the root of its view |
//! | mount, ipc, uts, of the gofer | the gofer | before it opens anything |
//!
//! There are two pid namespaces, one inside the other: the sandbox is PID 1 of the outer one, [the reaper](#the-reaper)
//! or init of the inner one. No other helper takes a pid inside or is visible there. When the sandbox is killed, the
//! kernel kills everything below it. If the configuration joins another pid namespace, only init and the processes of exec
//! are in it; the sandbox stays in the caller's.
//!
//! Programs that know the container by its PID file look at the sandbox for the container's namespaces. So when init is
//! ready, the sandbox enters the cgroup namespace that init has made, and another container
//! of the pod without a new cgroup namespace is in this one too. The exception is cgroup v2 mounted with `nsdelegate`,
//! as systemd does: from inside that namespace the kernel would refuse to start a process in the container's cgroup,
//! because the sandbox's own cgroup is above the namespace's root. There the sandbox stays in the caller's cgroup
//! namespace.
//!
//! If the configuration has no new mount namespace, the container still gets one until its root is complete. As its
//! last step of create, init copies the whole tree as a detached mount (open_tree(2)), enters the namespace of the
//! configuration, and makes the copy its root; the sandbox follows. Once the copy's descriptor is closed, the tree is
//! in no mount namespace, as after `umount2(MNT_DETACH)`, but stays complete for the processes that have it as their
//! root. Processes of [`exec`](crate::Container::exec) and file workers are children of the sandbox and inherit that
//! root. [What this means](super::oci#a-mount-namespace-that-is-not-new).
//!
//! **The network namespace is made in parallel**, because the kernel needs the most time for it. The sandbox makes it
//! after forking init and sends it to init. Init joins it just before it mounts sysfs, which shows the network devices
//! of the namespace in which it is mounted.
//!
//! **Ambient capabilities survive the sandbox's exec.** When the sandbox is cloned into its user namespace, no id is
//! mapped yet: its uid is the overflow uid, not 0, and execve(2) takes every capability from a process that is not
//! root. So the child raises all capabilities into the ambient set before the exec, and the sandbox can make its other
//! namespaces while the caller writes the maps. Then it becomes uid 0 of its namespace and forks init.
//!
//! # The gofer
//!
//! For each source of the plan the gofer makes a *detached* mount: open_tree(2) with `OPEN_TREE_CLONE`, or an overlay
//! over scratch memory by fsopen(2). It sets read-only, nosuid, nodev, noexec and the id map by mount_setattr(2) before
//! any other process can see the mount. It sends the descriptors to init, and after them a read-only mount of each
//! layer of an overlay, for [`diff`](crate::Files::diff) and [`export_layer`](crate::Files::export_layer). Then it
//! leaves its copy of the host's mounts for an empty root, so that a disk that the host unmounts is free, gives up all
//! capabilities, the file system (by Landlock, if the kernel has it) and every system call except those it waits with,
//! and waits until the sandbox ends. If the gofer is killed, its container ends.
//!
//! Gofer and sandbox give the pages of their code back once nothing has happened for 50 ms. The next event maps them
//! again, from the page cache, so a container that ends sooner does not pay for that.
//!
//! If the container has cgroups that the crate made, the gofer keeps descriptors of their directories. When an attached
//! container has ended and its caller is gone, no other process can remove them: the sandbox is inside the cgroups, and
//! may be another user of the host. So the last thing that the sandbox of an attached container does, after it has written
//! the exit record, is to send the gofer a message, whose content the gofer ignores. The gofer then waits for the end of the
//! caller, by the [lifeline](super::crash_safety#the-lifeline). A caller that deletes or detaches the container kills the
//! gofer instead. Otherwise the gofer waits, five seconds at most, until every process in the cgroups has ended, and
//! removes them: nested ones first, at last the parent directories that were made for the container, if they are empty.
//! It leaves those that another program has removed, even if there are others of the same name by now. In a pod, whose
//! sandbox outlives its containers, the sandbox watches the lifeline of one that has ended, and sends the message when
//! the caller is gone; only if the pod ends before that, the gofer waits.
//! The record stays, and says how the container ended. The one other message is the number of an executed process's own
//! cgroup, which the gofer removes if it is empty. A false message can do no more than that: Landlock allows only
//! removing directories below the parents of these cgroups and reading below the cgroups, no allowed system call ends a
//! process, and the kernel removes no cgroup with a process in it. At the top of a hierarchy even root needs a
//! capability to make or remove a directory; if a parent is there, a gofer of root keeps `CAP_DAC_OVERRIDE`. On a
//! kernel without Landlock the gofer keeps nothing, and the cgroups stay until the record is deleted, as after any
//! other end.
//!
//! Source paths come from the caller, and the gofer resolves them as any program would. An image can influence paths
//! *inside* the container, so init resolves those below the root's descriptor, by openat2(2) with `RESOLVE_IN_ROOT |
//! RESOLVE_NO_MAGICLINKS`, and creates a missing mount point one component at a time without following links.
//!
//! # File workers
//!
//! [`files`](crate::Container::files) asks the sandbox for a process that does one client's file work. The sandbox
//! forks the worker; client and worker have a connection of their own, and the worker ends with it. A worker stays in
//! the sandbox's pid, user and mount namespaces and has the container's root as its root. So no process inside can see
//! or signal it, it sees the mounts that the workload sees, the files it creates have the container's ids, and it
//! cannot name a path of the host. This is why the gofer does not do this work: the process that works on files of a
//! hostile container must not be the one that can reach the host's. A worker keeps `CAP_CHOWN`, `CAP_DAC_OVERRIDE`,
//! `CAP_DAC_READ_SEARCH`, `CAP_FOWNER`, `CAP_FSETID` and `CAP_SETFCAP`, cannot be dumped, and can make only the system
//! calls of file work. It is not in the container's freezer. A container serves up to sixteen clients at once.
//!
//! A worker resolves every path as init does, and looks at the type of a file through an `O_PATH` descriptor before it
//! opens the file: asking for a FIFO or a device does not use it. Content crosses as a descriptor of a regular file.
//! The caller copies trees name by name: it opens and creates files on the host below directories that it holds open,
//! with `O_EXCL` and without following links.
//!
//! A mount namespace lives as long as a descriptor of it is open. So
//! [`keep_files`](crate::ContainerBuilder::keep_files) has the creator's value hold the container's mount and user
//! namespaces and the descriptors of its root and its layers. After the end the caller starts the worker itself, as a
//! helper that enters these namespaces and then does what any other worker does. When the value goes, or its program
//! ends, the kernel closes the descriptors, and the mounts go with them.
//!
//! # Mounts into a living container
//!
//! The container's own gofer has given up the capabilities to make mounts. So [`mount`](crate::Container::mount) spawns
//! another gofer, which makes one mount and ends with the call. The sandbox forks a child, `cofferdam-mount`, in the
//! sandbox's pid namespace. The child enters the container's mount namespace and attaches the gofer's mount, or a
//! tmpfs, at a target that it resolves as init does; it refuses a target that a link leads into `/proc`. It reports the
//! kernel's number of the mount (statx(2), `STATX_MNT_ID_UNIQUE`) to the sandbox, and
//! [`unmount`](crate::Container::unmount) removes only mounts with one of these numbers. A container takes up to
//! sixteen such changes at once.
//!
//! # Volumes of a pod
//!
//! A [`pod_volume`](crate::ContainerBuilder::pod_volume) is a detached tmpfs that the sandbox makes in the pod's user
//! namespace. Each container that asks for the volume gets a copy of that mount when its init is forked. No container
//! can reach the original, and the volume ends with the sandbox and all copies.
//!
//! # Init
//!
//! The sandbox forks init. The sandbox is single-threaded, so its fork can go on in Rust. During create init assembles
//! the root, pivots into it and finds the program, then waits for "start program" from the sandbox. The sandbox's mount
//! namespace is the container's, so after the pivot the sandbox has the same root.
//!
//! Already at create, before any program of the container runs, init leaves the caller's session keyring for a new one. If
//! the quota of keys of the container's ids is used up, init keeps the sandbox's keyring, which is empty and not writable
//! for it. At start it sheds what the workload must not have, in this order: limits, scheduling attributes, security
//! labels, working directory (checked to be inside the root, CVE-2024-21626; if root may not enter it, init enters it
//! later with the workload's ids), capability bounding set, groups and ids, capability sets, no_new_privs, umask. Then init
//! reads back its ids and capabilities and compares them with the plan, sets close-on-exec on every descriptor above 2,
//! loads the seccomp filter, and calls execve. Without no_new_privs loading the filter needs
//! `CAP_SYS_ADMIN`, so init then loads it before it drops the capabilities.
//!
//! # Jobs of a pool
//!
//! A container of a [pool](crate::pools::Pool) has done all of create before there is a job for it. The job reaches init
//! while it waits for "start program":
//!
//! ```text
//!   caller                                                          sandbox                 init
//!     |- take: the job's plan in sealed memory, its streams ------->|---- the same ------->|
//!     |- save the job's configuration                               .                      |- take the streams
//!     |                                                             .                      |- find the program
//!     |<---------------------------- done --------------------------|<------ taken --------|
//! ```
//!
//! The plan has arguments, environment, working directory, and which streams are devices; init cannot be sent other ids,
//! capabilities, limits or mounts. The sandbox does not read it, and keeps no copy of a stream. If init cannot take the
//! job, it ends, so that nothing half changed can be started. The sandbox refuses a job for a container with a terminal,
//! and for one whose filter notifies: there the filter is loaded before.
//!
//! # The reaper
//!
//! The kernel treats PID 1 unlike any other process: it drops the signals that PID 1 has no handler for, so that a
//! program which calls `abort()` or kills itself goes on, and it gives PID 1 all orphans, which stay zombies if the
//! program does not wait for them. So unless [`init(false)`](crate::ContainerBuilder::init) says otherwise, a container
//! that was described with the builder and has a pid namespace of its own gets another PID 1, the *reaper*, and its
//! workload is pid 2. In a container from a bundle the workload is PID 1 as the OCI specification has it, unless the
//! caller asks for `init(true)`. A container that shares a pid namespace has no reaper.
//!
//! ```text
//!   sandbox                 intermediate process               reaper               init
//!      |-- clone(VM, VFORK) -->|  new namespaces
//!      |                       |-- clone(PARENT) ------------->|
//!      |                       |-- clone(PARENT) ---------------------------------->|
//!      |<------------------------------------------------------------- ready -------|
//!      |------ become the reaper ----------------------------->|  enter init's namespaces, give up everything, execve
//!      |<----- end of file ------------------------------------|
//! ```
//!
//! The sandbox is the parent of both, so it signals the workload and collects its status and usage as it does without a
//! reaper.
//! When the workload ends, the sandbox collects it and kills the reaper; the kernel then kills every other process of
//! the pid namespace, as it does when any PID 1 ends; and when the reaper is gone, the sandbox writes the exit record.
//! If the reaper is killed from outside, the kernel kills the workload, and the outcome is
//! [`Lost`](crate::Outcome::Lost).
//!
//! Root in a container can look into PID 1, so the reaper keeps nothing of the sandbox. It enters the network and cgroup
//! namespaces that the workload has, drops all capabilities, sets no_new_privs, and executes a program of a few hundred
//! bytes that the crate writes into a sealed memfd: one page of code, one of stack, no library, no environment, no
//! descriptor. The program makes itself undumpable, loads a filter that allows only waiting, closes the connection to
//! the sandbox, and waits for ever. It need not collect anything itself: it ignores SIGCHLD, so the kernel collects its
//! children. Its root is the container's. It is in the sandbox's cgroups and not in the workload's, and in no freezer.
//!
//! # Processes forked beside others
//!
//! Root in a container may look into every process of its pid namespace, from that process's first instruction on. The
//! first init is alone in its pid namespace with its reaper, unless it joins another one. But a process of
//! [`exec`](crate::Container::exec), and the init of another container of a pod, start beside other processes, and as a
//! plain fork of the sandbox they would have everything that the sandbox has open. (The first init closes all of that as
//! soon as it is forked, before exec can put a process beside it.) So the sandbox forks them through an
//! intermediate process, which shares the sandbox's memory, as with vfork(2), and never is inside itself. It enters the
//! pid namespace only for its children, closes in its own descriptor table all that the new process must not have,
//! forks with `CLONE_PARENT`, so that the sandbox is the parent and collects the status, and ends. Seen from inside,
//! the parent is pid 0.
//!
//! A process of exec joins the other namespaces of init, finds its program inside, makes its terminal if it has one,
//! and sheds its privileges as init does. Its connection to the sandbox closes with the `execve`: the end of file tells
//! the sandbox that the program was executed.
//!
//! The sandbox keeps the time of an [`Exec::timeout`](crate::Exec::timeout), and kills the process with everything that it
//! started (`sandbox/offspring.rs`): each process whose parent is in that set, and each process in a session that a member
//! of the set made. It stops all that it finds until it finds no more, and only then kills them, so no fork bomb gets
//! away. A daemon that has left its session and lost its parent before goes on until the container ends.
//!
//! A process with limits of its own ([`Exec::memory_limit`](crate::Exec::memory_limit)) has a cgroup below the container's,
//! which holds everything that it starts. The caller makes the cgroup, sets the limits and opens the files by which the
//! process joins it, before it asks the sandbox for the process. On cgroup v2 the first of them also has the sandbox move
//! the container's other processes into a cgroup beside it (`container/init`), because a cgroup that gives controllers to
//! others holds no process itself. At the timeout the sandbox kills all that is in the cgroup, daemons included, also
//! when the process itself has ended. Once the cgroup is empty, the sandbox sends its number to [the
//! gofer](#the-gofer), which removes it. Of an existing cgroup below the container's ([`Exec::cgroup`](crate::Exec::cgroup))
//! the caller opens only the file by which the process joins.
//!
//! # Terminals
//!
//! The process that will have the terminal as its controlling terminal makes it, from the container's own devpts. So
//! inside its name is `/dev/pts/0`, and the host's `/dev/pts` is not involved. The process sends the master to the
//! sandbox together with "ready"; the sandbox sends it on to the caller, which has it as a [`Pty`](crate::Pty) or sends
//! it once to a console socket. The sandbox keeps no copy, so the terminal hangs up when the last holder of the master
//! closes it.
//!
//! # The sandbox
//!
//! The sandbox has one thread and one poll(2). It watches a signalfd, the control socket and its clients; for each
//! container init's pidfd, init's channel until the program runs, the lifeline, the gofer's connection and OOM
//! notifications; for each process of exec its pidfd, its channel and its client; and the pidfds of file workers and
//! mount changes. Timers exist only for a time limit that the caller asked for, for a pause, and for the deadlines of
//! clients.
//!
//! The control socket is a `SOCK_SEQPACKET` Unix socket in the run directory (mode 0700); in a pod it is in the root
//! container's. One request gets one reply. The sandbox drops a client that is silent for ten seconds, has 64 clients
//! at most, and recognises a peer inside the container by its pid and refuses it. Frames and descriptors have fixed
//! limits.
//!
//! # Where each call goes
//!
//! A request that is answered at once goes over the connection that create made, or, for a loaded container, over a new
//! connection. A request that takes longer carries the end of another connection, on which the answer comes. So no
//! operation waits for another one to finish.
//!
//! | Call | Goes |
//! |---|---|
//! | `start`, `signal` and similar, `kill`, `detach` | to the sandbox: one request, one reply |
//! | `exec`, `wait_pid` | to the sandbox, with a connection that reports the start and end of the process |
//! | `files` | to the sandbox, with a connection that the worker serves; the worker ends with it. After the end, to a worker that the caller starts |
//! | `create` in the pod of another container | to the sandbox, with the connection on which init's "ready" or "failed" comes |
//! | `wait`, `AsFd` | nowhere: they watch the sandbox's pidfd; in a pod, a connection that closes when the container ends |
//! | `forward_signals` | to the sandbox, over a new connection for each signal; for a [`Process`](crate::Process), to its pidfd |
//! | `processes` | to the sandbox for a descriptor of the container's proc, which the caller reads |
//! | `stats`, `update` | to the cgroups in the record, by the caller itself |
//! | `load`, `list`, `oci_state`, `exit` | to the files of the state root; the kernel, or in a pod the sandbox, says whether the container lives |
//! | `delete` | to the record, its pids and its cgroups; in a pod also to the sandbox, to end the container and forget it |
//!
//! When init and the reaper have ended, the sandbox reads the counters of the memory cgroup, writes the exit record in one
//! write, and exits with init's own status (128 + n for signal n). So the process that reaps the sandbox's pid sees the
//! true status.

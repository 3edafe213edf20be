//! What is promised and what is not, layer by layer, and where the design differs from the usual one.
//!
//! # Who is trusted
//!
//! The caller, the configuration and the host's root are trusted. The bytes of an image, the workload (also as uid 0
//! in its user namespace), whatever it sends, and anybody else who writes to a volume it shares, are not.
//!
//! # Promised
//!
//! * No host object outside the declared root and mounts is read, written or created on the container's behalf by
//!   path.
//! * No privilege, descriptor, environment variable, key or memory of the caller or of a helper reaches the workload,
//!   with the exception of supplementary groups [where there is a single id](super::privileges#ids).
//! * Limits that were asked for hold before the workload's first instruction. A limit that cannot be set is an error;
//!   with [best effort](crate::ContainerBuilder::best_effort_limits), where its controller is what lacks, it is
//!   [named](crate::Container::unapplied_limits).
//! * A configuration that asks for something that is not done is refused by field name. Nothing is dropped silently.
//! * A failed create leaves nothing and harms no container that existed.
//! * A helper of ours that dies leaves nothing running, given a pid namespace of the container's own.
//! * A caller that is killed leaves no process and no cgroup of a container that is created, attached and has not ended,
//!   only the record of how it did. For the cgroups this takes a kernel with Landlock; those of a scope of systemd's are
//!   systemd's to remove.
//! * The caller is not changed.
//!
//! # Not promised
//!
//! * Protection from kernel bugs. The workload makes its system calls to the host's kernel; the filter makes fewer of
//!   them possible.
//! * Protection from side channels: caches, timing, speculative execution.
//! * Fairness without limits: memory, CPU time, disk and network are shared with the host as far as no limit was
//!   asked for.
//! * Anything about a container whose `config.json` gives it away: no user namespace with `CAP_SYS_ADMIN`, the host's
//!   `/` bound writable, no seccomp. It is obeyed.
//! * Two containers that share a writable volume are as separate as that volume lets them be. The containers of a pod
//!   share a network, ipc objects, a user namespace, and, where that was asked for, their processes.
//! * That a workload which was given `CAP_SYS_PTRACE` learns nothing of its pod: a process that is about to be executed is a
//!   copy of the sandbox until it is, and such a workload may read its memory, where the other members' plans are. One of
//!   a sandbox that was forked from a [zygote](super::processes#the-zygote) may not.
//! * That helpers which were forked from the same zygote differ in the layout of their memory, or in their stack
//!   protector's secret: both are drawn at execve(2). Who learns them of one, by a bug of the kernel or through a side
//!   channel, knows them of the others. Workloads are executed, and draw their own.
//! * That a process which leaves the container's mount namespace, in a pid namespace that it shares, is still counted as
//!   the container's by anything but the kill of its cgroup.
//! * That hooks are harmless: those of the host run with the caller's own privileges.
//!
//! # The layers
//!
//! | Layer | Does | Its limit |
//! |---|---|---|
//! | User namespace | uid 0 inside is nobody outside; capabilities count inside only | opens kernel code that would otherwise need root. The filter refuses nested user namespaces. |
//! | Mount namespace, pivot_root | only declared files are reachable | what is bound writable is the host's own; [chroot(2) alone](super::oci#a-mount-namespace-that-is-not-new) where the configuration has no new one |
//! | Pid namespaces | others cannot be seen or signalled; killing the sandbox kills all | off if the configuration shares the host's |
//! | Network namespace | loopback only; abstract Unix sockets of the host are out of reach | a bound Unix socket still connects |
//! | Ipc, uts, cgroup namespaces | own shared memory and queues, name, cgroup view | |
//! | Capabilities | all five sets as planned, by default empty, read back before the exec | |
//! | no_new_privs | set-user-ID files raise nothing | off with `allow_new_privileges` |
//! | seccomp | an allow-list per ABI; see [`seccomp`](crate::seccomp) | sees numbers and arguments, never memory |
//! | Masked and read-only paths | parts of `/proc` and `/sys` hidden or read-only | a list; the kernel adds files |
//! | Session keyring | a new, empty one | the other keyrings are not namespaced; the filter refuses their calls |
//! | `RLIMIT_NPROC` | holds a fork bomb | [not for the host's root](super::privileges#processes) |
//! | cgroups | memory, CPU and process limits, and [which devices open](super::oci#device-rules), when asked for | by default only a place to freeze, where the caller may make one |
//! | Landlock | confines the waiting gofer: to removing its container's cgroups | not applied to the workload |
//!
//! `Rootfs::host()` shows the host's `/etc` among other directories, read-only and with the host's permissions.
//! Password hashes and `sudoers` are masked; other secrets in `/etc` are protected by their permissions only. A
//! container of an unprivileged caller reads there what the caller can read. Use
//! [`Rootfs::directory`](crate::Rootfs::directory) for a workload that must not see this.
//!
//! A root directory that is used without a scratch gets the mount points it lacks, as empty directories and files,
//! and they stay there. With a [`scratch`](crate::ContainerBuilder::scratch) they go to the layer in memory.
//!
//! A configuration that shares the host's pid namespace (the builder has no method for it) has no PID 1 to end
//! everything with. There `kill` ends init, and processes that it left behind end only with a cgroup of the
//! container's own.
//!
//! # Not there yet
//!
//! Checkpoint and restore. In a pod, a container with createContainer hooks of the host is refused.
//!
//! # Where the design differs from the usual one
//!
//! **Sandbox and gofer are processes of their own.** runc and crun leave no process of theirs behind, and an engine's
//! monitor (conmon, the shim) is the parent. As a library there is no monitor to rely on, and the caller may be
//! anything. So the container brings its own parent: it collects the exit status, keeps the time limit and answers
//! for the container after the caller has gone. As PID 1 of a pid namespace around the container's, its death ends
//! the rest. The gofer is another process so that the one that opens host paths is not the one that faces the
//! workload.
//!
//! **The gofer has no pid and no network namespace of its own**, and for root no user namespace. A network namespace
//! per gofer would double the dearest part of create. The waiting gofer has no file system but [its container's
//! cgroups](super::processes#the-gofer) and no call that opens a socket or sends a signal, so those namespaces would
//! separate it from nothing that it can reach. A
//! user namespace of its own would make its work impossible: an id-mapped mount may be made only by whoever has
//! `CAP_SYS_ADMIN` in the user namespace that owns the *file system* (mount_setattr(2)), and for a host's file system
//! that is the initial one. The gofer of an unprivileged caller enters the sandbox's user namespace, because there
//! alone it may mount; that is also why such a container has no id-mapped root.
//!
//! **The gofer serves no files.** gVisor's does because its workload has no other way to them. Here the workload does
//! its file I/O itself, at native speed, on the mounts it was handed. Who wants files from outside gets a [worker of
//! their own](super::processes#file-workers) inside the container's namespaces, for which the host has no paths; the
//! gofer, which had them, keeps the right to open nothing of them and hears nobody.
//!
//! **No fsync.** [Why](super::crash_safety#on-disk) is with the record.
//!
//! **`RLIMIT_NPROC`, not a pids cgroup, is the default guard against fork bombs.** A cgroup needs write access that
//! most callers do not have, and on v1 joining one costs time in every run. The limit of setrlimit(2) needs neither,
//! and since Linux 5.14 it is counted per user namespace. [`pids_limit`](crate::ContainerBuilder::pids_limit) uses
//! the cgroup for those who want the exact count.
//!
//! **The state directory is per user**, and nothing in it is secret from that user. Its checksums find damage, not
//! tampering: whoever can write there can do all that the caller can.
//!
//! **The sandbox's pid is "the" pid** in the OCI state and the PID file, as with runsc. Its exit status is the
//! container's, and its namespaces are, so programs that reap or inspect that pid see the truth. The workload's own
//! pid is [`init_pid`](crate::Container::init_pid), and for a further container in a pod, whose sandbox is not its own,
//! that is "the" pid.

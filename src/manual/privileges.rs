//! What root and other users may do, which ids a container gets, and which feature needs which kernel.
//!
//! # Who may do what
//!
//! | | Root | Another user |
//! |---|---|---|
//! | Namespaces, mounts, pivot | yes | yes, inside a user namespace |
//! | Ids of the container | 65536 of its own | a subordinate range, or one id |
//! | Root directory shown with mapped ids | yes, by default | no: files keep their owners, and those of other users show as `nobody`'s |
//! | Without a user namespace | yes, with [`without_user_namespace`](crate::ContainerBuilder::without_user_namespace) | refused: `linux.namespaces` |
//! | In the caller's mount namespace, or another existing one | without a new user namespace | refused: `linux.namespaces` |
//! | cgroup limits, also of a living container | yes | in a cgroup delegated to the user; otherwise refused by field, or [left out](crate::ContainerBuilder::best_effort_limits) and named |
//! | Writable binds of another user's directory | yes: [its owner appears as the container's user](#ids) | only if its mode lets the workload write there; otherwise refused |
//! | Device rules | enforced | moot: a process in a user namespace cannot make a device node |
//! | Statistics | yes | what the kernel counts for the container's own cgroup; the rest is `None` |
//! | exec, files, terminals, pods, process table | yes | yes |
//! | Device nodes in `/dev` | made, without a user namespace; bound otherwise | bound from the host |
//! | Network devices of the host moved to a container | with `CAP_NET_ADMIN` | refused by the kernel: `EPERM`; yes in a network namespace that the user made |
//! | Raising limits or OOM priority | yes | as far as the kernel lets the caller |
//!
//! "Root" here is a caller with effective `CAP_SYS_ADMIN`, `CAP_SETUID` and `CAP_SETGID`.
//!
//! # Ids
//!
//! **Root** of the host gets a range of 65536 host ids for each container, which no other container has at the same time,
//! also not one of another state root. The containers of a pod share the range of the root container. What the kernel counts
//! for each uid, such as descriptors that wait in sockets, pipe buffers and keys, it so counts for each container.
//!
//! * The ranges come from root's entries in `/etc/subuid` and `/etc/subgid`: the largest of each file, if both have at least
//!   65536 ids. Otherwise they are those from 1879048192 to 2147352575, which systemd lists as unused, without what is below
//!   the end of a subordinate range that reaches into them. That is room for 4094 containers; root's own entries can give
//!   more.
//! * `build` chooses a free range and changes nothing. `create` takes it, or another one if a container was faster, and the
//!   record names it in the configuration. If all are taken, `build` and `create` fail with
//!   [`Unsupported`](crate::ErrorKind::Unsupported) and say how many there are.
//! * [The claim](super::crash_safety#host-ids) ends with the sandbox, at the latest with `delete`. Nothing has to be cleaned
//!   up after a kill or a reboot.
//! * With [`id_mappings`](crate::ContainerBuilder::id_mappings) and in a bundle, the mappings are used as they are given, and
//!   nothing is claimed: they decide which containers share ids. An engine gives most containers the same.
//!
//! **On disk** the files of all these containers have the ids from 1878982656 to 1879048191, the last 65536 of the range
//! that systemd reserves for containers; no login user has them. Each bind is an id-mapped mount that shows them as the
//! container's own, so that containers with different ranges see the same owners, and a file outlives the range of the
//! container that made it. On a file system that cannot be id-mapped the container sees such files as `nobody`'s, and a
//! [`bind_rw`](crate::ContainerBuilder::bind_rw) of a directory that belongs to one of these ids is refused. A
//! [`scratch`](crate::ContainerBuilder::scratch), `/tmp` and the volumes of a pod are in memory, have the ids of the range,
//! and end with the container.
//!
//! **Root** of a user namespace, as in an outer container, gives its containers the longest run of ids that it has besides
//! its own, or its own if it has no other.
//!
//! On the disk, root usually owns the files of an image. An id-mapped mount shows them as owned by the container's
//! root, without changing the disk. The file system must support this: ext4 and xfs do, btrfs since Linux 5.15, tmpfs
//! since 6.3. overlayfs accepts id-mapped layers since 5.19, which a scratch over such a root needs, but an overlayfs
//! itself cannot be id-mapped. If the file system cannot be mapped, `create` says so;
//! [`idmapped_rootfs(false)`](crate::ContainerBuilder::idmapped_rootfs) shows the owners as they are on disk.
//!
//! A bind of [`bind_rw`](crate::ContainerBuilder::bind_rw) is id-mapped, too, if the container has no id for its owner: the
//! mount shows the owner as the container's user, and what the user makes there belongs to the owner. A source of the
//! host's root is never mapped unless [`Bind::map_owner`](crate::builder::Bind::map_owner) asks for it: it is shown as it
//! is if everyone may write there, and otherwise refused. [`Bind::keep_ids`](crate::builder::Bind::keep_ids) asks for no
//! mapping of the owner. A bind of [`bind_ro`](crate::ContainerBuilder::bind_ro) shows the ids on the disk.
//!
//! **Another user** with ranges in `/etc/subuid` and `/etc/subgid`, and with `newuidmap` and `newgidmap` installed, is
//! root inside, and the first range becomes the ids from 1 on. The user needs a range in both files, for uids and for
//! gids.
//!
//! The workload has none of the caller's supplementary groups, unless
//! [`keep_caller_groups`](crate::ContainerBuilder::keep_caller_groups) asks for them.
//!
//! **With a single id**, the caller's own as 0, the kernel lets an unprivileged process write the map only after
//! setgroups(2) was denied permanently (user_namespaces(7)). This has consequences:
//!
//! * The caller's supplementary groups cannot be dropped. The workload keeps them, shown as `65534(nogroup)`, and can
//!   open what they may open among the files that the container sees. Root directories and binds of such a container
//!   should hold nothing that a group protects.
//! * `groups`, and users other than 0, are refused by name.
//! * On the host the workload *is* the caller. It cannot see or signal the caller's other processes, because of its pid
//!   namespace. In the directories bound into the container it can read and write what the caller can.
//!
//! # Processes
//!
//! The default limit of 1024 processes is `RLIMIT_NPROC`. Since Linux 5.14 the kernel counts it per user *and* user
//! namespace, so one container's processes do not count for another container or for the caller, and no cgroup is
//! needed. The limit does not hold for the host's own root: a container
//! [`without_user_namespace`](crate::ContainerBuilder::without_user_namespace) that runs as uid 0 needs a
//! [`pids_limit`](crate::ContainerBuilder::pids_limit). The kernel counts each uid of the container separately, which
//! matters only if the container has `CAP_SETUID`.
//!
//! # Other limits by default
//!
//! The kernel counts some objects of a container also for its caller: root of the host, or the other user. So a container
//! that the builder describes starts with limits that leave the caller most of what it has. They are never above the caller's
//! own. A bundle gets the limits that it lists and no others.
//!
//! | What | At most | A host allows | Set by |
//! |---|---|---|---|
//! | queued signals and POSIX timers | 1024 | some thousands for each user | `RLIMIT_SIGPENDING`: [`rlimit`](crate::ContainerBuilder::rlimit) with [`PendingSignals`](crate::builder::Resource::PendingSignals) |
//! | bytes of POSIX message queues | 204800, two queues of the default size | 819200 for each user | `RLIMIT_MSGQUEUE`: [`MessageQueues`](crate::builder::Resource::MessageQueues) |
//! | descriptors of a process; descriptors of a user that wait in sockets | 65536, or three quarters of the caller's hard limit. The soft limit is the caller's | | `RLIMIT_NOFILE`: [`OpenFiles`](crate::builder::Resource::OpenFiles) |
//! | inotify instances | 32 | 128 for each user | `max_inotify_instances` |
//! | inotify watches | 32768 | by memory | `max_inotify_watches` |
//! | user namespaces | 256 | by memory | `max_user_namespaces` |
//! | without a filter of system calls, or with `CAP_SYS_ADMIN`: fanotify groups and marks; namespaces of each other kind | 32 and 32768; 256 | 128 groups for each user; by memory | `max_fanotify_groups` and so on |
//!
//! The files of the last four rows are those of the container's new user namespace, in `/proc/sys/user` (namespaces(7)).
//! The sandbox writes them before the workload exists; where `/proc/sys` cannot be written, as in some outer containers,
//! they stay unlimited. Each holds for every uid of the container, of which a workload without `CAP_SETUID` has one.
//!
//! The sandbox's own limit of open files is the caller's hard limit. So it can pass descriptors on when the workload has
//! filled every socket. If that fails because the workload was given a limit as high, the error of
//! [`exec`](crate::Container::exec) says that the program was executed, and what became of it.
//!
//! # cgroups
//!
//! On cgroup v1 a container goes below the caller's own cgroup, in every hierarchy that it needs.
//!
//! On cgroup v2 a cgroup that holds processes cannot enable controllers for its children, and the caller's own cgroup
//! holds the caller. So a container goes below the nearest cgroup above the caller that meets two conditions:
//!
//! * The caller may make directories there and may write `cgroup.procs`; otherwise the kernel lets no process move
//!   through that cgroup.
//! * The controllers of the requested limits are in its `cgroup.controllers`, and are or can be enabled in its
//!   `cgroup.subtree_control`. They can be enabled if the caller may write that file and the cgroup holds no processes
//!   or is the root of the hierarchy. The crate enables them when it makes the container, and never disables them.
//!
//! That cgroup is never above the root of the caller's cgroup namespace. If only the caller's own cgroup meets the
//! first condition, a container there can be frozen but not limited. The same rules apply to an absolute
//! [`cgroups_path`](crate::ContainerBuilder::cgroups_path), from the mount point down. If a limit cannot be set, the
//! error names its field, the cgroup, and what the cgroup lacks; with
//! [`best_effort_limits`](crate::ContainerBuilder::best_effort_limits) the container runs without that limit.
//!
//! | Where an unprivileged caller runs | Limits |
//! |---|---|
//! | In a unit of its `user@UID.service` | those that systemd delegates to it: `Delegate=` of `user@.service` |
//! | In a login session (`session-N.scope`) | refused: start it by `systemd-run --user --scope`, or name a scope as `slice:prefix:name` |
//! | In a leaf of a subtree that is delegated to it | yes |
//! | In a service with `Delegate=yes`, in the service's cgroup itself | refused until its processes are in one below: `DelegateSubgroup=` |
//! | In a container, with its processes in the root of its cgroup namespace | refused until they are in a cgroup below |
//!
//! # Kernels
//!
//! Linux 5.14 is the oldest kernel with everything that is always needed. The lower bounds come from the manual pages
//! of the system calls. The crate is developed on Linux 6.18 on x86-64, and tested there and on 6.1; other kernels, and
//! aarch64, are not tested.
//!
//! | Needed for | Since | Without it |
//! |---|---|---|
//! | `clone3`, pidfds, `waitid(P_PIDFD)` | 5.4 | nothing works |
//! | `openat2` | 5.6 | nothing works |
//! | `close_range` with `CLOSE_RANGE_CLOEXEC` | 5.11 | nothing works |
//! | overlayfs in a user namespace | 5.11 | no scratch without root |
//! | `mount_setattr`, id-mapped mounts | 5.12 | nothing works |
//! | Landlock | 5.13 | only seccomp keeps the gofer from files; the cgroups of a killed caller's containers stay until their records are deleted |
//! | `RLIMIT_NPROC` counted per user namespace | 5.14 | the default limit counts together with the caller's other processes |
//! | `cgroup.kill` | 5.14 | processes of a v2 cgroup are killed one by one |
//! | `CLONE_INTO_CGROUP` (v2) | 5.7 | no limits on cgroup v2 |
//! | `CONFIG_CGROUP_BPF` (v2) | 4.15 | device rules are refused for a container that can make nodes |
//! | `rro`, recursive read-only binds | 5.12 | nothing works |
//! | `user.*` attributes on tmpfs | 6.6 | no `diff` and no `export_layer` |
//! | `fchmodat2` | 6.6 | file access sets the mode of regular files and directories only |
//! | `MFD_EXEC` | 6.3 | a plain memfd is used |
//! | `STATX_MNT_ID_UNIQUE` | 6.8 | `unmount` tells mounts apart by numbers that the kernel may reuse |
//! | copying a detached mount | 6.15 | no `pod_volume` |
//!
//! Kernel options: user, pid, net, ipc, uts and cgroup namespaces, seccomp filters, tmpfs; overlayfs for a scratch;
//! cgroups for limits.
//!
//! # What stands in the way
//!
//! Distributions and hosts may disable what an unprivileged caller needs: `kernel.unprivileged_userns_clone=0`,
//! `user.max_user_namespaces=0`, AppArmor's `apparmor_restrict_unprivileged_userns`, a container engine's seccomp profile
//! around the caller, or a `/proc` that is partly masked, over which the kernel mounts no new one in a user namespace.
//! [`HostReport::probe`](crate::diagnosis::HostReport::probe) tries it out, and names the cause and the remedy of each
//! thing that is missing. A `create` that fails for such a cause names them, too, after the system call that was refused.
//! [`Container::explain`](crate::Container::explain) says which layers of protection a container has here and which it
//! lacks. `cargo run --example doctor` prints both.

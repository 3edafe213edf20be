//! Root and other users, which ids a container gets, and which kernel is needed for what.
//!
//! # Who may do what
//!
//! | | Root | Another user |
//! |---|---|---|
//! | Namespaces, mounts, pivot | yes | yes, inside a user namespace |
//! | Ids of the container | 65536 of their own | a subordinate range, or one id |
//! | Root directory shown with mapped ids | yes, by default | no: files keep their owners, and those of other users show as `nobody`'s |
//! | Without a user namespace | yes, when asked for | refused: `linux.namespaces` |
//! | In the caller's mount namespace, or another's | without a new user namespace | refused: `linux.namespaces` |
//! | cgroup limits, also of a living container | yes | where a cgroup was delegated to the user; otherwise refused by field, or [left out](crate::ContainerBuilder::best_effort_limits) and named |
//! | Device rules | enforced | moot: in a user namespace no device node can be made |
//! | Statistics | yes | what the kernel counts for the container's own cgroup; what it does not is `None` |
//! | exec, files, terminals, pods, process table | yes | yes |
//! | Device nodes in `/dev` | made, without a user namespace; bound otherwise | bound from the host |
//! | Network devices of the host moved to a container | with `CAP_NET_ADMIN` | refused by the kernel: `EPERM`; yes in a network namespace the user made |
//! | Raising limits or OOM priority | yes | as far as the kernel lets the caller |
//!
//! "Root" here is a caller with effective `CAP_SYS_ADMIN`, `CAP_SETUID` and `CAP_SETGID`.
//!
//! # Ids
//!
//! **Root** gets the host ids from 1878982656 to 1879048191, the last 65536 of the range that systemd reserves for
//! containers. No login user has them. *All* containers of root share this range unless
//! [`id_mappings`](crate::ContainerBuilder::id_mappings) says otherwise: processes of two containers cannot see each
//! other, but files that both can write to have the same owner for both.
//!
//! The files of an image are usually root's on the disk. An id-mapped mount shows them as the container's root's,
//! without changing the disk. The file system must support it: ext4 and xfs do, btrfs since Linux 5.15, tmpfs since
//! 6.3; overlayfs takes mapped layers since 5.19, which a scratch over such a root needs, and cannot be mapped
//! itself. For one that cannot, `create` says so, and
//! [`idmapped_rootfs(false)`](crate::ContainerBuilder::idmapped_rootfs) shows the owners as they are on disk. Bind
//! mounts are never id-mapped.
//!
//! **Another user** with ranges in `/etc/subuid` and `/etc/subgid`, and `newuidmap` and `newgidmap` installed, is
//! root inside; the first range becomes the ids from 1 on. Both kinds are needed, for users and for groups.
//!
//! **With a single id**, the caller's own as 0, the kernel lets an unprivileged process write the map only after
//! setgroups(2) was denied for good (user_namespaces(7)). This has consequences:
//!
//! * The caller's supplementary groups cannot be dropped. The workload keeps them, shown as `65534(nogroup)`, and can
//!   open what they open among the files that it is shown. Root directories and binds of such a container should hold
//!   nothing that a group protects.
//! * `groups` and other users than 0 are refused by name.
//! * On the host the workload *is* the caller. It cannot see or signal the caller's other processes, because of its
//!   pid namespace. It can read and write what the caller can in the directories that are bound into the container.
//!
//! # Processes
//!
//! The default limit of 1024 processes is `RLIMIT_NPROC`. Since Linux 5.14 the kernel counts it per user *and* user
//! namespace, so one container's processes do not count for another's or for the caller's, and no cgroup is needed.
//! It does not hold for the host's own root: a container
//! [`without_user_namespace`](crate::ContainerBuilder::without_user_namespace) that runs as uid 0 needs a
//! [`pids_limit`](crate::ContainerBuilder::pids_limit). Each uid of the container is counted by itself, which matters
//! only where `CAP_SETUID` was granted.
//!
//! # cgroups
//!
//! On cgroup v1 a container goes below the caller's own cgroup, in every hierarchy that it needs.
//!
//! On cgroup v2 a cgroup that holds processes can give its children no controllers, and the caller's holds the caller.
//! So a container goes below the nearest one above the caller that will do:
//!
//! * the caller may make directories there, and write `cgroup.procs`, without which the kernel lets no process pass
//!   through it;
//! * the controllers of the limits asked for are in its `cgroup.controllers`, and in its `cgroup.subtree_control`, or can
//!   be: it holds no processes, or is the root of the hierarchy, and the caller may write the file. They are enabled
//!   then, and never disabled.
//!
//! That is never above the root of the caller's cgroup namespace. Where only the caller's own cgroup will do, a container
//! can be frozen there but not limited. An absolute [`cgroups_path`](crate::ContainerBuilder::cgroups_path) is held to
//! the same rules from the mount point down. A limit that finds no place is refused by its field, with the cgroup and
//! what it lacks; with [`best_effort_limits`](crate::ContainerBuilder::best_effort_limits) the container does without.
//!
//! | Where an unprivileged caller runs | Limits |
//! |---|---|
//! | In a unit of its `user@UID.service` | what systemd delegates to it: `Delegate=` of `user@.service` |
//! | In a login session (`session-N.scope`) | refused: start it by `systemd-run --user --scope`, or name a scope as `slice:prefix:name` |
//! | In a leaf of a subtree that is delegated to it | yes |
//! | In a service with `Delegate=yes`, in the service's cgroup itself | refused until its processes are in one below: `DelegateSubgroup=` |
//! | In a container, whose cgroup namespace has its processes in the root | refused until they are in a cgroup below |
//!
//! # Kernels
//!
//! Linux 5.14 is the oldest that has everything. The lower bounds come from the manual pages of the calls. The crate
//! was developed and tested on Linux 6.18 on x86-64; older kernels, and aarch64, were not tried.
//!
//! | Needed for | Since | Without it |
//! |---|---|---|
//! | `clone3`, pidfds, `waitid(P_PIDFD)` | 5.4 | nothing works |
//! | `openat2` | 5.6 | nothing works |
//! | `close_range` with `CLOSE_RANGE_CLOEXEC` | 5.11 | nothing works |
//! | overlayfs in a user namespace | 5.11 | no scratch without root |
//! | `mount_setattr`, id-mapped mounts | 5.12 | nothing works |
//! | Landlock | 5.13 | the gofer's file system access is cut by seccomp alone; the cgroups of a killed caller's containers stay until their records are deleted |
//! | `RLIMIT_NPROC` counted per user namespace | 5.14 | the default limit counts together with the caller's other processes |
//! | `cgroup.kill` | 5.14 | processes of a v2 cgroup are killed one by one |
//! | `CLONE_INTO_CGROUP` (v2) | 5.7 | no limits on cgroup v2 |
//! | `CONFIG_CGROUP_BPF` (v2) | 4.15 | device rules are refused for a container that can make nodes |
//! | `rro`, recursive read-only binds | 5.12 | nothing works |
//! | `user.*` attributes on tmpfs | 6.6 | no `diff` and no `export_layer` |
//! | `fchmodat2` | 6.6 | file access sets the mode of regular files and directories only |
//! | `MFD_EXEC` | 6.3 | a plain memfd is used |
//!
//! Kernel options: user, pid, net, ipc, uts and cgroup namespaces, seccomp filters, tmpfs; overlayfs for a scratch;
//! cgroups for limits.
//!
//! Distributions and hosts may switch off what an unprivileged caller needs: `kernel.unprivileged_userns_clone=0`,
//! `user.max_user_namespaces=0`, AppArmor's `apparmor_restrict_unprivileged_userns`, or a container engine's seccomp
//! profile around the caller. `create` then fails with the call that was refused, for example `spawn
//! cofferdam-sandbox: clone3: EPERM`. In a container whose `/proc` is partly masked the kernel refuses a new proc
//! mount in a user namespace, and the error says so.

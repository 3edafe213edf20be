//! The properties of the OCI runtime specification, 1.0 to 1.3, and what the crate does with each.
//!
//! The crate applies a property that a configuration sets, or returns an error that names it; it drops nothing
//! silently. *Refused* in a table means [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), before the crate
//! does anything to the host, unless the table says otherwise. A value that breaks a rule of the specification is
//! [`ErrorKind::InvalidSpec`](crate::ErrorKind::InvalidSpec). The crate ignores properties that the specification does
//! not define, as the specification demands.
//!
//! # The document
//!
//! | property | state |
//! |---|---|
//! | `ociVersion` | applied: from 1.0.0 up to, but not including, 2.0.0; 1.3 decides what a failed poststart hook means |
//! | `root.path` | applied; relative to the bundle |
//! | `root.readonly` | applied |
//! | `hostname` | applied, also in an existing uts namespace |
//! | `domainname` | applied, also in an existing uts namespace |
//! | `annotations` | applied: in the state, and so passed to hooks; they have [no other effect](#annotations) |
//! | `hooks.prestart[].*` | applied |
//! | `hooks.createRuntime[].*` | applied |
//! | `hooks.createContainer[].*` | applied; refused in a pod, except for its root container |
//! | `hooks.startContainer[].*` | applied; with the workload's ids, capabilities, filter, limits, labels and working directory, and its environment if `env` is absent |
//! | `hooks.poststart[].*` | applied |
//! | `hooks.poststop[].*` | applied |
//! | `solaris.*` | for another platform: ignored |
//! | `windows.*` | for another platform: ignored |
//! | `vm.*` | for another platform: ignored |
//! | `zos.*` | for another platform: ignored |
//! | `uidMappings[].*` | not in the specification at this place; ignored |
//! | `gidMappings[].*` | not in the specification at this place; ignored |
//!
//! # Annotations
//!
//! Annotations change nothing, because engines pass on those that an image has. What the crate needs beyond the
//! specification comes from elsewhere:
//!
//! * [`to_bundle`](crate::ContainerBuilder::to_bundle) writes its settings into a property of `config.json`,
//!   `cofferdam`, which other runtimes ignore: `scratch` (bytes; 0 is the kernel's default), `idmappedRootfs`,
//!   `timeoutMs`, `keepCallerGroups`, `withoutCgroup` and `init`. No engine takes properties from an image.
//! * The annotations with which containerd and CRI-O describe a pod are followed after
//!   [`follow_pod_annotations`](crate::ContainerBuilder::follow_pod_annotations), or by `oci --pods`.
//! * `run.oci.keep_original_groups`, crun's annotation that podman sets for `--group-add keep-groups`, is followed by
//!   `oci --crun-annotations`. An image could set it, too. In the library it is
//!   [`keep_caller_groups`](crate::ContainerBuilder::keep_caller_groups).
//!
//! # `process`
//!
//! | property | state |
//! |---|---|
//! | `process.terminal` | applied; needs a devpts at `/dev/pts` |
//! | `process.consoleSize.height` | applied, with a terminal |
//! | `process.consoleSize.width` | applied, with a terminal |
//! | `process.args` | applied |
//! | `process.commandLine` | for another platform: ignored |
//! | `process.env` | applied; if two entries set one name, the later one counts. A `HOME` that is absent or empty is the user's, from the image's `/etc/passwd`, else `/` |
//! | `process.cwd` | applied; created if it is missing |
//! | `process.user.uid` | applied; 0 if absent, as with runc |
//! | `process.user.gid` | as `uid` |
//! | `process.user.umask` | applied; 022 if absent |
//! | `process.user.additionalGids` | applied, at most 65,536; refused in a user namespace with one gid, because the kernel denies setgroups(2) there |
//! | `process.user.username` | for another platform: ignored |
//! | `process.capabilities.bounding` | applied |
//! | `process.capabilities.effective` | applied |
//! | `process.capabilities.inheritable` | applied |
//! | `process.capabilities.permitted` | applied; create refuses a capability that the caller does not have |
//! | `process.capabilities.ambient` | applied; what is not permitted and inheritable is left out, with a warning in the log |
//! | `process.rlimits[].*` | applied; raising a hard limit without the privilege is `EPERM`, at create |
//! | `process.noNewPrivileges` | applied |
//! | `process.oomScoreAdj` | applied |
//! | `process.apparmorProfile` | applied if AppArmor is enabled, else refused |
//! | `process.selinuxLabel` | applied if SELinux is enabled, else refused |
//! | `process.ioPriority.*` | applied; a real-time class without the privilege is `EPERM` |
//! | `process.scheduler.*` | applied; if the kernel denies it, the error has its errno. `SCHED_ISO`, which no kernel has, is refused |
//! | `process.execCPUAffinity.initial` | applied to processes of exec, as specified |
//! | `process.execCPUAffinity.final` | applied to processes of exec, as specified; without it, `linux.resources.cpu.cpus` |
//!
//! The user of [`user_name`](crate::Exec::user_name) and of `oci exec --user` is a name or a plain decimal number, and a
//! number never is a name of the image. `oci exec --cap` adds to the bounding, effective and permitted sets, as runc does.
//!
//! A capability with an unknown name is left out, with a warning in the log (OCI config.md, since 1.2). From the builder's
//! methods it is an error.
//!
//! # `mounts`
//!
//! | property | state |
//! |---|---|
//! | `mounts[].destination` | applied; absolute, without `..`, not the root itself; where a link of the image dangles, init makes what it leads to, inside the root |
//! | `mounts[].type` | applied: any file system this kernel has; `cgroup` and `cgroup2` show the container's own cgroups |
//! | `mounts[].source` | applied; the source of a bind is relative to the bundle, or to the caller's directory if it comes from a method. Of a new file system it is the name that mount(8) shows, at most 255 bytes |
//! | `mounts[].options` | applied; `remount` is refused, because every entry is a separate mount. Superblock flags apply to a new file system only; parameters of file systems have no effect on a bind, and the log has a warning. Other unknown words are refused, unlike with runc: `r0` must not make a writable bind. One may be longer than 255 bytes for a type other than tmpfs, devpts and proc, as `lowerdir` of `overlay`; then all together have at most 4095 |
//! | `mounts[].uidMappings[].*` | applied to a bind, for a privileged caller and a file system that can map ids; else refused |
//! | `mounts[].gidMappings[].*` | as `uidMappings` |
//!
//! The root, `/dev` and each tmpfs become read-only, if the configuration says so, after all mounts and the createContainer
//! hooks. A tmpfs without `mode=` has the mode of the directory that it covers, if there is one. Binds with `idmap` or
//! `ridmap` and no mappings use those of the container's user namespace. A mount of the type `cgroup` is read-only if the
//! options have `ro`, and always in a hierarchy in which the container has no cgroup of its own, because it shows the
//! caller's there. In a user namespace the kernel locks the flags of the host's mounts: clearing one is `EPERM`. If the
//! container has no network namespace of its own, so that the kernel does not let it mount sysfs, it gets the host's sysfs,
//! bound read-only.
//!
//! # `linux`
//!
//! | property | state |
//! |---|---|
//! | `linux.namespaces[].type` | applied; the container shares with the caller every kind that is not listed. For `mount`, see below |
//! | `linux.namespaces[].path` | applied; with a new user namespace, also if the host's owns the other, except for `pid` and `time`; for `mount`, see below |
//! | `linux.timeOffsets.*` | applied with a new time namespace; refused in a pod, except for its root container |
//! | `linux.uidMappings[].*` | applied; ids that the caller may not map are refused |
//! | `linux.gidMappings[].*` | as `uidMappings` |
//! | `linux.devices[].path` | applied; a default device may have another owner and mode, but is always the same device. A device outside `/dev` is on a mount of its own |
//! | `linux.devices[].type` | applied |
//! | `linux.devices[].major` | applied |
//! | `linux.devices[].minor` | applied |
//! | `linux.devices[].fileMode` | applied; in a user namespace the node is the host's, bound, and so is its mode |
//! | `linux.devices[].uid` | as `fileMode` |
//! | `linux.devices[].gid` | as `fileMode` |
//! | `linux.netDevices.*` | applied, for a caller with `CAP_NET_ADMIN` in the namespace of the devices; refused in a pod, except for its root container |
//! | `linux.cgroupsPath` | applied as a path; as `slice:prefix:name`, a systemd scope, with the feature `systemd`, on cgroup v2, for a container with its own sandbox; else refused. A frozen cgroup is refused: create would wait for it |
//! | `linux.sysctl` | applied to keys of the container's own namespaces; any other key breaks a rule |
//! | `linux.rootfsPropagation` | applied; other than `private`, refused in a mount namespace that is not new |
//! | `linux.maskedPaths` | applied; a path that does not exist is skipped |
//! | `linux.readonlyPaths` | applied; a path that does not exist is skipped |
//! | `linux.mountLabel` | applied if SELinux is enabled, else refused |
//! | `linux.personality.domain` | applied |
//! | `linux.personality.flags` | refused: the specification defines none |
//! | `linux.intelRdt.*` | refused on every host, because it was never tested on one with resctrl |
//! | `linux.memoryPolicy.*` | applied; if the kernel does not know a value, the error has its errno |
//! | `linux.seccomp.defaultAction` | applied; `SCMP_ACT_NOTIFY` breaks a rule here |
//! | `linux.seccomp.defaultErrnoRet` | applied |
//! | `linux.seccomp.architectures` | applied to those that this kernel supports; others cost nothing |
//! | `linux.seccomp.flags` | applied |
//! | `linux.seccomp.listenerPath` | applied; without `SCMP_ACT_NOTIFY` ignored, as specified |
//! | `linux.seccomp.listenerMetadata` | applied |
//! | `linux.seccomp.syscalls[].*` | applied; names that are not system calls are ignored |
//!
//! Without `cgroupsPath` a container's cgroups are named `cofferdam-ID`, and there is one for each limit and one to freeze
//! it. The example `oci` names those of root's containers after the id alone, in every hierarchy with a controller, as
//! runc does: on v1 below its own cgroup, on v2 beside it. A v1 hierarchy without a controller, such as systemd's, is
//! joined by no container of this crate.
//!
//! # `linux.resources`
//!
//! A limit is refused by name if no cgroup hierarchy of the host has its controller, or if the kernel lacks its file.
//! The crate notices a missing file when it makes the cgroup, and removes the cgroup again. Engines write 0 for "not
//! set", so 0 requests nothing, unless the table says otherwise. -1 means no limit, if the specification has a signed
//! number.
//!
//! An update changes the limits of controllers that the container joined when it was created: those with a limit, and
//! if the configuration names the cgroup, also memory, pids, cpu, cpuset and blkio.
//!
//! | property | state |
//! |---|---|
//! | `linux.resources.devices[].*` | applied: an allow-list, to which the crate adds the devices of every `/dev`; see below. An update may repeat it, not change it |
//! | `linux.resources.memory.limit` | applied |
//! | `linux.resources.memory.reservation` | applied; on v2 it is `memory.low` |
//! | `linux.resources.memory.swap` | applied: memory and swap together, so it needs `memory.limit` |
//! | `linux.resources.memory.kernel` | ignored, as recommended, with a warning in the log |
//! | `linux.resources.memory.kernelTCP` | ignored, as recommended, with a warning in the log |
//! | `linux.resources.memory.swappiness` | applied on v1, also as 0; refused on v2, which has no file for it |
//! | `linux.resources.memory.disableOOMKiller` | applied on v1; refused on v2, which has no file for it |
//! | `linux.resources.memory.useHierarchy` | ignored: kernels have nothing else |
//! | `linux.resources.memory.checkBeforeUpdate` | applied to updates; a new container uses nothing |
//! | `linux.resources.cpu.shares` | applied; on v2 converted to a weight |
//! | `linux.resources.cpu.quota` | applied |
//! | `linux.resources.cpu.burst` | applied; at most the quota. In an update 0 removes it |
//! | `linux.resources.cpu.period` | applied |
//! | `linux.resources.cpu.realtimeRuntime` | applied on v1, within the parent cgroup's; refused on v2 |
//! | `linux.resources.cpu.realtimePeriod` | as `realtimeRuntime` |
//! | `linux.resources.cpu.idle` | applied; in an update 0 removes it |
//! | `linux.resources.cpu.cpus` | applied |
//! | `linux.resources.cpu.mems` | applied |
//! | `linux.resources.pids.limit` | applied |
//! | `linux.resources.blockIO.weight` | applied: the weight of BFQ; without BFQ, of CFQ on v1 and, converted, of the cost model on v2 |
//! | `linux.resources.blockIO.leafWeight` | applied on v1 if the kernel still has CFQ; refused on v2 |
//! | `linux.resources.blockIO.weightDevice[].*` | as `weight` and `leafWeight` |
//! | `linux.resources.blockIO.throttleReadBpsDevice[].*` | applied; a rate of 0 is no limit |
//! | `linux.resources.blockIO.throttleWriteBpsDevice[].*` | as `throttleReadBpsDevice` |
//! | `linux.resources.blockIO.throttleReadIOPSDevice[].*` | as `throttleReadBpsDevice` |
//! | `linux.resources.blockIO.throttleWriteIOPSDevice[].*` | as `throttleReadBpsDevice` |
//! | `linux.resources.hugepageLimits[].pageSize` | applied |
//! | `linux.resources.hugepageLimits[].limit` | applied to pages in use and, since Linux 5.7, to reserved pages; 0 means no page at all |
//! | `linux.resources.network.classID` | applied on v1; refused on v2, which has no file for it |
//! | `linux.resources.network.priorities[].*` | as `classID` |
//! | `linux.resources.rdma.*` | applied |
//! | `linux.resources.unified` | applied on v2, unchanged and after all others; refused for a controller that is on v1, and for `cgroup.*` |
//!
//! Some runtimes silently drop two of the properties for which v2 has no file: disabling the OOM killer, and
//! swappiness.
//!
//! # Device rules
//!
//! `linux.resources.devices` is an allow-list, read as runc and crun read it. If there is any rule, everything is
//! denied at first; rules apply in order, and of several rules about the same use of a device the last one counts.
//! Three uses are always allowed in the end: making a node of any device; using `null`, `zero`, `full`, `random`,
//! `urandom`, `tty`, `console` and `ptmx`; and using the terminals of the container. A device of `linux.devices` is
//! made, but opens only if a rule allows it.
//!
//! The container's cgroup enforces the rules, from before the first instruction of the workload on: with the `devices`
//! hierarchy of cgroup v1 if it is mounted, else with a program of the type `BPF_PROG_TYPE_CGROUP_DEVICE` on the
//! directory of cgroup v2. v1 knows one default with exceptions, so rules that make exceptions from exceptions are
//! refused there. Rules that deny nothing, as those of a privileged container, need no cgroup.
//!
//! If the host enforces no rules, or lets this caller enforce none, the crate refuses rules for a container that could
//! make nodes: one with `CAP_MKNOD` and without a user namespace. For any other container it accepts them, because they
//! make no difference: it cannot make a node, `/dev` has only the nodes of the configuration, and the nodes on its root
//! directory do not open. This is the usual case of a caller other than root, for which the kernel has neither
//! mechanism.
//!
//! # A mount namespace that is not new
//!
//! Without `mount` in `linux.namespaces` the container is in the caller's mount namespace, and with a path in the one
//! at that path. The crate mounts nothing there. It assembles the root in a temporary namespace and takes it along as a
//! detached tree: no other process sees the tree, and it ends with the last process that has it as its root. The
//! container sees the same files as with a new mount namespace; these things differ:
//!
//! * Only chroot(2) keeps it in its root. With `CAP_SYS_CHROOT` a process can leave it, and is then in the file system
//!   of the namespace's other processes. Such a container has no new user namespace, so without a path for one that is
//!   the host's file system.
//! * The kernel treats its mounts as foreign: set-user-ID, set-group-ID and file capabilities raise nothing, nothing
//!   can be mounted or unmounted inside, and `/proc/self/mountinfo` is empty. [`mount`](crate::Container::mount) is
//!   refused. A process in a chroot(2) cannot make a user namespace.
//! * Nothing propagates: any propagation except `private` is refused, for the root and for each mount.
//! * It needs a new pid namespace, because nothing else separates its processes from those that share its mounts. It
//!   must have no new user namespace, because from there no process can enter another's mount namespace. Otherwise the
//!   configuration is refused, by `linux.namespaces`. So a caller without privileges cannot have such a container. If
//!   both the mount namespace and the user namespace have a path, the crate tries.
//! * It cannot be in a pod, neither as the root container nor as another.
//!
//! The gofer finds `root.path` and the sources of binds in the caller's mount namespace. createContainer hooks run
//! before the container enters the other namespace: what they change in its root comes along.
//!
//! # Network devices
//!
//! A device of `linux.netDevices` moves from the network namespace of the thread that creates the container, before any
//! hook runs. It keeps its permanent addresses of global scope, and is up. If create fails while the caller lives, the
//! caller moves the device back, under its name and with its addresses, whichever process died and whichever system
//! call failed. If it cannot move back, for example because another device has taken its name, the error says so.
//!
//! After create, or if the caller is killed meanwhile, the device shares the fate of its network namespace, which the
//! kernel empties (network_namespaces(7)):
//!
//! * When a namespace of the container's own ends, a physical device moves to the first network namespace of the
//!   machine, which need not be the caller's. It is down, without addresses, and has the name that it had in the
//!   container, or `dev` and a number if that name is taken.
//! * A virtual device (veth, macvlan, bridge and similar) is destroyed. With one end of a veth pair the other end goes
//!   too.
//! * In a namespace that was joined by path, both stay until a process moves them or the namespace ends.
//!
//! So create a virtual device again when you need it again, and move a physical device under its own name.
//!
//! # Hooks and the container's pid
//!
//! `pid` in the state is init's: of the process that executes the program. All its namespaces are the container's, from
//! the first hook on, and without an [init](crate::ContainerBuilder::init) it is PID 1 in there. The PID file has the
//! sandbox's pid instead. Engines wait for the process in that file as for a child of theirs and take its status for the
//! container's, and init is a child of the sandbox. The sandbox exits with init's status, and is in the container's
//! mount, network, ipc, uts and user namespace, and [usually](super::processes#namespaces) its cgroup namespace; a
//! process cannot enter a pid or a time namespace itself. With runc, which leaves no process behind, both pids are init's.
//! In a pod, except for the root container, both are init's here, too.
//!
//! A program that sees init end may ask for the state right after: it waits until the sandbox has written how the
//! container ended, and is `stopped`.
//!
//! While prestart and createRuntime hooks run, the container's root is attached at `root.path` in init's mount namespace,
//! as with runc: a hook that enters this namespace, and mounts something below that path, mounts it into the container.
//! In these cases the root is attached over `/` instead, so that a hook there sees the container's files and not the
//! host's:
//!
//! * in a user namespace whose root cannot reach that path, because a directory on the way keeps other users out
//! * in a pod, except for its root container: in its namespaces there are no paths of the host
//! * with [`Rootfs::host`](crate::Rootfs::host), which has no path
//!
//! # The working directory of hooks
//!
//! OCI does not say it. Hooks of the runtime namespace have the bundle's directory, startContainer hooks the workload's.
//! createContainer hooks have the container's root, as with runc, because for them `/` is still the host's. They
//! are programs of the host, with init's privileges, and their working directory is an image's: a relative path in such
//! a hook, or a program that looks for its modules or its configuration where it was started, takes what the image put
//! there. So give these hooks absolute paths only, or have them leave the directory first.
//!
//! # The example `oci` beside runc
//!
//! It has runc's verbs, options, exit codes and words. These differences are on purpose:
//!
//! * A `cgroupsPath` below a frozen cgroup is refused, and not only one that is frozen itself: create would wait until it
//!   is thawed.
//! * Asked by root about the state directory of another user, it acts with the rights of that user and not with root's: a
//!   record can name any process, cgroup and hook. It creates nothing there.
//! * A state directory that other users may write to, or that every user may replace, is refused.
//! * `exec --ignore-paused` starts the process when the container is resumed. With runc the process is in the frozen
//!   cgroup at once.
//! * `--pidfd-socket` gets a pidfd of the program's process. The PID file has the sandbox's pid.
//! * From another pid or time namespace than that of create, a container that lives can only be deleted by force.
//! * The lines of `--debug` say what the library did; none of them is runc's.
//!
//! # The seccomp agent
//!
//! A profile with `SCMP_ACT_NOTIFY` stops a process at a system call until an agent has decided about it. The agent
//! listens at `listenerPath`. The process that creates the container, or executes another process in it, connects there,
//! sends the container process state with the filter's listener, and closes the connection, before create returns or the
//! program is executed. If that fails, create or exec fails, and the error names `linux.seccomp.listenerPath`. If the
//! configuration has startContainer hooks, the agent gets the listeners of these and of the program at start: with the
//! filter loaded, init could not fork the hooks.
//!
//! The profile may notify any system call, even those with which the listener is handed over. For this the process that
//! loads the filter has an exception for three calls, `sendmsg`, `read` and `close`, that is opened by 128 random bits in
//! argument registers which these calls do not use. The process draws the bits, no other process has them, and they are gone
//! after `execve`.
//!
//! A filter without `SCMP_ACT_NOTIFY` need not allow anything for the crate's sake but `execve`: no other call follows the
//! load of the filter. If `execve` itself fails then, and the filter allows neither to send the error nor to exit, the
//! program seems to have been started, and to have ended at once.

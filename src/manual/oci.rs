//! The properties of the OCI runtime specification, 1.0 to 1.3, and what becomes of each.
//!
//! A property that is asked for is applied, or it is an error that names it: nothing is dropped in silence. Where a
//! table says *refused*, the error is [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), before anything is
//! done to the host, unless the table says otherwise. A value that breaks a rule of the specification is
//! [`ErrorKind::InvalidSpec`](crate::ErrorKind::InvalidSpec). Properties the specification does not know are ignored,
//! as it demands.
//!
//! # The document
//!
//! | property | state |
//! |---|---|
//! | `ociVersion` | applied: from 1.0.0 up to, but not including, 2.0.0; 1.3 decides what a failed poststart hook means |
//! | `root.path` | applied; relative to the bundle |
//! | `root.readonly` | applied |
//! | `hostname` | applied, also in a uts namespace that is joined |
//! | `domainname` | applied, also in a uts namespace that is joined |
//! | `annotations` | applied: given to hooks and in the state |
//! | `hooks.prestart[].*` | applied |
//! | `hooks.createRuntime[].*` | applied |
//! | `hooks.createContainer[].*` | applied; refused for a further container of a pod |
//! | `hooks.startContainer[].*` | applied |
//! | `hooks.poststart[].*` | applied |
//! | `hooks.poststop[].*` | applied |
//! | `solaris.*` | another platform's: ignored |
//! | `windows.*` | another platform's: ignored |
//! | `vm.*` | another platform's: ignored |
//! | `zos.*` | another platform's: ignored |
//! | `uidMappings[].*` | not of the specification, where it stands; ignored |
//! | `gidMappings[].*` | not of the specification, where it stands; ignored |
//!
//! # `process`
//!
//! | property | state |
//! |---|---|
//! | `process.terminal` | applied; needs a devpts at `/dev/pts` |
//! | `process.consoleSize.height` | applied, with a terminal |
//! | `process.consoleSize.width` | applied, with a terminal |
//! | `process.args` | applied |
//! | `process.commandLine` | another platform's: ignored |
//! | `process.env` | applied; of two that set one name, the later |
//! | `process.cwd` | applied; made where it is missing |
//! | `process.user.uid` | applied |
//! | `process.user.gid` | applied |
//! | `process.user.umask` | applied; 022 where it is absent |
//! | `process.user.additionalGids` | applied; refused in a user namespace with one gid, where the kernel denies setgroups(2) |
//! | `process.user.username` | another platform's: ignored |
//! | `process.capabilities.bounding` | applied |
//! | `process.capabilities.effective` | applied |
//! | `process.capabilities.inheritable` | applied |
//! | `process.capabilities.permitted` | applied; what the caller does not have is refused, at create |
//! | `process.capabilities.ambient` | applied |
//! | `process.rlimits[].*` | applied; to raise a hard limit without the privilege is `EPERM`, at create |
//! | `process.noNewPrivileges` | applied |
//! | `process.oomScoreAdj` | applied |
//! | `process.apparmorProfile` | applied where AppArmor is enabled, else refused |
//! | `process.selinuxLabel` | applied where SELinux is enabled, else refused |
//! | `process.ioPriority.*` | applied; a real-time class without the privilege is `EPERM` |
//! | `process.scheduler.*` | applied; what the kernel denies is its errno. `SCHED_ISO`, which no kernel has, is refused |
//! | `process.execCPUAffinity.initial` | applied to executed processes, as specified |
//! | `process.execCPUAffinity.final` | applied to executed processes, as specified |
//!
//! # `mounts`
//!
//! | property | state |
//! |---|---|
//! | `mounts[].destination` | applied; absolute, without `..`, not the root itself |
//! | `mounts[].type` | applied: any file system this kernel has; `cgroup` and `cgroup2` are the container's own cgroups |
//! | `mounts[].source` | applied; that of a bind is relative to the bundle |
//! | `mounts[].options` | applied; `remount` is refused: every entry is a mount of its own. Flags of a superblock count for a file system that is new |
//! | `mounts[].uidMappings[].*` | applied to a bind, for a privileged caller and a file system that can map ids; else refused |
//! | `mounts[].gidMappings[].*` | as `uidMappings` |
//!
//! Binds with `idmap` or `ridmap` and no mappings take those of the container's user namespace. A mount of the type
//! `cgroup` is read-only where `ro` is asked for, and always where the container has no cgroup of its own in a
//! hierarchy: what is seen there is the caller's. In a user namespace the kernel locks the flags of the host's mounts:
//! to take one off is `EPERM`. A sysfs that the kernel would not let the container mount, for want of a network
//! namespace of its own, is the host's, bound read-only.
//!
//! # `linux`
//!
//! | property | state |
//! |---|---|
//! | `linux.namespaces[].type` | applied; what is not listed is the caller's. Of `mount`, see below |
//! | `linux.namespaces[].path` | applied; of `mount`, see below |
//! | `linux.timeOffsets.*` | applied with a new time namespace; refused for a further container of a pod |
//! | `linux.uidMappings[].*` | applied; ids the caller may not map are refused |
//! | `linux.gidMappings[].*` | as `uidMappings` |
//! | `linux.devices[].path` | applied |
//! | `linux.devices[].type` | applied |
//! | `linux.devices[].major` | applied |
//! | `linux.devices[].minor` | applied |
//! | `linux.devices[].fileMode` | applied; in a user namespace the node is the host's, bound, and so is its mode |
//! | `linux.devices[].uid` | as `fileMode` |
//! | `linux.devices[].gid` | as `fileMode` |
//! | `linux.netDevices.*` | applied, for a caller with `CAP_NET_ADMIN` where the devices are; refused for a further container of a pod |
//! | `linux.cgroupsPath` | applied: a path; or `slice:prefix:name`, a scope of systemd's, with the feature `systemd`, on cgroup v2, for a container with a sandbox of its own, else refused |
//! | `linux.sysctl` | applied: keys of the container's own namespaces; any other breaks a rule |
//! | `linux.rootfsPropagation` | applied; other than `private`, refused in a mount namespace that is not new |
//! | `linux.maskedPaths` | applied; what is not there is passed over |
//! | `linux.readonlyPaths` | applied; what is not there is passed over |
//! | `linux.mountLabel` | applied where SELinux is enabled, else refused |
//! | `linux.personality.domain` | applied |
//! | `linux.personality.flags` | refused: the specification defines none |
//! | `linux.intelRdt.*` | refused, on every host: it was never tried on one that has resctrl |
//! | `linux.memoryPolicy.*` | applied; what the kernel does not know is its errno |
//! | `linux.seccomp.defaultAction` | applied; `SCMP_ACT_NOTIFY` breaks a rule here |
//! | `linux.seccomp.defaultErrnoRet` | applied |
//! | `linux.seccomp.architectures` | applied: those this kernel can be entered through; others cost nothing |
//! | `linux.seccomp.flags` | applied |
//! | `linux.seccomp.listenerPath` | applied; without `SCMP_ACT_NOTIFY` ignored, as specified |
//! | `linux.seccomp.listenerMetadata` | applied |
//! | `linux.seccomp.syscalls[].*` | applied; names that are no system call are ignored |
//!
//! # `linux.resources`
//!
//! A limit is refused by name where no cgroup hierarchy of the host has its controller, or the kernel lacks its file;
//! the latter is seen when the cgroup is made, which then is removed again. 0 is what engines fill in, and asks for
//! nothing, unless the table says otherwise. -1 is no limit, where the specification has a signed number.
//!
//! | property | state |
//! |---|---|
//! | `linux.resources.devices[].*` | applied: an allow list, to which what every `/dev` has is added; see below. An update may repeat it, not change it |
//! | `linux.resources.memory.limit` | applied |
//! | `linux.resources.memory.reservation` | applied; on v2 it is `memory.low` |
//! | `linux.resources.memory.swap` | applied: memory and swap together, so it needs a limit |
//! | `linux.resources.memory.kernel` | ignored, as recommended, with a warning in the log |
//! | `linux.resources.memory.kernelTCP` | ignored, as recommended, with a warning in the log |
//! | `linux.resources.memory.swappiness` | applied on v1, also as 0; refused on v2, which has no file for it |
//! | `linux.resources.memory.disableOOMKiller` | applied on v1; refused on v2, which has no file for it |
//! | `linux.resources.memory.useHierarchy` | ignored: kernels have only that |
//! | `linux.resources.memory.checkBeforeUpdate` | applied to updates; a new container uses nothing |
//! | `linux.resources.cpu.shares` | applied; on v2 converted to a weight |
//! | `linux.resources.cpu.quota` | applied |
//! | `linux.resources.cpu.burst` | applied; not above the quota. In an update 0 takes it away |
//! | `linux.resources.cpu.period` | applied |
//! | `linux.resources.cpu.realtimeRuntime` | applied on v1, within what the cgroup above has; refused on v2 |
//! | `linux.resources.cpu.realtimePeriod` | as `realtimeRuntime` |
//! | `linux.resources.cpu.idle` | applied; in an update 0 takes it away |
//! | `linux.resources.cpu.cpus` | applied |
//! | `linux.resources.cpu.mems` | applied |
//! | `linux.resources.pids.limit` | applied |
//! | `linux.resources.blockIO.weight` | applied: BFQ's, else CFQ's on v1 and, converted, the cost model's on v2 |
//! | `linux.resources.blockIO.leafWeight` | applied on v1 where the kernel still has CFQ; refused on v2 |
//! | `linux.resources.blockIO.weightDevice[].*` | as `weight` and `leafWeight` |
//! | `linux.resources.blockIO.throttleReadBpsDevice[].*` | applied; a rate of 0 is no limit |
//! | `linux.resources.blockIO.throttleWriteBpsDevice[].*` | as `throttleReadBpsDevice` |
//! | `linux.resources.blockIO.throttleReadIOPSDevice[].*` | as `throttleReadBpsDevice` |
//! | `linux.resources.blockIO.throttleWriteIOPSDevice[].*` | as `throttleReadBpsDevice` |
//! | `linux.resources.hugepageLimits[].pageSize` | applied |
//! | `linux.resources.hugepageLimits[].limit` | applied to pages in use and, since Linux 5.7, reserved; 0 is none at all |
//! | `linux.resources.network.classID` | applied on v1; refused on v2, which has no file for it |
//! | `linux.resources.network.priorities[].*` | as `classID` |
//! | `linux.resources.rdma.*` | applied |
//! | `linux.resources.unified` | applied on v2, after all others and as it is; refused for a controller that is on v1, and for `cgroup.*` |
//!
//! The two that v2 has no file for are dropped there without a word by some runtimes: disabling the OOM killer, and
//! swappiness.
//!
//! # Device rules
//!
//! `linux.resources.devices` is an allow list, read as runc and crun read it. Where there is any rule, everything is
//! denied to begin with; rules apply in order, and of several about the same use of a device the last one holds. Making
//! a node of any device, and using `null`, `zero`, `full`, `random`, `urandom`, `tty`, `console`, `ptmx` and the
//! terminals of the container, is allowed in the end whatever they say. A device of `linux.devices` is made, and opens
//! only if a rule allows it.
//!
//! The container's cgroup enforces them, from before its first instruction on: with the `devices` hierarchy of cgroup
//! v1, where it is mounted, else with a program of the type `BPF_PROG_TYPE_CGROUP_DEVICE` on the directory of cgroup v2.
//! v1 knows one default with exceptions, so rules that take something out of what they except are refused there. Rules
//! that deny nothing, as a privileged container's, need no cgroup.
//!
//! Where the host enforces none, or lets this caller enforce none, rules are refused for a container that could make
//! nodes: one with `CAP_MKNOD` and without a user namespace. For any other they are moot, and accepted: no node can be
//! made, `/dev` has those of the configuration only, and those of the root do not open. So it is for callers other than
//! root, for whom the kernel has neither.
//!
//! # A mount namespace that is not new
//!
//! Without `mount` in `linux.namespaces` the container is in the caller's mount namespace, with a path in the one there.
//! Nothing is ever mounted there for it. Its root is put together in a namespace of its own and taken along as a tree
//! that is attached nowhere: nobody else sees it, and it is gone with the last process that has it as its root. What the
//! container sees is the same; what it may do is not:
//!
//! * It is in its root by chroot(2) alone. With `CAP_SYS_CHROOT` a process can leave it, and then is in the file system of
//!   those whose namespace it is. Without a user namespace, where only such a container can be, that is the host's.
//! * To the kernel its mounts are foreign: set-user-ID, set-group-ID and file capabilities raise nothing, nothing can be
//!   mounted or unmounted inside, and `/proc/self/mountinfo` is empty. [`mount`](crate::Container::mount) is refused. A
//!   process in a chroot(2) can make no user namespace.
//! * Nothing propagates: any propagation but `private` is refused, for the root and for each mount.
//! * It needs a new pid namespace, since nothing else would tell its processes from those it shares the mounts with, and
//!   no new user namespace, from which no other's mount namespace can be entered: both are refused, by
//!   `linux.namespaces`. So a caller without privileges cannot have it. A mount namespace with a path beside a user
//!   namespace with a path is tried.
//! * It cannot be in a pod, as a further container or as the root of others.
//!
//! `root.path` and the sources of binds are found in the caller's mount namespace. createContainer hooks run before the
//! container goes to the other one: what they leave in its root comes along.
//!
//! # Network devices
//!
//! A device of `linux.netDevices` moves from the network namespace of the thread that creates the container, before any
//! hook runs. It keeps its addresses that are permanent and of global scope, and is up. As long as the caller lives, a
//! creation that fails has it back where it was, under its name and with its addresses, whichever process died and
//! whichever call failed; what cannot come back, as when its name has become another's, is in the error.
//!
//! From then on, or if the caller is killed meanwhile, it goes the way of the network namespace it is in, which is the
//! kernel's to empty (network_namespaces(7)):
//!
//! * When a namespace of the container's own ends, a physical device goes back to the first network namespace of the
//!   machine, which need not be the caller's: down, without addresses, and under the name it had in the container, or
//!   `dev` and a number if that is taken.
//! * A virtual one (veth, macvlan, bridge and the like) is destroyed, and with one end of a veth pair the other.
//! * In a namespace that was joined by path both stay until somebody moves them or the namespace ends.
//!
//! So a virtual device that is needed again is made again, and a physical one is best moved under its own name.
//!
//! # The agent of a filter
//!
//! A profile with `SCMP_ACT_NOTIFY` stops a process at a system call until an agent has decided about it. The agent
//! listens at `listenerPath`; whoever starts the container (or executes a further process in it) connects there, sends
//! the container process state with the filter's listener, and closes the connection, before the program is executed.
//! If that fails, the program is not executed, and the error names `linux.seccomp.listenerPath`.
//!
//! Any system call can be notified, also those that hand the listener over: the process that loads the filter has a way
//! past it for two calls, `sendmsg` and `read`, by 128 random bits in argument registers that these calls do not have.
//! They are drawn by that process, are nowhere else, and are gone with `execve`.

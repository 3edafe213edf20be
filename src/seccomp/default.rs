//! The profile of a container whose caller gave none: an allow-list of what programs need, widened by the capabilities
//! the container is granted.
//!
//! Every group says why it is allowed. Some calls stay out with every capability, because they reach large or
//! little-used kernel code that no workload needs: `io_uring_*` (a second system call interface no filter sees into),
//! `add_key`, `keyctl`, `request_key` (keyrings are not namespaced), `userfaultfd` (stops the kernel at a place of the
//! caller's choosing), `kexec_*`, `swapon`, `nfsservctl`, `uselib`, `modify_ldt`, `vm86*` and the like, `AF_ALG`
//! sockets, and the two commands of `ioctl` that type into a terminal, whose reader may be the caller's shell.
//! Without `CAP_LEASE`, `fcntl` takes no leases: one on a file of the image stops every other process that opens the
//! file, in another container or on the host, for 45 s.

use super::arch::Machine;
use super::rules::ENOSYS;
use crate::spec::CapSet;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator,
    LinuxSyscall,
};

/// The default profile for a container whose processes can hold the capabilities in `granted`.
///
/// It covers the native ABI and its 32-bit sibling (i386, Arm); other ABIs, x32 among them, are shut. What is not
/// allowed fails with `EPERM`, and `clone3` without `CAP_SYS_ADMIN` with `ENOSYS`: its flags lie in memory, where a
/// filter cannot read them, and every libc falls back to `clone`.
///
/// On i386, sockets are made by `socket(2)` only. A libc that makes them by `socketcall(2)`, which hides the address
/// family, is refused.
#[must_use]
pub(crate) fn default_profile(granted: CapSet) -> LinuxSeccomp {
    let mut allowed: Vec<&str> = ALWAYS.iter().flat_map(|group| group.iter().copied()).collect();
    for (capabilities, names) in WITH_CAPABILITY {
        if granted.intersects(*capabilities) {
            allowed.extend_from_slice(names);
        }
    }
    let mut rules = vec![allow(&allowed, Vec::new())];
    let fcntl = |conditions| allow(&["fcntl", "fcntl64"], conditions);
    match granted.contains(LEASE) {
        true => rules.push(fcntl(Vec::new())),
        false => rules.extend(not_leasing().map(|condition| fcntl(vec![condition]))),
    }
    rules.extend(not_typing().map(|condition| allow(&["ioctl"], vec![condition])));
    rules.extend(PERSONALITIES.map(|persona| allow(&["personality"], vec![equal(0, persona)])));
    // Only Unix sockets come in pairs. For another family the kernel loads its module before it refuses.
    rules.push(allow(&["socketpair"], vec![equal(0, AF_UNIX)]));
    for (capabilities, families) in SOCKET_FAMILIES {
        if capabilities.is_empty() || granted.intersects(*capabilities) {
            rules.extend(families.iter().map(|family| allow(&["socket"], vec![equal(0, *family)])));
        }
    }
    if !granted.contains(CapSet::SYS_ADMIN) {
        let no_namespaces = LinuxSeccompOperator::ScmpCmpMaskedEq;
        rules.push(allow(&["clone"], vec![argument(0, no_namespaces, NEW_NAMESPACES)]));
        let mut clone3 = LinuxSyscall::default();
        clone3.set_names(vec!["clone3".to_owned()]).set_action(LinuxSeccompAction::ScmpActErrno);
        clone3.set_errno_ret(Some(ENOSYS));
        rules.push(clone3);
    }

    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(LinuxSeccompAction::ScmpActErrno);
    profile.set_architectures(Machine::HOST.map(|machine| match machine {
        Machine::X86_64 => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86],
        Machine::Aarch64 => vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
    }));
    profile.set_syscalls(Some(rules));
    profile
}

/// The profile of a helper of ours: it may make these calls, and every other call kills it. Built with debug
/// assertions, the standard library asks whether a descriptor is open before it closes it, so that is always allowed.
pub(crate) fn helper_profile(names: &[&str]) -> LinuxSeccomp {
    let get_flags = equal(1, u64::from(libc::F_GETFD.unsigned_abs()));
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(LinuxSeccompAction::ScmpActKillProcess);
    profile.set_syscalls(Some(vec![allow(names, Vec::new()), allow(&["fcntl"], vec![get_flags])]));
    profile
}

fn allow(names: &[&str], args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.iter().map(|name| (*name).to_owned()).collect());
    rule.set_args((!args.is_empty()).then_some(args));
    rule
}

/// Conditions on the command of ioctl(2), of which one holds for every command but `TIOCSTI` and `TIOCLINUX`. Each looks
/// at bits that the kernel looks at, which are 32. So they hold for the right commands whatever the rest is, and in any
/// order of the rules.
pub(super) fn not_typing() -> impl Iterator<Item = LinuxSeccompArg> {
    // The last four bits: neither 0b0010 nor 0b1100. Those of most commands are, so these come first.
    let last = [(0b1, 0b1), (0b1110, 0), (0b1110, 0b1110), (0b1100, 0b0100), (0b1100, 0b1000)];
    let differs = |bit: u32| (1 << bit, (TIOCSTI ^ 1 << bit) & 1 << bit);
    last.into_iter().chain((4..32).map(differs)).map(|(mask, value)| command(mask, value))
}

/// Conditions on the command of fcntl(2), of which one holds for every command below `F_SETLEASE`, and above it for all
/// whose last four bits are not zero: so for every one that there is but `F_SETLEASE` and `F_SETDELEG`.
fn not_leasing() -> impl Iterator<Item = LinuxSeccompArg> {
    [(F_SETLEASE, 0), (1, 1), (2, 2), (4, 4), (8, 8)].into_iter().map(|(mask, value)| command(mask, value))
}

/// Those of the lower 32 bits of argument 1 that are in `mask` are `value`.
fn command(mask: u64, value: u64) -> LinuxSeccompArg {
    let op = LinuxSeccompOperator::ScmpCmpMaskedEq;
    let arg = LinuxSeccompArgBuilder::default().index(1_usize).op(op).value(mask).value_two(value);
    arg.build().expect("the builder has a default for every field")
}

/// fcntl(2).
pub(super) const F_SETLEASE: u64 = 1024;
/// linux/fcntl.h. Takes a lease on a directory.
pub(super) const F_SETDELEG: u64 = 1024 + 16;
const _: () = assert!(F_SETDELEG & F_SETLEASE != 0 && F_SETDELEG & 0xf == 0, "no condition holds for it");

/// ioctl_tty(2).
pub(super) const TIOCSTI: u64 = 0x5412;
pub(super) const TIOCLINUX: u64 = 0x541c;
const _: () = assert!(TIOCSTI >> 4 == TIOCLINUX >> 4, "they differ in the last four bits");

/// Argument `index`, all 64 bits of it, is `value`. The rules here only *allow* equal values: a rule with "not equal"
/// could be passed by setting bits that the kernel ignores.
fn equal(index: usize, value: u64) -> LinuxSeccompArg {
    argument(index, LinuxSeccompOperator::ScmpCmpEq, value)
}

/// A condition with `valueTwo` zero: only a masked comparison uses it.
fn argument(index: usize, op: LinuxSeccompOperator, value: u64) -> LinuxSeccompArg {
    let arg = LinuxSeccompArgBuilder::default().index(index).op(op).value(value).value_two(0_u64);
    arg.build().expect("the builder has a default for every field")
}

/// `CLONE_NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET | NEWNS` (namespaces(7)): a new user namespace gives
/// a full set of capabilities inside, and with them the kernel code behind those.
pub(super) const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// The values that personality(2) may set: `PER_LINUX`, `PER_LINUX32`, each with and without `UNAME26`, and -1, which
/// only reads. The rest switches off address space randomisation or makes old emulations reachable.
pub(super) const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

const AF_UNIX: u64 = 1;

/// Address families of socket(2), with the capabilities of which one is needed. Any process could make the kernel load
/// the module of an unlisted family. Worst are `AF_ALG`, and `AF_VSOCK`, which reaches the hypervisor past every
/// network namespace.
pub(super) const SOCKET_FAMILIES: &[(CapSet, &[u64])] = &[
    // AF_UNIX, AF_INET, AF_INET6, AF_NETLINK.
    (CapSet::empty(), &[AF_UNIX, 2, 10, 16]),
    // AF_PACKET.
    (NET_RAW, &[17]),
    // AF_KEY, AF_PPPOX, AF_CAN, AF_TIPC, AF_XDP: for workloads that configure networks.
    (NET_ADMIN, &[15, 24, 29, 30, 44]),
];

const DAC_READ_SEARCH: CapSet = capability(2);
const NET_ADMIN: CapSet = capability(12);
const NET_RAW: CapSet = capability(13);
const SYS_MODULE: CapSet = capability(16);
const SYS_RAWIO: CapSet = capability(17);
const SYS_CHROOT: CapSet = capability(18);
const SYS_PTRACE: CapSet = capability(19);
const SYS_PACCT: CapSet = capability(20);
const SYS_BOOT: CapSet = capability(22);
const SYS_NICE: CapSet = capability(23);
const SYS_TIME: CapSet = capability(25);
const SYS_TTY_CONFIG: CapSet = capability(26);
const LEASE: CapSet = capability(28);
const SYSLOG: CapSet = capability(34);
const PERFMON: CapSet = capability(38);
const BPF: CapSet = capability(39);

const fn capability(number: u32) -> CapSet {
    CapSet::from_bits_retain(1 << number)
}

/// Calls that come with a capability. The kernel checks it too; without it the call is only attack surface.
pub(super) const WITH_CAPABILITY: &[(CapSet, &[&str])] = &[
    // Namespaces and the mount table: for workloads that build containers.
    (CapSet::SYS_ADMIN, &["clone", "clone3", "setns", "unshare", "sethostname", "setdomainname"]),
    (CapSet::SYS_ADMIN, &["mount", "umount", "umount2", "pivot_root", "mount_setattr", "move_mount"]),
    (CapSet::SYS_ADMIN, &["fsopen", "fsconfig", "fsmount", "fspick", "open_tree", "open_tree_attr"]),
    (CapSet::SYS_ADMIN, &["statmount", "listmount", "quotactl", "quotactl_fd", "fanotify_init"]),
    // A file handle opens a file by inode, past every directory's permissions.
    (DAC_READ_SEARCH, &["open_by_handle_at"]),
    (SYS_MODULE, &["init_module", "finit_module", "delete_module"]),
    (SYS_RAWIO, &["ioperm", "iopl"]),
    (SYS_CHROOT, &["chroot"]),
    // Other processes' memory and descriptors.
    (
        SYS_PTRACE,
        &["ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp"],
    ),
    (SYS_PACCT, &["acct"]),
    (SYS_BOOT, &["reboot"]),
    (SYS_NICE, &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    (SYS_NICE, &["migrate_pages", "move_pages"]),
    (SYS_TIME, &["settimeofday", "stime", "clock_settime", "clock_settime64"]),
    (SYS_TTY_CONFIG, &["vhangup"]),
    (SYSLOG.union(CapSet::SYS_ADMIN), &["syslog"]),
    (PERFMON.union(CapSet::SYS_ADMIN), &["perf_event_open"]),
    (BPF.union(CapSet::SYS_ADMIN), &["bpf"]),
];

/// What every container may call, in groups. Names of 32-bit siblings stand beside the call they are a form of.
pub(super) const ALWAYS: &[&[&str]] = &[
    OPEN_FILES,
    PATHS,
    ATTRIBUTES,
    WATCHING,
    MEMORY,
    PROCESSES,
    IDENTITY,
    LIMITS,
    SIGNALS,
    CLOCKS,
    WAITING,
    LOCKS,
    PIPES_AND_QUEUES,
    NETWORK,
    CONFINEMENT,
    MACHINE,
];

/// Data of files already open: guarded by the descriptor. `fcntl` and `ioctl` have rules of their own.
#[rustfmt::skip]
const OPEN_FILES: &[&str] = &[
    "close", "close_range", "copy_file_range", "dup", "dup2", "dup3", "fadvise64", "fadvise64_64", "arm_fadvise64_64",
    "fallocate", "fdatasync", "flock", "fsync", "ftruncate", "ftruncate64", "getdents",
    "getdents64", "lseek", "_llseek", "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2",
    "read", "readahead", "readv", "sendfile", "sendfile64", "splice", "sync", "sync_file_range",
    "arm_sync_file_range", "syncfs", "tee", "vmsplice", "write", "writev",
    // Asynchronous I/O of the old kind: plain reads and writes.
    "io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_pgetevents_time64", "io_setup", "io_submit",
];

/// Names: guarded by the mount namespace and file permissions. Device nodes need `CAP_MKNOD` and the device cgroup.
#[rustfmt::skip]
const PATHS: &[&str] = &[
    "access", "chdir", "creat", "faccessat", "faccessat2", "fchdir", "getcwd", "link", "linkat", "mkdir", "mkdirat",
    "mknod", "mknodat", "name_to_handle_at", "open", "openat", "openat2", "readlink", "readlinkat", "rename",
    "renameat", "renameat2", "rmdir", "symlink", "symlinkat", "truncate", "truncate64", "umask", "unlink", "unlinkat",
];

/// Metadata of files: guarded by ownership.
#[rustfmt::skip]
const ATTRIBUTES: &[&str] = &[
    "chmod", "chown", "chown32", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32", "fchownat", "fgetxattr",
    "flistxattr", "fremovexattr", "fsetxattr", "fstat", "fstat64", "fstatat64", "fstatfs", "fstatfs64", "futimesat",
    "getxattr", "getxattrat", "lchown", "lchown32", "lgetxattr", "listxattr", "listxattrat", "llistxattr",
    "lremovexattr", "lsetxattr", "lstat", "lstat64", "newfstatat", "removexattr", "removexattrat", "setxattr",
    "setxattrat", "stat", "stat64", "statfs", "statfs64", "statx", "utime", "utimensat", "utimensat_time64", "utimes",
];

/// Notices about files the caller can see anyway.
#[rustfmt::skip]
const WATCHING: &[&str] = &[
    "fanotify_mark", "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch",
];

/// The caller's own address space; `mseal`, `memfd_secret` and protection keys only narrow it.
#[rustfmt::skip]
const MEMORY: &[&str] = &[
    "brk", "cachestat", "madvise", "map_shadow_stack", "membarrier", "memfd_create", "memfd_secret", "mincore",
    "mlock", "mlock2", "mlockall", "mmap", "mmap2", "mprotect", "mremap", "mseal", "msync", "munlock", "munlockall",
    "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect", "process_mrelease", "remap_file_pages",
];

/// Starting, ending and awaiting processes of the container's own pid namespace; `clone` has a rule of its own.
#[rustfmt::skip]
const PROCESSES: &[&str] = &[
    "execve", "execveat", "exit", "exit_group", "fork", "pidfd_open", "pidfd_send_signal", "prctl", "rseq",
    "set_tid_address", "vfork", "wait4", "waitid", "waitpid",
];

/// Ids and capabilities: the kernel lets no process raise its own.
#[rustfmt::skip]
const IDENTITY: &[&str] = &[
    "capget", "capset", "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups",
    "getgroups32", "getpgid", "getpgrp", "getpid", "getppid", "getresgid", "getresgid32", "getresuid", "getresuid32",
    "getsid", "gettid", "getuid", "getuid32", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid",
    "setgid32", "setgroups", "setgroups32", "setpgid", "setregid", "setregid32", "setresgid", "setresgid32",
    "setresuid", "setresuid32", "setreuid", "setreuid32", "setsid", "setuid", "setuid32",
];

/// Scheduling and limits: only ever downwards without a capability.
#[rustfmt::skip]
const LIMITS: &[&str] = &[
    "getcpu", "getpriority", "getrlimit", "getrusage", "ioprio_get", "ioprio_set", "nice", "prlimit64",
    "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam",
    "sched_getscheduler", "sched_rr_get_interval", "sched_rr_get_interval_time64", "sched_setaffinity",
    "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield", "setpriority", "setrlimit", "sysinfo",
    "times", "ugetrlimit", "uname",
];

/// Signals to and from processes of the container.
#[rustfmt::skip]
const SIGNALS: &[&str] = &[
    "alarm", "kill", "pause", "restart_syscall", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo",
    "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sigaction",
    "sigaltstack", "signal", "signalfd", "signalfd4", "sigpending", "sigprocmask", "sigreturn", "sigsuspend", "tgkill",
    "tkill",
];

/// Reading clocks and setting timers; the two `adj` calls read, and write only with `CAP_SYS_TIME`.
#[rustfmt::skip]
const CLOCKS: &[&str] = &[
    "adjtimex", "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64", "clock_gettime",
    "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "getitimer", "gettimeofday", "nanosleep",
    "setitimer", "time", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64",
    "timer_settime", "timer_settime64", "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
    "timerfd_settime64",
];

/// Waiting for descriptors.
#[rustfmt::skip]
const WAITING: &[&str] = &[
    "_newselect", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2",
    "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "poll", "ppoll", "ppoll_time64", "pselect6",
    "pselect6_time64", "select",
];

/// Locks between threads.
#[rustfmt::skip]
const LOCKS: &[&str] = &[
    "futex", "futex_requeue", "futex_time64", "futex_wait", "futex_waitv", "futex_wake", "get_robust_list",
    "set_robust_list",
];

/// Pipes, and the queues, semaphores and memory of the container's own ipc namespace.
#[rustfmt::skip]
const PIPES_AND_QUEUES: &[&str] = &[
    "ipc", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64", "mq_timedsend",
    "mq_timedsend_time64", "mq_unlink", "msgctl", "msgget", "msgrcv", "msgsnd", "pipe", "pipe2", "semctl", "semget",
    "semop", "semtimedop", "semtimedop_time64", "shmat", "shmctl", "shmdt", "shmget",
];

/// Sockets once they exist; `socket` and `socketpair` have rules of their own.
#[rustfmt::skip]
const NETWORK: &[&str] = &[
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recv", "recvfrom",
    "recvmmsg", "recvmmsg_time64", "recvmsg", "send", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown",
];

/// Programs that confine themselves further.
#[rustfmt::skip]
const CONFINEMENT: &[&str] = &[
    "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "seccomp",
];

/// Thread-local storage, caches, randomness, and what the kernel itself places into a program it traces.
#[rustfmt::skip]
const MACHINE: &[&str] = &[
    "arch_prctl", "breakpoint", "cacheflush", "get_thread_area", "get_tls", "getrandom", "set_thread_area", "set_tls",
    "uprobe", "uretprobe",
];

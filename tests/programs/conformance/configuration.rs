//! The full configuration, which every case begins with and changes: all that engines set, so that a case fails too where
//! one property spoils another.

use crate::kit::is_root;
use serde_json::{Value, json};

/// All of it. Without root: with a user namespace of one id, and without what only root can have there.
pub(crate) fn full_configuration() -> Value {
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "inheritable": CAPABILITIES,
                "permitted": CAPABILITIES, "ambient": CAPABILITIES,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024 }],
            "noNewPrivileges": false,
            "oomScoreAdj": 100,
        },
        "root": { "path": "rootfs", "readonly": false },
        "hostname": "conformance",
        "mounts": mounts(),
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                { "type": "cgroup" },
            ],
            "devices": devices(),
            "resources": { "devices": device_rules() },
            "seccomp": seccomp(),
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        },
    });
    if !is_root() {
        config["linux"].as_object_mut().unwrap().remove("resources");
        // There is no group 5 among one.
        config["mounts"][2]["options"].as_array_mut().unwrap().retain(|option| option != "gid=5");
        add_namespace(&mut config, json!({ "type": "user" }));
        let own = |id: u32| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
        config["linux"]["uidMappings"] = own(rustix::process::geteuid().as_raw());
        config["linux"]["gidMappings"] = own(rustix::process::getegid().as_raw());
    }
    config
}

/// The file systems that every container has, each with a name of its own for its source.
fn mounts() -> Value {
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc",
          "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
          "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
          "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
        { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
          "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
        { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
          "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/sys", "type": "sysfs", "source": "sysfs",
          "options": ["nosuid", "noexec", "nodev", "ro"] },
    ])
}

/// Those that the runtime supplies anyhow, as an engine lists them that passes all of the host's on: with the owner and
/// the mode that the host gave each.
fn devices() -> Value {
    let device = |path: &str, major: u32, minor: u32, mode: u32, group: u32| {
        json!({
            "path": path, "type": "c", "major": major, "minor": minor, "fileMode": mode, "uid": 0, "gid": group,
        })
    };
    json!([
        device("/dev/null", 1, 3, 0o666, 0),
        device("/dev/zero", 1, 5, 0o666, 0),
        device("/dev/full", 1, 7, 0o666, 0),
        device("/dev/random", 1, 8, 0o666, 0),
        device("/dev/urandom", 1, 9, 0o666, 0),
        device("/dev/tty", 5, 0, 0o660, 5),
    ])
}

/// All is denied but the devices that are listed: runc denies those too, whatever the specification says of them, unless
/// a rule allows each, as engines write it.
fn device_rules() -> Value {
    let listed = devices();
    let allowed = listed.as_array().into_iter().flatten().map(|device| {
        json!({
            "allow": true, "type": "c", "major": device["major"], "minor": device["minor"], "access": "rwm",
        })
    });
    [json!({ "allow": false, "access": "rwm" })].into_iter().chain(allowed).collect()
}

/// A list of what is allowed, older than some calls that a runtime may want to make: `close_range`, `openat2`.
fn seccomp() -> Value {
    let architectures = match std::env::consts::ARCH {
        "aarch64" => json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
        _ => json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
    };
    let allowed: Vec<_> = ALLOWED.split_whitespace().collect();
    // No flag of clone(2) that makes a namespace.
    let thread = json!({ "index": 0, "value": 0x7e02_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" });
    let query = json!({ "index": 0, "value": 0xffff_ffff_u32, "op": "SCMP_CMP_EQ" });
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": architectures,
        "syscalls": [
            { "names": allowed, "action": "SCMP_ACT_ALLOW" },
            { "names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [thread] },
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [query] },
            // A libc then uses clone(2).
            { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
        ],
    })
}

const ALLOWED: &str = "
    accept accept4 access alarm arch_prctl bind brk capget capset chdir chmod chown chroot clock_getres
    clock_gettime clock_nanosleep close connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl
    epoll_pwait epoll_wait eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate
    fchdir fchmod fchmodat fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
    fstatfs fsync ftruncate futex futimesat getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit getrusage getsid
    getsockname getsockopt gettid gettimeofday getuid getxattr inotify_add_watch inotify_init inotify_init1
    inotify_rm_watch ioctl ioprio_get ioprio_set kill lchown lgetxattr link linkat listen listxattr llistxattr lseek
    lstat madvise membarrier memfd_create mincore mkdir mkdirat mknod mknodat mlock mlockall mmap mprotect mq_getsetattr
    mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap msgctl msgget msgrcv msgsnd msync munlock munlockall
    munmap nanosleep newfstatat open openat pause pipe pipe2 poll ppoll prctl pread64 preadv prlimit64 pselect6 pwrite64
    pwritev read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg removexattr rename renameat renameat2
    restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
    rt_sigtimedwait sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getparam sched_getscheduler
    sched_setaffinity sched_setparam sched_setscheduler sched_yield select semctl semget semop semtimedop sendfile
    sendmmsg sendmsg sendto set_robust_list set_tid_address setfsgid setfsuid setgid setgroups setitimer setpgid
    setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid setxattr shmat shmctl shmdt
    shmget shutdown sigaltstack signalfd signalfd4 socket socketpair splice stat statfs statx symlink symlinkat sync
    sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime
    timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate umask uname unlink unlinkat utime
    utimensat utimes vfork wait4 waitid write writev";

/// What Docker gives to a container, and what the original's cases begin with.
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Adds a namespace, in the place of one of the same type.
pub(crate) fn add_namespace(config: &mut Value, namespace: Value) {
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|other| other["type"] != namespace["type"]);
    namespaces.push(namespace);
}

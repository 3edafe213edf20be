//! The programs of the OCI's own validation suite, by name: what each must check by the words of the specification, and
//! with which result. Which cases stand for a program is in the tables of the modules; the full configuration and the
//! checker are part of every one of them, as in the original.

/// One name of the validation suite.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) checks: &'static str,
    /// With the example `oci`, runc 1.1.5 and crun 1.8.1, in this order.
    pub(crate) results: [Outcome; 3],
}

/// Those of [`Program::results`].
pub(crate) const RUNTIMES: [&str; 3] = ["ours", "runc", "crun"];

/// What became of a program's cases.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Every case holds, but for those that the host cannot show.
    Holds,
    /// At least one case does not: [`differences`](super::differences) says which, and why.
    Differs,
}
use Outcome::{Differs, Holds};

const fn of(name: &'static str, results: [Outcome; 3], checks: &'static str) -> Program {
    Program { name, checks, results }
}

#[rustfmt::skip]
pub(crate) const PROGRAMS: &[Program] = &[
    // Operations and states.
    of("create", [Holds, Holds, Holds],
        "create needs an id and a bundle, refuses an id in use, and applies the configuration except for process.args"),
    of("start", [Holds, Holds, Holds],
        "start runs the program, once; it is an error for what is not created, does not exist or has no process"),
    of("state", [Holds, Holds, Holds],
        "state has ociVersion, id, status, pid, bundle and annotations; it is an error for what does not exist"),
    of("kill", [Holds, Holds, Differs],
        "kill signals what is created or running, and is an error for what has ended or does not exist"),
    of("kill_no_effect", [Holds, Holds, Holds],
        "kill changes nothing of what is neither created nor running"),
    of("killsig", [Holds, Holds, Holds],
        "the signal that is sent is the one that kill was given"),
    of("delete", [Differs, Differs, Differs],
        "delete is an error, without effect, for what is not stopped or does not exist; afterwards the id is free"),
    of("delete_resources", [Holds, Holds, Holds],
        "delete removes what create made: the cgroups"),
    of("delete_only_create_resources", [Holds, Holds, Holds],
        "delete leaves what create did not make: a cgroup that the process was moved to"),
    of("config_updates_without_affect", [Holds, Holds, Holds],
        "a config.json that changes after create changes nothing"),
    of("pidfile", [Differs, Holds, Holds],
        "--pid-file names a file with the pid of the state and nothing else"),
    of("misc_props", [Holds, Differs, Holds],
        "unknown properties and annotations are no error; an invalid ociVersion is one"),
    // The process.
    of("default", [Holds, Holds, Holds],
        "everything in the full configuration is inside, and so are the default devices and links"),
    of("process", [Holds, Differs, Differs],
        "args, env and cwd are the process's"),
    of("process_user", [Holds, Holds, Differs],
        "uid, gid, additionalGids and umask are the process's"),
    of("process_capabilities", [Holds, Holds, Differs],
        "each of the five sets has what is listed, and nothing else"),
    of("process_capabilities_fail", [Holds, Holds, Differs],
        "a capability that does not exist is a warning (since 1.1; an error in 1.0)"),
    of("process_oom_score_adj", [Holds, Holds, Holds],
        "oom_score_adj is what is given, and the runtime's where nothing is given"),
    of("process_rlimits", [Holds, Holds, Holds],
        "each limit has its soft and its hard value"),
    of("process_rlimits_fail", [Holds, Holds, Holds],
        "a limit that does not exist is an error"),
    of("linux_process_apparmor_profile", [Holds, Holds, Holds],
        "the process has the AppArmor profile; on hosts with AppArmor"),
    of("linux_seccomp", [Holds, Differs, Holds],
        "each rule has its action, and so has what is in no rule; the filter binds the program, not the runtime"),
    // The file system.
    of("root_readonly_true", [Holds, Holds, Holds],
        "the root is read-only if and only if root.readonly says so"),
    of("mounts", [Holds, Holds, Holds],
        "mounts are there in the listed order, with type, source, flags and parameters, and no others are"),
    of("linux_rootfs_propagation", [Holds, Differs, Holds],
        "the root's mount is shared, slave, private or unbindable"),
    of("linux_masked_paths", [Holds, Differs, Differs],
        "masked files, directories, devices and FIFOs cannot be read; a relative path is an error"),
    of("linux_readonly_paths", [Holds, Differs, Differs],
        "read-only paths cannot be written to; a relative path is an error"),
    of("linux_devices", [Holds, Holds, Holds],
        "devices have the type, numbers, mode and owner that are listed"),
    of("linux_mount_label", [Holds, Holds, Holds],
        "mounts have the SELinux context; on hosts with SELinux"),
    // Namespaces.
    of("linux_ns_nopath", [Holds, Holds, Holds],
        "a namespace without a path is a new one"),
    of("linux_ns_itype", [Holds, Holds, Holds],
        "a namespace that is not listed is the runtime's"),
    of("linux_ns_path", [Holds, Holds, Holds],
        "a namespace with a path is the one at that path"),
    of("linux_ns_path_type", [Holds, Holds, Holds],
        "a path to a namespace of another type is an error"),
    of("linux_uid_mappings", [Holds, Holds, Holds],
        "uid_map and gid_map have the mappings that are listed"),
    of("hostname", [Holds, Holds, Holds],
        "the host name inside is the one that is given"),
    of("linux_sysctl", [Holds, Holds, Holds],
        "kernel parameters have the values that are given"),
    // Hooks.
    of("hooks", [Holds, Holds, Differs],
        "hooks of each kind are called in the listed order, at their time"),
    of("hooks_stdin", [Holds, Differs, Differs],
        "hooks read the state on standard input, with the status of their time"),
    of("prestart", [Holds, Holds, Holds],
        "prestart hooks are called before the program, by create"),
    of("prestart_fail", [Holds, Holds, Differs],
        "a prestart hook that fails is an error: the container is stopped and poststop hooks are called"),
    of("poststart", [Holds, Differs, Holds],
        "poststart hooks are called after the program was executed, and before start returns"),
    of("poststart_fail", [Holds, Differs, Holds],
        "a poststart hook that fails changes nothing (1.0 to 1.2)"),
    of("poststop", [Holds, Holds, Holds],
        "poststop hooks are called when the container is deleted, before delete returns"),
    of("poststop_fail", [Holds, Differs, Holds],
        "a poststop hook that fails changes nothing: the others are called, and delete succeeds"),
    // Limits, each with an absolute and with a relative path.
    of("linux_cgroups_blkio", [Holds, Holds, Differs],
        "blockIO: weight, leafWeight, rates of a device"),
    of("linux_cgroups_relative_blkio", [Holds, Holds, Differs],
        "blockIO, with a relative path"),
    of("linux_cgroups_cpus", [Holds, Holds, Holds],
        "cpu: shares, quota, period, real time, cpus, mems"),
    of("linux_cgroups_relative_cpus", [Holds, Holds, Holds],
        "cpu, with a relative path"),
    of("linux_cgroups_devices", [Holds, Holds, Holds],
        "devices: the rules apply in the listed order"),
    of("linux_cgroups_relative_devices", [Holds, Holds, Holds],
        "devices, with a relative path"),
    of("linux_cgroups_hugetlb", [Holds, Holds, Differs],
        "hugepageLimits: a limit for each size; a size that does not exist is an error"),
    of("linux_cgroups_relative_hugetlb", [Holds, Holds, Holds],
        "hugepageLimits, with a relative path"),
    of("linux_cgroups_memory", [Differs, Differs, Holds],
        "memory: limit, reservation, swap, swappiness, disableOOMKiller, kernelTCP"),
    of("linux_cgroups_relative_memory", [Differs, Differs, Holds],
        "memory, with a relative path"),
    of("linux_cgroups_network", [Holds, Holds, Holds],
        "network: classID, priorities"),
    of("linux_cgroups_relative_network", [Holds, Holds, Holds],
        "network, with a relative path"),
    of("linux_cgroups_pids", [Holds, Holds, Holds],
        "pids: limit"),
    of("linux_cgroups_relative_pids", [Holds, Holds, Holds],
        "pids, with a relative path"),
    // Of a later version of the suite.
    of("mounts_recursive", [Holds, Holds, Differs],
        "recursive options reach what is mounted below (1.1)"),
];

//! The configuration a builder starts from: everything isolated, nothing granted.
//!
//! New user, mount, pid, network, ipc, uts and cgroup namespaces; no capability; no_new_privs; the seccomp allow-list;
//! a read-only root with `/tmp` in memory; 1024 processes at most. A container with limits also sees its own cgroups,
//! read-only, at `/sys/fs/cgroup`: the plan adds that, because it depends on the host. Each relaxation is a method of the
//! builder, named after what it gives away.

use crate::seccomp;
use crate::spec::CapSet;
use oci_spec::runtime::{
    LinuxBuilder, LinuxCapabilitiesBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Mount,
    MountBuilder, PosixRlimitBuilder, PosixRlimitType, ProcessBuilder, RootBuilder, Spec, SpecBuilder,
    UserBuilder,
};
use std::path::Path;

/// The version of the OCI runtime specification that the builder's configurations follow.
const OCI_VERSION: &str = "1.2.0";

/// The most processes. `RLIMIT_NPROC` is counted per user *and* user namespace (Linux 5.14), so it holds a fork bomb in
/// its own container without needing a cgroup.
const DEFAULT_NPROC: u64 = 1024;

/// The files of `/proc` and `/sys` that every container sees masked, or read-only: the lists of runc and docker, and
/// what else tells of the whole machine: its kernel's configuration and every user's keys. Not docker's thermal state of
/// each processor: that is a mount for each.
const MASKED: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/config.gz",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The configuration of a new builder.
pub(in crate::container) fn default_spec() -> Spec {
    build(|| {
        let nothing = LinuxCapabilitiesBuilder::default()
            .bounding([])
            .effective([])
            .inheritable([])
            .permitted([])
            .ambient([])
            .build()?;
        let processes = PosixRlimitBuilder::default()
            .typ(PosixRlimitType::RlimitNproc)
            .soft(DEFAULT_NPROC)
            .hard(DEFAULT_NPROC)
            .build()?;
        let process = ProcessBuilder::default()
            .terminal(false)
            .user(UserBuilder::default().uid(0_u32).gid(0_u32).build()?)
            .args(Vec::<String>::new())
            .env(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()])
            .cwd("/")
            .capabilities(nothing)
            .rlimits([processes])
            .no_new_privileges(true)
            .build()?;
        let linux = LinuxBuilder::default()
            .namespaces(namespaces()?)
            .seccomp(seccomp::default_profile(CapSet::empty()))
            .masked_paths(MASKED.map(str::to_owned))
            .readonly_paths(READ_ONLY.map(str::to_owned))
            .build()?;
        SpecBuilder::default()
            .version(OCI_VERSION)
            .root(RootBuilder::default().path("/").readonly(true).build()?)
            .hostname("cofferdam")
            .process(process)
            .mounts(mounts()?)
            .linux(linux)
            .build()
    })
}

fn namespaces() -> Result<Vec<LinuxNamespace>, oci_spec::OciSpecError> {
    [
        LinuxNamespaceType::User,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Network,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Cgroup,
    ]
    .into_iter()
    .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build())
    .collect()
}

fn mounts() -> Result<Vec<Mount>, oci_spec::OciSpecError> {
    [
        ("/proc", "proc", "proc", "nosuid,noexec,nodev"),
        ("/dev", "tmpfs", "tmpfs", "nosuid,mode=755,size=65536k"),
        // The machine has 3072 terminals for all containers (kernel.pty.max less kernel.pty.reserve): one may not use up all.
        ("/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,max=256"),
        ("/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k"),
        ("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
        ("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
        ("/tmp", "tmpfs", "tmpfs", "nosuid,nodev,mode=1777"),
    ]
    .into_iter()
    .map(|(destination, kind, source, options)| mount(destination, kind, source, options))
    .collect()
}

/// A mount with `options` separated by commas.
pub(in crate::container) fn mount(
    destination: &str,
    kind: &str,
    source: &str,
    options: &str,
) -> Result<Mount, oci_spec::OciSpecError> {
    MountBuilder::default()
        .destination(destination)
        .typ(kind)
        .source(source)
        .options(options.split(',').map(str::to_owned).collect::<Vec<_>>())
        .build()
}

/// A bind mount of the host's `source`, with all mounts below it. `ids` is the option for the ids of its files.
pub(in crate::container) fn bind_mount(
    source: &Path,
    destination: &Path,
    writable: bool,
    ids: Option<&str>,
) -> Mount {
    let options = ["rbind", "nosuid", "nodev", if writable { "rw" } else { "rro" }];
    let options: Vec<_> = options.into_iter().chain(ids).map(str::to_owned).collect();
    build(|| {
        MountBuilder::default().destination(destination).typ("bind").source(source).options(options).build()
    })
}

/// Whether `mount` is a bind: "if it has either `bind` or `rbind` in the options" (OCI config.md), or by its type.
pub(in crate::container) fn is_bind(mount: &Mount) -> bool {
    let options = mount.options().iter().flatten();
    mount.typ().as_deref() == Some("bind")
        || options.into_iter().any(|word| word == "bind" || word == "rbind")
}

/// An empty directory in memory.
pub(in crate::container) fn tmpfs_mount(destination: &Path, size: u64) -> Mount {
    let options = ["nosuid".into(), "nodev".into(), "mode=1777".into(), format!("size={size}")];
    build(|| {
        MountBuilder::default().destination(destination).typ("tmpfs").source("tmpfs").options(options).build()
    })
}

/// Runs a chain of `oci-spec` builders, each of which is given every field it requires.
pub(in crate::container) fn build<T>(make: impl FnOnce() -> Result<T, oci_spec::OciSpecError>) -> T {
    make().expect("every required field is set")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_grants_nothing() {
        let spec = default_spec();
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.no_new_privileges(), Some(true));
        let capabilities = process.capabilities().as_ref().unwrap();
        assert_eq!(capabilities.bounding().as_ref().unwrap().len(), 0);
        assert_eq!(spec.linux().as_ref().unwrap().namespaces().as_ref().unwrap().len(), 7);
    }
}
